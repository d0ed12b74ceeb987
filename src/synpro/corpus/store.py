"""The corpus on disk: `documents.parquet` and `passages.parquet`, written once, whole or not at all, and read back."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synpro.corpus.files import CorpusError
from synpro.records import Corpus, Document, Passage

SPLITS = ("train", "reference", "heldout", "unused")
"""`unused` holds train documents beyond `train_words`: nothing reads it."""

DOCUMENTS = pa.schema(
    [("id", pa.string()), ("split", pa.string()), ("text", pa.large_string()), ("source", pa.string()), ("words", pa.int64())]
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
            f"no space left for {folder.name} (errno {problem.errno}); free some space, or move the run, and start it again"
        ) from problem


HELDOUT = pa.schema([("document", pa.string()), ("nll", pa.float64()), ("tokens", pa.int64()), ("bytes", pa.int64())])
"""Loss of each held-out document (stage `evaluate`): nats, summed over its tokens."""

OVERLAP = pa.schema(
    [*((n, pa.string()) for n in ("task", "item", "kind", "document", "words")), pa.field("share", pa.float64())]
)
"""Evaluation items found in texts (stage `evaluate`, `corpus/overlap.py`)."""


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


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file in order, a few at a time. Raises CorpusError when it is missing or not whole."""
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=256, columns=list(columns) if columns else None):
                yield from batch.to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid) as problem:
        raise CorpusError(f"{path}: missing or not a whole Parquet file; run `prepare` again") from problem


def documents(corpus: Corpus, split: str) -> Iterator[Document]:
    """The documents of a split in corpus order. Raises ValueError for a split there is not."""
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    for row in read_rows(corpus.dir / "documents.parquet"):
        if row["split"] == split:
            yield Document(row["id"], row["text"], row["source"])


def passages(corpus: Corpus) -> list[Passage]:
    """The passages generators may read: those of the train split, and no others."""
    return [Passage(**row) for row in read_rows(corpus.dir / "passages.parquet")]
