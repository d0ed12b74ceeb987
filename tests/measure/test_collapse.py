"""The collapse watch: each measure moves the way it says, on texts whose answer is known."""

import math

import numpy as np
import pytest

from synpro.measure.collapse import distinct, mean_pairwise_distance, mean_surprisal, opening_entropy, tail, variety, words

SOURCE = "copper is a soft metal with a reddish colour that people have worked for ten thousand years"
OTHER = "the river runs past old stone mills and slow green fields where herons stand in shallow water"


def test_a_copy_is_not_novel_and_an_unrelated_text_is() -> None:
    copy = variety([SOURCE], [SOURCE], keys=["a"])
    assert (copy.novelty, copy.coverage, copy.length_ratio) == (0.0, 1.0, 1.0)
    away = variety([OTHER], [SOURCE], keys=["a"])
    assert away.novelty == 1.0 and away.coverage is not None and away.coverage == 0.0
    half = variety([" ".join(SOURCE.split()[:8])], [SOURCE], keys=["a"])
    assert half.novelty == 0.0 and half.length_ratio == pytest.approx(8 / 17) and half.coverage == pytest.approx(7 / 16)


def test_versions_are_compared_with_each_other_and_with_earlier_rounds_but_not_with_other_sources() -> None:
    texts, keys = [SOURCE, OTHER], ["a", "b"]
    assert variety(texts, texts, keys=keys).self_similarity is None, "one version of each source: nothing to compare"
    assert variety(texts, texts, keys=keys, earlier={"a": [SOURCE]}).self_similarity == 1.0
    assert variety(texts, texts, keys=keys, earlier={"a": [OTHER]}).self_similarity == 0.0
    assert variety(texts, texts, keys=keys, earlier={"a": [SOURCE], "b": [SOURCE]}).self_similarity == 0.5
    assert variety([SOURCE, SOURCE, OTHER], [SOURCE] * 3, keys=["a"] * 3).self_similarity == pytest.approx(1 / 3)


def test_distinct_n_is_counted_on_as_many_words_in_every_round() -> None:
    loop = ["a", "b"] * 3
    assert distinct(loop, 1) == pytest.approx(2 / 6) and distinct(loop, 2) == pytest.approx(2 / 5)
    assert distinct([], 1) is None
    long = variety([SOURCE] * 10, [SOURCE] * 10, keys=list("abcdefghij"))
    short = variety([SOURCE] * 10, [SOURCE] * 10, keys=list("abcdefghij"), budget=17)
    assert long.distinct_1 == pytest.approx(16 / 170) and short.distinct_1 == pytest.approx(16 / 17)


def test_openings_that_repeat_have_less_entropy() -> None:
    same, all_different = [["in", "this", "text", str(i)] for i in range(8)], [[str(i), "a", "b"] for i in range(8)]
    assert opening_entropy(same) == pytest.approx(0.0) and opening_entropy(all_different) == pytest.approx(1.0)
    assert opening_entropy([*same[:4], *all_different[:4]]) == pytest.approx(
        (0.5 * math.log(2) + 0.5 * math.log(8)) / math.log(8)
    )
    assert opening_entropy([["one"]]) is None


def test_spread_is_the_mean_cosine_distance_of_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0.5, 1, (30, 8)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - float(unit[i] @ unit[j]) for i in range(30) for j in range(i)]
    assert mean_pairwise_distance(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert mean_pairwise_distance(np.ones((5, 3))) == pytest.approx(0.0) and mean_pairwise_distance(np.ones((1, 3))) is None
    assert mean_pairwise_distance(np.concatenate([vectors, np.zeros((3, 8))])) == pytest.approx(
        mean_pairwise_distance(vectors)
    ), "a text without tokens"


def test_rare_words_and_the_tail_of_a_list() -> None:
    counts = {"the": 90, "river": 9, "heron": 1}
    common, rare, unseen = mean_surprisal(["the the the", "heron", "zephyr"], counts)
    assert common < rare < unseen and rare == pytest.approx(-math.log(2 / 104))
    with pytest.raises(ValueError, match="word counts"):
        mean_surprisal(["the"], {})
    assert tail([3.0, 9.0, 1.0, 9.0, 2.0, 5.0, 4.0, 0.0, 7.0, 8.0], 0.2) == [1, 3]
    assert tail([1.0, 1.0, 1.0], 0.2) == [0, 1] and tail([], 0.2) == [] and words("It's a  Heron!") == ["it's", "a", "heron"]
