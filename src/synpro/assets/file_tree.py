"""The files under a path, a folder or a glob: one walk for what a source reads and for what a step watches."""

from __future__ import annotations

import contextlib
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


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is that of this machine."""
    return type(fs).__name__ == "LocalFileSystem"


def matches(fs: Any, path: str) -> list[str]:
    """The path itself, or else those that it matches as a glob: files and folders, some of which may hold others."""
    return sorted(each_match(fs, path))


def each_match(fs: Any, path: str) -> Iterator[str]:
    """As `matches`, one by one as they are found on this machine, in an order that only their names decide."""
    if fs.exists(path):
        yield path
    elif GLOB.search(path):
        yield from _glob(path) if is_local(fs) else sorted(fs.glob(path))


def _glob(path: str) -> Iterator[str]:
    """What fsspec's `glob` finds on this machine, which lists and sorts everything before the first."""
    from fsspec.utils import glob_translate

    parts = path.split("/")
    first = next(i for i, part in enumerate(parts) if GLOB.search(part))
    pattern, ends_in_folders = re.compile(glob_translate(path)), path.endswith("/**")
    deepest = len(parts) if "**" not in path else None
    waiting = [("/".join(parts[:first]) or "/", True)]
    while waiting:
        here, is_folder = waiting.pop()
        if pattern.match(f"{here}/" if is_folder and ends_in_folders else here):
            yield here
        if is_folder and (deepest is None or here.rstrip("/").count("/") < deepest - 1):
            with contextlib.suppress(OSError), os.scandir(here) as entries:  # what cannot be listed matches nothing
                inside = sorted((entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries)
                waiting += reversed(inside)


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


def holds_file(path: str) -> bool:
    """Whether there is any file, or what is listed in its place, at a path of this machine; looks no further than the first."""
    try:
        return any(True for _ in walk(each_match(*file_system(path))))
    except (OSError, ValueError, RuntimeError):  # a text that is no path
        return False
