"""Steps: a stage called once, in its own process, and remembered by what went in.

A step is done when its folder holds `result.json`; that file is written last, by rename, and names the hash of everything it
covers. The same request finds the same result; a changed request is refused with the difference.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from synpro.disk import FULL_BYTES, explain, free_bytes
from synpro.records import decode, digest_of, encode
from synpro.runner.artifacts import delete_resume_folders, finished, read_json, read_record, write_json
from synpro.runner.inputs import changed_files, note_inputs
from synpro.runner.launch import LaunchError, MachineConfig, launch, tail
from synpro.runner.placement import step_command, step_environment
from synpro.runner.preloaded import Preloaded
from synpro.runner.progress import NullProgress, ProgressListener
from synpro.runner.request import ExecutionSettings, Request, changes, make_request, note_execution, upgraded

R = TypeVar("R")
Inputs = dict[str, Any]
"""Inputs of a stage, by parameter: records, configs and plain data."""
MIN_FREE_BYTES = 16 * 2**20
"""Free disk below which no step is started."""
PROGRESS = 0.02
"""Share of a step by which an attempt has to come further than the one before."""


class StepError(RuntimeError):
    """A step that could not be done; the message says which, why, and where its log is."""


class RunStep(Protocol):
    """Runs a stage as a step of a run, or finds its result: what the loop and the comparison are written in."""

    def __call__(self, name: str, stage: Callable[..., R], cfg: object, *, seed_key: str | None = None, **inputs: object) -> R:
        """The record that `stage(cfg, **inputs, ctx=...)` returns.

        `name` is the step's folder in the run directory. Its seed is drawn from `seed_key`, or from the name: steps that are
        to be compared share one.
        """
        ...


class Steps:
    """Runs steps in a run directory; calling it runs one.

    `run_step("round-01/probe", fit_probe, cfg.probe, corpus=corpus, model=model)` returns the stage's record.
    """

    def __init__(
        self,
        root: Path,
        *,
        seed: int,
        machine: MachineConfig,
        listener: ProgressListener | None = None,
        redo: str | None = None,
        expected: ExpectedSeconds | None = None,
        disk_bytes: Callable[[str], float] = lambda step: 0.0,
        preloaded: Preloaded | None = None,
    ) -> None:
        self.root = root.resolve()
        self.seed, self.machine, self.listener = seed, machine, listener or NullProgress()
        self.redo = redo
        """The one step to run again although it is done."""
        self.expected = expected or ExpectedSeconds(self.root)
        self.disk_bytes = disk_bytes
        """Bytes of disk that a step is planned to take."""
        self.preloaded = preloaded
        """What small steps are forked from; None: each is a new process."""
        self.on_first: Callable[[], None] = lambda: None
        """Called when the first step is begun that is not found done."""
        self._first = threading.Lock()  # taken by that step, and kept

    def __call__(self, name: str, stage: Callable[..., R], cfg: object, *, seed_key: str | None = None, **inputs: object) -> R:
        """The record of a step, run now or found done (see RunStep). Raises StepError."""
        out = self.root / name
        seed = step_seed(self.seed, seed_key or name)
        request, settings = make_request(stage, cfg, inputs, seed, self.root)
        again = name == self.redo
        try:
            if finished(out) and not again:
                self._check_done(name, out, request, stage)
                delete_resume_folders(out)  # where its process was ended before it could
                for line in changed_files(out):
                    self.listener.event(name, {"log": f"WARNING: {line}"})
                self.listener.end(name, 0.0, reused=True)
            else:
                self._execute(name, out, request, settings, resume=not again and self._is_same(out, request, stage))
            record: R = decode(read_record(out), self.root)
        except OSError as problem:
            raise StepError(f"step {name} stopped: {explain(problem, out)}") from problem
        return record

    def _is_same(self, out: Path, request: Request, stage: Callable[..., Any]) -> bool:
        """Whether an unfinished step was begun with the same request, so that it may be resumed."""
        before = out / "request.json"
        return before.exists() and request in ((old := read_json(before)), upgraded(old, stage, self.root))

    def _check_done(self, name: str, out: Path, request: Request, stage: Callable[..., Any]) -> None:
        """Raise StepError when a finished step is of another request, or its files are not those it wrote."""
        result = read_json(out / "result.json")
        if result["request"] != digest_of(request):
            stored = read_json(out / "request.json")
            old = upgraded(stored, stage, self.root)
            if old != request or result["request"] != digest_of(stored):
                changed = "\n  ".join(changes(old, request))
                raise StepError(
                    f"step {name} was done with other settings or inputs, so its result cannot be used:\n"
                    f"  {changed or '(request.json was edited after the step was done)'}\n"
                    f"Take the change back, use another run name (--set name=...), or remove {out} and all later steps."
                )
        for file, about in result["files"].items():
            path = out / file
            if not path.exists() or path.stat().st_size != about["bytes"]:
                state = "is missing" if not path.exists() else f"has {path.stat().st_size} bytes instead of {about['bytes']}"
                raise StepError(f"step {name} is done, but its file {path} {state}. Run it again: synpro step CONFIG {name}")

    def _execute(self, name: str, out: Path, request: Request, settings: ExecutionSettings, resume: bool) -> None:
        needed, free = self.disk_bytes(name) + MIN_FREE_BYTES, free_bytes(out)
        if free < needed:
            raise StepError(
                f"step {name} was not started: it needs about {needed / 2**20:,.0f} MiB of disk, and {free / 2**20:,.0f} MiB "
                f"are free at {self.root}; make room, then run the same command again: it resumes"
            )
        out.mkdir(parents=True, exist_ok=True)
        timing = read_json(out / "timing.json") if resume and (out / "timing.json").exists() else {}
        if not resume:  # what another request left must not be resumed from
            clear(out)
        for left in [*out.glob("scratch/**/server-*")]:  # weights that a killed attempt was serving
            shutil.rmtree(left, ignore_errors=True)  # network file systems keep what a dying server still has open
        (out / "error.json").unlink(missing_ok=True)
        if self._first.acquire(blocking=False):
            self.on_first()
        write_json(out / "request.json", request)
        note_inputs(out, request)
        attempt = timing.get("attempts", 0) + 1
        note_execution(out, self.machine, settings, attempt, self.root)
        timing = {**timing, "attempts": attempt, "seconds": timing.get("seconds", 0.0), "cpu_seconds": 0.0}
        write_json(out / "timing.json", timing)
        self.listener.begin(name, self.expected(name))
        try:
            argv = step_command(request["stage"], [str(out), str(self.root)], self.machine)
        except LaunchError as problem:
            raise StepError(f"step {name} cannot start: {problem}") from problem
        watch = _EventRecorder(lambda event: self.listener.event(name, event))
        env = step_environment(request["stage"], self.machine, settings)
        try:
            used = launch(argv, out / "log.txt", env, watch, self.preloaded)
        except KeyboardInterrupt:
            if stuck := note_progress(out, timing, watch):
                raise StepError(f"step {name} was stopped: {stuck}") from None
            raise
        timing["seconds"] = round(timing["seconds"] + used.seconds, 2)
        timing.update(cpu_seconds=round(used.cpu_seconds, 2), peak_rss_bytes=used.peak_rss_bytes)
        self.expected.forget()
        if used.exit_code != 0 or not finished(out):
            stuck = note_progress(out, timing, watch) if used.exit_code < 0 else ""
            raise StepError(_failure(name, out, used.exit_code, watch.error) + (f"\n{stuck}" if stuck else ""))
        write_json(out / "timing.json", timing)
        self.listener.end(name, used.seconds, reused=False)


class _EventRecorder:
    """Hands a step's events on, and keeps how far it came and the error that ended it."""

    def __init__(self, then: Callable[[Mapping[str, Any]], None]) -> None:
        self._then = then
        self.begun: float | None = None
        self.reached, self.error = 0.0, ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        if "error" in event:
            self.error = self.error or str(event["error"])
            return
        if event.get("total"):
            self.reached = max(self.reached, float(event.get("done", 0)) / float(event["total"]))
            self.begun = self.reached if self.begun is None else self.begun
        self._then(event)


