"""Held-out losses of several settings on the same documents, resampled over documents and seeds at once.

Documents are drawn with replacement, the same ones in every setting: documents are hard or easy for all models alike. Seeds are
paired over settings. Three seeds drawn with replacement would give an interval far too narrow; instead each seed's deviation
from the mean gets a normal weight, the same in every setting, and all weights of a resample are stretched as Student's t with
S - 1 degrees of freedom asks. For a quantity that is linear in the losses this is the t interval over paired seeds, exactly.

Suffixes: `_B` resamples, `_K` settings, `_S` seeds, `_D` documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED = 20_260_518
"""Of every resampling: the same losses give the same interval."""
RESAMPLES = 2000
"""The ends of a 95% interval then have a relative standard error of about 3% of its half width."""


@dataclass(frozen=True, eq=False)
class Losses:
    """Held-out losses of one setting: one trained model per seed, each measured on the same documents."""

    seeds: tuple[int, ...]
    documents: tuple[str, ...]
    nats: np.ndarray
    """Loss summed over a document's tokens, `(seeds, documents)`."""
    tokens: np.ndarray
    """Of each document, `(documents,)`."""

    def __post_init__(self) -> None:
        if self.nats.shape != (len(self.seeds), len(self.documents)) or self.tokens.shape != (len(self.documents),):
            raise ValueError(
                f"losses of {len(self.seeds)} seeds and {len(self.documents)} documents have shapes {self.nats.shape} and "
                f"{self.tokens.shape}"
            )
        if not self.seeds or len(self.documents) < 2:
            raise ValueError("losses need at least one seed and two held-out documents")
        if not (np.isfinite(self.nats).all() and (self.tokens > 0).all()):
            raise ValueError("losses must be finite, and every document needs tokens")

    @classmethod
    def of(cls, by_seed: Mapping[int, Iterable[Mapping[str, Any]]]) -> Losses:
        """From the rows (`document`, `nll`, `tokens`) that `evaluate` writes to `heldout.parquet`, by seed.

        Raises ValueError when two seeds were measured on different documents.
        """
        tables = {seed: {str(r["document"]): (float(r["nll"]), int(r["tokens"])) for r in by_seed[seed]} for seed in by_seed}
        seeds = tuple(sorted(tables))
        if not seeds:
            raise ValueError("losses need at least one seed")
        documents = tuple(sorted(tables[seeds[0]]))
        counts = [tables[seeds[0]][d][1] for d in documents]
        for seed in seeds[1:]:
            if tuple(sorted(tables[seed])) != documents or [tables[seed][d][1] for d in documents] != counts:
                raise ValueError(f"seeds {seeds[0]} and {seed} were measured on different held-out documents or tokens")
        nats = np.array([[tables[s][d][0] for d in documents] for s in seeds], dtype=np.float64)
        return cls(seeds, documents, nats, np.array(counts, dtype=np.float64))

    @property
    def mean(self) -> float:
        """Nats per token over all documents, the mean over seeds."""
        return float(self.nats.sum(axis=1).mean() / self.tokens.sum())


def means(settings: Sequence[Losses]) -> np.ndarray:
    """Mean loss of each setting over documents and seeds, `(K,)`, nats per token.

    Raises ValueError when settings differ in documents, tokens or seeds.
    """
    first = settings[0]
    for other in settings[1:]:
        if other.documents != first.documents or not np.array_equal(other.tokens, first.tokens):
            raise ValueError("settings were measured on different held-out documents; evaluate them on the same")
        if other.seeds != first.seeds:
            raise ValueError(f"settings need the same seeds, to be paired; got {first.seeds} and {other.seeds}")
    return np.array([s.mean for s in settings])


def resampled(settings: Sequence[Losses], resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Mean loss of each setting in each resample, `(B, K)`. With one seed only documents vary. Raises what `means` raises."""
    means(settings)
    first = settings[0]
    count, seeds = len(first.documents), len(first.seeds)
    rng = np.random.default_rng(seed)
    drawn_B_D = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
    nats_D_K = np.stack([s.nats.mean(axis=0) for s in settings], axis=1)
    loss_B_K = (drawn_B_D @ nats_D_K) / (drawn_B_D @ first.tokens)[:, None]
    if seeds == 1:
        return loss_B_K
    by_seed_S_K = np.stack([s.nats.sum(axis=1) for s in settings], axis=1) / first.tokens.sum()
    stretch_B = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, resamples))
    # A sum over seeds of normal weight times deviation has the variance of their mean once divided by sqrt(S (S - 1)).
    weight_B_S = rng.standard_normal((resamples, seeds)) * stretch_B[:, None] / math.sqrt(seeds * (seeds - 1))
    # With two seeds t has tails without a mean; a loss stays positive all the same.
    return np.maximum(loss_B_K + weight_B_S @ (by_seed_S_K - by_seed_S_K.mean(axis=0)), 1e-6)


def loss_interval(
    losses: Losses, *, resamples: int = 2000, level: float = 0.95, seed: int = 20_260_518
) -> tuple[float, float, float]:
    """(mean, low, high) of one setting's held-out loss over documents and seeds, nats per token."""
    drawn = resampled([losses], resamples, seed)
    low, high = np.quantile(drawn[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return losses.mean, float(low), float(high)


def difference(
    first: Losses, second: Losses, *, resamples: int = 2000, level: float = 0.95, seed: int = 20_260_518
) -> tuple[float, float, float]:
    """(mean, low, high) of second minus first, paired by document and seed, nats per token."""
    drawn = resampled([first, second], resamples, seed)
    low, high = np.quantile(drawn[:, 1] - drawn[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return second.mean - first.mean, float(low), float(high)
