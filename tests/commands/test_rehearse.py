"""`synpro rehearse`: what is made smaller, a step that is killed and goes on, what a finished run says as a rehearsal, and what
it refuses, by name."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from synpro.commands import rehearse as commands
from synpro.commands import shapes
from synpro.commands.export import export
from synpro.commands.rehearse import rehearse, seconds_of
from synpro.commands.shapes import check_shapes
from synpro.config import ConfigError, RunConfig, load_config, load_stored, plain
from synpro.export.selection import ExportError
from synpro.planning.plan import estimate_stages
from synpro.planning.rehearsal import (
    Kept,
    Machine,
    Rehearsal,
    StageMeasurement,
    Watched,
    format_rehearsal,
    gate_problems,
    read_results,
    rehearsal_config,
    rehearsed_seconds,
    surprises,
)
from synpro.planning.tables import format_plan
from synpro.runner.progress import NullProgress
from synpro.runner.step import ExpectedSeconds, StepError, lock
from tests.conftest import ROOT, synpro

LOOP = ROOT / "tests" / "loop.toml"
BIG = Machine(100e9, 80e9, {})


def leaves(table: object, key: str = "") -> dict[str, object]:
    if isinstance(table, dict):
        return {k: v for name, part in table.items() for k, v in leaves(part, f"{key}.{name}".strip(".")).items()}
    return {key: table}


@pytest.mark.parametrize("name", ["400m", "1b", "2b"])
def test_only_counts_are_smaller(name: str) -> None:
    cfg = load_config(ROOT / "configs" / f"{name}.toml")
    before, after = leaves(plain(cfg)), leaves(plain(rehearsal_config(cfg, None)))
    assert {key for key in before if before[key] != after[key]} == {
        *("name", "rounds", "operations.rephrase.steps", "operations.reformat.steps"),
        *("prepare.train_words", "prepare.reference_share", "prepare.heldout_share"),
        *("pretrain.round_tokens", "pretrain.total_tokens", "pretrain.evaluate_every", "pretrain.checkpoint_every"),
        *("probe.steps", "train_generator.validation_passages", "evaluate.max_items", "evaluate.max_documents"),
    }
    assert after["pretrain.round_tokens"] == [12 * 512 * 2048] and rehearsal_config(cfg, None).pretrain.rounds_that_fit(2) == 2


def test_a_step_is_killed_and_goes_on_and_the_run_is_told_how_long_it_will_take(tmp_path: Path) -> None:
    done = synpro("rehearse", LOOP, "--set", "rounds=0", "--runs", tmp_path, "--no-calibrate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round-00/pretrain was killed after its first checkpoint, and goes on" in done.stdout
    root = tmp_path / "loop.rehearsal"
    assert json.loads((root / "round-00/pretrain/timing.json").read_text())["attempts"] == 2
    assert "loop can start" in done.stdout and "extrapolated" in done.stdout
    documents = [json.loads(line)["id"] for line in (root / "stress.jsonl").read_text().splitlines()]
    assert {"stress-base64", "stress-chat marks", "stress-longest 0.0"} <= set(documents)
    cfg = load_config(LOOP, ["rounds=0"])
    assert "times: by the rates" in "\n".join(format_plan(cfg, tmp_path / "loop", calibrate=True))
    stored = load_stored(RunConfig, root / "config.toml")
    assert ExpectedSeconds(tmp_path / "loop", cfg)("round-00/pretrain") > 1
    assert ExpectedSeconds(tmp_path / "loop", stored)("round-00/pretrain") is None, "it was measured for another config"
    seen = json.loads((root / "watched.json").read_text())["round-00/pretrain"]
    assert 0.2 < seen["work"] < 0.9, "it went on from its checkpoint"
    with pytest.raises(ExportError, match="is a rehearsal"):
        export(root, tmp_path / "out", "parquet")


def test_a_rehearsal_that_goes_on_leaves_its_texts_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise StepError("over")

    monkeypatch.setattr(commands, "check", lambda *_, **__: None)
    monkeypatch.setattr(commands, "_execute", stop)
    times = []
    for _ in range(2):
        with pytest.raises(ConfigError, match="stopped: over"):
            rehearse(load_config(LOOP, ["rounds=0"]), tmp_path, print, 1.0)
        times.append((tmp_path / "loop.rehearsal" / "stress.jsonl").stat().st_mtime_ns)
    assert times[0] == times[1], "a step that has read them would warn"


@pytest.mark.loop
def test_a_finished_run_read_as_a_rehearsal(finished_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "loop.rehearsal"
    shutil.copytree(finished_run, root, ignore=shutil.ignore_patterns("trainer", "weights"))
    cfg = load_config(LOOP)
    planned = {row.stage: 10.0 for row in estimate_stages(cfg, tmp_path / "loop", None)}
    found = read_results(cfg, load_config(LOOP), root, {}, replace(BIG, planned=planned), 86400)
    assert [s.stage for s in found.stages][:3] == ["prepare", "verifier", "pretrain"] and len(found.stages) == 9
    assert found.problems == () and all(s.seconds > 0 and s.ram_bytes > 1e8 and s.disk_bytes > 0 for s in found.stages)
    for operation, kept in zip(("rephrase", "reformat"), found.kept, strict=True):
        shards = [json.loads((root / f"round-0{n}/synthesize-{operation}/result.json").read_text())["record"] for n in (1, 2)]
        assert kept.answers == sum(s["answers"] for s in shards) and kept.kept == sum(s["kept"] for s in shards)
        assert sum(kept.reasons.values()) == kept.answers - kept.kept and kept.zero_std is not None
    text = "\n".join(format_rehearsal(found))
    assert "largest surprises:" in text and len(surprises(found)) == 3
    twice = load_config(LOOP, ["pretrain.max_tokens=20_480"])
    more = read_results(twice, load_config(LOOP), root, {"round-02/pretrain": Watched(30.0, 10.0)}, BIG, 86400)
    pretrain = next(s for s in more.stages if s.stage == "pretrain")
    assert pretrain.extrapolated == pytest.approx(10 + 2 * 20), "start-up once, twice the work"
    row = next(r for r in estimate_stages(twice, tmp_path / "loop", None) if r.stage == "pretrain")
    assert rehearsed_seconds(row, more.to_json()["stages"]) == pytest.approx(3 * 50)


def measurement(stage: str, **more: float) -> StageMeasurement:
    return replace(StageMeasurement(stage, 2, 100.0, 20.0, 5.0, 1, 1.0, 120.0, 1e9, 1e9, 1e9, 1e6), **more)


def test_what_must_not_be_started_is_named() -> None:
    cfg = load_config(LOOP)

    def problems(*stages: StageMeasurement, kept: tuple[Kept, ...] = ()) -> list[str]:
        return gate_problems(cfg, Rehearsal("x", stages, kept), BIG, 100.0)

    fine = [measurement("pretrain"), measurement("synthesize-rephrase"), measurement("train-rephrase")]
    assert problems(*fine) == [], "these go on where they were stopped"
    assert "probe: would take 2 min 00 s, more than --time (1 min 40 s)" in problems(measurement("probe"))[0]
    assert "pretrain: took 74.0 of 74.5 GiB of GPU memory" in problems(measurement("pretrain", gpu_bytes=79.5e9))[0]
    vllm = load_config(ROOT / "configs" / "400m.toml")
    full = Rehearsal("x", (measurement("synthesize-rephrase", gpu_bytes=0.94 * 80e9),), ())
    assert gate_problems(vllm, full, BIG, 100.0) == [], "vLLM reserves 90% of a GPU"
    assert "above 90%" in gate_problems(cfg, full, BIG, 100.0)[0]
    over = Rehearsal("x", (measurement("synthesize-rephrase", gpu_bytes=0.96 * 80e9),), ())
    assert "above 95%" in gate_problems(vllm, over, BIG, 100.0)[0]
    few, unlucky = (Kept("rephrase", n, 1, {"copy": n - 1}, 0.0) for n in (100, 8))
    assert "1 of 100 answers are kept, under 20% (dropped: copy 99)" in problems(kept=(few,))[0]
    assert problems(kept=(unlucky,)) == [], "eight answers cannot tell 1 in 8 from 1 in 4"


def test_start_up_is_told_or_follows_from_the_pace_and_is_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event: (seconds, share that is done, what is told of models that were opened)."""
    now = [0.0]
    monkeypatch.setattr(commands, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(commands, "gpu_bytes", lambda what: [])

    def seen(end: float, *events: tuple[float, float, dict[str, float]], attempts: int = 1) -> Watched:
        watch = commands._ResourceWatch(tmp_path / "watched.json")
        watch.over(NullProgress())
        (tmp_path / "step").mkdir(exist_ok=True)
        (tmp_path / "step" / "timing.json").write_text(json.dumps({"attempts": attempts}))
        watch.begin("step", None)
        began = now[0]
        for seconds, share, startup in events:
            now[0] = began + seconds
            watch.event("step", {"done": share, "total": 1.0, **startup})
        watch.end("step", end, reused=False)
        return watch.steps["step"]

    assert seen(100, (60, 0, {"startup": 55, "ago": 0}), (80, 0.5, {}), (100, 1, {})).startup == 60, "vLLM: two chunks"
    assert seen(100, (80, 0, {"startup": 55, "ago": 20}), (80, 0.25, {}), (100, 1, {})).startup == 60, "Ray: told a chunk later"
    judges: tuple[float, float, dict[str, float]] = (90, 0.5, {"startup": 10, "ago": 0})
    assert seen(100, (60, 0, {"startup": 55, "ago": 0}), judges).startup == 70, "models that are opened later count too"
    assert seen(100, (0, 0, {}), (64, 0.1, {}), (100, 1, {})).startup == pytest.approx(60), "at an even pace"
    assert seen(100, (100, 1, {})).startup == 0 and seen(100).startup == 0, "nothing tells them apart: all is work"
    resumed = seen(100, (50, 0.6, {}), (72.5, 0.7, {}), (100, 1, {}), attempts=2)
    assert resumed.work == pytest.approx(0.4) and resumed.startup == pytest.approx(72.5 - 55 / 6)


def test_the_rehearsal_of_another_config_is_not_removed_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("check", "estimate_stages"):
        monkeypatch.setattr(commands, name, lambda *args, **more: None)
    monkeypatch.setattr(commands, "stress_documents", lambda cfg: [])
    root = tmp_path / "loop.rehearsal"
    root.mkdir()
    (root / "config.toml").write_text("another")
    descriptor = lock(root)
    with pytest.raises(StepError, match="in use"):
        rehearse(load_config(LOOP), tmp_path, print, 86400)
    assert (root / "config.toml").read_text() == "another"
    os.close(descriptor)
    monkeypatch.setattr(commands, "locked_run_dir", lambda cfg, runs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rehearse(load_config(LOOP), tmp_path, print, 86400)
    assert {path.name for path in root.iterdir()} == {".lock", "stress.jsonl"}


def test_a_run_is_looked_at_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ExpectedSeconds(Path())("round-00/pretrain") is None


def test_times_are_those_of_slurm() -> None:
    assert [seconds_of(t) for t in ("30", "1:30", "24:00:00", "2-0", "1-2:30")] == [1800, 90, 86400, 172800, 95400]
    with pytest.raises(ConfigError, match="--time soon"):
        seconds_of("soon")


def test_planted_faults_are_named_before_anything_runs(tmp_path: Path, qwen: Path) -> None:
    def refused(*sets: str) -> str:
        with pytest.raises(ConfigError) as problem:
            rehearse(load_config(LOOP, list(sets)), tmp_path, lambda line: None, 86400)
        return str(problem.value)

    assert "rounds = 9, but pretrain.total_tokens" in refused("rounds=9", "pretrain.total_tokens=20_480")
    mute = shutil.copytree(qwen, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((mute / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (mute / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "chat template" in refused(f"train_generator.base={mute}")
    long = ("prepare.passages.max_words=none", "prepare.passages.target_words=none", "prepare.passages.max_characters=90000")
    assert "the largest English passage makes a prompt of" in refused(*long)
    assert not (tmp_path / "loop.rehearsal").exists()


def test_the_shapes_of_a_published_config_need_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    estimate = shapes.estimate_stages
    monkeypatch.setattr(shapes, "estimate_stages", lambda *args: estimate(*args) if not asked.append(args[1]) else [])
    lines = "\n".join(check_shapes(load_config(ROOT / "configs" / "400m.toml"), tmp_path))
    assert asked == [tmp_path / "400m"]
    assert "model: 474,022,912 parameters; 8 x 2048 tokens keep" in lines and "memory: every stage fits on 1 x h100" in lines
    with pytest.raises(ConfigError, match="rounds = 3, but"):
        check_shapes(load_config(ROOT / "configs" / "400m.toml", ["pretrain.evaluate_every=1092"]))
