"""A training run on OLMo-core's Trainer: the same code for the demo on two cores and for many GPUs under `torchrun`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from olmo_core.config import DType
from olmo_core.distributed import parallel as parallelism
from olmo_core.distributed.parallel import DataParallelType
from olmo_core.distributed.utils import broadcast_object, get_rank, get_world_size, is_distributed
from olmo_core.nn.transformer import Transformer, TransformerBlockConfig
from olmo_core.optim import AdamWConfig, OptimGroupOverride
from olmo_core.optim.scheduler import WSD, ConstantScheduler, ConstantWithWarmup, Scheduler
from olmo_core.train import Duration, Trainer, TrainerConfig
from olmo_core.train.train_module import TransformerTrainModule, TransformerTrainModuleConfig
from olmo_core.train.train_module.transformer.config import TransformerDataParallelConfig
from olmo_core.utils import get_default_device, seed_all

from synpro.lm import checkpoint
from synpro.lm.batches import IGNORE_INDEX, Batches
from synpro.lm.callbacks import PretrainCallback
from synpro.lm.loader import StepLoader
from synpro.lm.model_config import ModelConfig, transformer_config
from synpro.lm.training_config import HardwareConfig, OptimizerConfig

log = logging.getLogger(__name__)

CANCEL_CHECK_STEPS = 25
"""Steps between two looks of several processes at whether one of them was asked to stop."""


def lr_schedule(*, warmup_steps: int, steps: int, decay_fraction: float) -> Scheduler:
    """Learning-rate schedule: linear warm-up, constant, then linear to 0 over the last `decay_fraction` of `steps`."""
    if decay_fraction:
        return WSD(warmup=warmup_steps, decay=max(1, round(decay_fraction * steps)), decay_fraction=None)
    return ConstantWithWarmup(warmup=warmup_steps) if warmup_steps else ConstantScheduler()


def build_module(
    model: ModelConfig,
    optimizer: OptimizerConfig,
    hardware: HardwareConfig,
    *,
    vocab_size: int,
    sequence_length: int,
    batch_size: int,
    scheduler: Scheduler,
    seed: int,
) -> TransformerTrainModule:
    """The model with fresh weights (a function of `seed`) and its AdamW, laid out over the processes.

    `batch_size`: sequences per optimizer step, all processes together. Raises ValueError when it does not divide over processes
    and micro-batches.
    """
    logging.getLogger("olmo_core").setLevel(logging.ERROR)
    seed_all(seed)
    world = get_world_size()
    if batch_size % world or (batch_size // world) % (micro := min(hardware.micro_batch_size, batch_size // world)):
        raise ValueError(
            f"batch_size: {batch_size} sequences do not divide over {world} processes in micro-batches of "
            f"{hardware.micro_batch_size}; make batch_size a multiple of processes x hardware.micro_batch_size"
        )
    shape = transformer_config(model, vocab_size, attention=None if hardware.attention == "auto" else hardware.attention)
    shape.init_seed = seed
    if optimizer.dropout:
        for block in [shape.block] if isinstance(shape.block, TransformerBlockConfig) else shape.block.values():
            block.dropout = optimizer.dropout
    bfloat16 = training_dtype(hardware) == "bfloat16"
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
            lr=optimizer.learning_rate,
            betas=(optimizer.beta1, optimizer.beta2),
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            group_overrides=[OptimGroupOverride(params=["embeddings.weight"], opts={"weight_decay": 0.0})],
            fused=True,
        ),
        compile_model=hardware.compile and torch.cuda.is_available(),
        dp_config=parallel,
        autocast_precision=DType.bfloat16 if bfloat16 else None,
        z_loss_multiplier=optimizer.z_loss or None,
        max_grad_norm=optimizer.max_grad_norm,
        scheduler=scheduler,
        label_ignore_index=IGNORE_INDEX,
    )
    parallelism._WORLD_MESH = None  # OLMo-core takes one model per process; the replicas of a probe are several, one by one
    network = shape.build(init_device="meta")
    if hardware.compile and not torch.cuda.is_available():
        _compile_on_cpu(network)
    module = config.build(network, device=get_default_device())
    assert isinstance(module, TransformerTrainModule)
    return module


def training_dtype(hardware: HardwareConfig) -> str:
    """`float32` or `bfloat16`: what `hardware.dtype` is on this machine."""
    if hardware.dtype != "auto":
        return hardware.dtype
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # Without instructions of its own for it, a processor computes bfloat16 by way of float32, and slower.
    is_native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if is_native else "float32"


def _compile_on_cpu(network: Transformer) -> None:
    """Compile the whole model in place; OLMo-core compiles on GPUs only. Says so and goes on where there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        log.warning(
            "hardware.compile: no C++ compiler was found, so the model is not compiled; install g++, or set it to false"
        )
        return
    network.compile()
    network._compile_enabled = True


