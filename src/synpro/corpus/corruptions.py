"""Ways to make a true sentence false or unsupported, by rule, each of one type: what a faithfulness verifier must notice.

A corruption takes a sentence, what stands around it and a source of chance, and gives the corrupted sentence, or None where it
does not apply. They start from reworded sentences as well as from the passage's own: wording tells nothing. English only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from synpro.corpus.rewordings import MONTH, MONTHS, PARTICIPLES, SMALL_STARTS, SPELLED, body, lowered, raised
from synpro.corpus.synonyms import OPPOSITE, OPPOSITES, like

NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w])")
NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]*[a-z\w](?: (?:(?:of|de|van|von|the) )?[A-ZÀ-Þ][\w'’-]+)*")
_YEAR = re.compile(r"(?<![\w.,])(?:1\d{3}|20\d{2})(?![\w,])")
_SPELLED_NUMBER = re.compile(r"\b(?:" + "|".join(SPELLED) + r")\b", re.IGNORECASE)
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|to|from|into|towards?|across|throughout)(?: the)? $", re.IGNORECASE)
_BODY_WORDS = re.compile(
    r"\b(?:University|College|Company|Church|Party|Army|Union|Council|Museum|Institute|Empire|War|Kingdom|Republic)\b"
)
_UNITS = (
    ("kilometres", "miles"), ("kilometers", "miles"), ("km", "mi"), ("metres", "feet"), ("meters", "feet"), ("feet", "inches"),
    ("centimetres", "millimetres"), ("kilograms", "tonnes"), ("kg", "g"), ("grams", "kilograms"), ("tons", "pounds"),
    ("percent", "per thousand"), ("%", " per thousand"), ("million", "billion"), ("thousand", "million"),
    ("hundred", "thousand"), ("years", "months"), ("months", "weeks"), ("weeks", "days"), ("days", "hours"), ("hours",
    "minutes"),
    ("minutes", "seconds"), ("decades", "years"), ("centuries", "decades"), ("century", "decade"), ("dollars", "pounds"),
    ("degrees", "radians"), ("year", "month"), ("month", "week"), ("week", "day"), ("day", "hour"), ("litres", "gallons"),
    ("acres", "hectares"),
)  # fmt: skip
_UNIT = {a: b for pair in _UNITS for a, b in (pair, pair[::-1])} | {
    "miles": "kilometres",
    "feet": "metres",
    "years": "centuries",
}
UNITS = frozenset(_UNIT)
"""Words for units of measure and time, in small letters."""
_QUANTIFIERS = {
    "all": "some", "every": "hardly any", "each": "one", "always": "rarely", "most": "few", "many": "few", "much": "little",
    "some": "all", "few": "many", "several": "nearly all", "both": "neither", "usually": "always", "often": "seldom",
    "sometimes": "always", "rarely": "often", "never": "often", "generally": "in every case", "mostly": "hardly",
    "at least": "at most", "at most": "at least", "more than": "less than", "less than": "more than", "over": "under",
    "only": "not only", "nearly": "more than", "almost": "far more than", "a few": "most", "any": "one",
    "half": "all", "twice": "three times", "once": "many times", "numerous": "hardly any", "primarily": "never",
    "mainly": "hardly", "largely": "hardly", "widely": "hardly", "typically": "never", "frequently": "seldom",
    "entirely": "partly", "partly": "entirely",
}  # fmt: skip
_QUANTIFIER = re.compile(
    r"\b(?:" + "|".join(sorted(_QUANTIFIERS, key=len, reverse=True)) + r")\b(?! (?:one|two|three|hundred))", re.IGNORECASE
)
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|can|could|will|would|should|may|might|must|has|have|had|does|do|did)\b(?! not)(?!n't)"
)
_PAST_VERB = re.compile(r"(?<=[a-z] )([a-z]{3,}ed)(?= (?:the|an?|in|to|by|from|his|her|its|their|at|with|on|that)\b)")
_DENIAL = re.compile(r" (?:not|never)(?= )|\b(?:can)?not\b|n't\b|\b(?:no|none of|neither|without)(?= )", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|had|became|led|won|met|made|held|took|gave|wrote|built|left|lost|found|began|[a-z]{3,}ed|[a-z]{3,}s"
    r"|in|of|to|from|than|by|over|into|against)\b"
)
_CAUSES = (
    (r"(.{10,}?),? because ([^,]{10,})", "{b} because {a}"),
    (r"because ([^,]{8,}), (.{8,})", "because {b}, {a}"),
    (r"(.{5,}?) (?:was|were) caused by (.{5,})", "{b} was caused by {a}"),
    (r"(.{5,}?) (led to|caused|resulted in|brought about|gave rise to|produced|prompted|triggered|leads to|causes|results in)"
     r" (.{5,})", "{b} {v} {a}"),
    (r"(.{8,}?),? (due to|owing to|as a result of|because of) ([^,]{5,})", "{b} {v} {a}"),
    (r"(.{12,}?), (so|therefore|thus|and so|leading to|resulting in|causing) (.{8,})", "{b}, {v} {a}"),
    (r"(due to|owing to|as a result of|because of|in response to|following|after|since) ([^,]{6,}), (.{8,})", "{v} {b}, {a}"),
    (r"(.{10,}?) (in order to|so that|to avoid|to prevent|in response to) (.{8,})", "{b} {v} {a}"),
)  # fmt: skip
_DETAILS = (
    ", as {name} had ordered", " together with {name}", ", which cost {n} pounds", " on the advice of {name}",
    ", against the will of {name}",
    " in front of {n} witnesses", ", as was first noted in {year}", ", although {name} denied it",
    ", for which {name} paid",
    ", and this was repeated in {year}", " in a small house near {name}", ", in honour of {name}",
    " with the help of {n} assistants",
    ", mostly at night", " for religious reasons", ", in bad weather", " under a false name", " without anyone noticing",
    ", which made many people angry", ", to the surprise of everyone", " for the second time", " by mistake", ", out of fear",
    " for a large sum of money", ", according to a letter to {name}", ", and it is still celebrated today", " by hand",
)  # fmt: skip


@dataclass(frozen=True)
class Around:
    """What stands around a sentence: where corruptions take their material from."""

    passage: str
    """The passage the sentence was taken from."""
    others: Sequence[str]
    """Passages of other documents."""
    names: Sequence[str]
    """Names in those."""


def names(text: str) -> list[str]:
    """Names in a text, in order, by their capitals: not the first word of a sentence unless it is no common start."""
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
            and (len(words) > 1 or not _starts(text, match.start()))
        ):
            found.append(name)
    return found


def _starts(text: str, place: int) -> bool:
    before = text[:place].rstrip(" \"“'(")
    return not before or before[-1] in ".!?:\n"


def _type(text: str, name: str) -> str:
    """A rough type: body, place, person (two words or more) or other."""
    place = text.find(name)
    if _BODY_WORDS.search(name):
        return "body"
    if place >= 0 and _PLACE_BEFORE.search(text[:place]):
        return "place"
    return "person" if " " in name else "other"


def _put(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def number(sentence: str, around: Around, rng: Random) -> str | None:
    """Another number: one of the passage's, or one that looks alike. Years and days are `date`'s."""
    dates = {m.start() for m in _YEAR.finditer(sentence)} | {m.start() for m in re.finditer(rf"\d+(?= (?:{MONTH}))", sentence)}
    found = [
        m
        for m in NUMBER.finditer(sentence)
        if m.start() not in dates and not re.search(rf"(?:{MONTH}) $", sentence[: m.start()])
    ]
    found += list(_SPELLED_NUMBER.finditer(sentence))
    found = [m for m in found if m.group().lower() != "one"]
    if not found:
        return None
    match = rng.choice(found)
    word = match.group()
    if word.lower() in SPELLED:
        other = rng.choice([w for w in SPELLED if w not in ("one", word.lower())])
        return _put(sentence, *match.span(), like(word, other))
    elsewhere = [n for n in NUMBER.findall(around.passage) if n not in sentence and not _YEAR.fullmatch(n)]
    if elsewhere and rng.random() < 0.4:
        return _put(sentence, *match.span(), rng.choice(elsewhere))
    return _put(sentence, *match.span(), _misread(word, rng))


def _misread(digits: str, rng: Random) -> str:
    places = [i for i, c in enumerate(digits) if c.isdigit()]
    place = rng.choice(places)
    allowed = [d for d in ("123456789" if place == 0 else "0123456789") if d != digits[place]]
    return digits[:place] + rng.choice(allowed) + digits[place + 1 :]


def date(sentence: str, around: Around, rng: Random) -> str | None:
    """Another year or month."""
    years, months = list(_YEAR.finditer(sentence)), list(re.finditer(rf"\b(?:{MONTH})\b(?= \d|,|\.|$)", sentence))
    if not years and not months:
        return None
    match = rng.choice(years + months)
    if match.group() in MONTHS:
        return _put(sentence, *match.span(), rng.choice([m for m in MONTHS if m != match.group()]))
    elsewhere = [y for y in _YEAR.findall(around.passage) if y not in sentence]
    if elsewhere and rng.random() < 0.4:
        return _put(sentence, *match.span(), rng.choice(elsewhere))
    return _put(
        sentence,
        *match.span(),
        str(int(match.group()) + rng.choice((-100, -60, -30, -12, -9, -5, -3, -1, 1, 2, 4, 7, 11, 20, 50))),
    )


def unit(sentence: str, around: Around, rng: Random) -> str | None:
    """The same number of something else."""
    pattern = (
        r"(\d[\d.,]*|"
        + "|".join(SPELLED)
        + r"|hundred|thousand|several|few|many|th|st|nd|rd)([ -]?)("
        + "|".join(map(re.escape, _UNIT))
        + r")(?!\w)"
    )
    found = list(re.finditer(pattern, sentence))
    if not found:
        return None
    match = rng.choice(found)
    other = _UNIT[match[3]]
    return _put(sentence, match.start(2), match.end(3), (match[2] if not other.startswith(" ") else "") + other)


def entity(sentence: str, around: Around, rng: Random) -> str | None:
    """One name for another of the same rough type, of this passage where there is one."""
    here = list(dict.fromkeys(names(sentence)))
    if not here:
        return None
    old = rng.choice(here)
    kind = _type(sentence, old)

    def fits(other: str, text: str) -> bool:
        return not _words(other) & _words(sentence) and _type(text, other) == kind

    near = [n for n in dict.fromkeys(names(around.passage)) if fits(n, around.passage)]
    far = [
        n
        for n in around.names
        if not set(n.lower().split()) & set(around.passage.lower().split()) and fits(n, n if kind != "place" else f"in {n}")
    ]
    if near and (rng.random() < 0.5 or not far):
        return sentence.replace(old, rng.choice(near))
    return sentence.replace(old, rng.choice(far)) if far else None


def negation(sentence: str, around: Around, rng: Random) -> str | None:
    """A denial put in, or taken out."""
    denied = list(_DENIAL.finditer(sentence))
    if denied:
        match = rng.choice(denied)
        word = match.group().strip().lower()
        new = {
            "no": "a",
            "none of": "all of",
            "neither": "both",
            "without": "with",
            "cannot": "can",
            "not": "",
            "never": "",
            "n't": "",
        }[word]
        changed = re.sub(
            " +", " ", _put(sentence, *match.span(), (" " if match.group().startswith(" ") and new else "") + new)
        ).strip()
        return raised(changed)
    found = list(_AUXILIARY.finditer(sentence))
    if found:
        match = rng.choice(found[:2])
        return _put(sentence, match.end(), match.end(), rng.choice((" not", " not", " never")))
    verb = _PAST_VERB.search(sentence)
    if verb:
        return _put(sentence, *verb.span(), f"never {verb[1]}")
    return None


def role(sentence: str, around: Around, rng: Random) -> str | None:
    """Who did it and to whom it was done change places."""
    bare, mark = body(sentence)
    by = re.match(
        r"([^,;:]{3,60}?) ((?:was|were|is|are) (\w+) by) ([^,;:]{3,50}?)((?: in| at| on| during| to| for) .*)?$", bare
    )
    if by and (by[3].endswith("ed") or by[3] in PARTICIPLES):
        return f"{raised(by[4])} {by[2]} {lowered(by[1])}{by[5] or ''}{mark}"
    here = [(m.start(), n) for n in dict.fromkeys(names(sentence)) for m in [re.search(re.escape(n), sentence)] if m]
    if NAME.match(sentence) and sentence.split()[0] not in SMALL_STARTS:
        first = NAME.match(sentence)
        assert first is not None
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


def cause(sentence: str, around: Around, rng: Random) -> str | None:
    """Cause and effect change places."""
    bare, mark = body(sentence)
    for pattern, new in _CAUSES:
        found = re.fullmatch(pattern, bare, re.IGNORECASE)
        if found is None:
            continue
        parts = found.groups()
        if len(parts) == 2:
            first, verb, second = parts[0], "", parts[1]
        elif new.startswith("{v}"):
            verb, first, second = parts
        else:
            first, verb, second = parts
        return raised(new.format(a=lowered(first), b=lowered(second), v=verb)) + mark
    return None


def quantifier(sentence: str, around: Around, rng: Random) -> str | None:
    """More, fewer, always or never."""
    found = list(_QUANTIFIER.finditer(sentence))
    if not found:
        return None
    match = rng.choice(found)
    return _put(sentence, *match.span(), like(match.group(), _QUANTIFIERS[match.group().lower()]))


def opposite(sentence: str, around: Around, rng: Random) -> str | None:
    """A word turned into its opposite."""
    found = list(OPPOSITE.finditer(sentence))
    if not found:
        return None
    match = rng.choice(found)
    return _put(sentence, *match.span(), like(match.group(), rng.choice(OPPOSITES[match.group().lower()])))


def invented(sentence: str, around: Around, rng: Random) -> str | None:
    """A detail that the passage does not have, at the end of a true sentence."""
    bare, mark = body(sentence)
    foreign = [n for n in around.names if n not in around.passage]
    if not foreign or len(bare.split()) < 4:
        return None
    year = str(rng.randint(1400, 2010))
    if rng.random() < 0.3:
        other = rng.choice(around.others)
        tail = re.search(
            r"(?:, (?:which|who|where) | (?:because|although|when|after|while|so that) )[^.,;]{12,70}(?=[.,;])", other
        )
        if tail:
            return bare + tail.group() + mark
    detail = rng.choice(_DETAILS).format(name=rng.choice(foreign), n=rng.randint(2, 90), year=year)
    return bare + detail + mark


CORRUPTIONS: dict[str, Callable[[str, Around, Random], str | None]] = {
    "number": number,
    "date": date,
    "unit": unit,
    "entity": entity,
    "negation": negation,
    "role": role,
    "cause": cause,
    "quantifier": quantifier,
    "opposite": opposite,
    "invented": invented,
}
"""Type -> corruption. Adding one: a function and a line here. (Claims of another passage, type `other`, need no corruption.)"""


def corrupt(kind: str, sentence: str, around: Around, rng: Random) -> str | None:
    """The sentence corrupted by type, or None where it does not apply or would leave what the passage says."""
    changed = CORRUPTIONS[kind](sentence, around, rng)
    if changed is None or _plain(changed) == _plain(sentence) or _plain(changed) in _plain(around.passage):
        return None
    return changed


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
