"""`synpro evaluate`: zero-shot scores of any exported checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from synpro.lm import suite
from synpro.lm.suite import SuiteScore


def evaluate(
    model: Path | str,
    tasks: Sequence[str] = (),
    max_items: int | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[SuiteScore]:
    """The score of a Hugging Face folder on each task (none given: the paper's twelve), from the first `max_items` items.

    `log` gets a line per task as it is done. Raises SuiteError for a folder that is not a model and for an unknown task.
    """
    names = tuple(tasks) or tuple(suite.TASKS)
    return suite.evaluate_folder(Path(model), names, max_items=max_items, on_score=lambda score: log(suite.score_row(score)))
