"""Read a run directory into one frozen record: a pure function of its files, without a model or a clock.

An unfinished run is read as far as it goes: what is not there yet is named in `missing`, and nothing is invented. A file of a
*finished* step that is missing or cannot be read raises `CorruptRun`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synpro.runner.artifacts import (
    CorruptRun,
    count_table,
    finished,
    operation_of,
    read_json,
    read_lines,
    read_record,
    read_table,
    round_of,
    steps,
)
from synpro.runner.rejects import Reject, read_rejects

Json = Mapping[str, Any]
"""An object of a JSON file, as the stage that writes it documents it."""


@dataclass(frozen=True)
class StepCost:
    """What one step took."""

    name: str
    """`round-01/probe`."""
    round: int
    done: bool
    seconds: float | None
    cpu_seconds: float | None
    peak_bytes: int | None
    attempts: int | None
    tokens: int | None
    """Tokens trained on, generated or scored in this step; None where a step counts none."""
    counted: str
    """What `tokens` counts."""


@dataclass(frozen=True)
class PretrainRound:
    """The curves of one round's pretraining, and how it ended."""

    round: int
    done: bool
    train: tuple[tuple[float, float], ...]
    """(tokens since the run began, loss on the mixture in nats per token)."""
    reference: tuple[tuple[float, float], ...]
    heldout: tuple[tuple[float, float], ...]
    general: tuple[tuple[float, float], ...]
    tokens: int | None
    """Tokens since the run began, at its end."""
    plateau: bool | None
    reason: str | None
    """Why it ended, in the stage's words."""


@dataclass(frozen=True)
class RoundEvaluation:
    """What the checkpoint at the end of a round scores."""

    round: int
    heldout_loss: float
    bits_per_byte: float
    tasks: dict[str, float]
    items: dict[str, int]
    """Items scored per task, where the step says."""
    tokens_seen: int | None
    overlap: tuple[Json, ...]
    """Evaluation items found in this round's training text, by task: `group`, `items`, `tested`, `hit` by kind of text."""
    documents: dict[str, tuple[float, int, int]]
    """Held-out document -> (loss summed over its tokens in nats, tokens, bytes)."""
    general_loss: float | None = None
    """Loss on general text (`prepare.general`), nats per token."""
    general: dict[str, tuple[float, int, int]] = field(default_factory=dict)
    """As `documents`, of the general text."""
    start: RoundEvaluation | None = None
    """The same of the model that `pretrain.start` names, untouched; in round 0."""


@dataclass(frozen=True)
class Validation:
    """The same passages, rewritten with the same seed by a generator before, or after, its training."""

    means: dict[str, float]
    """Mean raw value of each reward over the answers with a value; `total` is the weighted sum, in deviations of the start."""
    parsed: float | None
    """Share of answers that had the asked form."""
    influence: tuple[float | None, ...]
    """One value per rewrite that parsed, influence(rewrite) - influence(source), nats per token."""
    scores: dict[str, dict[str, float | str | None]]
    """Passage -> the scores of one rewrite of it, `failed` where it fails: the same passages before and after."""
    passed: float | None = None
    """Share of answers that no rule rejects."""
    passes: dict[str, float] = field(default_factory=dict)
    """Share of those that pass a reward's own gate, by reward."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of each reward in the variance of the advantage; `failing` is that of the steps of failures."""
    rewards: dict[str, float] = field(default_factory=dict)
    """Passage -> the mean `total` of all its rewrites; empty in a run of an older version."""


@dataclass(frozen=True)
class GeneratorTraining:
    """GRPO on one operation in one round."""

    operation: str
    round: int
    done: bool
    rows: tuple[Json, ...]
    """`metrics.jsonl` of the step."""
    before: Validation | None
    after: Validation | None
    last: Validation | None
    """`after`: that of the state that goes on, which looks better than it is where it was chosen on these passages."""
    kept: int | None = None
    """The step whose state goes on; None in a run of an older version."""
    measured: tuple[Json, ...] = ()
    """`step`, `reward`, `passed` of each validation."""

    @property
    def name(self) -> str:
        return f"{self.operation}, round {self.round}"

    def series(self, key: str) -> tuple[tuple[float, float], ...]:
        """(GRPO step, value) of a metric, steps without it left out."""
        return tuple((r["step"], r[key]) for r in self.rows if r.get(key) is not None and r.get("step") is not None)

    def mean(self, key: str) -> float | None:
        values = [v for _, v in self.series(key)]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class ShardSummary:
    """One operation's synthetic text of one round."""

    operation: str
    round: int
    step: str
    passages: int
    """Passages that were to be rewritten."""
    answers: int
    """Answers to them: one or several to a passage, dropped ones included."""
    kept: int
    covered: int
    """Passages with a kept text."""
    reasons: dict[str, int]
    """Dropped answers by reason, most frequent first."""
    examples: tuple[Reject, ...]
    """The first dropped answer of each reason."""
    documents: int
    tokens: int

    @property
    def name(self) -> str:
        return f"{self.operation}, round {self.round}"


