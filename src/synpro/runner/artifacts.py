"""Files of a run directory: what a finished step wrote must be whole, what a running step writes may be cut short."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from synpro.disk import naming


class CorruptRun(ValueError):
    """A file of a finished step that is missing, cannot be read, or lacks something; the message says where and what to do."""


class NotARun(FileNotFoundError):
    """A folder that is not a run directory, or not one far enough along for what was asked."""


RESUME_FOLDERS = ("scratch", "chunks", "trl")
"""Folders of a step that it resumes from. No part of its result: they go when `result.json` is there, and not before."""


def delete_resume_folders(step: Path) -> None:
    """Delete what a finished step was to resume from."""
    for name in RESUME_FOLDERS:
        shutil.rmtree(step / name, ignore_errors=True)


def finished(step: Path) -> bool:
    """Whether a step is done: `result.json` is written last."""
    return (step / "result.json").exists()


def steps(run: Path) -> list[str]:
    """The names of the steps that were started (`round-01/probe`), in the order of rounds and, within one, of the loop.

    Raises NotARun.
    """
    if not run.is_dir():
        raise NotARun(f"{run}: no such run directory; `synpro run CONFIG` makes one")
    found = [p for p in run.glob("round-*/*") if p.is_dir() and ((p / "request.json").exists() or finished(p))]
    if not found:
        raise NotARun(f"{run} holds no steps (round-00/prepare, ...); give the folder of a run, such as runs/tiny")
    return sorted((f"{p.parent.name}/{p.name}" for p in found), key=_order)


def operation_of(step: str) -> tuple[str, str | None]:
    """A step's kind and operation: `round-01/train-rephrase` -> (`train`, `rephrase`), `round-01/probe` -> (`probe`, None)."""
    name = step.rsplit("/", maxsplit=1)[-1]
    for kind in ("train", "synthesize"):
        if name.startswith(f"{kind}-"):
            return kind, name[len(kind) + 1 :]
    return name, None


def round_of(step: str) -> int:
    """The round of a step: `round-02/probe` -> 2. Raises CorruptRun for a folder with another name."""
    digits = step.partition("/")[0].removeprefix("round-")
    if not digits.isdigit():
        raise CorruptRun(f"{step}: a round's folder is named round-NN; move this folder out of the run directory")
    return int(digits)


def _order(step: str) -> tuple[int, int, str, int]:
    kind, operation = operation_of(step)
    rank = {"prepare": 0, "verifier": 1, "probe": 1, "train": 2, "synthesize": 2, "pretrain": 3, "evaluate": 4}.get(kind, 5)
    # `rephrase` before `reformat`, as configs list them; any other operation after these, by name
    place = {"rephrase": " 0", "reformat": " 1"}.get(operation or "", operation or "")
    return round_of(step), rank, place, 0 if kind == "train" else 1


def read_json(path: Path) -> Any:
    """The object in a JSON file of a run. Raises CorruptRun."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorruptRun(f"{path} is missing although its step is done; {_redo(path)}") from None
    except IsADirectoryError:
        raise CorruptRun(f"{path} is a folder, and was written as a file; {_redo(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise CorruptRun(f"{path} is not valid JSON ({problem}); {_redo(path)}") from problem
    if not isinstance(value, dict):
        raise CorruptRun(f"{path} holds no JSON object; {_redo(path)}")
    return value


def read_record(step: Path) -> dict[str, Any]:
    """The record of a finished step, as plain data. Raises CorruptRun."""
    file = step / "result.json"
    record = read_json(file).get("record")
    if not isinstance(record, dict):
        raise CorruptRun(f"{file} holds no record; {_redo(file)}")
    return record


def write_json(path: Path, value: Any) -> None:
    """Write plain data as `write_text` does."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def write_text(path: Path, text: str, temporary: Path | None = None) -> None:
    """Write by rename: the file exists whole or not at all. `temporary`: what it is called before; NAME.tmp if not given."""
    temporary = temporary or path.with_name(path.name + ".tmp")
    with naming(path):
        try:
            with temporary.open("w", encoding="utf-8") as handle:
                handle.write(text)
            sync(temporary)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):  # half of it would keep a full disk full
                temporary.unlink()
            raise


