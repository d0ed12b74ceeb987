"""Steps: a stage called once, in its own process, remembered by what went in.

A step is done when `result.json` stands in its folder; that file is written last, by rename, and names the hash of everything
it covers. The same request finds the same result; a request that changed is refused with the difference.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from synpro.records import decode, digest_of, encode
from synpro.run.child import write_json
from synpro.run.launch import ALONE, LaunchError, MachineConfig, command, launch, rl_command, tail

Spread = Literal["processes", "rl", "workers"] | None
"""What a step is spread over: processes of pretraining, those of RL, workers that do its chunks, or nothing. No part of its
request."""


class StepError(RuntimeError):
    """A step that could not be done; the message says which, why, and where its log is."""


class Watcher(Protocol):
    """Who is told how steps go: the screen, or nobody."""

    def begin(self, step: str, expected_seconds: float | None) -> None: ...
    def event(self, step: str, event: Mapping[str, Any]) -> None: ...
    def end(self, step: str, seconds: float, reused: bool) -> None: ...


class Steps:
    """Does steps in a run directory; calling it is doing one.

    `steps("round-01/probe", "synpro.stages.probe:fit_probe", cfg.probe, corpus=corpus, model=model)` gives the stage's record.
    """

    def __init__(self, root: Path, *, seed: int, machine: MachineConfig, watcher: Watcher, redo: str | None = None) -> None:
        self.root = root.resolve()
        self.seed, self.machine, self.watcher = seed, machine, watcher
        self.redo = redo
        """The one step to do again although it is done."""
        self.expected: Callable[[str], float | None] = lambda step: expected_seconds(self.root, step)

    def __call__(
        self, name: str, stage: str, cfg: Any, *, spread: Spread = None, drawn: str | None = None, **inputs: Any
    ) -> Any:
        """The record of a step, done now or found done. Its seed is drawn from its name, or from `drawn`: steps that are to be
        compared share one. `spread`: over the machine's processes, or its chunks over workers. Raises StepError."""
        out = self.root / name
        request = {"stage": stage, "config": encode(cfg, self.root), "inputs": encode(inputs, self.root)}
        request["seed"] = step_seed(self.seed, drawn or name)
        again = name == self.redo
        if (out / "result.json").exists() and not again:
            result = self._found(name, out, request)
            self.watcher.end(name, 0.0, reused=True)
            return decode(result["record"], self.root)
        self._do(name, out, request, spread, keep=not again)
        return decode(json.loads((out / "result.json").read_text(encoding="utf-8"))["record"], self.root)

    def _found(self, name: str, out: Path, request: dict[str, Any]) -> dict[str, Any]:
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        if result["request"] != digest_of(request):
            old = json.loads((out / "request.json").read_text(encoding="utf-8"))
            changed = "\n  ".join(changes(old, request)) or "(request.json was edited after the step was done)"
            raise StepError(
                f"step {name} was done for another request, and its result will not be passed off as this one's:\n  {changed}\n"
                f"Take the change back, use another run name (--set name=...), or remove {out} and all later steps."
            )
        for file, about in result["files"].items():
            path = out / file
            if not path.exists() or path.stat().st_size != about["bytes"]:
                state = "is missing" if not path.exists() else f"has {path.stat().st_size} bytes instead of {about['bytes']}"
                raise StepError(f"step {name} is done, but its file {path} {state}. Do it again: synpro step CONFIG {name}")
        return result

    def _do(self, name: str, out: Path, request: dict[str, Any], spread: Spread, keep: bool) -> None:
        out.mkdir(parents=True, exist_ok=True)
        before = out / "request.json"
        same = before.exists() and digest_of(json.loads(before.read_text(encoding="utf-8"))) == digest_of(request)
        timing = json.loads((out / "timing.json").read_text(encoding="utf-8")) if (out / "timing.json").exists() else {}
        if not (same and keep):  # leftovers of another request must not be carried on from
            clear(out)
            timing = {}
        (out / "error.json").unlink(missing_ok=True)
        write_json(before, request)
        timing = {"attempts": timing.get("attempts", 0) + 1, "seconds": timing.get("seconds", 0.0), "cpu_seconds": 0.0}
        write_json(out / "timing.json", timing)
        self.watcher.begin(name, self.expected(name))
        log = out / "log.txt"
        try:
            argv = self._command(spread, [str(out), str(self.root)])
        except LaunchError as problem:
            raise StepError(f"step {name} cannot start: {problem}") from problem
        used = launch(
            argv,
            log,
            self.machine.threads,
            lambda event: self.watcher.event(name, event),
            self.machine if spread == "workers" else None,
        )
        timing["seconds"] = round(timing["seconds"] + used.seconds, 2)
        timing.update(cpu_seconds=round(used.cpu_seconds, 2), peak_rss_bytes=used.peak_rss_bytes)
        write_json(out / "timing.json", timing)
        if used.exit_code != 0 or not (out / "result.json").exists():
            raise StepError(self._why(name, out, used.exit_code))
        self.watcher.end(name, used.seconds, reused=False)

    def _command(self, spread: Spread, arguments: list[str]) -> list[str]:
        if spread == "rl":
            return rl_command("synpro.run.child", arguments, self.machine)
        return command("synpro.run.child", arguments, self.machine if spread == "processes" else ALONE)

    def _why(self, name: str, out: Path, code: int) -> str:
        error = out / "error.json"
        if error.exists():
            problem = json.loads(error.read_text(encoding="utf-8"))
            return f"step {name} stopped: {problem['message'] or problem['type']}\nFull log: {out / 'log.txt'}"
        if code == -9:
            cause = "it was killed (signal 9); the usual cause is too little memory: lower the batch size of this stage"
        elif code < 0:
            cause = f"it was ended by signal {-code}"
        elif code == 0:
            cause = "it ended without writing result.json"
        else:
            cause = f"exit code {code}"
        return f"step {name} stopped: {cause}\nThe end of {out / 'log.txt'}:\n{tail(out / 'log.txt')}"


