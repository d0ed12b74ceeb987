"""What many tests share: a finished run of the whole loop, made once per session with the real models of the demo; a
tiny Qwen3, and servers for it."""

from __future__ import annotations

import os

# Before anything imports PyTorch: workers that run side by side share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from synpro import plugins
from synpro.records import TrainedVerifier, decode, encode
from tests import chat_server, tiny_qwen

ROOT = Path(__file__).parents[1]


def synpro(*arguments: str | Path, cwd: Path = ROOT, timeout: float | None = 2700) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    argv = [sys.executable, "-m", "synpro.cli", *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


SLOW_FILES = (
    "test_loop",
    "test_readme",
    "test_generate",
    "test_submit",
    "test_loops",
    "test_install",
    "test_torchrun",
    "test_synthetic_arms",
    "test_train_generator",
    "test_rehearse",
)
"""Test files that take most of a minute or more, the longest first."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers that run side by side get whole files in this order (`--dist loadfile`): the longest first, so that none is left
    with one at the end; those that read the finished run last, for one worker makes it while the other has something else to
    do."""
    reads_run = {item.path for item in items if "finished_run" in getattr(item, "fixturenames", ())}

    def place(item: pytest.Item) -> tuple[bool, int]:
        name = item.path.stem
        late = item.path in reads_run and name != "test_loop"
        return late, SLOW_FILES.index(name) if name in SLOW_FILES else len(SLOW_FILES)

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that tests have measured (`record_property("measured", ...)`), wherever they ran."""
    lines = [
        value
        for report in terminalreporter.getreports("passed")
        if report.when in ("setup", "call")
        for name, value in report.user_properties
        if name == "measured"
    ]
    for line in dict.fromkeys(lines):
        terminalreporter.write_line(f"measured: {line}")


def forget_plugins() -> None:
    """Put registries and modules back to those of a process that has run no file of one's own."""
    for _, entries, built_in, *_ in plugins._REGISTRIES:
        entries.clear()
        entries.update(built_in)
    plugins._LOADED.clear()
    for module in [name for name in sys.modules if name.startswith("synpro_plugin_")]:
        del sys.modules[module]


@pytest.fixture(autouse=True)
def no_plugins() -> Iterator[None]:
    """What a test loads is gone after it: tests share a process, in an order that differs from machine to machine."""
    yield
    if plugins._LOADED:
        forget_plugins()


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills, once for all workers: the first makes it, the others find it."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of `tests/loop.toml`: two rounds, both operations, minutes on two cores.

    SYNPRO_TEST_RUN names a folder to keep it in, so that a developer need not wait for it twice.
    """
    kept = os.environ.get("SYNPRO_TEST_RUN")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers
    runs = Path(kept) if kept else shared / "finished"
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / "lock"):  # the first worker does it, the others find it done
        if kept or not (runs / "output.txt").exists():
            began = time.monotonic()
            done = synpro("run", ROOT / "tests" / "loop.toml", "--runs", runs)
            assert done.returncode == 0, done.stdout + done.stderr
            (runs / "output.txt").write_text(done.stdout)
            (runs / "seconds.txt").write_text(f"{time.monotonic() - began:.0f}")
    return runs / "loop"


@pytest.fixture(scope="session")
def nursery() -> Iterator[chat_server.Nursery]:
    """Forks OpenAI-compatible servers."""
    with chat_server.Nursery() as open_:
        yield open_


@pytest.fixture(scope="session")
def qwen(nursery: chat_server.Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Qwen3 that answers as DataMan and as a judge of layout. (The nursery warms up meanwhile.)"""
    return tiny_qwen.make(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def other_qwen(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return tiny_qwen.disturb(qwen, tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> TrainedVerifier:
    """A feature verifier trained by its stage on the passages of `tests/passages.py`, seconds."""
    from synpro.judges.base import JudgesConfig
    from synpro.runner.context import StepContext
    from synpro.stages.train_verifier import TrainVerifierConfig, train_verifier
    from tests.passages import passage_corpus

    def make(folder: Path) -> None:
        cfg = TrainVerifierConfig(kind="features", max_claims=160)
        corpus = passage_corpus(tmp_path_factory.mktemp("passages"))
        ctx = StepContext.local(folder / "step", 1)
        record = train_verifier(cfg, corpus=corpus, judges=JudgesConfig(), ctx=ctx)
        (folder / "record.json").write_text(json.dumps(encode(record, folder)))

    folder = made_once(tmp_path_factory, "verifier", make)
    return decode(json.loads((folder / "record.json").read_text()), folder)
