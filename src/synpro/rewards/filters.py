"""Filters on generated text: what may be trained on, and why not. One function and one line in `RULES` or `BY_SCORE` each.

Synthesis drops what they reject. `RULES` need no model, so they are applied first, where an answer is parsed: what fails them
is not scored, and RL gives it the failing reward. `BY_SCORE` look at the scores of a judge, and RL at those scores themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from synpro.judges.text_stats import copied_share, repetition_ratio
from synpro.language.identification import language, other_language
from synpro.language.segmentation import count_words
from synpro.operations.base import OperationConfig
from synpro.plugins import registry
from synpro.records import Rewrite
from synpro.schema import setting

Scores = dict[str, float | None]
Failure = tuple[str, str]
"""Why a text is dropped: a short fixed reason that can be counted, and the reason in words, with the numbers."""


@dataclass(frozen=True)
class FilterConfig:
    """What a text must satisfy to be trained on. Limits of length and copying are in the table of its operation."""

    keep_truncated: bool = setting(False, source="ours")
    """Keep answers that were truncated at `max_new_tokens`; their last sentence is not whole."""
    same_language: bool = setting(True, source="ours")
    """Drop texts in another language than their passage (by script, then by py3langid where it is sure)."""
    max_repetition: float = setting(0.2, source="ours", min=0, max=1)
    """Largest share of the text's runs of 4 words that occurred in it before."""
    min_faithfulness: float = setting(0.5, source="ours", min=0, max=1)
    """Smallest share of the text's claims that the verifier calls faithful. 0 accepts every text."""
    max_version_overlap: float = setting(0.6, source="ours", min=0, max=1)
    """Largest share of the runs of 5 words of the shorter of two versions of a passage that the other has too; above it one of
    them is a near copy and is dropped. (Of pairs that SmolLM2-135M samples at temperature 0.7, 1% are above.)"""


@dataclass(frozen=True)
class Sample:
    """A rewrite with what the filters look at."""

    rewrite: Rewrite
    operation: OperationConfig
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Raw rewards by name; empty where nothing is scored yet."""

    @property
    def text(self) -> str:
        """The parsed text; empty where the answer did not parse."""
        return self.rewrite.text or ""

    @property
    def source(self) -> str:
        """The passage."""
        return self.rewrite.passage.text


# A filter says what is wrong with a sample, with the numbers, or None. They run in this order, and the first that objects gives
# the reason. All but the first two may rely on there being a text. The first line of a docstring is for readers of the texts.


def _no_answer(s: Sample, cfg: FilterConfig) -> str | None:
    """The generator gave no answer."""
    return s.rewrite.reason or "no reason given" if s.rewrite.finish == "error" else None


def _unparsed(s: Sample, cfg: FilterConfig) -> str | None:
    """The answer does not have the operation's form."""
    return s.rewrite.reason if s.rewrite.text is None else None


def _truncated(s: Sample, cfg: FilterConfig) -> str | None:
    """The answer was truncated at the limit of tokens."""
    truncated = s.rewrite.finish == "length" and not cfg.keep_truncated
    return f"truncated at the limit of {s.rewrite.tokens} tokens" if truncated else None


def _too_short(s: Sample, cfg: FilterConfig) -> str | None:
    """The text has too few words for its passage."""
    length, source = count_words(s.text), count_words(s.source)
    least = s.operation.length_limits(source)[0]
    return f"{length:.0f} words; at least {least:.0f} are asked of a passage of {source:.0f}" if length < least else None


def _too_long(s: Sample, cfg: FilterConfig) -> str | None:
    """The text has too many words for its passage."""
    length, source = count_words(s.text), count_words(s.source)
    most = s.operation.length_limits(source)[1]
    return f"{length:.0f} words; at most {most:.0f} are allowed for a passage of {source:.0f}" if length > most else None


def _loop(s: Sample, cfg: FilterConfig) -> str | None:
    """The text repeats itself."""
    share, most = repetition_ratio(s.text), cfg.max_repetition
    return f"{share:.0%} of its runs of 4 words are repeated; at most {most:.0%}" if share > most else None


def _language(s: Sample, cfg: FilterConfig) -> str | None:
    """The text is in another language than its passage."""
    code = other_language(s.text, s.source) if cfg.same_language else None
    return f"in {code}, its passage in {language(s.source)[0]}" if code else None


def _copy(s: Sample, cfg: FilterConfig) -> str | None:
    """The text copies too much of its passage."""
    share, most = copied_share(s.text, s.source), s.operation.max_copied
    return f"a copy: {share:.0%} of its words, or of its passage's; at most {most:.0%}" if share > most else None


def _unfaithful(s: Sample, cfg: FilterConfig) -> str | None:
    """The passage does not support enough of the text's claims."""
    value, least = s.scores.get("faithfulness"), cfg.min_faithfulness
    return None if value is None or value >= least else f"faithfulness {value:.2f}; at least {least} is asked"


def _no_verdict(s: Sample, cfg: FilterConfig) -> str | None:
    """The verifier has no verdict on any of the text's claims."""
    unknown = cfg.min_faithfulness > 0 and s.scores.get("faithfulness", 0.0) is None
    return "the verifier has no verdict on any of its claims" if unknown else None


Filter = Callable[[Sample, FilterConfig], str | None]
RULES: dict[str, Filter] = registry(
    "filter",
    {
        "no_answer": _no_answer,
        "unparsed": _unparsed,
        "truncated": _truncated,
        "too short": _too_short,
        "too long": _too_long,
        "loop": _loop,
        "language": _language,
        "copy": _copy,
    },
    object,
)
"""Filters that need no model, by the reason they give in the log of rejects."""
BY_SCORE: dict[str, Filter] = registry("filter", {"no verdict": _no_verdict, "support": _unfaithful}, object)
"""Filters on scores."""


def filter_reasons() -> dict[str, str]:
    """What each reason means, in one line: the first of its filter's docstring; empty for a filter without one."""
    return {reason: (inspect.getdoc(f) or "").partition("\n")[0] for reason, f in {**RULES, **BY_SCORE}.items()}


def rule_failure(sample: Sample, cfg: FilterConfig) -> Failure | None:
    """Why the rules drop a sample, or None when no rule objects."""
    return _first(RULES, sample, cfg)


def score_failure(sample: Sample, cfg: FilterConfig) -> Failure | None:
    """Why the scores of a sample that passes the rules drop it, or None when it is kept."""
    return _first(BY_SCORE, sample, cfg)


def _first(filters: Mapping[str, Filter], sample: Sample, cfg: FilterConfig) -> Failure | None:
    for reason, objection in filters.items():
        detail = objection(sample, cfg)
        if detail is not None:
            return reason, detail
    return None
