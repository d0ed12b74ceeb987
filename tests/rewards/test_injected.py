"""Judges read an attack as text: a sample of the shipped ones lifts no bad output to the honest answer."""

from __future__ import annotations

import pytest

from synpro.audit.attacks import attacks
from synpro.audit.injection import against_judges
from synpro.config import load
from synpro.judges.table import Judges
from synpro.operations.base import OperationConfig
from synpro.operations.table import build
from synpro.rewards.rubric import REWARDS, Bench, Rubric
from tests.conftest import ROOT
from tests.rewards.honest import SUBJECTS

CFG = load(ROOT / "configs" / "tiny.toml").rubric
SAMPLE = [a for a in attacks("judge") if a.id in ("fake-label-03", "fake-score-02", "orders-to-the-judge-01", "judge-form-04")]


@pytest.mark.parametrize("kind", ["rephrase", "reformat"])
def test_no_attack_lifts_a_bad_output_to_the_honest_answer(kind: str, panel: Judges) -> None:
    operation = build(OperationConfig(kind))
    weights = {n: w for n, w in CFG.weights[kind].items() if n != "influence"}
    rubric = Rubric([REWARDS[name](Bench(CFG, operation, panel, None)) for name in weights], weights)
    verdicts = against_judges(SAMPLE, operation, rubric, [SUBJECTS["honey"], SUBJECTS["lighthouse"]])
    assert {v.reward for v in verdicts} >= {"quality", "faithfulness"}
    assert {v.place for v in verdicts} == {"output", "passage"}
    assert [(v.attack.id, v.reward, v.place) for v in verdicts if v.won] == []
