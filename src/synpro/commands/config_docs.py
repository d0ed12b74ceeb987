"""`synpro config`: every key of a config, made from the dataclasses: a page for people, a JSON schema for editors.

`docs/config.md` and `docs/config.schema.json` are the stored output; a test checks that they are current.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Annotated, Any

from synpro.compare.config import CompareConfig
from synpro.config import RunConfig, plain
from synpro.operations.base import OperationConfig
from synpro.operations.registry import BUILT_IN
from synpro.schema import Tagged, range_text, renamed

INTRO = """# Every key of a config

Made from the code by `synpro config --docs > docs/config.md`; do not edit it here. `docs/config.schema.json` says the same to
an editor (`synpro config --schema`).

- A key is written in a TOML file under its table, or given as `--set TABLE.KEY=VALUE`. TOML has no null: write `"none"`.
- **Default**: *needed* where there is none. **Source**: where the default is from; *published* = the OLMo-2 setting that the
  paper trains with.
- **Decides**: *result* where another value may give another result, *execution* where it only says how the work is done.
"""


@dataclass(frozen=True)
class Key:
    """One key of a table."""

    field: dataclasses.Field[Any]
    hint: Any
    description: str

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def default(self) -> Any:
        """The default value; MISSING where the key is needed."""
        factory = self.field.default_factory
        return self.field.default if factory is MISSING else factory()


def keys_of(cls: type) -> list[Key]:
    """The keys that a config may set in a dataclass's table, those of its base classes first."""
    hints, descriptions = typing.get_type_hints(cls, include_extras=True), _descriptions(cls)
    fields = [f for f in dataclasses.fields(cls) if not f.metadata.get("hidden")]
    return [Key(f, hints[f.name], descriptions.get(f.name, "")) for f in fields]


def tables() -> dict[type, list[str]]:
    """Every dataclass of a config, with the tables that it describes (`pretrain.hardware`), outermost first."""
    found: dict[type, list[str]] = {}

    def visit(cls: type, path: str) -> None:
        found.setdefault(cls, []).append(path)
        for key in keys_of(cls):
            here = f"{path}.{key.name}" if path else key.name
            for inner, suffix in tables_in(key.hint):
                visit(inner, here + suffix)

    visit(CompareConfig, "")
    return found


def config_page() -> str:
    """`docs/config.md`."""
    parts = [INTRO]
    for cls, paths in tables().items():
        name = ", ".join(f"[{path}]" for path in dict.fromkeys(paths)) if paths != [""] else "Top of the file"
        name = f'`type = "{cls.type}"` in {name}' if hasattr(cls, "type") else name
        parts.append(f"## {name}\n\n{_prose(RunConfig.__doc__ if cls is CompareConfig else cls.__doc__)}\n")
        parts.append("\n".join(_table(cls)) + "\n")
        if cls is OperationConfig:
            parts.append("Defaults of the operations:\n\n" + "\n".join(_operation_defaults()) + "\n")
        old = [f"`{a}` {f'is now `{b}`' if b else 'is gone'}" for a, b in renamed(cls).items()]
        parts.append(f"Old keys: {', '.join(old)}.\n" if old else "")
    return "\n".join(part for part in parts if part)


def config_schema() -> dict[str, Any]:
    """`docs/config.schema.json`: JSON schema (draft 7) of a config; TOML editors read it too."""
    definitions = {cls.__name__: _object(cls) for cls in tables()}
    top = definitions.pop(CompareConfig.__name__)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "SynPro config",
        "description": "A run, or a comparison where there is a table [compare].",
        **top,
        "definitions": definitions,
    }


def schema_text() -> str:
    """The schema as the file stores it."""
    return json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n"


def _table(cls: type) -> Iterator[str]:
    yield "| key | type | default | unit | range | source | decides | meaning |"
    yield "|---|---|---|---|---|---|---|---|"
    for key in keys_of(cls):
        meta = key.field.metadata
        inner = [c for c, _ in tables_in(key.hint)]
        decides = "" if inner else "execution" if meta.get("execution") else "result"
        meaning = key.description or (_prose(inner[0].__doc__).split("\n")[0] if len(inner) == 1 else "")
        cells = [f"`{key.name}`", _type_text(key.hint), _default_text(key), meta.get("unit", "")]
        cells += [range_text(meta), meta.get("source", ""), decides, " ".join(meaning.split())]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _operation_defaults() -> Iterator[str]:
    yield "| operation | steps | max_copied | weights |"
    yield "|---|---|---|---|"
    for name, operation in BUILT_IN.items():
        settings = operation().config
        weights = ", ".join(f"{reward} {weight:g}" for reward, weight in settings.weights.items())
        yield f"| `{name}` | {settings.steps} | {settings.max_copied} | {weights} |"


