"""Every command in the README is run, in a folder laid out as the README has it, on the run that the tests have finished."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.loop
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip() and not line.strip().startswith("#")
]
ID = "TEXT_ID"
"""Stands in the README for an id that only a run can tell."""


def layout(folder: Path, finished_run: Path) -> None:
    """The README's world: `configs/tiny.toml` and `runs/tiny`, at the size of the tests."""
    (folder / "configs").mkdir()
    small = (ROOT / "tests" / "loop.toml").read_text().replace('name = "loop"', 'name = "tiny"')
    (folder / "configs" / "tiny.toml").write_text(small)
    for name in ("400m.toml", "1b.toml", "compare-tiny.toml"):
        (folder / "configs" / name).write_text((ROOT / "configs" / name).read_text())
    (folder / "runs").mkdir()
    subprocess.run(["cp", "-r", str(finished_run), str(folder / "runs" / "tiny")], check=True)
    config = folder / "runs" / "tiny" / "config.toml"
    config.write_text(config.read_text().replace('name = "loop"', 'name = "tiny"'))
    (folder / "mine.txt").write_text(
        "The river rises in the hills and runs to the sea. Two towns stand on it. Both have mills."
    )


def test_the_readme_has_commands():
    assert {"make demo", "make test"} <= set(COMMANDS) and sum(c.startswith("synpro ") for c in COMMANDS) >= 8


@pytest.fixture(scope="module")
def world(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    layout(folder, finished_run)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, world: Path, finished_run: Path):
    if command.startswith("make "):  # make demo and make test are what runs this; here: that the targets and their parts exist
        done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    import pyarrow.parquet as pq

    some = pq.read_table(finished_run / "round-01/synthesize-rephrase/rewrites.parquet")["id"][0].as_py()
    words = command.replace(ID, some).replace("source .venv/bin/activate", "true").split()
    argv = [sys.executable, "-m", "synpro.cli", *words[1:]] if words[0] == "synpro" else words
    done = subprocess.run(argv, cwd=world, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
