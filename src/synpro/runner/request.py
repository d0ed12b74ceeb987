"""A step's request: what decides its result, as plain data and back.

Config fields that only say how the work is done (`setting(..., execution=True)`) are no part of it: they are kept beside it, by
dotted place, in `execution.json`. A request that an earlier version stored is read as this version would have written it, so an
upgrade that adds a key, a record's field or a stage's input with a default leaves finished steps finished.
"""

from __future__ import annotations

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
Settings = dict[str, Any]
"""Execution settings by their dotted place in the request: `config.hardware.micro_batch_size`."""


def make_request(
    stage: Callable[..., Any], cfg: object, inputs: Mapping[str, object], seed: int, root: Path
) -> tuple[Request, Settings]:
    """The request of a step, and the execution settings that its configs hold."""
    settings: Settings = {}
    body = encode({"config": cfg, "inputs": inputs}, root, settings)
    return {"stage": f"{stage.__module__}:{stage.__qualname__}", **body, "seed": seed}, settings


def call_arguments(request: Request, settings: Settings, root: Path) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
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
    inputs = {key: _upgrade(hints.get(key), value, root) for key, value in old.get("inputs", {}).items()}
    for name, parameter in inspect.signature(stage).parameters.items():
        if name not in (*inputs, "cfg", "ctx") and parameter.default is not parameter.empty:
            inputs[name] = encode(parameter.default, root, {})
    return {**old, "config": _upgrade(hints["cfg"], old.get("config"), root), "inputs": inputs}


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
    classes = [h for h in (hint, *typing.get_args(hint)) if isinstance(h, type) and dataclasses.is_dataclass(h)]
    if not classes or not isinstance(value, dict) or "record" in value:
        return decode(value, root)
    hints = typing.get_type_hints(classes[0], include_extras=True)
    if not any(_names_record(h) for h in hints.values()):
        return build(classes[0], value)
    return classes[0](**{key: _decode_as(hints[key], part, root) for key, part in value.items()})


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


def note_execution(out: Path, machine: MachineConfig, settings: Settings, attempt: int, root: Path) -> None:
    """Write `execution.json`: how each attempt at a step is run. An attempt that is run as the one before adds nothing."""
    file = out / "execution.json"
    stored = read_json(file) if file.exists() else {}
    attempts = stored.get("attempts", [])
    now = {"machine": encode(machine, root), "settings": settings, "host": platform.node()}
    if not attempts or {k: v for k, v in attempts[-1].items() if k != "attempt"} != now:
        attempts.append({"attempt": attempt, **now})
    write_json(file, {"attempts": attempts})


def last_execution(out: Path) -> tuple[MachineConfig, Settings]:
    """How the newest attempt at a step is run: the machine, and the execution settings."""
    newest = read_json(out / "execution.json")["attempts"][-1]
    return build(MachineConfig, newest["machine"]), newest["settings"]
