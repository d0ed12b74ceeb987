"""Checks on synthetic text: what may be trained on, and why not. One function and one line in the table each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from synpro.judges.rules import looped, overlap, words
from synpro.records import Rewrite

Scores = dict[str, float | None]


class Limits(Protocol):
    """What the checks ask for; `stages/synthesize.py` says what each means."""

    @property
    def clipped(self) -> bool: ...
    @property
    def min_length(self) -> float: ...
    @property
    def max_length(self) -> float: ...
    @property
    def same_language(self) -> bool: ...
    @property
    def max_copied(self) -> dict[str, float]: ...
    @property
    def max_looped(self) -> float: ...
    @property
    def min_support(self) -> float: ...


# A check says what is wrong with a rewrite, with the numbers, or None. They run in this order; the first that objects names the
# reason. All but `unparsed` may rely on there being a text.


def _unparsed(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    return r.reason if r.text is None else None


def _clipped(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    return f"cut at the limit of {r.tokens} tokens" if r.finish == "length" and not cfg.clipped else None


def _ratio(r: Rewrite) -> float:
    return len(words(r.text or "")) / max(1, len(words(r.passage.text)))


def _short(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    ratio = _ratio(r)
    return f"{ratio:.2f} times as long as its passage; at least {cfg.min_length} is asked" if ratio < cfg.min_length else None


def _long(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    ratio = _ratio(r)
    return f"{ratio:.2f} times as long as its passage; at most {cfg.max_length} is asked" if ratio > cfg.max_length else None


def _loop(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    share = looped(r.text or "")
    return f"{share:.0%} of its runs of 4 words are repeated; at most {cfg.max_looped:.0%}" if share > cfg.max_looped else None


def _language(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    if not cfg.same_language:
        return None
    (ours, sure), (theirs, source_sure) = _classify(r.text or ""), _classify(r.passage.text)
    return f"in {ours!r}, its passage in {theirs!r}" if ours != theirs and min(sure, source_sure) >= 0.9 else None


def _copy(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    limit = cfg.max_copied.get(r.operation, 1.0)
    share = overlap(r.text or "", r.passage.text).share
    return f"{share:.0%} of its words stand in its passage word for word; at most {limit:.0%}" if share > limit else None


def _support(r: Rewrite, scores: Scores, cfg: Limits) -> str | None:
    value = scores.get("faithfulness")
    if value is None or value >= cfg.min_support:
        return None
    return f"faithfulness {value:.2f}; at least {cfg.min_support} is asked"


CHECKS: dict[str, Callable[[Rewrite, Scores, Limits], str | None]] = {
    "unparsed": _unparsed,
    "clipped": _clipped,
    "too short": _short,
    "too long": _long,
    "loop": _loop,
    "language": _language,
    "copy": _copy,
    "support": _support,
}
"""Reason in the reject ledger -> check. Adding one: a function and a line here."""


def judge(rewrite: Rewrite, scores: Scores, cfg: Limits) -> tuple[str, str] | None:
    """Why a rewrite is dropped (reason, detail), or None when it is kept."""
    for reason, check in CHECKS.items():
        detail = check(rewrite, scores, cfg)
        if detail is not None:
            return reason, detail
    return None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _classify(text: str) -> tuple[str, float]:
    language, probability = _identifier().classify(text)
    return str(language), float(probability)
