"""The arms of a comparison, one line each: in what each differs from SynPro, and from what it draws its text.

An arm with generators is the loop of `loop.py` under a changed config; an arm without them is organic text under changed
training. All arms share corpus, model, tokens, schedule and seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from synpro.config import RunConfig


@dataclass(frozen=True)
class Arm:
    """One way to spend the tokens."""

    about: str
    """For the table, in a person's words."""
    writes: Callable[[RunConfig], RunConfig] | None = None
    """The config its generators are made with, from that of SynPro; None: it has no synthetic text."""
    follows: bool = True
    """Whether later rounds measure the model again: an arm whose generators never look at it saves that training."""
    tuned: bool = True
    """Trained with the settings found for repetition, or with the usual ones."""
    repeats: bool = False
    """Organic text alone: it may stop at the share of the budget that the search found best. All others use all of it."""
    noise: bool = False
    megadocs: bool = False
    oracle: bool = False
    """Trained on the largest corpus of the curve instead of the scarce one."""


def _untrained(cfg: RunConfig) -> RunConfig:
    return replace(cfg, train_generator=replace(cfg.train_generator, steps=dict.fromkeys(cfg.train_generator.steps, 0)))


def _without_influence(cfg: RunConfig) -> RunConfig:
    weights = {o: {r: 0.0 if r == "influence" else w for r, w in table.items()} for o, table in cfg.rubric.weights.items()}
    return replace(cfg, rubric=replace(cfg.rubric, weights=weights))


def _placebo(cfg: RunConfig) -> RunConfig:
    return replace(cfg, rubric=replace(cfg.rubric, influence=replace(cfg.rubric.influence, shuffled=True)))


def _static(cfg: RunConfig) -> RunConfig:
    return replace(cfg, refresh=False)


ARMS: dict[str, Arm] = {
    "repetition": Arm("organic text repeated, usual weight decay", tuned=False, repeats=True),
    "tuned-repetition": Arm("organic text repeated, settings found by search on the reference split", repeats=True),
    "token-noise": Arm("organic text repeated, a share of input tokens replaced in each pass", noise=True),
    "prompt-only": Arm("generators before RL, by prompt alone", _untrained, follows=False),
    "no-influence": Arm("generators trained without the influence reward", _without_influence, follows=False),
    "placebo": Arm("influence rewards dealt out at random", _placebo),
    "synpro": Arm("generators trained on influence and refreshed in every round", lambda cfg: cfg),
    "static": Arm("generators of round 1 in every round", _static),
    "megadocs": Arm("the texts of synpro, all versions of a source in one training document", lambda cfg: cfg, megadocs=True),
    "oracle": Arm("unique organic text instead of synthetic text", oracle=True, repeats=True),
}
"""Adding an arm: one line here. They are done in this order, whatever the order in the config."""
