"""RunConfig: one field per stage. TOML in, frozen dataclasses out; a bad file is refused before anything is opened."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.operations.table import OPERATIONS
from synpro.rewards.rubric import RubricConfig
from synpro.run.launch import MachineConfig
from synpro.schema import SchemaError, build
from synpro.stages.evaluate import EvaluateConfig
from synpro.stages.prepare import PrepareConfig
from synpro.stages.pretrain import PretrainConfig
from synpro.stages.probe import ProbeConfig
from synpro.stages.synthesize import SynthesizeConfig
from synpro.stages.train_generator import TrainGeneratorConfig
from synpro.stages.train_verifier import TrainVerifierConfig


class ConfigError(ValueError):
    """A config that cannot be run; the message names the file, the line, the key and the remedy."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's result."""

    name: str
    """Of the run: its directory is `runs/NAME`."""
    rounds: int = 2
    """Rounds of probe, generators and continued pretraining after the first plateau."""
    refresh: bool = True
    """Train the generators again in every round (paper); false: those of round 1 write in every later round, which the paper
    found to lose its use quickly."""
    seed: int = 0
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    operations: tuple[OperationConfig, ...] = (OperationConfig("rephrase"), OperationConfig("reformat"))
    rubric: RubricConfig = field(default_factory=RubricConfig)
    judges: JudgesConfig = field(default_factory=JudgesConfig)
    train_verifier: TrainVerifierConfig = field(default_factory=TrainVerifierConfig)
    train_generator: TrainGeneratorConfig = field(default_factory=TrainGeneratorConfig)
    synthesize: SynthesizeConfig = field(default_factory=SynthesizeConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name: {self.name!r} becomes a folder; use letters, digits, '.', '_' and '-'")
        if self.rounds < 0:
            raise ValueError("rounds: cannot be negative; 0 only pretrains and evaluates")
        names = [o.name for o in self.operations]
        if not names:
            raise ValueError("operations: at least one is needed; known: " + ", ".join(OPERATIONS))
        for name in names:
            if name not in OPERATIONS:
                near = difflib.get_close_matches(name, OPERATIONS, n=1, cutoff=0.3)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(OPERATIONS)}"
                raise ValueError(f"operations: there is no operation {name!r}; {hint}")
            if names.count(name) > 1:
                raise ValueError(f"operations: {name!r} stands twice; each operation has one generator")
            if name not in self.rubric.weights:
                raise ValueError(f"rubric: weights says nothing of {name!r}; add [rubric.weights.{name}]")
            for table in ("steps", "max_new_tokens"):
                if name not in getattr(self.train_generator, table):
                    raise ValueError(f"train_generator: {table} has no value for {name!r}; add one")
            if name not in self.synthesize.max_new_tokens:
                raise ValueError(f"synthesize: max_new_tokens has no value for {name!r}; add one")
        t, ranks = self.train_generator, self.machine.rl_processes
        if t.prompts_per_step % ranks or (t.prompts_per_step // ranks * t.completions) % t.micro_batch:
            raise ValueError(
                f"machine: rl_processes = {ranks} does not divide the {t.prompts_per_step} passages of a step, or what each"
                f" process then has is no multiple of train_generator.micro_batch = {t.micro_batch}; make either smaller"
            )


C = TypeVar("C", bound=RunConfig)


def load(path: Path, sets: Sequence[str] = ()) -> RunConfig:
    """The config of a run. Raises ConfigError, as `load_as` does."""
    return load_as(RunConfig, path, sets)


def load_as(kind: type[C], path: Path, sets: Sequence[str] = ()) -> C:
    """The config of a TOML file, with `a.b=c` settings applied on top; `kind`: of a run, or a larger one built on it.

    Raises ConfigError for a file that cannot be read, is not TOML, or does not fit; the message has file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `ls configs/` shows the ones that ship with SynPro") from None
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror})") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: is not UTF-8 at byte {problem.start}; save it as UTF-8") from problem
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path}: not TOML: {problem}") from problem
    for setting in sets:
        _apply(table, setting)
    if kind is RunConfig and "compare" in table:
        raise ConfigError(f"{path}: has a [compare] table, so it is a comparison: synpro compare {path}")
    try:
        return build(kind, table)
    except SchemaError as problem:
        if any(s.partition("=")[0].strip() == problem.key for s in sets):
            raise ConfigError(f"--set {problem.key}: {problem.problem}") from problem
        line = line_of(text, problem.key)
        place = f"{path}, line {line}" if line else str(path)
        raise ConfigError(f"{place}: {problem}") from problem


def _apply(table: dict[str, Any], setting: str) -> None:
    """Set `a.b=c` in a table; the value is read as TOML and, failing that, as a text."""
    key, equals, raw = setting.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {setting}: write key=value, for example --set pretrain.learning_rate=1e-3")
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    *parents, last = key.strip().split(".")
    here: Any = table
    for part in parents:
        try:
            here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
        except (ValueError, IndexError):
            raise ConfigError(f"--set {setting}: {part!r} is not one of the {len(here)} entries, counted from 0") from None
        if not isinstance(here, (dict, list)):
            raise ConfigError(f"--set {setting}: {part!r} is a value, not a table")
    if isinstance(here, list):
        if not last.isdigit() or int(last) >= len(here):
            raise ConfigError(f"--set {setting}: {last!r} is not one of the {len(here)} entries, counted from 0")
        here[int(last)] = value
    else:
        here[last] = value


def line_of(text: str, key: str) -> int | None:
    """The line (from 1) of a TOML file where a dotted key, or the nearest table above it, is written."""
    wanted = [p for p in key.split(".") if not p.isdigit()]
    best: tuple[int, int] | None = None
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
        assigned = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if head:
            table = _split(head.group(1))
            here = table
        elif assigned:
            here = table + _split(assigned.group(1))
        else:
            continue
        if wanted[: len(here)] == here and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None


def _split(dotted: str) -> list[str]:
    return [p.strip().strip("\"'") for p in dotted.split(".")]


def dumps(cfg: Any) -> str:
    """A config as TOML that `load` reads back to an equal one, every default written out."""
    import tomli_w

    return tomli_w.dumps(plain(cfg), multiline_strings=False)


def plain(value: Any) -> Any:
    """A config as dicts, lists and scalars; None becomes "none", which `load` reads back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return "none" if value is None else value
