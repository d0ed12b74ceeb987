"""Rows of Parquet and Arrow files: only the columns that are asked for are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synpro.corpus.files import CorruptFileError, SourceFile, UnusableFileError
from synpro.corpus.rows import Row, Rows, decode, too_large
from synpro.runner.rejects import Reject

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 64
_UUID_BYTES = 16


def read_parquet(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
    """Read a Parquet file."""
    import pyarrow.parquet as pq

    with file.open() as handle:
        if handle.read(4) != b"PAR1":
            raise UnusableFileError(
                "unreadable", "is Parquet in a compressed file; decompress it, Parquet is compressed itself"
            )
        handle.seek(0)
        try:
            table = pq.ParquetFile(handle)
        except Exception as problem:
            raise UnusableFileError("damaged", f"not a complete Parquet file ({problem}); fetch it again") from problem
        schema, total = table.schema_arrow, table.metadata.num_rows
        columns = _existing(schema, wanted)
        if columns:
            batches = table.iter_batches(batch_size=_BATCH, columns=columns)
        else:  # rows without any of the columns: they are counted, and refused one by one
            batches = iter(())
            yield from (Row(f"{file.name}:{n + 1}", {}, schema.names) for n in range(total))
        yield from _rows(file, batches, columns, schema.names, limit, total)


def read_arrow(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
    """Read an Arrow file: Feather, or a stream as `datasets.save_to_disk` writes them."""
    import pyarrow as pa

    with file.open() as handle:
        is_file = handle.read(6) == b"ARROW1"
        handle.seek(0)
        try:
            reader: Any = pa.ipc.open_file(handle) if is_file else pa.ipc.open_stream(handle)
        except Exception as problem:
            raise UnusableFileError("damaged", f"not a complete Arrow file ({problem}); fetch it again") from problem
        columns = _existing(reader.schema, wanted)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
        yield from _rows(file, batches, columns, reader.schema.names, limit, 0)


def _existing(schema: pa.Schema, wanted: Sequence[str]) -> list[str]:
    """The wanted columns that the file has. Raises UnusableFileError when one is there twice."""
    found = []
    for path in dict.fromkeys(wanted):
        name = path if path in schema.names else path.partition(".")[0]
        if (count := schema.names.count(name)) > 1:
            raise UnusableFileError("two-columns", f"has {count} columns named {name!r}; rename one, to say which is meant")
        if count and (name == path or _has_field(schema.field(name).type, path.split(".")[1:])):
            found.append(path)
    return found


def _has_field(kind: pa.DataType, path: Sequence[str]) -> bool:
    import pyarrow.types as is_

    for part in path:
        if not is_.is_struct(kind) or kind.get_field_index(part) < 0:
            return False
        kind = kind.field(part).type
    return True


def _rows(
    file: SourceFile, batches: Iterator[pa.RecordBatch], columns: Sequence[str], names: Sequence[str], limit: int, total: int
) -> Rows:
    number = 0
    try:
        for batch in batches:
            arrays = {path: _column(batch, path) for path in columns}
            for i in range(batch.num_rows):
                number += 1
                source = f"{file.name}:{number}"
                values: dict[str, Any] = {}
                refused: Reject | None = None
                for path, array in arrays.items():
                    value = _value(array, i, limit, source)
                    if isinstance(value, Reject):
                        refused = value
                    values[path] = value
                yield refused or Row(source, values, names)
            if total:
                file.done = int(file.size * number / total)
    except Exception as problem:
        raise CorruptFileError(f"cannot be read after row {number} ({problem})") from problem


def _column(batch: pa.RecordBatch, path: str) -> pa.Array:
    """A column, or a nested one; text as binary, so that its size is known and its bytes are checked before they are used."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if path in batch.schema.names:
        array = batch.column(path)
    else:
        name, *rest = path.split(".")
        array = pc.struct_field(batch.column(name), rest)
    return array.cast(pa.large_binary()) if _is_text(array.type) else array


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        kind = kind.value_type
    tests = (is_.is_string, is_.is_large_string, is_.is_string_view, is_.is_binary, is_.is_large_binary)
    return any(test(kind) for test in tests)


def _value(array: pa.Array, index: int, limit: int, source: str) -> Any:
    """A value as Python's; a text that is too large, or not UTF-8, as a Reject."""
    import pyarrow.types as is_

    scalar = array[index]
    if not is_.is_large_binary(array.type):
        return scalar.as_py()
    if not scalar.is_valid:
        return None
    buffer = scalar.as_buffer()
    if buffer.size > limit:
        return too_large(source, buffer.size, limit)
    value = decode(buffer.to_pybytes(), source, 0)
    if isinstance(value, Reject) and buffer.size == _UUID_BYTES:
        return replace(value, detail=f"{value.detail}; of a UUID, write the text")
    return value
