"""Parquet files of a run: their schemas, written once, whole or not at all, and read back."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from synpro.corpus.files import CorpusError
from synpro.records import Document, Passage

T = TypeVar("T")
SPLITS = ("train", "reference", "heldout")

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("words", pa.int64()),
        ("group", pa.string()),  # what is never split: an article, or the value of `group_column`
    ]
)
PASSAGES = pa.schema(
    [
        ("id", pa.string()),
        ("document", pa.string()),
        ("index", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("text", pa.large_string()),
    ]
)

REWRITES = pa.schema(
    [
        ("id", pa.string()),  # PASSAGE:OPERATION:ROUND:VERSION
        ("passage", pa.string()),
        ("document", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("operation", pa.string()),
        ("round", pa.int64()),
        ("version", pa.int64()),  # the answers to a passage in a round are numbered from 0, dropped ones too
        ("generator", pa.string()),  # digest of its weights
        ("base", pa.string()),
        ("prompt_hash", pa.string()),
        ("seed", pa.int64()),
        ("sampling", pa.string()),  # JSON
        ("answer", pa.large_string()),
        ("text", pa.large_string()),
        ("kept", pa.bool_()),
        ("synthetic", pa.string()),  # the synthetic document that a kept text went into
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("scores", pa.string()),  # JSON: raw rewards by name
        ("claims", pa.large_string()),  # JSON: each claim with its verdict
        ("selection", pa.float64()),  # what it was selected by, and its place among the candidates of its passage, from 1
        ("rank", pa.int64()),
        ("tokens", pa.int64()),
        ("finish", pa.string()),
    ]
)
"""`rewrites.parquet` of a shard (stage `synthesize`): every answer with its lineage, kept or dropped. What a rule drops has no
scores and no claims."""

SYNTHETIC_DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("document", pa.string()),
        ("operation", pa.string()),
        ("round", pa.int64()),
        ("version", pa.int64()),
        ("text", pa.large_string()),
    ]
)
"""`documents.parquet` of a shard: the k-th kept rewrites of a document's passages joined, which is what is trained on. `id` is
DOCUMENT:OPERATION:ROUND:VERSION, `version` is k."""

HELDOUT = pa.schema([("document", pa.string()), ("nll", pa.float64()), ("tokens", pa.int64()), ("bytes", pa.int64())])
"""Loss of each held-out document (stage `evaluate`): nats, summed over its tokens."""

_OF_TEXT = [(n, pa.string()) for n in ("text", "document", "group")]
CLOZE = pa.schema([*_OF_TEXT, ("kind", pa.string()), ("value", pa.string()), ("rank", pa.float64()), ("options", pa.int64())])
"""Cloze items about kinds of text (stage `absorb`), and the rank that a model gives the right value, 1 the most likely."""
TEXT_LOSSES = pa.schema([*_OF_TEXT, ("nll", pa.float64()), ("tokens", pa.int64())])
"""Losses of texts by kind of text (stage `absorb`): nats, summed over tokens."""

CONTAMINATION = pa.schema(
    [*((n, pa.string()) for n in ("task", "item", "kind", "document", "words")), pa.field("share", pa.float64())]
)
"""Evaluation items found in texts (stage `evaluate`, `corpus/contamination.py`)."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GROUP_BYTES = 32 << 20


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into a CorpusError that says so. Files that were being written keep their `.partial` names."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        raise CorpusError(
            f"{folder}: no space left on the disk (errno {problem.errno}); free some space, or move the run, and start it again"
        ) from problem


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to a zstd Parquet file that appears by rename; the same rows give the same bytes. Returns their number."""
    partial = path.with_name(path.name + ".partial")
    total = 0
    with partial.open("wb") as handle, pq.ParquetWriter(handle, schema, compression="zstd", store_schema=False) as writer:
        group: list[Mapping[str, Any]] = []
        size = 0
        for row in rows:
            group.append(row)
            size += len(row.get("text") or "")
            if size >= _GROUP_BYTES or len(group) >= 8192:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                total, group, size = total + len(group), [], 0
        writer.write_table(pa.Table.from_pylist(group, schema=schema))
        total += len(group)
    partial.replace(path)
    return total


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A Parquet file in order, a few rows at a time. Raises CorpusError when it is missing or not whole."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:  # else the whole file is held
            yield from table.iter_batches(batch_size=256, columns=list(columns) if columns else None)
    except (FileNotFoundError, pa.ArrowInvalid) as problem:
        raise CorpusError(f"{path}: missing or cut short; remove {path.parent} and run the same command again") from problem


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `read_batches`, as dicts."""
    for batch in read_batches(path, columns):
        yield from batch.to_pylist()


def read_documents(folder: Path, split: str) -> Iterator[Document]:
    """The documents of a split in corpus order; `folder` is a corpus's `dir`. Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; use one of {', '.join(SPLITS)}")
    for row in read_rows(folder / "documents.parquet"):
        if row["split"] == split:
            yield Document(row["id"], row["text"], row["source"])


def read_groups(folder: Path, split: str) -> list[str]:
    """The group of each document of a split (its article, or its id where it has none), in the order of `read_documents`."""
    rows = read_rows(folder / "documents.parquet", ["id", "split", "group"])
    return [row["group"] or row["id"] for row in rows if row["split"] == split]


def group_of_each(folder: Path, split: str = "heldout") -> dict[str, str]:
    """The group of each document of a split, such as the article it is a part of: what intervals are drawn over. Empty where
    each document is one of its own, as in corpora of earlier versions."""
    file = folder / "documents.parquet"
    if not file.exists() or "group" not in pq.read_schema(file).names:
        return {}
    rows = pq.read_table(file, columns=["id", "group"], filters=[("split", "=", split)]).to_pylist()
    groups = {row["id"]: row["group"] or row["id"] for row in rows}
    return groups if len(set(groups.values())) < len(groups) else {}


def read_passages(folder: Path, ids: Iterable[str] | None = None) -> list[Passage]:
    """The passages that generators may read, those of the train split, or those of them that `ids` names, in corpus order;
    `folder` is a corpus's `dir`."""
    rows = read_rows(folder / "passages.parquet")
    if ids is None:
        return [Passage(**row) for row in rows]
    wanted = frozenset(ids)
    return [Passage(**row) for row in rows if row["id"] in wanted]


def sample_passages(folder: Path, count: int, seed: int) -> list[Passage]:
    """`count` passages drawn by the seed, in the order of their draw; all of them, shuffled, where there are no more. Only
    those drawn are in memory."""
    chosen = draw([row["id"] for row in read_rows(folder / "passages.parquet", ["id"])], count, seed)
    found = {passage.id: passage for passage in read_passages(folder, chosen)}
    return [found[id] for id in chosen]


def draw(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items drawn by the seed, in the order of their draw; all of them, shuffled, where there are no more."""
    import numpy as np

    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))[:count]]


def batched_passages(folder: Path, size: int) -> Iterator[list[Passage]]:
    """The passages of `read_passages`, `size` at a time."""
    rows = read_rows(folder / "passages.parquet")
    while batch := [Passage(**row) for row in islice(rows, size)]:
        yield batch
