"""What a person is told of a disk that is full, cannot be written, or holds somebody else's files."""

from __future__ import annotations

import errno
import os
import shutil
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
        for saying, number in _SAYINGS.items():
            if saying in str(seen):
                return OSError(number, os.strerror(number))
        seen = seen.__cause__ or seen.__context__
    return None


def explain(problem: OSError, path: Path) -> str:
    """One sentence about a file that could not be read or written: which, why, and what to do."""
    place = Path(os.fsdecode(problem.filename)) if isinstance(problem.filename, (str, bytes)) else path
    explanation = _CAUSES.get(problem.errno or 0)
    return f"{place}: {explanation(place)}" if explanation else f"{place}: {problem.strerror or problem}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(p for p in (path, *path.parents) if os.path.exists(p))  # noqa: PTH110 (False where looking is denied)


def _full(path: Path) -> str:
    free = free_bytes(path) / 2**20
    return f"the disk is full ({free:,.1f} MiB free); make room, then run the same command again"


def _quota(path: Path) -> str:
    return "your quota on this disk is used up; make room, then run the same command again"


def _read_only(path: Path) -> str:
    return "the file system is read-only; make it writable, or name another folder (--runs, or --to of an export)"


def _denied(path: Path) -> str:
    here = _existing(path)
    return (
        f"permission denied: {here} belongs to {_user_of(here)} and this is {_name(os.geteuid())}; ask for the right to write "
        "there, or name another folder (--runs, or --to of an export)"
    )


def _not_a_folder(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "the link leads nowhere; correct it, or name another folder (--runs, or --to of an export)"
    file = next((p for p in (path, *path.parents) if p.is_file()), path)
    return (
        f"{file} is a file where a folder is needed; name another folder (--runs, or --to of an export), or move the file away"
    )


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