def note_progress(out: Path, timing: dict[str, Any], watch: _EventRecorder) -> str:
    """Store where a killed attempt began and how far it came, as shares of the step. Why the next one would end there too, if
    this one began where the one before did and came no further; else empty."""
    before, begun, reached = timing.get("progress"), watch.begun or 0.0, watch.reached
    write_json(out / "timing.json", {**timing, "progress": [begun, reached]})
    if before is None or begun > before[0] or reached > before[1] + PROGRESS:
        return ""
    return (
        f"it was ended twice at the same place ({reached:.0%} of the step), so another attempt would end there too. Give it "
        "more time (synpro submit --time) or memory, or make the step smaller"
    )


def _failure(name: str, out: Path, code: int, error: str) -> str:
    """Why a step stopped, for a person. `error`: what its process said, where the disk had no room for `error.json`."""
    log = out / "log.txt"
    if (out / "error.json").exists():
        problem = read_json(out / "error.json")
        error = problem["message"] or problem["type"]
    if error:
        return f"step {name} stopped: {error}\nFull log: {log}"
    if free_bytes(out) < FULL_BYTES:
        return f"step {name} stopped: {explain(OSError(errno.ENOSPC, ''), out)}"
    if code == -9:
        cause = "it was killed (signal 9); the usual cause is too little memory: lower the batch size of this stage"
    elif code < 0:
        cause = f"it was ended by signal {-code}"
    elif code == 0:
        cause = "it ended without writing result.json"
    else:
        cause = f"exit code {code}"
    return f"step {name} stopped: {cause}\nThe end of {log}:\n{tail(log)}"


