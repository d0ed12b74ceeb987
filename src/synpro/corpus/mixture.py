"""The mixture: which documents one epoch holds, how often, and in which order.

Shares are shares of tokens and are met by whole documents: no document is cut to fit. Nothing is left out either, so the side
whose natural share is too small is repeated; every document is in every epoch at least once. Each epoch has an order of its
own.

Packed as megadocs (arXiv 2603.18534, "stitching"), an organic document and every synthetic version of it, of all rounds and
operations, form one training document. Differences from that paper: a version is joined from rewrites of passages; the order of
versions is drawn anew in each epoch. There is one end-of-text token at the end, and none between versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from synpro.schema import setting

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class MixtureConfig:
    """What an epoch consists of."""

    organic_share: float | None = setting(None, source="ours", above=0, below=1)
    """Wanted share of organic tokens in an epoch, between 0 and 1; None takes every document once. It has no effect before
    there is synthetic text."""
    synthetic_tokens: int | None = setting(None, unit="tokens", source="ours", min=1)
    """Most synthetic tokens in the mixture, by whole documents; none takes all there are. Which documents are taken is drawn
    from their ids, evenly over sources and versions, so all seeds train on the same ones: for comparisons at equal tokens."""
    packing: Literal["documents", "megadocs"] = "documents"
    """`megadocs`: all versions of a source in one training document. It helps only where the context holds several versions."""
    replay_share: float = setting(0.0, source="ours", min=0, below=1)
    """Share of general text (`prepare.general`) in an epoch, against forgetting; each round reads it from its beginning, and
    over again."""
    token_noise: float = setting(0.0, source="ours", min=0, below=1)
    """Share of organic input tokens that each epoch replaces by draws from the train split's unigram distribution, 0 to below
    1. An augmentation to compare with; the paper has none."""


@dataclass(frozen=True)
class EpochPlan:
    """How often each document is in an epoch."""

    organic: tuple[int, ...]
    """Number of copies of each organic document."""
    synthetic: tuple[int, ...]
    """Number of copies of each synthetic document."""
    organic_tokens: int
    synthetic_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of the epoch, EOS included."""
        return self.organic_tokens + self.synthetic_tokens

    @property
    def organic_share(self) -> float:
        """Share of organic tokens."""
        return self.organic_tokens / self.tokens if self.tokens else 0.0


def plan_epoch(
    organic: Sequence[int] | np.ndarray, synthetic: Sequence[int] | np.ndarray, cfg: MixtureConfig, seed: int
) -> EpochPlan:
    """Plan one epoch from the lengths of the documents in tokens.

    The side that is repeated r times gets all its documents floor(r) times and a random part of them once more, until another
    document would move its tokens away from the target: the share is met to within half a document. `seed` draws the part; give
    each epoch its own. Raises ValueError when a share is set and there is no organic text.
    """
    import numpy as np

    once = (np.ones(len(organic), dtype=np.int64), np.ones(len(synthetic), dtype=np.int64))
    lengths = (np.asarray(organic, dtype=np.int64), np.asarray(synthetic, dtype=np.int64))
    total = (int(lengths[0].sum()), int(lengths[1].sum()))
    if cfg.organic_share is not None and total[1]:
        if not total[0]:
            raise ValueError("pretrain.mixture.organic_share: there is no organic text to repeat; check the train split")
        wanted = cfg.organic_share * total[1] / (1.0 - cfg.organic_share)
        if wanted >= total[0]:
            once = (_repeat(lengths[0], wanted, seed), once[1])
        else:
            once = (once[0], _repeat(lengths[1], (1.0 - cfg.organic_share) * total[0] / cfg.organic_share, seed))
    return EpochPlan(
        tuple(once[0].tolist()), tuple(once[1].tolist()), int((once[0] * lengths[0]).sum()), int((once[1] * lengths[1]).sum())
    )


