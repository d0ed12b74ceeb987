"""The plan as text: a table of stages, on GPUs also where their hours go, part by part, and what would halve the largest.

Rates that a rehearsal of the run has measured (`rehearsal.py`) take the place of those that are assumed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from synpro.config import RunConfig
from synpro.lm.model_config import num_parameters
from synpro.planning.corpus_size import corpus_size
from synpro.planning.gpu_plan import GIB, GpuPlan, check_fit
from synpro.planning.memory import GPUS_PER_NODE
from synpro.planning.plan import StageEstimate, estimate_stages
from synpro.planning.rehearsal import rehearsed_seconds
from synpro.planning.throughput import measure_throughput
from synpro.runner.launch import usable_cores
from synpro.runner.progress import duration
from synpro.runner.step import read_rehearsal

PARTS = {
    "pretraining": "fewer tokens (pretrain.total_tokens): it is what the run is for",
    "generating": "one operation instead of two; fewer rounds; speculative tokens (num_speculative_tokens, untried on GPUs)",
    "RL: answers": "half of operations.NAME.steps, or of train_generator.num_generations",
    "RL: learning": "half of operations.NAME.steps; no KL penalty (train_generator.beta = 0) saves a quarter",
    "RL: judges": "the same judges in fewer steps; rules instead of a language model (judges.layout = rules)",
    "RL: influence and encoder": "half of operations.NAME.steps",
    "verifier": "train_verifier.kind = features, on cores; half of rubric.faithfulness.max_claims saves a fifth",
    "quality": "half of synthesize.scored_share, or judges.quality = fluency",
    "layout": "half of synthesize.scored_share, or judges.layout = rules",
    "encoder": "half of synthesize.scored_share",
    "influence of texts": "half of synthesize.scored_share",
    "influence of the corpus": "half of synthesize.scored_share: only the passages of scored texts are scored",
    "probe": "half of probe.steps",
    "evaluating": "half of evaluate.max_items; the search for evaluation items is the larger part of it",
    "tokenizing": "twice as many machine.threads",
}
"""The parts of a run, and what would halve each."""
MAIN = ("pretraining", "generating")
"""What the run is for; all else is what it costs to know what to generate, and whether it is good."""


def format_plan(cfg: RunConfig, root: Path, calibrate: bool) -> list[str]:
    """The plan as lines of text, a table with totals. `calibrate`: measure this machine, where no rehearsal has. Raises
    PlanError."""
    corpus = corpus_size(cfg, root)  # says what is missing before the machine is measured
    speed, load, p, vocab, rehearsed = None, 0.0, cfg.pretrain, cfg.vocab_size, read_rehearsal(root, cfg)
    if calibrate and not rehearsed:
        load = os.getloadavg()[0]
        speed = measure_throughput(p.shape, vocab, p.sequence_length, seconds=10.0)
    rows = estimate_stages(cfg, root, speed)
    out = [
        f"run {cfg.name}: {cfg.rounds} rounds, {sum(r.count for r in rows)} steps",
        f"corpus: {corpus.tokens:,} train tokens, {corpus.documents:,} documents, {corpus.passages:,} passages "
        f"({corpus.about})",
        f"model: {num_parameters(p.shape, vocab):,} parameters; a round ends on a plateau or after {p.steps:,} steps of "
        f"{p.batch_size * p.sequence_length:,} tokens",
        "",
        f"{'stage':<22}{'times':>6}{'tokens':>12}{'FLOP':>10}{'memory':>10}{'disk':>10}{'time':>16}",
    ]
    seconds = {r.stage: rehearsed_seconds(r, rehearsed) if rehearsed else r.seconds for r in rows}
    for r in rows:
        took = "-" if (value := seconds[r.stage]) is None else duration(value)
        out.append(
            f"{r.stage:<22}{r.count:>6}{_short(r.tokens):>12}{r.flops:>10.1e}{_bytes(r.memory):>10}{_bytes(r.disk):>10}{took:>16}"
        )
    known = [value for value in seconds.values() if value is not None]
    total = duration(sum(known)) if known else "-"
    memory, disk = max(r.memory for r in rows), sum(r.disk for r in rows)
    flops, tokens = sum(r.flops for r in rows), sum(r.tokens for r in rows)
    out.append(f"{'whole run':<22}{'':>6}{_short(tokens):>12}{flops:>10.1e}{_bytes(memory):>10}{_bytes(disk):>10}{total:>16}")
    if load > usable_cores() / 2:
        out.append(f"WARNING: this machine was measured while busy (load {load:.1f}): when it is free, a run takes less time")
    most = max(rows, key=lambda r: r.scratch)
    if most.scratch:
        out.append(f"disk: what stays; {most.stage} takes {_bytes(most.scratch)} more until it ends, for its checkpoints")
    if rehearsed:
        devices = ", ".join(sorted({found["device"] for found in rehearsed.values()}))
        out += ["", f"times: by the rates that `synpro rehearse` measured on {devices}"]
    elif read_rehearsal(root):
        out += ["", "the rehearsal of this run is not used: it was of other settings; rehearse again"]
    if speed:
        out.append("")
        out.append(
            f"this machine: {speed.training / 1e9:.0f} GFLOP/s training the model, {speed.prefill / 1e9:.0f} reading prompts, "
            f"{speed.decode / 1e9:.1f} generating; one process, {cfg.machine.threads or 'all'} threads"
        )
        out.append("times are estimates; a plateau ends a round of pretraining before its budget")
    return out


def format_gpu_plan(cfg: RunConfig, root: Path, plan: GpuPlan) -> list[str]:
    """A run's plan, and GPU-hours, hours and money. Raises PlanError, and GpuPlanError where a stage does not fit."""
    rows, rehearsed = estimate_stages(cfg, root, None), read_rehearsal(root, cfg)
    check_fit(cfg, plan, [r.stage for r in rows])
    out = [*format_plan(cfg, root, calibrate=False), "", f"on {plan.gpus} x {plan.gpu.name}, {plan.settings}:", ""]
    out.append(f"{'stage':<22}{'GPUs':>6}{'GiB per GPU':>14}{'GPU-hours':>12}{'hours':>10}")
    busy = wall = 0.0
    for row in rows:
        gpus, took = plan.gpus_of(cfg, row.stage), plan.wall_hours(cfg, row)
        hours, mark = plan.hours(row, gpus), ""
        measured = rehearsed.get(row.stage, {})
        same = measured.get("gpus") == gpus and plan.gpu.name in measured.get("device", "").lower()
        if gpus and same and (seconds := rehearsed_seconds(row, rehearsed)) is not None:
            took, hours, mark = seconds / 3600, seconds * gpus / 3600, "  measured by a rehearsal"
        needed = plan.stage_bytes(cfg, row.stage) / GIB if gpus else 0.0
        busy, wall = busy + hours, wall + took
        out.append(f"{row.stage:<22}{gpus:>6}{needed:>14.0f}{hours:>12.1f}{took:>10.1f}{mark}")
    out.append(f"{'whole run':<22}{'':>6}{'':>14}{busy:>12.1f}{wall:>10.1f}")
    out += ["", *format_parts(part_hours(cfg, rows, plan)), ""]
    if plan.price is not None:
        out.append(f"cost: {busy * plan.price:,.0f} at {plan.price:g} a GPU-hour, while other GPUs are given back")
    for key, engine in (("synthesize", cfg.synthesize.engine), ("train_generator", cfg.train_generator.engine)):
        if engine.type == "transformers":
            out.append(f"{key}.engine: transformers, whose Python limits a GPU; --set {key}.engine.type=vllm generates faster")
    if cfg.machine.rl_processes == 1 and plan.gpus > 1:
        more = min(plan.gpus, GPUS_PER_NODE)
        out.append(f"generators are trained on one GPU: --set machine.rl_processes={more} spreads that over a node")
    if cfg.machine.launcher == "local" and plan.gpus > 1:
        out.append("texts are generated on one GPU: --set machine.launcher=ray --set machine.workers=N spreads them over N")
    out.append(
        f"assumed, not measured: {plan.mfu:.0%} of {plan.gpu.peak / 1e12:.0f} TFLOP/s training and reading, "
        f"{plan.decode_mfu:.0%} generating; queues, checkpoints and start-up take none"
    )
    return out


