"""Filters on synthetic text: what may be trained on, and why not. One function and one line in `FILTERS` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synpro.judges.language import language
from synpro.judges.text_stats import overlap, repetition_ratio, words
from synpro.records import Rewrite
from synpro.schema import setting

Scores = dict[str, float | None]


@dataclass(frozen=True)
class FilterConfig:
    """What a text must satisfy to be trained on. `max_copied` comes from the table of its operation."""

    keep_truncated: bool = setting(False, source="ours")
    """Keep answers that were truncated at `max_new_tokens`; their last sentence is not whole."""
    min_length: float = setting(0.3, source="ours", min=0)
    """Fewest words of the text, over the words of its passage."""
    max_length: float = setting(2.0, source="ours", above=0)
    """Most words of the text, over the words of its passage. (The paper rewards rephrasings of at most 1.25.)"""
    same_language: bool = setting(True, source="ours")
    """Drop texts in another language than their passage (by py3langid, where it is at least 90% sure of both)."""
    max_repetition: float = setting(0.2, source="ours", min=0, max=1)
    """Largest share of the text's runs of 4 words that occurred in it before."""
    min_faithfulness: float = setting(0.5, source="ours", min=0, max=1)
    """Smallest share of the text's claims that the verifier calls faithful. 0 accepts every text."""

    def __post_init__(self) -> None:
        if self.min_length >= self.max_length:
            raise ValueError(f"min_length: {self.min_length} must be below max_length = {self.max_length}")


@dataclass(frozen=True)
class Sample:
    """A rewrite with what the filters look at."""

    rewrite: Rewrite
    scores: Scores
    """Raw rewards by name."""
    max_copied: float = 1.0
    """Largest share of copied words, by the config of its operation."""

    @property
    def text(self) -> str:
        """The parsed text; empty where the answer did not parse."""
        return self.rewrite.text or ""

    @property
    def source(self) -> str:
        """The passage."""
        return self.rewrite.passage.text

    @property
    def length_ratio(self) -> float:
        """Words of the text over words of its passage."""
        return len(words(self.text)) / max(1, len(words(self.source)))


# A filter says what is wrong with a sample, with the numbers, or None. They run in this order, and the first that objects gives
# the reason. All but `unparsed` may rely on there being a text.


def _unparsed(s: Sample, cfg: FilterConfig) -> str | None:
    return s.rewrite.reason if s.rewrite.text is None else None


def _truncated(s: Sample, cfg: FilterConfig) -> str | None:
    truncated = s.rewrite.finish == "length" and not cfg.keep_truncated
    return f"truncated at the limit of {s.rewrite.tokens} tokens" if truncated else None


def _too_short(s: Sample, cfg: FilterConfig) -> str | None:
    ratio, least = s.length_ratio, cfg.min_length
    return f"{ratio:.2f} times as long as its passage; at least {least} is asked" if ratio < least else None


def _too_long(s: Sample, cfg: FilterConfig) -> str | None:
    ratio, most = s.length_ratio, cfg.max_length
    return f"{ratio:.2f} times as long as its passage; at most {most} is asked" if ratio > most else None


def _loop(s: Sample, cfg: FilterConfig) -> str | None:
    share, most = repetition_ratio(s.text), cfg.max_repetition
    return f"{share:.0%} of its runs of 4 words are repeated; at most {most:.0%}" if share > most else None


def _language(s: Sample, cfg: FilterConfig) -> str | None:
    if not cfg.same_language:
        return None
    (ours, sure), (theirs, source_sure) = language(s.text), language(s.source)
    return f"in {ours!r}, its passage in {theirs!r}" if ours != theirs and min(sure, source_sure) >= 0.9 else None


def _copy(s: Sample, cfg: FilterConfig) -> str | None:
    share, most = overlap(s.text, s.source).share, s.max_copied
    return f"{share:.0%} of its words are copied from its passage word for word; at most {most:.0%}" if share > most else None


def _unfaithful(s: Sample, cfg: FilterConfig) -> str | None:
    value, least = s.scores.get("faithfulness"), cfg.min_faithfulness
    return None if value is None or value >= least else f"faithfulness {value:.2f}; at least {least} is asked"


FILTERS: dict[str, Callable[[Sample, FilterConfig], str | None]] = {
    "unparsed": _unparsed,
    "truncated": _truncated,
    "too short": _too_short,
    "too long": _too_long,
    "loop": _loop,
    "language": _language,
    "copy": _copy,
    "support": _unfaithful,
}
"""Filter by the reason it gives in the log of rejects."""


def first_failure(sample: Sample, cfg: FilterConfig) -> tuple[str, str] | None:
    """Why a sample is dropped (reason, detail), or None when it is kept."""
    for reason, objection in FILTERS.items():
        detail = objection(sample, cfg)
        if detail is not None:
            return reason, detail
    return None
