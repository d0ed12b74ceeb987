"""Held-out losses of several settings on the same documents, resampled over documents and seeds at once.

How the intervals are constructed. Two things vary: which documents were held out, and the seed of a training.

- Documents are drawn with replacement, the same ones in every setting, because a document is hard or easy for all models alike.
  Where documents belong to groups (parts of one article), whole groups are drawn: their losses are not independent. (By article
  the deviation was 1.22 to 1.39 times that by document.) Deviations are stretched for few documents or groups.
- Seeds are paired over settings. Drawing three seeds with replacement would give an interval far too narrow: a resample often
  holds one seed three times, and the spread of three values is itself poorly known. Instead each seed's deviation from the mean
  gets a normal weight, the same in every setting, and all weights of a resample are stretched by sqrt((S - 1) / chi2), as
  Student's t with S - 1 degrees of freedom asks. For a quantity that is linear in the losses this is exactly the t interval
  over paired seeds.

Both are added in every resample, and whatever is asked (a difference, a share, a number of tokens on a fitted curve) is
computed again from the resampled losses. Its interval is the range between two quantiles. scipy's bootstrap resamples one
kind of thing at a time, so it is not used here.

Suffixes: `_B` resamples, `_K` settings, `_S` seeds, `_D` documents, `_G` groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synpro.measure.bootstrap import effective_count, small_sample_stretch

TAILS = (1 - 0.95) / 2, (1 + 0.95) / 2
"""The quantiles at the two ends of an interval."""
_SEED = 20_260_518


@dataclass(frozen=True)
class Resampling:
    """How 95% intervals are made. The same losses always give the same interval."""

    resamples: int = 2000
    """The ends of an interval then have a relative standard error of about 3% of its half width."""
    seed: int = _SEED
    """Resamples of one seed draw the same documents; kinds of text that are drawn independently need two."""

    def interval(self, values_B: np.ndarray) -> tuple[float, float]:
        """(low, high) of a quantity from its values in the resamples."""
        low, high = np.quantile(values_B, TAILS)
        return float(low), float(high)


DEFAULT_RESAMPLING = Resampling()
"""95% intervals from 2000 resamples."""


@dataclass(frozen=True, eq=False)
class Losses:
    """Held-out losses of one setting: one trained model per seed, each measured on the same documents."""

    seeds: tuple[int, ...]
    documents: tuple[str, ...]
    nats: np.ndarray
    """Loss summed over a document's tokens, `(seeds, documents)`."""
    tokens: np.ndarray
    """Tokens of each document, `(documents,)`."""
    groups: tuple[str, ...] = ()
    """The group of each document, such as its article; empty: every document is one of its own."""

    def __post_init__(self) -> None:
        if self.nats.shape != (len(self.seeds), len(self.documents)) or self.tokens.shape != (len(self.documents),):
            raise ValueError(
                f"losses of {len(self.seeds)} seeds and {len(self.documents)} documents have shapes {self.nats.shape} and "
                f"{self.tokens.shape}"
            )
        if self.groups and len(self.groups) != len(self.documents):
            raise ValueError(f"losses of {len(self.documents)} documents need as many groups, got {len(self.groups)}")
        if not self.seeds or len(self.documents) < 2:
            raise ValueError("losses need at least one seed and two held-out documents")
        if not (np.isfinite(self.nats).all() and (self.tokens > 0).all()):
            raise ValueError("losses must be finite, and every document needs tokens")

    @classmethod
    def from_rows(cls, by_seed: Mapping[int, Iterable[Mapping[str, Any]]], groups: Mapping[str, str] | None = None) -> Losses:
        """Build losses from the rows (`document`, `nll`, `tokens`) that `evaluate` writes to `heldout.parquet`, by seed.
        `groups`: the group of each document that has one.

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
        grouped = tuple(groups.get(d, d) for d in documents) if groups else ()
        return cls(seeds, documents, nats, np.array(counts, dtype=np.float64), grouped)

    @property
    def units(self) -> int:
        """What is drawn: groups, or documents."""
        return len(set(self.groups)) if self.groups else len(self.documents)

    @property
    def effective_units(self) -> float:
        """How many units of equal size the loss varies like."""
        return effective_count(_by_group(self, self.tokens))

    @property
    def mean(self) -> float:
        """Nats per token over all documents, the mean over seeds."""
        return float(self.nats.sum(axis=1).mean() / self.tokens.sum())


def mean_losses(settings: Sequence[Losses]) -> np.ndarray:
    """Mean loss of each setting over documents and seeds, `(K,)`, nats per token.

    Raises ValueError when settings differ in documents, tokens or seeds.
    """
    first = settings[0]
    for other in settings[1:]:
        if (other.documents, other.groups) != (first.documents, first.groups) or not np.array_equal(other.tokens, first.tokens):
            raise ValueError("settings were measured on different held-out documents; evaluate them on the same")
        if other.seeds != first.seeds:
            raise ValueError(f"settings need the same seeds, to be paired; got {first.seeds} and {other.seeds}")
    return np.array([s.mean for s in settings])


def resample_means(settings: Sequence[Losses], resampling: Resampling = DEFAULT_RESAMPLING) -> np.ndarray:
    """Mean loss of each setting in each resample, `(B, K)`, nats per token. With one seed only documents vary.

    Raises ValueError as `mean_losses`.
    """
    mean_losses(settings)
    first = settings[0]
    seeds = len(first.seeds)
    rng = np.random.default_rng(resampling.seed)
    nats_G_K = np.stack([_by_group(first, s.nats.mean(axis=0)) for s in settings], axis=1)
    tokens_G = _by_group(first, first.tokens)
    count = len(tokens_G)
    drawn_B_G = rng.multinomial(count, np.full(count, 1.0 / count), size=resampling.resamples).astype(np.float64)
    loss_B_K, mean_K = (drawn_B_G @ nats_G_K) / (drawn_B_G @ tokens_G)[:, None], nats_G_K.sum(axis=0) / tokens_G.sum()
    loss_B_K = np.maximum(mean_K + small_sample_stretch(tokens_G) * (loss_B_K - mean_K), 1e-6)
    if seeds == 1:
        return loss_B_K
    by_seed_S_K = np.stack([s.nats.sum(axis=1) for s in settings], axis=1) / first.tokens.sum()
    # With two seeds t has tails without a mean; a loss stays positive all the same.
    return np.maximum(loss_B_K + _seed_noise(by_seed_S_K, rng, resampling.resamples), 1e-6)


def _seed_noise(values_S_K: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Deviations of the mean over seeds, `(B, K)`: Student's t with S - 1 degrees of freedom, paired over columns."""
    seeds = len(values_S_K)
    stretch_B = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, resamples))
    # A sum over seeds of normal weight times deviation has the variance of their mean once divided by sqrt(S (S - 1)).
    weight_B_S = rng.standard_normal((resamples, seeds)) * stretch_B[:, None] / math.sqrt(seeds * (seeds - 1))
    return weight_B_S @ (values_S_K - values_S_K.mean(axis=0))


