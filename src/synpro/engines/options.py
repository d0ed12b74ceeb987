"""Options scored by the first token of the answer: what `score_options` of every engine shares. No model here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def check_options(options: Sequence[str]) -> None:
    """Raise ValueError for options that the beginning of an answer cannot tell apart."""
    if len(options) < 2:
        raise ValueError(f"options: {list(options)!r} leave nothing to score; give two or more")
    for option in options:
        if not option.strip() or option != option.strip():
            raise ValueError(f"options: {option!r} is empty or has spaces around it; give a bare word or letter")
        if any(other is not option and other.startswith(option) for other in options):
            raise ValueError(f"options: {option!r} begins another of {list(options)!r}; use options that begin differently")


def match_option(token: str, options: Sequence[str]) -> int | None:
    """Index of the only option that an answer beginning with this token can become; None for no option, or for several."""
    start = token.strip()
    fits = [i for i, option in enumerate(options) if start and option.startswith(start)]
    return fits[0] if len(fits) == 1 else None


def option_probs(tokens: Iterable[tuple[str, float]], options: Sequence[str]) -> list[float] | None:
    """Probability of each option, normalised over the options, from (token, natural log-probability) of an answer's first
    token; None when no option is among the tokens."""
    logs: list[list[float]] = [[] for _ in options]
    for token, logprob in tokens:
        option = match_option(token, options)
        if option is not None and logprob > -math.inf:
            logs[option].append(logprob)
    top = max((x for some in logs for x in some), default=None)
    if top is None:
        return None
    masses = [math.fsum(math.exp(x - top) for x in some) for some in logs]
    whole = math.fsum(masses)
    return [mass / whole for mass in masses]
