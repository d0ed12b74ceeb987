"""Cloze items by rule: does a model know what its training text says, without the text?

A name, a number or a year of a sentence is to be told from values of the same kind that the corpus has elsewhere, by the
likelihood of the whole sentence. The other values are drawn as often as they occur, as the right one was, so that a model which
knows only how frequent they are is right in one of `1 + distractors` items. What language alone gives is measured by items from
texts that no model was trained on.

Names are runs of capitalised words after the first word of a sentence (in German: nouns too); scripts without capitals have
numbers and years only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from synpro.language.segmentation import sentence_spans, word_spans

MAX_NAME = 4
"""Words of a name; longer runs are titles and headings."""
MIN_WORDS = 6
"""Words of a sentence that is asked about: shorter ones say too little about what is asked."""
_NUMBER = re.compile(r"\d[\d.,]*")
_YEAR = re.compile(r"(?:1\d|20)\d\d")

Pool = Mapping[tuple[str, int], Sequence[str]]
"""The values of a corpus by kind and size, each as often as it occurs."""


@dataclass(frozen=True)
class Value:
    """A name, a number or a year in a text."""

    kind: str
    """`name`, `number` or `year`."""
    text: str
    start: int
    """First character in its text."""
    size: int
    """Words of a name, characters of a number: only values of one size are exchanged."""

    @property
    def key(self) -> tuple[str, int]:
        """What it may be exchanged with."""
        return self.kind, self.size


@dataclass(frozen=True)
class ClozeItem:
    """A sentence with a gap."""

    document: str
    kind: str
    before: str
    after: str
    options: tuple[str, ...]
    """The right value first, then those of other texts."""

    @property
    def sentences(self) -> list[str]:
        """The sentence with each option, the right one first."""
        return [f"{self.before}{option}{self.after}" for option in self.options]


def values(text: str) -> list[Value]:
    """The names, numbers and years of a sentence, in order; without a name at its beginning, where a capital says nothing."""
    found: list[Value] = []
    name: list[tuple[int, int]] = []

    def end_name() -> None:
        if name and name[0][0] > first and len(name) <= MAX_NAME:
            found.append(Value("name", text[name[0][0] : name[-1][1]], name[0][0], len(name)))
        name.clear()

    spans = word_spans(text)
    first = spans[0][0] if spans else 0
    for start, end in spans:
        word = text[start:end]
        if name and text[name[-1][1] : start] != " ":
            end_name()
        if word[0].isupper() and len(word) > 1:
            name.append((start, end))
            continue
        end_name()
        if _NUMBER.fullmatch(word):
            kind = "year" if _YEAR.fullmatch(word) else "number"
            found.append(Value(kind, word, start, len(word)))
    end_name()
    return sorted(found, key=lambda v: v.start)


def value_pool(texts: Iterable[str]) -> Pool:
    """The values of texts, each as often as it occurs, by kind and size."""
    pool: dict[tuple[str, int], list[str]] = {}
    for text in texts:
        for start, end in sentence_spans(text):
            for value in values(text[start:end]):
                pool.setdefault(value.key, []).append(value.text)
    return pool


def cloze_items(
    texts: Iterable[tuple[str, str, str]], pool: Pool, *, most: int = 500, distractors: int = 9, seed: int = 20_261_127
) -> list[ClozeItem]:
    """Items of texts of (document, text, source): one gap per sentence, at most `most` items, evenly spread.

    Only values that `source` has too are asked for (of a rephrasing: its passage; else the text itself), so that the answer is
    in what was trained on; the other options are not in it. A value that its sentence has twice, or whose kind has too few
    others, is not asked for. The same texts give the same items.
    """
    rng = random.Random(seed)
    found = [item for row in texts for item in _items(*row, pool, distractors, rng)]
    every = max(1.0, len(found) / most)
    return [found[int(i * every)] for i in range(min(most, len(found)))]


def _items(document: str, text: str, source: str, pool: Pool, distractors: int, rng: random.Random) -> Iterator[ClozeItem]:
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        if len(word_spans(sentence)) < MIN_WORDS:
            continue
        asked = [v for v in values(sentence) if v.text in source and sentence.count(v.text) == 1]
        rng.shuffle(asked)
        for value in asked:
            others = _draw(pool.get(value.key, ()), source, distractors, rng)
            if len(others) == distractors:
                after = sentence[value.start + len(value.text) :]
                yield ClozeItem(document, value.kind, sentence[: value.start], after, (value.text, *others))
                break


def _draw(pool: Sequence[str], source: str, count: int, rng: random.Random) -> list[str]:
    """Different values of other texts, as often as they occur; fewer where there are not enough."""
    chosen: dict[str, None] = {}
    for _ in range(20 * count if pool else 0):
        value = pool[rng.randrange(len(pool))]
        if value not in source:
            chosen[value] = None
        if len(chosen) == count:
            break
    return list(chosen)


def rank_of_right(nats: Sequence[float]) -> float:
    """The rank of the first value among all by its loss, 1 the most likely; of equal ones the mean."""
    right, others = nats[0], nats[1:]
    return 1 + sum(n < right for n in others) + sum(n == right for n in others) / 2