def sync(path: Path) -> None:
    """Have a file, or all files of a folder, on the disk: what is then renamed is whole, or not there, after a power failure
    too."""
    for file in (p for p in (path, *path.rglob("*")) if p.is_file()):
        with file.open("r+b") as handle:
            os.fsync(handle.fileno())


def read_lines(path: Path, *, whole: bool) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file; none when it does not exist.

    A last line that is cut short is left out: its process may still be writing, or was ended while it did. With `whole`,
    nobody writes any more, and there is a warning on stderr: a row of a chart is not worth the step. Raises CorruptRun for any
    other line that is not a JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as handle:  # what is cut short may end within a character
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise ValueError("not an object")
            except ValueError as problem:
                if not line.endswith(b"\n"):
                    if whole:
                        print(f"WARNING: {path}, line {number}: is cut short, and is left out", file=sys.stderr)
                    return
                raise CorruptRun(f"{path}, line {number}: not a JSON object ({problem}); {_redo(path)}") from problem
            yield row


def one_of(column: str, values: Collection[str]) -> Any:
    """A filter for `read_table`: rows whose value in a column of text is among `values`; none where there are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.field(column).isin(pa.array(sorted(values), pa.string()))  # of an empty list, pyarrow would not know the type


def read_table(
    path: Path, columns: Sequence[str], where: Any = None, head: int | None = None, sample: int | None = None
) -> list[dict[str, Any]]:
    """Rows of a Parquet file: only `columns`, only rows that satisfy `where` (a pyarrow expression), the first `head` of them,
    or at most `sample` of them, evenly spaced.

    Columns and filter are pushed into the file, so a shard of millions of rows is never held whole. Raises CorruptRun.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    if not path.exists():
        raise CorruptRun(f"{path} is missing although its step is done; {_redo(path)}")
    try:
        table = ds.dataset(path, format="parquet")
        missing = [c for c in columns if c not in table.schema.names]
        if missing:
            raise CorruptRun(f"{path} has no column {', '.join(map(repr, missing))}; it has {', '.join(table.schema.names)}")
        scanner = table.scanner(columns=list(columns), filter=where)
        if sample is not None:
            count = scanner.count_rows()
            return list(scanner.take(pa.array(range(0, count, -(-count // sample) or 1), pa.int64())).to_pylist())
        return list((scanner.head(head) if head is not None else scanner.to_table()).to_pylist())
    except (pa.ArrowInvalid, OSError) as problem:
        raise CorruptRun(f"{path} is not a readable Parquet file ({str(problem).splitlines()[0]}); {_redo(path)}") from problem


def stream_table(path: Path, columns: Sequence[str], where: Any = None) -> Iterator[dict[str, Any]]:
    """The rows that `read_table` would give, a batch of them held at a time. Raises CorruptRun."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    read_table(path, columns, head=1)  # says what is wrong with the file, if anything is
    try:
        for batch in ds.dataset(path, format="parquet").to_batches(
            columns=list(columns), filter=where, batch_size=8192, batch_readahead=1
        ):
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as problem:
        raise CorruptRun(f"{path} is not a readable Parquet file ({str(problem).splitlines()[0]}); {_redo(path)}") from problem


def count_table(path: Path, columns: Sequence[str]) -> dict[tuple[Any, ...], int]:
    """The number of rows of a Parquet file with each combination of values, counted without making rows. Raises CorruptRun."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    read_table(path, columns, head=1)  # says what is wrong with the file, if anything is
    try:
        counted = pq.read_table(path, columns=list(columns)).group_by(list(columns)).aggregate([([], "count_all")])
    except (pa.ArrowInvalid, OSError) as problem:
        raise CorruptRun(f"{path} is not a readable Parquet file ({str(problem).splitlines()[0]}); {_redo(path)}") from problem
    return {tuple(row[c] for c in columns): row["count_all"] for row in counted.to_pylist()}


def _redo(path: Path) -> str:
    for parent in path.parents:  # the steps of a comparison are not all below a round
        if parent.parent.name.startswith("round-") or finished(parent) or (parent / "request.json").exists():
            return f"remove {parent} and give the command that began it again, which does that step again"
    return "restore it from a copy"
