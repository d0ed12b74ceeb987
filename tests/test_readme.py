"""The README and docs/python.md are run: every command, every block of Python, in a folder laid out as they have it, on the run
that the tests have finished."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.markdown import ROOT, blocks, commands

pytestmark = pytest.mark.loop
COMMANDS = list(dict.fromkeys(command for _, command in commands(["README.md"])))
SKIPPED = ("python3 -m venv", "pip install", "source ")
"""Beginnings of commands that make the environment these tests run in."""
TEXT_ID = "TEXT_ID"
"""What the README writes for an id that only a run can tell."""


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's folder: `configs/`, `runs/tiny` and `runs/mine`, at the size of the tests."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "configs", folder / "configs")
    small = (ROOT / "tests" / "loop.toml").read_text()
    (folder / "runs").mkdir()
    for name in ("tiny", "mine"):
        (folder / "configs" / f"{name}.toml").write_text(small.replace('name = "loop"', f'name = "{name}"'))
        shutil.copytree(finished_run, folder / "runs" / name, symlinks=True)
        config = folder / "runs" / name / "config.toml"
        config.write_text(config.read_text().replace('name = "loop"', f'name = "{name}"'))
    (folder / "mine.txt").write_text(
        "The river rises in the hills and runs to the sea. Two towns are on it. Both of them have mills."
    )
    return folder


def python(arguments: list[str], folder: Path, *, may_be_too_small: bool = False) -> None:
    """Run this Python in the folder; the test fails with its output when it fails. `may_be_too_small`: a check that tells this
    machine what it lacks has done its work too."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    reported = may_be_too_small and "config: valid" in done.stdout and "cannot run here" in done.stderr
    assert done.returncode == 0 or reported, done.stdout + done.stderr


def test_the_readme_has_commands() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS) and sum(c.startswith("synpro ") for c in COMMANDS) >= 8


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith(SKIPPED)])
def test_a_command(command: str, folder: Path, finished_run: Path) -> None:
    if command.startswith("make "):  # make demo and make test are what runs this; here: that the targets and their parts exist
        done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    import pyarrow.parquet as pq

    some = pq.read_table(finished_run / "round-01/synthesize-rephrase/rewrites.parquet")["id"][0].as_py()
    words = command.replace(TEXT_ID, some).split()
    assert words[0] == "synpro", f"a command of the README that no test runs: {command}"
    published = words[1] == "check" and "tiny" not in command
    python(["-m", "synpro.cli", *words[1:]], folder, may_be_too_small=published)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page(page: str, folder: Path, tmp_path: Path) -> None:
    """All blocks of a page, one after the other in one process."""
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(block.text for block in blocks("python", [page])), encoding="utf-8")
    python([str(script)], folder)
