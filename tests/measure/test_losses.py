"""Losses of several seeds on the same documents, and what is resampled."""

import numpy as np
import pytest

from synpro.measure.losses import (
    Losses,
    Resampling,
    detectable_effect,
    difference,
    gap_change,
    loss_interval,
    mean_losses,
    resample_means,
)
from tests.measure.synthetic import losses


def rows(nll: list[float], tokens: tuple[int, ...] = (10, 30, 20), names: str = "abc") -> list[dict[str, object]]:
    return [{"document": d, "nll": n, "tokens": t, "bytes": 4 * t} for d, n, t in zip(names, nll, tokens, strict=True)]


def test_rows_of_heldout_tables_become_losses() -> None:
    found = Losses.from_rows({1: reversed(rows([20.0, 90.0, 60.0])), 0: rows([30.0, 80.0, 70.0])})
    assert found.seeds == (0, 1) and found.documents == ("a", "b", "c")
    assert found.mean == pytest.approx((180 / 60 + 170 / 60) / 2)


@pytest.mark.parametrize(
    ("other", "said"),
    [(rows([1.0, 2.0, 3.0], names="abd"), "different held-out"), (rows([1.0, 2.0, 3.0], (10, 30, 21)), "documents or tokens")],
)
def test_seeds_measured_on_other_documents_are_refused(other: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Losses.from_rows({0: rows([1.0, 2.0, 3.0]), 1: other})


def test_settings_of_other_seeds_or_documents_are_refused() -> None:
    rng = np.random.default_rng(0)
    (three,), (other,) = losses(rng, [5.0]), losses(rng, [5.0], documents=61)
    with pytest.raises(ValueError, match="same seeds"):
        mean_losses([three, Losses(three.seeds[:2], three.documents, three.nats[:2], three.tokens)])
    with pytest.raises(ValueError, match="different held-out documents"):
        resample_means([three, other])


def test_what_all_settings_share_cancels_in_their_difference() -> None:
    first, second = losses(np.random.default_rng(1), [5.0, 4.9])
    low, high = loss_interval(first)[1:]
    mean, below, above = difference(first, second)
    assert high - low > 0.15 and above - below < 0.1, "documents and shared seeds cancel in pairs"
    assert mean == pytest.approx(second.mean - first.mean) and below < mean < above
    same = difference(first, first)
    assert same == (0.0, 0.0, 0.0)


def test_the_interval_of_a_difference_is_that_of_t_over_seeds_when_documents_agree() -> None:
    from scipy import stats

    seeds, tokens = 4, np.full(50, 10.0)
    gain = np.array([0.02, 0.05, 0.03, 0.08])
    nats = np.ones((seeds, 50)) * 50
    names = tuple(map(str, range(50)))
    first = Losses(tuple(range(seeds)), names, nats, tokens)
    second = Losses(tuple(range(seeds)), names, nats - gain[:, None] * tokens, tokens)
    expected = stats.t.interval(0.95, seeds - 1, -gain.mean(), gain.std(ddof=1) / 2)
    assert difference(first, second, resampling=Resampling(resamples=100_000))[1:] == pytest.approx(expected, abs=0.002)


def test_whole_groups_are_drawn_so_that_parts_of_one_article_do_not_count_as_many() -> None:
    """40 articles of 5 parts each, whose changes differ by article alone: the interval by document is too narrow."""
    rng = np.random.default_rng(5)
    change = np.repeat(rng.normal(-0.05, 0.2, 40), 5)
    tokens, nats, names = np.full(200, 100.0), np.full((1, 200), 500.0), tuple(map(str, range(200)))
    groups = tuple(f"a{i // 5}" for i in range(200))

    def width(groups: tuple[str, ...]) -> float:
        first = Losses((0,), names, nats, tokens, groups)
        mean, low, high = difference(first, Losses((0,), names, nats + change * tokens, tokens, groups))
        assert mean == pytest.approx(change.mean()) and first.units == len(set(groups or names))
        return high - low

    assert width(groups) == pytest.approx(np.sqrt(5) * width(()), rel=0.1)
    with pytest.raises(ValueError, match="different held-out documents"):
        mean_losses([Losses((0,), names, nats, tokens), Losses((0,), names, nats, tokens, groups)])


def test_rows_take_their_groups_by_document() -> None:
    found = Losses.from_rows({0: rows([1.0, 2.0, 3.0])}, {"a": "x", "b": "x"})
    assert found.groups == ("x", "x", "c") and found.units == 2
    assert Losses.from_rows({0: rows([1.0, 2.0, 3.0])}, {}).groups == ()


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five() -> None:
    rng, found, size = np.random.default_rng(7), 0, 0.0
    for i in range(300):
        change = rng.normal(0, 0.3, 80) + (-size if i else 0.0)
        first = Losses((0,), tuple(map(str, range(80))), np.full((1, 80), 500.0), np.full(80, 100.0))
        second = Losses(first.seeds, first.documents, first.nats + change * 100.0, first.tokens)
        interval = difference(first, second, Resampling(resamples=200))
        if i == 0:
            size = detectable_effect(interval)
        else:
            found += interval[2] < 0
    assert 0.7 < found / 299 < 0.9


def two_kinds(rng: np.random.Generator, gains: dict[str, float]) -> tuple[list[Losses], list[Losses]]:
    """Losses of a control and of an arm on as many kinds of text, of 60 and 40 documents."""
    before, after = [], []
    for count, (name, gain) in zip((60, 40), gains.items(), strict=True):
        tokens = rng.integers(40, 200, count).astype(float)
        base = rng.normal(5, 0.5, (1, count)) + rng.normal(0, 0.05, (3, 1))
        saved = gain + rng.normal(0, 0.1, (1, count)) + rng.normal(0, 0.01, (3, 1))
        names = tuple(f"{name}{i}" for i in range(count))
        before.append(Losses((0, 1, 2), names, base * tokens, tokens))
        after.append(Losses((0, 1, 2), names, (base - saved) * tokens, tokens))
    return before, after


def test_the_gap_between_two_kinds_of_text_is_that_of_all_four_losses_and_covers_what_is_true() -> None:
    """The arm saves 0.1 on both kinds, for their language, and 0.05 more on the first, for its content."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(150):
        before, after = two_kinds(rng, {"rephrased": 0.15, "unseen": 0.10})
        mean, low, high = gap_change((before[0], before[1]), (after[0], after[1]))
        assert mean == pytest.approx((after[1].mean - after[0].mean) - (before[1].mean - before[0].mean))
        covered += low <= 0.05 <= high
    assert 0.88 <= covered / 150 < 1.0
    assert gap_change((before[0], before[1]), (before[0], before[1])) == (0.0, 0.0, 0.0)
    fewer = Losses((0,), before[1].documents, before[1].nats[:1], before[1].tokens)
    with pytest.raises(ValueError, match="same seeds"):
        gap_change((before[0], fewer), (after[0], fewer))
