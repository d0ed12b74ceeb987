"""What a person names to be written, and empty arguments: refused before there is any work to lose."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpro.assets.file_tree import each_match, file_system, walk
from synpro.disk import explain
from synpro.runner.artifacts import write_text

PAGES = ("report.html", "compare.html")
"""Files of a run directory that `synpro report` makes anew."""


class ArgumentError(ValueError):
    """An argument that cannot be used; the message names it and says what to do."""


def check_filled(arguments: Sequence[str]) -> None:
    """Raise ArgumentError for an empty argument: an empty path would be the folder the command is given in."""
    for number, argument in enumerate(arguments, start=1):
        if not argument.strip() or re.fullmatch(r"--[a-z-]+=", argument):
            where = f"{argument!r}, argument {number}" + (f" (after {arguments[number - 2]})" if number > 1 else "")
            raise ArgumentError(f"{where}: is empty, as an unset variable of a shell is; name what is meant, or leave it out")


def check_file(option: str, out: Path | None, reads: Path | None = None) -> None:
    """Make sure that a file can be written, and make the folder above it. `reads`: what the command reads, a file, folder or
    glob, whose files must stay as they are, as must those of a run directory.

    Raises ArgumentError.
    """
    if out is None:
        return
    try:
        if out.is_dir():
            raise ArgumentError(f"{option} {out}: is a folder; give the path of a file")
        target = out.resolve()
        if target.is_file():
            if (run := _run_of(target)) is not None:
                raise ArgumentError(f"{option} {out}: is a file of the run {run}, and may cost it; give another file")
            about = target.stat()
            read = () if reads is None else walk(each_match(*file_system(str(reads))))
            if any(file.about is not None and os.path.samestat(file.about, about) for file in read):
                raise ArgumentError(f"{option} {out}: is among what is read ({reads}), and may cost it; give another file")
        if out.exists() and not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if _in_place(out):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent) as trial:
            trial.write(b" ")
    except (OSError, RuntimeError) as problem:  # RuntimeError: a loop of links
        raise ArgumentError(f"{option} {_explained(problem, out)}") from problem


def check_folder(option: str, out: Path | None) -> None:
    """Make a folder, and make sure that it can be written. Raises ArgumentError."""
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=out) as trial:
                trial.write(b" ")
        except OSError as problem:
            raise ArgumentError(f"{option} {_explained(problem, out)}") from problem


def write_file(option: str, out: Path, text: str) -> None:
    """Write what a command has made, whole or not at all. Raises ArgumentError."""
    try:
        if _in_place(out):
            out.write_text(text, encoding="utf-8")
        else:
            target = out.resolve()  # NAME.tmp could be a file of the person's own, or a name that is too long
            write_text(target, text, target.with_name(f".synpro-{secrets.token_hex(8)}.tmp"))
    except (OSError, RuntimeError) as problem:
        raise ArgumentError(f"{option} {_explained(problem, out)}") from problem


def write_rows(rows: Sequence[dict[str, Any]], out: Path | None, summary: str) -> None:
    """Write rows to `--out` as JSONL and print the summary, or write rows to the terminal alone. Raises ArgumentError."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = lines.encode("utf-8", "backslashreplace").decode("utf-8")  # half of a surrogate pair: as its escape
    if out is None:
        sys.stdout.write(text)
        return
    try:
        write_file("--out", out, text)
    except ArgumentError as problem:
        sys.stdout.write(text)  # hours of work are not lost with the disk
        raise ArgumentError(f"{problem}\nThe rows are on the terminal instead (standard output)") from problem
    print(f"{summary}: {out}")


def _run_of(target: Path) -> Path | None:
    """The run directory of an existing file; None where it is in none, or is a page that is made of the run."""
    for folder in target.parents:
        begun = ((folder / name).exists() for name in (".lock", "environment.json", "round-00"))
        if (folder / "config.toml").is_file() and any(begun):
            return None if target.parent == folder and target.name in PAGES else folder
    return None


def _in_place(out: Path) -> bool:
    """Whether a file is written where it is, and not by rename: a device or pipe, and a file in somebody else's folder."""
    return out.exists() and (not out.is_file() or not os.access(out.resolve().parent, os.W_OK))


def _explained(problem: OSError | RuntimeError, out: Path) -> str:
    if not isinstance(problem, OSError):
        return f"{out}: {problem}"
    return explain(OSError(problem.errno, problem.strerror), out)  # of the name that the person has given
