"""Format: 1 when the answer parses (its heading stands exactly once), else 0."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.records import Passage, Rewrite


class Format:
    """Pays for the form the operation asked for."""

    name = "format"
    worst = 0.0

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Nothing to score ahead."""

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [float(r.text is not None) for r in rewrites]
