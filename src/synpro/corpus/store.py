"""Parquet files of a run: their schemas, written once, whole or not at all, and read back."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synpro.corpus.files import CorpusError
from synpro.records import Document, Passage

SPLITS = ("train", "reference", "heldout")

_TEXT, _LONG_TEXT, _NUMBER = pa.string(), pa.large_string(), pa.int64()
DOCUMENTS = pa.schema(
    {"id": _TEXT, "split": _TEXT, "text": _LONG_TEXT, "source": _TEXT, "words": _NUMBER, "group": _TEXT},
)
"""`documents.parquet` of a corpus. `group` is what is never split: an article, or the value of `group_column`."""
PASSAGES = pa.schema(
    {"id": _TEXT, "document": _TEXT, "index": _NUMBER, "start": _NUMBER, "end": _NUMBER, "text": _LONG_TEXT},
)

REWRITES = pa.schema(
    {
        "id": _TEXT,  # PASSAGE:OPERATION:ROUND:VERSION
        "passage": _TEXT,
        "document": _TEXT,
        "start": _NUMBER,
        "end": _NUMBER,
        "operation": _TEXT,
        "round": _NUMBER,
        "version": _NUMBER,  # the answers to a passage in a round are numbered from 0, dropped ones too
        "generator": _TEXT,  # digest of its weights
        "base": _TEXT,
        "prompt_hash": _TEXT,
        "seed": _NUMBER,
        "sampling": _TEXT,  # JSON
        "answer": _LONG_TEXT,
        "text": _LONG_TEXT,
        "kept": pa.bool_(),
        "synthetic": _TEXT,  # the synthetic document that a kept text went into
        "reason": _TEXT,
        "detail": _TEXT,
        "scores": _TEXT,  # JSON: raw rewards by name
        "claims": _LONG_TEXT,  # JSON: each claim with its verdict
        "selection": pa.float64(),  # what it was selected by, and its place among the candidates of its passage, from 1
        "rank": _NUMBER,
        "tokens": _NUMBER,
        "finish": _TEXT,
    }
)
"""`rewrites.parquet` of a shard (stage `synthesize`): every answer with its lineage, kept or dropped. What a rule drops has no
scores and no claims."""

SYNTHETIC_DOCUMENTS = pa.schema(
    {"id": _TEXT, "document": _TEXT, "operation": _TEXT, "round": _NUMBER, "version": _NUMBER, "text": _LONG_TEXT},
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
            size += sum(len(value) for value in row.values() if isinstance(value, str))
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


def group_of_each(folder: Path) -> dict[str, str]:
    """The group of each held-out document, such as the article it is a part of: what intervals are drawn over. Empty where each
    document is one of its own, as in corpora of earlier versions."""
    file = folder / "documents.parquet"
    if not file.exists() or "group" not in pq.read_schema(file).names:
        return {}
    rows = pq.read_table(file, columns=["id", "group"], filters=[("split", "=", "heldout")]).to_pylist()
    groups = {row["id"]: row["group"] or row["id"] for row in rows}
    return groups if len(set(groups.values())) < len(groups) else {}


def read_passages(folder: Path, chosen: Container[str] | None = None) -> list[Passage]:
    """The passages that generators may read, those of the train split, in corpus order; `folder` is a corpus's `dir`. With
    `chosen` only those with these ids, and no others are held."""
    return [Passage(**row) for row in read_rows(folder / "passages.parquet") if chosen is None or row["id"] in chosen]


def batched_passages(folder: Path, size: int) -> Iterator[list[Passage]]:
    """The passages of `read_passages`, `size` at a time."""
    rows = read_rows(folder / "passages.parquet")
    while batch := [Passage(**row) for row in islice(rows, size)]:
        yield batch
