"""`synpro rehearse`: a run made small in its counts alone, on the machines it will use, before it is paid for."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synpro.commands.check import check
from synpro.commands.execution import execute_steps, locked_run_dir, step_after
from synpro.commands.machine import device_name, gpu_bytes, ram_bytes
from synpro.config import ConfigError, RunConfig, dumps
from synpro.language.segmentation import count_words
from synpro.outline import outline
from synpro.planning.gpu_plan import GPUS, GpuPlan, GpuPlanError
from synpro.planning.plan import estimate_stages
from synpro.planning.rehearsal import Machine, Watched, format_rehearsal, read_results, rehearsal_config, startup_seconds
from synpro.planning.stress import stress_documents
from synpro.planning.throughput import measure_throughput
from synpro.runner.artifacts import finished, read_json, write_json
from synpro.runner.logger import STOP_AFTER_CHECKPOINT
from synpro.runner.progress import ProgressListener
from synpro.runner.step import REHEARSAL, StepError, clear, lock

STOPPED = "round-00/pretrain"
"""The step that is killed after its first checkpoint and has to go on from it."""
Log = Callable[[str], None]


def rehearse(cfg: RunConfig, runs: Path, log: Log, job_seconds: float, calibrate: bool = True) -> list[str]:
    """Rehearse a run in `runs`/NAME.rehearsal: lines with its table. Writes `rehearsal.json` there, which `plan` and `status`
    of the run read.

    Raises ConfigError, with all problems, for a config that cannot run, a step that stops, and numbers that a run must not be
    started with; PlanError for a run that cannot be planned.
    """
    check(cfg, fetch=True, log=log, root=runs / cfg.name)
    estimate_stages(cfg, runs / cfg.name, None)  # what cannot be planned cannot be foretold: refused before anything runs
    root = runs / (cfg.name + REHEARSAL)
    documents = list(stress_documents(cfg))
    small = rehearsal_config(cfg, (root / "stress.jsonl").resolve(), sum(int(count_words(d["text"])) for d in documents))
    descriptor = lock(root)  # not under the hands of a rehearsal that goes on
    try:
        if (old := root / "config.toml").exists() and old.read_text(encoding="utf-8") != dumps(small):
            clear(root, keep=(".lock",))  # another config's rehearsal
        lines = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents)
        stress = root / "stress.jsonl"
        if not stress.exists() or stress.read_text(encoding="utf-8") != lines:  # one that goes on would find it changed
            stress.write_text(lines, encoding="utf-8")
    finally:
        os.close(descriptor)
    watch = _ResourceWatch(root / "watched.json")
    with locked_run_dir(small, runs):
        try:
            _execute(small, root, watch, log)
        except StepError as problem:
            raise ConfigError(f"the rehearsal of {cfg.name} stopped: {problem}") from problem
    machine = _machine(cfg, runs / cfg.name, calibrate)
    found = read_results(cfg, small, root, watch.steps, machine, job_seconds)
    write_json(root / "rehearsal.json", found.to_json())
    table = format_rehearsal(found)
    if found.problems:
        raise ConfigError("\n".join([*table, f"{cfg.name} must not start like this:", *(f"  {p}" for p in found.problems)]))
    return [*table, f"{cfg.name} can start; `synpro plan` and `synpro status` use these rates ({root / 'rehearsal.json'})"]


def _execute(cfg: RunConfig, root: Path, watch: _ResourceWatch, log: Log) -> None:
    """Run the steps, one of them killed on its way; once the corpus is read, without the hub."""
    before = dict(os.environ)
    try:
        if not cfg.generate_only:
            execute_steps(cfg, root, before=STOPPED, watch=watch.over)
            os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
            if not finished(root / STOPPED):
                _stop_and_resume(cfg, root, watch, log)
        execute_steps(cfg, root, watch=watch.over)
    finally:
        for name in {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", STOP_AFTER_CHECKPOINT} - set(before):
            os.environ.pop(name, None)
        os.environ.update(before)


def _stop_and_resume(cfg: RunConfig, root: Path, watch: _ResourceWatch, log: Log) -> None:
    """Let the first pretraining be killed at its first checkpoint. Raises StepError when it does not go on from there."""
    after = step_after(STOPPED, outline(cfg))
    os.environ[STOP_AFTER_CHECKPOINT] = "1"
    try:
        execute_steps(cfg, root, before=after, watch=watch.over)
    except StepError:
        if not list((root / STOPPED / "scratch" / "states").glob("step-*")):
            raise
    else:
        raise StepError(f"{STOPPED} was to be killed at its first checkpoint, and wrote none (pretrain.checkpoint_every)")
    finally:
        del os.environ[STOP_AFTER_CHECKPOINT]
    log(f"{STOPPED} was killed after its first checkpoint, and goes on")
    execute_steps(cfg, root, before=after, watch=watch.over)
    if "resuming from step" not in (root / STOPPED / "log.txt").read_text(encoding="utf-8", errors="replace"):
        raise StepError(f"{STOPPED} was killed after a checkpoint and began anew: a run that is stopped would lose its work")


class _ResourceWatch:
    """Hears of the progress of steps before the display does, and notes how long they take to start, in all, and how much of
    the GPUs' memory is in use meanwhile. What it has noted is kept in a file, for a rehearsal that goes on."""

    def __init__(self, file: Path) -> None:
        self.file = file
        stored = read_json(file) if file.exists() else {}
        self.steps = {step: Watched(**seen) for step, seen in stored.items()}
        self._display: ProgressListener | None = None
        self._began, self._peak, self._resumes = 0.0, 0.0, False
        self._before: float | None = None
        """Share of the step's work that an earlier attempt has done."""
        self._first: tuple[float, float] | None = None
        """Seconds until the first progress, and the share that is done then."""
        self._model_startup: float | None = None
        """Seconds until the models were open, where the step tells, with those of all that were opened later."""
        self._over = threading.Event()

    def over(self, display: ProgressListener) -> ProgressListener:
        self._display = display
        return self

    def begin(self, step: str, expected_seconds: float | None) -> None:
        timing = self.file.parent / step / "timing.json"
        self._resumes = timing.exists() and read_json(timing).get("attempts", 1) > 1
        self._began, self._peak = time.monotonic(), 0.0
        self._before = self._first = self._model_startup = None
        self._over.set()  # of a step that was killed
        self._over = threading.Event()
        threading.Thread(target=self._sample, args=(self._over,), daemon=True).start()
        assert self._display is not None
        self._display.begin(step, expected_seconds)

    def event(self, step: str, event: Mapping[str, Any]) -> None:
        now = time.monotonic() - self._began
        if float(event.get("total", 0)) > 0:
            share = min(1.0, float(event["done"]) / float(event["total"]))
            if self._before is None or (self._model_startup is None and "startup" in event):
                self._before = share if self._resumes else 0.0
            if self._first is None and share > self._before:
                self._first = now, share
        if "startup" in event:
            self._model_startup = now - event["ago"] if self._model_startup is None else self._model_startup + event["startup"]
        assert self._display is not None
        self._display.event(step, event)

    def end(self, step: str, seconds: float, reused: bool) -> None:
        self._over.set()
        if not reused:
            before = self._before or 0.0
            work = max(1 - before, 0.01)
            first, share = self._first or (seconds, 1.0)
            startup = (
                startup_seconds(seconds, first, (share - before) / work) if self._model_startup is None else self._model_startup
            )
            self.steps[step] = Watched(seconds, min(startup, seconds), self._peak, work)
            write_json(self.file, {name: asdict(seen) for name, seen in self.steps.items()})
        assert self._display is not None
        self._display.end(step, seconds, reused)

    def _sample(self, over: threading.Event) -> None:
        while used := gpu_bytes("memory.used"):
            self._peak = max(self._peak, *used)
            if over.wait(1.0):
                return


