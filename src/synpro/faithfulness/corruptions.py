"""Corruptions of a true sentence by rule, each of one type: what a faithfulness verifier must notice.

Each takes a sentence, its context and a random generator and returns a false or unsupported sentence, or None where it does not
apply. They start from paraphrases as well as from the passage's own sentences, so that the wording gives nothing away. English
only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from synpro.faithfulness.lexicon import (
    MONTH,
    MONTHS,
    OPPOSITE_PATTERN,
    OPPOSITES,
    PARTICIPLES,
    SMALL_STARTS,
    SPELLED,
    alternatives,
    match_case,
    table,
)
from synpro.faithfulness.paraphrases import capitalize, decapitalize, split_mark

_LETTER = "A-Za-zÀ-ɏ0-9_"  # a digit may follow a Chinese character: its words have no spaces
NUMBER = re.compile(rf"(?<![{_LETTER}.,])\d+(?:[.,]\d+)*(?![{_LETTER}])")
NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]*[a-z\w](?: (?:(?:of|de|van|von|the) )?[A-ZÀ-Þ][\w'’-]+)*")
_YEAR = re.compile(rf"(?<![{_LETTER}.,])(?:1\d{{3}}|20\d{{2}})(?![{_LETTER},])")
_SPELLED_NUMBER = re.compile(rf"\b(?:{alternatives(SPELLED)})\b", re.IGNORECASE)
UNITS: dict[str, str] = table("units")
"""Words for units of measure and time, in lower case, each with a wrong one."""
_UNIT = re.compile(
    rf"((?<![\d.,])[.,]*\d[\d.,]*|{alternatives(SPELLED)}|hundred|thousand|several|few|many|th|st|nd|rd)"
    rf"([ -]?)({alternatives(UNITS)})(?!\w)"
)
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|to|from|into|towards?|across|throughout)(?: the)? $", re.IGNORECASE)
_MONTH_BEFORE = re.compile(rf"(?:{MONTH}) $")
_DAY = re.compile(rf"(?<!\d)\d+(?= (?:{MONTH}))")
_NEAR = 24
"""Characters before a word in which what stands right before it is looked for."""
_ORGANISATION_WORDS = re.compile(
    r"\b(?:University|College|Company|Church|Party|Army|Union|Council|Museum|Institute|Empire|War|Kingdom|Republic)\b"
)
_QUANTIFIERS: dict[str, str] = table("quantifiers")
_LONGEST_FIRST = alternatives(sorted(_QUANTIFIERS, key=len, reverse=True))
_QUANTIFIER = re.compile(rf"\b(?:{_LONGEST_FIRST})\b(?! (?:one|two|three|hundred))", re.IGNORECASE)
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|can|could|will|would|should|may|might|must|has|have|had|does|do|did)\b(?! not)(?!n't)"
)
_PAST_VERB = re.compile(r"(?<=[a-z] )([a-z]{3,}ed)(?= (?:the|an?|in|to|by|from|his|her|its|their|at|with|on|that)\b)")
_DENIAL = re.compile(r" (?:not|never)(?= )|\b(?:can)?not\b|n't\b|\b(?:no|none of|neither|without)(?= )", re.IGNORECASE)
_AFFIRMED = {"no": "a", "none of": "all of", "neither": "both", "without": "with", "cannot": "can"}
"""What takes the place of a denial; nothing of any other."""
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|had|became|led|won|met|made|held|took|gave|wrote|built|left|lost|found|began|[a-z]{3,}ed|[a-z]{3,}s"
    r"|in|of|to|from|than|by|over|into|against)\b"
)


@dataclass(frozen=True)
class CorruptionContext:
    """What surrounds a sentence: the source of the words that corruptions put in."""

    passage: str
    """Text of the passage that the sentence is from."""
    others: Sequence[str]
    """Texts of passages of other documents."""
    names: Sequence[str]
    """Names in `others`."""


def find_names(text: str) -> list[str]:
    """Names in a text by their capitals, in order. The first word of a sentence counts only as part of a longer name."""
    found = []
    for match in NAME.finditer(text):
        words = match.group().split()
        if words[0] in SMALL_STARTS:
            words = words[1:]
        name = re.sub(r"['’]s?$", "", " ".join(words))
        if (
            len(name) > 2
            and name not in MONTHS
            and not name.startswith("It")
            and (len(words) > 1 or not _starts_sentence(text, match.start()))
        ):
            found.append(name)
    return found


def _starts_sentence(text: str, place: int) -> bool:
    while place and text[place - 1] in " \"“'(":
        place -= 1
    return not place or text[place - 1] in ".!?:\n"


def _name_type(text: str, name: str) -> str:
    """A rough type of name: organisation, place, person (two words or more) or other."""
    place = text.find(name)
    if _ORGANISATION_WORDS.search(name):
        return "organisation"
    if place >= 0 and _PLACE_BEFORE.search(text, max(0, place - _NEAR), place):
        return "place"
    return "person" if " " in name else "other"


def _replace_span(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def number(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Another number: one of the passage, or one with a wrong digit. Years and days of a month are left to `date`."""
    dates = {m.start() for m in _YEAR.finditer(sentence)} | {m.start() for m in _DAY.finditer(sentence)}
    found = [
        m
        for m in NUMBER.finditer(sentence)
        if m.start() not in dates and not _MONTH_BEFORE.search(sentence, max(0, m.start() - _NEAR), m.start())
    ]
    found += list(_SPELLED_NUMBER.finditer(sentence))
    found = [m for m in found if m.group().lower() != "one"]
    if not found:
        return None
    match = rng.choice(found)
    word = match.group()
    if word.lower() in SPELLED:
        other = rng.choice([w for w in SPELLED if w not in ("one", word.lower())])
        return _replace_span(sentence, *match.span(), match_case(word, other))
    there = NUMBER.findall(context.passage)
    new = {n for n in {*there}.difference(NUMBER.findall(sentence)) if n not in sentence and not _YEAR.fullmatch(n)}
    elsewhere = [n for n in there if n in new]
    if elsewhere and rng.random() < 0.4:
        return _replace_span(sentence, *match.span(), rng.choice(elsewhere))
    return _replace_span(sentence, *match.span(), _change_digit(word, rng))


