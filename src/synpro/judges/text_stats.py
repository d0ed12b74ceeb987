"""What can be said of a text without a model: words, copies, repetition, and whether it reads like prose.

Judges, rewards and filters share these. The list of function words is English: a text in another language has none of them, and
every text of that language loses the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"\w+(?:['’]\w+)*")
FUNCTION_WORDS = frozenset(
    WORD.findall(
        "a an the and or but of to in on at by for with from as is are was were be been has have had it its he she his her "
        "they their this that these those which who not also can may would will into than then there when while after before"
    )
)


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return [w.lower() for w in WORD.findall(text)]


@dataclass(frozen=True)
class Overlap:
    """Word-for-word overlap of an output with its source."""

    share: float
    """Fraction of the output's words that lie in a run of at least `run` words which the source has too, 0 to 1."""
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
    longest = SequenceMatcher(None, theirs, ours, autojunk=False).find_longest_match().size
    ngrams = {tuple(theirs[i : i + run]) for i in range(len(theirs) - run + 1)}
    copied = [False] * len(ours)
    for i in range(len(ours) - run + 1):
        if tuple(ours[i : i + run]) in ngrams:
            copied[i : i + run] = [True] * run
    in_order = lcs_length(ours, theirs) / min(len(ours), len(theirs))
    return Overlap(sum(copied) / len(ours), longest / len(theirs), in_order)


def max_block_lcs(output: str, source: str) -> float:
    """The longest common subsequence of the source with one block of the output (blocks lie between blank lines), over the
    words of the source, 0 to 1: the largest of any block."""
    theirs = words(source)
    blocks = (words(block) for block in re.split(r"\n\s*\n", output))
    return max(lcs_length(block, theirs) for block in blocks) / len(theirs) if theirs else 0.0


def lcs_length(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence of two lists of words.

    Bit-parallel (Hyyrö 2004): one Python integer holds a row of the dynamic programme, a bit per word of `theirs`, so that a
    row costs a few additions instead of a loop.
    """
    positions: dict[str, int] = {}
    for i, word in enumerate(theirs):
        positions[word] = positions.get(word, 0) | 1 << i
    mask = (1 << len(theirs)) - 1
    row = mask
    for word in ours:
        match = row & positions.get(word, 0)
        row = ((row + match) | (row - match)) & mask
    return len(theirs) - row.bit_count()


def repetition_ratio(text: str, run: int = 4) -> float:
    """Fraction of a text's runs of `run` words that occurred in it before, 0 (no repetition) to nearly 1 (a loop)."""
    tokens = words(text)
    ngrams = [tuple(tokens[i : i + run]) for i in range(len(tokens) - run + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def well_formed(text: str) -> float:
    """How much a text looks like prose, 0 to 1: repetition, symbols, capitals, word lists, an open end and too few words each
    multiply it by a factor."""
    tokens = words(text)
    if len(tokens) < 3:
        return 0.0
    characters = [c for c in text if not c.isspace()]
    symbols = sum(not (c.isalnum() or c in ".,;:!?'\"()-–—‘’“”%$€£") for c in characters) / len(characters)
    shouted = sum(w.isupper() and len(w) > 3 for w in re.findall(r"\w+", text)) / len(tokens)
    function = sum(w in FUNCTION_WORDS for w in tokens) / len(tokens)
    factors = [
        _ramp(repetition_ratio(text), good=0.08, bad=0.45),
        _ramp(symbols, good=0.05, bad=0.30),
        _ramp(shouted, good=0.20, bad=0.60),
        _ramp(function, good=0.25, bad=0.15) if len(tokens) >= 12 else 1.0,
        1.0 if text.rstrip()[-1] in ".!?:;)\"'’”…|}]`" else 0.85,
        _ramp(len(tokens), good=12, bad=2),
    ]
    return math.prod(factors)


def _ramp(value: float, *, good: float, bad: float) -> float:
    """1 at `good` and beyond, 0 at `bad` and beyond, linear between."""
    return min(1.0, max(0.0, (value - bad) / (good - bad)))
