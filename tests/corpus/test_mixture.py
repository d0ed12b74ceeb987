"""Which documents an epoch holds, and in which order."""

import numpy as np
import pytest

from synpro.corpus.mixture import MixtureConfig, TokenNoise, build_epoch, pack_megadocs, plan_epoch, repeat_documents
from synpro.schema import build

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
    pool = repeat_documents(arrays(ORGANIC, 1), arrays(SYNTHETIC, 1000), plan)
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
            build(MixtureConfig, {"organic_share": share})


GAP = np.array([9999], dtype=np.uint32)


def test_a_megadoc_holds_every_version_of_its_source_once_and_one_end() -> None:
    organic, synthetic = arrays([4, 3, 5], 1), arrays([3, 4, 3, 6], 1000)
    sources = [0, 2, 0, 2]
    plan = plan_epoch([4, 3, 5], [3, 4, 3, 6], MixtureConfig(), seed=0)
    packed = pack_megadocs(organic, synthetic, sources, plan, GAP, seed=4)
    stored = [set(d.tolist()) - {0, 9999} for d in packed]
    assert stored == [{1, 1000, 1002}, {2}, {3, 1001, 1003}]
    for document, versions in zip(packed, (3, 1, 3), strict=True):
        assert np.flatnonzero(document == 0).tolist() == [len(document) - 1], "one end, and it stands last"
        assert (document == 9999).sum() == versions - 1
    counts = np.bincount(np.concatenate(packed), minlength=1004)
    assert [counts[i] for i in (1, 2, 3, 1000, 1001, 1002, 1003)] == [3, 2, 4, 2, 3, 2, 5], "no token of a text is lost"


def test_the_order_of_versions_is_drawn_anew_each_pass_and_is_the_seed_s() -> None:
    organic, synthetic = arrays([3] * 30, 1), arrays([3] * 90, 1000)
    sources = [i % 30 for i in range(90)]
    plan = plan_epoch([3] * 30, [3] * 90, MixtureConfig(), seed=0)
    first, again, other = (pack_megadocs(organic, synthetic, sources, plan, GAP, seed=s) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert sum(not np.array_equal(a, b) for a, b in zip(first, other, strict=True)) > 20
    leading = [int(d[0]) for d in first]
    assert 2 < sum(v < 1000 for v in leading) < 20, "the organic version has no fixed place"


def test_repeated_versions_stand_in_further_documents_of_their_source() -> None:
    lengths, versions = [4, 6], [3, 3]
    plan = plan_epoch(lengths, versions, MixtureConfig(0.9), seed=1)
    assert min(plan.organic) > 1
    packed = pack_megadocs(arrays(lengths, 1), arrays(versions, 1000), [0, 1], plan, GAP, seed=1)
    for source, (times, synthetic) in enumerate(zip(plan.organic, (1000, 1001), strict=True), start=1):
        mine = [set(d.tolist()) - {0, 9999} for d in packed if source in d]
        assert len(mine) == times and mine.count({source, synthetic}) == 1 and mine.count({source}) == times - 1
    with pytest.raises(ValueError, match="megadocs: "):
        pack_megadocs(arrays(lengths, 1), arrays(versions, 1000), [0, 7], plan, GAP, seed=1)


def test_token_noise_replaces_its_share_and_draws_what_the_corpus_holds() -> None:
    rng = np.random.default_rng(0)
    organic = [np.append(rng.choice([5, 6, 7], 2000, p=[0.7, 0.2, 0.1]), 0).astype(np.uint16) for _ in range(20)]
    noise = TokenNoise(0.3, organic, eos_id=0)
    first, again, other = noise(1), noise(1), noise(2)
    assert all((a == b).all() and a.dtype == np.uint16 for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    before, after = np.concatenate(organic), np.concatenate(first)
    assert ((before == 0) == (after == 0)).all(), "ends of documents stay"
    same = 0.7**2 + 0.2**2 + 0.1**2  # a draw may give the token that stood there
    assert (before != after).mean() == pytest.approx(0.3 * (1 - same), abs=0.01)
    shares = np.bincount(after[(before != after) & (before == 5)], minlength=8)[6:8]
    assert shares[0] / shares.sum() == pytest.approx(2 / 3, abs=0.03)
    for bad in (-0.1, 1.0):
        with pytest.raises(ValueError, match="token_noise: "):
            build(MixtureConfig, {"token_noise": bad})
