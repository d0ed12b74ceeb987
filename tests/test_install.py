"""Every install line of the docs resolves against the package index (a minute; nothing is installed)."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = sorted(
    {
        line.partition("#")[0].strip()
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


def test_make_does_not_take_the_python_of_the_environment_that_it_removes(tmp_path: Path) -> None:
    own = tmp_path / ".venv" / "bin" / "python3.11"
    own.parent.mkdir(parents=True)
    own.touch(0o755)
    env = {**os.environ, "PATH": f"{own.parent}:{os.environ['PATH']}"}
    argv = ["make", "--dry-run", "--directory", str(ROOT), "venv", f"VENV={tmp_path / '.venv'}"]
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    assert " -m venv " in said and str(own) not in said


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """Every line tried in an empty environment, with the newest pip: it reads metadata alone, where the one that comes with
    Python downloads every wheel."""
    empty = tmp_path_factory.mktemp("empty")
    venv.create(empty, with_pip=True)
    python = [str(empty / "bin" / "python"), "-m"]
    subprocess.run([*python, "pip", "install", "--quiet", "--upgrade", "pip"], check=True)

    def resolve(lines: list[str]) -> dict[str, subprocess.CompletedProcess[str]]:
        done = {}
        for line in lines:
            command = [*python, *shlex.split(line), "--dry-run", "--quiet"]
            done[line] = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
        return done

    of_this = [line for line in LINES if "." in shlex.split(line)]  # one after the other: they build it in the same folder
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(resolve, [of_this, [line for line in LINES if line not in of_this]])
    return one | other


@pytest.mark.hub
@pytest.mark.parametrize("line", LINES)
def test_an_install_line_resolves(line: str, resolved: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert resolved[line].returncode == 0, f"{sys.version_info[:2]}: {resolved[line].stderr[-2000:]}"
