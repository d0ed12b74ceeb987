"""The language of a text, by its script and by py3langid (about 140 languages), and whether two texts are in the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from typing import Any

from synpro.language.scripts import main_script, script_of

SURE = 0.9
"""Probability from which the language of a text counts as known."""
MIN_ODDS = 20.0
"""Times as probable as the passage's language that another one must be for a text to be in it. py3langid's probabilities are
per text: on texts of 8 words or more of the test corpora (docs/languages.md) this accepts all in the right language."""
UNLIKELY = 0.003
"""Probability below which a text of unsure language is in none of some languages. A text that says nothing of its language has
0.007 for each; of 7,300 English texts the least sure one has 0.0045 for English, a list of the word God in many languages."""
UNSURE = "unsure"
"""Stands for the language of a text where that is not known."""
SAMPLE = 2000
"""Characters of a text that are looked at: half from its beginning, half from its middle."""
_RELATIVES = [
    set(some.split())
    for some in (
        *("no nb nn da", "hr bs sr", "id ms", "es gl an ext", "pt gl", "cs sk", "zu xh", "de lb"),
        *("ar ary arz", "zh yue wuu", "tl bcl ceb"),
    )
]
"""Languages that are not told apart: a short text in one of them often counts as the other."""
_ONLY_LANGUAGE = {
    "Hangul": "ko", "Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Greek": "el", "Georgian": "ka",
    "Armenian": "hy", "Gurmukhi": "pa", "Gujarati": "gu", "Odia": "or", "Tamil": "ta", "Telugu": "te", "Kannada": "kn",
    "Malayalam": "ml", "Sinhala": "si", "Ethiopic": "am", "Hebrew": "he",
    "Tibetan": "bo", "Thaana": "dv", "Syriac": "syr", "Nko": "nqo", "Tifinagh": "zgh", "Cherokee": "chr", "Canadian": "iu",
    "Mongolian": "mn", "Ol": "sat", "Meetei": "mni", "Yi": "ii", "Javanese": "jv",
}  # fmt: skip
"""Scripts that nearly all text of which is in one language."""
_LANGUAGES_IN = {
    "Arabic": "ar ary arz fa ps sdh ug ur uzs",
    "Cyrillic": "ba be bg kk ky mk mn ru sr tg tt uk uz",
    "Devanagari": "gom hi mr ne sa",
    "Bengali": "as bn",
}
"""The languages of py3langid in scripts of several languages. Those in neither table are written in Latin letters."""


def language(text: str) -> tuple[str, float]:
    """(ISO 639 code, probability of it and its relatives); 1 where the script says it: Japanese is Han with kana, Chinese is
    Han without."""
    by_script = _by_script(text)
    if by_script:
        return by_script, 1.0
    found = _probabilities(_sample(text))
    best = max(found, key=lambda code: found[code])
    return best, _mass(found, relatives(best))


def known_language(text: str) -> str | None:
    """The language of a text where it is sure, else None."""
    code, probability = language(text)
    return code if probability >= SURE and main_script(text) else None


def may_be(text: str, languages: Collection[str]) -> bool:
    """Whether a text may be in one of some languages or their relatives; in any where none is named.

    Where its language is unsure, no language of another script is possible, and none whose probability is below `UNLIKELY`.
    Of a language that py3langid lacks nobody can say so.
    """
    if not languages:
        return True
    allowed = {other for code in languages for other in relatives(code)}
    if code := known_language(text):
        return code in allowed
    found = _probabilities(_sample(text))
    if not found.keys() >= set(languages):
        return True
    script = main_script(text)
    if script not in ("Latin", None):
        allowed &= set(_LANGUAGES_IN.get(script, "").split())
    return _mass(found, allowed) >= UNLIKELY


def relatives(code: str) -> set[str]:
    """The languages that are not told apart from one, itself included."""
    return {code}.union(*(group for group in _RELATIVES if code in group))


def _mass(found: dict[str, float], codes: Iterable[str]) -> float:
    return sum(found.get(code, 0.0) for code in sorted(codes))


def _by_script(text: str) -> str | None:
    script = main_script(text)
    if script == "Han":
        kana = sum(script_of(c) == "Kana" for c in text)
        return "ja" if kana >= 0.05 * len(text) else "zh"
    return _ONLY_LANGUAGE.get(script or "")


def other_language(text: str, passage: str) -> str | None:
    """In which language a text is, where that is surely not the one of its passage; None where they agree or it is unsure.

    The scripts are compared first, for which two words are enough. Within a script the question is relative: not which language
    the text is in, but whether another one explains it better than the passage's language by far. Where the passage's language
    is unsure, the text's must be sure, and improbable for the passage.
    """
    ours, theirs = main_script(text), main_script(passage)
    if ours and theirs and ours != theirs:
        return f"{language(text)[0]} ({ours} script)"
    if (by_script := _by_script(text)) and ours == theirs:
        short = by_script == "zh" and len(text) < 40  # a line of Japanese may be without kana
        return by_script if by_script != _by_script(passage) and not short else None
    if not ours:
        return None
    expected = known_language(passage)
    if expected is None:
        known = known_language(text)
        return known if known and not may_be(passage, (known,)) else None
    found, allowed = _probabilities(_sample(text)), relatives(expected)
    best = max(found, key=lambda code: found[code])
    foreign = best not in allowed and found[best] >= max(0.5, MIN_ODDS * _mass(found, allowed))
    return best if foreign else None


def languages_of(texts: Iterable[str], least: float = 0.02) -> dict[str, float]:
    """Share of each language among texts, and of `UNSURE`; most frequent first. Those of fewer than `least` of them are left
    out."""
    found = Counter(known_language(text) or UNSURE for text in texts)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return {code: count / found.total() for code, count in ranked if count >= least * found.total()}


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    middle = (len(text) - SAMPLE // 2) // 2
    return text[: SAMPLE // 2] + " " + text[middle : middle + SAMPLE // 2]


@lru_cache(maxsize=8192)
def _probabilities(text: str) -> dict[str, float]:
    """Probability of each language, best first; py3langid lists a language of two scripts twice."""
    found: dict[str, float] = {}
    for code, probability in _identifier().rank(text):
        found[str(code)] = found.get(str(code), 0.0) + float(probability)
    return found


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
