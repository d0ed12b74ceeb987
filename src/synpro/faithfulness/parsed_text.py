"""A text as words with their stems, the values of numbers, and which words are names: what `evidence.py` compares."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from synpro.faithfulness.lexicon import SMALL_STARTS, SPELLED, SYNONYMS, table
from synpro.judges.text_stats import FUNCTION_WORDS
from synpro.language.segmentation import word_spans

_SPELLED = SPELLED | table("more_spelled")
_CAPITAL_FOLLOWS = re.compile(r"(?:['’]s)? [A-ZÀ-Þ]\w")
"""After the first word of a sentence it makes this word a name; so does the same word at another place."""
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th|s)$")


def stem(word: str) -> str:
    """Lower-case a word and remove the most common English endings, so that two forms of a word are equal."""
    word = re.sub(r"['’]s?$", "", word.lower())
    for ending in ("ations", "ation", "ings", "ing", "edly", "ies", "ied", "ed", "es", "ly", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


@dataclass(frozen=True)
class Word:
    """A word of a text."""

    text: str
    start: int
    end: int
    stem: str
    number: str | None
    """Value of a number in one format (1450 for 1,450, 2 for two and second); None for other words."""
    is_name: bool
    """Whether it is probably a name: a capital inside a sentence, or a first word that is no common start of one."""

    @property
    def key(self) -> str:
        """What equal words share: the value of a number, else the stem."""
        return self.number or self.stem

    @property
    def is_content(self) -> bool:
        """Whether it carries meaning of its own: a number, or a word that is no function word."""
        return self.number is not None or (len(self.text) > 2 and self.text.lower() not in FUNCTION_WORDS)


class ParsedText:
    """A text as words, each analysed once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[Word] = []
        spans = word_spans(text)
        if "%" in text:
            spans = sorted([*spans, *(m.span() for m in re.finditer("%", text))])
        counts = Counter(text[start:end] for start, end in spans)
        for start, end in spans:
            raw = text[start:end]
            first = _begins_sentence(text, start)
            capital = raw[0].isupper() and len(raw) > 1 and not (first and raw in SMALL_STARTS) and raw != "I"
            is_name = capital and (not first or counts[raw] > 1 or _CAPITAL_FOLLOWS.match(text, end) is not None)
            self.words.append(Word(raw, start, end, stem(raw), _value(raw), is_name))

    @cached_property
    def sentence_of_word(self) -> list[int]:
        """Index of the sentence of each word."""
        numbers = [0]
        for left, right in itertools.pairwise(self.words):
            numbers.append(numbers[-1] + bool(re.search(r"[.!?][\"')\]”’]*\s|\n", self.text[left.end : right.start])))
        return numbers

    @cached_property
    def positions(self) -> dict[str, list[int]]:
        """Key of a word -> indices of the words that have it."""
        found: dict[str, list[int]] = {}
        for i, word in enumerate(self.words):
            found.setdefault(word.key, []).append(i)
        return found

    @cached_property
    def stems(self) -> frozenset[str]:
        """Stems of all words."""
        return frozenset(w.stem for w in self.words)

    @cached_property
    def stem_starts(self) -> frozenset[str]:
        """The first four letters of all stems."""
        return frozenset(stem[:4] for stem in self.stems)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Values of all numbers."""
        return frozenset(w.number for w in self.words if w.number)

    @cached_property
    def lower(self) -> frozenset[str]:
        """All words in lower case."""
        return frozenset(w.text.lower() for w in self.words)

    @cached_property
    def initials(self) -> str:
        """First letters of the words with a capital, in which an abbreviation is looked for."""
        return "".join(w.text[0] for w in self.words if w.text[0].isupper())

    def has(self, word: Word) -> bool:
        """Whether the text has the word, the same number, or a synonym."""
        if word.number is not None:
            return word.number in self.numbers
        if word.stem in self.stems:
            return True
        return any(stem(other.split()[0]) in self.stems for other in SYNONYMS.get(word.text.lower(), ()))


def _begins_sentence(text: str, start: int) -> bool:
    before = start
    while before and text[before - 1] in " \"“‘'(":
        before -= 1
    return not before or text[before - 1] in ".!?:;\n。！？：；"


def _value(raw: str) -> str | None:
    if raw[0].isdigit():
        found = _ORDINAL.match(raw)
        plain = (found[1] if found else raw).replace(",", "")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return _SPELLED.get(raw.lower())
