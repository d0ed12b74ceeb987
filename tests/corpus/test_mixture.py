"""Which documents an epoch holds, and in which order."""

import numpy as np
import pytest

from synpro.corpus.mixture import MixtureConfig, build_epoch, epoch_documents, plan_epoch

RNG = np.random.default_rng(0)
ORGANIC, SYNTHETIC = RNG.integers(5, 200, 300).tolist(), RNG.integers(5, 100, 900).tolist()


def arrays(lengths: list[int], first: int) -> list[np.ndarray]:
    """Documents whose tokens name them, EOS (0) at the end."""
    return [np.array([first + i] * (n - 1) + [0], dtype=np.uint32) for i, n in enumerate(lengths)]


def test_without_a_share_every_document_stands_once() -> None:
    plan = plan_epoch(ORGANIC, SYNTHETIC, MixtureConfig(), seed=0)
    assert set(plan.organic) == set(plan.synthetic) == {1} and plan.tokens == sum(ORGANIC) + sum(SYNTHETIC)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 0.97])
def test_shares_are_met_and_nothing_is_left_out(share: float) -> None:
    plan = plan_epoch(ORGANIC, SYNTHETIC, MixtureConfig(share), seed=3)
    assert min(plan.organic) >= 1 and min(plan.synthetic) >= 1
    assert plan.organic_tokens == int(np.dot(plan.organic, ORGANIC)) and plan.synthetic_tokens == int(
        np.dot(plan.synthetic, SYNTHETIC)
    )
    # Exact to half of the largest document on the repeated side.
    assert abs(plan.organic_share - share) <= 0.5 * max(ORGANIC) / plan.tokens
    # One side once, the other floor(r) or floor(r) + 1 times.
    assert min(max(plan.organic), max(plan.synthetic)) == 1
    assert max(max(plan.organic) - min(plan.organic), max(plan.synthetic) - min(plan.synthetic)) <= 1


def test_another_epoch_repeats_other_documents() -> None:
    plans = [plan_epoch(ORGANIC, SYNTHETIC, MixtureConfig(0.8), seed=s) for s in (1, 1, 2)]
    assert plans[0] == plans[1] and plans[0].organic != plans[2].organic


def test_an_epoch_holds_the_planned_documents_whole() -> None:
    plan = plan_epoch(ORGANIC, SYNTHETIC, MixtureConfig(0.7), seed=5)
    pool = epoch_documents(arrays(ORGANIC, 1), arrays(SYNTHETIC, 1000), plan)
    epoch = build_epoch(pool, seed=5)
    assert epoch.dtype == np.uint32 and len(epoch) == plan.tokens
    ends = np.flatnonzero(epoch == 0)
    names = [int(epoch[e - 1]) for e in ends]
    counts = [plan.organic[n - 1] if n < 1000 else plan.synthetic[n - 1000] for n in names]
    assert len(names) == sum(plan.organic) + sum(plan.synthetic) and [names.count(n) for n in names] == counts
    assert build_epoch(pool, seed=5).tobytes() == epoch.tobytes() != build_epoch(pool, seed=6).tobytes()


def test_edges() -> None:
    assert plan_epoch(ORGANIC, [], MixtureConfig(0.3), seed=0).organic_share == 1.0
    with pytest.raises(ValueError, match="no organic text"):
        plan_epoch([], SYNTHETIC, MixtureConfig(0.3), seed=0)
    with pytest.raises(ValueError, match="at least one document"):
        build_epoch([], seed=0)
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="organic_share: "):
            MixtureConfig(share)
