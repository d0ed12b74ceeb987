"""What a run needs against what the machine has: at its start, for the steps that are left, by its plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from synpro.commands import machine
from synpro.commands.machine import disk_bytes, disk_problem, memory_problems, planned_stages
from synpro.config import RunConfig, load_config
from synpro.outline import outline
from tests.conftest import ROOT

GIB = 2**30


@pytest.fixture
def cfg() -> RunConfig:
    return load_config(ROOT / "configs" / "400m.toml")


def test_a_device_smaller_than_the_plan_is_told_at_the_start(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpu_bytes", lambda: [16 * GIB, 16 * GIB])
    (problem,) = memory_problems(cfg, tmp_path, outline(cfg))
    assert "pretrain: needs" in problem and "machine.check_memory = false" in problem
    assert memory_problems(cfg, tmp_path, ["round-00/prepare"]) == [], "only the steps that are to be run count"
    monkeypatch.setattr(machine, "gpu_bytes", lambda: [])
    monkeypatch.setattr(machine, "ram_bytes", lambda: 4.0 * GIB)
    assert any(p.startswith("pretrain: needs about") for p in memory_problems(cfg, tmp_path, outline(cfg)))
    all_the_same = load_config(ROOT / "configs" / "400m.toml", ["machine.check_memory=false"])
    assert memory_problems(all_the_same, tmp_path, outline(cfg)) == []


def test_what_is_done_needs_nothing_more(cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_bytes", lambda: [])
    monkeypatch.setattr(machine, "ram_bytes", lambda: 1.0)
    assert memory_problems(cfg, tmp_path, ["round-00/pretrain"]) != []
    (tmp_path / "round-00/pretrain").mkdir(parents=True)
    (tmp_path / "round-00/pretrain/result.json").touch()
    assert memory_problems(cfg, tmp_path, ["round-00/pretrain"]) == []


def test_the_disk_is_that_of_the_run_and_the_need_that_of_its_plan(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Path]()
    rows, root = planned_stages(cfg, tmp_path / "r"), tmp_path / "r"
    stay = sum(disk_bytes(rows, step, until_it_ends=False) for step in outline(cfg))
    need = stay + 2 * 16 * 1_484_916_736
    assert stay > 20 * GIB
    monkeypatch.setattr(machine, "free_bytes", lambda path: asked.append(path) or int(need) - GIB)
    said = disk_problem(cfg, root, outline(cfg))
    assert said is not None and str(root) in said and f"about {need / GIB:.0f}"[:8] in said and asked == [root]
    assert stay == pytest.approx(1.1 * sum(row.disk for row in rows.values())) and "10% is added to what stays" in said
    assert disk_problem(cfg, root, ["round-00/prepare"]) is None
    assert disk_bytes(rows, "round-01/pretrain") > 2 * disk_bytes(rows, "round-01/evaluate") > 0
    assert disk_bytes(rows, "a/step/of/a/comparison") == 0