def subsample(ids: Sequence[str], sources: Sequence[str], lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Places of the synthetic documents, `(n,)` in order, whose tokens together are nearest to `tokens`.

    Every source gives one document before any gives a second; which one, and which sources come first, is drawn from the ids.
    `lengths`: tokens of each document, `(N,)`.
    """
    import numpy as np

    by_hash = sorted(range(len(ids)), key=lambda i: sha256(ids[i].encode()).digest())
    taken: Counter[str] = Counter()
    turns: list[tuple[int, int, int]] = []
    for i in by_hash:
        taken[sources[i]] += 1
        turns.append((taken[sources[i]], len(turns), i))
    order = np.array([i for *_, i in sorted(turns)], dtype=np.int64)
    reached = np.cumsum(np.asarray(lengths)[order])
    return np.sort(order[: int(np.argmin(np.abs(np.concatenate([[0], reached]) - tokens)))])


def build_epoch(documents: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """One epoch as a token array, `(T,)`: the documents in an order drawn from `seed`, each with its EOS."""
    import numpy as np

    if not len(documents):
        raise ValueError("an epoch needs at least one document")
    order = np.random.default_rng(seed).permutation(len(documents))
    epoch = np.empty(sum(map(len, documents)), documents[0].dtype)
    end = 0
    for i in order:  # one at a time: a million views at once take much memory
        document = documents[i]
        start, end = end, end + len(document)
        epoch[start:end] = document
    return epoch


def repeat_documents(organic: Sequence[np.ndarray], synthetic: Sequence[np.ndarray], plan: EpochPlan) -> Sequence[np.ndarray]:
    """The documents of a plan for `build_epoch`, each as often as the plan says, without a copy of any."""
    import numpy as np

    from synpro.corpus.documents import ChosenDocuments, JoinedDocuments

    both = JoinedDocuments([organic, synthetic])
    return ChosenDocuments(both, np.repeat(np.arange(len(both)), [*plan.organic, *plan.synthetic]))


def pack_megadocs(
    organic: Sequence[np.ndarray],
    synthetic: Sequence[np.ndarray],
    sources: Sequence[int],
    plan: EpochPlan,
    separator: np.ndarray,
    seed: int,
) -> list[np.ndarray]:
    """The documents of a plan for `build_epoch`, with all versions of one source joined.

    `sources`: for each synthetic document, the index of its organic one. `separator`: tokens between versions (a blank line).
    The order of a source's versions is drawn from `seed`. Where a plan repeats documents, the second copies of a source's
    versions form its second training document, and so on. Raises ValueError when a synthetic document has no source.
    """
    import numpy as np

    if len(sources) != len(synthetic) or any(not 0 <= s < len(organic) for s in sources):
        raise ValueError("megadocs: every synthetic document needs the index of the organic document it was made from")
    members: list[list[tuple[np.ndarray, int]]] = [[(d, n)] for d, n in zip(organic, plan.organic, strict=True)]
    for document, source, times in zip(synthetic, sources, plan.synthetic, strict=True):
        members[source].append((document, times))
    rng = np.random.default_rng([seed, 2])
    packed = []
    for versions in members:
        for copy in range(max(times for _, times in versions)):
            here = [document for document, times in versions if times > copy]
            order = rng.permutation(len(here))
            pieces = [piece for i in order for piece in (here[i][:-1], separator)]
            packed.append(np.concatenate([*pieces[:-1], here[order[-1]][-1:]]))
    return packed


def megadoc_joins(sources: Sequence[int], plan: EpochPlan) -> int:
    """In how many places `pack_megadocs` joins two versions."""
    import numpy as np

    organic = np.asarray(plan.organic, dtype=np.int64)
    packed = organic.copy()  # of each source, as many documents as its most repeated version has copies
    np.maximum.at(packed, np.asarray(sources, dtype=np.int64), np.asarray(plan.synthetic, dtype=np.int64))
    return int(organic.sum() + sum(plan.synthetic) - packed.sum())


class TokenNoise:
    """Replaces a share of organic tokens by draws from the organic unigram distribution, other ones in each epoch."""

    def __init__(self, share: float, organic: Sequence[np.ndarray], eos_id: int) -> None:
        """`share`: 0 to 1. EOS tokens are neither replaced nor drawn."""
        import numpy as np

        self._share, self._eos, self._organic = share, eos_id, organic
        joined = np.concatenate(organic)
        self._pool = joined[joined != eos_id]  # a uniform draw from all tokens is a draw from the unigram distribution

    def __call__(self, seed: int) -> list[np.ndarray]:
        """The documents with noise, a function of `seed`."""
        import numpy as np

        rng = np.random.default_rng([seed, 3])
        noised = []
        for document in self._organic:
            hit = (rng.random(len(document)) < self._share) & (document != self._eos)
            noise = self._pool[rng.integers(len(self._pool), size=len(document))] if len(self._pool) else document
            noised.append(np.where(hit, noise, document).astype(document.dtype))
        return noised


def _repeat(lengths: np.ndarray, wanted: float, seed: int) -> np.ndarray:
    """Copies of each document, `(N,)`, at least 1, so that their tokens are nearest to `wanted`."""
    import numpy as np

    total = int(lengths.sum())
    whole = int(wanted // total)
    times = np.full(len(lengths), whole, dtype=np.int64)
    missing = wanted - whole * total
    # A random stream of its own, so that the order of the epoch does not depend on which documents are drawn here.
    order = np.random.default_rng([seed, 1]).permutation(len(lengths))
    reached = np.cumsum(lengths[order])
    # The prefix whose tokens are nearest to the missing number; the empty one has 0 tokens.
    times[order[: int(np.argmin(np.abs(np.concatenate([[0], reached]) - missing)))]] += 1
    return times
