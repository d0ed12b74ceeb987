"""Measures of collapse: does synthetic text stay varied and near its source, and is the organic distribution kept?

Model collapse shows first in the tails (Shumailov et al. 2024, Nature 631; arXiv 2404.01413 on mixing with organic text): rare
words disappear, texts grow alike, openings repeat. The measures are simple on purpose, so that a number means the same in every
round. All are functions of texts and embeddings. Words are lower-case, without punctuation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from synpro.language.segmentation import words


@dataclass(frozen=True)
class Variety:
    """Variety of the texts of one operation in one round. None: these texts cannot tell."""

    texts: int
    novelty: float | None
    """Share of a text's distinct 4-grams that are not in its source, mean over texts. Near 0: copies. Near 1: unrelated."""
    self_similarity: float | None
    """Jaccard similarity of the 2-gram sets of two versions of one source, mean over sources: this round's texts with each
    other and with all earlier ones. Rising: new versions repeat the old ones."""
    distinct_1: float | None
    distinct_2: float | None
    """Distinct n-grams over all n-grams (Li et al. 2016, arXiv 1510.03055), among the first `budget` words: the share falls
    with length, so every round is measured on as many words."""
    opening_entropy: float | None
    """Entropy of the first 3 words over the texts, as a share of its maximum (all openings different): 0 when all are alike."""
    coverage: float | None
    """Share of the sources' distinct words that the texts contain. It falls first when rare words disappear."""
    length_ratio: float | None
    """Words of a text over words of its source, mean over texts."""
    pairwise_distance: float | None = None
    """Mean cosine distance between two texts' embeddings."""
    source_pairwise_distance: float | None = None
    """The same for their sources, to compare `pairwise_distance` with."""


def variety(
    texts: Sequence[str],
    sources: Sequence[str],
    *,
    keys: Sequence[str],
    earlier: Mapping[str, Sequence[str]] | None = None,
    budget: int | None = None,
    embeddings: tuple[np.ndarray, np.ndarray] | None = None,
) -> Variety:
    """Measure texts against their sources, paired by position.

    `keys` names each text's source, `earlier` holds older versions by key. `budget`: number of words that distinct-n is
    counted on, all by default. `embeddings`: `(n, d)` of (some of) the texts and of their sources. Raises ValueError for
    lengths that differ.
    """
    ours, theirs = [words(t) for t in texts], [words(s) for s in sources]
    flat = [w for text in ours for w in text][:budget]
    novel, ratios = [], []
    for text, source in zip(ours, theirs, strict=True):
        mine = grams(text, 4)
        if mine:
            novel.append(len(mine - grams(source, 4)) / len(mine))
        if source:
            ratios.append(len(text) / len(source))
    known = {w for source in theirs for w in source}
    distances = (None, None) if embeddings is None else tuple(map(mean_pairwise_distance, embeddings))
    return Variety(
        texts=len(texts),
        novelty=_mean(novel),
        self_similarity=_versions(ours, keys, earlier or {}),
        distinct_1=distinct(flat, 1),
        distinct_2=distinct(flat, 2),
        opening_entropy=opening_entropy(ours),
        coverage=len(known & {w for text in ours for w in text}) / len(known) if known else None,
        length_ratio=_mean(ratios),
        pairwise_distance=distances[0],
        source_pairwise_distance=distances[1],
    )


def grams(tokens: Sequence[str], n: int) -> set[tuple[str, ...]]:
    """Distinct runs of n words."""
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def distinct(tokens: Sequence[str], n: int) -> float | None:
    """Distinct n-grams over all n-grams; None without any."""
    total = len(tokens) - n + 1
    return len(grams(tokens, n)) / total if total > 0 else None


def opening_entropy(texts: Sequence[Sequence[str]], n: int = 3) -> float | None:
    """Entropy of the first n words over the texts, over its maximum; None for fewer than two texts."""
    counts = Counter(tuple(text[:n]) for text in texts if text)
    total = sum(counts.values())
    if total < 2:
        return None
    return -sum(c / total * math.log(c / total) for c in counts.values()) / math.log(total)


def mean_pairwise_distance(vectors_N_D: np.ndarray) -> float | None:
    """Mean cosine distance over all pairs of different rows; None for fewer than two. Zero rows are left out."""
    norms = np.linalg.norm(vectors_N_D, axis=1)
    unit = vectors_N_D[norms > 0].astype(np.float64) / norms[norms > 0, None]
    n = len(unit)
    if n < 2:
        return None
    # The sum of all cosines is the squared length of the sum; the n of a row with itself are taken out.
    return float(1.0 - (np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1)))


def _versions(texts: Sequence[Sequence[str]], keys: Sequence[str], earlier: Mapping[str, Sequence[str]]) -> float | None:
    """Mean over sources of the mean similarity between pairs of versions, of which at least one is new."""
    new: dict[str, list[set[tuple[str, ...]]]] = {}
    for text, key in zip(texts, keys, strict=True):
        new.setdefault(key, []).append(grams(text, 2))
    means = []
    for key, sets in new.items():
        old = [grams(words(t), 2) for t in earlier.get(key, ())]
        pairs = [*combinations(sets, 2), *((a, b) for a in sets for b in old)]
        if found := [len(a & b) / len(a | b) for a, b in pairs if a | b]:
            means.append(sum(found) / len(found))
    return _mean(means)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def mean_surprisal(texts: Iterable[str], counts: Mapping[str, int]) -> list[float]:
    """Mean surprisal of the words of each text, in nats, under the word counts of the training text plus one each.

    Raises ValueError when there are no counts.
    """
    total = sum(counts.values()) + len(counts) + 1
    if not counts:
        raise ValueError("mean surprisal needs the word counts of the training text")
    rare = []
    for text in texts:
        surprisal = [-math.log((counts.get(w, 0) + 1) / total) for w in words(text)]
        rare.append(sum(surprisal) / len(surprisal) if surprisal else 0.0)
    return rare


def tail(values: Sequence[float], share: float = 0.2) -> list[int]:
    """Indices of the highest `share` of the values, at least two where there are two; among equals the earlier."""
    count = min(len(values), max(2, math.ceil(share * len(values))))
    return sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])
