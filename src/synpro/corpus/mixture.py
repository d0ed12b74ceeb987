"""The mixture: which documents one epoch holds, how often, and in which order.

Shares are of tokens and are met by whole documents: no document is cut to fit. Nothing is left out either, so the side whose
natural share is too small is repeated; every document stands in every epoch at least once. The order is drawn anew each epoch.

Packed as megadocs (arXiv 2603.18534, "stitching"), an organic document and every synthetic version of it, of all rounds and
operations, form one training document. Differences from that paper: versions are of passages joined by document, of two kinds;
their order is drawn anew each epoch. One end-of-text token stands at the end, none between versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class MixtureConfig:
    """What an epoch is made of."""

    organic_share: float | None = None
    """Wanted share of organic tokens in an epoch, between 0 and 1; None takes every document once. It has no effect before
    there is synthetic text."""
    packing: Literal["documents", "megadocs"] = "documents"
    """`megadocs`: all versions of one source in one training document. Its gain needs a context of several versions."""
    token_noise: float = 0.0
    """Share of organic input tokens that each pass replaces by tokens drawn from the train split's unigram distribution, 0 to
    below 1. An augmentation to compare with; the paper has none."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.token_noise < 1.0:
            raise ValueError("token_noise: a share from 0 (off) to below 1; 0.05 to 0.15 is usual")
        if self.organic_share is not None and not 0.0 < self.organic_share < 1.0:
            raise ValueError("organic_share: between 0 and 1, both excluded, or none for the natural share")


@dataclass(frozen=True)
class EpochPlan:
    """How often each document stands in an epoch."""

    organic: tuple[int, ...]
    """Times, per organic document."""
    synthetic: tuple[int, ...]
    """Times, per synthetic document."""
    organic_tokens: int
    synthetic_tokens: int

    @property
    def tokens(self) -> int:
        """Of the epoch, EOS included."""
        return self.organic_tokens + self.synthetic_tokens

    @property
    def organic_share(self) -> float:
        """The share of organic tokens that whole documents give."""
        return self.organic_tokens / self.tokens if self.tokens else 0.0


def plan_epoch(
    organic: Sequence[int] | np.ndarray, synthetic: Sequence[int] | np.ndarray, cfg: MixtureConfig, seed: int
) -> EpochPlan:
    """Document counts for one epoch from the documents' lengths in tokens.

    The repeated side gets all its documents floor(r) times and a random part of them once more, until another document would
    take its tokens further from the wanted number: the share is met to within half a document. `seed` draws the part; give each
    epoch its own. Raises ValueError when a share is wanted and there is no organic text.
    """
    import numpy as np

    once = (np.ones(len(organic), dtype=np.int64), np.ones(len(synthetic), dtype=np.int64))
    lengths = (np.asarray(organic, dtype=np.int64), np.asarray(synthetic, dtype=np.int64))
    total = (int(lengths[0].sum()), int(lengths[1].sum()))
    if cfg.organic_share is not None and total[1]:
        if not total[0]:
            raise ValueError("organic_share: there is no organic text to repeat; check the train split")
        wanted = cfg.organic_share * total[1] / (1.0 - cfg.organic_share)
        if wanted >= total[0]:
            once = (_repeat(lengths[0], wanted, seed), once[1])
        else:
            once = (once[0], _repeat(lengths[1], (1.0 - cfg.organic_share) * total[0] / cfg.organic_share, seed))
    return EpochPlan(
        tuple(once[0].tolist()), tuple(once[1].tolist()), int((once[0] * lengths[0]).sum()), int((once[1] * lengths[1]).sum())
    )


