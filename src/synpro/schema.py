"""Frozen config dataclasses from plain data, with errors that name the key, the type and the nearest known name."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class SchemaError(ValueError):
    """A value that does not fit; `key` is its dotted place, `problem` says what is wrong and what to do."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key, self.problem = key, problem


def build(cls: type[T], table: Mapping[str, Any], key: str = "") -> T:
    """A dataclass from a mapping of its fields; nested dataclasses, tuples and dicts are built too.

    Raises SchemaError for an unknown or missing key, a value of the wrong type, and whatever the class itself refuses.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in table:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            raise SchemaError(_join(key, name), f"unknown key; {hint}")
    for name, f in fields.items():
        if name not in table and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise SchemaError(_join(key, name), f"missing; a value of type {_say(hints[name])} is needed")
    values = {name: _fit(hints[name], value, _join(key, name)) for name, value in table.items()}
    try:
        return cls(**values)
    except SchemaError:
        raise
    except ValueError as problem:  # what __post_init__ refuses: "field: what is wrong; what to do"
        name, _, rest = str(problem).partition(": ")
        root = name.split(".", maxsplit=1)[0]
        raise (SchemaError(_join(key, name), rest) if root in fields else SchemaError(key, str(problem))) from problem


def _fit(hint: Any, value: Any, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and (value is None or value == "none"):  # TOML has no null
            return None
        problems = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _fit(option, value, key)
            except SchemaError as problem:
                problems.append(problem)
        raise next((p for p in problems if p.key != key), problems[0])
    if origin is typing.Literal:
        if value in args:
            return value
        near = difflib.get_close_matches(str(value), [str(a) for a in args], n=1)
        hint_text = f"; did you mean {near[0]!r}?" if near else ""
        raise SchemaError(key, f"{value!r} is not one of {', '.join(map(repr, args))}{hint_text}")
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SchemaError(key, f"should be a table with keys {', '.join(f.name for f in dataclasses.fields(hint))}")
        return build(typing.cast(type, hint), value, key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SchemaError(key, f"should be a list, is {value!r}; write [{value!r}]")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_fit(args[0], v, f"{key}.{i}") for i, v in enumerate(value))
        if len(value) != len(args):
            raise SchemaError(key, f"should have {len(args)} values, has {len(value)}")
        return tuple(_fit(a, v, f"{key}.{i}") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SchemaError(key, f"should be a table, is {value!r}")
        return {k: _fit(args[1], v, _join(key, k)) for k, v in value.items()}
    return _scalar(hint, value, key)


def _scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise SchemaError(key, f"should be {_say(hint)}, is {value!r}")


def _say(hint: Any) -> str:
    names = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint) or str(getattr(hint, "__name__", hint)).replace("typing.", "")


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
