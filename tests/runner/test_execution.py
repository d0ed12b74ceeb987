"""Keys that say how, changed while a run goes on; requests of an earlier version; and what a step sees of the machine."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from synpro.records import Checkpoint, Probe, decode, digest_of, encode
from synpro.runner.launch import MachineConfig
from synpro.runner.placement import PLACEMENT, on_one_gpu, step_environment, threads_of
from synpro.runner.progress import NullProgress
from synpro.runner.request import changes, make_request, upgraded
from synpro.runner.step import StepError, Steps
from synpro.schema import renew
from tests.conftest import ROOT
from tests.runner.counting import Bundle, CountConfig, Pace, count


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def steps(root: Path, machine: MachineConfig | None = None, **options: Any) -> Steps:
    return Steps(root, seed=7, machine=machine or MachineConfig(threads=1), **options)


def cfg(every: int = 1, batch: int = 4, **more: Any) -> CountConfig:
    return CountConfig(4, every=every, pace=Pace(batch), **more)


def test_execution_keys_change_in_the_middle_and_the_bytes_stay(tmp_path: Path) -> None:
    calm, other = tmp_path / "calm", tmp_path / "other"
    first = steps(calm)("a", count, cfg(trouble="stop"), bundle=Bundle(cfg(), None, None))
    steps(calm)("b", count, cfg(), before=first)
    with pytest.raises(StepError, match="killed"):  # the first attempt is killed, and carried on in other ways
        steps(other)("a", count, cfg(2, trouble="kill"), bundle=Bundle(cfg(9), None, None))
    last = cfg(3, 1, trouble="kill")
    steps(other, MachineConfig(threads=2))("a", count, last, bundle=Bundle(cfg(8, 2), None, None))
    found = steps(other)("a", count, cfg(5, 2, trouble="kill"), bundle=Bundle(cfg(7, 1), None, None))
    steps(other)("b", count, cfg(6, 3), before=found)
    assert (calm / "b/result.json").read_bytes() == (other / "b/result.json").read_bytes()
    attempts = json.loads((other / "a/execution.json").read_text())["attempts"]
    assert [a["attempt"] for a in attempts] == [1, 2], "a step that is found done adds nothing"
    assert [a["settings"]["config.every"] for a in attempts] == [2, 3]
    assert attempts[1]["settings"]["inputs.bundle.cfg.pace.batch"] == 2
    assert [a["machine"]["threads"] for a in attempts] == [1, 2]
    log = (other / "a/log.txt").read_text()
    assert "every 2, batches of 4, threads 1" in log and "every 3, batches of 1, threads 2" in log
    with pytest.raises(StepError, match=r"config\.pace\.style: 'calm' -> 'loud'"):
        steps(other)("b", count, CountConfig(4, pace=Pace(3, "loud")), before=found)


def doctored(root: Path, change: Any) -> bytes:
    """Change a finished step's request as if an earlier version had written it."""
    request, result = (json.loads((root / "a" / f"{name}.json").read_text()) for name in ("request", "result"))
    change(request)
    result["request"] = digest_of(request)
    (root / "a/request.json").write_text(json.dumps(request))
    (root / "a/result.json").write_text(json.dumps(result))
    return (root / "a/result.json").read_bytes()


def older(request: dict[str, Any]) -> None:
    config = request["config"]
    del config["trouble"], request["inputs"]["bundle"]  # neither existed
    config.pop("pace")
    config |= {"limit": config.pop("upto"), "colour": "red", "every": 12}  # renamed, gone, and once part of the request


def test_a_finished_step_of_an_earlier_version_stays_finished(tmp_path: Path) -> None:
    steps(tmp_path)("a", count, cfg())
    before = doctored(tmp_path, older)
    assert steps(tmp_path)("a", count, cfg(every=5)).heldout_loss == 4
    assert (tmp_path / "a/result.json").read_bytes() == before
    for changed, key in ((CountConfig(5), "config.upto: 4 -> 5"), (cfg(trouble="x"), "config.trouble: '' -> 'x'")):
        with pytest.raises(StepError, match=re.escape(key)):
            steps(tmp_path)("a", count, changed)
    with pytest.raises(StepError, match=r"inputs\.bundle: None -> "):
        steps(tmp_path)("a", count, cfg(), bundle=Bundle(cfg(), None, None))


def test_a_setting_that_has_moved_to_another_table_of_the_config_moves_in_the_request(tmp_path: Path) -> None:
    bundle = Bundle(CountConfig(2, trouble="mild"), None, None)
    request, _ = make_request(count, cfg(), {"bundle": bundle}, 1, tmp_path)
    stored = json.loads(json.dumps(request))
    stored["config"]["harsh"] = stored["inputs"]["bundle"]["cfg"].pop("trouble")
    assert upgraded(stored, count, tmp_path) == request != stored


