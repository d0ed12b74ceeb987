"""What a step reports while it runs: metrics as rows, progress, lines for the log, and rejects."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synpro.runner.artifacts import read_lines, write_text
from synpro.runner.rejects import RejectLog
from synpro.runner.trackers import MetricSender, Tracker

STOP_AFTER_CHECKPOINT = "SYNPRO_STOP_AFTER_CHECKPOINT"
"""Environment variable with which `synpro rehearse` asks a step to be killed once it has a checkpoint."""


class StepLogger:
    """Writes beside a step's results.

    `metrics.jsonl` gets one row per call of `metrics`, `rejects.jsonl` one row per rejected text. Progress goes to the parent
    process through the named pipe in the environment variable SYNPRO_PROGRESS, or nowhere.
    """

    def __init__(self, dir: Path, name: str = "") -> None:
        self.dir = dir
        self.name = name or dir.name
        dir.mkdir(parents=True, exist_ok=True)
        self.rejects = RejectLog(dir / "rejects.jsonl")
        self.is_first = os.environ.get("RANK", "0") == "0"  # of several processes, only one writes and reports
        pipe = os.environ.get("SYNPRO_PROGRESS") if self.is_first else None
        exists = pipe is not None and Path(pipe).exists()
        self._pipe = Path(pipe or "").open("w", buffering=1, encoding="utf-8") if exists else None  # noqa: SIM115 (kept open)
        self._last_sent = 0.0
        self._sender: MetricSender | None = None

    def track(self, open_: Callable[[], Tracker]) -> None:
        """Also send metrics to a tracker, opened with the first row."""
        self._sender = MetricSender(open_, self.log) if self.is_first else None

    def close(self) -> None:
        """Close the tracker."""
        if self._sender is not None:
            self._sender.close()

    def metrics(self, **values: Any) -> None:
        """Append a row to `metrics.jsonl`. Values are numbers, strings or None; by convention `step` comes first."""
        if not self.is_first:
            return
        rows = [values] if self._sender is None or self._sender.is_open() else [*self._kept_rows(), values]
        with (self.dir / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(values, ensure_ascii=False) + "\n")
        if self._sender is not None:
            self._sender.send(rows)

    def _kept_rows(self) -> list[dict[str, Any]]:
        """What an attempt before this one has logged and this one keeps."""
        return list(read_lines(self.dir / "metrics.jsonl", whole=False))

    def truncate(self, keep: Mapping[str, float]) -> None:
        """Drop metric rows beyond a resume point: those whose `key` is above `keep[key]`. `truncate({})` drops all.

        A stage calls it before it resumes, so that an interrupted run leaves the same rows as an undisturbed one.
        """
        if not self.is_first:
            return
        path = self.dir / "metrics.jsonl"
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() and keep else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the process was killed in the middle of this line
                continue
            if all(row.get(key, limit) <= limit for key, limit in keep.items()):
                rows.append(line + "\n")
        write_text(path, "".join(rows))  # a full disk must not cost the rows there are

    def progress(self, done: float, total: float, label: str = "", **startup: float) -> None:
        """Report how far the step is; the parent draws the bar and the time left. Sends at most ten events a second, and each
        with `startup`: seconds that it took to open the models, `ago` seconds before, which `synpro rehearse` does not take for
        work."""
        if STOP_AFTER_CHECKPOINT in os.environ and self.is_first:
            self._stop_after_checkpoint()
        now = time.monotonic()
        if self._pipe is None or (now - self._last_sent < 0.1 and done < total and not startup):
            return
        self._last_sent = now
        self._send({"done": done, "total": total, "label": label, **startup})

    def _stop_after_checkpoint(self) -> None:
        """Kill this process, as a full machine or a scheduler would, when a checkpoint that was begun is whole."""
        states = self.dir / "scratch" / "states"
        while begun := list(states.glob("step-*")):
            if any(folder.suffix != ".tmp" for folder in begun):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.02)

    def log(self, message: str) -> None:
        """Write a line to the log, and show it above the progress bars."""
        print(message, flush=True)
        if self._pipe is not None:
            self._send({"log": message})

    def error(self, message: str) -> None:
        """Tell the parent process why the step ends, also where its folder cannot be written."""
        if self._pipe is not None:
            self._send({"error": message})

    def _send(self, event: dict[str, Any]) -> None:
        assert self._pipe is not None
        try:
            self._pipe.write(json.dumps(event) + "\n")
        except BrokenPipeError:  # nobody reads any more; the step goes on
            self._pipe = None
