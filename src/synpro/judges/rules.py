"""What can be told of a text without a model: words, copies, loops, and whether it is written like prose.

Not a judge but what judges and rewards share. The word list is English: in another language it finds nothing, and every text
of that language loses the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

FUNCTION_WORDS = frozenset(
    {
        "a",
        "an",
        "the",
        "and",
        "or",
        "but",
        "of",
        "to",
        "in",
        "on",
        "at",
        "by",
        "for",
        "with",
        "from",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "it",
        "its",
        "he",
        "she",
        "his",
        "her",
        "they",
        "their",
        "this",
        "that",
        "these",
        "those",
        "which",
        "who",
        "not",
        "also",
        "can",
        "may",
        "would",
        "will",
        "into",
        "than",
        "then",
        "there",
        "when",
        "while",
        "after",
        "before",
    }
)

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
    in_order: float
    """Words of the longest common subsequence over the words of the shorter text, 0 to 1: near 1 for a copy with words left out
    or filler put between, where no long run is left."""


def overlap(output: str, source: str, run: int = 6) -> Overlap:
    """Overlap of `output` with `source`. A shuffled copy counts by its parts."""
    theirs, ours = words(source), words(output)
    if not theirs or not ours:
        return Overlap(0.0, 0.0, 0.0)
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    longest = matcher.find_longest_match().size
    grams = {tuple(theirs[i : i + run]) for i in range(len(theirs) - run + 1)}
    covered = [False] * len(ours)
    for i in range(len(ours) - run + 1):
        if tuple(ours[i : i + run]) in grams:
            covered[i : i + run] = [True] * run
    in_order = common_in_order(ours, theirs) / min(len(ours), len(theirs))
    return Overlap(sum(covered) / len(ours), longest / len(theirs), in_order)


def held(output: str, source: str) -> float:
    """Words of the source that one block of the output (between blank lines) says in the same order, 0 to 1: the most of any
    block."""
    theirs = words(source)
    blocks = (words(block) for block in re.split(r"\n\s*\n", output))
    return max(common_in_order(block, theirs) for block in blocks) / len(theirs) if theirs else 0.0


def common_in_order(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence of two lists of words, in whole machine words of bits at a time (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(theirs):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(theirs)) - 1
    rows = full
    for word in ours:
        met = rows & places.get(word, 0)
        rows = ((rows + met) | (rows - met)) & full
    return len(theirs) - rows.bit_count()


def looped(text: str, run: int = 4) -> float:
    """Share of a text's runs of `run` words that stood in it before, 0 (no repetition) to nearly 1 (a loop)."""
    tokens = words(text)
    grams = [tuple(tokens[i : i + run]) for i in range(len(tokens) - run + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def well_formed(text: str) -> float:
    """0 to 1 by rules: repetition, symbols, capitals, word lists, an open end, too few words."""
    tokens = words(text)
    if len(tokens) < 3:
        return 0.0
    solid = [c for c in text if not c.isspace()]
    symbols = sum(not (c.isalnum() or c in ".,;:!?'\"()-–—‘’“”%$€£") for c in solid) / len(solid)
    shouted = sum(w.isupper() and len(w) > 3 for w in re.findall(r"\w+", text)) / len(tokens)
    function = sum(w in FUNCTION_WORDS for w in tokens) / len(tokens)
    parts = [
        _ramp(looped(text), good=0.08, bad=0.45),
        _ramp(symbols, good=0.05, bad=0.30),
        _ramp(shouted, good=0.20, bad=0.60),
        _ramp(function, good=0.25, bad=0.15) if len(tokens) >= 12 else 1.0,
        1.0 if text.rstrip()[-1] in ".!?:;)\"'’”…|}]`" else 0.85,
        _ramp(len(tokens), good=12, bad=2),
    ]
    return math.prod(parts)


def _ramp(value: float, *, good: float, bad: float) -> float:
    """1 at `good` and beyond, 0 at `bad` and beyond, straight between."""
    return min(1.0, max(0.0, (value - bad) / (good - bad)))
