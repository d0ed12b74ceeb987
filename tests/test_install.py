"""Every install line of the docs resolves against the package index (minutes; nothing is installed)."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = sorted(
    {
        line.partition("#")[0].replace('"synpro-lm"', ".").strip()
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        if page.name != "LOG.md"
        for line in re.findall(r"^(?:\S*/)?(pip install .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
)


def test_the_docs_have_install_lines_and_name_files_that_exist() -> None:
    assert any("vllm" in line for line in LINES) and any("constraints.txt" in line for line in LINES)
    for line in LINES:
        for name in re.findall(r"-[cr] (\S+)", line):
            assert (ROOT / name).is_file(), line


@pytest.mark.hub
@pytest.mark.parametrize("line", LINES)
def test_an_install_line_resolves(line: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=True)
    command = [str(tmp_path / "empty" / "bin" / "python"), "-m", *shlex.split(line), "--dry-run", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, f"{sys.version_info[:2]}: {done.stderr[-2000:]}"