@dataclass(frozen=True)
class RunData:
    """Everything the page shows except texts (see samples.py)."""

    run: Path
    steps: tuple[StepCost, ...]
    corpus: Json | None
    """The record of `prepare`."""
    rejects: dict[str, int]
    """Documents that `prepare` did not take, by reason."""
    reject_examples: tuple[Reject, ...]
    trainings: tuple[PretrainRound, ...]
    evaluated: tuple[RoundEvaluation, ...]
    probes: tuple[Json, ...]
    """`probe.json` of each round, with `round`."""
    generators: tuple[GeneratorTraining, ...]
    syntheses: tuple[ShardSummary, ...]
    settings: str | None
    """The resolved config, TOML."""
    rounds: int | None
    """Rounds the settings ask for."""
    environment: dict[str, str]
    missing: tuple[str, ...]
    """What this run has not written yet, as phrases for people."""

    @property
    def name(self) -> str:
        return self.run.name


def load_run(run: Path) -> RunData:
    """Read a run directory. Raises NotARun when it is none, CorruptRun when a finished step's file is corrupt."""
    names = steps(run)
    missing = [f"{name} was begun and is not done" for name in names if not finished(run / name)]
    settings = _read_settings(run)
    rounds = settings[1].get("rounds") if settings else None
    environment = _flatten(read_json(run / "environment.json")) if (run / "environment.json").exists() else {}
    missing += [f"{f} is not there" for f, found in (("config.toml", settings), ("environment.json", environment)) if not found]
    records = {n: read_record(run / n) for n in names if finished(run / n)}

    def of(kind: str) -> list[str]:
        return [n for n in records if operation_of(n)[0] == kind]

    rejects, reject_examples = _count_rejects(run / "round-00/prepare") if "round-00/prepare" in records else ({}, ())
    trainings = tuple(_read_pretraining(run / n, records.get(n)) for n in names if operation_of(n)[0] == "pretrain")
    evaluated = tuple(_read_evaluation(run / n) for n in of("evaluate"))
    kinds = () if settings and settings[1].get("generate_only") else ("pretrain", "evaluate")
    wanted = [f"round-{r:02d}/{kind}" for r in range((rounds or 0) + 1) for kind in kinds]
    missing += [f"{name} has not begun" for name in wanted if name not in names]
    return RunData(
        run=run.resolve(),
        steps=tuple(_step_cost(run / n, n, records.get(n), trainings, evaluated) for n in names),
        corpus=records.get("round-00/prepare"),
        rejects=rejects,
        reject_examples=reject_examples,
        trainings=trainings,
        evaluated=evaluated,
        probes=tuple({"round": round_of(n), **read_json(run / n / "probe.json")} for n in of("probe")),
        generators=tuple(_read_generator(run / n, n, n in records) for n in names if operation_of(n)[0] == "train"),
        syntheses=tuple(_read_shard(run / n, n, records[n]) for n in of("synthesize")),
        settings=settings[0] if settings else None,
        rounds=rounds,
        environment=environment,
        missing=tuple(missing),
    )


def _read_settings(run: Path) -> tuple[str, Json] | None:
    """The resolved config as text, and parsed; None where there is no config."""
    import tomllib

    path = run / "config.toml"
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except ValueError as problem:
        raise CorruptRun(f"{path} is not valid TOML ({problem}); restore it from a copy") from problem