def _machine(cfg: RunConfig, root: Path, calibrate: bool) -> Machine:
    """This machine, and what the plan says of a run on it: on GPUs like H100s, or after seconds of measuring here."""
    p, memory = cfg.pretrain, gpu_bytes()
    if memory:
        try:
            plan = GpuPlan(cfg.machine.processes * cfg.machine.nodes, GPUS["h100"])
        except GpuPlanError:  # a number of GPUs that plans do not know
            return Machine(ram_bytes(), min(memory), {}, device=device_name())
        rows = estimate_stages(cfg, root, None)
        seconds = {r.stage: plan.wall_hours(cfg, r) * 3600 / max(1, r.count) for r in rows}
        return Machine(ram_bytes(), min(memory), seconds, {r.stage: plan.gpus_of(cfg, r.stage) for r in rows}, device_name())
    if not calibrate:
        return Machine(ram_bytes(), 0.0, {}, device=device_name())
    speed = measure_throughput(p.shape, cfg.vocab_size, p.sequence_length, seconds=4.0)
    rows = estimate_stages(cfg, root, speed)
    seconds = {r.stage: r.seconds / max(1, r.count) for r in rows if r.seconds is not None}
    return Machine(ram_bytes(), 0.0, seconds, device=device_name())


def seconds_of(time_limit: str) -> float:
    """Seconds of a time as `sbatch` takes it: minutes, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`. Raises ConfigError."""
    days, dash, rest = time_limit.rpartition("-")
    try:
        parts = [int(x) for x in rest.split(":")]
        units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
        return float(int(days or 0) * 86400 + sum(n * unit for n, unit in zip(parts, units, strict=False)))
    except ValueError:
        raise ConfigError(f"--time {time_limit}: is no time as Slurm takes it; write 24:00:00") from None