@dataclass(frozen=True)
class TrainResult:
    """How a training run ended."""

    steps: int
    """Optimizer steps since the beginning of this run."""
    tokens: int
    """Training tokens since the beginning of this run."""
    stop_reason: str | None
    """Why it stopped before its budget; None when it used all of it."""


def train(
    module: TransformerTrainModule, batches: Batches, callback: PretrainCallback, *, steps: int, work_dir: Path
) -> TrainResult:
    """Train for at most `steps` optimizer steps, from the newest checkpoint in `callback.checkpoints` if there is one.

    `work_dir` holds OLMo-core's own files and can be deleted afterwards. Raises KeyboardInterrupt when a signal ended the run
    early: on SIGTERM or SIGINT it finishes its step and saves a checkpoint, and there is no result.
    """
    os.environ.setdefault("OLMO_SHARED_FS", "1")  # all processes see the run directory on one file system
    loader = StepLoader(batches, steps=steps, work_dir=work_dir, world=get_world_size(), rank=get_rank())
    trainer: Trainer = TrainerConfig(
        save_folder=str(work_dir),
        work_dir=str(work_dir),
        max_duration=Duration.steps(steps),
        metrics_collect_interval=max(1, callback.log_every),
        no_checkpoints=True,
        cancel_check_interval=1 if get_world_size() == 1 else CANCEL_CHECK_STEPS,
    ).build(module, loader)
    trainer.add_callback("synpro", callback)
    state = load_latest_checkpoint(module, callback)
    if state is not None:
        trainer.global_step = state["step"]
        trainer.global_train_tokens_seen = state["tokens"]
        loader.load_state_dict(state["loader"])
        callback.load_state_dict(state["callback"])
        if callback.keep_best and callback.best:
            is_best = callback.best_step == state["step"]
            callback.best_state = checkpoint.Snapshot.of(module) if is_best else checkpoint.read_best(state["folder"])
    trainer.fit()
    was_interrupted = trainer.is_canceled and callback.stop_reason is None
    if was_interrupted and trainer.global_step:
        callback.save_checkpoint()
    callback.writer.wait()
    if was_interrupted:
        raise KeyboardInterrupt(f"training was stopped by a signal at step {trainer.global_step}; the same command resumes it")
    if callback.best_step == trainer.global_step:
        callback.best_state = None
    return TrainResult(trainer.global_step, trainer.global_train_tokens_seen, callback.stop_reason)


def load_latest_checkpoint(module: TransformerTrainModule, callback: PretrainCallback) -> dict[str, Any] | None:
    """Load the newest intermediate checkpoint into `module` and return its state; None when there is none."""
    newest: Path | None = None
    if get_rank() == 0 and callback.checkpoints is not None:
        newest = latest_checkpoint(callback.checkpoints)
    newest = broadcast_object(newest)
    return None if newest is None else {**checkpoint.load(module, newest), "folder": newest}


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """The newest complete `step-NNNNNNNN` folder; None when there is none."""
    return max((p for p in checkpoints.glob("step-*") if p.suffix != ".tmp"), default=None)
