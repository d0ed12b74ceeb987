"""Each reward on its own, and the rubric's config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from synpro.faithfulness.rule_verifier import has_details
from synpro.judges.base import JudgesConfig
from synpro.judges.registry import JudgePool
from synpro.operations.registry import build_operation, operation_config
from synpro.rewards.advantages import normalized_totals
from synpro.rewards.base import FAILED
from synpro.rewards.config import InfluenceConfig, RubricConfig, SimilarityConfig
from synpro.rewards.faithfulness import Faithfulness
from synpro.rewards.influence import InfluenceReward
from synpro.rewards.length import Length
from synpro.rewards.registry import REWARDS, needs_of
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring
from synpro.rewards.similarity import Similarity
from synpro.schema import build
from tests.rewards.reference import REFORMAT, REFORMATTED, REPHRASE, REPHRASED, SOURCES, answered


def reported(name: str, text: str) -> list:
    return [answered(REPHRASE, name, f"Rephrased:\n{text}")]


class Counting:
    """An influence that is known: characters / 1000. Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, texts: Sequence[str]) -> list[float]:
        self.asked += texts
        return [len(t) / 1000 for t in texts]


def test_influence_scores_a_source_when_it_is_shown_once_and_is_a_difference(judges: JudgePool) -> None:
    scorer = Counting()
    reward = InfluenceReward(scorer, judges.encoder, RubricConfig())
    (value,) = reward.score(reported("honey", REPHRASED["honey"]))
    assert value == pytest.approx((len(REPHRASED["honey"]) - len(SOURCES["honey"])) / 1000)
    reward.score(reported("honey", REPHRASED["honey"]))
    assert sorted(scorer.asked) == sorted([SOURCES["honey"], REPHRASED["honey"]]), "each text once, no other source"
    reward.score(reported("honey", SOURCES["honey"]))
    assert len(scorer.asked) == 2, "nothing is scored of what fails"


@pytest.mark.parametrize(
    "text", ["Bees make honey.", SOURCES["honey"], SOURCES["printing"], "Bees make honey from nectar. " * 9]
)
def test_influence_of_what_does_not_carry_its_passage_has_failed(text: str, judges: JudgePool) -> None:
    assert InfluenceReward(Counting(), judges.encoder).score(reported("honey", text)) == [FAILED]


def test_placebo_and_no_influence_keep_the_gate(judges: JudgePool) -> None:
    rewrites = [r for name, text in REPHRASED.items() for r in reported(name, text)] + reported("honey", "Bees make honey.")
    scores = {}
    for values in ("measured", "shuffled", "none"):
        reward = InfluenceReward(Counting(), judges.encoder, RubricConfig(influence=InfluenceConfig(values=values)))
        scores[values] = reward.score(rewrites)
        assert reward.score(rewrites) == scores[values], "the same batch is dealt alike"
    assert scores["shuffled"] != scores["measured"] and sorted(scores["shuffled"]) == sorted(scores["measured"])
    assert scores["none"] == [0.0] * len(REPHRASED) + [FAILED] and scores["measured"][-1] == scores["shuffled"][-1] == FAILED


