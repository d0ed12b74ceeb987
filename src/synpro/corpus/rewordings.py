"""Other ways to say a sentence, by rule: what an honest rewrite does to it, so that a verifier does not take "word for word"
for "faithful".

Each rewording takes a sentence and a source of chance and gives the sentence in other words, or None where it does not apply.
They are cautious, and only mostly right: `stages/train_verifier.py` has a judge look at what they made. English only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from synpro.corpus.synonyms import SYNONYM, SYNONYMS, like

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MONTH = "|".join(MONTHS)
SPELLED = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_DIGITS = {digit: word for word, digit in SPELLED.items()}
PARTICIPLES = {
    "written": "wrote", "built": "built", "made": "made", "led": "led", "held": "held", "found": "found", "won": "won",
    "taken": "took", "given": "gave", "driven": "drove", "begun": "began", "broken": "broke", "chosen": "chose",
    "drawn": "drew", "known": "knew", "seen": "saw", "shown": "showed", "sung": "sang", "spoken": "spoke",
    "fought": "fought", "sold": "sold", "bought": "bought", "brought": "brought", "taught": "taught", "sent": "sent",
    "kept": "kept", "left": "left",
    "lost": "lost", "struck": "struck",
    "overthrown": "overthrew", "eaten": "ate", "burnt": "burnt",
}  # fmt: skip
"""Irregular past participle -> past tense, of verbs that take an object."""
_ABOUT = ("about", "around", "approximately", "roughly", "some")
_PAST = {past: participle for participle, past in PARTICIPLES.items()}
SMALL_STARTS = {
    "The", "A", "An", "It", "He", "She", "They", "We", "This", "These", "That", "Those", "There", "His", "Her", "Its", "Their",
    "Some", "Many", "Most", "Several", "All", "Both", "Each", "Every", "One", "Two", "Three", "Four", "Other", "Another", "In",
    "On", "At", "By", "From", "For", "With", "After", "Before", "During", "As", "When", "While", "Although", "Because", "Since",
    "Under", "Over", "However", "People", "No", "Not", "If", "Of", "To", "Such", "Few", "Half", "Only", "Once", "Until", "Here",
}  # fmt: skip
"""First words of a sentence that are no names, and lose their capital inside one."""
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


def lowered(text: str) -> str:
    """A sentence's text as it stands inside another: its first word loses its capital unless it may be a name."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} {rest}" if first in SMALL_STARTS else text


def raised(text: str) -> str:
    """With a capital first."""
    return text[:1].upper() + text[1:]


def body(sentence: str) -> tuple[str, str]:
    """(the sentence without its closing mark, the mark)."""
    bare = sentence.rstrip(".!?")
    return bare, sentence[len(bare) :] or "."


def synonyms(sentence: str, rng: Random) -> str | None:
    """Up to four words replaced by others that can stand for them."""
    found = [m for m in SYNONYM.finditer(sentence) if m.group().islower() or (m.start() == 0 and not m.group().isupper())]
    if not found:
        return None
    chosen = sorted(rng.sample(found, min(len(found), rng.randint(1, 4))), key=lambda m: m.start(), reverse=True)
    for match in chosen:
        other = rng.choice(SYNONYMS[match.group().lower()])
        sentence = sentence[: match.start()] + like(match.group(), other) + sentence[match.end() :]
    return sentence


def shortened(sentence: str, rng: Random) -> str | None:
    """Without one of its adjuncts. Not where something is denied or conditional: there an adjunct may carry the meaning."""
    if _NEGATED.search(sentence):
        return None
    bare, mark = body(sentence)
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
    options = [raised(o) + mark for o in options if o != bare and len(o.split()) >= 5]
    return rng.choice(options) if options else None


