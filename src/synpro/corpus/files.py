"""A file as a stream of bytes: what it is by its first bytes, decompression, lines.

The first bytes decide how a file is decompressed, not its name: gzip named `.jsonl` is read, and so is plain text named `.gz`.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

# Compressed input is read in small chunks: 4 kB of the most compressible data becomes at most about 130 MB.
_COMPRESSED_CHUNK = 4 << 10
_PLAIN_CHUNK = 1 << 20
_HEAD = 4 << 10


class CorpusError(ValueError):
    """A corpus that cannot be read or used; the message names the file or key, what is wrong and what to do."""


class CorruptFileError(Exception):
    """A file that ends too early or cannot be decompressed from some place on; what came before is good."""


class UnusableFileError(Exception):
    """A file of which nothing can be used. `reason` is the short name for the reject log."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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
        """Open it for reading. Raises UnusableFileError."""
        try:
            handle: BinaryIO = self.fs.open(self.path, "rb")
        except OSError as problem:
            raise UnusableFileError(
                "unreadable", f"cannot be opened ({problem.strerror or problem}); check that it is there and may be read"
            ) from problem
        return handle

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, decompressed if its first bytes say so. Raises CorruptFileError, or UnusableFileError."""
        with self.open() as handle:
            first = self._read(handle, _COMPRESSED_CHUNK)
            for magic, make in _DECOMPRESSORS.items():
                if re.match(magic, first, re.DOTALL):
                    yield from self._decompressed(handle, first, make())
                    return
            ending = PurePosixPath(self.name).suffix.lower()
            if ending in COMPRESSED and first and b"\0" in first:
                kind = what_is(first) or "something else"
                raise UnusableFileError(
                    "unreadable", f"is named {ending}, and its first bytes are those of {kind}; fetch it again"
                )
            while first:
                yield first
                first = self._read(handle, _PLAIN_CHUNK)

    def head(self) -> bytes:
        """Its first bytes, decompressed; fewer where it is damaged. Raises UnusableFileError."""
        found, before = b"", self.done
        try:
            for chunk in self.chunks():
                found += chunk[:_HEAD]
                if len(found) >= _HEAD:
                    break
        except CorruptFileError:
            pass
        self.done = before
        return found

    def _read(self, handle: BinaryIO, size: int) -> bytes:
        try:
            chunk = handle.read(size)
        except Exception as problem:  # a remote file system raises whatever its library does
            reason = getattr(problem, "strerror", None) or f"{type(problem).__name__}: {problem}"
            raise CorruptFileError(f"cannot be read after byte {self.done} ({reason})") from problem
        self.done += len(chunk)
        return chunk

    def _decompressed(self, handle: BinaryIO, chunk: bytes, make: Callable[[], Any]) -> Iterator[bytes]:
        """Decompress streams that may follow one another in a file (`cat a.gz b.gz`); each must reach its end."""
        stream = None
        while chunk:
            while chunk:
                if stream is None and not (chunk := chunk.lstrip(b"\0")):  # padding between streams
                    break
                stream = stream or make()
                try:
                    yield stream.decompress(chunk)
                except Exception as problem:  # zlib.error, LZMAError, OSError, ZstdError, EOFError
                    raise CorruptFileError(f"cannot be decompressed near byte {self.done} of the file ({problem})") from problem
                chunk, stream = (stream.unused_data, None) if stream.eof else (b"", stream)
            chunk = self._read(handle, _COMPRESSED_CHUNK)
        if stream is not None:
            raise CorruptFileError(f"ends in the middle of its compressed data, after byte {self.done} of the file")


def _zstd() -> Callable[[], Any]:
    import zstandard

    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


_DECOMPRESSORS: dict[bytes, Callable[[], Callable[[], Any]]] = {
    rb"\x1f\x8b": lambda: lambda: zlib.decompressobj(wbits=31),
    rb"BZh[1-9](1AY&SY|\x17rE8P)": lambda: bz2.BZ2Decompressor,
    rb"\xfd7zXZ\x00": lambda: lambda: lzma.LZMADecompressor(memlimit=1 << 30),
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": _zstd,  # the second is a frame to be skipped, as pzstd writes it
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files, as a part of the name that says nothing about the format."""

_KINDS = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"FEA1\0": "Feather V1, an old format (pyarrow.feather.read_table reads it; write it as Parquet)",
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "an empty ZIP archive",
    b"%PDF": "a PDF",
    b"%!PS": "a PostScript file",
    b"{\\rtf": "an RTF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x7fELF": "a program",
    b"Obj\x01": "an Avro file",
    b"version https://git-lfs": "a pointer of Git LFS instead of the file itself (`git lfs pull` fetches it)",
    b"\xff\xfe\0\0": "UTF-32 text (`iconv -f utf-32 -t utf-8` converts it)",
    b"\xff\xfe": "UTF-16 text (`iconv -f utf-16 -t utf-8` converts it)",
    b"\xfe\xff": "UTF-16 text (`iconv -f utf-16 -t utf-8` converts it)",
}


def what_is(head: bytes) -> str:
    """What a file is by its first (decompressed) bytes: "parquet", "arrow", a description for a person, or "" when it may be
    text."""
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return kind
    if re.match(rb"[\t-~]\0[\t-~]\0|\0[\t-~]\0[\t-~]", head):
        return f"UTF-16 text (`iconv -f utf-16{'le' if head[1] == 0 else 'be'} -t utf-8` converts it)"
    if any(re.match(magic, head, re.DOTALL) for magic in _DECOMPRESSORS):
        return "compressed twice"
    if head[257:262] == b"ustar":
        return "a tar archive"
    start = re.sub(rb"<\?xml.*?\?>\s*", b"", head.lstrip(b"\xef\xbb\xbf \t\r\n")[:4000].lower(), count=1, flags=re.DOTALL)
    # A text that opens with the word <html> and no tag after it is about HTML.
    is_page = re.match(rb"<!doctype html|<html[\s>]", start) and re.search(rb"<(?:head|body|meta|title|p|div|/html)\b", start)
    return "an HTML page" if is_page else ""


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
