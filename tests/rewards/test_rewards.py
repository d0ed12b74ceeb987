"""Each reward on its own, and the rubric's config."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from synpro.judges.base import JudgesConfig
from synpro.judges.rule_verifier import details_stand
from synpro.judges.table import Judges
from synpro.operations.base import OperationConfig
from synpro.operations.table import build
from synpro.rewards.faithfulness import Faithfulness
from synpro.rewards.influence import Influence, InfluenceConfig
from synpro.rewards.length import Length
from synpro.rewards.rubric import Rubric, RubricConfig, totals
from synpro.rewards.similarity import Similarity, SimilarityConfig
from synpro.run.ranks import Ranks
from tests.rewards.honest import REFORMATTED, REPHRASED, SOURCES, answered, passage

REPHRASE, REFORMAT = build(OperationConfig("rephrase")), build(OperationConfig("reformat"))


def told(name: str, text: str) -> list:
    return [answered(REPHRASE, name, f"Rephrased:\n{text}")]


class Counting:
    """An influence that is known: characters / 1000. Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, texts: Sequence[str]) -> list[float]:
        self.asked += texts
        return [len(t) / 1000 for t in texts]


def test_influence_scores_each_source_once_and_is_a_difference(judges: Judges) -> None:
    scorer = Counting()
    reward = Influence(scorer, judges.encoder, InfluenceConfig())
    reward.prepare([passage(n) for n in SOURCES])
    lengths = [len(t) / 1000 for t in SOURCES.values()]
    assert reward.worst == pytest.approx(min(lengths) - max(lengths))
    (value,) = reward.score(told("honey", REPHRASED["honey"]))
    gain = (len(REPHRASED["honey"]) - len(SOURCES["honey"])) / 1000
    assert value == pytest.approx(min(gain, -reward.worst))
    reward.score(told("honey", REPHRASED["honey"]))
    assert len(scorer.asked) == len(SOURCES) + 1


def test_processes_score_each_source_once_between_them(judges: Judges) -> None:
    meet, boxes = Barrier(3), [list[tuple[str, float]]() for _ in range(3)]

    def reward(number: int) -> tuple[Counting, float, list[float | None]]:
        def exchange(part: list) -> list:
            boxes[number] = part
            meet.wait()
            return [item for box in boxes for item in box]

        scorer = Counting()
        mine = Influence(scorer, judges.encoder, InfluenceConfig(), Ranks(number, 3, exchange))
        mine.prepare([passage(n) for n in SOURCES])
        return scorer, mine.worst, mine.score([])

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(reward, range(3)))
    alone = Influence(Counting(), judges.encoder, InfluenceConfig())
    alone.prepare([passage(n) for n in SOURCES])
    assert sorted(text for scorer, *_ in done for text in scorer.asked) == sorted(SOURCES.values())
    assert all(scorer.asked for scorer, *_ in done) and {worst for _, worst, _ in done} == {alone.worst}


@pytest.mark.parametrize(
    "text", ["Bees make honey.", SOURCES["honey"], SOURCES["printing"], "Bees make honey from nectar. " * 9]
)
def test_influence_of_what_does_not_carry_its_passage_is_the_worst(text: str, judges: Judges) -> None:
    reward = Influence(Counting(), judges.encoder, InfluenceConfig())
    reward.prepare([passage(n) for n in SOURCES])
    assert reward.score(told("honey", text)) == [reward.worst]


def test_the_placebo_deals_the_values_of_what_carries_its_passage_and_leaves_the_worst(judges: Judges) -> None:
    rewrites = [r for name, text in REPHRASED.items() for r in told(name, text)] + told("honey", "Bees make honey.")
    scores = {}
    for shuffled in (False, True):
        reward = Influence(Counting(), judges.encoder, InfluenceConfig(shuffled=shuffled))
        reward.prepare([passage(n) for n in SOURCES])
        scores[shuffled] = reward.score(rewrites)
        assert reward.score(rewrites) == scores[shuffled], "the same batch is dealt alike"
    assert scores[True] != scores[False] and sorted(scores[True]) == sorted(scores[False])
    assert scores[True][-1] == scores[False][-1] == reward.worst


def test_similarity_pays_a_rewrite_not_a_copy_or_another_text(judges: Judges) -> None:
    reward = Similarity(judges.encoder)
    texts = (REPHRASED["honey"], SOURCES["honey"], SOURCES["printing"])
    assert [reward.score(told("honey", t))[0] for t in texts] == [1.0, 0.0, 0.0]