def reordered(sentence: str, rng: Random) -> str | None:
    """A part moved from the front to the end or back."""
    bare, mark = body(sentence)
    if ";" in bare or ":" in bare:
        return None
    front = re.match(rf"({_ADJUNCT} [^,]{{2,40}}), (\w[^,]*)$", bare)
    if front:
        return f"{raised(front[2])} {front[1][0].lower()}{front[1][1:]}{mark}"
    because = re.match(r"(.{12,}?),? (because|although|while|when|after|before|until) ([^,]{8,})$", bare)
    if because and "," not in because[1]:
        return f"{raised(because[2])} {lowered(because[3])}, {lowered(because[1])}{mark}"
    leading = re.match(r"(Because|Although|While|When|After|Before|Until) ([^,]{8,}), ([^,]{8,})$", bare)
    if leading:
        return f"{raised(leading[3])} {leading[1].lower()} {leading[2]}{mark}"
    back = re.match(
        rf"([^,]{{12,}}) ((?:in|on|at|during|since) (?:the |{MONTH}|about |late |early )*[A-Z0-9][\w ]{{2,20}})$", bare
    )
    if back and not _NEGATED.search(back[1]):
        return f"{raised(back[2])}, {lowered(back[1])}{mark}"
    return None


def voice(sentence: str, rng: Random) -> str | None:
    """Passive to active, or active to passive, for plain clauses in the past tense."""
    bare, mark = body(sentence)
    passive = re.match(
        r"([^,;:()]{3,60}?) (?:was|were) (\w+) by ((?:the )?[A-Z][\w .'’-]{2,40}?)((?: in| at| on| during) [^,;]*)?$", bare
    )
    if passive and not re.match(r"(?:It|He|She|They|This|There|I|We)\b", passive[1]) and "which" not in passive[0]:
        participle = passive[2]
        past = PARTICIPLES.get(participle, participle if re.fullmatch(r"[a-z]{3,}(?<!call)(?<!nam)ed", participle) else None)
        if past and not _CLAUSE.search(passive[3]):
            return f"{raised(passive[3])} {past} {lowered(passive[1])}{passive[4] or ''}{mark}"
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
            return f"{raised(active[3])} {active[4]} was {participle} by {lowered(active[1])}{active[5] or ''}{mark}"
    return None


def half(sentence: str, rng: Random) -> str | None:
    """One of two main clauses."""
    bare, mark = body(sentence)
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
            return raised(rng.choice(whole)) + mark
    return None


def entry(sentence: str, rng: Random) -> str | None:
    """A definition as an entry of a list: what it is about, then what is said of it."""
    found = re.match(r"((?:The |An? )?[A-Z][\w '’-]{2,40}?) (?:is|was|are|were) ((?:an?|the|one of) .{10,})$", sentence)
    if not found or found[1].split()[0] in SMALL_STARTS - {"The", "A", "An"}:
        return None
    return f"{found[1]}: {found[2]}"


def figures(sentence: str, rng: Random) -> str | None:
    """Numbers and dates written another way: two and 2, 3 May and May 3, 18 percent and 18%, 1,450 and 1450."""
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
    options = [raised(o) for o in options if o != sentence]
    return rng.choice(options) if options else None


def framed(sentence: str, rng: Random) -> str | None:
    """Said as something one knows."""
    frame = rng.choice(("It is known that", "According to the passage,", "The text says that", "We learn that", "In fact,"))
    return f"{frame} {lowered(sentence)}"


REWORDINGS: dict[str, Callable[[str, Random], str | None]] = {
    "synonyms": synonyms,
    "shortened": shortened,
    "reordered": reordered,
    "voice": voice,
    "half": half,
    "entry": entry,
    "figures": figures,
    "framed": framed,
}
"""Adding one: a function and a line here."""
_RARE = {"framed": 0.05, "entry": 0.5}
"""Share of the attempts in which one that (nearly) always applies is made at all."""


def reword(sentence: str, rng: Random) -> tuple[str, tuple[str, ...]]:
    """A sentence after up to three rewordings, and their names; unchanged and () where none applies."""
    names: list[str] = []
    for name in rng.sample(list(REWORDINGS), len(REWORDINGS)):
        if rng.random() > _RARE.get(name, 1.0):
            continue
        other = REWORDINGS[name](sentence, rng)
        if other is not None and other != sentence:
            sentence = other
            names.append(name)
            if len(names) == 3:
                break
    if "synonyms" not in names and rng.random() < 0.5:  # the commonest of all: once more, for sentences of plain words
        sentence = synonyms(sentence, rng) or sentence
    return sentence, tuple(names)
