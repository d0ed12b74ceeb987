"""Paraphrases of a sentence by rule: what an honest rewrite does to it, so that a verifier does not learn that only a copy is
faithful.

Each takes a sentence and a random generator and returns the sentence in other words, or None where it does not apply. The rules
are cautious but not always right: `stages/train_verifier.py` drops the results that the encoder does not confirm. English only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from synpro.faithfulness.lexicon import (
    MONTH,
    PARTICIPLES,
    SMALL_STARTS,
    SPELLED,
    SYNONYM_PATTERN,
    SYNONYMS,
    match_case,
)

_DIGITS = {digit: word for word, digit in SPELLED.items()}
_PAST = {past: participle for participle, past in PARTICIPLES.items()}
_ABOUT = ("about", "around", "approximately", "roughly", "some")
_ADJUNCT = r"(?:In|On|At|During|After|Before|From|Since|Throughout|Within|Under|By|Around|Between)"
_DROPPED_STARTS = (
    r"(?:However|Moreover|Furthermore|In addition|For example|For instance|Nevertheless|Thus|Also|Then|Finally|Indeed)"
)
_DROPPED_WORDS = re.compile(
    r" (?:also|very|quite|rather|indeed|therefore|thus|then|later|soon|eventually|finally|directly|largely|simply|actually|"
    r"particularly|especially|famously|notably|subsequently|additionally|relatively|fairly|highly)(?= \w)"
)
_NEGATED = re.compile(r"\b(?:not|no|never|none|neither|nor|without|unless|if|only|n't)\b|n't\b", re.IGNORECASE)
_CLAUSE = re.compile(r"\b(?:and|but|or|that|which|who|is|are|was|were|has|had|have|be|been|\w+ing)\b")
_FINITE = re.compile(r"\b(?:is|are|was|were|has|have|had|did|does|can|could|would|may|might|became|began|led|\w{2,}ed)\b")


def decapitalize(text: str) -> str:
    """Prepare a sentence to follow other words: its first word loses its capital unless it may be a name."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} {rest}" if first in SMALL_STARTS else text


def capitalize(text: str) -> str:
    """Make the first letter a capital."""
    return text[:1].upper() + text[1:]


def split_mark(sentence: str) -> tuple[str, str]:
    """(the sentence without its closing mark, the mark); a full stop where it has none."""
    bare = sentence.rstrip(".!?")
    return bare, sentence[len(bare) :] or "."


def with_synonyms(sentence: str, rng: Random) -> str | None:
    """Replace up to four words by synonyms."""
    found = [
        m for m in SYNONYM_PATTERN.finditer(sentence) if m.group().islower() or (m.start() == 0 and not m.group().isupper())
    ]
    if not found:
        return None
    chosen = sorted(rng.sample(found, min(len(found), rng.randint(1, 4))), key=lambda m: m.start(), reverse=True)
    for match in chosen:
        other = rng.choice(SYNONYMS[match.group().lower()])
        sentence = sentence[: match.start()] + match_case(match.group(), other) + sentence[match.end() :]
    return sentence


def without_adjunct(sentence: str, rng: Random) -> str | None:
    """Remove one adjunct. Not where something is denied or conditional: there an adjunct may carry the meaning."""
    if _NEGATED.search(sentence):
        return None
    bare, mark = split_mark(sentence)
    options = [
        re.sub(r" ?\([^()]*\)", "", bare, count=1),
        re.sub(rf"^{_DROPPED_STARTS}, ", "", bare),
        re.sub(rf"^{_ADJUNCT} [^,]{{2,40}}, (?=\w)", "", bare),
        _DROPPED_WORDS.sub("", bare, count=1),
        re.sub(r", (?:which|who|whose|where) [^,]*$", "", bare),
        re.sub(r", (?:which|who|whose|where) [^,]*,", "", bare, count=1),
        re.sub(r", (?:a|an|the) [^,]{4,50}, (?=\w+ )", " ", bare, count=1),
        re.sub(r"(?<=[a-z]{3}),? (?:in|during|since|from|at|on) (?:the |late |early |about )*[A-Z0-9][\w ]{2,24}$", "", bare),
        re.sub(r", (?:and|but|while|although|\w+ing) [^,]{8,}$", "", bare),
    ]
    options = [capitalize(o) + mark for o in options if o != bare and len(o.split()) >= 5]
    return rng.choice(options) if options else None


def reordered(sentence: str, rng: Random) -> str | None:
    """Move a part from the front to the end, or from the end to the front."""
    bare, mark = split_mark(sentence)
    if ";" in bare or ":" in bare:
        return None
    front = re.match(rf"({_ADJUNCT} [^,]{{2,40}}), (\w[^,]*)$", bare)
    if front:
        return f"{capitalize(front[2])} {front[1][0].lower()}{front[1][1:]}{mark}"
    because = re.match(r"(.{12,}?),? (because|although|while|when|after|before|until) ([^,]{8,})$", bare)
    if because and "," not in because[1]:
        return f"{capitalize(because[2])} {decapitalize(because[3])}, {decapitalize(because[1])}{mark}"
    leading = re.match(r"(Because|Although|While|When|After|Before|Until) ([^,]{8,}), ([^,]{8,})$", bare)
    if leading:
        return f"{capitalize(leading[3])} {leading[1].lower()} {leading[2]}{mark}"
    back = re.match(
        rf"([^,]{{12,}}) ((?:in|on|at|during|since) (?:the |{MONTH}|about |late |early )*[A-Z0-9][\w ]{{2,20}})$", bare
    )
    if back and not _NEGATED.search(back[1]):
        return f"{capitalize(back[2])}, {decapitalize(back[1])}{mark}"
    return None


