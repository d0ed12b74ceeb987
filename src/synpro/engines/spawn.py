"""A server of our own, for as long as a step asks it: started, waited for, watched, and stopped.

Any OpenAI-compatible server that opens a Hugging Face folder will do; the default is vLLM's. It listens on 127.0.0.1 alone, on
a free port, and ends with the step, and all it started with it, also when the step is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import string
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from synpro.engines.base import EngineError
from synpro.run.launch import die_with_parent, tail

FIELDS = ("model", "name", "port", "dtype")
OF_ADAPTER = ("adapter", "adapted", "rank")
STOPPING = 15.0
"""Seconds a server that is told to end has before it is killed."""
KEEPER = 'trap "" TERM; read line; kill -KILL 0'
"""Leads the server's process group and ends it when the step's end of its pipe is closed, however the step ended: a server's
own processes (vLLM's engine) outlive a parent that is killed."""


@dataclass(frozen=True)
class ServeConfig:
    """How a server is started. `{model}` is the folder with the weights, `{port}` the port, `{dtype}` that of the stage,
    `{name}` what the server is to call its model."""

    command: tuple[str, ...] = (
        *("vllm", "serve", "{model}", "--served-model-name", "{name}", "--host", "127.0.0.1", "--port", "{port}"),
        *("--dtype", "{dtype}", "--generation-config", "vllm"),
    )
    """One word per entry. Speculative decoding, parallelism and the like are the server's own options."""
    adapter: tuple[str, ...] = ("--enable-lora", "--max-lora-rank", "{rank}", "--lora-modules", "{adapted}={adapter}")
    """Words added for a generator that is a LoRA adapter: `{adapter}` is its folder, `{rank}` the size to make room for,
    `{adapted}` what requests call it. Empty for a server without LoRA: the adapter is merged into the weights, which in 16 bits
    loses part of it."""
    name: str = "generator"
    """Of the model, in requests; `{model}` for a server that goes by the folder (`transformers serve`)."""
    health: str = "/health"
    """Address that answers 200 once the model is loaded."""
    start_seconds: float = 600.0
    """For the model to be loaded (and compiled, on a GPU)."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables the server sees beside the step's. Keys do not belong here, they would stand in files."""

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command: names no program")
        _check("command", self.command, FIELDS)
        _check("name", (self.name,), FIELDS)
        _check("adapter", self.adapter, (*FIELDS, *OF_ADAPTER))
        if not any("{model}" in word for word in self.command) or not any("{port}" in word for word in self.command):
            raise ValueError("command: has to name {model} and {port}")
        if not self.health.startswith("/"):
            raise ValueError(f"health: {self.health!r} is no path; it begins with /")
        if not 0 < self.start_seconds < 86_400:
            raise ValueError(f"start_seconds: {self.start_seconds} is out of range")


def _check(key: str, words: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ValueError for a word whose braces hold something else than what is known."""
    for word in words:
        try:
            unknown = {name for _, name, _, _ in string.Formatter().parse(word) if name is not None} - {*known}
        except ValueError as problem:
            raise ValueError(f"{key}: {word!r}: {problem}; write {{{{ for a brace") from None
        if unknown:
            names = ", ".join(map(repr, sorted(unknown)))
            raise ValueError(f"{key}: {word!r} names {names}; there are {', '.join(known)}; write {{{{ for a brace of its own")


class Spawned:
    """A running server; `close` ends it."""

    def __init__(
        self,
        cfg: ServeConfig,
        model: Path,
        dtype: str,
        *,
        slot: str,
        log: Path,
        adapter: tuple[Path, int] | None = None,
        waiting: Callable[[float], None] | None = None,
    ) -> None:
        """Start it on a folder and wait until it is healthy; `waiting` is told the seconds so far. Its output goes to `log`.
        `adapter`: a LoRA's folder and the size to make room for.

        Raises EngineError when it cannot be started, ends, or is not healthy in time; the message has the end of its log.
        """
        self.cfg, self.slot, self.log = cfg, slot, log
        self.port = free_port()
        known = {"model": str(model), "port": str(self.port), "dtype": dtype}
        known["name"] = self.name = cfg.name.format(**known, name="")
        words = [word.format(**known) for word in cfg.command]
        if adapter is not None:
            self.name += "-adapted"
            of = {"adapter": str(adapter[0]), "rank": str(adapter[1]), "adapted": self.name}
            words += [word.format(**known, **of) for word in cfg.adapter]
        log.parent.mkdir(parents=True, exist_ok=True)
        self._keeper = subprocess.Popen(["/bin/sh", "-c", KEEPER], stdin=subprocess.PIPE, process_group=0)
        self._process: subprocess.Popen[bytes] | None = None
        with log.open("ab") as output:
            try:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **cfg.environment},
                    process_group=self._keeper.pid,
                    preexec_fn=die_with_parent,
                )
            except OSError as problem:
                self.close()
                raise EngineError(
                    f"{slot}: {words[0]} cannot be started ({problem.strerror}); install the server, or name another one in "
                    f"{slot}.command"
                ) from problem
        try:
            self._wait(waiting)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _wait(self, waiting: Callable[[float], None] | None) -> None:
        import httpx

        began = time.monotonic()
        assert self._process is not None
        with httpx.Client(timeout=5.0, trust_env=False) as client:  # a proxy does not know this machine
            while True:
                code = self._process.poll()
                if code is not None:
                    raise EngineError(f"{self.slot}: the server ended with exit code {code}; {self._said()}")
                try:
                    if client.get(f"http://127.0.0.1:{self.port}{self.cfg.health}").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass  # not yet
                spent = time.monotonic() - began
                if spent > self.cfg.start_seconds:
                    problem = f"the server is not healthy after {spent:.0f} s (start_seconds)"
                    raise EngineError(f"{self.slot}: {problem}; {self._said()}")
                if waiting is not None:
                    waiting(spent)
                time.sleep(0.5)

    def _said(self) -> str:
        return f"its log, {self.log}, ends with:\n{tail(self.log, 15).rstrip() or '(nothing)'}"

    def close(self) -> None:
        """End it and what it started. Safe to call twice."""
        process, self._process = self._process, None
        if self._keeper.returncode is not None:
            return
        if process is not None:
            _tell(self._keeper.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOPPING)
        _tell(self._keeper.pid, signal.SIGKILL)  # also what it left behind in its group
        if process is not None:
            process.wait()
        self._keeper.communicate()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def _tell(group: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, what)
