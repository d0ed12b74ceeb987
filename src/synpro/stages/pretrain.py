"""Pretrain on organic text, repeated, and on all synthetic text so far, until the reference loss plateaus (method.md, 1 and 6).

Differences from the paper: the reference loss is measured on the corpus' reference split; the plateau is our own definition
(`synpro.lm.plateau`), and so is the optional final decay of the learning rate. A later round keeps weights and optimizer,
begins a new order of the data, and has no second warm-up; tokens and steps are counted across rounds here, not by the trainer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from synpro.corpus.mixture import MixtureConfig
from synpro.lm.model_config import ModelConfig, flops_per_token, num_parameters
from synpro.lm.plateau import PlateauConfig
from synpro.lm.training_config import HardwareConfig, OptimizerConfig
from synpro.records import Checkpoint, Corpus, Shard, digest_files
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.schema import setting

if TYPE_CHECKING:
    from synpro.corpus.epochs import MixtureEpochs
    from synpro.lm.callbacks import PretrainCallback


@dataclass(frozen=True)
class PretrainConfig:
    """One round of pretraining. The defaults are the published 400M setting."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "warmup": "warmup_steps", "anneal": "decay_fraction"}

    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the model; the same in every round."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW, clipping and z-loss."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Micro-batch size, dtype and parallelism."""
    plateau: PlateauConfig | None = field(default_factory=PlateauConfig)
    """When a round ends; None: on its token budget alone."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Shares of organic and synthetic text in an epoch."""
    sequence_length: int = setting(2048, unit="tokens", source="published", min=2)
    """Tokens the model is trained on at once (published: 2048)."""
    batch_size: int = setting(512, unit="sequences", source="published", min=1)
    """Sequences per optimizer step, all processes together (published: 512)."""
    warmup_steps: int = setting(1000, unit="steps", source="published", min=0)
    """Steps of linear warm-up in the first round (published: 1,000); later rounds have none."""
    decay_fraction: float = setting(0.0, source="published", min=0, max=1)
    """Last share of `max_tokens` over which the learning rate falls linearly to 0 (published: none). A plateau may end the
    round before."""
    max_tokens: int = setting(22_900_899_840, unit="tokens", source="published", min=1)
    """Training tokens at which a round ends without a plateau; the published run has 21,840 steps (1.1B: 43,680) in all."""
    total_tokens: int | None = setting(22_900_899_840, unit="tokens", source="published")
    """Training tokens of all rounds together after which the run ends (400M: 22.9B; 1.1B: 45.8B); None: rounds alone decide."""
    min_tokens: int = setting(0, unit="tokens", source="ours", min=0)
    """Training tokens of a round before a plateau is looked for: a new mixture needs some to show its effect."""
    evaluate_every: int = setting(1092, unit="steps", source="published", min=1)
    """Steps between measurements of the reference and held-out loss (published: 1,092)."""
    evaluate_tokens: int = setting(2_000_000, unit="tokens", source="ours", min=1)
    """At most so many tokens of each split, from its beginning, are measured in the loop."""
    log_every: int = setting(10, unit="steps", source="ours", min=1, execution=True)
    """Steps whose mean training loss is logged as one row."""
    checkpoint_every: int | None = setting(2184, unit="steps", source="published", min=1, execution=True)
    """Steps between checkpoints to resume from after a kill (published: 2,184); they are deleted at the end. None: start
    over."""

    def __post_init__(self) -> None:
        if self.batch_size % min(self.batch_size, self.hardware.micro_batch_size):
            micro = self.hardware.micro_batch_size
            raise ValueError(f"batch_size: {self.batch_size} is not a multiple of hardware.micro_batch_size = {micro}")
        if self.max_tokens < self.batch_size * self.sequence_length:
            one = self.batch_size * self.sequence_length
            raise ValueError(f"max_tokens: {self.max_tokens:,} is less than one batch of {one:,}; raise it or shrink the batch")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens:,} is above max_tokens = {self.max_tokens:,}")

    @property
    def steps(self) -> int:
        """Optimizer steps in a round that uses its whole budget."""
        return self.max_tokens // (self.batch_size * self.sequence_length)

    def steps_after(self, tokens_seen: int) -> int:
        """Optimizer steps a round may take after `tokens_seen` training tokens: its budget, or what the run has left."""
        left = self.max_tokens if self.total_tokens is None else min(self.max_tokens, self.total_tokens - tokens_seen)
        return max(0, left // (self.batch_size * self.sequence_length))


def pretrain(
    cfg: PretrainConfig,
    *,
    corpus: Corpus,
    shards: Sequence[Shard],
    start: Checkpoint | None,
    ctx: StepContext,
) -> Checkpoint:
    """Train from new weights, or continue from `start`; writes `hf/`, `trainer/` and `training.json`.

    Under `torchrun` every process calls this with the same arguments; rank 0 writes. Raises ValueError for a corpus or a batch
    that does not fit, RuntimeError when training diverges or the export differs from the trained model.
    """
    from olmo_core.distributed.utils import barrier

    from synpro.corpus.epochs import MixtureEpochs
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import TokenStream

    steps = cfg.steps_after(start.tokens_seen if start else 0)
    if steps == 0:
        raise ValueError(f"pretrain.total_tokens: all {cfg.total_tokens:,} tokens are used; raise it or take fewer rounds")
    out, scratch = ctx.out, ctx.out / "scratch"
    if ctx.group.is_first:
        _prepare_folder(cfg, start, ctx)
    barrier()
    module = trainer.build_module(
        cfg.model,
        cfg.optimizer,
        cfg.hardware,
        vocab_size=corpus.vocab_size,
        sequence_length=cfg.sequence_length,
        batch_size=cfg.batch_size,
        scheduler=trainer.lr_schedule(
            warmup_steps=0 if start else cfg.warmup_steps, steps=steps, decay_fraction=cfg.decay_fraction
        ),
        seed=ctx.seed,
    )
    if start is not None:
        checkpoint.load(module, start.dir / "trainer")
    epochs = MixtureEpochs(cfg.mixture, corpus, shards, ctx.seed)
    stream = TokenStream(
        epochs,
        has_noise=cfg.mixture.token_noise > 0,
        folder=scratch / "data",
        sequence_length=cfg.sequence_length,
        batch_size=cfg.batch_size,
        dtype=corpus.dtype,
        is_first=ctx.group.is_first,
        barrier=barrier,
    )
    callback = _callback(cfg, corpus, start, ctx)
    if ctx.group.is_first:
        _log_sizes(cfg, corpus, epochs, steps, ctx.logger)
    result = trainer.train(module, stream, callback, steps=steps, work_dir=scratch / "olmo")
    summary: dict[str, Any] = {
        "plateau": result.stop_reason is not None,
        "reason": result.stop_reason or _budget_reason(cfg, steps, callback.plateau_reason),
        "steps": result.steps + callback.previous_steps,
        "tokens_seen": result.tokens + callback.previous_tokens,
        "reference_loss": callback.latest["reference"],
    }
    training = {**summary, "heldout_loss": callback.latest["heldout"]}
    checkpoint.save(module, out / "trainer", training)
    checkpoint.export(
        module,
        out / "hf",
        tokenizer=corpus.dir / "tokenizer",
        context=cfg.sequence_length,
        eos=corpus.eos_id,
        pad=corpus.pad_id,
    )
    if ctx.group.is_first:
        shutil.rmtree(scratch)
        (out / "training.json").write_text(json.dumps(training, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        ctx.logger.log(f"training ended after {result.tokens:,} tokens: {summary['reason']}")
    return Checkpoint(dir=out, digest=digest_files(out, out / "hf", out / "trainer"), **summary)


def _prepare_folder(cfg: PretrainConfig, start: Checkpoint | None, ctx: StepContext) -> None:
    """Return the step's folder to its newest checkpoint, or to an empty one."""
    from synpro.lm.trainer import latest_checkpoint

    out, scratch = ctx.out, ctx.out / "scratch"
    newest = latest_checkpoint(scratch / "states") if cfg.checkpoint_every else None
    for folder in (out / "hf", out / "trainer", scratch / "data", scratch / "olmo", *([] if newest else [scratch])):
        shutil.rmtree(folder, ignore_errors=True)
    if newest is None:
        ctx.logger.truncate({})
        return
    steps = int(newest.name.removeprefix("step-"))
    ctx.logger.truncate({"step": steps + (start.steps if start else 0)})
    ctx.logger.log(f"resuming from step {steps:,} of this round")


def _callback(cfg: PretrainConfig, corpus: Corpus, start: Checkpoint | None, ctx: StepContext) -> PretrainCallback:
    from synpro.corpus.tokens import read_tokens
    from synpro.lm.batches import eval_tokens
    from synpro.lm.callbacks import PretrainCallback

    splits = {name: read_tokens(corpus.dir / "tokens" / f"{name}.bin", corpus.dtype) for name in ("reference", "heldout")}
    return PretrainCallback(
        logger=ctx.logger if ctx.group.is_first else None,
        eval_sets={name: eval_tokens(tokens, corpus.eos_id, cfg.evaluate_tokens) for name, tokens in splits.items()},
        evaluate_every=cfg.evaluate_every,
        log_every=cfg.log_every,
        checkpoint_every=cfg.checkpoint_every,
        checkpoints=ctx.out / "scratch" / "states",
        plateau=cfg.plateau,
        min_tokens=cfg.min_tokens,
        previous_steps=start.steps if start else 0,
        previous_tokens=start.tokens_seen if start else 0,
        label="pretraining",
        eval_batch_size=cfg.hardware.micro_batch_size,
        dropout_seed=ctx.seed if cfg.optimizer.dropout else None,
    )


def _log_sizes(cfg: PretrainConfig, corpus: Corpus, epochs: MixtureEpochs, steps: int, logger: StepLogger) -> None:
    logger.log(epochs.summary)
    budget = steps * cfg.batch_size * cfg.sequence_length
    flops = flops_per_token(cfg.model, corpus.vocab_size, cfg.sequence_length) * budget
    parameters = num_parameters(cfg.model, corpus.vocab_size)
    logger.log(f"{parameters:,} parameters, at most {steps:,} steps, {budget:,} tokens, {flops:.2g} FLOP")


def _budget_reason(cfg: PretrainConfig, steps: int, plateau_reason: str) -> str:
    used = f"the budget of {steps * cfg.batch_size * cfg.sequence_length:,} tokens is used"
    return used if cfg.plateau is None else f"{used}; no plateau yet: {plateau_reason}"
