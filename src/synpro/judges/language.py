"""The language of a text (py3langid, 97 languages). The model is opened at the first call."""

from __future__ import annotations

from functools import cache
from typing import Any


def language(text: str) -> tuple[str, float]:
    """(ISO 639-1 code, its probability)."""
    code, probability = _identifier().classify(text)
    return str(code), float(probability)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
