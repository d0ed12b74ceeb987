"""`python -m tests.forked run CONFIG ...`: the command line, each step forked from a process that has the libraries already.

A step of the tests' size takes half of its time to import them. Steps that tests start by hand have a Python of their own, and
must end in the same bytes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

from synpro import cli
from synpro.runner import child, launch
from synpro.runner.launch import Usage, die_with_parent, environment


def preload() -> None:
    """Import what steps import. Nothing may be computed: a fork has none of PyTorch's threads."""
    import peft  # noqa: F401
    import trl  # noqa: F401
    from transformers.models.llama import modeling_llama  # noqa: F401
    from transformers.models.olmo2 import modeling_olmo2  # noqa: F401

    import synpro.grpo.trl
    import synpro.lm.tasks
    import synpro.lm.trainer  # noqa: F401


def fork_step(argv: list[str], log: Path, env: dict[str, str]) -> Usage:
    """Run a step as `launch` does, in a fork of this process."""
    assert argv[1:3] == ["-m", "synpro.runner.child"], "one process"
    began, parent = time.monotonic(), os.getpid()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            die_with_parent(parent)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(output, stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
            os.environ.clear()
            os.environ.update(env)
            child.run_child(Path(argv[3]).resolve(), Path(argv[4]).resolve())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status, used = os.wait4(pid, 0)
    cpu = used.ru_utime + used.ru_stime
    return Usage(os.waitstatus_to_exitcode(status), time.monotonic() - began, cpu, used.ru_maxrss * 1024)


if __name__ == "__main__":
    wanted = environment(1)
    if os.environ.get("PYTHONHASHSEED") != "0" or os.environ.get("OMP_NUM_THREADS") != "1":  # both are read at the start
        os.execve(sys.executable, [sys.executable, "-m", "tests.forked", *sys.argv[1:]], wanted)
    preload()
    launch._run = fork_step
    cli.main()
