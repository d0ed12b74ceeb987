"""The operations there are. A new one is a file beside this one and a line in the table."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from synpro.operations.base import Example, Operation, OperationConfig, Unparsable
from synpro.operations.reformat import Reformat
from synpro.operations.rephrase import Rephrase

OPERATIONS: dict[str, Callable[[Sequence[Example]], Operation]] = {
    "rephrase": Rephrase,
    "reformat": Reformat,
}


def build(cfg: OperationConfig) -> Operation:
    """The operation a config names, with its worked examples.

    Raises ValueError for a name that is not in the table, and for an example whose answer does not parse: a generator must
    not be shown a form that is then refused.
    """
    if cfg.name not in OPERATIONS:
        near = difflib.get_close_matches(cfg.name, OPERATIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(OPERATIONS)}"
        raise ValueError(f"name: there is no operation {cfg.name!r}; {hint}")
    try:
        operation = OPERATIONS[cfg.name](cfg.examples)
        for example in cfg.examples:
            operation.parse(example.answer)
    except Unparsable as problem:
        raise ValueError(f"examples: the answer of an example is not in the form of {cfg.name!r}: {problem}") from None
    return operation
