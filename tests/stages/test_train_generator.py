"""A whole generator training on a tiny chat model that has learned the form of `rephrase`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from synpro.engines.cpu.packed import can_pack
from synpro.engines.hf import HFEngine
from synpro.engines.openai import OpenAIConfig, ServerError
from synpro.engines.vllm import VLLMConfig
from synpro.grpo.passages import draw_passages
from synpro.grpo.preflight import PreflightError
from synpro.grpo.stats import RewardScale
from synpro.judges.base import DataManConfig, JudgesConfig, LayoutModelConfig
from synpro.operations.base import rewrite_passages
from synpro.records import Corpus, Generator
from synpro.rewards.config import RubricConfig
from synpro.rewards.scoring import Scoring
from synpro.runner.launch import MachineConfig
from synpro.runner.logger import StepLogger
from synpro.runner.progress import NullProgress
from synpro.runner.step import Steps
from synpro.schema import SchemaError, build
from synpro.stages.train_generator import TrainGeneratorConfig, train_generator
from tests.chat_server import NAME, Nursery, Server
from tests.stages.small_generator import (
    FILTERS,
    NO_PROBE,
    NO_VERIFIER,
    OPERATION,
    config,
    contents,
    make_base,
    make_corpus,
    train,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def first(base: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """The generator of the first round, in a folder of its own."""
    return train(config(base), corpus, tmp_path_factory.mktemp("first"))


def test_the_same_seed_gives_the_same_bytes_also_over_leftovers(
    base: Path, corpus: Corpus, first: Generator, tmp_path: Path
) -> None:
    (tmp_path / "b" / "adapter").mkdir(parents=True)
    (tmp_path / "b" / "adapter" / "half.safetensors").write_bytes(b"killed")
    (tmp_path / "b" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.0}\n{"step"')
    second = train(config(base), corpus, tmp_path / "b")
    assert first.adapter is not None and second.adapter is not None
    folder = first.adapter.parent
    assert contents(first.adapter) == contents(second.adapter)
    assert first.digest == second.digest
    assert (folder / "validation.json").read_bytes() == (tmp_path / "b/validation.json").read_bytes()
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["adapter", "metrics.jsonl", "trl", "validation.json"]
    saved = json.loads((first.adapter / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(base)

    rows = [json.loads(line) for line in (tmp_path / "b/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    wanted = {"reward", "reward/structure", "pass/length", "share/failing", "passed", "truncated", "zero_std", "kl"}
    assert wanted | {"completion_tokens", "seconds", "seconds/generate", "seconds/reward"} <= set(rows[0])
    reported = json.loads((folder / "validation.json").read_text())
    assert reported["before"]["parsed"] > 0.3
    assert len(reported["after"]["samples"]) == 2
    assert {"passage", "answer", "text", "scores"} <= set(reported["after"]["samples"][0])
    assert fmean(s["mean_reward"] for s in reported["after"]["samples"]) == pytest.approx(reported["after"]["reward"])


def test_a_round_starts_from_the_previous_generator(base: Path, corpus: Corpus, first: Generator, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    kept = train(config(base), corpus, tmp_path / "kept", first, replace(OPERATION, steps=0))
    fresh = train(config(base, start="base"), corpus, tmp_path / "fresh", first, replace(OPERATION, steps=0))
    assert first.adapter is not None and kept.adapter is not None
    weights, again = (load_file(g / "adapter_model.safetensors") for g in (first.adapter, kept.adapter))
    assert weights.keys() == again.keys()
    assert all((weights[k] == again[k]).all() for k in weights)
    assert fresh.adapter is None and fresh.weights is None
    assert json.loads((tmp_path / "fresh/validation.json").read_text())["measured"] == [], "nothing is trained: not measured"
    on = train(config(base, later_lr_ratio=0.25), corpus, tmp_path / "on", first)
    folders = (first.adapter.parent, tmp_path / "on")
    rates = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["lr"] for folder in folders]
    assert rates[1] == pytest.approx(0.25 * rates[0]), "smaller steps for what is trained already"
    assert on.adapter is not None and on.digest != first.digest
    moved = load_file(on.adapter / "adapter_model.safetensors")
    assert moved.keys() == weights.keys()
    assert any((weights[k] != moved[k]).any() for k in weights)


def test_full_weights(
    base: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    from transformers import AutoModelForCausalLM

    from synpro.grpo import trl
    from synpro.stages import train_generator as stage

    types, packed = list[torch.dtype](), list[bool]()

    def noted(operation: object, passages: object, engine: Any, sampling: object) -> Any:
        hook = engine.model.lm_head.register_forward_hook(lambda module, given, logits: types.append(logits.dtype))
        found = rewrite_passages(operation, passages, engine, sampling)  # type: ignore[arg-type]
        hook.remove()
        return found

    monkeypatch.setattr(stage, "rewrite_passages", noted)
    monkeypatch.setattr(trl, "can_pack", lambda model: packed.append(can_pack(model)) or packed[-1])
    done = train(config(base, tuning="full", dtype="bfloat16"), corpus, tmp_path)
    assert done.weights is not None and done.adapter is None
    before, after = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (base, done.weights))
    assert any((before[k].bfloat16() != after[k]).any() for k in before)
    assert set(types) == {torch.bfloat16}, "the state before training answers in the arithmetic of those after"
    assert not [w for w in recwarn if "shared-prefix" in str(w.message)], "checked by the bound of what it computes in"
    assert packed and all(packed)
    with pytest.raises(ValueError, match=r'"lora" cannot carry on from .* "full"'):
        train(config(base), corpus, tmp_path / "lora", done)


def test_a_model_that_cannot_keep_the_form_is_stopped(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="truncated at 3 tokens"):
        train(config(base), corpus, tmp_path, operation=replace(OPERATION, max_new_tokens=3))


NOTING = """
import glob
import os

