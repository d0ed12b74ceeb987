"""Results of finished chunks, kept until the step ends, so that a killed step resumes where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from synpro.runner.artifacts import sync

ChunkRows = list[dict[str, Any]]


class ChunkStore:
    """A folder with one file per chunk and kind of result: the key, and a row in each line."""

    def __init__(self, dir: Path) -> None:
        self._dir = dir
        dir.mkdir(parents=True, exist_ok=True)

    def has(self, kind: str, number: int) -> bool:
        """Whether a chunk is stored, under whatever key."""
        return self._path(kind, number).exists()

    def load(self, kind: str, number: int, key: str) -> ChunkRows | None:
        """The rows of a chunk; None when they are not there, or were made under another key."""
        path = self._path(kind, number)
        if not path.exists():
            return None
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines] if next(lines, "").rstrip("\n") == key else None

    def read(self, kind: str, number: int) -> Iterator[dict[str, Any]]:
        """The rows of a chunk that was stored in this process, or found by `load`, one by one."""
        with self._path(kind, number).open(encoding="utf-8") as lines:
            next(lines)
            yield from map(json.loads, lines)

    def save(self, kind: str, number: int, key: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write the rows of a chunk, whole or not at all. `key` covers everything that they depend on."""
        path = self._path(kind, number)
        partial = path.with_suffix(f".{os.getpid()}.partial")  # another step may store the same in a folder that steps share
        with partial.open("w", encoding="utf-8") as file:
            file.write(key + "\n")
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        sync(partial)
        partial.replace(path)

    def drop(self, kinds: str) -> None:
        """Delete the chunks of some kinds (`*` and `?` match as in a file name)."""
        for path in self._dir.glob(f"*.{kinds}.json"):
            path.unlink()

    def _path(self, kind: str, number: int) -> Path:
        return self._dir / f"{number:06d}.{kind}.json"
