"""Texts that a command is given: a file, or texts in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from synpro.config import ConfigError
from synpro.records import Document


def documents_of(texts: Path | str | Iterable[str]) -> list[Document]:
    """The documents of a .txt (one document) or JSONL file (column `text`, and `id` if there is one), or of texts in memory.

    A `str` is a path. Raises ConfigError with the line of a file that cannot be read.
    """
    if isinstance(texts, (Path, str)):
        return _read(Path(texts))
    return [Document(f"text-{number}", text, "memory") for number, text in enumerate(texts, start=1)]


def _read(file: Path) -> list[Document]:
    if not file.exists():
        raise ConfigError(f"{file}: no such file")
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".jsonl":
        return [Document(file.stem, content, str(file))]
    documents = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            documents.append(Document(str(row.get("id", f"{file.stem}-{number}")), row["text"], f"{file}:{number}"))
        except (json.JSONDecodeError, KeyError, AttributeError) as problem:
            raise ConfigError(f"{file}, line {number}: not a JSON object with a `text`: {problem}") from problem
    return documents
