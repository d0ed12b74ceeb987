"""A text as words: their stems, the values of numbers, which of them are names. What `evidence.py` compares."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cached_property

from synpro.corpus.rewordings import SMALL_STARTS, SPELLED
from synpro.corpus.synonyms import SYNONYMS
from synpro.judges.rules import FUNCTION_WORDS

_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+(?:['’]\w+)*|%")
_SPELLED = SPELLED | {
    "first": "1", "second": "2", "third": "3", "fourth": "4", "fifth": "5", "sixth": "6", "seventh": "7", "eighth": "8",
    "ninth": "9", "tenth": "10", "hundred": "100", "thousand": "1000", "twenty": "20", "thirty": "30", "forty": "40",
    "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90", "twice": "2", "half": "0.5",
}  # fmt: skip
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th|s)$")


def stem(word: str) -> str:
    """A word without the commonest English endings, in small letters: enough to see that two forms are one word."""
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
    """Its value when it is a number, written one way: 1450 for 1,450, 2 for two and second."""
    name: bool
    """A capital inside a sentence, or a first word that is no common start of one."""

    @property
    def content(self) -> bool:
        """Carries meaning of its own."""
        return self.number is not None or (len(self.text) > 2 and self.text.lower() not in FUNCTION_WORDS)


class Text:
    """A text as words, each looked at once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[Word] = []
        for m in _WORD.finditer(text):
            raw = m.group()
            before = text[: m.start()].rstrip(" \"“‘'(")
            first = not before or before[-1] in ".!?:;\n"
            name = raw[0].isupper() and len(raw) > 1 and not (first and raw in SMALL_STARTS) and raw != "I"
            known = name and not (first and not _twice(text, raw))
            self.words.append(Word(raw, m.start(), m.end(), stem(raw), _value(raw), known))

    @cached_property
    def sentence(self) -> list[int]:
        """Of each word, the number of its sentence."""
        numbers = [0]
        for left, right in itertools.pairwise(self.words):
            numbers.append(numbers[-1] + bool(re.search(r"[.!?][\"')\]”’]*\s|\n", self.text[left.end : right.start])))
        return numbers

    @cached_property
    def stems(self) -> frozenset[str]:
        """Of all its words."""
        return frozenset(w.stem for w in self.words)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Values of its numbers."""
        return frozenset(w.number for w in self.words if w.number)

    @cached_property
    def lower(self) -> frozenset[str]:
        """Its words in small letters."""
        return frozenset(w.text.lower() for w in self.words)

    @cached_property
    def initials(self) -> str:
        """First letters of its words that have a capital: an abbreviation is looked for here."""
        return "".join(w.text[0] for w in self.words if w.text[0].isupper())

    def has(self, word: Word) -> bool:
        """Whether the word, or one that can stand for it, is said here."""
        if word.number is not None:
            return word.number in self.numbers
        if word.stem in self.stems:
            return True
        return any(stem(other.split()[0]) in self.stems for other in SYNONYMS.get(word.text.lower(), ()))


def _value(raw: str) -> str | None:
    if raw[0].isdigit():
        found = _ORDINAL.match(raw)
        plain = (found[1] if found else raw).replace(",", "")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return _SPELLED.get(raw.lower())


def _twice(text: str, raw: str) -> bool:
    """Whether a sentence's first word also has its capital elsewhere, or is followed by another capital: then it is a name."""
    return text.count(raw) > 1 or bool(re.match(r"(?:['’]s)? [A-ZÀ-Þ]\w", text[text.find(raw) + len(raw) :]))
