"""The memory of the loop: done means done, a changed request is refused with the difference, a killed step starts over."""

import importlib
import json
import multiprocessing
import runpy
import shutil
from pathlib import Path

import pytest

from synpro.plugins import MODULE
from synpro.runner.child import describe
from synpro.runner.launch import LOCAL_MACHINE, MachineConfig
from synpro.runner.placement import PLACEMENT, workers_of
from synpro.runner.progress import NullProgress
from synpro.runner.request import last_execution
from synpro.runner.step import StepError, Steps, lock, step_seed
from tests.runner.counting import Bundle, CountConfig, count


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


class Recorder(NullProgress):
    def __init__(self) -> None:
        self.events: list = []
        self.reused: list = []

    def event(self, step, event):
        self.events.append(event)

    def end(self, step, seconds, reused):
        self.reused.append(reused)


def steps(root: Path, **options) -> Steps:
    return Steps(root, seed=7, machine=MachineConfig(threads=1), listener=options.pop("listener", NullProgress()), **options)


def test_a_step_is_done_once_and_its_record_comes_back(tmp_path):
    recorder = Recorder()
    run_step = steps(tmp_path, listener=recorder)
    first = run_step("round-00/count", count, CountConfig(4))
    again = run_step("round-00/count", count, CountConfig(4))
    assert first == again and first.heldout_loss == 4
    assert recorder.reused == [False, True]
    assert recorder.events[-1] == {"done": 4, "total": 4, "label": "counting"}
    assert len((tmp_path / "round-00/count/metrics.jsonl").read_text().splitlines()) == 4


def test_only_a_step_that_is_really_begun_is_told_of_and_once(tmp_path):
    begun = []
    for upto in (("a", "b"), ("a", "b"), ("a", "b", "c")):
        run_step = steps(tmp_path)
        run_step.on_first = lambda: begun.append(len(begun))
        for name in upto:
            run_step(name, count, CountConfig(2))
    assert begun == [0, 1]


def test_records_of_earlier_steps_are_inputs(tmp_path):
    run_step = steps(tmp_path)
    first = run_step("a", count, CountConfig(4))
    second = run_step("b", count, CountConfig(2), before=first)
    assert second.heldout_loss == 6


def test_a_changed_request_is_refused_and_the_difference_shown(tmp_path):
    steps(tmp_path)("a", count, CountConfig(4))
    with pytest.raises(StepError, match=r"config\.upto: 4 -> 5"):
        steps(tmp_path)("a", count, CountConfig(5))


def test_a_missing_or_cut_file_of_a_done_step_is_noticed(tmp_path):
    steps(tmp_path)("a", count, CountConfig(4))
    (tmp_path / "a/total.txt").write_text("")
    with pytest.raises(StepError, match="has 0 bytes instead of"):
        steps(tmp_path)("a", count, CountConfig(4))
    (tmp_path / "a/total.txt").unlink()
    with pytest.raises(StepError, match="is missing"):
        steps(tmp_path)("a", count, CountConfig(4))


def test_an_error_reaches_the_person_without_a_traceback(tmp_path):
    with pytest.raises(StepError, match="step a stopped: the text file is not there; put it there") as caught:
        steps(tmp_path)("a", count, CountConfig(trouble="raise"))
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in (tmp_path / "a/log.txt").read_text()
    assert not (tmp_path / "a/result.json").exists()


