"""Every install line of the docs resolves against the package index (minutes; nothing is installed)."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pins}


def test_the_pinned_versions_are_among_those_asked_for_and_suit_each_other() -> None:
    """What pip finds out with the index, as far as the files and the installed packages say it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    pins = pinned("constraints.txt")
    torch_line = next(line for line in LINES if line.startswith("pip install torch=="))
    pins["torch"] = torch_line.partition("==")[2]
    for name, version in pins.items():
        try:
            if importlib.metadata.version(name) == version:
                asked += importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
    for wanted in map(Requirement, asked):
        version = pins.get(canonicalize_name(wanted.name))
        if version and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            assert wanted.specifier.contains(version, prereleases=True), f"{wanted}: constraints.txt has {version}"


def test_the_line_that_puts_vllm_beside_synpro_asks_for_versions_that_both_take() -> None:
    line = next(line for line in LINES if "vllm==" in line)
    beside = {r.name: r for r in (Requirement(word) for word in shlex.split(line)[2:] if word != ".")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {r.name: r for r in map(Requirement, project["dependencies"])}
    assert ours["transformers"].specifier.contains("5.19.0") and beside["transformers"].specifier.contains("5.19.0")
    alone = pinned("constraints-vllm.txt")
    assert not ours["torch"].specifier.contains(alone["torch"]), "it could share the environment now: say so in docs/engines.md"


@pytest.mark.hub
@pytest.mark.parametrize("line", LINES)
def test_an_install_line_resolves(line: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=True)
    command = [str(tmp_path / "empty" / "bin" / "python"), "-m", *shlex.split(line), "--dry-run", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, f"{sys.version_info[:2]}: {done.stderr[-2000:]}"
