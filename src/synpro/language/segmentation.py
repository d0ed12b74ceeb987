"""Words and sentences of a text in any language, by Unicode's rules (UAX 29) and ICU's dictionaries for Chinese, Japanese,
Thai, Lao, Khmer and Burmese. Every count of words and every split into sentences of the package is made here.

All functions take time in proportion to the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from unicodedata import category

from icu4py.breakers import CharacterBreaker, SentenceBreaker, WordBreaker

from synpro.language.scripts import CHARACTERS_PER_WORD, main_script, script_of

BYTES_PER_WORD = 24
"""Bytes (UTF-8) of a text from which it counts as another word, however few words are found in it: a chain of digits, a script
that the table lacks, a line of full stops. English has 6, Hindi 14, Malayalam 26."""

_LINE = 80
_LOCALE = "en"  # Unicode's own rules; the dictionaries go by script, not by locale
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"[^\W_]")
_WHITE = re.compile(r"\s*")
_MORE_ENDS = re.compile(r"(?:…[\"'”’»)\]]{0,3}|[།༎])\s")
_LAST_WORD = re.compile(r"[^\s(\[«»„“\"]*$")
_DAY_OF_MONTH = re.compile(r"(?<!\d)\d{1,2}$")
_WORDS = tomllib.loads(Path(__file__).with_name("abbreviations.toml").read_text(encoding="utf-8"))
_ABBREVIATIONS = frozenset(_WORDS["abbreviations"].split())
_BEFORE_A_NUMBER = frozenset(_WORDS["before_a_number"].split())
_AFTER_A_DAY = frozenset(_WORDS["after_a_day"].split())
_INVISIBLE = "\u034f\u115f\u1160\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
"""Fillers, the blank of Braille and variation selectors, which Unicode calls letters, symbols and marks."""
_SPACE_ENDS = ("Thai", "Lao")
"""Scripts in which a space between two letters ends a clause, and no mark ends a sentence."""


def _valid(text: str) -> str:
    """The text, as long as before, with lone surrogates replaced: ICU refuses them."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; of Chinese, Japanese, Thai and the like those of a dictionary."""
    return [w.lower() for w in WordBreaker(_valid(text), _LOCALE) if _WORD.search(w)]


def word_spans(text: str) -> list[tuple[int, int]]:
    """`(start, end)` of each word in characters."""
    segments = list(WordBreaker(_valid(text), _LOCALE))  # ICU's own offsets count UTF-16
    ends = accumulate(map(len, segments))
    return [(end - len(w), end) for w, end in zip(segments, ends, strict=True) if _WORD.search(w)]


def count_words(text: str) -> float:
    """The size of a text in English words: words where there are spaces between them, else characters over
    `CHARACTERS_PER_WORD`; at least one per `BYTES_PER_WORD`."""
    if text.isascii():  # nine of ten texts; the rules of `_size` have nothing else to say of them
        count = float(sum(1 for w in WordBreaker(_valid(text), _LOCALE) if _WORD.search(w)))
    else:
        count = sum(_size(w) for w in WordBreaker(_valid(text), _LOCALE) if _WORD.search(w))
    return max(count, len("".join(text.split()).encode("utf-8", "surrogatepass")) / BYTES_PER_WORD)


def _size(word: str) -> float:
    if word.isascii():
        return 1.0
    size = 0.0
    for character in word:
        per_word = CHARACTERS_PER_WORD.get(script_of(character))
        if per_word is None:
            return 1.0
        size += 1 / per_word
    return size


def sentence_ends(text: str) -> list[int]:
    """Positions where a sentence or line ends, the white space after it included. The last is the end of the text."""
    ends: list[int] = []
    last = body_end = 0
    after = -1  # of the white space around a boundary: from `body_end` to `after`
    for end in _candidates(text):
        if end <= last or end > len(text):
            continue
        while end > last + 1 and text[end - 1] in "「『（“‘《〈【([" and end < len(text):
            end -= 1  # an opening mark belongs to what follows; Unicode's rules leave it before the boundary
        if end > after:  # many boundaries may lie in the same white space, which is read once
            gap = _WHITE.match(text, end)
            body_end, after = end, gap.end() if gap else end
            while body_end and text[body_end - 1].isspace():
                body_end -= 1
            breaks = "\n" in text[body_end:after]
        if after < len(text) and (body_end == last or not (breaks or _is_end(text, body_end, after))):
            continue  # white space at the beginning belongs to the first sentence
        ends.append(after)
        last = after
    if text and last < len(text):
        ends.append(len(text))
    return ends


