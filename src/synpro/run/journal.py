"""A step's diary: metrics as rows, progress for the bar, messages for the log, and the reject ledger."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synpro.run.ledger import Ledger


class Journal:
    """Writes beside a step's results.

    `metrics.jsonl` gets one row per call of `metrics`; `rejects.jsonl` one row per rejected text; progress goes to the parent
    process through the named pipe in the environment variable SYNPRO_PROGRESS, or nowhere.
    """

    def __init__(self, dir: Path, name: str = "") -> None:
        self.dir = dir
        self.name = name or dir.name
        dir.mkdir(parents=True, exist_ok=True)
        self.rejects = Ledger(dir / "rejects.jsonl")
        # Under torchrun every rank runs the stage; the first one alone writes and reports.
        self.silent = int(os.environ.get("RANK", "0")) > 0
        pipe = None if self.silent else os.environ.get("SYNPRO_PROGRESS")
        there = pipe is not None and Path(pipe).exists()
        self._pipe = Path(pipe or "").open("w", buffering=1, encoding="utf-8") if there else None  # noqa: SIM115 (as long as we)
        self._last = 0.0

    def metrics(self, **values: Any) -> None:
        """Append a row to `metrics.jsonl`. Values are numbers, strings or None; by convention `step` comes first."""
        if self.silent:
            return
        with (self.dir / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(values, ensure_ascii=False) + "\n")

    def rewind(self, keep: Mapping[str, float]) -> None:
        """Drop metric rows beyond a resume point: those whose `key` is above `keep[key]`. `rewind({})` drops all.

        Called by a stage before it carries on, so that an interrupted run leaves the rows of an undisturbed one.
        """
        if self.silent:
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
        path.write_text("".join(rows), encoding="utf-8")

    def progress(self, done: float, total: float, label: str = "") -> None:
        """Tell how far the step is; the parent draws the bar and the time left. Cheap: at most ten a second are sent."""
        now = time.monotonic()
        if self._pipe is None or (now - self._last < 0.1 and done < total):
            return
        self._last = now
        self._send({"done": done, "total": total, "label": label})

    def say(self, message: str) -> None:
        """A line for people: into the log, and above the progress bars."""
        print(message, flush=True)
        if self._pipe is not None:
            self._send({"say": message})

    def _send(self, event: dict[str, Any]) -> None:
        assert self._pipe is not None
        try:
            self._pipe.write(json.dumps(event) + "\n")
        except BrokenPipeError:  # nobody is watching; the step goes on
            self._pipe = None
