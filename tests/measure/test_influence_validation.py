"""Rank correlation, shares and groups, against scipy and by counting."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.influence_trial import influence_groups, spearman_with_interval
from synpro.measure.influence_validation import positive_share


def test_the_correlation_is_spearman_s_with_ties() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 16).astype(float), rng.integers(0, 6, 16).astype(float)
    found = spearman_with_interval(x, y)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic) and found.groups == 16
    assert found.low <= found.rho <= found.high and found == spearman_with_interval(x, y)


def test_order_is_seen_and_chance_is_not_taken_for_it() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=16)
    same = spearman_with_interval(x, np.exp(x))
    assert same.rho == pytest.approx(1.0) and same.p < 0.001 and same.low > 0.9
    assert spearman_with_interval(x, -x).rho == pytest.approx(-1.0)
    small = [spearman_with_interval(rng.normal(size=16), rng.normal(size=16), resamples=400).p < 0.1 for _ in range(200)]
    assert 0.04 < np.mean(small) < 0.17, "under no relation, p < 0.1 in a tenth of the trials"


def test_few_groups_are_tried_in_every_order() -> None:
    found = spearman_with_interval([1.0, 2.0, 3.0, 4.0, 5.0], [10.0, 20.0, 30.0, 40.0, 50.0])
    assert found.rho == pytest.approx(1.0) and found.p == pytest.approx(2 / 120), "the order itself, and its reverse"
    assert found == spearman_with_interval([1.0, 2.0, 3.0, 4.0, 5.0], [10.0, 20.0, 30.0, 40.0, 50.0]), "the seed is fixed"


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "at least four"),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0], "equally long"),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0], "all equal"),
    ],
)
def test_what_cannot_be_ranked_is_refused(x: list, y: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spearman_with_interval(x, y)


def test_a_share_has_wilson_s_interval() -> None:
    found = positive_share([1.0] * 30 + [-1.0] * 9 + [0.0])
    assert found.value == 0.75 and found.n == 40, "0 is not positive"
    assert (found.low, found.high) == pytest.approx((0.59807, 0.85812), abs=1e-5), "Wilson 1927, worked by hand"
    assert positive_share([-1.0]).low == 0.0
    with pytest.raises(ValueError, match="at least one"):
        positive_share([])


def test_a_share_of_texts_from_few_documents_is_no_surer_than_the_documents() -> None:
    """Ten versions of a passage that all agree say as much as one."""
    once = [1.0, -1.0] * 15 + [1.0] * 10
    many, documents = [v for v in once for _ in range(10)], [f"d{i}" for i in range(40) for _ in range(10)]
    alone, found = positive_share(once), positive_share(many, documents)
    assert found.value == alone.value and found.n == 400
    assert found.high - found.low > 0.9 * (alone.high - alone.low) > 2 * (positive_share(many).high - positive_share(many).low)
    assert positive_share([1.0] * 400, documents).low == positive_share([1.0] * 40).low < 1, "not without doubt"


def test_groups_rise_in_influence_hold_every_text_and_are_about_equal_in_tokens() -> None:
    rng = np.random.default_rng(2)
    influence, tokens = rng.normal(size=300).tolist(), rng.integers(20, 120, 300).tolist()
    groups = influence_groups(influence, tokens, 16)
    assert len(groups) == 16 and sorted(i for g in groups for i in g) == list(range(300))
    means = [np.mean([influence[i] for i in g]) for g in groups]
    assert means == sorted(means)
    sizes = [sum(tokens[i] for i in g) for g in groups]
    assert max(sizes) - min(sizes) <= 2 * max(tokens)
    assert [len(g) for g in influence_groups([3.0, 1.0, 2.0], [1, 1, 100], 3)] == [1, 1, 1]
    with pytest.raises(ValueError, match="do not make 4 groups"):
        influence_groups([1.0, 2.0, 3.0], [1, 1, 1], 4)
