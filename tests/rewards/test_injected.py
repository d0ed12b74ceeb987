"""Judges read an attack as text: a sample of the shipped ones lifts no bad output to the reference answer."""

from __future__ import annotations

import pytest

from benchmarks.attacks import attacks
from benchmarks.injection_trials import against_judges
from synpro.config import load_config
from synpro.judges.registry import JudgePool
from synpro.operations.registry import build_operation
from synpro.rewards.base import RewardContext
from synpro.rewards.registry import REWARDS
from synpro.rewards.rubric import Rubric
from tests.conftest import ROOT
from tests.rewards.reference import SUBJECTS

CFG = load_config(ROOT / "configs" / "tiny.toml")
SAMPLE = [a for a in attacks("judge") if a.id in ("fake-label-03", "fake-score-02", "orders-to-the-judge-01", "judge-form-04")]


@pytest.mark.parametrize("kind", ["rephrase", "reformat"])
def test_no_attack_lifts_a_bad_output_to_the_reference_answer(kind: str, panel: JudgePool) -> None:
    operation = build_operation(CFG.operations[kind])
    weights = {n: w for n, w in operation.config.weights.items() if n != "influence"}
    rubric = Rubric(
        [REWARDS[name].from_context(RewardContext(CFG.rubric, operation, panel, None)) for name in weights], weights
    )
    verdicts = against_judges(SAMPLE, operation, rubric, [SUBJECTS["honey"], SUBJECTS["lighthouse"]])
    assert {v.reward for v in verdicts} >= {"quality", "faithfulness"}
    assert {v.place for v in verdicts} == {"output", "passage"}
    assert [(v.attack.id, v.reward, v.place) for v in verdicts if v.won] == []