import synpro.grpo.trl
from synpro.rewards.base import Reward
from synpro.rewards.registry import REWARDS


class Noting(Reward):
    name, worst = "noting", -1.0

    def score(self, rewrites):
        with open({file!r} + os.environ.get("RANK", "0"), "a") as notes:
            notes.writelines(f"{{r.passage.id}} {{r.answer!r}}\\n" for r in rewrites)
        with open({file!r} + "-saved", "a") as notes:
            notes.writelines(glob.glob("round-01/train-rephrase/trl/checkpoint-*"))
        return [len(r.answer) / 100 for r in rewrites]


REWARDS["noting"] = Noting
synpro.grpo.trl.SAVE_SECONDS = 0.0
"""


def test_two_processes_train_the_generator_of_one_and_score_each_answer_once(
    base: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run starts them: `accelerate launch`, DDP over gloo. A checkpoint is saved after the first step."""
    from safetensors.torch import load_file

    from synpro.grpo import trl

    monkeypatch.setattr(trl, "SAVE_SECONDS", trl.SAVE_SECONDS)
    rows, notes, records = {}, {}, {}
    for count in (1, 2):
        root = tmp_path / f"{count}"
        root.mkdir()
        (root / "noting.py").write_text(NOTING.format(file=str(root / "noted")))
        monkeypatch.chdir(root)
        do = Steps(root, seed=3, machine=MachineConfig(threads=1, rl_processes=count), listener=NullProgress())
        records[count] = do(
            "round-01/train-rephrase",
            train_generator,
            config(base, micro_batch_size=4, prompts_per_step=4),
            operation=replace(OPERATION, weights={"noting": 2.0, "format": 1.0}),
            scoring=Scoring(RubricConfig(files=("noting.py",)), JudgesConfig(), NO_PROBE, NO_VERIFIER, FILTERS),
            corpus=corpus,
            start=None,
            round=1,
        )
        out = root / "round-01" / "train-rephrase"
        rows[count] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert "checkpoint-1" in (root / "noted-saved").read_text()
        notes[count] = [(root / f"noted{rank}").read_text().splitlines() for rank in range(count)]
    one, two = rows[1], rows[2]
    assert [row["step"] for row in two] == [row["step"] for row in one] == [1, 2]
    for name in ("reward", "reward/noting", "parsed", "truncated", "zero_std", "completion_tokens"):
        assert two[0][name] == pytest.approx(one[0][name], abs=1e-9), name
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-3)
    shares = notes[2]
    reported = json.loads((tmp_path / "2/round-01/train-rephrase/validation.json").read_text())
    scored = [8 * reported[when]["passed"] for when in ("before", "after")] + [16 * row["passed"] for row in two]
    assert len(shares[0]) + len(shares[1]) == pytest.approx(sum(scored)), "each answer that no rule rejects, once"
    before = round(scored[0] + scored[2])  # answers to the validation passages, and those of the first step
    assert not Counter(notes[1][0][:before]) - Counter(shares[0] + shares[1])
    a, b = (load_file(records[n].adapter / "adapter_model.safetensors") for n in (1, 2))
    assert all((a[k] - b[k]).norm() <= 0.05 * a[k].norm() for k in a)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes new weights")
