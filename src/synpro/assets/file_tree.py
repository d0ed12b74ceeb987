"""The files under a path, a folder or a glob: one walk for what a source reads and for what a step watches."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.assets.cache import expand_user

GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FoundFile:
    """A file of this machine, or what is there instead of one."""

    path: str
    """That of a folder ends with a slash."""
    about: os.stat_result | None
    """None: not a file that can be read."""
    reason: str = ""
    detail: str = ""


def file_system(path: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it. Raises whatever fsspec does."""
    import fsspec

    if "://" not in path:  # a `::` in a name of this machine is no chain of file systems
        return fsspec.filesystem("file"), str(expand_user(path).absolute())
    return fsspec.core.url_to_fs(path)  # type: ignore[no-any-return]


def matches(fs: Any, path: str) -> list[str]:
    """The path itself, or else those that it matches as a glob: files and folders, some of which may hold others."""
    if fs.exists(path):
        return [path]
    return sorted(fs.glob(path)) if GLOB.search(path) else []


def walk(paths: Iterable[str]) -> Iterator[FoundFile]:
    """Every file at or below some paths of this machine, links followed, each path and each folder once."""
    passed, folders = set[str](), set[str]()
    for path in paths:
        waiting = [path.rstrip("/") or "/"]
        while waiting:
            here = waiting.pop()
            if here in passed:  # another match of the glob
                continue
            passed.add(here)
            try:
                about = Path(here).stat()
            except OSError as problem:
                about = None
                if not isinstance(problem, FileNotFoundError):  # no right to look, a name that is too long, a link in a ring
                    yield FoundFile(here, None, "unreadable", f"cannot be looked at ({problem.strerror})")
                    continue
            if about is not None and stat.S_ISREG(about.st_mode):
                yield FoundFile(here, about)
            elif about is None or not stat.S_ISDIR(about.st_mode):
                yield FoundFile(here, None, "unreadable", "not a file: a link to nothing, a pipe or a socket")
            elif (real := os.path.realpath(here)) in folders:
                yield FoundFile(f"{here}/", None, "leftover", "a link to a folder that is read already")
            else:
                folders.add(real)
                try:
                    waiting += sorted(map(str, Path(here).iterdir()), reverse=True)
                except OSError as problem:
                    detail = f"a folder that cannot be listed ({problem.strerror})"
                    yield FoundFile(f"{here}/", None, "unreadable", detail)
