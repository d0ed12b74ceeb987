"""How much of a text stands in another word for word: the rule that tells a copy from a rewrite."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return [w.lower() for w in WORD.findall(text)]


@dataclass(frozen=True)
class Overlap:
    """Word-for-word overlap of an output with its source."""

    share: float
    """Of the output's words, those in a run of at least `run` words that also stands in the source, 0 to 1."""
    longest: float
    """Words of the longest common run over the words of the source, 0 to 1."""


def overlap(output: str, source: str, run: int = 6) -> Overlap:
    """Overlap of `output` with `source`. Common runs are found in order (difflib), so a shuffled copy counts by its parts."""
    theirs, ours = words(source), words(output)
    if not theirs or not ours:
        return Overlap(0.0, 0.0)
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    longest = matcher.find_longest_match().size
    grams = {tuple(theirs[i : i + run]) for i in range(len(theirs) - run + 1)}
    covered = [False] * len(ours)
    for i in range(len(ours) - run + 1):
        if tuple(ours[i : i + run]) in grams:
            covered[i : i + run] = [True] * run
    return Overlap(sum(covered) / len(ours), longest / len(theirs))


def looped(text: str, run: int = 4) -> float:
    """Share of a text's runs of `run` words that stood in it before, 0 (no repetition) to nearly 1 (a loop)."""
    tokens = words(text)
    grams = [tuple(tokens[i : i + run]) for i in range(len(tokens) - run + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