def clear(out: Path) -> None:
    """Empty a step's folder."""
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def step_seed(seed: int, name: str) -> int:
    """A seed of its own for each step (31 bits), so that steps are not correlated and order does not matter."""
    return int(digest_of([seed, name])[:8], 16) & 0x7FFFFFFF


def expected_seconds(root: Path, name: str) -> float | None:
    """How long a step of this kind took before in this run, or None."""
    first, _, kind = name.partition("/")
    # In a run, `round-02/probe` takes what `round-01/probe` took; in a comparison what stands beside it in the same part.
    pattern = f"round-*/{kind}" if first.startswith("round-") else f"{first}/**/{kind.rpartition('/')[2]}"
    seen = [
        json.loads(p.read_text(encoding="utf-8")).get("seconds", 0.0)
        for p in root.glob(f"{pattern}/timing.json")
        if (p.parent / "result.json").exists()
    ]
    return max(seen) if seen else None


def changes(old: Mapping[str, Any], new: Mapping[str, Any], key: str = "") -> list[str]:
    """Lines that say what differs between two plain requests, place by place."""
    lines: list[str] = []
    for name in sorted(set(old) | set(new)):
        place = f"{key}.{name}" if key else name
        a, b = old.get(name, "(not there)"), new.get(name, "(not there)")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += changes(a, b, place)
        elif a != b:
            lines.append(f"{place}: {a!r} -> {b!r}")
    return lines


def is_done(root: Path, name: str) -> bool:
    """Whether a step's result stands."""
    return (root / name / "result.json").exists()


def lock(root: Path) -> int:
    """Hold the run directory for this process. Raises StepError when another process has it. Returns the descriptor."""
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / ".lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(descriptor, False)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StepError(
            f"{root} is in use by another synpro process; wait for it, or stop it, then run the command again"
        ) from None
    return descriptor
