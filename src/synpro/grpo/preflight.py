"""Check before training that a sample of answers holds something that RL could learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synpro.records import Rewrite
from synpro.rewards.advantages import normalized_totals

MIN_GROUPS = 8
"""Groups without a spread from which it is no accident: in fewer, sampled once more, there may be one."""
TRUNCATED_WARNING = 0.2
"""Share of truncated answers above which there is a warning."""


class PreflightError(RuntimeError):
    """Training would learn nothing; the message says why and what to change."""


def zero_std_share(groups: Sequence[Sequence[Mapping[str, float | None]]], weights: Mapping[str, float]) -> float:
    """Share of groups in which all answers have the same advantage: nothing is learned from them."""
    if not groups:
        return 1.0
    totals = [normalized_totals(group, weights) for group in groups]
    return sum(max(t) - min(t) < 1e-9 for t in totals) / len(totals)


def preflight(
    groups: Sequence[Sequence[Rewrite]],
    scores: Sequence[Sequence[Mapping[str, float | None]]],
    weights: Mapping[str, float],
    max_new_tokens: int,
) -> list[str]:
    """Warnings in words. Raises PreflightError when nothing parses, everything is truncated, or the rewards are equal in each
    of MIN_GROUPS groups or more."""
    warnings: list[str] = []
    rewrites = [r for group in groups for r in group]
    if not rewrites:
        raise PreflightError("preflight: there are no passages to try; the train split is empty")
    truncated = sum(r.finish == "length" for r in rewrites) / len(rewrites)
    lengths = sorted(r.tokens for r in rewrites)
    if truncated == 1.0:
        raise PreflightError(
            f"preflight: all {len(rewrites)} answers were truncated at {max_new_tokens} tokens, so none would be kept."
            "\nRaise the operation's max_new_tokens, shorten the passages (prepare.passages), or show shorter worked"
            f" examples.\n{_samples(rewrites)}"
        )
    if all(r.text is None for r in rewrites):
        raise PreflightError(
            f"preflight: none of {len(rewrites)} answers has the form that was asked for, so every reward is the same.\n"
            "Use a stronger or instruction-tuned base, lower the temperature, or add a worked example that is closer to your"
            f" passages.\n{_samples(rewrites)}"
        )
    if zero_std_share(scores, weights) == 1.0:
        equal = (
            f"preflight: the answers of each passage earn the same reward in all {len(groups)} groups; GRPO learns from"
            " differences only.\nRaise the operation's temperature or num_generations, or check that the probe differs from its"
            f" checkpoint and that the reward weights are not 0.\n{_samples(rewrites)}"
        )
        if len(groups) >= MIN_GROUPS:
            raise PreflightError(equal)
        warnings.append(equal)
    if truncated > TRUNCATED_WARNING:
        warnings.append(
            f"preflight: {truncated:.0%} of the answers were truncated at {max_new_tokens} tokens (median answer"
            f" {lengths[len(lengths) // 2]}); they earn the failing reward. Raise the operation's max_new_tokens or shorten the"
            " passages."
        )
    return warnings


def _samples(rewrites: Sequence[Rewrite], count: int = 2) -> str:
    shown = []
    for r in rewrites[:count]:
        answer = r.answer.strip()
        shown.append(f"  {r.passage.id} ({r.tokens} tokens, {r.reason or r.finish}): {answer[:300]!r}")
    return "Answers, for example:\n" + "\n".join(shown)
