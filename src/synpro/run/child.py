"""The inside of a step's process: read the request, call the stage, write `result.json` last.

Run as `python -m synpro.run.child STEP_DIR RUN_DIR`, by `step.py` or by torchrun.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import sys
import typing
from pathlib import Path
from typing import Any

from synpro.records import decode, digest_of, encode
from synpro.run.journal import Journal
from synpro.run.launch import die_with_parent
from synpro.schema import build

RUNNER_FILES = ("request.json", "result.json", "timing.json", "log.txt", "metrics.jsonl", "error.json")
"""Files of the runner in a step's folder: not part of what a result covers."""


def call(request: dict[str, Any], out: Path, root: Path) -> Any:
    """Import the stage, turn the request's plain data into what its signature asks for, and call it."""
    module, _, name = request["stage"].partition(":")
    stage = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(stage)
    given: dict[str, Any] = {}
    for key, value in request["inputs"].items():
        hint = hints.get(key)
        is_config = dataclasses.is_dataclass(hint) and isinstance(value, dict) and "record" not in value
        given[key] = build(typing.cast(type, hint), value) if is_config else decode(value, root)
    cfg = build(hints["cfg"], request["config"])
    return stage(cfg, **given, out=out, journal=Journal(out, out.name), seed=request["seed"])


def covered(out: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file the step wrote, by its name relative to the step's folder."""
    files = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name not in RUNNER_FILES and not name.startswith("scratch/") and not name.endswith((".tmp", ".lock")):
            with path.open("rb") as handle:
                files[name] = {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}
    return files


def write_json(path: Path, value: Any) -> None:
    """Write by rename: the file is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=1, sort_keys=True, ensure_ascii=False)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _tell(out: Path, problem: Exception) -> None:
    """Write `error.json`, which a person reads; the traceback goes to the log. Of several processes the first to fail is heard:
    the others fail for want of it."""
    if not (out / "error.json").exists():
        mine = out / f"error-{os.environ.get('RANK', '0')}.json"  # two may come at once
        write_json(mine, {"type": type(problem).__name__, "message": str(problem)})
        mine.replace(out / "error.json")


def main() -> None:
    die_with_parent()
    do(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())


def do(out: Path, root: Path) -> None:
    """Do the step whose `request.json` stands in `out`, in this process. Raises what its stage raises."""
    request = json.loads((out / "request.json").read_text(encoding="utf-8"))
    first = int(os.environ.get("RANK", "0")) == 0
    try:
        record = call(request, out, root)
    except Exception as problem:
        _tell(out, problem)
        raise
    if first:
        result = {"request": digest_of(request), "record": encode(record, root), "files": covered(out)}
        write_json(out / "result.json", result)


if __name__ == "__main__":
    main()
