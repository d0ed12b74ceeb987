"""What a claim says against what its source says, word by word and without a model: numbers, units, names, denials,
quantifiers, hedges, opposites, order and causes.

Each function counts mismatches; 0 is none. English only: in another language only numbers, names and order are compared.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from synpro.faithfulness.corruptions import UNITS
from synpro.faithfulness.lexicon import (
    MONTHS,
    OPPOSITES,
    PARTICIPLES,
    SMALL_STARTS,
    SPELLED,
    SYNONYMS,
    alternatives,
    table,
    word_set,
)
from synpro.faithfulness.parsed_text import ParsedText, Word, stem
from synpro.judges.base import Support
from synpro.judges.text_stats import FUNCTION_WORDS
from synpro.language.segmentation import sentence_spans

_DENIALS, _HEDGES, _PREPOSITIONS = word_set("denials"), word_set("hedges"), word_set("prepositions")
_NO_NAMES = word_set("no_name_starts")
_QUANTIFIER_KIND = {word: kind for kind, members in table("quantifier_kinds").items() for word in members.split()}
_A_NUMBER = f"a hundred|a dozen|a thousand|a million|a quarter|a third|{alternatives(SPELLED)}|hundred|half|twice"
_BEFORE_NUMBER = rf"(?= (?:\d|(?:{_A_NUMBER})\b))"
_BOUNDS = (
    ("above", re.compile(r"\b(?:at least|more than|over|no fewer than|no less than|above|exceed\w*)" + _BEFORE_NUMBER, re.I)),
    ("below", re.compile(r"\b(?:at most|less than|fewer than|under|up to|no more than|below)" + _BEFORE_NUMBER, re.I)),
)
_EFFECT_FIRST = re.compile(
    r"\b(?:because|due to|owing to|as a result of|caused by|thanks to|in response to|so as to|in order to|since|after)\b", re.I
)
_CAUSE_FIRST = re.compile(
    r"\b(?:led to|leads to|leading to|caus(?:ed|es|ing)(?! by)|result(?:ed|s|ing) in|brought about|gave rise to"
    r"|so that|so|therefore|thus|before|prompt(?:ed|s)|trigger(?:ed|s))\b",
    re.I,
)
"""Words between cause and effect."""
_PASSIVE = re.compile(
    r"\b(?:was|were|is|are|been|being|be) (?:(?:first|\w+ly|also|later|then) )?(?:\w+ed|"
    + alternatives(PARTICIPLES)
    + r")\b(?: \w+){0,4} by\b"
    r"|\b(?:was|were|is|are) \w+ by\b|\b(?:built|made|written|painted|founded|invented|designed|discovered)(?: of \w+)? by\b",
    re.I,
)


def unknown_numbers(claim: ParsedText, passage: ParsedText) -> int:
    """Numbers, years and days of a month that the passage does not have."""
    ambiguous = ("first", "half", "one", "second")  # often no numbers
    known = {None, *passage.numbers}
    return sum(w.number not in known and w.text.lower() not in ambiguous for w in claim.words)


def wrong_months(claim: ParsedText, passage: ParsedText) -> int:
    """Months that the passage does not name."""
    return sum(w.text in MONTHS and w.text != "May" and w.text not in passage.text for w in claim.words)


def unknown_names(claim: ParsedText, passage: ParsedText) -> int:
    """Names that the passage does not have in any form. Forms are compared by their first four letters: British is one of
    Britain."""
    return sum(w.is_name and w.number is None and not _named(w, passage) for w in claim.words)


def unknown_starts(claim: ParsedText, passage: ParsedText) -> int:
    """First words of a sentence that may be names and that the passage does not have."""
    return sum(_may_be_name(w, claim) and not _named(w, passage) for w in claim.words)


def _may_be_name(word: Word, text: ParsedText) -> bool:
    low = word.text.lower()
    return (
        word.text[0].isupper()
        and not word.is_name
        and word.number is None
        and len(low) > 3
        and word.text not in SMALL_STARTS
        and low not in FUNCTION_WORDS
        and low not in SYNONYMS
        and low not in OPPOSITES
        and low not in _QUANTIFIER_KIND
        and not re.search(r"(?:ing|ed|ly|[^s]s|ion|ment|ness)$", low)
        and low not in _NO_NAMES
    )


def _named(word: Word, passage: ParsedText) -> bool:
    if word.stem in passage.stems or word.text in passage.text:
        return True
    if word.text.isupper() and word.text in passage.initials:
        return True
    return len(word.stem) >= 5 and word.stem[:4] in passage.stem_starts


def unknown_words(claim: ParsedText, passage: ParsedText) -> list[Word]:
    """Content words of which the passage has neither the word nor a synonym."""
    return [
        w
        for w in claim.words
        if w.is_content and w.number is None and not passage.has(w) and not (w.is_name and _named(w, passage))
    ]


def wrong_units(claim: ParsedText, passage: ParsedText) -> int:
    """Numbers that the passage has with another unit."""
    wrong = 0
    theirs = {(number, unit) for number, unit in _units(passage)}
    for number, unit in _units(claim):
        known = {u for n, u in theirs if n == number}
        wrong += bool(known) and unit not in known
    if not wrong:  # units with no number beside them: those that the passage never uses
        used = {_unit(w.text) for w in passage.words} | ({"percent"} if "cent" in passage.lower else set())
        wrong += sum(w.number is None and w.text.lower() in UNITS and _unit(w.text) not in used for w in claim.words)
    return wrong


def _units(text: ParsedText) -> list[tuple[str, str]]:
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


def denials(claim: ParsedText, source: ParsedText) -> int:
    """Words denied on one side only. The word after a denial (else the word before it) is looked for on the other side."""
    return _denied_on_one_side(claim, source) + _denied_on_one_side(source, claim)


def _denied_on_one_side(this: ParsedText, other: ParsedText) -> int:
    count = 0
    at = [p for p, word in enumerate(other.words) if _is_denial(word)]
    denied = {word.stem for p in at for word in other.words[max(0, p - 3) : p + 6]}
    for i, word in enumerate(this.words):
        if not _is_denial(word):
            continue
        after = [w for w in this.words[i + 1 : i + 6] if w.is_content and not _is_denial(w)][:1]
        before = [w for w in this.words[max(0, i - 3) : i] if w.is_content][-1:]
        said = next((w.stem for w in (*after, *before) if w.stem in other.stems), None)
        count += said is not None and said not in denied
    return count


def _is_denial(word: Word) -> bool:
    low = word.text.lower()
    return low in _DENIALS or low.endswith(("n't", "n’t"))


def new_quantifiers(claim: ParsedText, source: ParsedText) -> int:
    """Kinds of quantifier in the claim that the source does not use."""
    return len(_quantifier_kinds(claim) - _quantifier_kinds(source))


def swapped_quantifiers(claim: ParsedText, source: ParsedText) -> int:
    """Kinds of quantifier in the claim that replace another kind of the source."""
    ours, theirs = _quantifier_kinds(claim), _quantifier_kinds(source)
    return min(len(ours - theirs), len(theirs - ours))


def _quantifier_kinds(text: ParsedText) -> set[str]:
    after = [*(w.number for w in text.words[1:]), None][: len(text.words)]  # a claim of punctuation alone has no words
    kinds = {
        _QUANTIFIER_KIND[low]
        for w, number in zip(text.words, after, strict=True)
        if (low := w.text.lower()) in _QUANTIFIER_KIND and not (low in ("some", "many", "much") and number is not None)
    }
    return kinds | {name for name, pattern in _BOUNDS if pattern.search(text.text)}


def hedges(claim: ParsedText, source: ParsedText) -> int:
    """1 when one side hedges ("may", "perhaps") and the other does not, else 0."""
    return int(bool(claim.lower & _HEDGES) != bool(source.lower & _HEDGES))


def opposites(claim: ParsedText, source: ParsedText) -> int:
    """Words that the source does not have while it has their opposite."""
    return sum(
        (low := w.text.lower()) in OPPOSITES and low not in source.lower and any(o in source.lower for o in OPPOSITES[low])
        for w in claim.words
    )


def swapped_order(claim: ParsedText, source: ParsedText) -> float:
    """Fraction of shared pairs of neighbouring words that are in another order, 0 to 1: who did it, and to whom.

    Neighbours are content words at most five words apart on both sides. Words after a preposition are left out, since they may
    move. Where one side is passive and the other active, the reverse order is the expected one.
    """
    free = {key: [j for j in there if not _after_preposition(source, j)] for key, there in source.positions.items()}
    ours_at = [(i, free.get(w.key, [])) for i, w in enumerate(claim.words) if w.is_content and not _after_preposition(claim, i)]
    shared = [(i, there) for i, there in ours_at if there]
    same = other = 0
    gaps: dict[tuple[str, str], set[int]] = {}
    for k, (i, ours) in enumerate(shared):
        for j, theirs in shared[k + 1 : k + 6]:
            if j - i > 5:
                break
            if claim.words[i].stem == claim.words[j].stem:
                continue
            key = claim.words[i].key, claim.words[j].key
            if key not in gaps:  # words of a passage may be repeated without end
                gaps[key] = _gaps(ours, theirs) if len(ours) <= len(theirs) else {-gap for gap in _gaps(theirs, ours)}
            if j - i == 1 and 1 in gaps[key]:
                continue  # one name or phrase: it moves as a whole
            in_order = any(gap > 0 for gap in gaps[key])
            same, other = same + in_order, other + (bool(gaps[key]) and not in_order)
    if not same + other:
        return 0.0
    if bool(_PASSIVE.search(claim.text)) != bool(_PASSIVE.search(source.text)):
        same, other = max(same, other), min(same, other)
    return other / (same + other)


def _gaps(ours: Sequence[int], theirs: Sequence[int]) -> set[int]:
    """Differences of at most five between the places of two words."""
    return {b - a for a in ours for b in theirs[bisect_left(theirs, a - 5) : bisect_right(theirs, a + 5)]}


def _after_preposition(text: ParsedText, place: int) -> bool:
    return any(w.text.lower() in _PREPOSITIONS for w in text.words[max(0, place - 2) : place])


def displaced(claim: ParsedText, passage: ParsedText) -> tuple[float, float]:
    """For the content words beside a name or number of the claim, where the passage has both: the fractions (0 to 1) that the
    passage has only in another sentence than the name or number, and only in the same sentence but more than eight words away.
    """
    near = far = elsewhere = 0
    known: dict[tuple[str, str], tuple[bool, bool]] = {}
    within: dict[str, set[int]] = {}
    for i, word in enumerate(claim.words):
        places = passage.positions.get(word.key)
        if not places or not (word.is_name or word.number is not None):
            continue
        for other in claim.words[max(0, i - 3) : i] + claim.words[i + 1 : i + 4]:
            theirs = passage.positions.get(other.key) if other.is_content else None
            if theirs:
                key = word.key, other.key
                if key not in known:
                    few, many = sorted((places, theirs), key=len)
                    close = any(bisect_left(many, a - 8) < bisect_right(many, a + 8) for a in few)
                    for name, there in zip(key, (places, theirs), strict=True):
                        if name not in within:
                            within[name] = {passage.sentence_of_word[a] for a in there}
                    known[key] = close, not within[word.key].isdisjoint(within[other.key])
                close, same = known[key]
                near, far, elsewhere = near + close, far + (same and not close), elsewhere + (not same and not close)
    total = near + far + elsewhere
    return (elsewhere / total, far / total) if total else (0.0, 0.0)


def swapped_causes(claim: ParsedText, source: ParsedText) -> float:
    """1 when cause and effect are swapped against the source, 0.5 when only the claim names a cause, else 0."""
    ours, theirs = _cause_effect(claim.text), _cause_effect(source.text)
    if ours is None:
        return 0.0
    if theirs is None:
        return 0.5
    (c, e), (c_s, e_s) = ours, theirs
    straight, crossed = _overlap(c, c_s) + _overlap(e, e_s), _overlap(c, e_s) + _overlap(e, c_s)
    return 1.0 if crossed > straight else 0.0


def _cause_effect(text: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """Stems of (cause, effect) around the first causal or temporal word."""
    for pattern in (_EFFECT_FIRST, _CAUSE_FIRST):
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
        a, b = (frozenset(w.stem for w in ParsedText(part).words if w.is_content) for part in (left, right))
        return (a, b) if pattern is _CAUSE_FIRST else (b, a)
    return None


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, min(len(a), len(b)))


def word_list(claim: ParsedText) -> float:
    """How much the claim is a list of words: 0 for a sentence, 1 for words without grammar."""
    if len(claim.words) < 3:
        return 1.0
    share = sum(w.text.lower() in FUNCTION_WORDS for w in claim.words) / len(claim.words)
    return min(1.0, max(0.0, (0.22 - share) / 0.17))


def best_sentence(claim: str, passage: str) -> Support | None:
    """The sentence with the largest fraction of the claim's content words, the first of equals; None for a passage without
    sentences. For verifiers that do not compare token by token."""
    ours = {w.key for w in ParsedText(claim).words if w.is_content}
    best: tuple[float, Support] | None = None
    for start, end in sentence_spans(passage):
        theirs = {w.key for w in ParsedText(passage[start:end]).words}
        share = len(ours & theirs) / max(1, len(ours))
        if best is None or share > best[0]:
            best = (share, Support(passage[start:end], start, end))
    return best[1] if best else None


def join_sentences(sentences: Sequence[str]) -> ParsedText:
    """Parse sentences of a passage as one text."""
    return ParsedText(" ".join(sentences))
