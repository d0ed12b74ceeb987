"""Every config key and command option that code, messages, help texts or docs mention exists."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer.main

from synpro.cli import app
from synpro.compare.config import CompareConfig
from synpro.schema import Tagged
from tests.markdown import PAGES, ROOT

TABLES = [f.name for f in dataclasses.fields(CompareConfig)]
KEY = re.compile(rf"(?<![\w./\"'#-])({'|'.join(TABLES)})((?:\.(?:[a-z_]+|NAME|\d+))+)(?![\w/(]|\.[a-z])")
SET = re.compile(r"--set[ =](?!(?:key|a\.b|TABLE\.KEY)=)([A-Za-z_][\w.]*)(?==)")
FILE = re.compile(r"\.(py|json|jsonl|toml|md|parquet|html|txt|bin|gguf|sbatch)$")
EXAMPLES = re.compile(r"^ *```(?:python|text)\n.*?^ *```", re.DOTALL | re.MULTILINE)
"""Blocks of a page where a dot is Python's, or a wrong key is the point."""
COMMAND = re.compile(r"\bsynpro ([a-z-]+(?: influence)?)((?: [^`|;&\n]*)?)")


def texts() -> Iterator[tuple[str, str]]:
    """(place, text): string constants of the code, docs, and comments of configs."""
    for file in sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value
    for file in PAGES:
        yield from _lines(file, EXAMPLES.sub(lambda m: "\n" * m.group().count("\n"), file.read_text(encoding="utf-8")))
    for file in sorted(ROOT.glob("configs/*.toml")):
        yield from _lines(file, re.sub(r"^[^#\n]*", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE))


def _lines(file: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"{file.relative_to(ROOT)}:{number}", line


def exists(parts: list[str], hint: Any) -> bool:
    """Whether a dotted key leads somewhere in a config of type `hint`."""
    if not parts:
        return True
    if typing.get_origin(hint) is Annotated:
        tagged = [m for m in typing.get_args(hint)[1:] if isinstance(m, Tagged)]
        return any(exists(parts, c) for c in (tagged[0].classes.values() if tagged else typing.get_args(hint)[:1]))
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(exists(parts, a) for a in args)
    if origin is dict:
        return exists(parts[1:], args[1])
    if origin in (tuple, list):
        return (parts[0].isdigit() or parts[0] == "NAME") and exists(parts[1:], args[0])
    if not dataclasses.is_dataclass(hint):
        return False
    if parts[0] == "NAME":  # any of the tables here
        return any(exists(parts[1:], h) for h in typing.get_type_hints(hint, include_extras=True).values())
    fields = {f.name for f in dataclasses.fields(hint)}
    return parts[0] in fields and exists(parts[1:], typing.get_type_hints(hint, include_extras=True)[parts[0]])


def key_exists(key: str) -> bool:
    return exists(key.split("."), CompareConfig)


def unknown_keys(place: str, text: str) -> list[str]:
    keys = {m.group(0).rstrip(".") for m in KEY.finditer(text) if not FILE.search(m.group(0))}
    keys |= {m.group(1) for m in SET.finditer(text)}
    return [f"{place}: {key}" for key in sorted(keys) if not key_exists(key)]


@functools.cache
def all_commands() -> dict[str, Any]:
    """The commands by what is typed after `synpro`."""
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    return commands | {f"score {name}": c for name, c in commands["score"].commands.items()}


def unknown_options(place: str, text: str) -> list[str]:
    commands, found = all_commands(), []
    for match in COMMAND.finditer(text):
        verb, rest = match.group(1), match.group(2)
        if verb not in commands:
            continue
        options = {o for p in commands[verb].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        found += [f"{place}: synpro {verb} {o}" for o in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest) if o not in options]
    return found


@pytest.mark.parametrize("check", [unknown_keys, unknown_options])
def test_what_is_mentioned_exists(check: Any) -> None:
    found = [problem for place, text in texts() for problem in check(place, text)]
    assert not found, "\n".join(found)


def test_the_slots_of_messages_are_keys() -> None:
    """`slot=` names the config key that an error message blames; `texts` is the FILE of rewrite and score."""
    found = []
    for file in sorted(ROOT.glob("src/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "slot" and isinstance(node.value, ast.Constant):
                key = str(node.value.value)
                found += [] if key == "texts" or key_exists(key) else [f"{file.relative_to(ROOT)}:{node.value.lineno}: {key}"]
    assert not found, "\n".join(found)


def test_a_wrong_mention_is_found() -> None:
    assert unknown_keys("x", "give pretrain.learning_rate a value") == ["x: pretrain.learning_rate"]
    assert unknown_keys("x", "synpro run c.toml --set probe.lr=1e-3") == ["x: probe.lr"]
    assert unknown_options("x", "run `synpro submit CONFIG --submit`") == ["x: synpro submit --submit"]
    right = "pretrain.optimizer.learning_rate, operations.NAME.steps, judges.NAME.engine.dtype and operations.rephrase.weights"
    assert unknown_keys("x", right) == [] and unknown_options("x", "synpro submit CONFIG --slurm --now") == []


def test_the_pattern_finds_many_keys() -> None:
    assert sum(len(KEY.findall(text)) for _, text in texts()) > 100
