"""Eight answers to one passage: every judge sees the passage once, and each distinct answer once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from synpro.faithfulness.registry import open_judges
from synpro.judges.encoder import BertScoreEncoder
from synpro.judges.fluency import FluencyQuality
from synpro.judges.registry import JudgePool
from synpro.lm import influence
from synpro.operations.registry import build_operation, operation_config
from synpro.records import Probe
from synpro.rewards.base import RewardContext
from synpro.rewards.config import RubricConfig
from synpro.rewards.registry import REWARDS
from synpro.rewards.rubric import Rubric
from tests.rewards.reference import REFORMATTED, REPHRASED, SOURCES, answered


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[str]]:
    """How often each model behind a reward is given each text; the models are the real ones and answer themselves."""
    counts: dict[str, Counter[str]] = {}

    def counting(owner: Any, name: str) -> Callable[..., Any]:
        inner, count = getattr(owner, name), counts.setdefault(owner.__name__.rpartition(".")[2], Counter())

        def outer(*arguments: Any, **named: Any) -> Any:
            texts = next(a for a in arguments if isinstance(a, (list, tuple)))
            count.update(texts)
            return inner(*arguments, **named)

        return outer

    for owner, name in ((BertScoreEncoder, "_encode"), (FluencyQuality, "losses"), (influence, "text_losses")):
        monkeypatch.setattr(owner, name, counting(owner, name))
    return counts


@pytest.mark.parametrize("kind", ["rephrase", "reformat"])
def test_a_source_is_scored_once_however_many_answers_it_has(
    kind: str, seen: dict[str, Counter[str]], judges: JudgePool, probe: Probe
) -> None:
    operation = build_operation(operation_config(kind))
    fresh = open_judges(judges.cfg)  # the shared ones may know these texts
    context = RewardContext(RubricConfig(), operation, fresh, probe)
    weights = operation.config.weights
    rubric = Rubric([REWARDS[name].from_context(context) for name in weights], weights)
    honest = f"Rephrased:\n{REPHRASED['honey']}" if kind == "rephrase" else REFORMATTED["honey"]
    answers = [honest.replace("wax", word) for word in ("wax", "a lid", "wax", "clay", "wax", "wax", "clay", "wax")]
    rewrites = [answered(operation, "honey", answer) for answer in answers]
    assert all(r.text for r in rewrites) and len(set(answers)) == 3
    rubric.score(rewrites)
    rubric.score(rewrites)  # the next step of training shows the passage again
    fresh.close()

    source, texts = SOURCES["honey"], {str(r.text) for r in rewrites}
    assert set(seen) == {"BertScoreEncoder", "FluencyQuality", "influence"}
    models = {
        "BertScoreEncoder": 1,
        "FluencyQuality": 1,
        "influence": 2,
    }  # the influence of a text is two losses: before and after
    for judge, times in models.items():
        assert seen[judge][source] == times, judge
        assert all(seen[judge][text] == times for text in texts), judge
        assert max(seen[judge].values()) == times, judge
