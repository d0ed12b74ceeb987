"""Metrics of a step in a tracker: the same rows as `metrics.jsonl`, also for a step that was killed and carried on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import MagicMock, call

import pytest

from synpro.runner.logger import StepLogger
from synpro.runner.trackers import TRACKERS


class Listing:
    """A tracker that keeps what it is sent."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.rows.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


def test_a_resumed_step_sends_what_it_keeps_and_then_what_is_new(tmp_path: Path) -> None:
    first, second = Listing(), Listing()
    logger = StepLogger(tmp_path, "pretrain")
    logger.track(lambda: first)
    for step in (1, 2, 3):
        logger.metrics(step=step, loss=1.0 / step, note="words stay out", none=None)
    logger.close()
    again = StepLogger(tmp_path, "pretrain")
    again.track(lambda: second)
    again.truncate({"step": 2})  # the checkpoint is of step 2
    again.metrics(step=3, loss=0.25)
    assert first.rows == [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 1 / 3})] and first.closed
    assert second.rows == [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 0.25})]


def test_a_tracker_that_fails_is_told_once_and_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def unreachable() -> Listing:
        raise ConnectionError("no route")

    logger = StepLogger(tmp_path, "pretrain")
    logger.track(unreachable)
    logger.metrics(step=1, loss=1.0)
    logger.metrics(step=2, loss=0.5)
    logger.close()
    assert capsys.readouterr().out.count("no route") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_tensorboard_reads_what_was_sent(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    for losses in ((3.0, 2.0, 9.0), (3.0, 2.0, 1.0)):  # the second attempt replaces the first
        tracker = TRACKERS["tensorboard"](tmp_path, "round-00/pretrain")
        for step, loss in enumerate(losses):
            tracker.log({"loss": loss}, step)
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard/round-00/pretrain"), size_guidance={TENSORS: 0})
    events.Reload()
    assert [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors("loss")] == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_a_step_that_goes_back_is_kept_by_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each replica of a probe begins at step 0 again, and W&B drops rows whose own step goes back."""
    wandb = MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracker = TRACKERS["wandb"](tmp_path / "tiny", "round-01/probe")
    for step in (0, 12, 0, 12):
        tracker.log({"loss": 2.5}, step)
    run = wandb.init.return_value
    assert run.define_metric.call_args == call("*", step_metric="step")
    assert run.log.call_args_list == [call({"loss": 2.5, "step": step}) for step in (0, 12, 0, 12)]


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracker = TRACKERS["wandb"](tmp_path / "tiny", "round-00/pretrain")
    tracker.log({"loss": 2.5}, 1)
    tracker.close()
    (stored,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(600):  # W&B's own process may write the file after `finish` has returned
        if b"loss" in stored.read_bytes():
            break
        time.sleep(0.1)
    assert b"tiny/round-00/pretrain" in stored.read_bytes() and b"loss" in stored.read_bytes()


def test_trackio_stores_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    import sqlite3

    tracker = TRACKERS["trackio"](tmp_path / "tiny", "round-00/pretrain")
    tracker.log({"loss": 2.5}, 1)
    tracker.close()
    (stored,) = tmp_path.glob("*.db")
    with sqlite3.connect(stored) as base:
        rows = base.execute("select run_name, step, metrics from metrics").fetchall()
    assert [(name, step, json.loads(metrics)) for name, step, metrics in rows] == [("tiny/round-00/pretrain", 1, {"loss": 2.5})]