def test_similarity_can_pay_f1_itself_and_weigh_rare_tokens_more(judges: Judges) -> None:
    texts = (REPHRASED["honey"], SOURCES["honey"], SOURCES["printing"], "")
    rewrites = [told("honey", t)[0] for t in texts]
    plain = Similarity(judges.encoder, SimilarityConfig(value="continuous"))
    good, copy, other, empty = plain.score(rewrites)
    assert 0.65 < good < 1 and 0 < other < 0.4 and copy == empty == plain.worst == 0.0
    (alignment,) = judges.encoder.align([REPHRASED["honey"]], [SOURCES["honey"]])
    assert good == alignment.f1

    weighed = Similarity(judges.encoder, SimilarityConfig(value="continuous", idf=True))
    with pytest.raises(ValueError, match=r"similarity\.idf: no passages"):
        weighed.score(rewrites)
    weighed.prepare([passage(n) for n in SOURCES])
    rare = weighed.score(rewrites)
    assert rare[0] != good and rare[0] > 2 * rare[2]
    with pytest.raises(ValueError, match="idf: 1 texts do not tell"):
        weighed.prepare([passage("honey")])


def test_faithfulness_is_the_share_of_supported_claims(judges: Judges) -> None:
    reward = Faithfulness(REFORMAT, judges.verifier)
    answer = REFORMATTED["lighthouse"]
    invented = answer + "\n\nTopic: The keeper\nContent: The keeper of the tower was paid two shillings by the king of Spain."
    scores = reward.score([answered(REFORMAT, "lighthouse", a) for a in (answer, answer.replace("1698", "1689"), invented)])
    assert scores == pytest.approx([1.0, 2 / 3, 3 / 4])


def test_numbers_and_names_must_stand_in_the_passage() -> None:
    source = "In 1,450 two men left Mainz for the city of Rome."
    assert details_stand("Two people, 2 in all, went to Rome in 1450.", source)
    assert not details_stand("They left in 1451.", source)
    assert not details_stand("The men went to Venice.", source)


def test_length_has_a_ceiling_and_a_floor() -> None:
    reward, source = Length(), SOURCES["honey"]
    assert [reward.score(told("honey", t))[0] for t in (source, source[:300], source[:100], source + source[:150])] == [
        1,
        1,
        0,
        0,
    ]


def test_the_default_rubric_is_the_papers() -> None:
    weights = RubricConfig().weights
    ones = dict.fromkeys(("quality", "similarity", "structure", "length", "format"), 1.0)
    assert weights == {
        "rephrase": {"influence": 3.0, **ones},
        "reformat": {"influence": 3.0, **dict.fromkeys(("quality", "faithfulness", "format"), 1.0)},
    }
    assert RubricConfig().similarity.threshold == 0.65
    assert RubricConfig().length.at_most == 1.25


def test_config_errors_name_the_key() -> None:
    with pytest.raises(ValueError, match=r"weights\.rephrase: there is no reward 'infuence'"):
        RubricConfig(weights={"rephrase": {"infuence": 1.0}})
    with pytest.raises(ValueError, match="every weight is 0"):
        RubricConfig(weights={"rephrase": {"format": 0.0}})
    with pytest.raises(ValueError, match="no weights for operation 'rephrase'"):
        Rubric.build(REPHRASE, RubricConfig(weights={"reformat": {"format": 1.0}}), JudgesConfig(), None)


def test_without_a_probe_there_is_no_influence_and_weight_0_is_not_computed() -> None:
    cfg = RubricConfig(weights={"rephrase": {"influence": 3.0, "length": 1.0, "quality": 0.0, "format": 1.0}})
    assert Rubric.build(REPHRASE, cfg, JudgesConfig(), None).names == ["length", "format"]


def test_totals_give_small_and_large_rewards_the_same_voice() -> None:
    scores = [{"influence": 0.01, "format": 0.0}, {"influence": 0.03, "format": 1.0}, {"influence": 0.02, "format": None}]
    low, high, middle = totals(scores, {"influence": 3.0, "format": 1.0})
    assert low < middle < high
    assert high == pytest.approx(-low)
    assert totals([{"format": 1.0}] * 3, {"format": 1.0}) == [0.0] * 3
