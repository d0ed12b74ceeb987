"""An operation of one's own: the passage told to a child. The whole of what adding an operation takes.

    operation_files = ["examples/my_operation.py"]

    [operations.simplify]
    steps = 100

Inside the package it would be this file as `src/synpro/operations/simplify.py`, without the import of the registry and the last
line, and the line `"simplify",` in `operations/registry.py`. The test is `tests/operations/test_my_operation.py`. To audit its
rewards too (`synpro audit-rewards`), write reference answers into `my_operation.toml` beside this file; see
`src/synpro/operations/rephrase.toml`.
"""

from __future__ import annotations

from synpro.operations.base import Example, OperationConfig
from synpro.operations.prose import ProseOperation
from synpro.operations.registry import OPERATIONS


class Simplify(ProseOperation):
    """The passage in plain words and short sentences, under the heading `Simply put:`."""

    name = "simplify"
    headings = ("Simply put:",)
    defaults = OperationConfig(
        name,
        weights={"influence": 3.0, "faithfulness": 1.0, "similarity": 1.0, "format": 1.0},
        steps=200,
    )
    default_examples = (
        Example(
            source=(
                "Evaporation is the process by which molecules at the surface of a liquid gain enough energy to enter the "
                "surrounding gas. It removes heat from the liquid, and therefore sweating cools the skin."
            ),
            answer=(
                "Simply put:\nA wet thing dries because tiny bits of the water fly off into the air. They take warmth with "
                "them. This is why you feel cooler when you sweat."
            ),
        ),
    )

    def instruction(self, text: str) -> str:
        return (
            "Tell the passage to a child: plain words, short sentences, every fact kept and nothing added. "
            f'Answer with "{self.headings[0]}" and then the new text only.'
        )


OPERATIONS["simplify"] = Simplify
