"""A run directory that an earlier version left half-way (`older_run/`): read, and carried on, with its finished steps finished.

It was written when execution settings were part of requests. In its requests and its config some keys are missing, as if they
did not exist then, some have the names of still earlier versions, and one is gone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from synpro.commands.run import run
from synpro.commands.run_dir import init_or_verify, open_run
from synpro.commands.status import status
from synpro.config import ConfigError, load_config
from synpro.judges.base import EncoderConfig
from synpro.rewards.config import FaithfulnessConfig, InfluenceConfig, RubricConfig, SimilarityConfig
from synpro.runner.launch import MachineConfig
from synpro.runner.request import upgraded
from synpro.schema import renew
from synpro.stages.pretrain import PretrainConfig, pretrain
from synpro.stages.probe import ProbeConfig
from synpro.stages.train_verifier import TrainVerifierConfig

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


def test_new_keys_renamed_keys_and_new_fields_of_records_change_no_request(older: Path) -> None:
    """The stored request of `pretrain` lacks keys, has old names (`batch`, `lr`) and records without their new fields."""
    stored = json.loads((older / "round-00/pretrain/request.json").read_text(encoding="utf-8"))
    shard = {"record": "Shard", "dir": {"path": "round-01/synthesize-rephrase"}, "operation": "rephrase", "round": 1}
    shard |= {"digest": "d", **dict.fromkeys(("passages", "kept", "dropped", "documents", "tokens"), 1)}
    stored["inputs"]["shards"] = [shard]
    now = upgraded(stored, pretrain, older)
    old = stored["config"]
    assert (now["config"]["batch_size"], now["config"]["optimizer"]["learning_rate"]) == (old["batch"], old["optimizer"]["lr"])
    assert "batch" not in now["config"] and "lr" not in now["config"]["optimizer"]
    fields = {f.name: f.default for f in dataclasses.fields(PretrainConfig)}
    new = {key for key in now["config"] if key not in old and key != "batch_size"}
    assert new and all(now["config"][key] == json.loads(json.dumps(fields[key])) for key in new)
    assert now["inputs"]["shards"] == [shard | {"answers": 0, "covered": 0, "text_tokens": 0, "tokenizer": ""}]


def test_a_value_of_a_key_that_is_gone_voids_the_step_unless_it_is_the_one_that_is_fixed_now(older: Path) -> None:
    stored = json.loads((older / "round-00/pretrain/request.json").read_text(encoding="utf-8"))
    assert (
        stored["config"]["model"]["qk_norm"] is True and "qk_norm" not in upgraded(stored, pretrain, older)["config"]["model"]
    )
    stored["config"]["model"]["qk_norm"] = False
    assert upgraded(stored, pretrain, older)["config"]["model"]["qk_norm"] is False, "which no request of this version has"
    for cls, key, fixed in (
        *((RubricConfig, "min_form", 0.5), (FaithfulnessConfig, "min_form", 0.25), (SimilarityConfig, "max_in_order", 0.85)),
        *((TrainVerifierConfig, "heldout", 0.25), (ProbeConfig, "ranked_passages", 1000), (InfluenceConfig, "max_run", 0.7)),
    ):
        assert renew(cls, {key: fixed}) == {} and renew(cls, {key: 0.1}) == {key: 0.1}
    assert renew(EncoderConfig, {"batch_tokens": 1}) == {}, "it decided no result"


def test_a_result_key_that_differs_is_refused_and_an_execution_key_is_not(older: Path) -> None:
    cfg = open_run(older)
    init_or_verify(dataclasses.replace(cfg, machine=MachineConfig(processes=2, launcher="ray", workers=3)), older)
    with pytest.raises(ConfigError, match=r"pretrain\.warmup_steps: 2 -> 3"):
        init_or_verify(dataclasses.replace(cfg, pretrain=dataclasses.replace(cfg.pretrain, warmup_steps=3)), older)


def test_its_config_is_one_that_synpro_wrote_although_keys_are_new_and_old(older: Path) -> None:
    written = (older / "config.toml").read_text()
    for name in ("round-00", "environment.json"):
        shutil.move(older / name, older.parent / name)
    init_or_verify(open_run(older), older)
    for text in (f"# mine\n{written}", written.replace("seed = 0", "seed=0"), 'name = "older"\n'):
        (older / "config.toml").write_text(text)
        with pytest.raises(ConfigError, match="is not one that synpro wrote"):
            init_or_verify(load_config(OLDER.parent / "loop.toml", ["name=older"]), older)


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
