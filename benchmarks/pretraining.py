"""Training tokens per second of `pretrain` as configured, in float32 and compiled, and of OLMo-core's Trainer with its own data
loader and nothing of ours.

    python -m benchmarks.pretraining RUN --cpu      # only the first pair, per second of CPU, on a shared machine

A run that continues a model (`pretrain.start`) is measured with that model, over fewer steps.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
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

from benchmarks.measuring import Measurement, as_json, compare_pairs, measure_pairs, open_run, table
from synpro.config import RunConfig
from synpro.corpus.tokens import read_tokens
from synpro.lm import checkpoint, trainer
from synpro.lm.batches import TokenStream, eval_tokens
from synpro.lm.callbacks import PretrainCallback
from synpro.lm.model_config import ImportedModel, transformer_config
from synpro.records import Corpus

WARM, STEPS = 15, 115
"""Steps before the clock starts, and in all."""
CONTINUED_WARM, CONTINUED_STEPS = 1, 5
"""The same for a model that is continued, whose steps take as many seconds as others take milliseconds."""
Seconds = Callable[[], float]


def counted_steps(cfg: RunConfig) -> tuple[int, int]:
    """Steps before the clock starts, and in all."""
    return (CONTINUED_WARM, CONTINUED_STEPS) if cfg.pretrain.start else (WARM, STEPS)


class Clock:
    """Seconds between the last warm-up step of the optimizer and the last one, whoever trains."""

    def __init__(self, module: Any, steps: tuple[int, int], seconds: Seconds) -> None:
        """Listens to a train module: its trainer calls `optim_step` once for each batch."""
        self.times: list[float] = []
        (self.warm, self.steps), step = steps, module.optim_step

        def timed() -> None:
            step()
            self.times.append(seconds())

        module.optim_step = timed

    def rate(self, tokens: int) -> float:
        """Tokens per second. Raises RuntimeError when the steps are not those that were asked for."""
        if len(self.times) != self.steps:
            raise RuntimeError(f"{len(self.times)} steps of the optimizer instead of {self.steps}")
        return (self.steps - 1 - self.warm) * tokens / (self.times[-1] - self.times[self.warm])


def ours(cfg: RunConfig, corpus: Corpus, seconds: Seconds = time.perf_counter, **hardware: Any) -> float:
    """Tokens per second of our trainer with its callback: losses logged as the config says, no evaluation while timed.

    `hardware` replaces keys of `pretrain.hardware`.
    """
    from synpro.corpus.tokens import split_documents

    p, (warm, steps) = cfg.pretrain, counted_steps(cfg)
    organic = split_documents(read_tokens(corpus.dir / "tokens" / "train.bin", corpus.dtype), corpus.eos_id)
    with tempfile.TemporaryDirectory() as folder:
        module = trainer.build_module(
            p.shape,
            p.optimizer,
            replace(p.hardware, **hardware),
            vocab_size=corpus.vocab_size,
            sequence_length=p.sequence_length,
            batch_size=p.batch_size,
            scheduler=trainer.lr_schedule(warmup_steps=p.warmup_steps, steps=steps, decay_fraction=0.0),
            seed=0,
        )
        if isinstance(p.shape, ImportedModel):
            checkpoint.start_from(module, p.shape)
        clock = Clock(module, (warm, steps), seconds)

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
            evaluate_every=0,
            log_every=p.log_every,
            checkpoint_every=None,
            plateau=None,
            min_tokens=0,
            label="benchmark",
            eval_batch_size=p.hardware.micro_batch_size,
        )
        trainer.train(module, stream, callback, steps=steps, work_dir=Path(folder) / "olmo")
    return clock.rate(p.batch_size * p.sequence_length)


def direct(cfg: RunConfig, corpus: Corpus, seconds: Seconds = time.perf_counter) -> float:
    """Tokens per second of OLMo-core: its configs for model, optimizer, train module, data set, loader and trainer."""
    p, (warm, steps) = cfg.pretrain, counted_steps(cfg)
    logging.getLogger("olmo_core").setLevel(logging.ERROR)
    seed_all(0)
    with tempfile.TemporaryDirectory() as folder:
        attention = None if p.hardware.attention == "auto" else p.hardware.attention
        shape = transformer_config(p.shape, corpus.vocab_size, attention=attention)
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
            scheduler=trainer.lr_schedule(warmup_steps=p.warmup_steps, steps=steps, decay_fraction=0.0),
        ).build(shape.build(init_device="meta"), device=get_default_device())
        clock = Clock(module, (warm, steps), seconds)
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
            max_duration=Duration.steps(steps),
            metrics_collect_interval=p.log_every,
            no_checkpoints=True,
        ).build(module, loader)
        run.fit()
    return clock.rate(p.batch_size * p.sequence_length)


def measure_trainers(run: Path, count: int, seconds: Seconds = time.perf_counter) -> Measurement:
    """Our pretraining beside OLMo-core's."""
    cfg, corpus = open_run(run)
    if cfg.pretrain.optimizer.dropout:
        raise SystemExit(f"{run}: pretrain.optimizer.dropout is on, which the direct side does not do; take a run without it")
    a, b = measure_pairs(lambda: ours(cfg, corpus, seconds), lambda: direct(cfg, corpus, seconds), count)
    note = "same model, optimizer, batch and tokens; evaluation and checkpoints off in both"
    what = "continued pretraining" if cfg.pretrain.start else "pretraining"
    unit = "tokens/s of CPU" if seconds is time.process_time else "tokens/s"
    return compare_pairs(f"{what} / OLMo-core called directly", unit, a, b, least=0.97, note=note)


def measure(run: Path, count: int) -> list[Measurement]:
    """Our pretraining beside OLMo-core's, in float32, and compiled."""
    cfg, corpus = open_run(run)
    found = [measure_trainers(run, count)]
    a, b = measure_pairs(lambda: ours(cfg, corpus, dtype="auto"), lambda: ours(cfg, corpus, dtype="float32"), count)
    dtype = trainer.training_dtype(replace(cfg.pretrain.hardware, dtype="auto"))
    found.append(compare_pairs("pretraining, dtype auto / float32", "tokens/s", a, b, note=f"auto is {dtype} here"))
    a, b = measure_pairs(lambda: ours(cfg, corpus, compile=True), lambda: ours(cfg, corpus, compile=False), count)
    note = "without the time to compile: about a minute the first time, ten seconds from torch's cache"
    found.append(compare_pairs("pretraining, compiled / not", "tokens/s", a, b, note=note))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="count seconds of CPU, not of the clock")
    a = parser.parse_args()
    found = [measure_trainers(a.run, a.pairs, time.process_time if a.cpu else time.perf_counter)]
    print(json.dumps(as_json(found)))
    print(table(found))