def _candidates(text: str) -> Iterator[int]:
    """Boundaries by Unicode's rules and after an ellipsis or a Tibetan shad; of Thai and Lao at spaces, too. In order."""
    extra = [m.end() for m in _MORE_ENDS.finditer(text)]
    extra += [i + 1 for i in _clause_spaces(text)]
    ends = list(accumulate(map(len, SentenceBreaker(_valid(text), _LOCALE))))
    yield from sorted({*ends, *extra}) if extra else ends


def _clause_spaces(text: str) -> Iterator[int]:
    if not any(text.find(chr(c)) >= 0 for c in (0x0E01, 0x0E32, 0x0E81, 0x0EB2)):  # ko kai or sara aa: any Thai or Lao text
        return
    for m in re.finditer(" ", text):
        i = m.start()
        if 0 < i < len(text) - 1 and script_of(text[i - 1]) in _SPACE_ENDS and script_of(text[i + 1]) in _SPACE_ENDS:
            yield i


def _is_end(text: str, dot: int, after: int) -> bool:
    """Whether a boundary inside a line ends a sentence: not after an abbreviation, an initial or a day of the month, and not
    before a small letter."""
    if begins_small(text[after]):
        return False
    if text[dot - 1] != ".":
        return True
    before = _LAST_WORD.search(text[max(0, dot - 25) : dot - 1])
    word = before.group() if before else ""
    if word.lower() in _BEFORE_A_NUMBER and text[after].isdigit():
        return False
    if word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper()):
        return False
    if _DAY_OF_MONTH.search(word):
        following = re.compile(r"\w+").match(text, after, after + 24)
        return following is None or following.group() not in _AFTER_A_DAY
    return True


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """`(start, end)` of each sentence or line in characters, without the white space around it. Empty for a blank text."""
    found: list[tuple[int, int]] = []
    start = 0
    for end in sentence_ends(text):
        piece = text[start:end]
        if piece.strip():
            found.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
        start = end
    return found


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without the white space around them."""
    return [text[a:b] for a, b in sentence_spans(text)]


def cut_points(text: str, fits: Callable[[int, float], bool]) -> Iterator[tuple[int, float, bool]]:
    """Places inside a sentence where it may be cut: position, English words since the place before, and whether it is a good
    one, after white space or a comma of a script without spaces. Others are between words. What is longer than a line or does
    not fit (`fits(characters, words)`) may be cut between any two characters that a reader sees, and those that do not fit
    anywhere."""
    start = 0
    for segment in WordBreaker(_valid(text), _LOCALE):
        end, words = start + len(segment), count_words(segment)
        if len(segment) <= _LINE and fits(len(segment), words):
            last = segment[-1]
            yield end, words, last.isspace() or (not last.isascii() and category(last) == "Po" and text[end : end + 1] != " ")
        else:
            each = words / len(segment)
            for character in CharacterBreaker(segment, _LOCALE):
                size = len(character) if fits(len(character), each * len(character)) else 1
                for _ in range(0, len(character), size):
                    start += size
                    yield start, each * size, False
        start = end


def ends_statement(sentence: str) -> bool:
    """Whether a sentence ends as a whole statement does, in any script; in Thai and Lao, which have no mark for it, all do."""
    return _is_mark(sentence.rstrip("\"'”’»」』)）]")[-1:]) or main_script(sentence) in _SPACE_ENDS


@cache
def _is_mark(character: str) -> bool:
    """Whether a sentence ends with this mark, by the rules that `sentence_ends` has."""
    if not character or character.isspace() or character.isalnum():
        return False
    return character in "…།༎" or len(list(SentenceBreaker(_valid(f"A{character} A"), _LOCALE))) == 2


def begins_small(text: str) -> bool:
    """Whether a text begins with a small letter, as no sentence does. Georgian has capitals, but only for titles."""
    return text[:1].islower() and script_of(text[0]) != "Georgian"


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing of a text: white space, control characters, zero-width and other invisible ones."""
    return all(c.isspace() or category(c) in ("Cc", "Cf") or c in _INVISIBLE for c in text)
