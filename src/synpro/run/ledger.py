"""The reject ledger: nothing is dropped without a row that says why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reject:
    """A text that was not used."""

    id: str
    """Of the document or passage; for a row without one, its file and row."""
    reason: str
    """A short fixed name that can be counted: `duplicate`, `empty`, `unparsed`, `copy`, ..."""
    detail: str
    """In a person's words, with the numbers."""
    source: str = ""
    """File and row, or the passage it was made from."""
    text: str = ""
    """What was rejected, whole where it is text."""


class Ledger:
    """Rows of rejects, in `rejects.jsonl`. A new ledger starts empty; `append` writes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self) -> None:
        """Empty the ledger: a step that starts over writes its rows again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("", encoding="utf-8")

    def append(self, reject: Reject) -> None:
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")

    def rows(self) -> Iterator[Reject]:
        """The rows written so far; a last line cut short by a kill is left out."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as handle:
            for line in handle:
                if line.endswith("\n"):
                    yield Reject(**json.loads(line))

    def reasons(self) -> dict[str, int]:
        """How many rows have each reason, most frequent first."""
        return dict(Counter(r.reason for r in self.rows()).most_common())