def test_an_error_in_a_file_of_ones_own_is_told_with_its_type_and_line(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def look_up(table):\n    return table['foo']\n\ndef refuse(table):\n    raise ValueError('no table')\n")
    module = runpy.run_path(str(mine), run_name=f"{MODULE}0")
    said = {}
    for name in ("look_up", "refuse"):
        try:
            module[name]({})
        except (KeyError, ValueError) as problem:
            said[name] = describe(problem)
    assert said == {"look_up": f"KeyError: 'foo' ({mine}, line 2)", "refuse": f"ValueError: no table ({mine}, line 5)"}
    assert describe(KeyError("foo")) == "KeyError: 'foo'" and describe(ValueError("n: is 3; give 4")) == "n: is 3; give 4"


def test_an_error_of_any_process_reaches_the_person(tmp_path, monkeypatch):
    monkeypatch.setitem(PLACEMENT, "tests.runner.counting:count", "processes")
    run_step = Steps(tmp_path, seed=7, machine=MachineConfig(threads=1, processes=2), listener=NullProgress())
    with pytest.raises(StepError, match="step a stopped: this process has no such file\n"):
        run_step("a", count, CountConfig(trouble="raise in 1"))
    assert not list((tmp_path / "a").glob("error-*"))


def test_what_outlives_the_group_of_a_step_cannot_abort_its_processes(tmp_path, monkeypatch):
    monkeypatch.setitem(PLACEMENT, "tests.runner.counting:count", "processes")
    trouble = CountConfig(trouble="aborts at shutdown")
    with pytest.raises(StepError, match="ended by signal 6"):
        steps(tmp_path)("a", count, trouble)
    run_step = Steps(tmp_path, seed=7, machine=MachineConfig(threads=1, processes=2), listener=NullProgress())
    assert run_step("b", count, trouble).heldout_loss == 3


def test_a_killed_step_is_no_success_and_the_same_call_finishes_it_with_the_same_result(tmp_path):
    with pytest.raises(StepError, match="killed"):
        steps(tmp_path / "x")("a", count, CountConfig(trouble="kill"))
    killed = steps(tmp_path / "x")("a", count, CountConfig(trouble="kill"))
    assert killed.heldout_loss == 3
    assert json.loads((tmp_path / "x/a/timing.json").read_text())["attempts"] == 2
    assert not (tmp_path / "x/a/scratch").exists(), "what it was to resume from goes when it is done"
    (tmp_path / "y/a/scratch").mkdir(parents=True)
    (tmp_path / "y/a/request.json").write_text((tmp_path / "x/a/request.json").read_text())
    steps(tmp_path / "y")("a", count, CountConfig(trouble="kill"))
    assert (tmp_path / "x/a/result.json").read_bytes() == (tmp_path / "y/a/result.json").read_bytes()
    (tmp_path / "y/a/chunks").mkdir()  # its process was ended before it could delete it
    steps(tmp_path / "y")("a", count, CountConfig(trouble="kill"))
    assert not (tmp_path / "y/a/chunks").exists()


def test_a_run_directory_can_be_moved(tmp_path):
    steps(tmp_path / "x")("a", count, CountConfig(4))
    shutil.move(tmp_path / "x", tmp_path / "y")
    recorder = Recorder()
    moved = steps(tmp_path / "y", listener=recorder)("a", count, CountConfig(4))
    assert recorder.reused == [True] and moved.dir == tmp_path / "y/a"


def test_redo_starts_over_and_gives_the_same_bytes(tmp_path):
    steps(tmp_path)("a", count, CountConfig(4))
    before = (tmp_path / "a/result.json").read_bytes()
    recorder = Recorder()
    steps(tmp_path, redo="a", listener=recorder)("a", count, CountConfig(4))
    assert recorder.reused == [False] and (tmp_path / "a/result.json").read_bytes() == before


def test_leftovers_of_another_request_are_cleared(tmp_path):
    out = tmp_path / "a"
    out.mkdir()
    (out / "request.json").write_text('{"stage": "another"}')
    (out / "half-written.bin").write_text("old")
    steps(tmp_path)("a", count, CountConfig(4))
    assert not (out / "half-written.bin").exists()


def test_two_processes_cannot_hold_one_run(tmp_path):
    stored = lock(tmp_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "in use by another" in pool.apply(_try_lock, (tmp_path,))
    assert stored > 0


def _try_lock(root: Path) -> str:
    try:
        lock(root)
    except StepError as problem:
        return str(problem)
    return "locked"


def test_every_stage_in_the_placement_table_exists():
    for stage in PLACEMENT:
        module, _, name = stage.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), stage


def test_only_a_stage_on_workers_gets_them(tmp_path, monkeypatch):
    ray = MachineConfig(threads=1, processes=2, launcher="ray", workers=2)
    monkeypatch.setitem(PLACEMENT, "a:b", "workers")
    assert workers_of("a:b", ray) == MachineConfig(threads=1, launcher="ray", workers=2)
    assert workers_of("a:c", ray) == LOCAL_MACHINE
    steps(tmp_path)("a", count, CountConfig(1))
    assert last_execution(tmp_path / "a") == (
        MachineConfig(threads=1),
        {"config.every": 1, "config.pace.batch": 4},
    ), "the runner's own machine is noted; the stage is given what it is placed on"
    assert "execution.json" not in json.loads((tmp_path / "a/result.json").read_text())["files"]


def test_bundled_inputs_come_back_as_they_were(tmp_path):
    first = steps(tmp_path)("a", count, CountConfig(4))
    bundle = Bundle(CountConfig(2), first, None)
    assert steps(tmp_path)("b", count, CountConfig(1), bundle=bundle).heldout_loss == 1 + 2 + 4
    assert steps(tmp_path)("c", count, CountConfig(1), bundle=Bundle(CountConfig(2), None, None)).heldout_loss == 1 + 2


def test_steps_have_seeds_of_their_own():
    assert len({step_seed(0, f"round-{r:02d}/{s}") for r in range(20) for s in ("probe", "pretrain")}) == 40
    assert step_seed(3, "a") == step_seed(3, "a") != step_seed(4, "a")
