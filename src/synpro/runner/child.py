"""The inside of a step's process: read the request, call the stage, write `result.json` last.

Runs as `python -m synpro.runner.child STEP_DIR RUN_DIR`, started by `step.py`, torchrun or `accelerate launch`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from synpro.disk import apply_umask, disk_error, explain
from synpro.plugins import MODULE, load_config_files
from synpro.records import digest_of, encode
from synpro.runner.artifacts import RESUME_FOLDERS, delete_resume_folders, write_json
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.runner.parent import die_with_parent
from synpro.runner.placement import workers_of
from synpro.runner.process_group import ProcessGroup, exit_process, final_barrier, init_distributed
from synpro.runner.request import call_arguments, last_execution
from synpro.runner.trackers import TRACKERS

RUNNER_FILES = frozenset(
    ("request.json", "execution.json", "inputs.json", "result.json", "timing.json", "log.txt", "metrics.jsonl", "error.json")
)
"""Files in a step's folder that belong to the runner, not to the result."""


def main() -> None:
    """Run the step that the command line names."""
    die_with_parent()
    run_child(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
    exit_process()


def run_child(out: Path, root: Path) -> None:
    """Run the step whose `request.json` is in `out`, in this process. Raises what its stage raises."""
    request = json.loads((out / "request.json").read_text(encoding="utf-8"))
    logger = StepLogger(out, out.name)
    try:
        group = init_distributed()
        record = call_stage(request, out, root, logger, group)
        final_barrier(group)
        if group.is_first:
            apply_umask(out)
            files = hash_outputs(out)
            write_json(out / "result.json", {"request": digest_of(request), "record": encode(record, root), "files": files})
            delete_resume_folders(out)
    except Exception as problem:
        broken = disk_error(problem)
        message = explain(broken, out) if broken is not None else describe(problem)
        logger.error(message or type(problem).__name__)  # a full disk has no room for error.json
        with contextlib.suppress(OSError):
            _write_error(out, type(problem).__name__, message)
        raise
    finally:
        logger.close()


def describe(problem: Exception) -> str:
    """What an exception says to a person: where in a file of their own it arose, and its type where its text is no sentence.
    The whole traceback is in the log."""
    text = str(problem)
    frames = [
        (f.f_globals.get("__name__", ""), f.f_code.co_filename, line) for f, line in traceback.walk_tb(problem.__traceback__)
    ]
    own = [f"{file}, line {line}" for module, file, line in frames if module.startswith(MODULE)]
    if own or not isinstance(problem, ValueError | RuntimeError | OSError):
        text = f"{type(problem).__name__}: {text}"
    return f"{text} ({own[-1]})" if own else text


def call_stage(request: dict[str, Any], out: Path, root: Path, logger: StepLogger, group: ProcessGroup) -> Any:
    """Call a request's stage with what its signature asks for."""
    machine, settings = last_execution(out)
    if machine.tracker != "none":
        logger.track(partial(TRACKERS[machine.tracker], root, out.relative_to(root).as_posix()))
    load_config_files(root / "config.toml")  # first: they say what engines there are
    stage, cfg, inputs = call_arguments(copy.deepcopy(request), settings, root)
    ctx = StepContext(out, logger, request["seed"], group, root, workers_of(request["stage"], machine))
    return stage(cfg, **inputs, ctx=ctx)


def hash_outputs(out: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file the stage wrote, by its name relative to the step's folder."""
    files = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name not in RUNNER_FILES and name.split("/")[0] not in RESUME_FOLDERS and not name.endswith((".tmp", ".lock")):
            with path.open("rb") as handle:
                files[name] = {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}
    return files


def _write_error(out: Path, kind: str, message: str) -> None:
    """Write `error.json`, which a person reads; the traceback is in the log. The first of several processes to fail is kept:
    the others fail because of it."""
    if not (out / "error.json").exists():
        mine = out / f"error-{os.environ.get('RANK', '0')}.json"  # two may come at once
        write_json(mine, {"type": kind, "message": message})
        mine.replace(out / "error.json")


if __name__ == "__main__":
    main()