@pytest.mark.parametrize("shuffled", [True, False])
def test_a_setting_deep_in_a_bundle_that_has_moved_does_not_void_the_step(shuffled: bool, tmp_path: Path) -> None:
    from synpro.judges.base import JudgesConfig
    from synpro.operations.base import OperationConfig
    from synpro.rewards.config import InfluenceConfig, RubricConfig
    from synpro.rewards.scoring import Scoring
    from synpro.stages.synthesize import SynthesizeConfig, synthesize

    influence = InfluenceConfig(values="shuffled" if shuffled else "measured")
    scoring = Scoring(RubricConfig(max_copied=0.7, influence=influence), JudgesConfig())
    inputs = {"scoring": scoring, "operation": OperationConfig("rephrase", min_recall=0.4, weights={"format": 1.0})}
    request, _ = make_request(synthesize, SynthesizeConfig(), inputs, 1, tmp_path)
    stored = json.loads(json.dumps(request))
    rubric, operation = stored["inputs"]["scoring"]["rubric"], stored["inputs"]["operation"]
    rubric["influence"] |= {"max_copied": rubric.pop("max_copied"), "min_recall": operation.pop("min_recall")}
    del rubric["influence"]["values"]
    rubric["influence"] |= {"shuffled": shuffled, "min_spread": 0.02}
    assert changes(upgraded(stored, synthesize, tmp_path), request) == []


def test_a_default_that_changed_is_a_change(tmp_path: Path) -> None:
    steps(tmp_path)("a", count, cfg())
    doctored(tmp_path, lambda request: request["config"]["pace"].update(style="loud"))
    with pytest.raises(StepError, match=r"config\.pace\.style: 'loud' -> 'calm'"):
        steps(tmp_path)("a", count, cfg())


def test_a_step_begun_by_an_earlier_version_is_carried_on(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="killed"):
        steps(tmp_path)("a", count, cfg(trouble="kill"))
    request = json.loads((tmp_path / "a/request.json").read_text())
    del request["config"]["pace"]
    (tmp_path / "a/request.json").write_text(json.dumps(request))
    (served := tmp_path / "a/scratch/server-x1/model").mkdir(parents=True)
    assert steps(tmp_path)("a", count, cfg(trouble="kill")).heldout_loss == 4, "its scratch folder was kept"
    assert not served.exists()


def test_records_may_have_got_fields_and_lost_some(tmp_path: Path) -> None:
    probe = encode(Probe(tmp_path / "b", tmp_path / "a", "d"), tmp_path)
    del probe["replicas"]
    assert decode({**probe, "gone": 1}, tmp_path) == Probe(tmp_path / "b", tmp_path / "a", "d")
    with pytest.raises(ValueError, match=r"'Checkpoint' of a finished step was written by another version.*tokens_seen"):
        decode({"record": "Checkpoint", "dir": {"path": "x"}}, tmp_path)
    assert decode(encode(c := Checkpoint(tmp_path, 1, 2, True, "", 0.5, "d"), tmp_path), tmp_path) == c


def test_every_default_of_every_stage_may_be_new(tmp_path: Path) -> None:
    """The request of each stage, stored without any key that has a default, is the same request."""
    from synpro.config import RunConfig
    from synpro.loop import loop
    from synpro.outline import NotRun

    seen: list[str] = []

    def run_step(name: str, stage: Any, stage_cfg: Any, *, seed_key: str | None = None, **inputs: Any) -> Any:
        plain = {key: value for key, value in inputs.items() if not _has_placeholder(value)}
        request, settings = make_request(stage, stage_cfg, plain, 1, tmp_path)
        stored = json.loads(json.dumps(request))
        for field in dataclasses.fields(stage_cfg):
            if getattr(stage_cfg, field.name) == getattr(type(stage_cfg)(), field.name):
                stored["config"].pop(field.name, None)
        now = upgraded(stored, stage, tmp_path)
        assert changes(now["config"], request["config"]) == []
        assert not any("batch_tokens" in key or "micro_batch_size" in key for key in _keys(request))
        seen.append(f"{name}: {len(settings)}")
        return NotRun(name, -float(len(seen)))

    loop(RunConfig("x"), run_step)
    assert len(seen) == 18


def _has_placeholder(value: Any) -> bool:
    from synpro.outline import NotRun

    if isinstance(value, NotRun):
        return True
    if isinstance(value, (list, tuple)):
        return any(map(_has_placeholder, value))
    if dataclasses.is_dataclass(value):
        return any(_has_placeholder(getattr(value, f.name)) for f in dataclasses.fields(value))
    return False


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(key for part in value.values() for key in _keys(part))}
    return {key for part in value for key in _keys(part)} if isinstance(value, list) else set()


