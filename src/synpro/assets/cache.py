"""The cache of assets: an entry exists as a whole or not at all.

An entry is a folder that appears by rename with `done.json` inside, the sizes and sha256 of its files; an entry whose files
have other sizes is made again. A lock beside each entry keeps concurrent processes from doing the work twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Log = Callable[[str], None]
"""Takes one line for a person to read."""
Progress = Callable[[float, float, str], None]
"""Takes (done, total, label); total is 0 while it is unknown. `StepLogger.progress` fits."""


class AssetError(RuntimeError):
    """Something a run needs cannot be had; the message has the config key, the reference, what is wrong and the remedy."""

    def __init__(self, slot: str, reference: str, problem: str, remedy: str) -> None:
        super().__init__(f"{slot}: {reference}: {problem}. {remedy}")
        self.slot, self.reference, self.problem, self.remedy = slot, reference, problem, remedy


def cache_dir() -> Path:
    """`$SYNPRO_CACHE`, or `~/.cache/synpro`."""
    return Path(os.environ.get("SYNPRO_CACHE") or "~/.cache/synpro").expanduser()


@contextlib.contextmanager
def locked(entry: Path, slot: str, reference: str, log: Log | None) -> Iterator[None]:
    """Hold the lock of a cache entry; the operating system frees it when a process dies."""
    from filelock import FileLock, Timeout

    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{entry}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if log:
                log(f"{slot}: waiting for another process that is fetching {reference}")
            lock.acquire()
    except OSError as problem:
        remedy = "Set SYNPRO_CACHE to a folder you can write to"
        raise AssetError(
            slot, reference, f"the cache {cache_dir()} cannot be written ({problem.strerror})", remedy
        ) from problem
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def new_entry(entry: Path, slot: str, reference: str) -> Iterator[Path]:
    """A scratch folder that becomes the cache entry by rename, or goes away. Called under the entry's lock, so what an
    earlier process left behind belongs to nobody."""
    scratch = entry.with_name(entry.name + ".partial")
    for leftover in (scratch, entry):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        scratch.mkdir()
        yield scratch
        scratch.rename(entry)
    except OSError as problem:
        remedy = f"Free some space, or set SYNPRO_CACHE to a larger disk than {cache_dir()}"
        raise AssetError(slot, reference, f"the cache cannot be written ({first_line(problem)})", remedy) from problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_done(folder: Path, note: dict[str, Any]) -> None:
    """Write `done.json`, the last file of an entry. `note["files"]` is `hash_files(folder)`."""
    (folder / "done.json").write_text(json.dumps(note, indent=1, sort_keys=True), encoding="utf-8")


def read_entry(entry: Path) -> dict[str, Any] | None:
    """The contents of `done.json` of a cache entry; None when it is missing or its files have other sizes."""
    try:
        note: dict[str, Any] = json.loads((entry / "done.json").read_text(encoding="utf-8"))
        whole = all((entry / name).stat().st_size == size for name, (size, _) in note["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if whole and note["files"] else None


def hash_files(folder: Path) -> dict[str, list[Any]]:
    """`{path below folder: [bytes, sha256]}`."""
    found: dict[str, list[Any]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
    return found


def first_line(problem: BaseException) -> str:
    """The first line of an error's message, for a message of ours."""
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__
