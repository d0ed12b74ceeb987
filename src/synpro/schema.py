"""Frozen config dataclasses from plain data. Every error of a table is told at once, with its key and what to do.

A config dataclass says about its fields:

- the type, by its annotation; the description, by the docstring under the field (`docs/config.md` is made of them);
- default, unit, source and range, by `setting(...)`;
- old names, by a class attribute `RENAMED: ClassVar[Mapping[str, str]]`, and what their values are called now, where they too
  have changed, by `OLD_VALUES: ClassVar[Mapping[str, Mapping[Any, Any]]]`;
- of old keys that are gone (their new name is empty), the value that is fixed now, by `FIXED: ClassVar[Mapping[str, Any]]`; one
  that decided no result needs none;
- what no single range can say (two keys that do not go together), by `__post_init__`, raising `ValueError("key: problem")`.

A field that takes one of several tables, told apart by their key `type`, is annotated `Annotated[Base, Tagged(REGISTRY)]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

T = TypeVar("T")


class SchemaError(ValueError):
    """A value that does not fit; `key` is its dotted place, `problem` says what is wrong and what to do."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key, self.problem = key, problem

    @property
    def errors(self) -> tuple[SchemaError, ...]:
        """Every single problem: itself, or those that `SchemaErrors` joins."""
        return (self,)


class SchemaErrors(SchemaError):
    """Several problems of one table; `key` and `problem` are those of the first, the message has a line for each."""

    def __init__(self, errors: Iterable[SchemaError]) -> None:
        self._errors = tuple(errors)
        super().__init__(self._errors[0].key, self._errors[0].problem)
        self.args = ("\n".join(str(e) for e in self._errors),)

    @property
    def errors(self) -> tuple[SchemaError, ...]:
        """Every single problem, in the order of the fields."""
        return self._errors


@dataclass(frozen=True)
class Tagged:
    """Annotation of a field that takes one of several dataclasses: `Annotated[EngineSpec, Tagged(lambda: ENGINES)]`.

    Each class of the registry repeats its name in a field: `type: Literal["vllm"] = "vllm"`.
    """

    registry: Mapping[str, type] | Callable[[], Mapping[str, type]]
    """Classes by name; a function where the registry is imported late."""
    key: str = "type"
    """The key of the table that names the class."""
    default: str = ""
    """The class of a table without that key; empty = the key is required."""
    hint: str = ""
    """Said of a value that is not a table: how to write it now."""
    fits: Callable[[Any], bool] = lambda cls: True
    """Which classes docs list; of the others, the dataclass with the field says why it refuses them."""

    @property
    def shown_classes(self) -> list[type]:
        """The classes that fit."""
        return [cls for cls in self.classes.values() if self.fits(cls)]

    @property
    def classes(self) -> Mapping[str, type]:
        """Classes by name."""
        return self.registry() if callable(self.registry) else self.registry


def setting(
    default: Any = MISSING,
    *,
    default_factory: Any = MISSING,
    unit: str = "",
    source: str = "",
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    execution: bool = False,
    hidden: bool = False,
) -> Any:
    """A dataclass field with what a reader, an editor and `build` need to know of it.

    Args:
        unit: of the number: "tokens", "seconds", "nats/token", ...
        source: where the default is from: "paper", "paper, section 4.1", "ours", "vLLM", ...
        min, max: smallest and largest allowed value; of a list or table, of each element.
        above, below: the same, with the bound itself excluded.
        execution: the key says how the work is done, not what its result is (memory, devices, number of processes).
        hidden: filled in when the config is read, not written by a person; left out of `docs/config.md`.
    """
    metadata = {"unit": unit, "source": source, "execution": execution, "hidden": hidden}
    metadata |= {"min": min, "max": max, "above": above, "below": below}
    if default is not MISSING:
        return dataclasses.field(default=default, metadata=metadata)
    if default_factory is not MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(metadata=metadata)


