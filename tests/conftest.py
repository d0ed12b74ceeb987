"""What many tests share: a finished run of the whole loop, made once per session with the real models of the demo; a
tiny Qwen3, and servers for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synpro.records import Verifier
from tests import chat_server, tiny_qwen

ROOT = Path(__file__).parents[1]


def synpro(*arguments: str | Path, cwd: Path = ROOT, timeout: float | None = 900) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    argv = [sys.executable, "-m", "synpro.cli", *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of `tests/loop.toml`: two rounds, both operations, minutes on two cores.

    SYNPRO_TEST_RUN names a folder to keep it in, so that a developer need not wait for it twice.
    """
    kept = os.environ.get("SYNPRO_TEST_RUN")
    runs = Path(kept) if kept else tmp_path_factory.mktemp("runs")
    began = time.monotonic()
    done = synpro("run", ROOT / "tests" / "loop.toml", "--runs", runs)
    assert done.returncode == 0, done.stdout + done.stderr
    (runs / "output.txt").write_text(done.stdout)
    print(f"\nthe whole loop took {time.monotonic() - began:.0f} s")
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
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    """A feature verifier trained by its stage on the passages of `tests/passages.py`, seconds."""
    from synpro.judges.base import JudgesConfig
    from synpro.run.journal import Journal
    from synpro.stages.train_verifier import TrainVerifierConfig, train_verifier
    from tests.passages import passage_corpus

    out = tmp_path_factory.mktemp("verifier")
    cfg = TrainVerifierConfig(kind="features", claims=160)
    corpus = passage_corpus(tmp_path_factory.mktemp("passages"))
    return train_verifier(cfg, corpus=corpus, judges=JudgesConfig(), out=out, journal=Journal(out), seed=1)
