"""What can be said of a text without a model: words, copies, repetition, and whether it reads like prose.

Judges, rewards and filters share these. Words are those of `language/segmentation.py`. Function words are listed for some
languages (`function_words.toml`); a text in another language is not asked for any.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unicodedata import category

from synpro.language.identification import known_language
from synpro.language.segmentation import ends_statement, words


@dataclass(frozen=True)
class FunctionWords:
    """The function words of a language: prose has many of them, and a list of content words lacks them."""

    words: frozenset[str]
    good: float
    """Share of the words of a text from which it reads like prose."""
    bad: float
    """Share at and below which it reads like a list."""


def _function_words() -> dict[str, FunctionWords]:
    listed = tomllib.loads(Path(__file__).with_name("function_words.toml").read_text(encoding="utf-8"))
    return {code: FunctionWords(frozenset(t["words"].split()), t["good"], t["bad"]) for code, t in listed.items()}


FUNCTION_WORDS_OF = _function_words()
"""By language code (ISO 639-1)."""
FUNCTION_WORDS = FUNCTION_WORDS_OF["en"].words
_MARKS = frozenset(".,;:!?'\"()-–—‘’“”„«»%$€£。，、；：！？「」『』（）《》〈〉【】·・։՝՛՞।॥،؛؟۔።၊။།")
"""Punctuation that prose has."""
_ENDS = frozenset(":;)\"'”’“»«|}]`；：」』）】")
"""Last characters of a text that is whole."""
MAX_IN_ORDER = 0.85
"""Longest common subsequence of words, over the words of the shorter text, above which the output is a copy (reference answers:
0.36 to 0.65)."""
MIN_OWN_IN_ORDER = 0.5
"""The same over the output's own words, below which it may be none: an answer of twice the words of a short passage may say all
of it in order, and more."""
MIN_IN_PHRASES = 0.25
"""Share of the output's words in runs of 3 which the source has too, below which it is one all the same: its words with filler
between any two."""
_BASE, _PRIME = 1_000_003, (1 << 61) - 1
_MAX_EXACT = 4096
"""Words of two texts up to which their longest common subsequence is exact."""


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
    in_order = lcs_length(ours, theirs) / min(len(ours), len(theirs))
    return Overlap(_copied(ours, theirs, run), longest_run(ours, theirs) / len(theirs), in_order)


def copied_share(output: str, source: str, run: int = 6) -> float:
    """`overlap(...).share`, or `in_order` where that is above MAX_IN_ORDER: filler between the words hides no copy. Of a few
    words, all may be in the source in order by chance, and an answer of twice the words may say the same phrases and more."""
    theirs, ours = words(source), words(output)
    share, shorter = _copied(ours, theirs, run), min(len(ours), len(theirs))
    common = lcs_length(ours, theirs) if shorter >= 4 * run else 0
    if common <= MAX_IN_ORDER * shorter:
        return share
    says_more = common < MIN_OWN_IN_ORDER * len(ours) and _copied(ours, theirs, 3) >= MIN_IN_PHRASES
    return share if says_more else max(share, common / shorter)


def _copied(ours: Sequence[str], theirs: Sequence[str], run: int) -> float:
    ngrams = {tuple(theirs[i : i + run]) for i in range(len(theirs) - run + 1)}
    copied = [False] * len(ours)
    for i in range(len(ours) - run + 1):
        if tuple(ours[i : i + run]) in ngrams:
            copied[i : i + run] = [True] * run
    return sum(copied) / len(ours) if ours else 0.0


def max_block_lcs(output: str, source: str) -> float:
    """The longest common subsequence of the source with one block of the output (blocks lie between blank lines), over the
    words of the source, 0 to 1: the largest of any block."""
    theirs = words(source)
    blocks = [words(block) for block in re.split(r"\n\s*\n", output)]
    total = max(1, sum(map(len, blocks)))
    longest, at, known = 0, 0, set(theirs)
    for block in blocks:
        place = round(at / total * len(theirs))  # in a long source a block is looked for near its own place
        near = theirs[max(0, place - _MAX_EXACT) : place + len(block) + _MAX_EXACT] if len(theirs) > _MAX_EXACT else theirs
        if sum(word in known for word in block) > longest:  # else it cannot have more
            longest = max(longest, lcs_length(block, near))
        at += len(block)
    return longest / len(theirs) if theirs else 0.0


def lcs_length(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence of two lists of words.

    Bit-parallel (Hyyrö 2004): one Python integer holds a row of the dynamic programme, a bit per word of `theirs`, so that a
    row costs a few additions instead of a loop. Lists of more than `_MAX_EXACT` words are compared in as many parts, one after
    the other, which finds what is in about the same place: the time is in proportion to the text, the length a lower bound.
    """
    parts = -(-max(len(ours), len(theirs)) // _MAX_EXACT)
    if parts > 1:
        a, b = len(ours) / parts, len(theirs) / parts
        cut = [(ours[int(i * a) : int((i + 1) * a)], theirs[int(i * b) : int((i + 1) * b)]) for i in range(parts)]
        return sum(lcs_length(*pair) for pair in cut)
    positions: dict[str, int] = {}
    for i, word in enumerate(theirs):
        positions[word] = positions.get(word, 0) | 1 << i
    mask = (1 << len(theirs)) - 1
    row = mask
    for word in ours:
        match = row & positions.get(word, 0)
        row = ((row + match) | (row - match)) & mask
    return len(theirs) - row.bit_count()


def longest_run(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest run of words that both lists have, in time n log n: runs of one length are compared as sets of
    hashes, and the length is found by halving."""
    ids: dict[str, int] = {}
    a, b = ([ids.setdefault(word, len(ids)) for word in some] for some in (ours, theirs))
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        shared = not _runs(a, middle).isdisjoint(_runs(b, middle))
        low, high = (middle, high) if shared else (low, middle - 1)
    return low


def _runs(ids: Sequence[int], length: int) -> set[int]:
    """Hashes of the runs of `length` ids (Rabin and Karp, modulo a prime of 61 bits)."""
    top = pow(_BASE, length, _PRIME)
    found, value = set(), 0
    for i, number in enumerate(ids):
        value = value * _BASE + number + 1
        if i >= length:
            value -= (ids[i - length] + 1) * top
        value %= _PRIME
        if i >= length - 1:
            found.add(value)
    return found


def repetition_ratio(text: str, run: int = 4) -> float:
    """Fraction of a text's runs of `run` words that occurred in it before, 0 (no repetition) to nearly 1 (a loop)."""
    tokens = words(text)
    ngrams = [tuple(tokens[i : i + run]) for i in range(len(tokens) - run + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def reads_like(text: str, source: str, least: float) -> bool:
    """Whether a text is as well formed as its source, or at least the share `least` of it, by the rules of the source's
    language."""
    language = known_language(source)
    return well_formed(text, language) >= least * well_formed(source, language)


@lru_cache(maxsize=4096)
def well_formed(text: str, language: str | None = "en") -> float:
    """How much a text looks like prose, 0 to 1: repetition, symbols, capitals, word lists, an open end and too few words each
    multiply it by a factor. `language` is the one whose function words are asked for; None asks for none."""
    tokens = words(text)
    if len(tokens) < 3:
        return 0.0
    characters = Counter(c for c in text if not c.isspace())
    odd = sum(n for c, n in characters.items() if not (c.isalnum() or c in _MARKS or category(c)[0] == "M"))
    shouted = sum(w.isupper() and len(w) > 3 for w in re.findall(r"\w+", text)) / len(tokens)
    known = FUNCTION_WORDS_OF.get(language or "")
    whole = text.rstrip()[-1] in _ENDS or ends_statement(text.rstrip())
    factors = [
        _ramp(repetition_ratio(text), good=0.08, bad=0.45),
        _ramp(odd / characters.total(), good=0.05, bad=0.30),
        _ramp(shouted, good=0.20, bad=0.60),
        _ramp(sum(w in known.words for w in tokens) / len(tokens), good=known.good, bad=known.bad)
        if known and len(tokens) >= 12
        else 1.0,
        1.0 if whole else 0.85,
        _ramp(len(tokens), good=12, bad=2),
    ]
    return math.prod(factors)


def _ramp(value: float, *, good: float, bad: float) -> float:
    """1 at `good` and beyond, 0 at `bad` and beyond, linear between."""
    return min(1.0, max(0.0, (value - bad) / (good - bad)))
