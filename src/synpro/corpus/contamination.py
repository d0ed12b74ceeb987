"""Contamination: which benchmark items a text contains, by 13-grams and by shingles of words.

A text contains an item when it has a run of 13 of the item's words (Brown et al. 2020, arXiv 2005.14165, appendix C, with their
N = 13), or at least 80% of the item's 5-word shingles, in any order: that finds items shorter than 13 words and copies with a
word changed. Words are lower-case and without punctuation. Differences from that paper: n-grams that more than 10 items of a
task share (its prompt, its examples) are ignored, where they drop n-grams common in the training text; items under 8 words are
not searched for, and counted as such; a reading passage (BoolQ) is an item apart from its question, because it is text of the
public web and does not hold the answer.

Item texts come from `synpro.lm.tasks.benchmark_items`; this module opens no benchmark itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from synpro.language.segmentation import words

GRAM = 13
"""Words in a row that count as a match by themselves."""
SHINGLE = 5
"""Words of a shingle."""
MIN_SHARE = 0.8
"""Share of an item's shingles in one text that counts as a match."""
MIN_WORDS = 8
"""Words that an item needs to be searched for (arXiv 2005.14165 uses no N below 8)."""
MAX_SHARING_ITEMS = 10
"""Items of one task that may share an n-gram before it counts as the task's own phrasing."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 24
_TABLE_SHIFT = np.uint64(64 - _TABLE_BITS)


@dataclass(frozen=True)
class BenchmarkItem:
    """A question with its right answer, or the passage it asks about."""

    task: str
    id: str
    text: str
    passage: bool = False
    """A reading passage: reported, but no reason to drop a text."""

    @property
    def group(self) -> str:
        """The name it is counted under: the task, or the passages of the task."""
        return f"{self.task} (passages)" if self.passage else self.task


@dataclass(frozen=True)
class Match:
    """A benchmark item that a text contains."""

    item: BenchmarkItem
    share: float
    """Share of the item's shingles that the text has."""
    words: str
    """The words found: the first 13-gram, or the first shingle."""

    @property
    def detail(self) -> str:
        """The match as a sentence, for the reject log."""
        return f"it contains {self.share:.0%} of {self.item.group} item {self.item.id}, as in {self.words!r}"


@dataclass(frozen=True)
class TaskContamination:
    """One line of the table: how many items of a task each kind of text contains."""

    group: str
    items: int
    tested: int
    """Items long enough to be searched for."""
    hit: dict[str, int]
    """Kind of text -> items found in it."""

    @property
    def is_contaminated(self) -> bool:
        """Whether any item was found."""
        return any(self.hit.values())


def normalized_words(text: str) -> list[str]:
    """Lower-case words without punctuation, compatibility forms unified."""
    return words(unicodedata.normalize("NFKC", text))


class BenchmarkIndex:
    """Benchmark items, indexed by their 13-grams and shingles."""

    def __init__(self, items: Sequence[BenchmarkItem]) -> None:
        self.items = tuple(items)
        self._ids: dict[str, int] = {}
        words = [normalized_words(item.text) for item in self.items]
        self._words = [np.array([self._ids.setdefault(w, len(self._ids) + 1) for w in ws], np.uint64) for ws in words]
        self.tested = tuple(len(w) >= MIN_WORDS for w in self._words)
        groups = {g: n for n, g in enumerate(dict.fromkeys(i.group for i in self.items))}
        self._group = np.array([groups[i.group] for i in self.items], np.int64)
        self._grams = self._index(GRAM)
        self._shingles = self._index(SHINGLE)
        self._total = np.bincount(self._shingles.item_of, minlength=len(self.items))

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, str, bool]]) -> BenchmarkIndex:
        """An index of rows of (task, number, text, whether it is a passage)."""
        return cls([BenchmarkItem(*row) for row in rows])

    def _index(self, n: int) -> _NgramIndex:
        """Every distinct n-gram of every tested item, without those that many items of a task share."""
        parts = [
            (np.unique(hashes), number)
            for number, ids in enumerate(self._words)
            if self.tested[number] and len(hashes := _hashes(ids, n))
        ]
        if not parts:
            return _NgramIndex(n, np.empty(0, np.uint64), np.empty(0, np.int64))
        hashes = np.concatenate([h for h, _ in parts])
        item_of = np.repeat([number for _, number in parts], [len(h) for h, _ in parts])
        order = np.lexsort((item_of, self._group[item_of], hashes))
        hashes, item_of = hashes[order], item_of[order]
        key = np.stack([hashes, self._group[item_of].astype(np.uint64)], axis=1)
        starts = np.flatnonzero(np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)]))
        sizes = np.diff(np.concatenate([starts, [len(hashes)]]))
        rare = np.repeat(sizes <= MAX_SHARING_ITEMS, sizes)
        return _NgramIndex(n, hashes[rare], item_of[rare])

    def find(self, text: str) -> list[Match]:
        """Every item that a text contains, in the order of the items."""
        words = normalized_words(text)
        ids = np.array([self._ids.get(w, 0) for w in words], np.uint64)  # 0: in no item
        long, short = self._grams.matches(ids), self._shingles.matches(ids)
        found: list[Match] = []
        for number in sorted({*long, *short}):
            whole = self._verify(ids, long[number], number, GRAM) if number in long else None
            share = short[number][1] / self._total[number] if number in short else 0.0
            if whole is None and (share < MIN_SHARE or self._verify(ids, short[number], number, SHINGLE) is None):
                continue
            at, n = (whole, GRAM) if whole is not None else (short[number][0], SHINGLE)
            found.append(Match(self.items[number], float(share), " ".join(words[at : at + n])))
        return found

    def _verify(self, ids: np.ndarray, match: tuple[int, int], number: int, n: int) -> int | None:
        """The place of the match if its words really are the item's, else None: hashes can collide."""
        gram = ids[match[0] : match[0] + n]
        item = self._words[number]
        windows = np.lib.stride_tricks.sliding_window_view(item, n)
        return match[0] if (windows == gram).all(axis=1).any() else None

    def contaminated(self, text: str | None) -> tuple[str, str] | None:
        """Why a text may not be trained on, (`contamination`, detail), or None. Passages alone are no reason."""
        return next((("contamination", match.detail) for match in self.find(text or "") if not match.item.passage), None)


