"""What an arm costs, part by part: operations, seconds and tokens, so that arms can be read at equal compute too.

Operations are counted from tokens and parameters, not measured: 2 per parameter and token to read or write, twice that again to
learn (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention is counted in pretraining only; for a generator on short
passages it adds little. A LoRA backward pass needs no gradients of the frozen weights, so learning costs a third less.
"""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("pretraining", "probing", "RL", "judging", "generating")


@dataclass(frozen=True)
class Work:
    """One part of the cost."""

    flops: float = 0.0
    seconds: float = 0.0
    """Of wall-clock time of the machine it ran on, every attempt of a step counted."""
    tokens: float = 0.0
    """Read, written or trained on."""

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.seconds + other.seconds, self.tokens + other.tokens)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.seconds * times, self.tokens * times)


Bill = dict[str, Work]
"""Part -> work; a part that is missing cost nothing."""


def reading(parameters: float, tokens: float) -> float:
    """Operations of a forward pass over `tokens`; writing them one by one takes as many."""
    return 2.0 * parameters * tokens


def learning(parameters: float, tokens: float, *, adapters: bool) -> float:
    """Operations of forward and backward pass of a generator of which all weights, or small adapters alone, are trained."""
    return reading(parameters, tokens) * (2.0 if adapters else 3.0)


def scoring(flops_per_token: float, tokens: float) -> float:
    """Operations of a forward pass of a model that takes `flops_per_token` to train on."""
    return flops_per_token * tokens / 3.0


def total(bill: Bill) -> Work:
    """All parts together."""
    return sum(bill.values(), Work())


def added(bills: list[Bill]) -> Bill:
    """Part by part."""
    parts = [p for p in PARTS if any(p in b for b in bills)]
    return {p: sum((b[p] for b in bills if p in b), Work()) for p in parts}
