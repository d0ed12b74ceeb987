"""The bill of each step of a finished run: the parts it should have, and time that adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synpro.compare.bill import bill, parameters
from synpro.config import load
from synpro.loop import outline
from synpro.measure.cost import added, total
from tests.conftest import ROOT

PARTS = {
    "pretrain": {"pretraining"},
    "probe": {"probing"},
    "train-rephrase": {"RL", "judging"},
    "train-reformat": {"RL", "judging"},
    "synthesize-rephrase": {"generating", "judging"},
    "synthesize-reformat": {"generating", "judging"},
    "verifier": {"judging"},
    "prepare": set(),
    "evaluate": set(),
}


def test_parameters_are_counted_from_the_weights() -> None:
    assert parameters(load(ROOT / "tests" / "loop.toml").train_generator.base) == 134_515_008
    assert parameters("no/such/model") == 0


@pytest.mark.loop
def test_every_step_is_billed_in_its_parts(finished_run: Path) -> None:
    cfg = load(ROOT / "tests" / "loop.toml")
    bills = {step: bill(finished_run, step, cfg) for step in outline(cfg)}
    for step, parts in bills.items():
        assert set(parts) == PARTS[step.rpartition("/")[2]]
        seconds = json.loads((finished_run / step / "timing.json").read_text())["seconds"]
        assert not parts or total(parts).seconds == pytest.approx(seconds)
        assert all(work.flops > 0 and work.tokens > 0 and work.seconds >= 0 for work in parts.values()), (step, parts)
    whole = added(list(bills.values()))
    last = json.loads((finished_run / "round-02/pretrain/result.json").read_text())["record"]
    assert whole["pretraining"].tokens == last["tokens_seen"], "what each round added, together"
    shard = json.loads((finished_run / "round-01/synthesize-rephrase/result.json").read_text())["record"]
    assert bills["round-01/synthesize-rephrase"]["generating"].tokens > shard["tokens"] > 0