def contamination_table(
    index: BenchmarkIndex, texts: Iterable[tuple[str, str, str]]
) -> tuple[list[TaskContamination], list[dict[str, object]]]:
    """Search texts of (kind, document id, text): the table, and a row for each item and document found.

    Rows have `task`, `item`, `kind`, `document`, `share`, `words`. Every kind of text gets a column, also one without a match.
    """
    kinds: list[str] = []
    found: list[dict[str, object]] = []
    items: dict[tuple[str, str], set[str]] = {}
    for kind, document, text in texts:
        if kind not in kinds:
            kinds.append(kind)
        for match in index.find(text):
            items.setdefault((match.item.group, kind), set()).add(match.item.id)
            row = {"task": match.item.group, "item": match.item.id, "kind": kind, "document": document}
            found.append({**row, "share": match.share, "words": match.words})
    table = []
    for group in dict.fromkeys(i.group for i in index.items):
        mine = [tested for i, tested in zip(index.items, index.tested, strict=True) if i.group == group]
        table.append(TaskContamination(group, len(mine), sum(mine), {k: len(items.get((group, k), ())) for k in kinds}))
    return table, found


def _hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """A hash of each run of n ids, `(T - n + 1,)`."""
    if len(ids) < n:
        return np.empty(0, np.uint64)
    with np.errstate(over="ignore"):
        total = np.zeros(len(ids) - n + 1, np.uint64)
        for k in range(n):
            total = (total ^ ids[k : len(ids) - n + 1 + k]) * _BASE
            total ^= total >> np.uint64(29)
    return total


class _NgramIndex:
    """Which items contain an n-gram.

    Sorted hashes, behind a table of their upper bits that rules out nearly all other hashes at once.
    """

    def __init__(self, n: int, hashes: np.ndarray, item_of: np.ndarray) -> None:
        self._n, self._known, self.item_of = n, hashes, item_of
        self._maybe = np.zeros(1 << _TABLE_BITS, bool)
        self._maybe[hashes >> _TABLE_SHIFT] = True

    def matches(self, ids: np.ndarray) -> dict[int, tuple[int, int]]:
        """Item -> (place of its first n-gram in the text, number of its distinct n-grams there)."""
        every = _hashes(ids, self._n)
        place = np.flatnonzero(self._maybe[every >> _TABLE_SHIFT])
        hashes, first = np.unique(every[place], return_index=True)
        left, right = np.searchsorted(self._known, hashes, "left"), np.searchsorted(self._known, hashes, "right")
        found: dict[int, tuple[int, int]] = {}
        for i in np.flatnonzero(right > left):
            at = int(place[first[i]])
            for number in self.item_of[left[i] : right[i]].tolist():
                before, count = found.get(number, (at, 0))
                found[number] = (min(before, at), count + 1)
        return found
