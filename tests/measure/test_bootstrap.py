import numpy as np
import pytest

from synpro.measure.bootstrap import paired_difference


def test_the_change_is_that_of_the_mean_loss_per_token() -> None:
    tokens = [10.0, 200.0, 55.0]
    before, after = [50.0, 900.0, 280.0], [48.0, 880.0, 281.0]
    found = paired_difference(before, after, tokens)
    assert found.mean == pytest.approx(sum(after) / sum(tokens) - sum(before) / sum(tokens))
    assert found.low <= found.mean <= found.high


def test_the_same_losses_give_exactly_zero_and_no_clear_change() -> None:
    found = paired_difference([5.0, 9.0, 2.0], [5.0, 9.0, 2.0], [2.0, 3.0, 1.0])
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.clear


def test_the_seed_is_fixed_and_chunks_do_not_lose_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(5, 1, 50), rng.normal(4.9, 1, 50)
    whole = paired_difference(before, after)
    assert whole == paired_difference(before, after)
    monkeypatch.setattr("synpro.measure.bootstrap._MAX_INDICES", 7 * 50)
    chunked = paired_difference(before, after)
    assert chunked == whole  # the same random stream, drawn in smaller pieces


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Documents of very different length, noise per document; the truth is the ratio of expectations, -0.03."""
    rng = np.random.default_rng(1)
    covered, runs, documents = 0, 400, 60
    for _ in range(runs):
        tokens = rng.integers(50, 1500, documents).astype(float)
        before = tokens * rng.normal(4.0, 0.5, documents)  # large differences between documents cancel in the pairs
        after = before + tokens * rng.normal(-0.03, 0.05, documents)
        found = paired_difference(before, after, tokens, resamples=1000)
        covered += found.low <= -0.03 <= found.high
        assert found.high - found.low < 0.06
    assert 0.90 <= covered / runs <= 0.985


@pytest.mark.parametrize("sizes", [[1.0] * 8, [18.0, 18.0, 10.0, 10.0, 9.0, 8.0, 8.0, 7.0] + [1.0] * 12])
def test_the_interval_over_few_or_uneven_articles_covers_too(sizes: list[float]) -> None:
    """A plain bootstrap covers 87% and 89% here."""
    rng, tokens, covered = np.random.default_rng(3), np.array(sizes), 0
    for _ in range(400):
        change = rng.normal(0.0, 1.0, len(tokens)) * np.sqrt(0.5 + 0.5 * tokens.mean() / tokens) * tokens
        found = paired_difference([0.0] * len(tokens), change, tokens, resamples=300)
        covered += found.low <= 0 <= found.high
    assert 0.915 <= covered / 400 <= 0.985


def test_whole_groups_are_resampled() -> None:
    rng = np.random.default_rng(2)
    change = np.repeat(rng.normal(0, 1, 30), 4)
    before, groups = np.zeros(120), [str(i // 4) for i in range(120)]
    alone, together = paired_difference(before, change), paired_difference(before, change, groups=groups)
    assert together.mean == pytest.approx(alone.mean) and together.documents == 30
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.1)
    with pytest.raises(ValueError, match="as many groups"):
        paired_difference([1.0, 2.0], [1.0, 2.0], groups=["a"])


@pytest.mark.parametrize(
    ("before", "after", "units", "said"),
    [
        ([1.0], [1.0], None, "at least two"),
        ([1.0, 2.0], [1.0], None, "one length"),
        ([1.0, float("nan")], [1.0, 2.0], None, "finite"),
        ([1.0, 2.0], [1.0, 2.0], [3.0, 0.0], "positive"),
    ],
)
def test_what_cannot_be_compared_is_refused(before: list, after: list, units: list | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired_difference(before, after, units)


def test_it_says_what_was_resampled() -> None:
    assert paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]).units == "documents"
    assert paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], groups=["a", "a", "b"]).units == "articles"