def _change_digit(digits: str, rng: Random) -> str:
    places = [i for i, c in enumerate(digits) if c.isdigit()]
    place = rng.choice(places)
    allowed = [d for d in ("123456789" if place == 0 else "0123456789") if d != digits[place]]
    return digits[:place] + rng.choice(allowed) + digits[place + 1 :]


def date(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Another year or month."""
    years, months = list(_YEAR.finditer(sentence)), list(re.finditer(rf"\b(?:{MONTH})\b(?= \d|,|\.|$)", sentence))
    if not years and not months:
        return None
    match = rng.choice(years + months)
    if match.group() in MONTHS:
        return _replace_span(sentence, *match.span(), rng.choice([m for m in MONTHS if m != match.group()]))
    years_there = _YEAR.findall(context.passage)
    new = {y for y in set(years_there) if y not in sentence}
    elsewhere = [y for y in years_there if y in new]
    if elsewhere and rng.random() < 0.4:
        return _replace_span(sentence, *match.span(), rng.choice(elsewhere))
    moved = int(match.group()) + rng.choice((-100, -60, -30, -12, -9, -5, -3, -1, 1, 2, 4, 7, 11, 20, 50))
    return _replace_span(sentence, *match.span(), str(moved))


def unit(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """The same number with another unit."""
    found = list(_UNIT.finditer(sentence))
    if not found:
        return None
    match = rng.choice(found)
    other = UNITS[match[3]]
    return _replace_span(sentence, match.start(2), match.end(3), (match[2] if not other.startswith(" ") else "") + other)


def entity(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Another name of the same rough type: one of this passage or of another document's."""
    here = list(dict.fromkeys(find_names(sentence)))
    if not here:
        return None
    old = rng.choice(here)
    kind, ours, theirs = _name_type(sentence, old), _word_set(sentence), set(context.passage.lower().split())

    def fits(other: str, text: str) -> bool:
        return not _word_set(other) & ours and _name_type(text, other) == kind

    near = [n for n in dict.fromkeys(find_names(context.passage)) if fits(n, context.passage)]
    far = [n for n in context.names if not set(n.lower().split()) & theirs and fits(n, n if kind != "place" else f"in {n}")]
    if near and (rng.random() < 0.5 or not far):
        return sentence.replace(old, rng.choice(near))
    return sentence.replace(old, rng.choice(far)) if far else None


def negation(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """A negation added or removed."""
    denied = list(_DENIAL.finditer(sentence))
    if denied:
        match = rng.choice(denied)
        word = match.group().strip().lower()
        new = _AFFIRMED.get(word, "")
        changed = _replace_span(sentence, *match.span(), (" " if match.group().startswith(" ") and new else "") + new)
        return capitalize(re.sub(" +", " ", changed).strip())
    found = list(_AUXILIARY.finditer(sentence))
    if found:
        match = rng.choice(found[:2])
        return _replace_span(sentence, match.end(), match.end(), rng.choice((" not", " not", " never")))
    verb = _PAST_VERB.search(sentence)
    if verb:
        return _replace_span(sentence, *verb.span(), f"never {verb[1]}")
    return None


def role(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Swapped roles: who did it, and to whom."""
    bare, mark = split_mark(sentence)
    by = re.match(
        r"([^,;:]{3,60}?) ((?:was|were|is|are) (\w+) by) ([^,;:]{3,50}?)((?: in| at| on| during| to| for) .*)?$", bare
    )
    if by and (by[3].endswith("ed") or by[3] in PARTICIPLES):
        return f"{capitalize(by[4])} {by[2]} {decapitalize(by[1])}{by[5] or ''}{mark}"
    here = [(m.start(), n) for n in dict.fromkeys(find_names(sentence)) for m in [re.search(re.escape(n), sentence)] if m]
    if (first := NAME.match(sentence)) and sentence.split()[0] not in SMALL_STARTS:
        here.append((0, first.group()))
    here.sort()
    pairs = [
        (a, b)
        for i, a in enumerate(here)
        for b in here[i + 1 :]
        if a[1] not in b[1]
        and b[1] not in a[1]
        and a[0] + len(a[1]) < b[0]
        and _VERB.search(sentence[a[0] + len(a[1]) : b[0]])
        and not re.fullmatch(r",? (?:and|or|,) ", sentence[a[0] + len(a[1]) : b[0]])
    ]
    if not pairs:
        return None
    (i, a), (j, b) = rng.choice(pairs)
    return sentence[:i] + b + sentence[i + len(a) : j] + a + sentence[j + len(b) :]


def cause(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Swapped cause and effect."""
    bare, mark = split_mark(sentence)
    for pattern, new in table("causes"):
        found = re.fullmatch(pattern, bare, re.IGNORECASE)
        if found is None:
            continue
        parts = list(found.groups())
        verb = parts.pop(0 if new.startswith("{v}") else 1) if len(parts) == 3 else ""
        first, second = parts
        return capitalize(new.format(a=decapitalize(first), b=decapitalize(second), v=verb)) + mark
    return None


def quantifier(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Another quantifier: more, fewer, always or never."""
    found = list(_QUANTIFIER.finditer(sentence))
    if not found:
        return None
    match = rng.choice(found)
    return _replace_span(sentence, *match.span(), match_case(match.group(), _QUANTIFIERS[match.group().lower()]))


def opposite(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """A word replaced by its opposite."""
    found = list(OPPOSITE_PATTERN.finditer(sentence))
    if not found:
        return None
    match = rng.choice(found)
    return _replace_span(sentence, *match.span(), match_case(match.group(), rng.choice(OPPOSITES[match.group().lower()])))


def invented(sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """A detail that the passage does not have, added to a true sentence."""
    bare, mark = split_mark(sentence)
    foreign = [n for n in context.names if n not in context.passage]
    if not foreign or len(bare.split()) < 4:
        return None
    year = str(rng.randint(1400, 2010))
    if rng.random() < 0.3:
        other = rng.choice(context.others)
        tail = re.search(
            r"(?:, (?:which|who|where) | (?:because|although|when|after|while|so that) )[^.,;]{12,70}(?=[.,;])", other
        )
        if tail:
            return bare + tail.group() + mark
    detail = rng.choice(table("details")).format(name=rng.choice(foreign), n=rng.randint(2, 90), year=year)
    return bare + detail + mark


CORRUPTIONS: dict[str, Callable[[str, CorruptionContext, Random], str | None]] = {
    function.__name__: function
    for function in (number, date, unit, entity, negation, role, cause, quantifier, opposite, invented)
}
"""Type -> corruption. Adding one: a function, and its name here. (Claims from another passage, type `other`, are made without
one.)"""


def corrupt(kind: str, sentence: str, context: CorruptionContext, rng: Random) -> str | None:
    """Apply one type; None where it does not apply, or where the passage says the result too."""
    changed = CORRUPTIONS[kind](sentence, context, rng)
    if changed is None or _normalized(changed) == _normalized(sentence) or _normalized(changed) in _normalized(context.passage):
        return None
    return changed


def _word_set(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _normalized(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