def test_vllm_in_training_is_refused_where_it_cannot_be_handed_weights(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    for engine in (VLLMConfig(), OpenAIConfig(url="http://127.0.0.1:1")):
        with pytest.raises(ValueError, match=r"train_generator\.engine: vLLM packs its weights on a CPU"):
            train(config(base, engine=engine), corpus, tmp_path)


class Killing(StepLogger):
    """Kills a server when the first step of GRPO is told."""

    def __init__(self, out: Path, server: Server) -> None:
        super().__init__(out)
        self.server = server

    def metrics(self, **values: Any) -> None:
        super().metrics(**values)
        self.server.kill()


def test_a_judge_that_is_killed_stops_the_step_which_finishes_once_it_is_back(
    base: Path, corpus: Corpus, qwen: Path, nursery: Nursery, other_qwen: Path, tmp_path: Path
) -> None:
    """The paper's judges of quality and structure, both behind one server; in the end every byte is that of a calm run."""
    operation = replace(OPERATION, weights={"quality": 1.0, "length": 1.0, "structure": 1.0})
    with Server(nursery, qwen) as server:
        engine = OpenAIConfig(url=server.url, max_attempts=2, pause_seconds=0.01)
        judges = {"dataman": DataManConfig(NAME, engine), "layout_model": LayoutModelConfig(NAME, engine)}
        remote = JudgesConfig(quality="dataman", layout="llm", **judges)
        out = tmp_path / "there"
        with pytest.raises(
            ServerError, match=rf"judges\..*: the server http://127\.0\.0\.1:{server.port}/v1 .*, after 2 attempts"
        ):
            train(config(base), corpus, out, operation=operation, judges=remote, logger=Killing(out, server))
        assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [1]
        server.start(other_qwen)
        with pytest.raises(ServerError, match="other weights than before"):
            train(config(base), corpus, out, operation=operation, judges=remote)
        server.kill()
        server.start(qwen)
        there = train(config(base), corpus, out, operation=operation, judges=remote)
        calm = train(config(base), corpus, tmp_path / "calm", operation=operation, judges=remote)
    assert there.adapter is not None and calm.adapter is not None
    assert contents(there.adapter) == contents(calm.adapter)
    assert (out / "validation.json").read_bytes() == (tmp_path / "calm/validation.json").read_bytes()
    assert contents(out / "scratch").keys() == {"judges.dataman.json", "judges.layout_model.json"}


class Dying(StepLogger):
    """Dies when a step of GRPO is told."""

    def __init__(self, out: Path, step: int) -> None:
        super().__init__(out)
        self.step = step
        self.shown: list[float] = []

    def progress(self, done: float, *args: Any, **values: Any) -> None:
        self.shown.append(done)

    def metrics(self, **values: Any) -> None:
        super().metrics(**values)
        if values["step"] == self.step:
            raise InterruptedError


def test_a_killed_training_carries_on_to_the_same_bytes(
    base: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second pass over the passages."""
    from synpro.grpo import trl

    cfg = config(base, keep="best", validate_every=2, prompts_per_step=3, micro_batch_size=12)
    operation = replace(OPERATION, steps=4, max_new_tokens=12)
    calm = train(cfg, corpus, tmp_path / "calm", operation=operation)
    monkeypatch.setattr(trl, "SAVE_SECONDS", 0.0)
    out = tmp_path / "killed"
    with pytest.raises(InterruptedError):
        train(cfg, corpus, out, operation=operation, logger=Dying(out, 4))
    assert [p.name for p in (out / "trl").iterdir()] == ["checkpoint-3"], "older ones are deleted"
    (out / "trl" / "checkpoint-99").mkdir()  # not whole
    resumed = Dying(out, 99)
    done = train(cfg, corpus, out, operation=operation, logger=resumed)
    assert calm.adapter is not None and done.adapter is not None
    assert contents(calm.adapter) == contents(done.adapter)
    assert (out / "validation.json").read_bytes() == (tmp_path / "calm/validation.json").read_bytes()
    rows = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (tmp_path / "calm", out)]
    plain = [[{k: v for k, v in row.items() if not k.startswith("seconds")} for row in some] for some in rows]
    assert plain[0] == plain[1] and len(plain[0]) == 4
    assert (out / "trl").exists(), "the runner removes it when `result.json` is there"
    assert resumed.shown[0] == 1 + 3, "an attempt begins where it goes on: two such did not end at the same place"


def test_a_passage_that_the_model_cannot_read_is_left_out_and_too_few_are_told(base: Path, tmp_path: Path) -> None:
    from synpro.corpus import store

    corpus = make_corpus(tmp_path)
    learned = draw_passages(tmp_path, 6, 2, 7)[0]
    rows = [*store.read_rows(tmp_path / "passages.parquet")]
    for row in rows:
        row["text"] = "长" * 3000 if row["id"] == learned[0].id else row["text"]
    store.write_rows(tmp_path / "passages.parquet", store.PASSAGES, rows)
    train(config(base, prompts_per_step=3, micro_batch_size=12), corpus, tmp_path / "a")
    assert [json.loads(line)["step"] for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()] == [1, 2]
    with pytest.raises(ValueError, match=r"prompts_per_step: a step shows 6 passages, and there are 5 that the model can read"):
        train(config(base, prompts_per_step=6, micro_batch_size=12), corpus, tmp_path / "b")


def test_an_answer_that_turns_nan_costs_itself_and_not_the_training(
    base: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = HFEngine._sample

    def spoiled(self: HFEngine, active: Any, logits: torch.Tensor, sampling: Any) -> None:
        logits[[request.index == 1 and len(request.ids) == 3 for request in active]] = float("nan")
        sample(self, active, logits, sampling)

    monkeypatch.setattr(HFEngine, "_sample", spoiled)
    train(config(base), corpus, tmp_path)
    assert "answers to learn from: 4 of 16 have no answer: the logits of" in capsys.readouterr().out


def test_a_training_that_ends_early_is_no_training(base: Path, corpus: Corpus, tmp_path: Path, monkeypatch) -> None:
    from synpro.grpo.trl import Trainer

    monkeypatch.setattr(Trainer, "train", lambda self, **how: None)
    with pytest.raises(RuntimeError, match="ended after 0 of 2 steps"):
        train(config(base), corpus, tmp_path)


def test_gradients_are_held_once_by_several_processes(tmp_path: Path) -> None:
    from trl import GRPOConfig

    from synpro.grpo.trl import Trainer

    trainer = Trainer.__new__(Trainer)
    trainer.args, trainer.model = GRPOConfig(output_dir=str(tmp_path), bf16=False, report_to="none", use_cpu=True), None
    (handler,) = trainer._build_accelerator_args()["kwargs_handlers"]
    assert handler.to_kwargs()["gradient_as_bucket_view"], "the plan counts them once"


def test_the_best_state_goes_on_and_every_step_trains(
    base: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation is made to say that training does harm from step 2 on."""
    from safetensors.torch import load_file

    rewards = iter([0.0, 0.0, 0.4, -0.2, -0.9])  # the first is the scale's own
    monkeypatch.setattr(RewardScale, "total", lambda self, scores: next(rewards) if len(scores) == 8 and self.moments else 0.0)
    reported: list[str] = []
    monkeypatch.setattr(StepLogger, "log", lambda self, line: reported.append(line))
    operation = replace(OPERATION, steps=3)
    cfg = config(base, keep="best", validate_every=1, prompts_per_step=4, micro_batch_size=16, warmup_ratio=0.5)
    kept = train(cfg, corpus, tmp_path / "kept", operation=operation)
    body = json.loads((tmp_path / "kept/validation.json").read_text())
    assert body["kept"] == 1 and [m["step"] for m in body["measured"]] == [0, 1, 2, 3]
    assert (body["after"]["reward"], body["last"]["reward"]) == (0.4, -0.9), "the last was not chosen on these passages"
    assert any("step 1 of 3" in line and "goes on" in line for line in reported)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "kept/metrics.jsonl").read_text().splitlines()]
    assert min(rates) > 0
    rewards = iter([0.0, 0.0, 0.4, -0.2, -0.9])  # the first is the scale's own
    last = train(replace(cfg, keep="last"), corpus, tmp_path / "last", operation=operation)
    assert kept.adapter is not None and last.adapter is not None
    a, b = (load_file(g.adapter / "adapter_model.safetensors") for g in (kept, last))
    assert any((a[k] != b[k]).any() for k in a) and any(a[k].any() for k in a if "lora_B" in k)


def test_the_default_is_the_papers_setting() -> None:
    cfg = TrainGeneratorConfig()
    assert (cfg.learning_rate, cfg.min_lr_ratio, cfg.warmup_ratio, cfg.beta) == (1e-6, 0.1, 0.1, 0.005)
    assert (cfg.num_generations, cfg.prompts_per_step, cfg.tuning) == (8, 16, "full")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"micro_batch_size": 7}, "micro_batch_size: 7 does not divide"),
        ({"num_generations": 1}, "num_generations: 1 is out of range"),
        ({"steps": {"rephrase": 5}}, r"steps: .*operations\.NAME\.steps"),
        ({"vllm_memory": 0.5}, r"vllm_memory: .*train_generator\.engine\.gpu_memory_utilization"),
        ({"engine": {"type": "server"}}, "engine: 'server' cannot be given new weights"),
        ({"engine": {"type": "vllm"}, "tuning": "lora"}, 'use dtype = "float32"'),
    ],
)
def test_bad_values_and_old_keys_name_the_key(change: dict, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        build(TrainGeneratorConfig, change)