def change_voice(sentence: str, rng: Random) -> str | None:
    """Turn passive into active, or active into passive, for plain clauses in the past tense."""
    bare, mark = split_mark(sentence)
    passive = re.match(
        r"([^,;:()]{3,60}?) (?:was|were) (\w+) by ((?:the )?[A-Z][\w .'’-]{2,40}?)((?: in| at| on| during) [^,;]*)?$", bare
    )
    if passive and not re.match(r"(?:It|He|She|They|This|There|I|We)\b", passive[1]) and "which" not in passive[0]:
        participle = passive[2]
        past = PARTICIPLES.get(participle, participle if re.fullmatch(r"[a-z]{3,}(?<!call)(?<!nam)ed", participle) else None)
        if past and not _CLAUSE.search(passive[3]):
            return f"{capitalize(passive[3])} {past} {decapitalize(passive[1])}{passive[4] or ''}{mark}"
    active = re.match(
        r"((?:The |An? )?[A-Z][\w .'’-]{2,40}?) (\w+) (the|an?) ([^,;:()]{3,40}?)((?: in| at| on| during) [^,;]*)?$", bare
    )
    if (
        active
        and active[1].split()[0] not in SMALL_STARTS - {"The", "A", "An"}
        and not re.search(r" (?:and|or|of|that) ", active[4])
    ):
        verb = active[2]
        participle = _PAST.get(verb, verb if re.fullmatch(r"[a-z]{3,}ed", verb) else "")
        if participle and not _CLAUSE.search(active[1]):
            return f"{capitalize(active[3])} {active[4]} was {participle} by {decapitalize(active[1])}{active[5] or ''}{mark}"
    return None


def one_clause(sentence: str, rng: Random) -> str | None:
    """Keep one of two main clauses."""
    bare, mark = split_mark(sentence)
    for cut in re.finditer(
        r"(?:, (?:and|but|so|yet)|;) (?=(?:he|she|it|they|this|these|the|an?|his|her|its|their|[A-Z]\w+) )", bare
    ):
        first, second = bare[: cut.start()], bare[cut.end() :]
        whole = [part for part in (first, second) if len(part.split()) >= 5 and _FINITE.search(part)]
        if (
            len(whole) == 2
            and not _NEGATED.search(first)
            and not re.match(r"(?:If|When|While|Although|Because|As|Once)\b", first)
        ):
            return capitalize(rng.choice(whole)) + mark
    return None


def as_definition(sentence: str, rng: Random) -> str | None:
    """Turn a definition into an entry of a list: "Braille is a script" into "Braille: a script"."""
    found = re.match(r"((?:The |An? )?[A-Z][\w '’-]{2,40}?) (?:is|was|are|were) ((?:an?|the|one of) .{10,})$", sentence)
    if not found or found[1].split()[0] in SMALL_STARTS - {"The", "A", "An"}:
        return None
    return f"{found[1]}: {found[2]}"


def number_format(sentence: str, rng: Random) -> str | None:
    """Write numbers and dates in another format: two and 2, 3 May and May 3, 18 percent and 18%, 1,450 and 1450."""
    options = [
        re.sub(r"\b(?:approximately|roughly|about|around)(?= \d)", lambda m: rng.choice(_ABOUT), sentence),
        re.sub(rf"\b(\d{{1,2}}) ({MONTH})\b", r"\2 \1", sentence),
        re.sub(rf"\b({MONTH}) (\d{{1,2}})(?:, (?=\d{{4}}))", r"\2 \1 ", sentence),
        re.sub(r"(\d) ?(?:percent|per cent)\b", r"\1%", sentence),
        re.sub(r"(\d)%", r"\1 percent", sentence),
        re.sub(r"\b(\d{1,3}),(\d{3})\b", r"\1\2", sentence),
        re.sub(r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b", lambda m: SPELLED[m[0]], sentence, count=1),
        re.sub(r"(?<![\d.,-])([2-9]|1[0-2])(?= [a-z]{3,})", lambda m: _DIGITS[m[0]], sentence, count=1),
        re.sub(r"\b(\d) ?(?:km|kilometers)\b", r"\1 kilometres", sentence),
    ]
    options = [capitalize(o) for o in options if o != sentence]
    return rng.choice(options) if options else None


def with_preamble(sentence: str, rng: Random) -> str | None:
    """Put a phrase such as "It is known that" in front."""
    preamble = rng.choice(("It is known that", "According to the passage,", "The text says that", "We learn that", "In fact,"))
    return f"{preamble} {decapitalize(sentence)}"


PARAPHRASES: dict[str, Callable[[str, Random], str | None]] = {
    "synonyms": with_synonyms,
    "shortened": without_adjunct,
    "reordered": reordered,
    "voice": change_voice,
    "one_clause": one_clause,
    "as_definition": as_definition,
    "number_format": number_format,
    "with_preamble": with_preamble,
}
"""Name -> paraphrase. Adding one: a function and a line here. The order decides which one a seed gives."""
_RARE = {"with_preamble": 0.05, "as_definition": 0.5}
"""Probability with which a paraphrase that (nearly) always applies is tried at all."""


def paraphrase(sentence: str, rng: Random) -> tuple[str, tuple[str, ...]]:
    """Apply up to three paraphrases; returns the sentence and their names, or the same sentence and () where none applies."""
    names: list[str] = []
    for name in rng.sample(list(PARAPHRASES), len(PARAPHRASES)):
        if rng.random() > _RARE.get(name, 1.0):
            continue
        other = PARAPHRASES[name](sentence, rng)
        if other is not None and other != sentence:
            sentence = other
            names.append(name)
            if len(names) == 3:
                break
    if "synonyms" not in names and rng.random() < 0.5:  # the most common one: once more, for sentences of plain words
        sentence = with_synonyms(sentence, rng) or sentence
    return sentence, tuple(names)