def _by_group(losses: Losses, values_D: np.ndarray) -> np.ndarray:
    """Sums over the documents of each group, `(G,)`; the values of documents where there are no groups."""
    if not losses.groups:
        return values_D
    return np.bincount(np.unique(np.array(losses.groups), return_inverse=True)[1], values_D)


def loss_interval(losses: Losses, resampling: Resampling = DEFAULT_RESAMPLING) -> tuple[float, float, float]:
    """(mean, low, high) of one setting's held-out loss over documents and seeds, nats per token."""
    return losses.mean, *resampling.interval(resample_means([losses], resampling)[:, 0])


def difference(first: Losses, second: Losses, resampling: Resampling = DEFAULT_RESAMPLING) -> tuple[float, float, float]:
    """(mean, low, high) of second minus first, paired by document and seed, nats per token."""
    drawn_B_K = resample_means([first, second], resampling)
    return second.mean - first.mean, *resampling.interval(drawn_B_K[:, 1] - drawn_B_K[:, 0])


def gap_change(
    control: tuple[Losses, Losses], arm: tuple[Losses, Losses], resampling: Resampling = DEFAULT_RESAMPLING
) -> tuple[float, float, float]:
    """(mean, low, high) of how much wider the gap between two kinds of text is in `arm` than in `control`, nats per token.

    Each pair has the losses of the first kind and of the second; the gap is second minus first. The texts of the two kinds are
    drawn independently of each other, seeds are paired over all four. Raises ValueError as `mean_losses`, and for kinds that
    were measured with different seeds.
    """
    if control[0].seeds != control[1].seeds:
        raise ValueError(f"the two kinds of text need the same seeds, got {control[0].seeds} and {control[1].seeds}")
    changes_B, by_seed_S = [], []
    for kind, (ours, theirs) in enumerate(zip(arm, control, strict=True)):
        mean_losses([theirs, ours])
        alone = [replace(x, seeds=x.seeds[:1], nats=x.nats.mean(axis=0, keepdims=True)) for x in (theirs, ours)]
        drawn_B_K = resample_means(alone, replace(resampling, seed=resampling.seed + kind))
        changes_B.append(drawn_B_K[:, 1] - drawn_B_K[:, 0])
        by_seed_S.append((ours.nats - theirs.nats).sum(axis=1) / ours.tokens.sum())
    wider_S, wider_B = by_seed_S[1] - by_seed_S[0], changes_B[1] - changes_B[0]
    if len(wider_S) > 1:
        wider_B = (
            wider_B + _seed_noise(wider_S[:, None], np.random.default_rng(resampling.seed + 2), resampling.resamples)[:, 0]
        )
    return float(wider_S.mean()), *resampling.interval(wider_B)


def detectable_effect(interval: tuple[float, float, float]) -> float:
    """The smallest true effect that would be found in four of five repetitions, from the (mean, low, high) of a 95% interval:
    the usual (1.96 + 0.84) / 1.96 times its half width."""
    return (interval[2] - interval[1]) / 2 * 1.43
