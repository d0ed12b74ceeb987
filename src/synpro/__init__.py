"""SynPro: pretraining signal from scarce human text.

Importing this package opens no model, no device and no network connection; its functions are imported when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synpro.commands.evaluate import evaluate as evaluate
    from synpro.commands.rewrite import rewrite as rewrite
    from synpro.commands.run import run as run
    from synpro.config import load_config as load_config
    from synpro.lm.influence import Influence as Influence
    from synpro.measure.data_efficiency import data_efficiency as data_efficiency
    from synpro.report.lineage import why as why
    from synpro.rewards.rubric import Rubric as Rubric

__version__ = "0.1.0"

_PUBLIC = {
    "Influence": "synpro.lm.influence",
    "Rubric": "synpro.rewards.rubric",
    "data_efficiency": "synpro.measure.data_efficiency",
    "evaluate": "synpro.commands.evaluate",
    "load_config": "synpro.config",
    "rewrite": "synpro.commands.rewrite",
    "run": "synpro.commands.run",
    "why": "synpro.report.lineage",
}
"""Public names and the modules that define them."""

__all__ = ["Influence", "Rubric", "data_efficiency", "evaluate", "load_config", "rewrite", "run", "why"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'synpro' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
