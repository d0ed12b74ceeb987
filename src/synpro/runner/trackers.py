"""A step's metrics, sent to a tracker while it runs. `metrics.jsonl` has them all the same.

Each attempt at a step is a run of the tracker, named by the step, that begins with the rows a resumed step has kept: so its
curves are those of `metrics.jsonl`, without what a killed attempt logged after its last checkpoint.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Where numbers go, and when there are no more."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class _TensorBoard:
    """Event files in RUN/tensorboard/STEP: `tensorboard --logdir RUN/tensorboard`."""

    def __init__(self, root: Path, step: str) -> None:
        from tensorboard.summary import Writer

        folder = root / "tensorboard" / step
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt
        self.writer = Writer(str(folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _Hosted:
    """Weights & Biases and trackio, which share their calls: a run in the group of the SynPro run."""

    def __init__(self, module: str, root: Path, step: str) -> None:
        from importlib import import_module

        if module == "wandb":  # its own files go into the run's directory
            os.environ.setdefault("WANDB_DIR", str(root))
        project = os.environ.get(f"{module.upper()}_PROJECT", "synpro")
        # the prefix keeps steps of two runs apart where a tracker lists names only
        self.run = import_module(module).init(project=project, name=f"{root.name}/{step}", group=root.name)
        # W&B drops rows whose own step goes back, and each replica of a probe begins at 0: `step` is a value like others there.
        self.own_step = module == "wandb"
        if self.own_step:
            self.run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self.own_step:
            self.run.log({**values, "step": step})
        else:
            self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": lambda root, step: _Hosted("wandb", root, step),
    "trackio": lambda root, step: _Hosted("trackio", root, step),
}
"""By the value of `machine.tracker`, which is also the name of the package and of the extra that installs it."""


class MetricSender:
    """Opens the tracker with the first row, for only then it is known what a resumed step keeps. A tracker that fails is told
    once and left: no step ends because of it."""

    def __init__(self, open_: Callable[[], Tracker], log: Callable[[str], None]) -> None:
        self._open, self._log = open_, log
        self._tracker: Tracker | None = None
        self._rows, self._failed = 0, False

    def send(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send rows of metrics, in order; `step` is their place, without it their number. What is no number stays out."""
        for row in rows:
            self._guard(partial(self._send, row))

    def is_open(self) -> bool:
        """Whether a row was sent, or sending was given up."""
        return self._tracker is not None or self._failed

    def close(self) -> None:
        """Close the tracker, where it is open."""
        if self._tracker is not None:
            self._guard(self._tracker.close)

    def _send(self, row: Mapping[str, Any]) -> None:
        self._tracker = self._tracker or self._open()
        values = {name: v for name, v in row.items() if name != "step" and isinstance(v, int | float)}
        step = row.get("step", self._rows)
        self._rows += 1
        if values:
            self._tracker.log(values, int(step))

    def _guard(self, work: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as problem:  # whatever a tracker's library raises, or its server
            self._failed = True
            self._log(f"WARNING: the tracker failed ({type(problem).__name__}: {problem}); metrics.jsonl goes on alone")
