"""Steps of a run or comparison in this process instead of one each: Python and its libraries start once."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from synpro.runner import child
from synpro.runner.artifacts import write_json
from synpro.runner.request import note_execution
from synpro.runner.step import Steps


class Here(Steps):
    """Steps in this process; counts those it does."""

    most: int | None = None
    """Stops like a killed run after so many."""

    def _execute(self, name: str, out: Path, request: dict[str, Any], settings: dict[str, Any], resume: bool) -> None:
        self.done = [*getattr(self, "done", []), name]
        if self.most is not None and len(self.done) > self.most:
            raise KeyboardInterrupt
        if not gc.get_freeze_count():  # OLMo-core collects garbage after a training: not among what libraries hold
            import synpro.lm.trainer  # noqa: F401

            gc.freeze()
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "request.json", request)
        note_execution(out, self.machine, settings, 1, self.root)
        write_json(out / "timing.json", {"seconds": 2.0})
        child.run_child(out, self.root)
