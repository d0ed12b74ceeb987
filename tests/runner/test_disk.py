"""A disk that is full, read-only, or somebody else's: one sentence, nothing half-written taken for done, and it carries on."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synpro import disk
from synpro.commands import execution
from synpro.config import load_config
from synpro.disk import apply_umask, disk_error, explain
from synpro.runner import artifacts, inputs, step
from synpro.runner.artifacts import write_text
from synpro.runner.inputs import changed_files, note_inputs, stat_inputs
from synpro.runner.launch import MachineConfig
from synpro.runner.progress import NullProgress
from synpro.runner.step import StepError, Steps, lock
from tests.runner.counting import CountConfig, count


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def steps(root: Path, **options: Any) -> Steps:
    return Steps(root, seed=7, machine=MachineConfig(threads=1), **options)


def failing(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def one_line(problem: BaseException) -> str:
    text = str(problem)
    assert "Traceback" not in text and "Errno" not in text
    return text


def test_a_full_disk_inside_a_step_is_told_in_a_sentence_and_the_step_carries_on(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"step a stopped: .*the disk is full .* make room") as caught:
        steps(tmp_path)("a", count, CountConfig(trouble="full"))
    assert "\n" not in one_line(caught.value).replace("\nFull log", "")
    assert not (tmp_path / "a/result.json").exists()
    (tmp_path / "a/room").touch()
    assert steps(tmp_path)("a", count, CountConfig(trouble="full")).heldout_loss == 3


def test_a_step_that_cannot_even_leave_a_note_is_told_by_its_pipe(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"step a stopped: .*the disk is full"):
        steps(tmp_path)("a", count, CountConfig(trouble="full, no note"))
    assert not (tmp_path / "a/error.json").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("place", ["write_json", "launch"])
def test_trouble_around_a_step_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(step, place, failing(number))
        with pytest.raises(StepError, match=r"^step a stopped: ") as caught:
            steps(tmp_path)("a", count, CountConfig())
        assert "\n" not in one_line(caught.value)
    assert not (tmp_path / "a/result.json").exists()


def test_a_step_is_not_started_without_the_room_it_is_planned_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "free_bytes", lambda path: 2**30)
    with pytest.raises(StepError, match=r"needs about 2,064 MiB of disk, and 1,024 MiB are free at .*carry|resumes"):
        steps(tmp_path, disk_bytes=lambda name: 2 * 2**30)("a", count, CountConfig())
    assert not (tmp_path / "a").exists()


def test_a_process_that_a_full_disk_killed_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = step.free_bytes(tmp_path)
    seen = iter([real, 0])
    monkeypatch.setattr(step, "free_bytes", lambda path: next(seen))
    with pytest.raises(StepError, match=r"step a stopped: .*the disk is full"):
        steps(tmp_path)("a", count, CountConfig(trouble="always killed"))


def test_what_libraries_wrap_is_found() -> None:
    try:
        try:
            raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")
        except Exception as inner:
            raise RuntimeError("could not save") from inner
    except RuntimeError as outer:
        found = disk_error(outer)
    assert found is not None and found.errno == errno.ENOSPC
    assert disk_error(ValueError("the disk is fine")) is None
    assert disk_error(FileNotFoundError(errno.ENOENT, "no such file")) is None


def test_a_run_directory_that_is_a_file_or_not_ours_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StepError, match=r"runs is a file where a folder is needed; name another folder \(--runs"):
        lock(tmp_path / "runs" / "tiny")
    with pytest.raises(StepError, match=r"runs is a file where a folder is needed"):
        lock(tmp_path / "runs")
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path, "x")
    assert "is a folder where a file is needed" in explain(caught.value, tmp_path)
    said = explain(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x")), tmp_path)
    assert "permission denied: " in said and f"belongs to {disk._name(tmp_path.stat().st_uid)} and this is " in said
    assert "read-only" in explain(OSError(errno.EROFS, "x"), tmp_path)


def test_a_file_system_without_locks_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOSYS))
    with pytest.raises(StepError, match=r"is on a file system without locks \(Function not implemented\); mount it with"):
        lock(tmp_path)
    monkeypatch.setattr(fcntl, "flock", failing(errno.EWOULDBLOCK))
    with pytest.raises(StepError, match="in use by another"):
        lock(tmp_path)


def test_files_of_a_step_get_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        steps(tmp_path)("a", count, CountConfig(trouble="private"))
        assert (tmp_path / "a/private.bin").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "a/total.txt").stat().st_mode & 0o777 == 0o640
        (tmp_path / "run.sh").touch()
        (tmp_path / "run.sh").chmod(0o700)
        apply_umask(tmp_path)
        assert (tmp_path / "run.sh").stat().st_mode & 0o777 == 0o740
    finally:
        os.umask(old)


def test_a_corpus_that_changed_after_it_was_read_is_told_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / name).write_text("{}")
    request = {"config": {"sources": [{"path": f"{tmp_path}/texts/*.jsonl", "format": "auto"}], "model": "hf:a/b"}}
    step_dir = tmp_path / "round-00/prepare"
    step_dir.mkdir(parents=True)
    note_inputs(step_dir, request)
    assert changed_files(step_dir) == []
    (tmp_path / "texts/a.jsonl").write_text('{"text": "more"}')
    (tmp_path / "texts/b.jsonl").unlink()
    (tmp_path / "texts/c.jsonl").write_text("{}")
    (line,) = changed_files(step_dir)
    assert "config.sources.0.path" in line or line.startswith("sources.0.path = ")
    assert "of 2 files 1 changed" in line and "1 gone" in line and "1 new" in line
    assert "since round-00/prepare read them; the run goes on with what was read" in line
    files = json.loads((step_dir / "inputs.json").read_text())["files"]
    (step_dir / "older").mkdir()
    (step_dir / "older/inputs.json").write_text(json.dumps(files))
    (line,) = changed_files(step_dir / "older")
    assert "of 2 files 1 changed" in line and "gone" not in line and "new" not in line.partition(" since ")[0], "another walk"
    monkeypatch.setattr(inputs, "MAX_FILES", 2)
    assert stat_inputs(request) == {} and changed_files(step_dir) == [], "too many to look at, at every start"
    monkeypatch.setattr(inputs, "MAX_FILES", 3)
    (tmp_path / "texts/d.jsonl").write_text("{}")
    assert changed_files(step_dir) == [], "nor is what has grown too many called gone"
    named = {"config": {"sources": [{"path": "train"}], "tokenizer": {"source": "train"}}}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.txt").write_text("text")
    assert list(stat_inputs(named)) == ["sources.0.path = train"]


@pytest.mark.parametrize(
    "path", ["texts", "{home}/texts/*", "~/texts", "file://{home}/texts", "zip://*.jsonl::{home}/texts/s/a"]
)
def test_whatever_a_source_reads_is_watched(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "texts").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "texts/s").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/a").write_text("{}")
    (stats,) = stat_inputs({"config": {"path": path.format(home=tmp_path)}}).values()
    assert [*stats] == ["texts/s/a" if path == "texts" else f"{tmp_path}/texts/s/a"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/inputs.json").write_text(json.dumps({f"path = {path.format(home=tmp_path)}": stats}))
    assert changed_files(tmp_path / "out") == []
    (tmp_path / "elsewhere/a").write_text("{} {}")
    assert "of 1 files 1 changed" in changed_files(tmp_path / "out")[0]


class Lines(NullProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, name: str, event: Any) -> None:
        self.lines += [event["log"]] if "log" in event else []


def test_a_finished_step_says_which_of_its_files_changed(tmp_path: Path) -> None:
    (tmp_path / "probe.jsonl").write_text("{}")
    cfg = CountConfig(data=str(tmp_path / "probe.jsonl"))
    steps(tmp_path)("round-01/probe", count, cfg)
    (tmp_path / "probe.jsonl").write_text("{} {}")
    lines = Lines()
    steps(tmp_path, listener=lines)("round-01/probe", count, cfg)
    assert any(line.startswith("WARNING: data = ") and "1 changed" in line for line in lines.lines)


def test_a_write_without_room_names_its_file_and_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(artifacts, "sync", failing(errno.ENOSPC))
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "a.json", "new")
    assert explain(caught.value, None).startswith(f"{tmp_path}/a.json: the disk is full (")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "old"


def test_a_full_disk_with_room_is_no_contradiction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "x", str(tmp_path))
    for free, more in ((2**33, " now, too little for what was written; or the disk holds no more files, see df -i"), (0, "")):
        usage = shutil._ntuple_diskusage(2**40, 2**40 - free, free)  # type: ignore[attr-defined]
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        assert f"the disk is full ({free / 2**20:,.1f} MiB free{more}); make room" in explain(full, None)


def test_who_may_only_not_read_is_told_of_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = disk._name(tmp_path.stat().st_uid)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert f"{tmp_path} belongs to {owner} and this is " in disk.denied(tmp_path / "x")[0]
    assert disk.denied(tmp_path)[1] == "ask for the right to read it, or name one that you can read"
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid)
    assert f"give yourself the right: chmod u+rX {tmp_path}, or name" in disk.denied(tmp_path)[1]
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert f"give yourself the right: chmod u+w {tmp_path}, or name another folder (--runs" in disk.denied(tmp_path)[1]


def test_a_disk_without_room_for_the_config_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "init_or_verify", failing(errno.ENOSPC))
    cfg = load_config(Path(__file__).parents[2] / "configs/tiny.toml")
    with pytest.raises(OSError) as caught, execution.locked_run_dir(cfg, tmp_path):
        pass
    assert explain(caught.value, None).startswith(f"{tmp_path}/tiny: the disk is full (")
    monkeypatch.setattr(execution, "init_or_verify", lambda cfg, root: None)
    monkeypatch.setattr(execution, "preconditions", lambda *args, **how: [])
    with pytest.raises(OSError) as caught, execution.locked_run_dir(cfg, tmp_path):
        failing(errno.ENOSPC)()
    assert caught.value.filename is None, "what fails later may be anywhere"
