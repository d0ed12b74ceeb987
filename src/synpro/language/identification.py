"""The language of a text, by its script and by py3langid (97 languages), and whether two texts are in the same one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from synpro.language.scripts import main_script, script_of

SURE = 0.9
"""Probability from which the language of a text counts as known."""
MIN_ODDS = 20.0
"""Times as probable as the passage's language that another one must be for a text to be in it. py3langid's probabilities are
per text: on texts of 8 words or more of the test corpora (docs/languages.md) this accepts all in the right language."""
SAMPLE = 2000
"""Characters of a text that are looked at: half from its beginning, half from its middle."""
_RELATIVES = [set(some.split()) for some in ("no nb nn da", "hr bs sr", "id ms", "es gl", "cs sk", "zu xh", "de lb")]
"""Languages that are not told apart: a short text in one of them often counts as the other."""
_ONLY_LANGUAGE = {
    "Hangul": "ko", "Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Greek": "el", "Georgian": "ka",
    "Armenian": "hy", "Gurmukhi": "pa", "Gujarati": "gu", "Odia": "or", "Tamil": "ta", "Telugu": "te", "Kannada": "kn",
    "Malayalam": "ml", "Sinhala": "si", "Ethiopic": "am", "Hebrew": "he",
}  # fmt: skip
"""Scripts that nearly all text of which is in one language."""


def language(text: str) -> tuple[str, float]:
    """(ISO 639-1 code, its probability); 1 where the script says it: Japanese is Han with kana, Chinese is Han without."""
    by_script = _by_script(text)
    if by_script:
        return by_script, 1.0
    codes, probabilities = _ranked(_sample(text))
    best = int(np.argmax(probabilities))
    return codes[best], float(probabilities[best])


def known_language(text: str) -> str | None:
    """The language of a text where it is sure, else None."""
    code, probability = language(text)
    return code if probability >= SURE and main_script(text) else None


def _by_script(text: str) -> str | None:
    script = main_script(text)
    if script == "Han":
        kana = sum(script_of(c) == "Kana" for c in text)
        return "ja" if kana >= 0.05 * len(text) else "zh"
    return _ONLY_LANGUAGE.get(script or "")


def other_language(text: str, passage: str) -> str | None:
    """In which language a text is, where that is surely not the one of its passage; None where they agree or it is unsure.

    The scripts are compared first, for which two words are enough. Within a script the question is relative: not which language
    the text is in, but whether another one explains it better than the passage's language by far.
    """
    ours, theirs = main_script(text), main_script(passage)
    if ours and theirs and ours != theirs:
        return f"{language(text)[0]} ({ours} script)"
    if (by_script := _by_script(text)) and ours == theirs:
        short = by_script == "zh" and len(text) < 40  # a line of Japanese may be without kana
        return by_script if by_script != _by_script(passage) and not short else None
    expected, sure = language(passage)
    if sure < SURE or not ours:
        return None
    codes, probabilities = _ranked(_sample(text))
    allowed = {expected}.union(*(group for group in _RELATIVES if expected in group))
    inside = max((p for code, p in zip(codes, probabilities, strict=True) if code in allowed), default=0.0)
    best = int(np.argmax(probabilities))
    foreign = codes[best] not in allowed and probabilities[best] >= max(0.5, MIN_ODDS * inside)
    return codes[best] if foreign else None


def languages_of(texts: Iterable[str], least: float = 0.02) -> dict[str, float]:
    """Share of each language among texts, most frequent first; languages of fewer than `least` of them are left out, and texts
    whose language is unsure."""
    found = [code for code in map(known_language, texts) if code]
    shares = {code: found.count(code) / len(found) for code in sorted(set(found))}
    return dict(sorted(((c, s) for c, s in shares.items() if s >= least), key=lambda item: -item[1]))


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    middle = (len(text) - SAMPLE // 2) // 2
    return text[: SAMPLE // 2] + " " + text[middle : middle + SAMPLE // 2]


@lru_cache(maxsize=8192)
def _ranked(text: str) -> tuple[list[str], np.ndarray]:
    ranked = _identifier().rank(text)
    return [str(code) for code, _ in ranked], np.array([float(p) for _, p in ranked])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
