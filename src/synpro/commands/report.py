"""`synpro report`: write the page of a run or comparison again."""

from __future__ import annotations

import json
from pathlib import Path

from synpro.commands.compare import NUMBERS
from synpro.commands.configs import is_comparison
from synpro.runner.step import StepError


def write_report(root: Path) -> Path:
    """Write `report.html`, or a comparison's `compare.html`: the path of the page.

    Raises NotARun for a folder that is not a run directory, StepError for a comparison without numbers.
    """
    from synpro.report import comparison, page

    if not is_comparison(root / "config.toml"):
        return page.write_report(root)
    if not (root / NUMBERS).exists():
        raise StepError(
            f"{root} has no {NUMBERS} yet: it is written when every step is done; `synpro status {root}` shows them"
        )
    return comparison.write_page(root, json.loads((root / NUMBERS).read_text(encoding="utf-8")))
