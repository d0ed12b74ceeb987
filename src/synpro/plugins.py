"""Python files of one's own, named in the config, that add lines to registries (rewards, operations, engines, filters) when
they are run.

A file is named with the sha256 of its contents (`my_reward.py#sha256=...`), added when the config is read. So the request of a
step covers the code that it runs, and a file that changes in the middle of a run is an error. Worked examples in a TOML file
beside it, which the prompt shows, count as its contents. Files are run before the tables of a config are read: by
`load_config`, and by each process of a step, from the config of its run directory.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

MARK = "#sha256="
KEYS = ("operation_files", "rubric.files")
"""Keys of a config that name files. Either may name any file."""
EXAMPLES = b"read_examples"
"""A file that has this word reads the TOML file of its name (`operations/base.py`)."""
_FILTER_NAME = re.compile("[a-z]+[ _-]?[a-z]+")
V = TypeVar("V")
MODULE = "synpro_plugin_"
"""Begins the name of the module of such a file."""
_REGISTRIES: list[tuple[str, MutableMapping[str, Any], dict[str, Any], type, Sequence[str]]] = []
_LOADED: dict[str, None] = {}


def registry(noun: str, entries: dict[str, V], base: type, names: Sequence[str] = ()) -> dict[str, V]:
    """A registry that files may add to. What it holds now is built in: no file may take its name.

    Args:
        noun: what it holds, for messages: `reward`, `operation`.
        base: the class that what is added is a subclass of; `object` for functions.
        names: attributes of such a class that repeat its key, as `defaults.name`.
    """
    _REGISTRIES.append((noun, entries, dict(entries), base, names))
    return entries


def classes_of(package: str, base: type, *names: str) -> dict[str, Any]:
    """The classes that a package's files define, by the name of the file: `rephrase` is the subclass of `base` in
    `rephrase.py` that is called "rephrase" by its `name` or `type`.

    Raises ImportError for a file without such a class: it is a fault of the package, not of a person's input.
    """
    found = {}
    for name in names:
        module = importlib.import_module(f"{package}.{name}")
        classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, base)]
        named = [c for c in classes if name in (getattr(c, "name", None), getattr(c, "type", None))]
        if len(named) != 1:
            raise ImportError(f"{module.__file__} defines no {base.__name__}, or more than one, with the name {name!r}")
        found[name] = named[0]
    return found


def files_of(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The files that a config's plain data names under one of KEYS; none where there is no list of texts."""
    value: Any = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return tuple(value) if isinstance(value, list | tuple) and all(isinstance(f, str) for f in value) else ()


def load_config_files(config: Path) -> None:
    """Run the files that a run's `config.toml` names; none where there is no such config. Raises ValueError."""
    table = tomllib.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    load_files(file for key in KEYS for file in files_of(table, key))


def loaded_files() -> tuple[str, ...]:
    """The files that were run in this process, for another one that needs what they add; by whole path, for its working
    directory may be another."""
    return tuple(_LOADED)


def load_files(references: Iterable[str]) -> tuple[str, ...]:
    """Run files, each once per process; the files with the sha256 of their contents.

    Raises ValueError for a file that does not exist, has changed, does not run, takes the name of something built in, or adds
    what cannot be used.
    """
    return tuple(_load(reference) for reference in references)


def _load(reference: str) -> str:
    name, _, expected = reference.partition(MARK)
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{name!r} is no Python file here; name one that ends in .py, from the folder synpro is started in")
    source = path.read_bytes()
    beside = path.with_suffix(".toml")
    examples = beside.read_bytes() if EXAMPLES in source and beside.is_file() else b""
    digest = hashlib.sha256(source + examples).hexdigest()
    if expected and expected != digest:
        changed = f"{name} or {beside.name}, which it reads," if EXAMPLES in source else name
        raise ValueError(f"{changed} has changed since the run was begun; restore it, or start a run of another name")
    module = f"{MODULE}{digest[:16]}"
    if module not in sys.modules:
        _run(path, source, module)
    if problem := next(filter(None, (_problem(*each) for each in _REGISTRIES)), ""):
        del sys.modules[module]
        raise ValueError(f"{name} {problem}")
    _LOADED[f"{path.resolve()}{MARK}{digest}"] = None
    return f"{name}{MARK}{digest}"


def _problem(noun: str, entries: MutableMapping[str, Any], built_in: dict[str, Any], base: type, names: Sequence[str]) -> str:
    """What is wrong with what a file has done to a registry, which is undone; empty where nothing is."""
    taken = [key for key, value in built_in.items() if entries.get(key) is not value]
    entries.update(built_in)
    if taken:
        return f"takes the name of a built-in {noun}: {', '.join(taken)}; give yours another name"
    for key in [key for key in entries if key not in built_in]:
        if problem := _unusable(key, entries[key], base, names):
            del entries[key]
            return f"adds the {noun} {key!r}, which {problem}"
    return ""


def _unusable(key: str, value: Any, base: type, names: Sequence[str]) -> str:
    """What keeps an entry from being used; empty for one that has what it needs."""
    if base is object:
        if not _FILTER_NAME.fullmatch(key):
            return "is not named by one or two lower-case words"
        return "" if callable(value) else "is no function"
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"is no subclass of {base.__name__}"
    if lacks := sorted(getattr(value, "__abstractmethods__", ())):
        return f"lacks {', '.join(lacks)}"
    for name in names:
        try:
            says = attrgetter(name)(value)
        except AttributeError:
            return f"has no {name}; give it {name} = {key!r}"
        if says != key:
            return f"has {name} = {says!r}; its key in the registry and its {name} must be the same"
    return ""


def _run(path: Path, source: bytes, module: str) -> None:
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None
    body = importlib.util.module_from_spec(spec)
    sys.modules[module] = body  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), body.__dict__)  # the bytes that were hashed
    except Exception as problem:
        del sys.modules[module]
        raise ValueError(f"{path} does not run: {type(problem).__name__}: {problem}") from problem
