"""Rows of files, whatever their format: the columns that are asked for, each with its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synpro.runner.rejects import Reject

MISSING = object()
"""Value of a column that a row does not have."""


@dataclass(frozen=True)
class Row:
    """One row of a file, or a file that is one text."""

    source: str
    """`FILE:ROW`."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The row's columns; of a columnar file, only those asked for."""
    columns: Sequence[str] = ()
    """Names of all columns there are, for messages."""
    text: str | None = None
    """Text of a format without columns."""
    id: str | None = None
    """Id of a text in a format without columns."""

    def get(self, path: str) -> Any:
        """The value of a column, or of a nested one by its path (`doc.text`); MISSING where there is none."""
        if path in self.values:
            return self.values[path]
        here: Any = self.values
        for part in path.split("."):
            if not isinstance(here, Mapping) or part not in here:
                return MISSING
            here = here[part]
        return here


Rows = Iterator[Row | Reject]


def identity(value: Any) -> str | None:
    """A text for an id: a text, a whole number, a float that is one (pandas writes 1.0), or bytes of fixed length (a UUID) in
    hexadecimal. None for a missing value.

    Raises ValueError for anything else.
    """
    if value is None or value is MISSING or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (bool, list, dict, tuple)):
        raise ValueError("an id is a text or a whole number")
    if not isinstance(value, (str, int)) and hasattr(value, "__float__"):  # float, Decimal
        if value != int(value):
            raise ValueError("an id is a text or a whole number")
        value = int(value)
    name = str(value)
    if not name.strip():
        raise ValueError("the id is empty")
    return name


def show(value: Any, limit: int = 80) -> str:
    """A value in a message: short, and never an error (a whole number of 5,000 digits has no `repr`)."""
    try:
        text = repr(value[: limit + 1] if isinstance(value, str) else value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= limit else text[:limit] + "..."


def decode(raw: bytes, source: str, offset: int) -> str | Reject:
    """UTF-8 bytes as text, or why not; `offset` is where they begin in their file."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        detail = f"byte {offset + problem.start} (0x{raw[problem.start]:02x}) is not UTF-8; "
        if b"\0" in raw[:4096]:
            detail += "it holds binary data, not text"
        else:
            detail += "convert it with `iconv -f ENCODING -t utf-8` (of Western texts mostly windows-1252)"
        return Reject(source, "invalid-utf8", detail, source, raw.decode("utf-8", "backslashreplace"))


def too_large(source: str, size: int, limit: int) -> Reject:
    """A row of more bytes than are allowed."""
    return Reject(source, "too-large", f"{size:,} bytes, more than max_row_bytes = {limit:,}", source)
