"""Files that a step reads besides its records (a corpus, a model, probe data), and whether they changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from synpro.assets.file_tree import each_match, file_system, walk
from synpro.runner.artifacts import read_json, write_json

Stats = dict[str, dict[str, list[int]]]
"""By dotted key and path of the config: [bytes, modification time in ns] of each file."""
PATH_KEYS = ("path", "source", "data", "base", "model", "reference", "start")
"""Last parts of the keys that name a file, a folder or an asset."""
MAX_FILES = 100_000
"""Files of one path that are remembered, by name; those of larger folders are not watched."""
FORMAT = 2
"""Mark of the walk that names the files in `inputs.json`. One without a mark, of an earlier version, may name others of a path
that did not change."""


def note_inputs(out: Path, request: Mapping[str, Any]) -> None:
    """Write `inputs.json`: what the files that a step is about to read are like."""
    write_json(out / "inputs.json", {"format": FORMAT, "files": stat_inputs(request)})


def stat_inputs(request: Mapping[str, Any]) -> Stats:
    """Size and time of every local file that a request names, in a file, folder or glob."""
    named = {
        f"{place} = {value}": value
        for part in ("config", "inputs")
        for place, value in _texts(request.get(part), "")
        # `path` is that of a source in a config; in a record it is a step's own folder
        if place.rpartition(".")[2] in PATH_KEYS
        and not (part == "inputs" and place.endswith(".path"))
        and not (place.endswith("tokenizer.source") and value in ("train", "model"))  # no paths there
    }
    return {key: files for key, value in named.items() if (files := _stat_path(value))}


def changed_files(out: Path) -> list[str]:
    """Lines about the files that are not what they were when a finished step read them."""
    file = out / "inputs.json"
    if not file.exists():
        return []
    lines, noted = [], read_json(file)
    is_same_walk = noted.get("format") == FORMAT
    for key, old in (noted.get("files", {}) if "format" in noted else noted).items():
        new = _stat_path(key.partition(" = ")[2])
        if new is None or len(old) >= MAX_FILES:
            continue
        changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
        parts = [f"{len(changed)} changed ({changed[0]})"] if changed else []
        for what, names in (("gone", old.keys() - new.keys()), ("new", new.keys() - old.keys())):
            parts += [f"{len(names)} {what} ({min(names)})"] if names and is_same_walk else []
        if parts:
            lines.append(
                f"{key}: of {len(old)} files {', '.join(parts)} since {out.parent.name}/{out.name} read them; the run goes on "
                "with what was read (another run name, --set name=..., reads them anew)"
            )
    return lines


def _stat_path(text: str) -> dict[str, list[int]] | None:
    """[bytes, ns] by path of the local files under a path, glob or URL, those that a source reads from it; nothing where it
    names none, None for too many to watch."""
    if not text or "\n" in text or len(text) > 1000:
        return {}
    # of a chain of file systems (an archive's file), the last is where the bytes are
    path = text.rpartition("::")[2] if "://" in text else text.partition("#sha256=")[0]
    if "://" in path and not path.startswith(("file://", "local://")):
        return {}
    try:
        found = (file for file in walk(each_match(*file_system(path))) if file.about)
        files = list(islice(found, MAX_FILES))
    except (OSError, ValueError, RuntimeError):  # a text that is no path
        return {}
    if len(files) == MAX_FILES:  # to list them all, at every start, takes minutes
        return None
    is_relative = "://" not in path and not path.startswith(("/", "~"))  # so it stays, should the folder move with its run
    names = {os.path.relpath(f.path) if is_relative else f.path: f.about for f in sorted(files, key=lambda f: f.path)}
    return {
        os.fsencode(name).decode("utf-8", "backslashreplace"): [about.st_size, about.st_mtime_ns]  # a name need not be UTF-8
        for name, about in names.items()
        if about
    }


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, f"{place}.{index}")
