"""Steps forked from a process that has the libraries already: to import them takes a small step on a CPU most of its time.

That process is started at a command's second step and imports while this one runs; later steps are forked from it. A step has a
process of its own either way, ends in the same bytes, and dies with the run. Forked are steps of one process without a GPU, on
Linux, in the environment that the process was started in; all others are started as before.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from synpro.runner.parent import die_with_parent

CHILD = "synpro.runner.child"
LIBRARIES = (
    "peft",
    "trl",
    "transformers.models.llama.modeling_llama",
    "transformers.models.olmo2.modeling_olmo2",
    "synpro.grpo.trl",
    "synpro.lm.tasks",
    "synpro.lm.trainer",
    CHILD,
)
"""What is imported before steps are. Nothing may be computed: a fork has none of PyTorch's threads."""
OWN = ("SYNPRO_PROGRESS", "CUDA_VISIBLE_DEVICES")
"""Variables that each step has for itself; where there is no GPU, which of them it sees says nothing."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Where Linux shows that there is a GPU: NVIDIA's, AMD's, and that of Windows below."""


@dataclass
class Forked:
    """A step that was forked."""

    pid: int = 0
    exit_code: int = -signal.SIGKILL
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class Preloaded:
    """The process that steps are forked from, as the runner sees it. Thread-safe."""

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        self.libraries = libraries
        self._lock = threading.Lock()
        self._asked = 0
        self._environment: dict[str, str] = {}
        self._connection: socket.socket | None = None
        self._steps: dict[int, Forked] = {}

    def fork(self, argv: list[str], log: Path, env: Mapping[str, str]) -> Forked | None:
        """Fork a step, once it has begun; None where it is to be started as a new process."""
        if sys.platform != "linux" or argv[:3] != [sys.executable, "-m", CHILD] or has_gpu():
            return None
        shared = {name: value for name, value in env.items() if name not in OWN}
        with self._lock:
            self._asked += 1
            if self._asked == 2:
                self._environment = shared
                # In a thread that stays: Linux ends a process with the thread that has started it.
                threading.Thread(target=self._start, args=(shared,), daemon=True).start()
            if self._connection is None or shared != self._environment:
                return None
            number, step = self._asked, Forked()
            self._steps[number] = step
            asked = {"number": number, "arguments": argv[3:], "log": str(log), "env": dict(env), "cwd": str(Path.cwd())}
            with contextlib.suppress(OSError):  # it ends, and so does the step, below
                self._connection.sendall(json.dumps(asked).encode() + b"\n")
        step.begun.wait()
        return step if step.pid else None

    def _start(self, env: dict[str, str]) -> None:
        """Start the process, and hand what it says to the steps until it ends."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "synpro.runner.preloaded", str(theirs.fileno()), *self.libraries]
            silent: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            tied = partial(die_with_parent, os.getpid())
            process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()], preexec_fn=tied, **silent)
        with ours, ours.makefile("rb") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                self._take(json.loads(line), ours)
        process.wait()
        with self._lock:  # its steps are gone with it
            self._connection = None
            lost, self._steps = list(self._steps.values()), {}
        for step in lost:
            step.begun.set()
            step.ended.set()

    def _take(self, said: dict[str, Any], connection: socket.socket) -> None:
        with self._lock:
            if "number" not in said:  # it has imported everything
                self._connection = connection
                return
            step = self._steps[said["number"]] if said.get("pid") else self._steps.pop(said["number"])
        for name, value in said.items():
            if name != "number":
                setattr(step, name, value)
        (step.begun if "pid" in said else step.ended).set()


def has_gpu() -> bool:
    """Whether a driver shows a GPU, hidden or not: a fork cannot use one that its parent may have touched."""
    return any(Path(device).exists() for device in GPU_DEVICES)


def serve(connection: socket.socket, libraries: Sequence[str]) -> None:
    """Import, say so, and fork a step for each line that comes, until the runner is gone; say when each has begun and ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's and the steps'
    for library in libraries:
        importlib.import_module(library)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, int] = {}

    def say(**said: Any) -> None:
        connection.sendall(json.dumps(said).encode() + b"\n")

    say()
    waiting = b""
    while True:
        ready, _, _ = select.select([connection.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        while running:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                break
            spent = {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_rss_bytes": used.ru_maxrss * 1024}
            say(number=running.pop(pid), exit_code=os.waitstatus_to_exitcode(status), **spent)
        if connection.fileno() in ready:
            if not (given := connection.recv(65536)):
                return
            *lines, waiting = (waiting + given).split(b"\n")
            for asked in map(json.loads, lines):
                try:
                    pid = os.fork()
                except OSError:  # too little memory: a new process may fit
                    say(number=asked["number"], pid=0)
                    continue
                if not pid:
                    _become_step(asked)
                running[pid] = asked["number"]
                say(number=asked["number"], pid=pid)


def _become_step(asked: dict[str, Any]) -> None:
    """Run a step in this process, a fork, as a process of its own would, and end."""
    code, preloaded = 1, os.getppid()
    try:
        die_with_parent(preloaded)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.closerange(3, 1024)
        output = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        sys.path[0], sys.argv = asked["cwd"], [CHILD, *asked["arguments"]]
        from synpro.runner import child

        child.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