def test_novelty_is_less_the_more_is_copied() -> None:
    half = SOURCES["honey"][: len(SOURCES["honey"]) // 2] + " and after that the insects do their slow work in the dark."
    values = [REWARDS["novelty"]().score(reported("honey", t))[0] for t in (REPHRASED["honey"], half, SOURCES["honey"])]
    assert values[0] > 0.8 > values[1] > 0.1 > values[2] == 0.0


def test_similarity_pays_a_rewrite_not_a_copy_or_another_text(judges: JudgePool) -> None:
    reward = Similarity(judges.encoder)
    texts = (REPHRASED["honey"], SOURCES["honey"], SOURCES["printing"])
    assert [reward.score(reported("honey", t))[0] for t in texts] == [1.0, FAILED, 0.0]


def test_similarity_can_pay_f1_itself(judges: JudgePool) -> None:
    texts = (REPHRASED["honey"], SOURCES["honey"], SOURCES["printing"], "")
    rewrites = [reported("honey", t)[0] for t in texts]
    plain = Similarity(judges.encoder, RubricConfig(similarity=SimilarityConfig(value="continuous")))
    good, copy, other, empty = plain.score(rewrites)
    assert 0.65 < good < 1 and 0 < other < 0.4 and copy == empty == FAILED
    (alignment,) = judges.encoder.align([REPHRASED["honey"]], [SOURCES["honey"]])
    assert good == alignment.f1


def test_faithfulness_is_the_share_of_supported_claims(judges: JudgePool) -> None:
    reward = Faithfulness(REFORMAT, judges.verifier)
    answer = REFORMATTED["lighthouse"]
    invented = answer + "\n\nTopic: The keeper\nContent: The keeper of the tower was paid two shillings by the king of Spain."
    scores = reward.score([answered(REFORMAT, "lighthouse", a) for a in (answer, answer.replace("1698", "1689"), invented)])
    assert scores == pytest.approx([1.0, 2 / 3, 3 / 4])


def test_numbers_and_names_must_stand_in_the_passage() -> None:
    source = "In 1,450 two men left Mainz for the city of Rome."
    assert has_details("Two people, 2 in all, went to Rome in 1450.", source)
    assert not has_details("They left in 1451.", source)
    assert not has_details("The men went to Venice.", source)


def test_length_has_a_ceiling_and_a_floor() -> None:
    reward, source = Length(), SOURCES["honey"]
    assert [reward.score(reported("honey", t))[0] for t in (source, source[:300], source[:100], source + source[:150])] == [
        1,
        1,
        0,
        0,
    ]


def test_the_default_rubric_is_the_papers() -> None:
    ones = dict.fromkeys(("quality", "similarity", "structure", "length", "format"), 1.0)
    assert operation_config("rephrase").weights == {"influence": 3.0, **ones}
    assert operation_config("reformat").weights == {
        "influence": 3.0,
        **dict.fromkeys(("quality", "faithfulness", "format"), 1.0),
    }
    assert RubricConfig().similarity.threshold == 0.65
    assert RubricConfig().length.at_most == 1.25


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"weights": {}}, "weights: is now operations.NAME.weights"),
        ({"similarity": {"max_copied": 0.5}}, "similarity.max_copied: is now rubric.max_copied"),
        ({"max_copied": 1.5}, "max_copied: 1.5 is out of range; give above 0 and at most 1"),
        ({"length": {"at_least": 2.0}}, "length.at_least: 2.0 is not below at_most"),
    ],
)
def test_config_errors_name_the_key(table: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        build(RubricConfig, table)


def test_a_rubric_without_a_reward_is_refused() -> None:
    rephrase = build_operation(replace(operation_config("rephrase"), weights={"influence": 3.0}))
    with pytest.raises(ValueError, match=r"operations\.rephrase\.weights: no reward that can be computed here"):
        Rubric.build(rephrase, Scoring(RubricConfig(), JudgesConfig()))


def test_without_a_probe_there_is_no_influence_and_weight_0_is_not_computed() -> None:
    config = operation_config("rephrase", weights={"quality": 0, "similarity": 0, "structure": 0})
    assert config.weights["influence"] == 3.0
    assert Rubric.build(build_operation(config), Scoring(RubricConfig(), JudgesConfig())).names == ["length", "format"]


def test_rewards_declare_what_they_need() -> None:
    assert needs_of({"influence": 3.0, "structure": 1.0, "quality": 0.0}) == {"encoder", "probe", "layout"}
    assert needs_of({"length": 1.0, "format": 1.0}) == set()
    assert {name: reward.name for name, reward in REWARDS.items()} == {name: name for name in REWARDS}


def test_totals_give_small_and_large_rewards_the_same_voice() -> None:
    scores = [{"influence": 0.01, "format": 0.0}, {"influence": 0.03, "format": 1.0}, {"influence": 0.02, "format": None}]
    weights = {"influence": 3.0, "format": 1.0}
    low, high, middle = normalized_totals(scores, weights)
    assert low < middle < high
    assert high == pytest.approx(-low)
    assert high == pytest.approx(normalized_totals([{**s, "influence": s["influence"] * 1000} for s in scores], weights)[1])
    assert normalized_totals([{"format": 1.0}] * 3, {"format": 1.0}) == [0.0] * 3
