"""English words: synonyms and opposites, months, spelled numbers, participles and small words, from data files beside this one.

Paraphrases replace words by synonyms, corruptions by opposites, and the evidence compares by both. The lists are small on
purpose. In another language nothing is found in them, and nothing is paraphrased.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


def word_set(name: str) -> frozenset[str]:
    """The words of a list of `lexicon.toml`."""
    return frozenset(_TABLES[name].split())


def table(name: str) -> Any:
    """A table of `lexicon.toml`, which says what is in it."""
    return _TABLES[name]


def alternatives(words: Iterable[str]) -> str:
    """A regular expression for one of some words."""
    return "|".join(map(re.escape, words))


MONTHS: list[str] = table("months")
MONTH = alternatives(MONTHS)
"""Regular expression for a month."""
SPELLED: dict[str, str] = table("spelled")
PARTICIPLES: dict[str, str] = table("participles")
SMALL_STARTS = word_set("small_starts")


def _lines(name: str) -> Iterator[str]:
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield line


def _read_synonyms() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for line in _lines("synonyms.txt"):
        group = re.split(r"[|>]", line)
        for word in group[:1] if ">" in line else group:
            table[word] = tuple(dict.fromkeys([*table.get(word, ()), *(w for w in group if w != word)]))
    return table


def _read_opposites() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for line in _lines("opposites.txt"):
        left, right = line.split("|")
        table[left] = (*table.get(left, ()), right)
        table[right] = (*table.get(right, ()), left)
    return table


def _whole_words(words: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{alternatives(longest_first)})(?![\w-])", re.IGNORECASE)


SYNONYMS = _read_synonyms()
"""Word or phrase in lower case -> those that can replace it."""
OPPOSITES = _read_opposites()
"""Word in lower case -> its opposites."""
SYNONYM_PATTERN = _whole_words(SYNONYMS)
"""Finds a key of `SYNONYMS`."""
OPPOSITE_PATTERN = _whole_words(OPPOSITES)
"""Finds a key of `OPPOSITES`."""


def match_case(word: str, replacement: str) -> str:
    """The replacement, with a capital where the word has one."""
    return replacement[0].upper() + replacement[1:] if word[:1].isupper() else replacement
