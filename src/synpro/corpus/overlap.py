"""Contamination: which evaluation items stand in a text, by 13-grams and by shingles of words.

An item is hit by a text when a run of 13 of its words stands there (Brown et al. 2020, arXiv 2005.14165, appendix C, with their
N = 13), or when at least 80% of its 5-word shingles do, in any order: that finds items shorter than 13 words and copies with a
word changed. Words are lower-case and without punctuation. Differences from that paper: grams that more than 10 items of a task
share (its prompt, its examples) count for nothing, where they drop grams common in the training text; items under 8 words are
not looked for, and counted as such; a reading passage (BoolQ) is looked for apart from its question, because it is text of the
public web and does not hold the answer.

Pure: item texts are handed in (`synpro.lm.tasks.items`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

GRAM = 13
"""Words in a row that make a hit by themselves."""
SHINGLE = 5
"""Words of a shingle."""
SHARE = 0.8
"""Share of an item's shingles in one text that makes a hit."""
SHORTEST = 8
"""Words an item needs to be looked for (arXiv 2005.14165 uses no N below 8)."""
COMMON = 10
"""Items of one task that may share a gram before it counts as the task's own phrasing."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 24
_TABLE_SHIFT = np.uint64(64 - _TABLE_BITS)


@dataclass(frozen=True)
class Item:
    """A question with its right answer, or the passage it asks about."""

    task: str
    id: str
    text: str
    passage: bool = False
    """A reading passage: reported, but no reason to drop a text."""

    @property
    def group(self) -> str:
        """What it is counted under: the task, or its passages."""
        return f"{self.task} (passages)" if self.passage else self.task


@dataclass(frozen=True)
class Hit:
    """An evaluation item that stands in a text."""

    item: Item
    share: float
    """Of the item's shingles, those that stand in the text."""
    words: str
    """The words found: the first 13-gram, or the first shingle."""

    @property
    def detail(self) -> str:
        """In a person's words, for the reject ledger."""
        return f"{self.share:.0%} of {self.item.group} item {self.item.id} stands in it, as in {self.words!r}"


@dataclass(frozen=True)
class Row:
    """One line of the table: how many items of a task stand in each kind of text."""

    group: str
    items: int
    tested: int
    """Items long enough to be looked for."""
    hit: dict[str, int]
    """Kind of text -> items found in it."""

    @property
    def flagged(self) -> bool:
        return any(self.hit.values())


def normalise(text: str) -> list[str]:
    """Lower-case words without punctuation, compatibility forms unified."""
    return [w.lower() for w in _WORD.findall(unicodedata.normalize("NFKC", text))]


class Items:
    """Evaluation items, indexed by their 13-grams and shingles."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = tuple(items)
        self._ids: dict[str, int] = {}
        words = [normalise(item.text) for item in self.items]
        self._words = [np.array([self._ids.setdefault(w, len(self._ids) + 1) for w in ws], np.uint64) for ws in words]
        self.tested = tuple(len(w) >= SHORTEST for w in self._words)
        groups = {g: n for n, g in enumerate(dict.fromkeys(i.group for i in self.items))}
        self._group = np.array([groups[i.group] for i in self.items], np.int64)
        self._grams = self._index(GRAM)
        self._shingles = self._index(SHINGLE)
        self._total = np.bincount(self._shingles.owner, minlength=len(self.items))

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, str, bool]]) -> Items:
        """From (task, number, text, whether it is a passage)."""
        return cls([Item(*row) for row in rows])

    def _index(self, n: int) -> _Index:
        """Every distinct gram of every tested item; those that many items of a task share are left out."""
        parts = [
            (np.unique(hashes), number)
            for number, ids in enumerate(self._words)
            if self.tested[number] and len(hashes := _hashes(ids, n))
        ]
        if not parts:
            return _Index(n, np.empty(0, np.uint64), np.empty(0, np.int64))
        hashes = np.concatenate([h for h, _ in parts])
        owner = np.repeat([number for _, number in parts], [len(h) for h, _ in parts])
        order = np.lexsort((owner, self._group[owner], hashes))
        hashes, owner = hashes[order], owner[order]
        key = np.stack([hashes, self._group[owner].astype(np.uint64)], axis=1)
        starts = np.flatnonzero(np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)]))
        sizes = np.diff(np.concatenate([starts, [len(hashes)]]))
        rare = np.repeat(sizes <= COMMON, sizes)
        return _Index(n, hashes[rare], owner[rare])

    def hits(self, text: str) -> list[Hit]:
        """Every item that stands in a text, in the order of the items."""
        words = normalise(text)
        ids = np.array([self._ids.get(w, 0) for w in words], np.uint64)  # 0 stands in no item
        long, short = self._grams.matches(ids), self._shingles.matches(ids)
        found: list[Hit] = []
        for number in sorted({*long, *short}):
            whole = self._same(ids, long[number], number, GRAM) if number in long else None
            share = short[number][1] / self._total[number] if number in short else 0.0
            if whole is None and (share < SHARE or self._same(ids, short[number], number, SHINGLE) is None):
                continue
            at, n = (whole, GRAM) if whole is not None else (short[number][0], SHINGLE)
            found.append(Hit(self.items[number], float(share), " ".join(words[at : at + n])))
        return found

    def _same(self, ids: np.ndarray, match: tuple[int, int], number: int, n: int) -> int | None:
        """The place of the match, if its words really are the item's: hashes can collide."""
        gram = ids[match[0] : match[0] + n]
        item = self._words[number]
        windows = np.lib.stride_tricks.sliding_window_view(item, n)
        return match[0] if (windows == gram).all(axis=1).any() else None

    def contaminated(self, text: str | None) -> tuple[str, str] | None:
        """Why a text may not be trained on, (`contamination`, detail), or None. Passages alone are no reason."""
        return next((("contamination", hit.detail) for hit in self.hits(text or "") if not hit.item.passage), None)


