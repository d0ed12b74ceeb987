"""RunConfig: one field per stage. TOML in, frozen dataclasses out; a bad file is refused before anything is opened."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from synpro.corpus.tokens import TokenizerConfig
from synpro.engines.openai import OpenAIConfig
from synpro.judges.base import JudgesConfig
from synpro.lm.model_config import ImportedModel
from synpro.operations.base import OperationConfig
from synpro.operations.registry import PAPER, build_operation, complete_operations, operation_config
from synpro.plugins import KEYS
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig
from synpro.rewards.registry import REWARDS
from synpro.runner.launch import MachineConfig
from synpro.schema import SchemaError, build, renew, setting
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
    """Everything that decides the result of a run."""

    RENAMED: ClassVar[Mapping[str, str]] = {"refresh": "retrain_each_round"}

    name: str
    """Name of the run: its directory is `runs/NAME`."""
    rounds: int = setting(2, source="paper", min=0, max=10_000)
    """Rounds of probe, generators and continued pretraining after the first plateau. 0 only pretrains and evaluates."""
    generate_only: bool = False
    """Only generate: no pretraining, probe or evaluation (`synpro generate`). Rewards that need a probe are not computed; with
    `operations.NAME.steps` = 0 there is no RL either."""
    retrain_each_round: bool = setting(True, source="paper")
    """Train the generators again in every round. false: the generators of round 1 serve every later round, which the paper
    found to lose its effect quickly."""
    seed: int = 0
    """Seed of the whole run; the seed of each step is derived from it."""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    operation_files: tuple[str, ...] = ()
    """Python files with operations of your own (`examples/my_operation.py`), or engines, filters and rewards, from the folder
    synpro is started in. Their code is part of the request of every step that uses an operation."""
    operations: dict[str, OperationConfig] = field(default_factory=lambda: {name: operation_config(name) for name in PAPER})
    """The operations that run, a table for each (`[operations.rephrase]`), in the order of the file. None: rephrase and
    reformat. A key that a table leaves out takes the operation's own default, and so does each of its weights."""
    rubric: RubricConfig = field(default_factory=RubricConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    judges: JudgesConfig = field(default_factory=JudgesConfig)
    train_verifier: TrainVerifierConfig = field(default_factory=TrainVerifierConfig)
    train_generator: TrainGeneratorConfig = field(default_factory=TrainGeneratorConfig)
    synthesize: SynthesizeConfig = field(default_factory=SynthesizeConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    @property
    def vocab_size(self) -> int:
        """Ids the model has room for. Fetches `pretrain.start`, where there is one, to look."""
        shape = self.pretrain.shape
        return shape.vocab_size if isinstance(shape, ImportedModel) else self.prepare.tokenizer.vocab_size

    def __post_init__(self) -> None:
        if (self.pretrain.start is None) == (self.prepare.tokenizer.source == "model"):
            if self.pretrain.start is None or self.prepare.tokenizer != TokenizerConfig():
                remedy = "set it, or another source" if self.pretrain.start is None else "leave prepare.tokenizer out"
                raise ValueError(
                    f'prepare.tokenizer.source: "model" is the tokenizer of pretrain.start, which takes no other; {remedy}'
                )
            tokenizer = replace(self.prepare.tokenizer, source="model")
            object.__setattr__(self, "prepare", replace(self.prepare, tokenizer=tokenizer))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name: {self.name!r} becomes a folder; use letters, digits, '.', '_' and '-'")
        if not self.operations:
            raise ValueError("operations: at least one is needed; add a table [operations.rephrase]")
        for name, operation in self.operations.items():
            _check_operation(name, operation)
        if self.pretrain.mixture.replay_share and not self.prepare.general:
            raise ValueError(
                "pretrain.mixture.replay_share: there is no general text; name some in [[prepare.general]], or set it to 0"
            )
        v = self.train_verifier
        if v.kind == "llm" and v.epochs and not self.judges.verifier.engine.reads_weights:
            raise ValueError(
                f"train_verifier.epochs: {v.epochs} epochs give weights that the server of judges.verifier.engine lacks;"
                " use epochs = 0, or an engine that reads weights (transformers, vllm, server)"
            )
        trained = [name for name, operation in self.operations.items() if operation.steps]
        if self.rounds and trained and isinstance(self.synthesize.engine, OpenAIConfig):
            raise ValueError(
                f"synthesize.engine: a server that runs already lacks the weights that RL gives to {', '.join(trained)}; use"
                f' type = "server", which starts one on them, or operations.{trained[0]}.steps = 0'
            )
        t, ranks = self.train_generator, self.machine.rl_processes
        if t.prompts_per_step % ranks or (t.prompts_per_step // ranks * t.num_generations) % t.micro_batch_size:
            raise ValueError(
                f"machine: rl_processes = {ranks} does not divide the {t.prompts_per_step} passages of a step, or what each"
                f" process then has is no multiple of train_generator.micro_batch_size = {t.micro_batch_size}; make one of them"
                " smaller"
            )


def _check_operation(name: str, operation: OperationConfig) -> None:
    """Raise ValueError, with the key, for settings that the operation or the rewards refuse."""
    if operation.name != name:
        raise ValueError(f"operations.{name}.name: is {operation.name!r}; leave it out, the name is that of the table")
    try:
        build_operation(operation)
    except ValueError as problem:
        raise ValueError(f"operations.{name}: {problem}") from problem
    for reward in operation.weights:
        if reward not in REWARDS:
            raise ValueError(f"operations.{name}.weights: there is no reward {reward!r}; use one of {', '.join(REWARDS)}")


C = TypeVar("C", bound=RunConfig)


def load_config(path: Path | str, sets: Sequence[str] = ()) -> RunConfig:
    """The config of a run, from a TOML file with `a.b=c` settings applied on top. Raises ConfigError, as `load_config_as`."""
    return load_config_as(RunConfig, path, sets)


def load_stored(kind: type[C], path: Path) -> C:
    """The config of a run directory, which an earlier version may have written: renamed and moved keys are taken for what they
    are called now. What this version does not know, or does not take, is left out: the requests of finished steps say what they
    were run with. Raises ConfigError for a file that cannot be read, or lacks what is needed."""
    text, table = _read_toml(path)
    table = _renewed(kind, table)
    try:
        return build(kind, complete_operations(table))
    except SchemaError as problem:
        if files := [e for e in problem.errors if e.key in KEYS]:  # what they add is needed: it cannot be left out
            raise ConfigError("\n".join(_located(e, path, text, ()) for e in files)) from problem
        for error in problem.errors:
            _drop(table, error.key.split("."))
    try:
        return build(kind, complete_operations(table))
    except SchemaError as problem:
        raise ConfigError("\n".join(_located(e, path, text, ()) for e in problem.errors)) from problem


def load_config_as(kind: type[C], path: Path | str, sets: Sequence[str] = ()) -> C:
    """A config of another kind: a `RunConfig`, or a larger one built on it.

    Raises ConfigError for a file that cannot be read, is not TOML, or does not fit. The message has a line for every problem,
    each with file, line and key.
    """
    path = Path(path)
    text, table = _read_toml(path)
    table.setdefault("operations", {name: {} for name in PAPER})  # `--set operations.rephrase.steps=5` must not drop the others
    for assignment in sets:
        _apply(table, assignment)
    if kind is RunConfig and "compare" in table:
        raise ConfigError(f"{path}: has a [compare] table, so it is a comparison: synpro compare {path}")
    try:
        return build(kind, complete_operations(table))
    except SchemaError as problem:
        keys = [s.partition("=")[0].strip() for s in sets]
        raise ConfigError("\n".join(_located(e, path, text, keys) for e in problem.errors)) from problem


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and table of a TOML file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
        return text, _loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `ls configs/` shows the ones that ship with SynPro") from None
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror})") from problem
    except UnicodeDecodeError as problem:
        if path.read_bytes().startswith(b"\x1f\x8b"):
            raise ConfigError(f"{path}: is compressed by gzip; unpack it first: gunzip {path}") from problem
        raise ConfigError(f"{path}: is not UTF-8 at byte {problem.start}; save it as UTF-8") from problem
    except tomllib.TOMLDecodeError as problem:
        what = "is JSON, not TOML" if text.lstrip().startswith("{") else f"not TOML: {problem}"
        if re.match(r"Invalid hex value|Unescaped '\\'", str(problem)):
            what += "; a backslash within \"...\" begins an escape: write a path within '...', or with /"
        raise ConfigError(f"{path}: {what}") from problem


def _loads(text: str) -> dict[str, Any]:
    """The table of a TOML text. Raises TOMLDecodeError, also for what Python cannot follow."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("lists or tables are nested too deeply; no key needs more than a few levels") from None


def _drop(table: Any, path: Sequence[str]) -> None:
    """Leave a key out of a table."""
    for part in path[:-1]:
        table = table[int(part)] if isinstance(table, list) else table.get(part, {})
    if isinstance(table, dict):
        table.pop(path[-1], None)


def _renewed(kind: type, table: dict[str, Any]) -> dict[str, Any]:
    """A stored config with its keys where they are now; a key that belongs to each operation now is given to all."""
    moved: dict[str, Any] = {}
    table = renew(kind, table, moved)
    for path, value in moved.items():
        names = list(table["operations"]) if path.startswith("operations.NAME.") else [""]
        for *parents, last in (path.replace("NAME", name).split(".") for name in names):
            here = table
            for part in parents:
                here = here.setdefault(part, {})
            here.setdefault(last, value)
    return table


def _located(error: SchemaError, path: Path, text: str, set_keys: Sequence[str]) -> str:
    """An error with its place: the `--set` it comes from, or file and line."""
    if any(f"{error.key}.".startswith(f"{key}.") for key in set_keys):
        return f"--set {error}"
    line = line_of(text, error.key)
    return f"{path}, line {line}: {error}" if line else f"{path}: {error}"


def _apply(table: dict[str, Any], assignment: str) -> None:
    """Set `a.b=c` in a table; the value is read as TOML and, failing that, as a text."""
    key, equals, raw = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: write key=value, for example --set pretrain.optimizer.learning_rate=1e-3")
    try:
        value = _loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    *parents, last = key.strip().split(".")
    here: Any = table
    for part in parents:
        if isinstance(here, dict) and part.isdigit():
            raise ConfigError(f"--set {assignment}: the config has no such list; write it in the file, or set it whole")
        here = here[_entry(here, part, assignment)] if isinstance(here, list) else here.setdefault(part, {})
        if not isinstance(here, (dict, list)):
            raise ConfigError(f"--set {assignment}: {part!r} is a value, not a table")
    here[_entry(here, last, assignment) if isinstance(here, list) else last] = value


def _entry(entries: Sequence[Any], part: str, assignment: str) -> int:
    """The place in a list that a part of a `--set` names. Raises ConfigError."""
    if not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(entries):
        raise ConfigError(f"--set {assignment}: {part!r} is not one of the {len(entries)} entries, counted from 0")
    return int(part)


def line_of(text: str, key: str) -> int | None:
    """The line (from 1) of a TOML file of a dotted key, or of the nearest table above it."""
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
    """A config as TOML, every default included; `load_config` reads it back to an equal config."""
    import tomli_w

    return tomli_w.dumps(plain(cfg), multiline_strings=False)


def is_dumped(text: str) -> bool:
    """Whether a TOML text is as `dumps` writes it, of this version or an earlier one with other keys: in its form, without
    comments, and with the tables that it has always written."""
    import tomli_w

    try:
        table = _loads(text)
    except tomllib.TOMLDecodeError:
        return False
    always = ("name", "rounds", "seed", "prepare", "pretrain", "synthesize", "evaluate", "machine")
    return all(key in table for key in always) and tomli_w.dumps(table, multiline_strings=False) == text


def plain(value: Any) -> Any:
    """A config as dicts, lists and scalars; None becomes "none", which `load_config` reads back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return "none" if value is None else value