def part_hours(cfg: RunConfig, rows: Sequence[StageEstimate], plan: GpuPlan) -> dict[str, float]:
    """GPU-hours by part, the largest first; work on the host counts for each GPU that waits for it."""
    hours: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        for name, part in row.work.items():
            hours[name] += plan.part_hours(part) + plan.gpus_of(cfg, row.stage) * part.host_seconds / 3600
    return dict(sorted(hours.items(), key=lambda item: -item[1]))


def overhead(hours: dict[str, float]) -> float:
    """What judges, influence, verifier, RL and evaluation take together, over pretraining and generation."""
    main = sum(hours.get(name, 0.0) for name in MAIN)
    return sum(value for name, value in hours.items() if name not in (*MAIN, "tokenizing")) / max(main, 1e-9)


def format_parts(hours: dict[str, float]) -> list[str]:
    """Where the GPU-hours go, and what would halve the three largest."""
    whole = sum(hours.values())
    out = [f"{'part':<28}{'GPU-hours':>14}{'share':>8}"]
    out += [f"{name:<28}{value:>14.1f}{value / whole:>8.1%}" for name, value in hours.items()]
    out.append(f"judges, influence, verifier, RL and evaluation: {overhead(hours):.2f} of pretraining and generating")
    out += [f"what halves {name}: {PARTS[name]}" for name in list(hours)[:3]]
    return out


def _short(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.1f}{name}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
