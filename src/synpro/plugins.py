"""Python files of one's own, named in the config, that add a line to a registry (of rewards, of operations) when they are run.

A file is named with the sha256 of its contents (`my_reward.py#sha256=...`), added when the config is read. So the request of a
step covers the code that it runs, a file that changes in the middle of a run is an error, and a step's process, which gets the
config, gets what the file adds with it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = "#sha256="


def load_plugin(reference: str, registry: Mapping[str, Any], built_in: Mapping[str, Any], noun: str) -> str:
    """Run the file of a reference, once per process, and return the reference with its sha256.

    Args:
        registry: what the file adds to.
        built_in: what was in it when SynPro was imported.
        noun: what the registry holds, for messages: `reward`, `operation`.

    Raises ValueError for a file that does not exist, has changed, does not run, or takes the name of something built in.
    """
    name, _, expected = reference.partition(MARK)
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{name!r} is no Python file here; name one that ends in .py, from the folder synpro is started in")
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    if expected and expected != digest:
        raise ValueError(f"{name} has changed since the run was begun; restore it, or start a run of another name")
    module = f"synpro_plugin_{digest[:16]}"
    if module not in sys.modules:
        _run(path, source, module)
    taken = [key for key, value in built_in.items() if registry.get(key) is not value]
    if taken:
        raise ValueError(f"{name} takes the name of a built-in {noun}: {', '.join(taken)}; give yours another name")
    return f"{name}{MARK}{digest}"


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
