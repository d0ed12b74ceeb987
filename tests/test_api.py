"""The public names of `synpro`: there, lazy, and not shadowed by a subpackage."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from pathlib import Path

import synpro


def test_every_public_name_is_what_its_module_defines() -> None:
    assert synpro.__all__ == sorted(synpro._PUBLIC)
    for name, module in synpro._PUBLIC.items():
        assert getattr(synpro, name) is getattr(importlib.import_module(module), name)
        assert callable(getattr(synpro, name)), "a subpackage of the same name would be a module"
    assert set(synpro.__all__) <= set(dir(synpro))
    assert not hasattr(synpro, "no_such_name")


def test_importing_is_fast_and_imports_nothing_else() -> None:
    code = "import sys, synpro; print(*[m for m in sys.modules if m.startswith('synpro.') or m in ('torch', 'numpy', 'rich')])"
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
        bare = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        seconds[-1] -= time.perf_counter() - bare
    assert done.stdout.split() == []
    assert min(seconds) < 0.1


def test_types_are_published() -> None:
    assert (Path(synpro.__file__).parent / "py.typed").exists()
