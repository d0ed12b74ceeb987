"""Rewards of one's own: Python files named in the config that add lines to the table of rewards when they are run.

A file is named with the sha256 of its contents (`my_reward.py#sha256=...`), added when the config is read. So the request of a
step covers the code its rewards ran, a file that changes in the middle of a run is an error, and a step's process, which gets
the config, gets the rewards with it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MARK = "#sha256="


def add_rewards(reference: str, table: Mapping[str, Callable[..., Any]], built_in: Mapping[str, Callable[..., Any]]) -> str:
    """Run the file of a reference, once per process, and return the reference with its sha256.

    `table` is the table it adds to, `built_in` what stood there when SynPro was imported. Raises ValueError, saying what to do,
    for a file that is not there, is not the one it was, does not run, or takes the name of a reward that SynPro has.
    """
    name, _, expected = reference.partition(MARK)
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{name!r} is no Python file here; name one that ends in .py, from the folder synpro is started in")
    source = path.read_bytes()
    found = hashlib.sha256(source).hexdigest()
    if expected and expected != found:
        raise ValueError(f"{name} has changed since the run was begun; restore it, or start a run of another name")
    module = f"synpro_added_{found[:16]}"
    if module not in sys.modules:
        _run(path, source, module)
    taken = [reward for reward, build in built_in.items() if table.get(reward) is not build]
    if taken:
        raise ValueError(f"{name} takes the name of a reward that synpro has: {', '.join(taken)}; give yours another one")
    return f"{name}{MARK}{found}"


def _run(path: Path, source: bytes, module: str) -> None:
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None
    body = importlib.util.module_from_spec(spec)
    sys.modules[module] = body  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), body.__dict__)  # the bytes that were hashed
    except Exception as problem:
        del sys.modules[module]
        raise ValueError(f"{path} does not run: {type(problem).__name__}: {problem}") from problem
