"""Scripts: in which one a text is written, and how many characters of those without spaces make up an English word."""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections import Counter
from functools import cache
from pathlib import Path
from unicodedata import name, normalize

_BLOCKS = tomllib.loads(Path(__file__).with_name("scripts.toml").read_text(encoding="utf-8"))
_RANGES = sorted((first, last, script) for script, blocks in _BLOCKS.items() for first, last in blocks)
_STARTS = [start for start, _, _ in _RANGES]
_RENAMED = {"Hiragana": "Kana", "Katakana": "Kana", "Cjk": "Han", "Modifier": "Other"}
"""First words of Unicode names that are not the script's name here."""

CHARACTERS_PER_WORD: dict[str, float] = {
    "Han": 1.5,
    "Kana": 3.6,
    "Thai": 5.2,
    "Lao": 6.0,
    "Khmer": 5.9,
    "Myanmar": 8.5,
    "Tibetan": 7.0,
}
"""Scripts without spaces between words: characters that say as much as an English word, measured on the translations of the
Universal Declaration of Human Rights (docs/languages.md)."""


@cache
def script_of(character: str) -> str:
    """The script of a character. Marks and digits inside a block of the table belong to its script; of other characters only
    letters have one, the first word of their Unicode name ("Thaana"). Else "Other"."""
    code = ord(character)
    place = bisect_right(_STARTS, code) - 1
    if place >= 0 and code <= _RANGES[place][1]:
        return _RANGES[place][2]
    if not character.isalpha():
        return "Other"
    plain = normalize("NFKC", character)[0]  # a bold, small or wide letter is the letter itself
    if plain != character:
        return script_of(plain)
    word = name(character, "Other").split()[0].title()
    return _RENAMED.get(word, word)


def main_script(text: str, least: float = 0.6) -> str | None:
    """The script of at least the share `least` of the letters of a text; None for a mixture, and for fewer than three letters.
    Han and kana are one script here, that of Chinese and Japanese."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if character.isalpha():
            script = script_of(character)
            counts["Han" if script == "Kana" else script] += count
    script, count = max(counts.items(), key=lambda item: item[1], default=("Other", 0))
    total = counts.total()
    return script if total >= 3 and script != "Other" and count >= least * total else None
