"""The house rules that no linter knows: what importing opens, how long files are, where names come from."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "vllm",
    "ray",
    "olmo_core",
    "olmo_eval",
    "datasets",
    "plotly",
    "matplotlib",
    "pyarrow",
    "scipy",
)


def loaded_after(code: str) -> set[str]:
    """The heavy libraries in `sys.modules` of a fresh Python after `code`."""
    script = f"{code}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_opens_no_library_and_lists_every_command():
    code = "import sys; sys.argv = ['synpro', '--help']\nfrom synpro.cli import app\ntry: app()\nexcept SystemExit: pass"
    assert loaded_after(code) == set()
    done = subprocess.run([sys.executable, "-m", "synpro.cli", "--help"], capture_output=True, text=True, check=True)
    for name in ("run", "compare", "check", "plan", "status", "step", "why", "rewrite", "evaluate", "report"):
        assert re.search(rf"^\s*{name}\s", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize(
    "module",
    [
        "config",
        "loop",
        "commands.run",
        "commands.status",
        "commands.check",
        "records",
        "rewards.rubric",
        "operations.registry",
        "judges.base",
    ],
)
def test_importing_opens_no_library(module):
    assert loaded_after(f"import synpro.{module}") == set()


def test_importing_the_package_is_quick_and_its_names_are_lazy():
    began = "import time; began = time.perf_counter(); import synpro; assert time.perf_counter() - began < 0.1, 'slow'"
    assert loaded_after(f"{began}; dir(synpro); synpro.load_config") == set()


def test_no_file_is_too_long_and_none_is_a_drawer():
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    assert len(files) > 50
    assert [f.name for f in files if len(f.read_text().splitlines()) > 400] == []
    assert [f for f in files if re.fullmatch(r"(utils?|helpers?|common|misc)", f.stem)] == []


def test_tests_take_helpers_from_modules_that_are_no_tests():
    """Helpers are in a conftest.py or a module without tests; the tests of two files do not hang together."""
    for file in ROOT.glob("tests/**/*.py"):
        found = re.findall(r"^\s*(?:from|import) tests(?:\.\w+)*\.(test_\w+)", file.read_text(), re.MULTILINE)
        assert found == [], f"{file.relative_to(ROOT)} imports {', '.join(found)}"


def test_make_quick_names_tests_that_exist():
    listed = re.search(r"^QUICK := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    paths = listed[1].replace("\\\n", " ").split()
    assert len(paths) > 10 and [path for path in paths if not (ROOT / path).exists()] == []


def test_every_data_file_is_installed_with_the_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {f for package, globs in patterns.items() for g in globs for f in (SOURCE / package.replace(".", "/")).glob(g)}
    data = {f for f in SOURCE.rglob("*.*") if f.suffix not in (".py", ".pyc") and "egg-info" not in str(f)}
    assert len(data) > 5 and data == {f for f in installed if f.is_file()}


def test_remote_code_and_pickle_stay_off():
    for file in ROOT.glob("src/**/*.py"):
        text = file.read_text()
        assert "trust_remote_code=True" not in text, file
        assert not re.search(r"^\s*(import|from) pickle", text, re.MULTILINE), file
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, file


def test_no_file_holds_the_marks_of_a_merge():
    files = [
        f
        for place in ("*.*", "docs/*", "configs/*", "src/**/*.*", "tests/**/*.*", "benchmarks/*", "examples/*")
        for f in ROOT.glob(place)
    ]
    texts = {f: f.read_text(encoding="utf-8") for f in files if f.suffix in (".py", ".md", ".toml", ".txt", ".jinja", ".jsonl")}
    assert len(texts) > 100
    assert [f for f, text in texts.items() if re.search(r"^(<{7} |={7}$|>{7} )", text, re.MULTILINE)] == []
