"""`synpro generate`: the generator alone, killed while it generates, and carried on to the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tomli_w

from tests.conftest import ROOT, synpro

pytestmark = pytest.mark.loop
SHARD = "round-01/synthesize-rephrase"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One operation of `tests/loop.toml`, one round, no RL, claims checked by rule."""
    table = tomllib.loads((ROOT / "tests" / "loop.toml").read_text(encoding="utf-8"))
    del table["operations"]["reformat"]
    table["operations"]["rephrase"] |= {"steps": 0, "max_new_tokens": 48}
    table["prepare"]["train_words"], table["synthesize"]["chunk_size"] = 150, 2
    table["train_generator"]["validation_passages"] = 1
    table |= {"rounds": 1, "train_verifier": {"kind": "none"}}
    file = tmp_path_factory.mktemp("generate") / "generate.toml"
    file.write_text(tomli_w.dumps(table), encoding="utf-8")
    return file


def test_killed_while_generating_it_ends_in_the_same_bytes_and_trains_nothing(config: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "synpro.cli", "generate", str(config), "--runs", str(tmp_path)]
    chunks, end = tmp_path / "loop" / SHARD / "chunks", time.monotonic() + 600
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd=ROOT) as process:
        while not list(chunks.glob("*.answers.json")) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    run = tmp_path / "loop"
    assert list(chunks.glob("*.answers.json")) and not (run / SHARD / "result.json").exists()

    done = synpro("generate", config, "--runs", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads((run / SHARD / "result.json").read_text(encoding="utf-8"))["record"]
    assert made["kept"] > 0 and made["kept"] + made["dropped"] == made["answers"] and "texts were kept" in done.stdout
    assert not list(run.glob("round-*/pretrain")) and not list(run.glob("round-*/probe")) and (run / "report.html").exists()
    assert json.loads((run / SHARD / "timing.json").read_text(encoding="utf-8"))["attempts"] == 2

    refused = synpro("step", config, SHARD, "--runs", tmp_path)
    assert refused.returncode == 1 and "`synpro generate`: name its own config" in refused.stderr
    again = synpro("step", run / "config.toml", SHARD, "--runs", tmp_path)
    assert "every file the same to the byte as before" in again.stdout, again.stdout + again.stderr
