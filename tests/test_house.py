"""The house rules that no linter knows: what importing opens, how long files are, where names come from."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from synpro.engines.base import EngineSpec
from synpro.engines.registry import ENGINES
from synpro.operations.base import Operation
from synpro.operations.registry import CONTROLS, OPERATIONS
from synpro.rewards import filters
from synpro.rewards.base import Reward
from synpro.rewards.registry import REWARDS

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


@pytest.mark.parametrize(
    ("package", "base", "known"),
    [
        ("rewards", Reward, REWARDS.values()),
        ("operations", Operation, (OPERATIONS | CONTROLS).values()),
        ("engines", EngineSpec, ENGINES.values()),
    ],
)
def test_every_class_of_a_registrys_folder_is_in_the_registry(package, base, known):
    folder = SOURCE / "synpro" / package
    modules = [importlib.import_module(f"synpro.{package}.{file.stem}") for file in folder.glob("*.py")]
    found = {v for m in modules for v in vars(m).values() if inspect.isclass(v) and issubclass(v, base)}
    whole = {v for v in found if not inspect.isabstract(v)}
    assert len(whole) > 3 and {f"{v.__module__}: {v.__name__}" for v in whole - {*known}} == set(), "not in its registry.py"


def test_every_filter_is_in_a_table():
    functions = inspect.getmembers(filters, inspect.isfunction)
    found = {name: f for name, f in functions if list(inspect.signature(f).parameters) == ["s", "cfg"]}
    known = {*filters.RULES.values(), *filters.BY_SCORE.values()}
    assert len(found) > 8 and [name for name, f in found.items() if f not in known] == [], "not in RULES or BY_SCORE"


def test_make_quick_names_tests_that_exist():
    listed = re.search(r"^QUICK := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    paths = listed[1].replace("\\\n", " ").split()
    assert len(paths) > 10 and [path for path in paths if not (ROOT / path).exists()] == []
    recipes = re.findall(r"`\.venv/bin/python -m pytest ([^`]+)`", (ROOT / "docs/extending.md").read_text())
    assert len(recipes) == 4 and [path for recipe in recipes for path in recipe.split() if path not in paths] == []


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


def test_models_are_opened_whole() -> None:
    found = {
        file.relative_to(ROOT / "src/synpro").as_posix()
        for file in (ROOT / "src/synpro").rglob("*.py")
        if re.search(r"AutoModel\w*\.from_pretrained|AutoModel\w*,? .*from_pretrained", file.read_text(encoding="utf-8"))
    }
    assert found == set(), "open it by assets/models.py, which refuses files that lack tensors"
