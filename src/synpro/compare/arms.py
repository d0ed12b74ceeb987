"""The arms of a comparison, one line each: how each differs from SynPro, and where its text comes from.

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
    """What it is, for the table."""
    generator_config: Callable[[RunConfig], RunConfig] | None = None
    """Makes the config of its generators from that of SynPro. None: the arm has no synthetic text."""
    reprobe: bool = True
    """Whether later rounds train and measure the model again. An arm whose generators never look at the model saves that."""
    tuned: bool = True
    """Trained with the settings found for repetition, not with the default ones."""
    repeats: bool = False
    """Organic text alone: it may stop at the share of the budget that the search found best. All others use the whole."""
    noise: bool = False
    """A share of the organic input tokens is replaced in each pass."""
    megadocs: bool = False
    """All versions of a source are packed into one training document."""
    oracle: bool = False
    """Trained on the largest corpus of the curve instead of the scarce one."""


def _untrained(cfg: RunConfig) -> RunConfig:
    return replace(cfg, operations={name: replace(o, steps=0) for name, o in cfg.operations.items()})


def _without_influence(cfg: RunConfig) -> RunConfig:
    weights = {name: o.weights | {"influence": 0.0} for name, o in cfg.operations.items()}
    return replace(cfg, operations={name: replace(o, weights=weights[name]) for name, o in cfg.operations.items()})


def _placebo(cfg: RunConfig) -> RunConfig:
    return replace(cfg, rubric=replace(cfg.rubric, influence=replace(cfg.rubric.influence, shuffled=True)))


def _static(cfg: RunConfig) -> RunConfig:
    return replace(cfg, retrain_each_round=False)


def _unchanged(cfg: RunConfig) -> RunConfig:
    return cfg


ARMS: dict[str, Arm] = {
    "repetition": Arm("organic text repeated, usual weight decay", tuned=False, repeats=True),
    "tuned-repetition": Arm("organic text repeated, settings found by search on the reference split", repeats=True),
    "token-noise": Arm("organic text repeated, a share of input tokens replaced in each pass", noise=True),
    "prompt-only": Arm("generators before RL, by prompt alone", _untrained, reprobe=False),
    "no-influence": Arm("generators trained without the influence reward", _without_influence, reprobe=False),
    "placebo": Arm("influence rewards dealt out at random", _placebo),
    "synpro": Arm("generators trained on influence and refreshed in every round", _unchanged),
    "static": Arm("generators of round 1 in every round", _static),
    "megadocs": Arm("the texts of synpro, all versions of a source in one training document", _unchanged, megadocs=True),
    "oracle": Arm("unique organic text instead of synthetic text", oracle=True, repeats=True),
}
"""Adding an arm: one line here. They run in this order, whatever the order in the config."""
