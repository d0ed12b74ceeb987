"""The reject log: nothing is dropped without a row that says why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from synpro.runner.artifacts import CorruptRun, read_lines


@dataclass(frozen=True)
class Reject:
    """A text that was not used."""

    id: str
    """Id of the document or passage; its file and row where it has none."""
    reason: str
    """A short fixed name that can be counted: `duplicate`, `empty`, `unparsed`, `copy`, ..."""
    detail: str
    """The reason in words, with the numbers."""
    source: str = ""
    """File and row, or the passage it was made from."""
    text: str = ""
    """The rejected text, whole where it is text."""


class RejectLog:
    """Rejects of one step, one JSON row each; `append` writes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Empty the file: a step that starts over writes its rows again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("", encoding="utf-8")

    def append(self, reject: Reject) -> None:
        """Add a row."""
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")

    def rows(self) -> Iterator[Reject]:
        """The rows written so far, without a last line that a kill has cut short."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as handle:
            for line in handle:
                if line.endswith("\n"):
                    yield Reject(**json.loads(line))

    def reasons(self) -> dict[str, int]:
        """Number of rows by reason, most frequent first."""
        return dict(Counter(r.reason for r in self.rows()).most_common())


def read_rejects(step: Path) -> Iterator[Reject]:
    """What a finished step did not take. Raises CorruptRun."""
    for row in read_lines(step / "rejects.jsonl", whole=True):
        try:
            yield Reject(**row)
        except TypeError as problem:
            raise CorruptRun(f"{step / 'rejects.jsonl'}: a row has other fields than a reject ({problem})") from problem
