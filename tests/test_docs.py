"""The docs are tests: commands parse, config keys load, links lead somewhere, messages are those of the code."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
import shlex
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from synpro.cli import app
from synpro.compare.config import CompareConfig
from synpro.config import RunConfig, load_config_as
from synpro.engines.registry import ENGINES
from synpro.operations.registry import CONTROLS, OPERATIONS
from synpro.rewards.filters import filter_reasons
from synpro.rewards.registry import REWARDS
from synpro.schema import Tagged, renamed
from synpro.synthesis.blocks import MISSING
from synpro.synthesis.selection import CHOICES
from tests.markdown import NAMES, ROOT, Block, blocks, code_spans, commands, links

COMMANDS = sorted(set(commands()))
TOML = list(blocks("toml"))


def leaf(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a `synpro ...` line calls, and its arguments. Fails for a command that does not exist."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"synpro has no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def script_options(words: list[str]) -> tuple[set[str], list[str]]:
    """The options that a `python FILE ...` or `python -m MODULE ...` line may use, and those it does."""
    if words[1] == "-m":
        if words[2].partition(".")[0] != "benchmarks":  # another project's, or the command line itself
            return set(), []
        spec = importlib.util.find_spec(words[2])
        assert spec is not None and spec.origin is not None, f"no module {words[2]}"
        file, rest = Path(spec.origin), words[3:]
    else:
        file, rest = ROOT / words[1], words[2:]
    assert file.exists(), f"no file {file}"
    known = set(re.findall(r"add_argument\(\s*\"(--[a-z-]+)\"", file.read_text(encoding="utf-8")))
    return known, [w.partition("=")[0] for w in rest if w.startswith("--")]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_a_block_parses(page: str, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "synpro":
        command_, rest = leaf(words)
        command_.make_context(words[0], rest)  # raises for an option that does not exist and an argument that is missing
    elif words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [w for w in words[1:] if "=" not in w and w not in targets] == []
    elif Path(words[0]).name.startswith("python"):
        known, used = script_options(words)
        assert set(used) <= known


@pytest.mark.parametrize("page", NAMES)
def test_a_command_in_the_text_exists_with_its_options(page: str) -> None:
    for span in code_spans(page):
        words = span.split()
        if words[0] == "synpro" and len(words) > 1 and "..." not in span:
            command, rest = leaf(words)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {w.partition("=")[0] for w in rest if w.startswith("-")} <= known | {"--help"}, span
        elif words[0] in ("python", "python3") and len(words) > 1:
            known, used = script_options(words)
            assert set(used) <= known, span


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table; a table with another `type` replaces the old one."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        same = isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        out[key] = merged(old, value) if same and old is not None else value
    return out


@pytest.mark.parametrize("block", TOML, ids=str)
def test_a_toml_block_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laid over a published config, as somebody who copies one would have it."""
    import tomli_w

    monkeypatch.chdir(ROOT)
    table = tomllib.loads(block.text)
    name, kind = ("compare-tiny", CompareConfig) if "compare" in table else ("400m", RunConfig)
    base = tomllib.loads((ROOT / "configs" / f"{name}.toml").read_text(encoding="utf-8"))
    (tmp_path / "config.toml").write_text(tomli_w.dumps(merged(base, table)), encoding="utf-8")
    load_config_as(kind, tmp_path / "config.toml", [])


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_to_files(page: str) -> None:
    assert [t for t in links(page) if t and not ((ROOT / page).parent / t).exists()] == []


def test_the_readme_lists_every_page() -> None:
    listed = set(links("README.md"))
    assert [n for n in NAMES if n != "README.md" and n not in listed] == []


def test_the_readme_lists_every_command() -> None:
    rows = re.findall(r"^\| `synpro ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    command: Any = typer.main.get_command(app)
    assert sorted(rows) == sorted(command.commands)


def strings_of(folder: Path) -> str:
    """All string constants of the code under a folder, one a line; a value within an f-string is `{}`."""
    found = []
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    """Every line that the page quotes has three words in a row that a message in the code has too; indented ones are values."""
    code = " ".join((strings_of(ROOT / "src") + (ROOT / "Makefile").read_text()).split())
    for block in blocks("text", ["docs/troubleshooting.md"]):
        for line in (line for line in block.text.splitlines() if not line.startswith(" ")):
            words = re.sub(r"'[^']*'", "{}", line).split()
            runs = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
            assert any(run in code for run in runs), f"{block}: no message in src reads like {line!r}"


def test_the_troubleshooting_page_explains_every_reason() -> None:
    """Why a text can be dropped: by a filter, in the selection, or because something gave no answer."""
    reasons = [*filter_reasons(), *CHOICES, *(reason for reason, _ in MISSING.values()), "contamination"]
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").partition("| reason | meaning |")[2]
    explained = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)))
    assert len(explained) > 10
    assert [r for r in dict.fromkeys(reasons) if r not in explained] == [], "reasons without a row in docs/troubleshooting.md"


