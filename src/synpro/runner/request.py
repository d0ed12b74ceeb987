"""A step's request: what decides its result, as plain data and back.

Config fields that only say how the work is done (`setting(..., execution=True)`) are no part of it: they are kept beside it, by
dotted place, in `execution.json`. A request that an earlier version stored is read as this version would have written it, so an
upgrade that adds a key, a record's field or a stage's input with a default leaves finished steps finished.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import platform
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synpro.records import RECORDS, decode, encode
from synpro.runner.artifacts import read_json, write_json
from synpro.runner.launch import MachineConfig
from synpro.schema import SchemaError, build, renew

Request = dict[str, Any]
"""`stage`, `config`, `inputs` and `seed`."""
ExecutionSettings = dict[str, Any]
"""Execution settings by their dotted place in the request: `config.hardware.micro_batch_size`."""


def make_request(
    stage: Callable[..., Any], cfg: object, inputs: Mapping[str, object], seed: int, root: Path
) -> tuple[Request, ExecutionSettings]:
    """The request of a step, and the execution settings that its configs hold."""
    settings: ExecutionSettings = {}
    body = encode({"config": cfg, "inputs": {**_defaults(stage), **inputs}}, root, settings)
    return {"stage": f"{stage.__module__}:{stage.__qualname__}", **body, "seed": seed}, settings


def call_arguments(request: Request, settings: ExecutionSettings, root: Path) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """The stage of a request, its config, and its inputs."""
    module, _, name = request["stage"].partition(":")
    stage: Callable[..., Any] = getattr(importlib.import_module(module), name)
    for place, value in settings.items():
        *path, last = place.split(".")
        here: Any = request
        for part in path:
            here = here[int(part)] if isinstance(here, list) else here[part]
        here[last] = value
    hints = typing.get_type_hints(stage, include_extras=True)
    inputs = {key: _decode_as(hints.get(key), value, root) for key, value in request["inputs"].items()}
    return stage, build(hints["cfg"], request["config"]), inputs


def upgraded(old: Request, stage: Callable[..., Any], root: Path) -> Request:
    """A stored request as this version writes it: new keys, fields and inputs have their defaults, renamed keys their names.

    A part that this version cannot read stays as it is.
    """
    hints = typing.get_type_hints(stage, include_extras=True)
    moved: dict[str, Any] = {}
    config = renew(hints["cfg"], old.get("config"), moved)
    inputs = {name: renew(hints.get(name), part, moved) for name, part in copy.deepcopy(old.get("inputs", {})).items()}
    for path, value in moved.items():
        _move(inputs, hints, path, value)
    inputs = {key: _upgrade(hints.get(key), value, root) for key, value in inputs.items()}
    inputs = {**encode(_defaults(stage), root, {}), **inputs}
    return {**old, "config": _upgrade(hints["cfg"], config, root), "inputs": inputs}


def _move(inputs: dict[str, Any], hints: Mapping[str, Any], path: str, value: Any) -> None:
    """Put a setting that is now in another table of the config where a stage gets that table: as an input, or in a bundle."""
    table, *rest = path.replace("operations.NAME.", "operation.").split(".")
    for name, part in inputs.items():
        cls, here = _dataclass_in(hints.get(name)), part if name == table else None
        if here is None and cls and isinstance(part, dict) and table in {f.name for f in dataclasses.fields(cls)}:
            here = part.setdefault(table, {})
        if isinstance(here, dict):
            for key in rest[:-1]:
                here = here.setdefault(key, {})
            here.setdefault(rest[-1], value)


def _defaults(stage: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(stage).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _upgrade(hint: Any, value: Any, root: Path) -> Any:
    if isinstance(value, list):
        return [_upgrade(None, v, root) for v in value]
    if not isinstance(value, dict):
        return value
    try:
        return encode(_decode_as(hint, renew(hint, value), root), root, {})
    except (SchemaError, ValueError, TypeError, KeyError):
        return value


def _decode_as(hint: Any, value: Any, root: Path) -> Any:
    """The inverse of `encode` for an input: a record, plain data, a config, or a dataclass that bundles records and configs."""
    cls = _dataclass_in(hint)
    if cls is None or not isinstance(value, dict) or "record" in value:
        return decode(value, root)
    hints = typing.get_type_hints(cls, include_extras=True)
    if not any(_names_record(h) for h in hints.values()):
        return build(cls, value)
    return cls(**{key: _decode_as(hints[key], part, root) for key, part in value.items()})


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass of a parameter, which may also take None."""
    return next((h for h in (hint, *typing.get_args(hint)) if isinstance(h, type) and dataclasses.is_dataclass(h)), None)


def _names_record(hint: Any) -> bool:
    return hint in RECORDS.values() or any(_names_record(part) for part in typing.get_args(hint))


def changes(old: Mapping[str, Any], new: Mapping[str, Any], key: str = "") -> list[str]:
    """Lines that say what differs between two plain requests, place by place."""
    lines: list[str] = []
    for name in sorted(set(old) | set(new)):
        place = f"{key}.{name}" if key else name
        a, b = old.get(name, "(missing)"), new.get(name, "(missing)")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += changes(a, b, place)
        elif a != b:
            lines.append(f"{place}: {a!r} -> {b!r}")
    return lines


def note_execution(out: Path, machine: MachineConfig, settings: ExecutionSettings, attempt: int, root: Path) -> None:
    """Write `execution.json`: how each attempt at a step is run. An attempt that is run as the one before adds nothing."""
    file = out / "execution.json"
    stored = read_json(file) if file.exists() else {}
    attempts = stored.get("attempts", [])
    now = {"machine": encode(machine, root), "settings": settings, "host": platform.node()}
    if not attempts or {k: v for k, v in attempts[-1].items() if k != "attempt"} != now:
        attempts.append({"attempt": attempt, **now})
    write_json(file, {"attempts": attempts})


def last_execution(out: Path) -> tuple[MachineConfig, ExecutionSettings]:
    """How the newest attempt at a step is run: the machine, and the execution settings."""
    newest = read_json(out / "execution.json")["attempts"][-1]
    return build(MachineConfig, newest["machine"]), newest["settings"]