def _flatten(value: Any, key: str = "") -> dict[str, str]:
    """Turn nested data into `a.b` -> text."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value, 1))
    if isinstance(value, dict):
        inside = (_flatten(inner, f"{key}.{name}" if key else str(name)) for name, inner in value.items())
        return {k: v for part in inside for k, v in part.items()}
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)}


def _count_rejects(step: Path) -> tuple[dict[str, int], tuple[Reject, ...]]:
    """How many rejects have each reason, most first, and the first of each."""
    counts, first = Counter[str](), dict[str, Reject]()
    for reject in read_rejects(step):
        counts[reject.reason] += 1
        first.setdefault(reject.reason, reject)
    ordered = _most_first(counts)
    return ordered, tuple(first[reason] for reason in ordered)


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda c: (-c[1], c[0])))


def _step_cost(
    folder: Path, name: str, record: Json | None, trainings: tuple[PretrainRound, ...], evaluated: tuple[RoundEvaluation, ...]
) -> StepCost:
    timing = read_json(folder / "timing.json") if (folder / "timing.json").exists() else {}
    kind, number = operation_of(name)[0], round_of(name)
    tokens, counted = None, ""
    if kind == "prepare" and record:
        tokens, counted = sum(record["tokens"].values()), "tokenized, all splits"
    elif kind == "pretrain":
        ends = {t.round: t.tokens for t in trainings}
        end, start = ends.get(number), ends.get(number - 1) if number else 0
        tokens, counted = (end - start, "trained on") if end is not None and start is not None else (None, "")
    elif kind == "synthesize" and record:
        tokens, counted = record["tokens"], "generated, dropped answers included"
    elif kind == "evaluate":
        here = [e for e in evaluated if e.round == number]
        tokens, counted = (sum(d[1] for d in here[0].documents.values()), "held-out, scored") if here else (None, "")
    got, done = timing.get, record is not None
    return StepCost(
        name, number, done, got("seconds"), got("cpu_seconds"), got("peak_rss_bytes"), got("attempts"), tokens, counted
    )


def _read_pretraining(folder: Path, record: Json | None) -> PretrainRound:
    rows = [r for r in read_lines(folder / "metrics.jsonl", whole=record is not None) if r.get("tokens") is not None]
    keys = ("train", "reference", "heldout", "general")
    losses = {k: tuple((r["tokens"], r[f"{k}_loss"]) for r in rows if r.get(f"{k}_loss") is not None) for k in keys}
    return PretrainRound(
        round=round_of(f"{folder.parent.name}/{folder.name}"),
        done=record is not None,
        **losses,
        tokens=record["tokens_seen"] if record else None,
        plateau=record["plateau"] if record else None,
        reason=record["reason"] if record else None,
    )


def _read_evaluation(folder: Path, of: str = "") -> RoundEvaluation:
    body, general = read_json(folder / "evaluation.json"), folder / f"{of}general.parquet"  # earlier versions had none
    body = body["start"] if of else body
    return RoundEvaluation(
        round=round_of(f"{folder.parent.name}/{folder.name}"),
        heldout_loss=body["heldout_loss"],
        bits_per_byte=body["bits_per_byte"],
        tasks=dict(body.get("tasks", {})),
        items=dict(body.get("items", {})),
        tokens_seen=body.get("tokens_seen"),
        overlap=tuple(body.get("overlap", ())),
        documents=_read_losses(folder / f"{of}heldout.parquet"),
        general_loss=body.get("general_loss"),
        general=_read_losses(general, numbered=True) if general.exists() else {},
        start=_read_evaluation(folder, of="start_") if "start" in body else None,
    )


def _read_losses(file: Path, numbered: bool = False) -> dict[str, tuple[float, int, int]]:
    """By document; `numbered`, because general text may hold an id twice: its order is that of every round."""
    rows = read_table(file, ["document", "nll", "tokens", "bytes"])
    documents = {r["document"] + f":{i}" * numbered: (r["nll"], r["tokens"], r["bytes"]) for i, r in enumerate(rows)}
    if len(documents) != len(rows):
        raise CorruptRun(f"{file} holds a document twice; remove {file.parent} and run the same command again")
    return documents


def _read_generator(folder: Path, name: str, done: bool) -> GeneratorTraining:
    body = read_json(folder / "validation.json") if done else {}
    body = body if body.get("steps", 1) else {}  # nothing was trained, so there is nothing to compare
    return GeneratorTraining(
        operation=str(operation_of(name)[1]),
        round=round_of(name),
        done=done,
        rows=tuple(read_lines(folder / "metrics.jsonl", whole=done)),
        before=_to_validation(body.get("before")),
        after=_to_validation(body.get("after")),
        last=_to_validation(body.get("last") or body.get("after")),
        kept=body.get("kept"),
        measured=tuple(body.get("measured", ())),
    )


def _to_validation(body: Json | None) -> Validation | None:
    if not body:
        return None
    means = {k.removeprefix("reward/"): v for k, v in body.items() if k.startswith("reward/") and v is not None}
    if body.get("reward") is not None:
        means["total"] = body["reward"]
    samples = {s["passage"]: s for s in body.get("samples", ())}
    return Validation(
        means,
        body.get("parsed"),
        tuple(body.get("influence", ())),
        {passage: s["scores"] for passage, s in samples.items()},
        body.get("passed"),
        {k.removeprefix("pass/"): v for k, v in body.items() if k.startswith("pass/") and v is not None},
        dict(body.get("shares", {})),
        {passage: s["mean_reward"] for passage, s in samples.items() if "mean_reward" in s},
    )


def _read_shard(folder: Path, name: str, record: Json) -> ShardSummary:
    counts, kept = Counter[str](), 0
    for (is_kept, reason), rows in count_table(folder / "rewrites.parquet", ["kept", "reason"]).items():
        if is_kept:
            kept += rows
        else:
            counts[reason or "no reason given"] += rows
    total = kept + counts.total()
    if (total, kept) != (answers := record.get("answers", record["passages"]), record["kept"]):
        raise CorruptRun(
            f"{folder / 'rewrites.parquet'} has {total} rows, {kept} of them kept, but the step's result says "
            f"{answers} and {record['kept']}; remove {folder} and run the same command again"
        )
    return ShardSummary(
        operation=record["operation"],
        round=record["round"],
        step=name,
        passages=record["passages"],
        answers=total,
        kept=kept,
        covered=record.get("covered", kept),
        reasons=_most_first(counts),
        examples=_count_rejects(folder)[1],
        documents=record["documents"],
        tokens=record["tokens"],
    )
