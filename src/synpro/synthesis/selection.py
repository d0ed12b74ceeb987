"""Which of a passage's texts are kept: all different ones that pass, or the best of them.

A near copy of a better version adds little that is new and is dropped, so that what is kept, and trained on, is varied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synpro.judges.text_stats import copied_share, words
from synpro.operations.base import OperationConfig
from synpro.rewards.advantages import is_value, normalized_totals
from synpro.synthesis.answers import Answer, passing

CHOICES = ("near copy", "not selected")
"""Why a text that passes the filters is not kept."""
RUN = 5
"""Words of the runs that two versions may share."""


def version_overlap(one: str, other: str) -> float:
    """Share of the runs of 5 words of the shorter text (by its runs) that the other has too, 0 to 1; of texts with fewer words,
    1 for the same words and 0 else."""
    ours, theirs = words(one), words(other)
    runs, others = _runs(ours), _runs(theirs)
    if not runs or not others:
        return float(ours == theirs)
    return len(runs & others) / min(len(runs), len(others))


def count_distinct(answers: Sequence[Answer], max_overlap: float) -> int:
    """How many of the passing answers to one passage are no near copy of an earlier one."""
    kept: list[Answer] = []
    for answer in passing(answers):
        if _nearest(answer, kept)[0] <= max_overlap:
            kept.append(answer)
    return len(kept)


def select(groups: Sequence[Sequence[Answer]], operation: OperationConfig, max_overlap: float) -> None:
    """Choose the texts that are kept among the passing answers to each passage; the others get a failure that says why not.

    Where more candidates are wanted than versions, the best come first: `selection` and `rank` say what was compared. Scores
    are compared within a passage; the deviations that the weighted sum divides by are those of all groups together.
    """
    candidates = [passing(group) for group in groups]
    if operation.selects:
        for group, values in zip(candidates, _values(candidates, operation), strict=True):
            for answer, value in zip(group, values, strict=True):
                answer.selection = value
    for group in candidates:
        _choose(group, operation, max_overlap)


def _choose(group: Sequence[Answer], operation: OperationConfig, max_overlap: float) -> None:
    chosen: list[Answer] = []
    left = sorted(group, key=lambda a: (0.0 if a.selection is None else -a.selection, a.version))
    for rank in range(1, len(left) + 1):
        if operation.selects and operation.select_by == "variety":  # depends on what is chosen already
            for answer in left:
                answer.selection = 1 - max(version_overlap(answer.text, t) for t in _known(answer, chosen))
            left.sort(key=lambda a: (-(a.selection or 0.0), a.version))
        answer = left.pop(0)
        answer.rank = rank if operation.selects else None
        share, nearest = _nearest(answer, chosen)
        if share > max_overlap and nearest is not None:
            detail = f"{share:.0%} of its runs of {RUN} words are in version {nearest.version}; at most {max_overlap:.0%}"
            answer.failure = ("near copy", detail)
        elif len(chosen) < operation.num_versions:
            chosen.append(answer)
        else:
            value = "" if answer.selection is None else f"{operation.select_by} {answer.selection:.4g}, "
            answer.failure = ("not selected", f"{value}rank {rank} of {len(group)}; {operation.num_versions} are kept")


def _values(groups: Sequence[Sequence[Answer]], operation: OperationConfig) -> list[list[float]]:
    """What each candidate is selected by, higher is better."""
    name = operation.select_by
    if name == "reward":
        return _weighted_sums(groups, operation)
    if name == "variety":
        return [[0.0] * len(group) for group in groups]  # found out while choosing
    value: Callable[[Answer], float | None]
    if name == "least_copied":
        value = lambda answer: 1 - copied_share(answer.text, answer.rewrite.passage.text)  # noqa: E731
    else:
        value = lambda answer: answer.scored.scores.get(name) if answer.scored else None  # noqa: E731
    return [[float("-inf") if (v := value(answer)) is None else v for answer in group] for group in groups]


def _weighted_sums(groups: Sequence[Sequence[Answer]], operation: OperationConfig) -> list[list[float]]:
    """The rubric's weighted sum of each candidate, each reward as its difference from the mean of its passage, in deviations of
    such differences over all passages; one that fails a reward is below all that have it."""
    centred: list[dict[str, float | None]] = []
    for group in groups:
        scores = [answer.scored.scores if answer.scored else {} for answer in group]
        for own in scores:
            row: dict[str, float | None] = {}
            for name in operation.weights:
                known = [v for s in scores if (v := s.get(name)) is not None and is_value(v)]
                value = own.get(name)
                row[name] = value - sum(known) / len(known) if value is not None and is_value(value) else value
            centred.append(row)
    sums = iter(normalized_totals(centred, operation.weights))
    return [[next(sums) for _ in group] for group in groups]


def _nearest(answer: Answer, others: Sequence[Answer]) -> tuple[float, Answer | None]:
    """The largest overlap with one of the others, and which one it is."""
    shares = [(version_overlap(answer.text, other.text), other) for other in others]
    return max(shares, key=lambda pair: pair[0], default=(0.0, None))


def _known(answer: Answer, chosen: Sequence[Answer]) -> list[str]:
    return [answer.rewrite.passage.text, *(other.text for other in chosen)]


def _runs(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1)}
