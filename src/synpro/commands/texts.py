"""Texts that a command is given: files, read as those of a corpus are, or texts in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from synpro.config import ConfigError
from synpro.records import Document
from synpro.runner.rejects import Reject

MAX_ROW_BYTES = 20_000_000
"""Most bytes of one text, as `prepare.max_row_bytes` by default."""


def documents_of(texts: Path | str | Iterable[str]) -> list[Document | Reject]:
    """The documents of texts in memory, or of a path: whatever `prepare.sources` may name (JSONL, Parquet, text, folders, ...).

    A `str` is a path. Rows have their `id` where they have one. What cannot be used is a Reject in its place. Raises
    ConfigError where there is nothing to read.
    """
    if isinstance(texts, str) and not texts.strip():
        raise ConfigError("the path of the texts: is empty; name a file, a folder or a glob")
    if isinstance(texts, (Path, str)):
        return _read(str(texts))
    return [
        Document(f"text-{number}", text, "memory")
        if isinstance(text, str)
        else Reject(f"text-{number}", "not-text", f"the text is {type(text).__name__}", "memory")
        for number, text in enumerate(texts, start=1)
    ]


def _read(path: str) -> list[Document | Reject]:
    from synpro.corpus.files import CorpusError
    from synpro.corpus.readers import SourceConfig, check_row, find_files, read_file

    found: list[Document | Reject] = []
    plain = SourceConfig(path)
    named = SourceConfig(path, id_column="id")
    try:
        listing = find_files(plain, slot="texts")
        found += listing.rejects
        for file in listing.files:
            for row in read_file(file, named.columns, MAX_ROW_BYTES):
                if isinstance(row, Reject):
                    found.append(row)
                    continue
                item = check_row(row, named if "id" in row.values else plain, MAX_ROW_BYTES)
                found.append(item if isinstance(item, Reject) else Document(item.id or item.source, item.text, item.source))
    except CorpusError as problem:
        raise ConfigError(str(problem)) from problem
    return found
