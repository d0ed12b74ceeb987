"""A reward of your own: plain reading, by Flesch's formula. This file is all that it takes, and a config that names it:

    rubric.files = ["examples/my_reward.py"]

    [operations.rephrase.weights]
    reading_ease = 0.5

Inside the package it would be this file as `src/synpro/rewards/reading_ease.py`, without the import of the registry and the
last line, and the line `"reading_ease",` in `rewards/registry.py`. The test is `tests/rewards/test_my_reward.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synpro.language.segmentation import sentences, words
from synpro.records import Rewrite
from synpro.rewards.base import Reward
from synpro.rewards.registry import REWARDS


class ReadingEase(Reward):
    """Rewards text that is easier to read than its source, up to 20 points of Flesch's scale (Flesch 1948)."""

    name = "reading_ease"
    unit = "20 points of Flesch's scale"

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [self.worst if r.text is None else self._gain(r.text, r.passage.text) for r in rewrites]

    def _gain(self, text: str, source: str) -> float:
        """-1 to 1. A text that is easy because it is a stub fails: it is put below the worst of the others."""
        if len(words(text)) < 0.5 * len(words(source)):
            return self.worst
        return min(1.0, max(-1.0, (flesch(text) - flesch(source)) / 20))


def flesch(text: str) -> float:
    """Flesch's reading ease: about 100 for very easy English, 30 for hard; 0 for a text without words."""
    found = words(text)
    if not found:
        return 0.0
    return 206.835 - 1.015 * len(found) / len(sentences(text)) - 84.6 * sum(map(syllables, found)) / len(found)


def syllables(word: str) -> int:
    """Runs of vowels, without a silent e at the end; at least one."""
    runs = len(re.findall(r"[aeiouy]+", word))
    return max(1, runs - (word.endswith("e") and not word.endswith("le")))


REWARDS["reading_ease"] = ReadingEase
