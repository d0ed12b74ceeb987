"""Configs of runs and of comparisons, for the commands that take both."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from synpro.compare.comparison import comparison_outline
from synpro.compare.config import CompareConfig
from synpro.config import RunConfig, load_config, load_config_as
from synpro.outline import outline


def is_comparison(config: Path) -> bool:
    """Whether a file is a config with a [compare] table."""
    try:
        return "compare" in tomllib.loads(config.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):  # loading it will say what is wrong
        return False


def load_comparison(config: Path, sets: Sequence[str] = ()) -> CompareConfig:
    """The config of a comparison. Raises ConfigError."""
    return load_config_as(CompareConfig, config, sets)


def load_any_config(config: Path, sets: Sequence[str] = ()) -> RunConfig:
    """The config of a run, or of a comparison where the file has a [compare] table. Raises ConfigError."""
    return load_comparison(config, sets) if is_comparison(config) else load_config(config, sets)


def steps_of(cfg: RunConfig) -> list[str]:
    """The names of the steps of a run or comparison, in order."""
    return comparison_outline(cfg) if isinstance(cfg, CompareConfig) else outline(cfg)
