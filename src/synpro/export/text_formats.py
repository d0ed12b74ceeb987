"""Exports as text: a Hugging Face dataset folder (Parquet shards and a card), and dolma-style JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synpro.export.selection import ROWS

SHARD_BYTES = 256 << 20
"""Bytes of rows in a file, about: a batch is in one file."""
GROUP_BYTES = 32 << 20
"""The same of a row group of a Parquet file."""
_to_json = json.JSONEncoder(ensure_ascii=False).encode


def split(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[Iterator[pa.RecordBatch]]:
    """Cut batches into runs of about `size` bytes. Each must be read to its end before the next one."""
    pending = iter(batches)

    def one(first: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield first
        used = first.nbytes
        while used < size and (batch := next(pending, None)) is not None:
            used += batch.nbytes
            yield batch

    for first in pending:
        yield one(first)


def write_parquet(batches: Iterable[pa.RecordBatch], out: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """`data/train-NNNNN.parquet`, which `datasets.load_dataset(FOLDER)` reads offline. The files' paths."""
    files = []
    for index, shard in enumerate(split(batches, shard_bytes)):
        file = out / "data" / f"train-{index:05d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        # ids and texts are all different: a dictionary of them is made for nothing
        with pq.ParquetWriter(
            file, ROWS, compression="zstd", store_schema=False, use_dictionary=["origin", "operation", "generator"]
        ) as writer:
            for group in split(shard, GROUP_BYTES):
                writer.write_table(pa.Table.from_batches(group, schema=ROWS))
        files.append(file)
    return files


def write_dolma(
    batches: Iterable[pa.RecordBatch], out: Path, shard_bytes: int = SHARD_BYTES, *, added: str | None = None
) -> list[Path]:
    """`documents/NNNNN.jsonl.zst` in dolma's layout: id, text, source, added (a date, if known), metadata. The files' paths."""
    import zstandard

    files = []
    for index, shard in enumerate(split(batches, shard_bytes)):
        file = out / "documents" / f"{index:05d}.jsonl.zst"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as raw, zstandard.ZstdCompressor(level=1).stream_writer(raw) as packed:
            for batch in shard:
                packed.write("".join(_dolma_lines(batch, added)).encode())
        files.append(file)
    return files


def _quoted(text: str) -> str:
    """A JSON string. As a rule only three characters need to be escaped, and `replace` finds them faster than the encoder."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"' if plain.isprintable() else json.encoder.encode_basestring(text)


def _dolma_lines(batch: pa.RecordBatch, added: str | None) -> Iterator[str]:
    """A line of JSON for each row, put together here: what rows have in common is encoded once, and scores are JSON already."""
    common = {name: batch[name][0].as_py() for name in ("origin", "operation", "round", "generator")}  # as `select_rows` says
    head = {"source": f"synpro/{common['operation'] or common['origin']}", **({"added": added} if added else {})}
    middle = f'{_to_json(head)[1:-1]}, "metadata": {_to_json(common)[:-1]}'
    names = ("id", "text", "source", "document", "version", "rewrites", "scores")
    for id, text, source, document, version, rewrites, scores in zip(*(batch[n].to_pylist() for n in names), strict=True):
        row = f'"source": {_quoted(source)}, "document": {_quoted(document)}, "version": {version}'
        made = f'"rewrites": [{", ".join(map(_quoted, rewrites))}], "scores": {scores}'
        yield f'{{"id": {_quoted(id)}, "text": {_quoted(text)}, {middle}, {row}, {made}}}}}\n'
