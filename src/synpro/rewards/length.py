"""Length: 1 when the output is at most 1.25 times its source (paper), and not a stub; else 0.

The lower bound is ours: the paper's rule alone pays the empty answer and the truncated copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synpro.records import Passage, Rewrite


@dataclass(frozen=True)
class LengthConfig:
    """How long an output may be, in characters over the characters of its source."""

    at_most: float = 1.25
    """Paper value."""
    at_least: float = 0.5
    """Below this an output is a stub."""

    def __post_init__(self) -> None:
        if not 0 <= self.at_least < self.at_most:
            raise ValueError(f"at_least: {self.at_least} is not below at_most ({self.at_most}); use 0.5 and 1.25")


class Length:
    """Pays for staying near the length of the source."""

    name = "length"
    worst = 0.0

    def __init__(self, cfg: LengthConfig | None = None) -> None:
        self.cfg = cfg or LengthConfig()

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Nothing to score ahead."""

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [float(r.text is not None and self._fits(r.text, r.passage.text)) for r in rewrites]

    def _fits(self, text: str, source: str) -> bool:
        ratio = len(text.strip()) / max(1, len(source.strip()))
        return self.cfg.at_least <= ratio <= self.cfg.at_most
