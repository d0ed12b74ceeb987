"""Faithfulness: the share of an output's claims that its passage supports (paper: an unreleased fine-tune of Qwen3-1.7B).

Every entry (reformat) and every sentence (rephrase) is a claim, checked against the whole passage by the run's verifier. A
claim that is repeated counts once, and a text that is no statement (a list of the passage's words) is not faithful, whatever
the verifier says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from synpro.judges.base import Verdict, Verifier
from synpro.judges.text_stats import reads_like, words
from synpro.operations.base import Operation
from synpro.records import Rewrite, digest_of
from synpro.rewards.base import Reward, RewardContext, is_remote
from synpro.rewards.config import FaithfulnessConfig

MIN_FORM = 0.25
"""How well formed a claim must be by rule, over the same of its passage."""


@dataclass(frozen=True)
class Checked:
    """A claim of an output, with its verdict."""

    claim: str
    verdict: Verdict
    counts: bool
    """Whether it adds to the share: faithful enough, a statement, and not said before."""


class Faithfulness(Reward):
    """Rewards saying only what the passage says."""

    name = "faithfulness"
    unit = "share of claims"
    needs = frozenset({"encoder", "verifier"})

    def __init__(self, operation: Operation, verifier: Verifier, cfg: FaithfulnessConfig | None = None) -> None:
        self.operation = operation
        self.verifier = verifier
        self.cfg = cfg or FaithfulnessConfig()

    @classmethod
    def from_context(cls, context: RewardContext) -> Faithfulness:
        return cls(context.operation, context.judges.verifier, context.cfg.faithfulness)

    @property
    def is_remote(self) -> bool:
        return is_remote(self.verifier)

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        checked = self.check(rewrites)
        return [
            self.worst if r.text is None else None if not some and self.operation.claims(r.text) else share(some)
            for r, some in zip(rewrites, checked, strict=True)
        ]

    def check(self, rewrites: Sequence[Rewrite]) -> list[list[Checked]]:
        """Every claim of each rewrite with its verdict; none where the answer did not parse, without those that the verifier
        cannot check."""
        claims = [self._sampled(r.text) if r.text is not None else [] for r in rewrites]
        flat = [(claim, r.passage.text) for r, cs in zip(rewrites, claims, strict=True) for claim in cs]
        verdicts = iter(self.verifier.check([c for c, _ in flat], [p for _, p in flat]))
        out: list[list[Checked]] = []
        for rewrite, cs in zip(rewrites, claims, strict=True):
            said: set[tuple[str, ...]] = set()  # by its words: another mark at the end is not another claim
            checked = []
            for claim in cs:
                verdict = next(verdicts)
                if verdict is None:
                    continue
                if not reads_like(claim, rewrite.passage.text, MIN_FORM):
                    verdict = replace(verdict, label="unsupported", probability=0.0)  # no statement
                key = tuple(words(claim))
                counts = verdict.probability >= self.cfg.min_probability and key not in said
                said.add(key)
                checked.append(Checked(claim, verdict, counts))
            out.append(checked)
        return out

    def _sampled(self, text: str) -> list[str]:
        """The claims of a text, or so many as are to be checked: drawn from its words, so that it cannot be known which."""
        claims, most = self.operation.claims(text), self.cfg.max_claims
        if most is None or len(claims) <= most:
            return claims
        return [claims[i] for i in sorted(random.Random(digest_of(text)).sample(range(len(claims)), most))]


def share(checked: Sequence[Checked]) -> float:
    """The reward of an output with these claims; 0, the worst, where it has none."""
    return sum(c.counts for c in checked) / len(checked) if checked else 0.0
