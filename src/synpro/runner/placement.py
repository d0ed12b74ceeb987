"""What each stage is spread over, in one table, and what that gives each of its processes: threads and GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from synpro.runner.launch import LOCAL_MACHINE, MachineConfig, environment, rl_command, torchrun_command, usable_cores

Placement = Literal["processes", "rl", "workers"] | None
"""`processes`: those of pretraining, by torchrun. `rl`: those of RL, by `accelerate launch`. `workers`: one process, which may
hand chunks to Ray workers. None: one process alone."""

PLACEMENT: dict[str, Placement] = {
    "synpro.stages.prepare:prepare": "workers",
    "synpro.stages.pretrain:pretrain": "processes",
    "synpro.stages.train_generator:train_generator": "rl",
    "synpro.stages.synthesize:synthesize": "workers",
}
"""By stage, `MODULE:FUNCTION`; a stage that is not listed runs in one process alone."""


def step_command(stage: str, arguments: list[str], machine: MachineConfig) -> list[str]:
    """The command line that runs a step. Raises LaunchError when the machine cannot run it as it is placed."""
    placement = PLACEMENT.get(stage)
    machine = replace(machine, threads=threads_of(stage, machine))
    if placement == "rl":
        return rl_command("synpro.runner.child", arguments, machine)
    return torchrun_command("synpro.runner.child", arguments, machine if placement == "processes" else LOCAL_MACHINE)


def step_environment(stage: str, machine: MachineConfig, settings: Mapping[str, Any]) -> dict[str, str]:
    """Environment of a step: its threads, and no GPU but those it uses, or libraries would spread themselves over all."""
    env = environment(threads_of(stage, machine))
    env["CUDA_VISIBLE_DEVICES"] = ",".join(_gpus(stage, machine, settings))
    return env


def local_processes(stage: str, machine: MachineConfig) -> int:
    """Processes of a stage on each machine it runs on."""
    return {"processes": machine.processes, "rl": machine.rl_processes}.get(PLACEMENT.get(stage) or "", 1)


def threads_of(stage: str, machine: MachineConfig) -> int:
    """CPU threads of each process of a stage: those of the config, or its share of the cores that this process may use."""
    return machine.threads or max(1, usable_cores() // local_processes(stage, machine))


def on_one_gpu(arguments: Any) -> Any:
    """Training arguments of transformers or TRL for one GPU a process: where a judge has another GPU they would take both, and
    TRL refuses that."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _gpus(stage: str, machine: MachineConfig, settings: Mapping[str, Any]) -> list[str]:
    """Names of the GPUs a stage uses: the first of those that this process sees."""
    count = local_processes(stage, machine)
    if PLACEMENT.get(stage) == "workers":
        elsewhere = machine.launcher != "ray" or machine.address or "RAY_ADDRESS" in os.environ
        count = 1 if elsewhere else machine.workers
    if stage == "synpro.stages.prepare:prepare":
        count = 0
    count = max([count, *(number + 1 for number in _named_devices(settings))])
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (given.split(",") if given is not None else list(map(str, range(count))))[:count]


def _named_devices(value: Any) -> Iterator[int]:
    """Numbers of the GPUs that engine tables name: `device = "cuda:1"`."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _named_devices(part)
    elif isinstance(value, str) and (found := re.fullmatch(r"cuda:(\d+)", value)):
        yield int(found[1])


def workers_of(stage: str, machine: MachineConfig) -> MachineConfig:
    """The workers that a stage may hand chunks to: those of the machine where it is placed on them, else LOCAL_MACHINE."""
    if PLACEMENT.get(stage) != "workers":
        return LOCAL_MACHINE
    kept = {name: getattr(machine, name) for name in ("threads", "launcher", "workers", "address", "gpus_per_node")}
    return replace(LOCAL_MACHINE, **kept)