def _descriptions(cls: type) -> dict[str, str]:
    """The docstring under each field, also of the base classes."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(description))):
                    found[name] = inspect.cleandoc(description)
    return found


def tables_in(hint: Any) -> Iterator[tuple[type, str]]:
    """The dataclasses that a field's type holds, each with what its tables add to the field's key."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated and (tags := [a for a in args if isinstance(a, Tagged)]):
        yield from ((cls, "") for cls in tags[0].shown_classes)
    elif dataclasses.is_dataclass(hint):
        yield typing.cast(type, hint), ""
    elif origin is dict:
        yield from ((cls, f".NAME{suffix}") for cls, suffix in tables_in(args[1]))
    elif origin in (tuple, typing.Union, types.UnionType, Annotated):
        for arg in args:
            yield from tables_in(arg)


def _type_text(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if any(isinstance(a, Tagged) for a in args):
        return "table with `type`"
    if origin is Annotated:
        return _type_text(args[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join('`"none"`' if a is type(None) else _type_text(a) for a in args)
    if origin is typing.Literal:
        return ", ".join(f"`{json.dumps(a)}`" for a in args)
    if origin is tuple:
        return f"list of {_type_text(args[0])}"
    if origin is dict:
        return f"table of {_type_text(args[1])}"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(hint, "table")


def _default_text(key: Key) -> str:
    value = key.default
    if value is MISSING:
        return "*needed*"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = _changed(value)
        return f"`{_toml(changed)}`" if changed else ""
    if isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):
        return ", ".join(f"`{name}`" for name in value)
    return f"`{_toml(plain(value))}`"


def _changed(value: Any) -> dict[str, Any]:
    """What of a dataclass differs from the defaults of its class: what the table's own rows do not say."""
    defaults = {key.name: key.default for key in keys_of(type(value))}
    own = {name: getattr(value, name) for name in defaults}
    same = {name for name, one in own.items() if plain(one) == plain(defaults[name]) and name != "type"}
    return {name: plain(one) for name, one in own.items() if name not in same}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:_}" if isinstance(value, int) else f"{value:g}" if value % 1 else f"{value}"


def _object(cls: type) -> dict[str, Any]:
    keys = keys_of(cls)
    return {
        "type": "object",
        "description": _prose(cls.__doc__),
        "properties": {key.name: _property(key) for key in keys},
        "required": [key.name for key in keys if key.default is MISSING],
        "additionalProperties": False,
    }


def _property(key: Key) -> dict[str, Any]:
    meta = key.field.metadata
    bounds = {"min": "minimum", "max": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
    body = _json_type(key.hint, {word: meta[name] for name, word in bounds.items() if meta.get(name) is not None})
    more = [f"Unit: {meta['unit']}." if meta.get("unit") else "", f"Source: {meta['source']}." if meta.get("source") else ""]
    text = " ".join([*key.description.split(), *filter(None, more)])
    simple = key.default is not MISSING and not list(tables_in(key.hint))
    return {**body, **({"description": text} if text else {}), **({"default": plain(key.default)} if simple else {})}


def _json_type(hint: Any, bounds: dict[str, Any]) -> dict[str, Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        tags = [a for a in args if isinstance(a, Tagged)]
        return {"anyOf": [_ref(cls) for cls in tags[0].shown_classes]} if tags else _json_type(args[0], bounds)
    if dataclasses.is_dataclass(hint):
        return _ref(typing.cast(type, hint))
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [{"const": "none"} if a is type(None) else _json_type(a, bounds) for a in args]}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _json_type(args[0], bounds)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _json_type(args[1], bounds)}
    return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}[hint], **bounds}


def _ref(cls: type) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{cls.__name__}"}


def _prose(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "")
