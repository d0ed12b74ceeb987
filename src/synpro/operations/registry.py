"""The operations there are. A new one is a file beside this one, and a line here: the name of the file is its name.

An operation of your own needs neither: a config names its file (`operation_files = ["my_operation.py"]`), and the last line of
the file adds it to `OPERATIONS`. `examples/my_operation.py` is a whole one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from synpro.operations.base import Operation, OperationConfig, ParseError
from synpro.operations.news import News
from synpro.operations.topic import Topic
from synpro.plugins import KEYS, classes_of, files_of, load_files, registry
from synpro.schema import SchemaError, build

OPERATIONS: dict[str, type[Operation]] = registry(
    "operation",
    classes_of(
        "synpro.operations",
        Operation,
        "rephrase",
        "reformat",
        "questions",
    ),
    Operation,
    names=("name", "defaults.name"),
)
CONTROLS: dict[str, type[Operation]] = {"topic": Topic, "news": News}
"""What the arms of a comparison generate without a source; not for a config."""
BUILT_IN = dict(OPERATIONS)
PAPER = ("rephrase", "reformat")
"""The operations of a config that names none."""


def find_operation(name: str) -> type[Operation]:
    """The class of an operation. Raises ValueError, with the nearest name, for one that does not exist."""
    known = OPERATIONS | CONTROLS
    if name not in known:
        near = difflib.get_close_matches(name, OPERATIONS, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(OPERATIONS)}"
        raise ValueError(f"there is no operation {name!r}; {hint}")
    return known[name]


def complete_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A table `[operations.NAME]`, with the operation's defaults where it is silent; weights are merged key by key.

    Raises ValueError for an operation that does not exist.
    """
    defaults = find_operation(name).defaults
    weights = given.get("weights", {})
    merged = {**defaults.weights, **weights} if isinstance(weights, Mapping) else weights
    return {**vars(defaults), **given, "weights": merged}


def operation_config(name: str, **given: Any) -> OperationConfig:
    """The settings of an operation: its defaults, with what is given on top. Raises ValueError, SchemaError."""
    return build(OperationConfig, complete_settings(name, given), f"operations.{name}")


def complete_operations(table: Mapping[str, Any]) -> dict[str, Any]:
    """A whole config's plain data, with the settings of its operations written out, before its types are checked.

    Files of one's own are run here, because they say what operations, rewards and engines there are. Raises SchemaError.
    """
    operations, found = table.get("operations", {name: {} for name in PAPER}), dict[str, tuple[str, ...]]()
    if not isinstance(operations, Mapping):
        hint = 'write a table for each, [operations.rephrase], instead of [[operations]] with name = "rephrase"'
        raise SchemaError("operations", f"is a list; {hint}")
    for key in KEYS:
        try:
            found[key] = load_files(files_of(table, key))
        except ValueError as problem:
            raise SchemaError(key, str(problem)) from problem
    files = found["operation_files"]
    completed = {}
    for name, given in operations.items():
        if isinstance(given, Mapping):
            settings = complete_settings(name, given) if name in OPERATIONS else {"name": name, **given}
            given = {**settings, "files": files}
        completed[name] = given
    return {**table, **({"operation_files": files} if files else {}), "operations": completed}


def build_operation(config: OperationConfig) -> Operation:
    """The operation of a config, with its worked examples.

    Raises ValueError for a name that is not in the registry, and for an example whose answer does not parse.
    """
    load_files(config.files)
    try:
        return find_operation(config.name)(config)
    except ParseError as problem:
        raise ValueError(f"examples: the answer of an example is not in the form of {config.name!r}: {problem}") from None
