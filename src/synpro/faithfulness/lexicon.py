"""English words: synonyms and opposites (data files beside this one), months, spelled numbers, participles and small words.

Paraphrases replace words by synonyms, corruptions by opposites, and the evidence compares by both. The lists are small on
purpose. In another language nothing is found in them, and nothing is paraphrased.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def word_set(words: str) -> frozenset[str]:
    """The words of a string with spaces between them."""
    return frozenset(words.split())


MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MONTH = "|".join(MONTHS)
"""Regular expression for a month."""
SPELLED = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
"""Spelled number -> digits."""
PARTICIPLES = {
    "written": "wrote", "built": "built", "made": "made", "led": "led", "held": "held", "found": "found", "won": "won",
    "taken": "took", "given": "gave", "driven": "drove", "begun": "began", "broken": "broke", "chosen": "chose",
    "drawn": "drew", "known": "knew", "seen": "saw", "shown": "showed", "sung": "sang", "spoken": "spoke",
    "fought": "fought", "sold": "sold", "bought": "bought", "brought": "brought", "taught": "taught", "sent": "sent",
    "kept": "kept", "left": "left", "lost": "lost", "struck": "struck", "overthrown": "overthrew", "eaten": "ate",
    "burnt": "burnt",
}  # fmt: skip
"""Irregular past participle -> past tense, of verbs that take an object."""
SMALL_STARTS = word_set(
    "The A An It He She They We This These That Those There His Her Its Their Some Many Most Several All Both Each Every One "
    "Two Three Four Other Another In On At By From For With After Before During As When While Although Because Since Under "
    "Over However People No Not If Of To Such Few Half Only Once Until Here"
)
"""First words of a sentence that are no names, and lose their capital inside one."""


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
    return re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])", re.IGNORECASE)


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
