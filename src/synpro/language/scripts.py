"""Scripts: in which one a text is written, and how many characters of those without spaces make up an English word."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import cache

_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0041, 0x02AF, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"),
    (0x0600, 0x06FF, "Arabic"),
    (0x0750, 0x077F, "Arabic"),
    (0x08A0, 0x08FF, "Arabic"),
    (0x0900, 0x097F, "Devanagari"),
    (0x0980, 0x09FF, "Bengali"),
    (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"),
    (0x0B00, 0x0B7F, "Odia"),
    (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"),
    (0x0C80, 0x0CFF, "Kannada"),
    (0x0D00, 0x0D7F, "Malayalam"),
    (0x0D80, 0x0DFF, "Sinhala"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"),
    (0x1000, 0x109F, "Myanmar"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x2E80, 0x2FDF, "Han"),
    (0x3005, 0x3007, "Han"),
    (0x3041, 0x30FF, "Kana"),
    (0x3130, 0x318F, "Hangul"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3400, 0x9FFF, "Han"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFF, "Arabic"),
    (0xFF66, 0xFF9F, "Kana"),
    (0x20000, 0x323AF, "Han"),
)
"""(first, last code point, script), sorted; the blocks of the scripts that have most readers (Unicode, Blocks.txt)."""
_STARTS = [start for start, _, _ in _RANGES]

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
    """The script of a character; "Other" where the table has none. Marks and digits inside a block belong to its script."""
    code = ord(character)
    place = bisect_right(_STARTS, code) - 1
    return _RANGES[place][2] if place >= 0 and code <= _RANGES[place][1] else "Other"


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
