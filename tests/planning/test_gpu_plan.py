"""A run on given GPUs: hand-worked hours, recipes that fit, and refusals that say what would."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from synpro.config import load_config
from synpro.planning.gpu_plan import GPUS, GpuPlan, GpuPlanError, gpu_by_name
from synpro.planning.plan import estimate_stages
from synpro.planning.tables import MAIN, PARTS, format_gpu_plan, overhead, part_hours
from synpro.runner.step import rates_digest
from tests.conftest import ROOT

PLANS = ROOT / "docs" / "plans.md"


def planned(name: str, plan: GpuPlan, folder: Path, sets: list[str] | None = None) -> str:
    return "\n".join(format_gpu_plan(load_config(ROOT / "configs" / f"{name}.toml", sets or []), folder, plan))


@pytest.mark.parametrize(("name", "flops"), [("400m", 5.57e19), ("1b", 3.70e20)])
def test_pretraining_takes_its_flops_at_the_mfu(name: str, flops: float, tmp_path: Path) -> None:
    plan = GpuPlan(64, GPUS["h100"], price=2.0)
    row = next(
        r for r in estimate_stages(load_config(ROOT / "configs" / f"{name}.toml"), tmp_path, None) if r.stage == "pretrain"
    )
    hours = flops / (0.4 * 989e12) / 3600
    assert plan.hours(row) == pytest.approx(hours, rel=0.01)
    line = next(x for x in planned(name, plan, tmp_path).splitlines() if re.match(r"pretrain +64 ", x))
    assert float(line.split()[3]) == pytest.approx(hours, rel=0.01) and float(line.split()[4]) == pytest.approx(
        hours / 64, abs=0.06
    )


def test_generating_is_slower_than_reading(tmp_path: Path) -> None:
    row = next(
        r
        for r in estimate_stages(load_config(ROOT / "configs" / "400m.toml"), tmp_path, None)
        if r.stage == "synthesize-rephrase"
    )
    decoded = row.work["generating"].decode_flops
    assert 0 < decoded < row.flops
    slow, fast = GpuPlan(1, GPUS["h100"], decode_mfu=0.05), GpuPlan(1, GPUS["h100"], decode_mfu=0.1)
    assert slow.hours(row) - fast.hours(row) == pytest.approx(decoded * (1 / 0.05 - 1 / 0.1) / 989e12 / 3600)


@pytest.mark.parametrize("name", ["400m", "1b", "2b"])
def test_knowing_what_to_generate_costs_at_most_half_of_generating_and_training(name: str, tmp_path: Path) -> None:
    cfg, plan = load_config(ROOT / "configs" / f"{name}.toml"), GpuPlan(64, GPUS["h100"])
    rows = estimate_stages(cfg, tmp_path, None)
    hours = part_hours(cfg, rows, plan)
    assert overhead(hours) <= 0.5 and set(hours) == set(PARTS)
    rest = sum(value for part, value in hours.items() if part not in (*MAIN, "tokenizing"))
    assert overhead(hours) == pytest.approx(rest / (hours["pretraining"] + hours["generating"]))
    whole = sum(plan.hours(row, plan.gpus_of(cfg, row.stage)) for row in rows)
    assert sum(hours.values()) == pytest.approx(whole), "the parts are the stages, cut another way"


def test_gpus_that_wait_for_the_host_are_held_and_paid_for(tmp_path: Path) -> None:
    text = planned("2b", GpuPlan(64, GPUS["h100"], price=2.5), tmp_path, ["machine.launcher=ray", "machine.workers=64"])
    rows = re.findall(r"^\S+ +(\d+) +\d+ +(\d+\.\d) +(\d+\.\d)$", text, re.MULTILINE)
    assert len(rows) == 9 and rows[0][1] == "0.0"
    for gpus, busy, wall in rows[1:]:
        assert float(busy) / float(gpus) == pytest.approx(float(wall), abs=0.1)
    cost, parts = re.search(r"cost: (\S+) at", text), re.findall(r"(\d+\.\d) +\d+\.\d%$", text, re.MULTILINE)
    assert cost is not None and float(cost[1].replace(",", "")) == pytest.approx(2.5 * sum(map(float, parts)), rel=1e-3)
    assert sum(float(busy) for _, busy, _ in rows) == pytest.approx(sum(map(float, parts)), abs=1)


def test_a_rehearsal_counts_for_the_settings_and_the_gpu_that_it_was_of(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "400m.toml")
    found = {"gpus": 1, "startup": 0.0, "rate": 0.5, "device": "NVIDIA H100 80GB HBM3"}
    (tmp_path / "400m.rehearsal").mkdir()
    body = {"config": rates_digest(cfg), "stages": {"pretrain": found, "evaluate": found}}
    (tmp_path / "400m.rehearsal" / "rehearsal.json").write_text(json.dumps(body))

    def hours(gpu: str, *sets: str) -> str:
        return planned("400m", GpuPlan(1, GPUS[gpu]), tmp_path / "400m", list(sets))

    assert re.search(r"pretrain .* 78\.1 +78\.1  measured", hours("h100")) and "measured on NVIDIA H100 80GB" in hours("h100")
    assert "measured by a rehearsal" not in hours("h200"), "an H200 is no H100"
    for other in ("synthesize.engine.enforce_eager=true", "probe.steps=7"):
        assert "measured by" not in hours("h100", other) and "it was of other settings" in hours("h100", other)
    assert "measured by a rehearsal" in hours("h100", "machine.threads=3")


def test_a_plan_evaluates_as_many_documents_as_the_config(tmp_path: Path) -> None:
    def tokens(*sets: str) -> float:
        cfg = load_config(ROOT / "configs" / "400m.toml", ["evaluate.tasks=[]", *sets])
        return next(row.tokens for row in estimate_stages(cfg, tmp_path, None) if row.stage == "evaluate")

    assert tokens("evaluate.max_documents=10") == pytest.approx(4 * 10 * 1260, rel=0.01) and tokens() > 1e5
    assert tokens("evaluate.max_documents=100_000_000") == tokens()


@pytest.mark.parametrize("gpus", [1, 8, 64])
@pytest.mark.parametrize("name", ["400m", "1b", "2b"])
def test_the_recipes_fit_80_gb(name: str, gpus: int, tmp_path: Path) -> None:
    planned(name, GpuPlan(gpus, GPUS["h100"]), tmp_path)
    text = planned(name, GpuPlan(gpus, GPUS["h100"], price=2.5), tmp_path, [f"machine.rl_processes={min(8, gpus)}"])
    assert f"machine.processes={min(8, gpus)} and machine.nodes={max(1, gpus // 8)}" in text
    busy = float(next(x for x in text.splitlines()[::-1] if x.startswith("whole run")).split()[2])
    assert f"cost: {busy * 2.5:,.0f}" in text or abs(busy) > 100, "rounded to tenths of an hour above"


def test_rl_is_spread_over_a_node_at_most_and_vllm_beside_it_takes_its_share(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "400m.toml", ["machine.rl_processes=8"])
    assert [GpuPlan(gpus, GPUS["h100"]).gpus_of(cfg, "train-rephrase") for gpus in (1, 8, 64)] == [1, 8, 8]
    row = re.compile(r"train-rephrase +(\d+) +(\d+) +\S+ +(\S+)$", re.MULTILINE)
    awake = ["machine.rl_processes=8", "train_generator.engine.enable_sleep_mode=false"]
    seen = [row.search(planned("400m", GpuPlan(8, GPUS["h200"]), tmp_path, sets)) for sets in ([], awake[:1], awake)]
    one, spread, vllm = ([float(value) for value in found.groups()] for found in seen if found)
    assert (one[0], spread[0]) == (1, 8) and spread[2] == pytest.approx(one[2] / 8, abs=0.06)
    assert spread[1] < vllm[1] < spread[1] + 0.15 * 140, "asleep, vLLM leaves its share to the policy that learns"


def test_what_does_not_fit_is_refused_with_settings_that_do(tmp_path: Path) -> None:
    sets = [
        "pretrain.hardware.micro_batch_size=16",
        "train_generator.micro_batch_size=16",
        "train_generator.gradient_checkpointing=false",
    ]
    with pytest.raises(GpuPlanError, match="400m does not fit on 8 x h100") as refused:
        planned("400m", GpuPlan(8, GPUS["h100"]), tmp_path, sets)
    reported = re.findall(r"--set (\S+)", str(refused.value))
    assert any(s.startswith("pretrain.hardware.micro_batch_size=") for s in reported) and any(
        "train_generator" in s for s in reported
    )
    assert "pretrain " in planned("400m", GpuPlan(8, GPUS["h100"]), tmp_path, [*sets, *reported])


def test_a_model_that_no_setting_makes_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GpuPlanError, match=r"pretrain: needs .* no setting makes it fit"):
        planned("2b", GpuPlan(1, GPUS["h100"]), tmp_path, ["pretrain.model.n_layers=120"])


def test_gpus_that_divide_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GpuPlanError, match="whole nodes"):
        GpuPlan(12, GPUS["h100"])
    with pytest.raises(GpuPlanError, match=r"512 sequences do not divide over 24 GPUs.*1, 2, 4, 8, 16"):
        planned("400m", GpuPlan(24, GPUS["h100"]), tmp_path)
    with pytest.raises(GpuPlanError, match="use one of a100, h100, h200"):
        gpu_by_name("v100")
    with pytest.raises(GpuPlanError, match=r"--mfu 1\.4"):
        GpuPlan(8, GPUS["h100"], mfu=1.4)


PRINTED = re.findall(
    r"```text\n\$ synpro plan configs/(\w+)\.toml --gpus (\d+) --price (\S+)((?: --set \S+)*)\n(.*?)```",
    PLANS.read_text(),
    re.DOTALL,
)


def test_the_docs_print_the_three_configs_on_three_numbers_of_gpus() -> None:
    assert [(name, gpus) for name, gpus, *_ in PRINTED] == [(n, g) for n in ("400m", "1b", "2b") for g in ("1", "8", "64")]


@pytest.mark.parametrize(("name", "gpus", "price", "sets", "text"), PRINTED, ids=[f"{p[0]}-{p[1]}" for p in PRINTED])
def test_the_docs_print_the_plan_as_it_is(name: str, gpus: str, price: str, sets: str, text: str, tmp_path: Path) -> None:
    now = planned(name, GpuPlan(int(gpus), GPUS["h100"], price=float(price)), tmp_path, sets.replace("--set", "").split())
    assert [line.rstrip() for line in now.splitlines()] == text.splitlines()
