"""Steps forked from a process that has the libraries already: to import them takes a small step on a CPU most of its time.

That process is started at a command's second step and imports while this one runs; later steps are forked from it. A step has a
process of its own either way, ends in the same bytes, and dies with the run. Forked are steps of one process without a GPU, on
Linux, in the environment and folder that the process was started in, and of its code; all others are new processes.
"""

from __future__ import annotations

import contextlib
import gc
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
from synpro.runner.process_group import end_process

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
        self._closed = False
        self._given: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._steps: dict[int, Forked] = {}

    def fork(self, argv: list[str], log: Path, env: Mapping[str, str]) -> Forked | None:
        """Fork a step, once it has begun; None where it is to be started as a new process."""
        if sys.platform != "linux" or argv[:3] != [sys.executable, "-m", CHILD] or has_gpu():
            return None
        shared = {name: value for name, value in env.items() if name not in OWN}
        given = {"env": shared, "cwd": str(Path.cwd()), "code": code_files()}
        with self._lock:
            self._asked += 1
            if self._asked == 2:
                self._given = given
                # In a thread that stays: Linux ends a process with the thread that has started it.
                threading.Thread(target=self._serve, args=(shared,), daemon=True).start()
            if self._connection is None or given != self._given:
                return None
            number, step = self._asked, Forked()
            self._steps[number] = step
            asked = {"number": number, "arguments": argv[3:], "log": str(log), "env": dict(env)}
            with contextlib.suppress(OSError):  # it ends, and so does the step, below
                self._connection.sendall(json.dumps(asked).encode() + b"\n")
        try:
            step.begun.wait()
        except BaseException:  # this process is interrupted, and knows nobody yet whom it could ask to end
            if step.begun.wait(10) and step.pid:
                os.kill(step.pid, signal.SIGTERM)
                step.ended.wait()
            raise
        return step if step.pid else None

    def close(self) -> None:
        """End the process; what still runs of its steps ends with it."""
        with self._lock:
            self._closed = True
            if self._process:
                self._process.kill()

    def _serve(self, env: dict[str, str]) -> None:
        """Start the process, and hand what it says to the steps until it ends."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "synpro.runner.preloaded", str(theirs.fileno()), *self.libraries]
        silent: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        tied = partial(die_with_parent, os.getpid())
        with ours, contextlib.suppress(OSError):  # no memory for it, or it is gone
            with theirs, self._lock:
                if self._closed:
                    return
                self._process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()], preexec_fn=tied, **silent)
            with ours.makefile("rb") as lines, contextlib.suppress(ValueError):  # a last line that was cut off
                for line in lines:
                    self._take(json.loads(line), ours)
        with self._lock:  # its steps are gone with it
            self._connection = None
            lost, self._steps = list(self._steps.values()), {}
        if self._process:
            self._process.wait()
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


def code_files() -> list[tuple[str, int, int]]:
    """This package's files, with time and size: with others, a fork would have old code and import new."""
    found = ((path, path.stat()) for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    return [(str(path), about.st_mtime_ns, about.st_size) for path, about in found]


def serve(connection: socket.socket, libraries: Sequence[str]) -> None:
    """Import, say so, and fork a step for each line that comes, until the runner is gone; say when each has begun and ended.

    What a terminal or a scheduler sends to all processes is for the runner and the steps: this one ends after them.
    """
    handlers: dict[int, Any] = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before, this = dict(os.environ), os.getpid()
    for library in libraries:
        importlib.import_module(library)
    added = {name: value for name, value in os.environ.items() if before.get(name) != value}
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()
    gc.freeze()  # a collection in a fork would write into, and so copy, all of it
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, int] = {}

    def reply(**said: Any) -> None:
        connection.sendall(json.dumps(said).encode() + b"\n")

    reply()
    waiting = b""
    while True:
        ready, _, _ = select.select([connection.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        while running:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                break
            if (number := running.pop(pid, None)) is None:  # a process that an import has left
                continue
            usage = {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_rss_bytes": used.ru_maxrss * 1024}
            reply(number=number, exit_code=os.waitstatus_to_exitcode(status), **usage)
        if connection.fileno() in ready:
            if not (given := connection.recv(65536)):
                return
            *lines, waiting = (waiting + given).split(b"\n")
            for asked in map(json.loads, lines):
                try:
                    pid = os.fork()
                except OSError:  # too little memory: a new process may fit
                    reply(number=asked["number"], pid=0)
                    continue
                if not pid:
                    signal.set_wakeup_fd(-1)
                    _become_step({**asked, "env": asked["env"] | added}, this, handlers)
                running[pid] = asked["number"]
                reply(number=asked["number"], pid=pid)


def _become_step(asked: dict[str, Any], parent: int, handlers: Mapping[int, Any]) -> None:
    """Run a step in this process, a fork of `parent`, as a process of its own would, and end as that would."""
    code = 1
    try:
        die_with_parent(parent)
        for number, handler in {**handlers, signal.SIGCHLD: signal.SIG_DFL}.items():
            signal.signal(number, handler)
        os.closerange(3, 1024)
        output = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.environ.clear()
        os.environ.update(asked["env"])
        from synpro.runner import child

        sys.argv = [child.__file__, *asked["arguments"]]
        child.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
    try:
        end_process(code)
    finally:  # whatever comes, this is not a second process that steps are forked from
        os._exit(1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