TREE = re.compile(r"[\w./-]+\.(?:py|toml|md|jinja|json|jsonl|yaml)\b")


def test_architecture_names_what_exists() -> None:
    """Every file that docs/architecture.md names exists, under src/synpro or the root; wildcards are left out."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    made_by_a_run = ("config.toml", "environment.json", "request.json", "result.json", "timing.json", "compare.json",
                     "execution.json", "inputs.json", "error.json", "metrics.jsonl", "rejects.jsonl",
                     "validation.json")  # fmt: skip
    named = {m for m in TREE.findall(text) if Path(m).name not in made_by_a_run and "NAME" not in m}
    assert len(named) > 40
    bases = (ROOT / "src/synpro", ROOT)
    every = {p.relative_to(base).as_posix() for base in bases for p in base.rglob("*.*") if ".venv" not in p.parts}
    names = {Path(p).name for p in every}
    assert sorted(m for m in named if m not in every and (("/" in m) or m not in names)) == []


def test_architecture_names_every_package_and_module_at_the_top() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    packages = [p.parent.relative_to(ROOT / "src/synpro").as_posix() for p in (ROOT / "src/synpro").rglob("__init__.py")]
    top = [p.name for p in (ROOT / "src/synpro").glob("*.py") if p.name != "__init__.py"]
    assert len(packages) > 15
    assert [p for p in packages if p != "." and f"{p.rpartition('/')[2]}/" not in text] == []
    assert [f for f in top if f not in text] == []


@pytest.mark.parametrize(
    ("package", "files"),
    [("rewards", {*REWARDS}), ("operations", {*OPERATIONS} | {*CONTROLS}), ("engines", {*ENGINES})],
)
def test_architecture_names_every_file_of_a_registry(package: str, files: set[str]) -> None:
    """Below the package's name in docs/architecture.md, the file of everything that its registry holds."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    part = text.partition(f"\n  {package}/")[2]
    assert len(files) > 3 and files <= set(re.findall(r"\w+", re.split(r"\n  \w", part)[0]))


@pytest.mark.parametrize(
    ("registry", "page", "entry"),
    [(REWARDS, "method", "\n| {} |"), (OPERATIONS, "method", "- *{}*"), (ENGINES, "engines", "\n| `{}` |")],
    ids=["rewards", "operations", "engines"],
)
def test_a_page_explains_all_of_a_registry(registry: dict[str, Any], page: str, entry: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert [name for name in registry if entry.format(name) not in text] == [], f"not in docs/{page}.md"


def renamed_keys(hint: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(old key, new key) of every config table below a type; the new key is empty for one that is gone."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        tagged = [m for m in args[1:] if isinstance(m, Tagged)]
        for inner in tagged[0].classes.values() if tagged else args[:1]:
            yield from renamed_keys(inner, key)
    elif origin is dict:
        yield from renamed_keys(args[1], f"{key}NAME.")
    elif origin is not None:
        for inner in args:
            yield from renamed_keys(inner, key)
    elif dataclasses.is_dataclass(hint):
        for old, new in renamed(hint).items():  # type: ignore[arg-type]
            yield f"{key}{old}", new if "." in new or not new else f"{key}{new}"
        hints = typing.get_type_hints(hint, include_extras=True)
        for field in dataclasses.fields(hint):
            yield from renamed_keys(hints[field.name], f"{key}{field.name}.")


def renamed_rows() -> list[str]:
    """The rows of the changelog's table. Engines have the same keys in several tables: these are listed once."""
    rows = []
    for old, new in renamed_keys(CompareConfig):
        if ".engine." in old:
            old, new = (re.sub(r"^.+\.engine\.", "ENGINE.", key) for key in (old, new))
        rows.append(f"| `{old}` | {f'`{new}`' if new else 'gone'} |")
    return list(dict.fromkeys(rows))


def test_the_changelog_lists_every_renamed_key() -> None:
    table = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert len(renamed_rows()) > 40
    assert [row for row in renamed_rows() if row not in table] == []
