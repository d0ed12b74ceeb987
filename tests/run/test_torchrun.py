"""A step of two processes, as a run starts it: torchrun, gloo, and the same curve as one process."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from synpro.lm.settings import HardwareConfig
from synpro.run.screen import Silent
from synpro.run.step import Steps
from tests.stages.small_corpus import small_corpus
from tests.stages.test_pretrain import CFG


def test_pretrain_in_two_processes_gives_the_curve_of_one(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "corpus")
    cfg = dataclasses.replace(CFG, hardware=HardwareConfig(microbatch=4))
    curves, records = [], []
    for processes in (1, 2):
        do = Steps(tmp_path / f"run-{processes}", seed=3, threads=1, watcher=Silent())
        inputs = {"corpus": corpus, "shards": [], "start": None}
        records.append(do("round-00/pretrain", "synpro.stages.pretrain:pretrain", cfg, processes=processes, **inputs))
        path = tmp_path / f"run-{processes}" / "round-00" / "pretrain" / "metrics.jsonl"
        curves.append([json.loads(line) for line in path.read_text().splitlines()])
    one, two = curves
    assert len(one) == len(two) > 6
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and a["step"] == b["step"]
        for key in a.keys() & {"train_loss", "reference_loss", "heldout_loss"}:
            assert b[key] == pytest.approx(a[key], abs=1e-4)
    assert (records[0].steps, records[0].tokens_seen) == (records[1].steps, records[1].tokens_seen)
