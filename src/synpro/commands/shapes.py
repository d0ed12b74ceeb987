"""`synpro rehearse --shapes`: what can be known of a run without its weights and its GPUs, on any machine, in seconds."""

from __future__ import annotations

import contextlib
import importlib.metadata
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from synpro.commands.check import rounds_problem
from synpro.commands.submit import SlurmOptions, batches, job_script
from synpro.config import ConfigError, RunConfig
from synpro.lm.model_config import num_parameters
from synpro.planning.gpu_plan import GIB, GPUS, GpuPlan, GpuPlanError, check_fit
from synpro.planning.memory import activation_bytes
from synpro.planning.plan import PlanError, estimate_stages
from synpro.planning.stress import odd_texts, passage_characters

SLOW_SECONDS = 5.0
"""Longest time that prompt, parsing and filters may take over one odd passage."""
MARGIN = 1.1
"""How much more than planned a step may keep for its backward pass."""


def check_shapes(cfg: RunConfig, runs: Path = Path("runs")) -> list[str]:
    """Lines that say what was found. `runs`: the folder of run directories, for a corpus that is prepared already. Raises
    ConfigError with all problems."""
    root = runs / cfg.name
    rounds, fit = partial(_rounds, root=root), partial(_fit, root=root)
    checks: tuple[Callable[[RunConfig], tuple[str, list[str]]], ...] = (rounds, _model, fit, _scripts, _libraries, _stress)
    lines, problems = list[str](), list[str]()
    for check in checks:
        line, found = check(cfg)
        lines.append(line)
        problems += found
    if problems:
        raise ConfigError("\n".join([*lines, f"{cfg.name} must not start like this:", *(f"  {p}" for p in problems)]))
    return lines


def _rounds(cfg: RunConfig, root: Path) -> tuple[str, list[str]]:
    line = f"rounds: {cfg.rounds}, in {cfg.pretrain.total_tokens or cfg.pretrain.max_tokens:,} tokens"
    return line, rounds_problem(cfg, root)


def _model(cfg: RunConfig) -> tuple[str, list[str]]:
    """Build the model at full size of tensors without memory, and count what a step keeps for its backward pass."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from synpro.lm.model_config import transformer_config

    p, shape, vocab = cfg.pretrain, cfg.pretrain.shape, cfg.vocab_size
    micro, half = min(p.hardware.micro_batch_size, p.batch_size), p.hardware.dtype != "float32"
    storages: dict[int, tuple[torch.Tensor, int]] = {}
    with FakeTensorMode():
        model = transformer_config(shape, vocab, attention="torch").build(init_device="cpu")
        weights = {q.untyped_storage()._cdata for q in model.parameters()}
        sizes = {tuple(q.shape) for q in model.parameters()} | {tuple(q.t().shape) for q in model.parameters() if q.ndim == 2}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights and tuple(tensor.shape) not in sizes:
                storages.setdefault(storage._cdata, (tensor, storage.nbytes()))
            return tensor

        ids = torch.zeros((micro, p.sequence_length), dtype=torch.long)
        cast = torch.autocast("cpu", dtype=torch.bfloat16) if half else contextlib.nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), cast:
            model(ids)
    count, expected = sum(q.numel() for q in model.parameters()), num_parameters(shape, vocab)
    dtype = "bfloat16" if half else "float32"
    planned = ids.numel() * activation_bytes(shape.n_layers, shape.d_model, shape.hidden_size, dtype)
    kept = sum(size for _, size in storages.values())
    problems = [] if count == expected else [f"pretrain.model: has {count:,} parameters, planned {expected:,}"]
    if kept > MARGIN * planned:
        problems.append(f"pretrain: keeps {kept / GIB:.1f} GiB for its backward pass, planned {planned / GIB:.1f}")
    line = f"{micro} x {p.sequence_length} tokens keep {kept / GIB:.1f} GiB for the backward pass, planned {planned / GIB:.1f}"
    return f"model: {count:,} parameters; {line}; logits on top", problems


def _fit(cfg: RunConfig, root: Path) -> tuple[str, list[str]]:
    gpus = cfg.machine.processes * cfg.machine.nodes
    try:
        plan = GpuPlan(gpus, GPUS["h100"])
        check_fit(cfg, plan, [row.stage for row in estimate_stages(cfg, root, None)])
    except (GpuPlanError, PlanError) as problem:
        return f"memory: {gpus} x h100", [str(problem)]
    return f"memory: every stage fits on {gpus} x {plan.gpu.name}, by the plan", []


def _scripts(cfg: RunConfig) -> tuple[str, list[str]]:
    """The Slurm jobs of the run, read by bash."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        left = batches(cfg, Path(folder) / "run")
        for number, batch in enumerate(left, 1):
            script = Path(folder) / f"{batch.name}.sbatch"
            script.write_text(job_script(cfg, batch, script, SlurmOptions(), batch.description, last=number == len(left)))
            done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
            problems += [f"{batch.name}: {done.stderr.strip()}"] if done.returncode else []
    return f"scripts: {len(left)} Slurm jobs", problems


def _libraries(cfg: RunConfig) -> tuple[str, list[str]]:
    """The versions that are installed, against those that this package takes."""
    from packaging.requirements import Requirement

    problems, count = list[str](), 0
    for line in importlib.metadata.requires("synpro-lm") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{wanted.name}: is not installed; pip install {line!r}")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted.name}: {version} is installed, and {wanted.specifier} is asked for")
    return f"libraries: {count}, in the versions that are asked for", problems


def _stress(cfg: RunConfig) -> tuple[str, list[str]]:
    """Odd passages, as long as they may be, through every operation: cut, prompt, an answer that repeats them, filters."""
    from synpro.corpus.passages import cut_passages
    from synpro.operations.base import parse_completion
    from synpro.operations.registry import build_operation
    from synpro.records import Completion, Document
    from synpro.rewards.filters import Sample, rule_failure

    problems, count, largest = list[str](), 0, 0
    for config in cfg.operations.values():
        operation = build_operation(config)
        for name, text in odd_texts(passage_characters(cfg)).items():
            began = time.monotonic()
            for passage in cut_passages(Document(name, text, ""), cfg.prepare.passages):
                prompt = operation.prompt(passage)
                largest = max(largest, sum(len(turn["content"]) for turn in prompt))
                rewrite = parse_completion(operation, passage, Completion(passage.text, 100, "stop"))
                if rule_failure(Sample(rewrite, config), cfg.filters) is None and not config.max_copied >= 1:
                    problems.append(f"operations.{config.name}: an answer that repeats {name} is kept")
                count += 1
            if (took := time.monotonic() - began) > SLOW_SECONDS:
                problems.append(f"operations.{config.name}: {name} took {took:.0f} s")
    return (
        f"odd texts: {count} passages through {', '.join(cfg.operations)}; the largest prompt has {largest:,} characters",
        problems,
    )
