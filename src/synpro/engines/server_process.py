"""A server as a process of this step: started, waited for, and ended.

It listens on 127.0.0.1 alone, on a free port, and ends with the step, and everything it started with it, also when the step is
killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from synpro.engines.base import EngineError
from synpro.runner.launch import die_with_parent, tail

STOP_SECONDS = 15.0
"""How long a server that is told to end may take before it is killed."""
KEEPER = 'trap "" TERM; read line; kill -KILL 0'
"""Leads the server's process group and ends it when the step's end of its pipe is closed, however the step ended: a server's
own processes (vLLM's engine) outlive a parent that is killed."""


class ServerProcess:
    """A running server; `close` ends it."""

    def __init__(
        self,
        command: Callable[[int], list[str]],
        *,
        slot: str,
        log: Path,
        health_path: str = "/health",
        start_seconds: float = 600.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it and wait until it is healthy.

        Args:
            command: its words, given the port to listen on.
            slot: the table of the config that says how to start it, for messages.
            log: file for its output.
            health_path: answers 200 once the model is loaded.
            start_seconds: how long that may take.
            environment: variables beside those of the step.

        Raises EngineError when it cannot be started, ends, or is not healthy in time; the message has the end of its log.
        """
        self.slot, self.log = slot, log
        self.port = free_port()
        words = command(self.port)
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
                    env={**os.environ, **(environment or {})},
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
            self._wait(health_path, start_seconds)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Base URL of its API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _wait(self, health_path: str, start_seconds: float) -> None:
        import httpx

        began = time.monotonic()
        assert self._process is not None
        with httpx.Client(timeout=5.0, trust_env=False) as client:  # a proxy does not know this machine
            while True:
                code = self._process.poll()
                if code is not None:
                    raise EngineError(f"{self.slot}: the server ended with exit code {code}; {self._log_end()}")
                try:
                    if client.get(f"http://127.0.0.1:{self.port}{health_path}").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass  # not yet
                elapsed = time.monotonic() - began
                if elapsed > start_seconds:
                    problem = f"the server is not healthy after {elapsed:.0f} s (start_seconds)"
                    raise EngineError(f"{self.slot}: {problem}; {self._log_end()}")
                time.sleep(0.5)

    def _log_end(self) -> str:
        return f"its log, {self.log}, ends with:\n{tail(self.log, 15).rstrip() or '(nothing)'}"

    def close(self) -> None:
        """End it and what it started. Safe to call twice."""
        process, self._process = self._process, None
        if self._keeper.returncode is not None:
            return
        if process is not None:
            _signal(self._keeper.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_SECONDS)
        _signal(self._keeper.pid, signal.SIGKILL)  # also what it left behind in its group
        if process is not None:
            process.wait()
        self._keeper.communicate()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def _signal(group: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, what)
