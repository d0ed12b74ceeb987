"""What the benchmarks read off a run, on numbers worked by hand."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import all as suite
from benchmarks import grpo
from benchmarks.influence import plain_loop, texts
from benchmarks.measuring import Measurement, compare_pairs, measure_pairs, open_run, table
from benchmarks.reward_time import RewardTime, reward_times
from synpro.commands.run_dir import newest_record
from synpro.lm.influence import Influence
from synpro.records import Probe

ROOT = Path(__file__).parents[1]


def run_with(folder: Path, reward: float) -> Path:
    for name, steps in (("train-reformat", 2), ("train-rephrase", 1)):
        step = folder / "round-01" / name
        step.mkdir(parents=True, exist_ok=True)
        row = {"seconds": 10.0, "seconds/generate": 6.0, "seconds/reward": reward}
        (step / "metrics.jsonl").write_text("".join(json.dumps({"step": i, **row}) + "\n" for i in range(steps)))
    return folder


def command(run: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "benchmarks.reward_time", str(run)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_reward_time_sums_the_steps_of_a_run_and_fails_above_its_limit(tmp_path: Path) -> None:
    good = run_with(tmp_path / "good", 1.5)
    assert reward_times(good)[0] == RewardTime("round-01/train-reformat", 2, 20.0, 12.0, 3.0)
    assert reward_times(good)[0].share == 0.15
    done = command(good)
    assert done.returncode == 0 and "rewards take 15.0% of a GRPO step" in done.stdout
    assert command(run_with(tmp_path / "bad", 2.5)).returncode == 1
    (tmp_path / "none").mkdir()
    empty = command(tmp_path / "none")
    assert empty.returncode == 1 and "no GRPO step has been done here" in empty.stderr


@pytest.mark.parametrize("name", ["languages", "servers", "loop_overhead"])
def test_help_measures_nothing(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0 and f"python -m benchmarks.{name}" in capsys.readouterr().out


def test_every_benchmark_is_named_as_it_can_be_started() -> None:
    """By `-m`: some import others. Only gpu.py is started by its path, on a machine of its own."""
    files = [ROOT / "README.md", *(f for f in ROOT.glob("docs/*.md") if f.name != "LOG.md"), *ROOT.glob("benchmarks/*.py")]
    by_path = {m for file in files for m in re.findall(r"python benchmarks/(\w+)\.py", file.read_text(encoding="utf-8"))}
    assert by_path == {"gpu"}
    assert [f.name for f in ROOT.glob("benchmarks/*.py") if re.search(r"^from (kill|measuring)", f.read_text(), re.M)] == []


def test_pairs_are_measured_in_turns_and_compared_by_their_median_ratio() -> None:
    order: list[str] = []
    rates = iter([30.0, 10.0, 20.0, 10.0, 10.0, 20.0])
    a, b = measure_pairs(lambda: order.append("a") or next(rates), lambda: order.append("b") or next(rates), 3)
    assert order == ["a", "b", "b", "a", "a", "b"] and (a, b) == ([30.0, 10.0, 10.0], [10.0, 20.0, 20.0])
    row = compare_pairs("x", "tokens/s", a, b, least=0.6)
    assert (row.ratio, row.low, row.high, row.pairs, row.met) == (0.5, 0.5, 3.0, 3, False)
    assert (row.ours, row.theirs) == (10.0, 20.0)
    assert compare_pairs("x", "tokens/s", a, b, least=0.5).met and compare_pairs("x", "tokens/s", a, b).met is None


def test_the_table_shows_what_was_missed_and_what_was_not_measured() -> None:
    rows = [
        compare_pairs("x", "t/s", [1500.0], [3000.0], least=0.97),
        Measurement("y", None, None, "s", bound="at least 1", note="not here"),
    ]
    first, second = table(rows).splitlines()[2:]
    assert first == "| x | t/s | 1,500 | 3,000 | **0.5** (0.5 to 0.5, 1 pairs) | at least 0.97 **missed** |  |"
    assert second == "| y | s |  |  |  | at least 1 | not here |"


def test_parts_of_a_grpo_step(tmp_path: Path) -> None:
    rows = grpo.measure(run_with(tmp_path, 1.5))
    assert [r.ours for r in rows] == [10.0, 10.0, 15.0] and rows[-1].met
    assert rows[0].note == "generation 6.0, rewards 1.5, training and the rest 2.5"
    assert not grpo.measure(run_with(tmp_path / "bad", 2.5))[-1].met
    with pytest.raises(SystemExit, match="no GRPO step"):
        grpo.measure(tmp_path / "none")


def test_a_part_that_was_measured_is_not_measured_again_and_the_page_keeps_the_rest(tmp_path: Path) -> None:
    run, page, out = run_with(tmp_path / "run", 1.5), tmp_path / "page.md", tmp_path / "out.json"
    (run / "config.toml").touch()
    page.write_text(f"before\n{suite.BEGIN}\nold\n{suite.END}\nafter\n")
    argv = [sys.executable, "-m", "benchmarks.all", str(run), "--only", "grpo", "--out", str(out), "--page", str(page)]

    def again(*more: str) -> dict[str, object]:
        subprocess.run([*argv, *more], cwd=ROOT, check=True, capture_output=True, timeout=120)
        body: dict[str, object] = json.loads(out.read_text())["parts"]
        return body

    first = again()
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| GRPO step, round-01/train-reformat | s | 10 |" in text and "cores" in text
    run_with(run, 2.5)
    assert again() == first != again("--again")
    with pytest.raises(ValueError, match="the page has no"):
        suite.page("nothing", {})


def test_the_plain_loop_computes_the_same_influence(finished_run: Path) -> None:
    probe = newest_record(finished_run, "probe", Probe)
    some = list(texts(open_run(finished_run)[1], 40, 6))  # within one window of the model: the plain loop knows no others
    assert len(set(some)) > 30 and some == list(texts(open_run(finished_run)[1], 40, 6))
    assert plain_loop(probe, some) == pytest.approx(Influence(probe.before, *probe.afters).score(some), abs=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run, for minutes")
def test_the_gpu_script_does_not_fill_the_memory_of_a_machine_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(gpu, "run_part", lambda *a: {})
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert "there is no GPU" in capsys.readouterr().err


def test_the_gpu_script_runs_here_and_a_part_that_hangs_loses_nothing_but_itself(tmp_path: Path) -> None:
    """Tiny shapes; the other parts were run by hand (docs/LOG.md)."""
    from benchmarks import gpu, gpu_parts

    assert gpu.LIMITS.keys() == gpu_parts.PARTS.keys() and gpu.BUDGET <= 480
    argv = [sys.executable, "benchmarks/gpu.py", "--tiny", "--out", str(tmp_path / "out.jsonl")]
    done = subprocess.run([*argv, "--only", "influence"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    row = json.loads(done.stdout)
    assert done.returncode == 0 and row["part"] == "influence", row
    assert row["float32/rank_correlation"] == 1.0 and row["bfloat16/rank_correlation"] > 0.9
    short = [*argv, "--only", "engine", "--limit", "0.2"]
    done = subprocess.run(short, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["error"] == "stopped after 0 s"
    assert [json.loads(line)["part"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["influence", "engine"]
