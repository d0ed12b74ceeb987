"""Training tokens per second of `pretrain` as configured, in float32 and compiled, and of OLMo-core's Trainer with its own data
loader and nothing of ours."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from olmo_core.config import DType
from olmo_core.data import NumpyDataLoaderConfig, NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.optim import AdamWConfig, OptimGroupOverride
from olmo_core.train import Duration, TrainerConfig
from olmo_core.train.train_module import TransformerTrainModuleConfig
from olmo_core.utils import get_default_device, seed_all

from benchmarks.measuring import Measurement, compare_pairs, measure_pairs, open_run
from synpro.config import RunConfig
from synpro.corpus.tokens import read_tokens
from synpro.lm import trainer
from synpro.lm.batches import TokenStream, eval_tokens
from synpro.lm.callbacks import PretrainCallback
from synpro.lm.model_config import transformer_config
from synpro.records import Corpus

WARM, STEPS = 15, 115
"""Steps before the clock starts, and in all."""


class Clock:
    """Seconds between the WARM-th and the last step of the optimizer, whoever trains."""

    def __init__(self, module: Any) -> None:
        """Listens to a train module: its trainer calls `optim_step` once for each batch."""
        self.times: list[float] = []
        step = module.optim_step

        def timed() -> None:
            step()
            self.times.append(time.perf_counter())

        module.optim_step = timed

    def rate(self, tokens: int) -> float:
        """Tokens per second. Raises RuntimeError when the steps are not those that were asked for."""
        if len(self.times) != STEPS:
            raise RuntimeError(f"{len(self.times)} steps of the optimizer instead of {STEPS}")
        return (STEPS - 1 - WARM) * tokens / (self.times[-1] - self.times[WARM])


def ours(cfg: RunConfig, corpus: Corpus, **hardware: Any) -> float:
    """Tokens per second of our trainer with its callback: losses logged as the config says, no evaluation while timed.

    `hardware` replaces keys of `pretrain.hardware`.
    """
    from synpro.corpus.tokens import split_documents

    p = cfg.pretrain
    organic = split_documents(read_tokens(corpus.dir / "tokens" / "train.bin", corpus.dtype), corpus.eos_id)
    with tempfile.TemporaryDirectory() as folder:
        module = trainer.build_module(
            p.model,
            p.optimizer,
            replace(p.hardware, **hardware),
            vocab_size=corpus.vocab_size,
            sequence_length=p.sequence_length,
            batch_size=p.batch_size,
            scheduler=trainer.lr_schedule(warmup_steps=p.warmup_steps, steps=STEPS, decay_fraction=0.0),
            seed=0,
        )

        clock = Clock(module)

        def epoch(number: int) -> np.ndarray:
            order = np.random.default_rng(number).permutation(len(organic))
            return np.concatenate([organic[i] for i in order])

        stream = TokenStream(
            epoch,
            folder=Path(folder) / "data",
            sequence_length=p.sequence_length,
            batch_size=p.batch_size,
            dtype=corpus.dtype,
        )
        sample = eval_tokens(
            read_tokens(corpus.dir / "tokens" / "reference.bin", corpus.dtype), corpus.eos_id, p.sequence_length
        )
        callback = PretrainCallback(
            logger=None,
            eval_sets={"reference": sample, "heldout": sample},
            evaluate_every=10 * STEPS,
            log_every=p.log_every,
            checkpoint_every=None,
            plateau=None,
            min_tokens=0,
            label="benchmark",
            eval_batch_size=p.hardware.micro_batch_size,
        )
        trainer.train(module, stream, callback, steps=STEPS, work_dir=Path(folder) / "olmo")
    return clock.rate(p.batch_size * p.sequence_length)


def direct(cfg: RunConfig, corpus: Corpus) -> float:
    """Tokens per second of OLMo-core: its configs for model, optimizer, train module, data set, loader and trainer."""
    p = cfg.pretrain
    logging.getLogger("olmo_core").setLevel(logging.ERROR)
    seed_all(0)
    with tempfile.TemporaryDirectory() as folder:
        attention = None if p.hardware.attention == "auto" else p.hardware.attention
        shape = transformer_config(p.model, corpus.vocab_size, attention=attention)
        optimizer = AdamWConfig(
            lr=p.optimizer.learning_rate,
            betas=(p.optimizer.beta1, p.optimizer.beta2),
            eps=p.optimizer.eps,
            weight_decay=p.optimizer.weight_decay,
            group_overrides=[OptimGroupOverride(params=["embeddings.weight"], opts={"weight_decay": 0.0})],
        )
        module = TransformerTrainModuleConfig(
            rank_microbatch_size=min(p.hardware.micro_batch_size, p.batch_size) * p.sequence_length,
            max_sequence_length=p.sequence_length,
            optim=optimizer,
            compile_model=p.hardware.compile,
            z_loss_multiplier=p.optimizer.z_loss or None,
            autocast_precision=DType.bfloat16 if trainer.training_dtype(p.hardware) == "bfloat16" else None,
            max_grad_norm=p.optimizer.max_grad_norm,
            scheduler=trainer.lr_schedule(warmup_steps=p.warmup_steps, steps=STEPS, decay_fraction=0.0),
        ).build(shape.build(init_device="meta"), device=get_default_device())
        clock = Clock(module)
        data = NumpyFSLDatasetConfig(
            tokenizer=TokenizerConfig(vocab_size=corpus.vocab_size, eos_token_id=corpus.eos_id, pad_token_id=corpus.pad_id),
            paths=[str(corpus.dir / "tokens" / "train.bin")],
            sequence_length=p.sequence_length,
            work_dir=folder,
        ).build()
        loader = NumpyDataLoaderConfig(global_batch_size=p.batch_size * p.sequence_length, seed=0, work_dir=folder).build(data)
        run = TrainerConfig(
            save_folder=folder,
            work_dir=folder,
            max_duration=Duration.steps(STEPS),
            metrics_collect_interval=p.log_every,
            no_checkpoints=True,
        ).build(module, loader)
        run.fit()
    return clock.rate(p.batch_size * p.sequence_length)


def measure(run: Path, count: int) -> list[Measurement]:
    """Our pretraining beside OLMo-core's."""
    cfg, corpus = open_run(run)
    if cfg.pretrain.optimizer.dropout:
        raise SystemExit(f"{run}: pretrain.optimizer.dropout is on, which the direct side does not do; take a run without it")
    a, b = measure_pairs(lambda: ours(cfg, corpus), lambda: direct(cfg, corpus), count)
    note = "same model, optimizer, batch and tokens; evaluation and checkpoints off in both"
    found = [compare_pairs("pretraining / OLMo-core called directly", "tokens/s", a, b, least=0.97, note=note)]
    a, b = measure_pairs(lambda: ours(cfg, corpus, dtype="auto"), lambda: ours(cfg, corpus, dtype="float32"), count)
    dtype = trainer.training_dtype(replace(cfg.pretrain.hardware, dtype="auto"))
    found.append(compare_pairs("pretraining, dtype auto / float32", "tokens/s", a, b, note=f"auto is {dtype} here"))
    a, b = measure_pairs(lambda: ours(cfg, corpus, compile=True), lambda: ours(cfg, corpus, compile=False), count)
    note = "without the time to compile: about a minute the first time, ten seconds from torch's cache"
    found.append(compare_pairs("pretraining, compiled / not", "tokens/s", a, b, note=note))
    return found
