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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.disk import explain

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
    return expand_user(os.environ.get("SYNPRO_CACHE") or "~/.cache/synpro")


def expand_user(path: str) -> Path:
    """A path with the home folder in the place of `~`; as it is where there is no such user, for `Path.expanduser` raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


@dataclass(frozen=True)
class AssetRequest:
    """A reference that is looked for, and who is told how it goes."""

    reference: str
    slot: str
    """The config key that names it, for messages."""
    log: Log | None = None
    progress: Progress | None = None

    def error(self, problem: str, remedy: str) -> AssetError:
        """The error that says what is wrong with it, and what to do."""
        return AssetError(self.slot, self.reference, problem, remedy)

    def log_line(self, line: str) -> None:
        """Log a line, with the config key in front."""
        if self.log:
            self.log(f"{self.slot}: {line}")

    def stored(self, entry: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """The contents of `done.json` of a cache entry. Where the entry is not there or not whole, `make` fills a folder for it
        and returns what `done.json` says beside the files. Raises AssetError."""
        with self._locked(entry):
            if (note := _read_entry(entry)) is None:
                with self._new_entry(entry) as scratch:
                    note = make(scratch)
                    note = {"files": hash_files(scratch), **note}
                    (scratch / "done.json").write_text(json.dumps(note, indent=1, sort_keys=True), encoding="utf-8")
        return note

    @contextlib.contextmanager
    def _locked(self, entry: Path) -> Iterator[None]:
        """Hold the lock of a cache entry; the operating system frees it when a process dies."""
        from filelock import FileLock, Timeout

        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{entry}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.log_line(f"waiting for another process that is fetching {self.reference}")
                lock.acquire()
        except OSError as problem:
            why = f"the cache cannot be written ({explain(problem, cache_dir())})"
            raise self.error(why, "Set SYNPRO_CACHE to a folder you can write to") from problem
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _new_entry(self, entry: Path) -> Iterator[Path]:
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
            raise self.error(f"the cache cannot be written ({explain(problem, entry.parent)})", remedy) from problem
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _read_entry(entry: Path) -> dict[str, Any] | None:
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


def readable_by_all(folder: Path) -> None:
    """Let others read its files: safetensors writes for the owner alone, and a cache may be shared."""
    for written in folder.iterdir():
        written.chmod(0o644)


def first_line(problem: BaseException) -> str:
    """The first line of an error's message, for a message of ours; also the next where it ends at a colon."""
    first, *rest = [line for line in map(str.strip, str(problem).splitlines()) if line] or [type(problem).__name__]
    return f"{first} {rest[0]}" if first.endswith(":") and rest else first
