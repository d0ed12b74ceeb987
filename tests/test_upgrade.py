"""A run directory that an earlier version left half-way (`older_run/`): read, and carried on, with its finished steps finished.

It was written when execution settings were part of requests. In its requests and its config some keys are missing, as if they
did not exist then, some have the names of still earlier versions, and one is gone."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from synpro.commands.run import run
from synpro.commands.run_dir import init_or_verify, open_run
from synpro.commands.status import status
from synpro.config import ConfigError, load_config
from synpro.runner.launch import MachineConfig

OLDER = Path(__file__).with_name("older_run")
DONE = ("round-00/prepare", "round-00/pretrain")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLDER, tmp_path / "older"))


def test_it_is_carried_on_and_what_was_done_is_not_done_again(older: Path) -> None:
    cfg = open_run(older)
    assert [s.state for s in status(older)] == ["done", "done", "to come"]
    before = {step: (older / step / "result.json").read_bytes() for step in DONE}
    hardware = dataclasses.replace(cfg.pretrain.hardware, micro_batch_size=2)
    pretrain = dataclasses.replace(cfg.pretrain, hardware=hardware, checkpoint_every=1)
    later = dataclasses.replace(cfg, pretrain=pretrain, machine=MachineConfig(threads=2))
    done = run(later, older.parent)
    assert done.report is not None and done.report.exists()
    assert before == {step: (older / step / "result.json").read_bytes() for step in DONE}
    assert not (older / "round-00/pretrain/execution.json").read_text().startswith('{\n "attempts"'), "it was not run again"
    assert load_config(older / "config.toml") == later, "the directory's config is written anew"


def test_a_result_key_that_differs_is_refused_and_an_execution_key_is_not(older: Path) -> None:
    cfg = open_run(older)
    init_or_verify(dataclasses.replace(cfg, machine=MachineConfig(processes=2, launcher="ray", workers=3)), older)
    with pytest.raises(ConfigError, match=r"pretrain\.warmup_steps: 2 -> 3"):
        init_or_verify(dataclasses.replace(cfg, pretrain=dataclasses.replace(cfg.pretrain, warmup_steps=3)), older)


def test_an_engine_that_generates_is_a_result_key_and_that_of_a_judge_is_not(older: Path) -> None:
    path = older / "config.toml"
    init_or_verify(open_run(older), older)
    moved = ['judges.dataman.engine={type="openai", url="http://127.0.0.1:8000/v1"}', "synthesize.engine.batch_size=3"]
    init_or_verify(load_config(path, moved), older)
    assert load_config(path).synthesize.engine.batch_size == 3
    with pytest.raises(ConfigError, match=r"synthesize\.engine\.type: 'transformers' -> 'vllm'"):
        init_or_verify(load_config(path, ['synthesize.engine={type="vllm"}']), older)
    with pytest.raises(ConfigError, match=r"judges\.dataman\.model: "):
        init_or_verify(load_config(path, ['judges.dataman={model="hf:a/b"}']), older)
