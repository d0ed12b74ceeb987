"""What a person is told of a disk that is full, cannot be written, or holds somebody else's files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL_BYTES = 64 * 2**10
"""Free space below which a disk counts as full."""
_SAYINGS = {
    "No space left on device": errno.ENOSPC,
    "os error 28": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
}
"""What libraries say that hide the number of an error."""
_ELSEWHERE = "name another folder (--runs, or --to of an export, or --out)"


def free_bytes(path: Path) -> int:
    """Free bytes for this user on the disk of a path, which need not exist yet."""
    return shutil.disk_usage(_existing(path)).free


def disk_error(problem: BaseException) -> OSError | None:
    """The failure of the disk behind an exception, however a library has wrapped it; None for any other, and for errors of
    SynPro's own, which say what they are."""
    if type(problem).__module__.startswith("synpro."):
        return None
    if isinstance(problem, OSError) and problem.errno in _CAUSES:
        return problem
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _SAYINGS.values():
            return seen
        if (said := said_error(str(seen))) is not None:
            return said
        seen = seen.__cause__ or seen.__context__
    return None


def said_error(text: str) -> OSError | None:
    """The failure of the disk that a library or another program tells of in words."""
    number = next((number for saying, number in _SAYINGS.items() if saying in text), None)
    return None if number is None else OSError(number, os.strerror(number))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file, or the folder, in failures of the disk that name none, as those of `write` do."""
    try:
        yield
    except OSError as problem:
        if problem.filename is None and problem.errno in _CAUSES:
            problem.filename = str(path)
        raise


def explain(problem: OSError, path: Path | None) -> str:
    """One sentence about a file that could not be read or written: which, why, and what to do. `path`: which one, where the
    problem does not name it."""
    place = Path(os.fsdecode(problem.filename)) if isinstance(problem.filename, (str, bytes)) else path
    explanation = _CAUSES.get(problem.errno or 0)
    if place is None:
        return f"{problem.strerror or problem}; the system does not say of which file or folder"
    return f"{place}: {explanation(place)}" if explanation else f"{place}: {problem.strerror or problem}"


def denied(path: Path) -> tuple[str, str]:
    """Why a path cannot be used by this user, and what to do: who can give the right."""
    here = _existing(path)
    needed = os.R_OK | (os.X_OK if here.is_dir() else 0)
    right, sign, elsewhere = (
        ("write there", "w", _ELSEWHERE) if os.access(here, needed) else ("read it", "rX", "name one that you can read")
    )
    holder, user = _user_of(here), _name(os.geteuid())
    remedy = f"give yourself the right: chmod u+{sign} {here}" if holder == user else f"ask for the right to {right}"
    return f"permission denied: {here} belongs to {holder} and this is {user}", f"{remedy}, or {elsewhere}"


def _denied(path: Path) -> str:
    return "; ".join(denied(path))


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(p for p in (path, *path.parents) if os.path.exists(p))  # noqa: PTH110 (False where looking is denied)


def _full(path: Path) -> str:
    free = free_bytes(path)
    more = "" if free < 2**20 else " now, too little for what was written; or the disk holds no more files, see df -i"
    return f"the disk is full ({free / 2**20:,.1f} MiB free{more}); make room, then run the same command again"


def _quota(path: Path) -> str:
    return "your quota on this disk is used up; make room, then run the same command again"


def _read_only(path: Path) -> str:
    return f"the file system is read-only; make it writable, or {_ELSEWHERE}"


def _not_a_folder(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"the link leads nowhere; correct it, or {_ELSEWHERE}"
    file = next((p for p in (path, *path.parents) if p.is_file()), path)
    return f"{file} is a file where a folder is needed; {_ELSEWHERE}, or move the file away"


def _not_a_file(path: Path) -> str:
    return f"is a folder where a file is needed; {_ELSEWHERE}, or move the folder away"


def _too_long(path: Path) -> str:
    return f"the name is longer than this file system takes; {_ELSEWHERE}"


def _failed(path: Path) -> str:
    return "the disk failed (input/output error); check it, then run the same command again"


_CAUSES = {
    errno.ENOSPC: _full,
    errno.EDQUOT: _quota,
    errno.EROFS: _read_only,
    errno.EACCES: _denied,
    errno.EPERM: _denied,
    errno.ENOTDIR: _not_a_folder,
    errno.EEXIST: _not_a_folder,
    errno.EISDIR: _not_a_file,
    errno.ENAMETOOLONG: _too_long,
    errno.EIO: _failed,
}
"""What is said of an error, by its number."""


def _user_of(path: Path) -> str:
    return _name(path.stat().st_uid)


def _name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def apply_umask(folder: Path) -> None:
    """Give files and folders the rights that the umask leaves, as if `open` had made them: libraries that write by way of a
    temporary file (safetensors) leave 0600, which colleagues cannot read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            wanted = (0o777 if path.is_dir() else 0o666 | (path.stat().st_mode & 0o111)) & ~mask
            if path.stat().st_mode & 0o777 != wanted:
                path.chmod(wanted)
