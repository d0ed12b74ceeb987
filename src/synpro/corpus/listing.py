"""The files of a source: a local path, folder or glob, an fsspec URL, a `wheel:` reference.

Every file below a folder is listed, symbolic links are followed, and what other programs leave there is told apart.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NoReturn

from synpro import assets
from synpro.assets.file_tree import GLOB, FoundFile, file_system, is_local, matches, walk
from synpro.corpus.files import CorpusError, SourceFile
from synpro.runner.rejects import Reject

_SIDE_FILE = re.compile(r"^(state|dataset_info|dataset_dict|dataset_infos)\.json$|^cache-[^/]*\.arrow$|~$|^Thumbs\.db$")
"""What `datasets` and file managers write beside data."""
_MOST_LINES = 12
_CARD = re.compile(r"^(README|LICEN[CS]E|CITATION|CHANGELOG)(\.(md|txt|rst))?$", re.IGNORECASE)


@dataclass
class Listing:
    """Files of a source in the order of their names, and those that are left out."""

    files: list[SourceFile] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def leave_out(self, name: str, reason: str, detail: str) -> None:
        """Add a file that is not read."""
        self.rejects.append(Reject(name, reason, detail, name))

    def lines(self) -> list[str]:
        """A line per reason, for the screen; what else is left out is in the reject log."""
        by_reason: dict[tuple[str, str], list[Reject]] = {}
        for reject in self.rejects:
            by_reason.setdefault((reject.reason, reject.detail), []).append(reject)
        lines = [
            f"{len(some):,} file{'s' if len(some) > 1 else ''} not read ({reason}: {detail}): "
            + ", ".join(r.id for r in some[:5])
            + (", ..." if len(some) > 5 else "")
            for (reason, detail), some in by_reason.items()
        ]
        more = sum(map(len, [*by_reason.values()][_MOST_LINES:]))
        return lines[:_MOST_LINES] + ([f"{more:,} more files not read, for other reasons: see rejects.jsonl"] if more else [])


def list_files(
    path: str, *, slot: str, log: assets.Log | None = None, progress: assets.Progress | None = None, split: str = "train"
) -> Listing:
    """The files of a local path, glob, folder, fsspec URL or `wheel:` reference.

    `slot` is the key that errors name; `split` chooses among the folders of a `DatasetDict.save_to_disk`. Raises CorpusError
    when there is nothing, or AssetError for a reference.
    """
    if path.startswith("wheel:"):
        path = str(assets.resolve(path, slot=slot, log=log, progress=progress))
    fs, inside = _file_system(path, slot)
    found = Listing()
    try:
        paths = matches(fs, inside)
        if paths == [inside]:
            root = inside if fs.isdir(inside) else inside.rpartition("/")[0]
            _add(fs, paths, root, found, is_named=not fs.isdir(inside))
        elif GLOB.search(inside):
            root = _folder_before_glob(inside)
            _add(fs, paths, root, found)
        else:
            _raise_missing(fs, path, inside, slot)
    except CorpusError:
        raise
    except Exception as problem:  # a remote file system raises whatever its library does
        reason = str(problem) or type(problem).__name__
        raise CorpusError(
            f"{slot}: {path}: cannot be listed ({reason}); check the address, the network and your permissions"
        ) from problem
    _leave_out_side_files(found, split)
    found.files.sort(key=lambda file: file.name)
    if not found.files and not found.rejects:
        names = sorted(PurePosixPath(p).name for p in fs.find(root))[:5] if fs.exists(root) else []
        there = f"; there are {', '.join(names)}" if names else ""
        raise CorpusError(f"{slot}: {path}: no file there{there}; correct the path")
    return found


def _file_system(path: str, slot: str) -> tuple[Any, str]:
    try:
        return file_system(path)
    except Exception as problem:  # an unknown scheme, user or package, an archive that is none, ...
        raise CorpusError(
            f"{slot}: {path}: {problem or type(problem).__name__}; install what fsspec asks for, or copy the files to "
            "this machine"
        ) from problem


def _add(fs: Any, paths: Sequence[str], root: str, found: Listing, is_named: bool = False) -> None:
    """Add files, and every file below folders. `is_named`: the person has named this very file."""
    prefix = len(root.rstrip("/")) + 1
    for item, size in _local(paths) if is_local(fs) else _remote(fs, paths):
        name = os.fsencode(item.path[prefix:] or "/").decode("utf-8", "backslashreplace")  # a name on disk need not be UTF-8
        if not is_named and any(part.startswith(("_", ".")) for part in name.split("/")):
            found.leave_out(name, "leftover", "names with _ or . in front are what other programs leave")
        elif item.reason:
            found.leave_out(name, item.reason, item.detail)
        else:
            found.files.append(SourceFile(name, item.path, size, fs))


def _local(paths: Sequence[str]) -> Iterator[tuple[FoundFile, int]]:
    return ((item, item.about.st_size if item.about else 0) for item in walk(paths))


def _remote(fs: Any, paths: Sequence[str]) -> Iterator[tuple[FoundFile, int]]:
    sizes: dict[str, int] = {}
    for path in paths:
        about = {path: {"size": fs.size(path)}} if fs.isfile(path) else fs.find(path, detail=True)
        sizes |= {inside: int(each.get("size") or 0) for inside, each in about.items()}
    return ((FoundFile(inside, None), size) for inside, size in sizes.items())


def _leave_out_side_files(found: Listing, split: str) -> None:
    """Take out what describes the data, and the other splits of a saved DatasetDict."""
    dicts = {f.name.rpartition("/")[0] for f in found.files if f.name.rpartition("/")[2] == "dataset_dict.json"}
    endings = {PurePosixPath(f.name.lower()).suffix for f in found.files}
    has_rows = bool(endings & {".jsonl", ".parquet", ".arrow", ".ndjson", ".gz", ".zst", ".xz", ".bz2"})
    kept = []
    for file in found.files:
        folder, _, name = file.name.rpartition("/")
        parent, _, own_split = folder.rpartition("/")
        if len(found.files) > 1 and _SIDE_FILE.search(name):
            found.leave_out(file.name, "leftover", "not data: what a program keeps beside it")
        elif has_rows and _CARD.match(name):
            found.leave_out(file.name, "description", "describes the data beside it")
        elif parent in dicts and own_split and own_split != split:
            found.leave_out(
                file.name, "other-split", f"another split of the data set than {split!r}; set `split` of a source in [prepare]"
            )
        else:
            kept.append(file)
    found.files[:] = kept


def _folder_before_glob(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[: next(i for i, p in enumerate(parts) if GLOB.search(p))])


def _raise_missing(fs: Any, path: str, inside: str, slot: str) -> NoReturn:
    parent, _, name = inside.rpartition("/")
    names: Sequence[str] = [PurePosixPath(p).name for p in fs.ls(parent, detail=False)] if parent and fs.isdir(parent) else []
    near = difflib.get_close_matches(name, names, n=3)
    raise CorpusError(
        f"{slot}: {path}: no such file or folder; " + (f"did you mean {' or '.join(near)}?" if near else "correct the path")
    )
