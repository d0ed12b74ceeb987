"""What a claim says against what its source says, word by word and without a model: numbers, units, names, denials,
quantifiers, hedges, opposites, order, causes. Each function counts mismatches: 0 is none. English only: elsewhere only numbers,
names and order are seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synpro.corpus.corruptions import UNITS
from synpro.corpus.passages import sentence_spans
from synpro.corpus.rewordings import MONTHS, PARTICIPLES, SMALL_STARTS, SPELLED
from synpro.corpus.synonyms import OPPOSITES, SYNONYMS
from synpro.judges.base import Support
from synpro.judges.rules import FUNCTION_WORDS
from synpro.judges.text import Text, Word, stem


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DENIALS = _set("not never no none neither nor without cannot hardly rarely seldom nothing nobody nowhere")
_CLASSES = {
    "all": "all every each always entirely completely whole entire fully both everyone everything invariably wholly",
    "most": "most mostly majority usually generally often frequently largely mainly primarily typically widely commonly many "
    "much numerous normally principally chiefly",
    "some": "some sometimes several partly occasionally certain partially various",
    "few": "few little rarely seldom hardly scarcely barely fewer",
    "only": "only solely exclusively merely",
    "nearly": "nearly almost virtually practically",
}
_CLASS = {word: name for name, members in _CLASSES.items() for word in members.split()}
_FIGURE = (
    r"(?= (?:\d|(?:a hundred|a dozen|a thousand|a million|a quarter|a third|" + "|".join(SPELLED) + r"|hundred|half|twice)\b))"
)
_BOUNDS = (
    ("above", re.compile(r"\b(?:at least|more than|over|no fewer than|no less than|above|exceed\w*)" + _FIGURE, re.I)),
    ("below", re.compile(r"\b(?:at most|less than|fewer than|under|up to|no more than|below)" + _FIGURE, re.I)),
)
_HEDGES = _set("may might could possibly perhaps probably likely reportedly allegedly supposedly apparently claimed")
_CAUSAL = (
    (
        re.compile(
            r"\b(?:because|due to|owing to|as a result of|caused by|thanks to|in response to|so as to|in order to|since"
            r"|after)\b",
            re.I,
        ),
        False,
    ),
    (
        re.compile(
            r"\b(?:led to|leads to|leading to|caus(?:ed|es|ing)(?! by)|result(?:ed|s|ing) in|brought about|gave rise to"
            r"|so that|so|therefore|thus|before|prompt(?:ed|s)|trigger(?:ed|s))\b",
            re.I,
        ),
        True,
    ),
)
"""What stands between cause and effect; whether the cause comes first."""
_PASSIVE = re.compile(
    r"\b(?:was|were|is|are|been|being|be) (?:(?:first|\w+ly|also|later|then) )?(?:\w+ed|"
    + "|".join(PARTICIPLES)
    + r")\b(?: \w+){0,4} by\b"
    r"|\b(?:was|were|is|are) \w+ by\b|\b(?:built|made|written|painted|founded|invented|designed|discovered)(?: of \w+)? by\b",
    re.I,
)
_STARTS = _set(
    "what thanks once since though although whereas among within without about roughly nearly according afterwards today "
    "then here where whenever whether there even still yet also just much more less like unlike despite because between "
    "through until upon another neither either none nobody everyone someone anyone something nothing first second last "
    "next each every both half"
)
"""First words of a sentence that are no names."""


def unknown_numbers(claim: Text, passage: Text) -> int:
    """Numbers, years and days that the passage does not have."""
    unsaid = ("first", "half", "one", "second")  # words of many uses
    return sum(w.number not in (None, *passage.numbers) and w.text.lower() not in unsaid for w in claim.words)


def wrong_months(claim: Text, passage: Text) -> int:
    """Months that the passage does not name."""
    return sum(w.text in MONTHS and w.text != "May" and w.text not in passage.text for w in claim.words)


def unknown_names(claim: Text, passage: Text) -> int:
    """Capitalised words that the passage does not have in any form: Danish is one of Denmark only by luck, British of
    Britain."""
    return sum(w.name and w.number is None and not _named(w, passage) for w in claim.words)


def unknown_starts(claim: Text, passage: Text) -> int:
    """First words of a sentence that may be names and that the passage does not have."""
    return sum(_may_be_name(w, claim) and not _named(w, passage) for w in claim.words)


def _may_be_name(word: Word, text: Text) -> bool:
    low = word.text.lower()
    return (
        word.text[0].isupper()
        and not word.name
        and word.number is None
        and len(low) > 3
        and word.text not in SMALL_STARTS
        and low not in FUNCTION_WORDS
        and low not in SYNONYMS
        and low not in OPPOSITES
        and low not in _CLASS
        and not re.search(r"(?:ing|ed|ly|[^s]s|ion|ment|ness)$", low)
        and low not in _STARTS
    )


def _named(word: Word, passage: Text) -> bool:
    if word.stem in passage.stems or word.text in passage.text:
        return True
    if word.text.isupper() and word.text in passage.initials:
        return True
    return len(word.stem) >= 5 and any(other[:4] == word.stem[:4] for other in passage.stems)


def unknown(claim: Text, passage: Text) -> list[Word]:
    """Content words that the passage neither has nor has a synonym of."""
    return [
        w for w in claim.words if w.content and w.number is None and not passage.has(w) and not (w.name and _named(w, passage))
    ]


def wrong_units(claim: Text, passage: Text) -> int:
    """Numbers that the passage has, with another unit."""
    wrong = 0
    theirs = {(number, unit) for number, unit in _units(passage)}
    for number, unit in _units(claim):
        known = {u for n, u in theirs if n == number}
        wrong += bool(known) and unit not in known
    if not wrong:  # units without their number close by: any that the passage never uses
        used = {_unit(w.text) for w in passage.words} | ({"percent"} if "cent" in passage.lower else set())
        wrong += sum(w.number is None and w.text.lower() in UNITS and _unit(w.text) not in used for w in claim.words)
    return wrong


def _units(text: Text) -> list[tuple[str, str]]:
    pairs = []
    for i, word in enumerate(text.words[:-1]):
        if word.number is not None:
            for following in text.words[i + 1 : i + 3]:
                if (following.number is None and following.text.lower() in UNITS) or following.text in ("%", "percent", "per"):
                    pairs.append((word.number, _unit(following.text)))
                    break
    return pairs


def _unit(word: str) -> str:
    word = word.lower()
    if word in ("%", "percent", "per"):
        return "percent"
    return {"km": "kilometr", "kilometers": "kilometr", "meters": "metr", "metres": "metr"}.get(word, stem(word))


def denials(claim: Text, source: Text) -> int:
    """Words denied on one side and not on the other: the word after a denial is looked for on the other side."""
    return _denied_alone(claim, source) + _denied_alone(source, claim)


def _denied_alone(this: Text, other: Text) -> int:
    alone = 0
    for i, word in enumerate(this.words):
        if not _is_denial(word):
            continue
        after = [w for w in this.words[i + 1 : i + 6] if w.content and not _is_denial(w)][:1]
        before = [w for w in this.words[max(0, i - 3) : i] if w.content][-1:]
        places = [j for j, o in enumerate(other.words) for w in after if o.stem == w.stem]
        if not places:
            places = [j for j, o in enumerate(other.words) for w in before if o.stem == w.stem]
        if places and not any(_is_denial(o) for j in places for o in other.words[max(0, j - 5) : j + 4]):
            alone += 1
    return alone


def _is_denial(word: Word) -> bool:
    low = word.text.lower()
    return low in _DENIALS or low.endswith(("n't", "n’t"))


def new_quantifiers(claim: Text, source: Text) -> int:
    """Kinds of quantifier in the claim that its source does not use."""
    return len(_kinds(claim) - _kinds(source))


def swapped_quantifiers(claim: Text, source: Text) -> int:
    """The same, where the source uses another kind that the claim does not: one for the other."""
    return min(len(_kinds(claim) - _kinds(source)), len(_kinds(source) - _kinds(claim)))


def _kinds(text: Text) -> set[str]:
    after = [*(w.number for w in text.words[1:]), None][: len(text.words)]  # a claim of signs alone has no words
    kinds = {
        _CLASS[low]
        for w, number in zip(text.words, after, strict=True)
        if (low := w.text.lower()) in _CLASS and not (low in ("some", "many", "much") and number is not None)
    }
    return kinds | {name for name, pattern in _BOUNDS if pattern.search(text.text)}


def hedges(claim: Text, source: Text) -> int:
    """1 when one side says perhaps and the other does not."""
    return int(bool(claim.lower & _HEDGES) != bool(source.lower & _HEDGES))


def opposites(claim: Text, source: Text) -> int:
    """Words whose opposite the source says, and which it does not say itself."""
    return sum(
        (low := w.text.lower()) in OPPOSITES and low not in source.lower and any(o in source.lower for o in OPPOSITES[low])
        for w in claim.words
    )


_LEADS = _set("in on at by from to of during since until for with into near under over around about")


def turned(claim: Text, source: Text) -> float:
    """Share of the neighbouring words both have that stand in another order, 0 to 1: who did it and to whom. Neighbours are
    content words at most five words apart on both sides; what a preposition leads may move; a change of voice turns the
    order."""
    places: dict[str, list[int]] = {}
    for j, word in enumerate(source.words):
        places.setdefault(word.number or word.stem, []).append(j)
    free = {key: [j for j in there if not _led(source, j)] for key, there in places.items()}
    ours_at = [(i, free.get(w.number or w.stem, [])) for i, w in enumerate(claim.words) if w.content and not _led(claim, i)]
    shared = [(i, there) for i, there in ours_at if there]
    same = other = 0
    for k, (i, ours) in enumerate(shared):
        for j, theirs in shared[k + 1 :]:
            if j - i > 5 or claim.words[i].stem == claim.words[j].stem:
                continue
            close = [a < b for a in ours for b in theirs if abs(a - b) <= 5]
            if j - i == 1 and any(b - a == 1 for a in ours for b in theirs):
                continue  # one name or phrase: it moves as a whole
            same, other = same + any(close), other + (bool(close) and not any(close))
    if not same + other:
        return 0.0
    if bool(_PASSIVE.search(claim.text)) != bool(_PASSIVE.search(source.text)):
        same, other = max(same, other), min(same, other)
    return other / (same + other)


def _led(text: Text, place: int) -> bool:
    return any(w.text.lower() in _LEADS for w in text.words[max(0, place - 2) : place])


def displaced(claim: Text, passage: Text) -> tuple[float, float]:
    """Of the content words beside a name or number which the passage has too, the shares (0 to 1) that stand there in another
    sentence than that name or number, and in the same but more than eight words away."""
    at: dict[str, list[int]] = {}
    for j, word in enumerate(passage.words):
        at.setdefault(word.number or word.stem, []).append(j)
    near = far = elsewhere = 0
    for i, word in enumerate(claim.words):
        places = at.get(word.number or word.stem)
        if not places or not (word.name or word.number is not None):
            continue
        for other in claim.words[max(0, i - 3) : i] + claim.words[i + 1 : i + 4]:
            theirs = at.get(other.number or other.stem) if other.content else None
            if theirs:
                close = any(abs(a - b) <= 8 for a in places for b in theirs)
                same = any(passage.sentence[a] == passage.sentence[b] for a in places for b in theirs)
                near, far, elsewhere = near + close, far + (same and not close), elsewhere + (not same and not close)
    total = near + far + elsewhere
    return (elsewhere / total, far / total) if total else (0.0, 0.0)


def causes(claim: Text, source: Text) -> float:
    """1 when cause and effect stand the other way round than in the source, 0.5 when only the claim names a cause, else 0."""
    ours, theirs = _cause_effect(claim.text), _cause_effect(source.text)
    if ours is None:
        return 0.0
    if theirs is None:
        return 0.5
    (c, e), (c_s, e_s) = ours, theirs
    straight, crossed = _shared(c, c_s) + _shared(e, e_s), _shared(c, e_s) + _shared(e, c_s)
    return 1.0 if crossed > straight else 0.0


def _cause_effect(text: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """Stems of (cause, effect) around the first causal or temporal word."""
    for pattern, forward in _CAUSAL:
        found = pattern.search(text)
        if found is None:
            continue
        left, right = text[: found.start()], text[found.end() :]
        if not left.strip():  # "Because A, B"
            first, comma, rest = right.partition(",")
            if not comma:
                continue
            left, right = rest, first
        if len(left.split()) < 2 or not right.strip():
            continue
        a, b = (frozenset(w.stem for w in Text(part).words if w.content) for part in (left, right))
        return (a, b) if forward else (b, a)
    return None


def _shared(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, min(len(a), len(b)))


def listing(claim: Text) -> float:
    """How much of a list of words the claim is: 0 for a sentence, 1 for words without grammar."""
    if len(claim.words) < 3:
        return 1.0
    share = sum(w.text.lower() in FUNCTION_WORDS for w in claim.words) / len(claim.words)
    return min(1.0, max(0.0, (0.22 - share) / 0.17))


def best_sentence(claim: str, passage: str) -> Support | None:
    """The sentence with the largest share of the claim's content words; the first of equals. For verifiers without an
    encoder."""
    ours = {w.number or w.stem for w in Text(claim).words if w.content}
    best: tuple[float, Support] | None = None
    for start, end in sentence_spans(passage):
        theirs = {w.number or w.stem for w in Text(passage[start:end]).words}
        share = len(ours & theirs) / max(1, len(ours))
        if best is None or share > best[0]:
            best = (share, Support(passage[start:end], start, end))
    return best[1] if best else None


def joined(sentences: Sequence[str]) -> Text:
    """Sentences of a passage as one text."""
    return Text(" ".join(sentences))
