"""Experiments whose truth is known: losses drawn around a curve, with noise of documents and of seeds."""

from __future__ import annotations

import numpy as np

from synpro.measure.data_efficiency import Anchor, Baseline, Method
from synpro.measure.losses import Losses

UNIQUE = 100_000
TUNED = Baseline(
    searched={
        "weight_decay": (0.1, 0.4, 1.6, 3.2),
        "learning_rate": (5e-4, 1e-3, 2e-3),
        "epochs": (4, 8, 16),
        "dropout": (0.0, 0.1),
    },
    trainings=24,
)


def law(unique: float) -> float:
    """E + A U^-alpha, about what a 2M-parameter model gives on 0.1M to 1M tokens of Wikipedia."""
    return 3.0 + 2.8 * (unique / UNIQUE) ** -0.35


def losses(rng: np.random.Generator, means: list[float], *, seeds: int = 3, documents: int = 60, seed_noise: float = 0.01):
    """One `Losses` per mean. Documents differ by 0.5 nats in all settings alike, by 0.03 in each; seeds by 0.01."""
    tokens = rng.integers(50, 800, documents).astype(float)
    hard, shared = rng.normal(0, 0.5, documents), rng.normal(0, seed_noise, seeds)
    found = []
    for mean in means:
        own = rng.normal(0, 0.03, documents) + (shared + rng.normal(0, seed_noise, seeds))[:, None]
        nats = (mean + hard + own + rng.normal(0, 0.03, (seeds, documents))) * tokens
        found.append(Losses(tuple(range(seeds)), tuple(f"d{i}" for i in range(documents)), nats, tokens))
    return found


def experiment(
    rng: np.random.Generator, *, truth: float = 1.5, sizes: tuple[int, ...] = (1, 2, 4, 8), curve=law, **noise
) -> tuple[Method, list[Anchor]]:
    """A method that is worth `truth` times its text, and anchors at multiples of its text, 16 epochs of the first in each."""
    *anchors, method = losses(rng, [curve(UNIQUE * s) for s in sizes] + [curve(UNIQUE * truth)], **noise)
    return Method("method", UNIQUE, method), [Anchor(UNIQUE * s, 16 * UNIQUE, a) for s, a in zip(sizes, anchors, strict=True)]