def survey(items: Items, texts: Iterable[tuple[str, str, str]]) -> tuple[list[Row], list[dict[str, object]]]:
    """The table, and a row per item and document found, from (kind, document id, text).

    Rows have `task`, `item`, `kind`, `document`, `share`, `words`. Every kind of text gets a column, also with no hit.
    """
    kinds: list[str] = []
    found: list[dict[str, object]] = []
    hit: dict[tuple[str, str], set[str]] = {}
    for kind, document, text in texts:
        if kind not in kinds:
            kinds.append(kind)
        for h in items.hits(text):
            hit.setdefault((h.item.group, kind), set()).add(h.item.id)
            row = {"task": h.item.group, "item": h.item.id, "kind": kind, "document": document}
            found.append({**row, "share": h.share, "words": h.words})
    table = []
    for group in dict.fromkeys(i.group for i in items.items):
        mine = [tested for i, tested in zip(items.items, items.tested, strict=True) if i.group == group]
        table.append(Row(group, len(mine), sum(mine), {k: len(hit.get((group, k), ())) for k in kinds}))
    return table, found


def _hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """A number for each run of n ids, equal for equal runs."""
    if len(ids) < n:
        return np.empty(0, np.uint64)
    with np.errstate(over="ignore"):
        total = np.zeros(len(ids) - n + 1, np.uint64)
        for k in range(n):
            total = (total ^ ids[k : len(ids) - n + 1 + k]) * _BASE
            total ^= total >> np.uint64(29)
    return total


class _Index:
    """Which items hold a gram: sorted hashes, behind a table of their upper bits that turns nearly all others away at once."""

    def __init__(self, n: int, hashes: np.ndarray, owner: np.ndarray) -> None:
        self._n, self._known, self.owner = n, hashes, owner
        self._maybe = np.zeros(1 << _TABLE_BITS, bool)
        self._maybe[hashes >> _TABLE_SHIFT] = True

    def matches(self, ids: np.ndarray) -> dict[int, tuple[int, int]]:
        """Item -> (place of its first gram in the text, distinct grams of it there)."""
        every = _hashes(ids, self._n)
        place = np.flatnonzero(self._maybe[every >> _TABLE_SHIFT])
        hashes, first = np.unique(every[place], return_index=True)
        left, right = np.searchsorted(self._known, hashes, "left"), np.searchsorted(self._known, hashes, "right")
        found: dict[int, tuple[int, int]] = {}
        for i in np.flatnonzero(right > left):
            at = int(place[first[i]])
            for number in self.owner[left[i] : right[i]].tolist():
                before, count = found.get(number, (at, 0))
                found[number] = (min(before, at), count + 1)
        return found