def test_renamed_keys_are_found_at_any_depth() -> None:
    from synpro.stages.pretrain import PretrainConfig

    old = {"batch": 8, "hardware": {"microbatch": 2}, "model": {"qk_norm": True, "d_model": 4}, "plateau": "none"}
    new = {"batch_size": 8, "hardware": {"micro_batch_size": 2}, "model": {"d_model": 4}, "plateau": "none"}
    assert renew(PretrainConfig, old) == new


SETTINGS = {"config.device": "cuda:2", "inputs.scoring.judges.dataman.engine": {"type": "transformers", "device": "cuda:1"}}


@pytest.mark.parametrize(
    ("placement", "machine", "settings", "expected"),
    [
        (None, MachineConfig(processes=8), {}, 1),
        ("processes", MachineConfig(processes=4, nodes=2), {}, 4),
        ("rl", MachineConfig(rl_processes=2), {}, 2),
        ("workers", MachineConfig(launcher="ray", workers=3), {}, 3),
        ("workers", MachineConfig(launcher="ray", workers=3, address="auto"), {}, 1),
        ("workers", MachineConfig(), {}, 1),
        (None, MachineConfig(), SETTINGS, 3),
    ],
)
def test_a_step_sees_the_gpus_it_uses_on_a_machine_of_eight(
    monkeypatch: pytest.MonkeyPatch, placement: Any, machine: MachineConfig, settings: dict[str, Any], expected: int
) -> None:
    if placement:
        monkeypatch.setitem(PLACEMENT, "a:b", placement)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", lambda: 8)  # what PyTorch asks the driver
    for visible, first in ((None, "0"), ("3,4,5,6", "3")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        env = step_environment("a:b", machine, settings)
        assert env["CUDA_VISIBLE_DEVICES"].split(",")[0] == first
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", env["CUDA_VISIBLE_DEVICES"])
        assert torch.cuda._device_count_nvml() == expected
    assert step_environment("synpro.stages.prepare:prepare", MachineConfig(), {})["CUDA_VISIBLE_DEVICES"] == ""


def test_the_process_itself_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6,7")
    steps(tmp_path, MachineConfig(threads=1, processes=2))("a", count, cfg())
    assert "GPUs '5'" in (tmp_path / "a/log.txt").read_text()


def test_the_cores_are_divided_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synpro.runner.placement.usable_cores", lambda: 12)
    monkeypatch.setitem(PLACEMENT, "a:b", "processes")
    assert threads_of("a:b", MachineConfig(processes=4)) == 3
    assert threads_of("a:c", MachineConfig(processes=4)) == 12
    assert threads_of("a:b", MachineConfig(processes=4, threads=5)) == 5
    assert threads_of("a:b", MachineConfig(processes=100)) == 1
    assert step_environment("a:b", MachineConfig(processes=4), {})["OMP_NUM_THREADS"] == "3"


def test_a_step_has_large_pages_of_memory_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert step_environment("a:b", MachineConfig(), {})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert step_environment("a:b", MachineConfig(), {})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


def test_a_trainer_takes_one_gpu_where_its_process_sees_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import GRPOConfig, SFTConfig

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    for kind in (GRPOConfig, SFTConfig):
        arguments = kind(output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, report_to="none")
        assert arguments.n_gpu == 8, "what TRL refuses"
        assert on_one_gpu(arguments).n_gpu == 1
    source = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    trainers = len(re.findall(r"\b(?:self\.trainer = Trainer|SFTTrainer|GRPOTrainer)\($", source, re.MULTILINE))
    assert trainers == source.count("args=on_one_gpu(") > 1, "every trainer that is opened"


class Lines(NullProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, step: str, event: Any) -> None:
        self.lines += [event["log"]] if "log" in event else []


def test_a_step_killed_twice_at_the_same_place_ends_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    with pytest.raises(StepError, match="killed") as first:
        steps(tmp_path, listener=lines)("a", count, cfg(trouble="always killed"))
    assert "ended twice" not in str(first.value)
    for served in ("server-1/open", "rank-1/server-2"):
        (tmp_path / "a/scratch" / served).mkdir(parents=True)
    rmdir = os.rmdir

    def busy(path: str, **at: int) -> None:
        if path == "open":
            raise OSError(errno.EBUSY, "its server is dying")
        rmdir(path, **at)

    monkeypatch.setattr(os, "rmdir", busy)
    with pytest.raises(StepError, match=r"ended twice at the same place \(100% of the step\)"):
        steps(tmp_path, listener=lines)("a", count, cfg(trouble="always killed"))
    assert [p.name for p in (tmp_path / "a").glob("scratch/**/server-*")] == ["server-1"]