def clear(out: Path, keep: Sequence[str] = ()) -> None:
    """Empty a step's folder, but for the files called `keep`."""
    for path in (path for path in out.iterdir() if path.name not in keep):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def step_seed(seed: int, name: str) -> int:
    """A seed of its own for each step (31 bits), so that steps are not correlated and their order does not matter."""
    return int(digest_of([seed, name])[:8], 16) & 0x7FFFFFFF


REHEARSAL = ".rehearsal"
"""What the name of a run's rehearsal ends in."""


def rates_digest(cfg: object) -> str:
    """What the rates of a rehearsal hold for: the keys of a config that decide results, and every setting of its engines."""
    settings: ExecutionSettings = {}
    keys = encode(cfg, Path(), settings)
    return digest_of([keys, {place: value for place, value in settings.items() if "engine" in place.split(".")}])


def read_rehearsal(root: Path, cfg: object = None) -> dict[str, Any]:
    """What `synpro rehearse` measured for a run, by stage (planning/rehearsal.py); empty where there was none, and where it was
    of another config than `cfg`."""
    root = root.absolute()  # `.` has no name
    file = root.with_name(root.name + REHEARSAL) / "rehearsal.json"
    found = read_json(file) if file.exists() else {"stages": {}}
    return dict(found["stages"]) if cfg is None or found.get("config") == rates_digest(cfg) else {}


class ExpectedSeconds:
    """How long a step of a kind took before in this run, else what its rehearsal says; looked up once between two steps, for
    the display asks often."""

    def __init__(self, root: Path, cfg: object = None) -> None:
        self._root, self._cfg = root, cfg
        self._known: dict[str, float | None] = {}

    def __call__(self, step: str) -> float | None:
        """Seconds, or None for a kind that was not run yet."""
        first, _, kind = step.partition("/")
        # In a run, `round-02/probe` takes what `round-01/probe` took; in a comparison what a sibling took in the same part.
        pattern = f"round-*/{kind}" if first.startswith("round-") else f"{first}/**/{kind.rpartition('/')[2]}"
        if pattern not in self._known:
            timings = (p for p in self._root.glob(f"{pattern}/timing.json") if finished(p.parent))
            found = max((read_json(p).get("seconds", 0.0) for p in timings), default=None)
            self._known[pattern] = found or read_rehearsal(self._root, self._cfg).get(kind, {}).get("extrapolated")
        return self._known[pattern]

    def forget(self) -> None:
        """Look again: another step is done."""
        self._known = {}


def is_locked(root: Path) -> bool:
    """Whether a process of this machine, or of one that shares its locks, holds the run directory; also where that cannot be
    told."""
    import fcntl

    try:
        with (root / ".lock").open(encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def lock(root: Path) -> int:
    """Hold the run directory for this process; returns the descriptor. Raises StepError when another process holds it, or when
    it cannot be written."""
    import fcntl

    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as problem:
        raise StepError(f"the run directory cannot be used: {explain(problem, root)}") from problem
    os.set_inheritable(descriptor, False)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise StepError(
                f"{root} is in use by another synpro process; wait for it, or stop it, then run the command again"
            ) from None
        raise StepError(
            f"{root} is on a file system without locks ({problem.strerror}); mount it with locks (Lustre: -o flock), or keep "
            "run directories elsewhere: --runs FOLDER"
        ) from None
    return descriptor