def build(cls: type[T], table: Mapping[str, Any], key: str = "") -> T:
    """A dataclass from a mapping of its fields; nested dataclasses, tuples and dicts are built too.

    `key` is the dotted place of the table, for messages. Raises SchemaError (SchemaErrors for more than one problem) for an
    unknown, renamed or missing key, a value of the wrong type or out of its range, and whatever the class itself refuses.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    errors = [SchemaError(_join(key, name), _unknown(cls, name, fields)) for name in table if name not in fields]
    values: dict[str, Any] = {}
    for name, f in fields.items():
        here = _join(key, name)
        try:
            if name in table:
                values[name] = _fit(hints[name], table[name], here)
                check_range(f.metadata, values[name], here)
            elif f.default is MISSING and f.default_factory is MISSING:
                raise SchemaError(here, f"missing; a value of type {describe(hints[name])} is needed")
        except SchemaError as problem:
            errors += problem.errors
    if not errors:
        try:
            return cls(**values)
        except SchemaError as problem:
            errors += [SchemaError(_join(key, e.key), e.problem) for e in problem.errors]
        except ValueError as problem:  # what __post_init__ refuses: "field: what is wrong; what to do"
            name, _, rest = str(problem).partition(": ")
            known = name.split(".", maxsplit=1)[0] in fields
            errors.append(SchemaError(_join(key, name), rest) if known else SchemaError(key, str(problem)))
    raise errors[0] if len(errors) == 1 else SchemaErrors(errors)


def renamed(cls: type) -> dict[str, str]:
    """Old keys of a config dataclass, with what they are called now (a dotted path: in another table; empty: gone)."""
    return {old: new for base in reversed(cls.__mro__) for old, new in base.__dict__.get("RENAMED", {}).items()}


def renew(hint: Any, value: Any, moved: dict[str, Any] | None = None) -> Any:
    """Plain data that an earlier version stored, with its keys as they are called now; keys that are gone are left out, but
    where they have another value than the one that is fixed now: `build` refuses those.

    `hint` is the type it is built as. With `moved`, keys that are now in another table are put there by their new path;
    otherwise they stay, and `build` says where they are now.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        tag = next((a for a in args if isinstance(a, Tagged)), None)
        if tag is None or not isinstance(value, Mapping):
            return renew(args[0], value, moved)
        return renew(tag.classes.get(value.get(tag.key, tag.default)), value, moved)
    if origin in (typing.Union, types.UnionType):
        return renew(next((a for a in args if dataclasses.is_dataclass(a) or typing.get_origin(a)), None), value, moved)
    if origin is tuple and isinstance(value, (list, tuple)):
        return [renew(args[0], v, moved) for v in value]
    if origin is dict and isinstance(value, Mapping):
        return {k: renew(args[1], v, moved) for k, v in value.items()}
    if not dataclasses.is_dataclass(hint) or not isinstance(value, Mapping):
        return value
    hints = typing.get_type_hints(hint, include_extras=True)
    names = {old: new for old, new in renamed(typing.cast(type, hint)).items() if old not in hints}
    out = {}
    for key, part in value.items():
        name = names[key] if key in names else str(key)
        if key in names and not isinstance(part, (Mapping, list)):
            part = getattr(hint, "OLD_VALUES", {}).get(key, {}).get(part, part)
        if "." in name and key in names:
            if moved is None:
                out[key] = part
            else:
                moved[name] = part
        elif name and (name == key or name not in value):
            out[name] = renew(hints.get(name), part, moved)
        elif not name and part != getattr(hint, "FIXED", {}).get(key, part):
            out[key] = part
    return out


def check_range(metadata: Mapping[str, Any], value: Any, key: str) -> None:
    """Raise SchemaError for a number, or an element of a list or table, that is outside the range in a field's metadata."""
    if isinstance(value, Mapping):
        _together(partial(check_range, metadata, v, _join(key, k)) for k, v in value.items())
    elif isinstance(value, tuple):
        _together(partial(check_range, metadata, v, f"{key}.{i}") for i, v in enumerate(value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high, above, below = (metadata.get(name) for name in ("min", "max", "above", "below"))
        finite = value - value == 0  # `isfinite` has no answer for a whole number of 400 digits
        inside = finite and (low is None or value >= low) and (high is None or value <= high)
        if not (inside and (above is None or value > above) and (below is None or value < below)):
            raise SchemaError(key, f"{value} is out of range; give {range_text(metadata)}")


def range_text(metadata: Mapping[str, Any]) -> str:
    """The range of a field in words: "at least 1", "above 0 and at most 1"; empty without a range."""
    words = {"min": "at least", "above": "above", "max": "at most", "below": "below"}
    return " and ".join(f"{word} {metadata[name]:g}" for name, word in words.items() if metadata.get(name) is not None)


def describe(hint: Any) -> str:
    """The type of a field in words."""
    names = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint) or str(getattr(hint, "__name__", hint)).replace("typing.", "")


def _unknown(cls: type, name: str, fields: Mapping[str, Any]) -> str:
    old = renamed(cls)
    if name in old:
        new = old[name]
        return f"is called {new!r} now" if new and "." not in new else f"is now {new}" if new else "is gone; remove it"
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    return "unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}")


