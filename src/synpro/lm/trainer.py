"""A training run on OLMo-core's Trainer: the same code for the demo on two cores and for many GPUs under `torchrun`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from olmo_core.config import DType
from olmo_core.distributed.parallel import DataParallelType
from olmo_core.distributed.utils import broadcast_object, get_rank, get_world_size, init_distributed, is_distributed
from olmo_core.nn.transformer import TransformerBlockConfig
from olmo_core.optim import AdamWConfig, OptimGroupOverride
from olmo_core.optim.scheduler import WSD, ConstantScheduler, ConstantWithWarmup, Scheduler
from olmo_core.train import Duration, Trainer, TrainerConfig
from olmo_core.train.train_module import TransformerTrainModule, TransformerTrainModuleConfig
from olmo_core.train.train_module.transformer.config import TransformerDataParallelConfig
from olmo_core.utils import get_default_device, seed_all

from synpro.lm import checkpoint
from synpro.lm.batches import IGNORE, Batches
from synpro.lm.loader import StepLoader
from synpro.lm.settings import HardwareConfig, OptimizerConfig
from synpro.lm.shapes import ModelConfig, transformer_config
from synpro.lm.watch import Watch


def enter(seed: int) -> tuple[int, int]:
    """Join the other processes, if `torchrun` started any; return this one's rank and how many there are.

    Run directories are taken to be on a file system that all processes share.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not is_distributed():
        init_distributed("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", shared_filesytem=True)
    logging.getLogger("olmo_core").setLevel(logging.ERROR)
    seed_all(seed)
    return get_rank(), get_world_size()


def schedule(*, warmup: int, steps: int, anneal: float) -> Scheduler:
    """Learning rate: linear warm-up over `warmup` steps, constant, then linear to 0 over the last `anneal` share of `steps`."""
    if anneal:
        return WSD(warmup=warmup, decay=max(1, round(anneal * steps)), decay_fraction=None)
    return ConstantWithWarmup(warmup=warmup) if warmup else ConstantScheduler()


def build_module(
    model: ModelConfig,
    optimizer: OptimizerConfig,
    hardware: HardwareConfig,
    *,
    vocab_size: int,
    sequence_length: int,
    batch: int,
    scheduler: Scheduler,
    seed: int,
) -> TransformerTrainModule:
    """The model with fresh weights (a function of `seed`) and its AdamW, laid out over the processes.

    Raises ValueError when the batch does not divide over processes and microbatches.
    """
    world = get_world_size()
    if batch % world or (batch // world) % (micro := min(hardware.microbatch, batch // world)):
        raise ValueError(
            f"batch: {batch} sequences do not divide over {world} processes in microbatches of {hardware.microbatch}; "
            "make batch a multiple of processes x microbatch"
        )
    shape = transformer_config(model, vocab_size, attention=None if hardware.attention == "auto" else hardware.attention)
    shape.init_seed = seed
    if optimizer.dropout:
        assert isinstance(shape.block, TransformerBlockConfig)
        shape.block.dropout = optimizer.dropout
    bfloat16 = hardware.precision == "bfloat16"
    parallel = None
    if is_distributed():
        kind = DataParallelType(hardware.parallel)
        # Replicas keep float32 weights and use autocast; sharded ones are gathered in bfloat16.
        gathered = DType.bfloat16 if bfloat16 and kind != DataParallelType.ddp else None
        parallel = TransformerDataParallelConfig(name=kind, param_dtype=gathered, reduce_dtype=DType.float32)
    config = TransformerTrainModuleConfig(
        rank_microbatch_size=micro * sequence_length,
        max_sequence_length=sequence_length,
        optim=AdamWConfig(
            lr=optimizer.lr,
            betas=(optimizer.beta1, optimizer.beta2),
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            group_overrides=[OptimGroupOverride(params=["embeddings.weight"], opts={"weight_decay": 0.0})],
        ),
        compile_model=hardware.compile,
        dp_config=parallel,
        autocast_precision=DType.bfloat16 if bfloat16 else None,
        z_loss_multiplier=optimizer.z_loss or None,
        max_grad_norm=optimizer.clip,
        scheduler=scheduler,
        label_ignore_index=IGNORE,
    )
    module = config.build(shape.build(init_device="meta"), device=get_default_device())
    assert isinstance(module, TransformerTrainModule)
    return module


@dataclass(frozen=True)
class Trained:
    """How a training run ended."""

    steps: int
    tokens: int
    """Training tokens, both counted from the beginning of this run."""
    stopped: str | None
    """Why it stopped before its budget; None when it used all of it."""


def train(module: TransformerTrainModule, batches: Batches, watch: Watch, *, steps: int, folder: Path) -> Trained:
    """Train for at most `steps`, carrying on from the newest state in `watch.folder` if there is one.

    `folder` is for OLMo-core's own files and can be thrown away. Raises KeyboardInterrupt when a signal ended the run early:
    a run that was asked to stop (SIGTERM, SIGINT) ends its step, keeps its state, and has no result.
    """
    loader = StepLoader(batches, steps=steps, work_dir=folder, world=get_world_size(), rank=get_rank())
    trainer: Trainer = TrainerConfig(
        save_folder=str(folder),
        work_dir=str(folder),
        max_duration=Duration.steps(steps),
        metrics_collect_interval=max(1, watch.log_every),
        no_checkpoints=True,
        cancel_check_interval=1 if get_world_size() == 1 else 25,
    ).build(module, loader)
    trainer.add_callback("watch", watch)
    state = resume(module, watch)
    if state is not None:
        trainer.global_step = state["step"]
        trainer.global_train_tokens_seen = state["tokens"]
        loader.load_state_dict(state["loader"])
        watch.load_state_dict(state["watch"])
    trainer.fit()
    if trainer.is_canceled and watch.stopped is None:
        if trainer.global_step:
            watch.keep()
        watch.writer.wait()
        raise KeyboardInterrupt(f"training was stopped from outside at step {trainer.global_step}")
    watch.writer.wait()
    return Trained(trainer.global_step, trainer.global_train_tokens_seen, watch.stopped)


def resume(module: TransformerTrainModule, watch: Watch) -> dict[str, Any] | None:
    """Load the newest intermediate state into `module`; None when there is none."""
    newest: Path | None = None
    if get_rank() == 0 and watch.folder is not None and watch.folder.is_dir():
        newest = max((p for p in watch.folder.glob("step-*") if p.suffix != ".tmp"), default=None)
    newest = broadcast_object(newest)
    return None if newest is None else checkpoint.load(module, newest)
