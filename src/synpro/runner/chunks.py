"""Results of finished chunks, kept until the step ends, so that a killed step resumes where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


class ChunkStore:
    """A folder with one file per chunk and kind of result."""

    def __init__(self, dir: Path) -> None:
        self._dir = dir
        dir.mkdir(parents=True, exist_ok=True)

    def load(self, kind: str, number: int, key: str) -> Rows | None:
        """The rows of a chunk; None when they are not there, or were made under another key."""
        path = self._path(kind, number)
        if not path.exists():
            return None
        stored = json.loads(path.read_text(encoding="utf-8"))
        return stored["rows"] if stored["key"] == key else None

    def read(self, kind: str, number: int) -> Rows:
        """The rows of a chunk that was stored in this process, or found by `load`."""
        rows: Rows = json.loads(self._path(kind, number).read_text(encoding="utf-8"))["rows"]
        return rows

    def save(self, kind: str, number: int, key: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rows of a chunk, whole or not at all. `key` covers everything that they depend on."""
        path = self._path(kind, number)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"key": key, "rows": list(rows)}, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)

    def drop(self, kinds: str) -> None:
        """Delete the chunks of some kinds (`*` and `?` match as in a file name)."""
        for path in self._dir.glob(f"*.{kinds}.json"):
            path.unlink()

    def clear(self) -> None:
        """Delete all chunks: the step's result holds them now."""
        shutil.rmtree(self._dir)

    def _path(self, kind: str, number: int) -> Path:
        return self._dir / f"{number:06d}.{kind}.json"