def _fit(hint: Any, value: Any, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        tags = [a for a in args if isinstance(a, Tagged)]
        return _fit_tagged(tags[0], value, key) if tags else _fit(args[0], value, key)
    if origin in (typing.Union, types.UnionType):
        return _fit_union(args, value, key)
    if origin is typing.Literal:
        if value in args:
            return value
        near = difflib.get_close_matches(str(value), [str(a) for a in args], n=1)
        hint_text = f"; did you mean {near[0]!r}?" if near else ""
        raise SchemaError(key, f"{value!r} is not one of {', '.join(map(repr, args))}{hint_text}")
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            form = f"; {hint.HINT}" if hasattr(hint, "HINT") else ""
            raise SchemaError(key, f"should be a table with keys {', '.join(f.name for f in dataclasses.fields(hint))}{form}")
        return build(typing.cast(type, hint), value, key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SchemaError(key, f"should be a list, is {value!r}; write {_as_list(args[0], value, key)}")
        types_ = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        if len(value) != len(types_):
            raise SchemaError(key, f"should have {len(types_)} values, has {len(value)}")
        pairs = enumerate(zip(types_, value, strict=True))
        return tuple(_together(partial(_fit, a, v, f"{key}.{i}") for i, (a, v) in pairs))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SchemaError(key, f"should be a table, is {value!r}")
        fitted = _together(partial(_fit, args[1], v, _join(key, k)) for k, v in value.items())
        return dict(zip(value, fitted, strict=True))
    return _fit_scalar(hint, value, key)


def _as_list(hint: Any, value: Any, key: str) -> str:
    """How a list is written in TOML, where there is one value: a table is one of several below a header in double brackets."""
    if dataclasses.is_dataclass(hint) or typing.get_origin(hint) is Annotated:
        return f"[[{key}]] above the keys of each"
    if isinstance(value, Mapping):
        return f"{key.rpartition('.')[2]} = [...]"
    return f"[{str(value).lower() if isinstance(value, bool) else repr(value)}]"


def _fit_tagged(tag: Tagged, value: Any, key: str) -> Any:
    classes = tag.classes
    known = ", ".join(map(repr, classes))
    if not isinstance(value, Mapping):
        form = tag.hint or f"write a table, for example {{{tag.key} = {next(iter(classes))!r}}}"
        raise SchemaError(key, f"should be a table whose key {tag.key!r} is one of {known}, is {value!r}; {form}")
    if tag.key not in value and not tag.default:
        raise SchemaError(_join(key, tag.key), f"missing; one of {known} is needed")
    name = value.get(tag.key, tag.default)
    if name not in classes:
        near = difflib.get_close_matches(str(name), classes, n=1)
        raise SchemaError(
            _join(key, tag.key), f"{name!r} is not one of {known}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return build(classes[name], value, key)


def _fit_union(options: tuple[Any, ...], value: Any, key: str) -> Any:
    if type(None) in options and (value is None or value == "none"):  # TOML has no null
        return None
    problems = []
    for option in (a for a in options if a is not type(None)):
        try:
            return _fit(option, value, key)
        except SchemaError as problem:
            problems.append(problem)
    raise next((p for p in problems if p.key != key), problems[0])


def _fit_scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise SchemaError(key, f"should be {describe(hint)}, is {value!r}")


def _together(jobs: Iterable[Callable[[], Any]]) -> list[Any]:
    """The results of all jobs; the SchemaErrors of those that fail are raised as one."""
    results: list[Any] = []
    errors: list[SchemaError] = []
    for job in jobs:
        try:
            results.append(job())
        except SchemaError as problem:
            errors += problem.errors
    if errors:
        raise errors[0] if len(errors) == 1 else SchemaErrors(errors)
    return results


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key and name else key or name
