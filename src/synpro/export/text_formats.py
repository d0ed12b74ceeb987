"""Exports as text: a Hugging Face dataset folder (Parquet shards and a card), and dolma-style JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from synpro.export.selection import ExportRow

SHARD_BYTES = 256 << 20
"""Characters of text in a file, about; a file is never split inside a document."""


def shards(rows: Iterable[ExportRow], size: int) -> Iterator[Iterator[ExportRow]]:
    """Cut rows into runs of about `size` characters. Each must be read to its end before the next one."""
    pending = iter(rows)
    ahead = next(pending, None)

    def one() -> Iterator[ExportRow]:
        nonlocal ahead
        used = 0
        while ahead is not None and used < size:
            used += len(ahead.text)
            row, ahead = ahead, next(pending, None)
            yield row

    while ahead is not None:
        yield one()


def write_parquet(rows: Iterable[ExportRow], out: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """`data/train-NNNNN.parquet`, which `datasets.load_dataset(FOLDER)` reads offline. The files' paths."""
    import pyarrow as pa

    from synpro.corpus.store import write_rows

    text, number = pa.string(), pa.int64()
    schema = pa.schema(
        [
            *(("id", text), ("text", pa.large_string()), ("origin", text), ("source", text), ("document", text)),
            *(("operation", text), ("round", number), ("version", number), ("generator", text)),
            *(("rewrites", pa.list_(text)), ("scores", text)),
        ]
    )
    files = []
    for index, shard in enumerate(shards(rows, shard_bytes)):
        file = out / "data" / f"train-{index:05d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_rows(file, schema, ({**vars(row), "scores": json.dumps(row.scores, sort_keys=True)} for row in shard))
        files.append(file)
    return files


def write_dolma(rows: Iterable[ExportRow], out: Path, shard_bytes: int = SHARD_BYTES, *, added: str = "") -> list[Path]:
    """`documents/NNNNN.jsonl.zst` in dolma's layout: id, text, source, added (a date), metadata. The files' paths."""
    import zstandard

    files = []
    for index, shard in enumerate(shards(rows, shard_bytes)):
        file = out / "documents" / f"{index:05d}.jsonl.zst"
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        with partial.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as packed:
            for row in shard:
                body = {"id": row.id, "text": row.text, "source": f"synpro/{row.operation or row.origin}", "added": added}
                packed.write(json.dumps({**body, "metadata": row.metadata}, ensure_ascii=False).encode() + b"\n")
        partial.replace(file)
        files.append(file)
    return files
