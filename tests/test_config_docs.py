"""`docs/config.md` and `docs/config.schema.json` are those of the code; the shipped configs satisfy the schema."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from synpro.commands.config_docs import config_page, keys_of, schema_text, tables, tables_in
from synpro.engines.registry import ENGINES
from tests.config_keys import key_paths

ROOT = Path(__file__).parents[1]
KEYS = key_paths()
DOTTED = re.compile(rf"(?<![\w./])(?:{'|'.join(sorted({k.split('.')[0] for k in KEYS}))})(?:\.[A-Za-z_]+)+(?![\w(/*])")
FILE = re.compile(r"\.(?:py|toml|md|json|jsonl|parquet|html|config|rubric)$")


@pytest.mark.parametrize(
    ("file", "option", "text"), [("config.md", "--docs", config_page), ("config.schema.json", "--schema", schema_text)]
)
def test_the_stored_file_is_current(file: str, option: str, text) -> None:
    assert (ROOT / "docs" / file).read_text() == text(), f"make it again: synpro config {option} > docs/{file}"


def test_a_heading_says_each_table_once() -> None:
    headings = [line for line in config_page().splitlines() if line.startswith("## ")]
    assert len(headings) == len(set(headings)) and not any(line.count("`type = ") > 1 for line in headings)


def test_only_engines_that_follow_training_are_listed_for_it() -> None:
    fits = [spec for spec in ENGINES.values() if "train_generator.engine" in tables()[spec]]
    assert fits == [spec for spec in ENGINES.values() if spec.follows_training] and len(fits) < len(ENGINES)
    properties = json.loads(schema_text())["definitions"]["TrainGeneratorConfig"]["properties"]
    assert [ref["$ref"] for ref in properties["engine"]["anyOf"]] == [f"#/definitions/{spec.__name__}" for spec in fits]


def test_every_key_says_what_it_means() -> None:
    silent = [
        f"{cls.__name__}.{key.name}"
        for cls in tables()
        for key in keys_of(cls)
        if not key.description and not list(tables_in(key.hint))
    ]
    assert [name for name in silent if not name.endswith(".type")] == []


def test_every_key_that_code_and_docs_mention_exists() -> None:
    mentioned = {
        (str(file.relative_to(ROOT)), found.group())
        for file, text in _texts()
        for found in DOTTED.finditer(text)
        if not FILE.search(found.group())
    }
    assert len(mentioned) > 50
    assert sorted((file, key) for file, key in mentioned if _general(key) not in KEYS) == []


def _general(key: str) -> str:
    """`operations.rephrase.steps` is the key `operations.NAME.steps`."""
    return re.sub(r"^judges\.NAME", "judges.dataman", re.sub(r"^operations\.\w+", "operations.NAME", key))


def _texts() -> Iterator[tuple[Path, str]]:
    """What speaks of keys: texts in the code (help, messages, docstrings), and code spans and `--set` in the docs."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file, node.value
    for file in [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in ("LOG.md", "config.md"))]:
        for span in re.findall(r"`([^`\n]+)`|--set (\S+)", file.read_text()):
            yield file, " ".join(span)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_the_schema_accepts_the_shipped_configs_and_refuses_an_old_key(file: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema, table = json.loads(schema_text()), tomllib.loads(file.read_text())
    jsonschema.validate(table, schema)
    with pytest.raises(jsonschema.ValidationError, match="lr"):
        jsonschema.validate({**table, "pretrain": {"optimizer": {"lr": 1e-3}}}, schema)