def build_epoch(documents: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """One epoch as a token array, `(T,)`: the documents, each with its EOS, in an order drawn from `seed`."""
    import numpy as np

    if not len(documents):
        raise ValueError("an epoch needs at least one document")
    order = np.random.default_rng(seed).permutation(len(documents))
    epoch = np.empty(sum(map(len, documents)), documents[0].dtype)
    end = 0
    for i in order:  # one at a time: a million views at once are a burden of their own
        document = documents[i]
        start, end = end, end + len(document)
        epoch[start:end] = document
    return epoch


class _Chosen(Sequence["np.ndarray"]):
    """Documents of both sides, each as often as a plan says, looked up when asked for."""

    def __init__(self, organic: Sequence[np.ndarray], synthetic: Sequence[np.ndarray], plan: EpochPlan) -> None:
        import numpy as np

        if len(organic) != len(plan.organic) or len(synthetic) != len(plan.synthetic):
            raise ValueError("the plan was made for other documents")
        self._sides = organic, synthetic
        self._places = np.repeat(np.arange(len(organic) + len(synthetic)), [*plan.organic, *plan.synthetic])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place, (organic, synthetic) = int(self._places[index]), self._sides
        return organic[place] if place < len(organic) else synthetic[place - len(organic)]


def epoch_documents(organic: Sequence[np.ndarray], synthetic: Sequence[np.ndarray], plan: EpochPlan) -> Sequence[np.ndarray]:
    """The documents of a plan, each as often as it says, ready for `build_epoch`."""
    return _Chosen(organic, synthetic, plan)


def megadocs(
    organic: Sequence[np.ndarray],
    synthetic: Sequence[np.ndarray],
    sources: Sequence[int],
    plan: EpochPlan,
    gap: np.ndarray,
    seed: int,
) -> list[np.ndarray]:
    """The documents of a plan, all versions of one source joined, ready for `build_epoch`.

    `sources`: of each synthetic document, the place of its organic one. `gap`: tokens between versions (a blank line).
    The order of a source's versions is drawn from `seed`. Where a plan repeats documents, the second copies of a source's
    versions form its second training document, and so on. Raises ValueError when a synthetic document has no source.
    """
    import numpy as np

    if len(sources) != len(synthetic) or any(not 0 <= s < len(organic) for s in sources):
        raise ValueError("megadocs: every synthetic document needs the place of the organic document it was made from")
    members: list[list[tuple[np.ndarray, int]]] = [[(d, n)] for d, n in zip(organic, plan.organic, strict=True)]
    for document, source, times in zip(synthetic, sources, plan.synthetic, strict=True):
        members[source].append((document, times))
    rng = np.random.default_rng([seed, 2])
    packed = []
    for versions in members:
        for copy in range(max(times for _, times in versions)):
            here = [document for document, times in versions if times > copy]
            order = rng.permutation(len(here))
            pieces = [piece for i in order for piece in (here[i][:-1], gap)]
            packed.append(np.concatenate([*pieces[:-1], here[order[-1]][-1:]]))
    return packed


class TokenNoise:
    """Replaces a share of organic tokens by draws from the organic unigram distribution, anew each pass."""

    def __init__(self, share: float, organic: Sequence[np.ndarray], eos_id: int) -> None:
        """Ends of documents are neither replaced nor drawn."""
        import numpy as np

        self._share, self._eos, self._organic = share, eos_id, organic
        joined = np.concatenate(organic)
        self._pool = joined[joined != eos_id]  # a uniform draw from all tokens is a draw from the unigram distribution

    def __call__(self, seed: int) -> list[np.ndarray]:
        """The noised documents; the same seed gives the same ones."""
        import numpy as np

        rng = np.random.default_rng([seed, 3])
        noised = []
        for document in self._organic:
            hit = (rng.random(len(document)) < self._share) & (document != self._eos)
            drawn = self._pool[rng.integers(len(self._pool), size=len(document))] if len(self._pool) else document
            noised.append(np.where(hit, drawn, document).astype(document.dtype))
        return noised


def _repeat(lengths: np.ndarray, wanted: float, seed: int) -> np.ndarray:
    """Times of each document, at least 1, so that their tokens come nearest to `wanted`."""
    import numpy as np

    total = int(lengths.sum())
    whole = int(wanted // total)
    times = np.full(len(lengths), whole, dtype=np.int64)
    missing = wanted - whole * total
    # A stream of its own, so that the order of the epoch does not depend on which documents are drawn here.
    order = np.random.default_rng([seed, 1]).permutation(len(lengths))
    reached = np.cumsum(lengths[order])
    # The prefix whose tokens are nearest to what is missing; the empty one counts as 0 tokens.
    times[order[: int(np.argmin(np.abs(np.concatenate([[0], reached]) - missing)))]] += 1
    return times
