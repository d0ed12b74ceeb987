"""Pretrain on organic text, repeated, and on all synthetic text so far, until the reference loss plateaus (method.md, 1 and 6).

Differences from the paper: the reference loss is measured on the corpus' reference split; the plateau is our own definition
(`synpro.lm.plateau`), and so is the optional final decay of the learning rate. The result is the state with the lowest measured
reference loss, not the last one: a round that ends because its corpus is being memorised has gone past it. A later round keeps
weights and optimizer, begins a new order of the data, and has no second warm-up; tokens and steps are counted across rounds
here, not by the trainer, and the steps after the best state count too.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from synpro.corpus.mixture import MixtureConfig
from synpro.lm.model_config import ImportedModel, ModelConfig, flops_per_token, imported_model, num_parameters
from synpro.lm.plateau import PlateauConfig, earliest_plateau
from synpro.lm.training_config import HardwareConfig, OptimizerConfig
from synpro.records import Checkpoint, Corpus, Shard, digest_files, digest_of
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.runner.step import StepError
from synpro.schema import setting

if TYPE_CHECKING:
    from olmo_core.train.train_module import TransformerTrainModule

    from synpro.corpus.epochs import MixtureEpochs
    from synpro.lm.callbacks import PretrainCallback

FINAL_TOKENS = 2_000_000
"""Reference tokens on which the state that is kept is measured, at least; all of a smaller split."""


@dataclass(frozen=True)
class PretrainConfig:
    """One round of pretraining. The defaults are the published 400M setting."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "warmup": "warmup_steps", "anneal": "decay_fraction"}

    start: str | None = None
    """The model to continue from: `hf:ORG/NAME`, a folder, or any other reference; OLMo-core must import it (docs/continue.md).
    Its own shape, tokenizer and context take the place of `pretrain.model` and `prepare.tokenizer`. None: new weights."""
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
    round_tokens: tuple[int, ...] = setting((), unit="tokens", source="ours")
    """Training tokens of the first round, the second, and so on, instead of a plateau and `max_tokens`; the last number is for
    all rounds after it. Empty: rounds end on plateaus."""
    min_tokens: int = setting(0, unit="tokens", source="ours", min=0)
    """Training tokens of a round before a plateau is looked for: a new mixture needs some to show its effect."""
    min_passes: float = setting(1.0, unit="passes", source="ours", min=0)
    """Passes over a round's mixture before a plateau is looked for."""
    evaluate_every: int = setting(273, unit="steps", source="ours", min=1)
    """Steps between measurements of the reference and held-out loss (published: 1,092, at which a plateau of the first round
    could be seen only after half of the budget)."""
    evaluate_tokens: int = setting(2_000_000, unit="tokens", source="ours", min=1)
    """About so many tokens of each split, evenly spread over its documents, are measured in the loop."""
    keep: Literal["best", "last"] = setting("best", source="ours")
    """Which state of a round is its result: the one with the lowest measured reference loss, or the last."""
    log_every: int = setting(10, unit="steps", source="ours", min=1, execution=True)
    """Steps whose mean training loss is logged as one row."""
    checkpoint_every: int | None = setting(2184, unit="steps", source="published", min=1, execution=True)
    """Steps between checkpoints to resume from after a kill (published: 2,184); they are deleted at the end. None: start
    over."""

    def __post_init__(self) -> None:
        if self.batch_size % min(self.batch_size, self.hardware.micro_batch_size):
            micro = self.hardware.micro_batch_size
            raise ValueError(f"batch_size: {self.batch_size} is not a multiple of hardware.micro_batch_size = {micro}")
        if self.max_tokens < (one := self.tokens_per_step):
            raise ValueError(f"max_tokens: {self.max_tokens:,} is less than one batch of {one:,}; raise it or shrink the batch")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens:,} is above max_tokens = {self.max_tokens:,}")
        if self.round_tokens and min(self.round_tokens) < self.tokens_per_step:
            raise ValueError(f"round_tokens: a round has at least one batch, {self.tokens_per_step:,} tokens")

    @property
    def shape(self) -> ModelConfig:
        """Shape of the model that is trained: `model`, or that of `start`, which is fetched. Raises AssetError, ValueError."""
        return self.model if self.start is None else _imported(self.start)

    @property
    def tokens_per_step(self) -> int:
        """Training tokens of an optimizer step."""
        return self.batch_size * self.sequence_length

    @property
    def steps(self) -> int:
        """Optimizer steps in a first round that uses its whole budget."""
        return (self.round_tokens[0] if self.round_tokens else self.max_tokens) // self.tokens_per_step

    def steps_after(self, tokens_seen: int) -> int:
        """Optimizer steps a round may take after `tokens_seen` training tokens: its budget, or what the run has left."""
        left = self.max_tokens
        if self.round_tokens:
            end = 0
            for number in count():
                end += self.round_tokens[min(number, len(self.round_tokens) - 1)] // self.tokens_per_step * self.tokens_per_step
                if end > tokens_seen:
                    break
            left = end - tokens_seen
        if self.total_tokens is not None:
            left = min(left, self.total_tokens - tokens_seen)
        return max(0, left // self.tokens_per_step)

    def rounds_that_fit(self, wanted: int, organic_tokens: int = 0) -> int:
        """How many of the `wanted` rounds after the first plateau the run's token budget holds, where each plateau comes as
        early as it can: on a loss that does not fall at all, after `min_passes` over `organic_tokens`, as far as known."""
        seen, interval = 0, self.evaluate_every * self.tokens_per_step
        least = max(self.min_tokens, math.ceil(self.min_passes * organic_tokens))
        for number in range(wanted + 1):
            budget = self.steps_after(seen) * self.tokens_per_step
            if budget == 0:
                return number - 1
            used = budget
            if self.plateau is not None and not self.round_tokens:
                used = earliest_plateau(self.plateau, seen=seen, interval=interval, budget=budget, min_tokens=least)
            seen += used
        return wanted


@cache
def _imported(start: str) -> ModelConfig:
    from synpro.assets import model_folder

    return imported_model(model_folder(start, slot="pretrain.start"))


def pretrain(
    cfg: PretrainConfig,
    *,
    corpus: Corpus,
    shards: Sequence[Shard],
    start: Checkpoint | None,
    ctx: StepContext,
) -> Checkpoint:
    """Train from new weights, from the model that `cfg.start` names, or on from `start`, the round before.

    Writes `hf/`, `trainer/` and `training.json`.

    Under `torchrun` every process calls this with the same arguments; rank 0 writes. Raises ValueError for a corpus or a batch
    that does not fit, RuntimeError when a round diverges or the export differs from the trained model. A training on a budget
    alone that diverges gives a record without files, of infinite loss.
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
    shape = cfg.shape if start is None or cfg.start is None else imported_model(start.dir / "hf")
    if isinstance(shape, ImportedModel) and cfg.sequence_length > shape.context:
        raise ValueError(
            f"pretrain.sequence_length: {cfg.sequence_length} tokens are more than the {shape.context} of {cfg.start}"
        )
    module = trainer.build_module(
        shape,
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
    elif isinstance(shape, ImportedModel):
        difference = checkpoint.start_from(module, shape)
        if ctx.group.is_first:
            ctx.logger.log(f"continues from {cfg.start}: its logits and OLMo-core's differ by {difference:.2g} at most")
    epochs = MixtureEpochs(cfg.mixture, corpus, shards, ctx.seed)
    stream = TokenStream(
        epochs,
        length=epochs.length,
        has_noise=cfg.mixture.token_noise > 0,
        folder=scratch / "data",
        sequence_length=cfg.sequence_length,
        batch_size=cfg.batch_size,
        dtype=corpus.dtype,
        is_first=ctx.group.is_first,
    )
    min_tokens = max(cfg.min_tokens, math.ceil(cfg.min_passes * epochs.length(1)))
    callback = _callback(cfg, corpus, start, min_tokens, ctx)
    if ctx.group.is_first:
        _log_sizes(cfg, shape, corpus, epochs, steps, ctx.logger)
    _export(cfg, shape, module, corpus, scratch / "hf")  # what cannot be exported is found before the budget is spent
    result = trainer.train(module, stream, callback, steps=steps, work_dir=scratch / "olmo")
    if callback.diverged and not (cfg.keep == "best" and callback.best):
        if cfg.plateau is not None or cfg.round_tokens:
            raise RuntimeError(f"{result.stop_reason}; lower pretrain.optimizer.learning_rate")
        tokens, steps = result.tokens + callback.previous_tokens, result.steps + callback.previous_steps
        reason = str(result.stop_reason)  # a comparison's search goes on, with other settings
        return Checkpoint(out, tokens, steps, False, reason, math.inf, digest_of([reason]))
    if callback.best_state is not None:
        if ctx.group.is_first:
            checkpoint.write(scratch / "best", callback.best_state, {})
        barrier()
        checkpoint.load(module, scratch / "best")
    reference_loss = _reference_loss(cfg, module, corpus)
    losses = callback.best if cfg.keep == "best" else callback.latest
    summary: dict[str, Any] = {
        "plateau": result.stop_reason is not None and not callback.diverged,
        "reason": result.stop_reason or _budget_reason(cfg, steps, callback.plateau_reason),
        "steps": result.steps + callback.previous_steps,
        "tokens_seen": result.tokens + callback.previous_tokens,
        "reference_loss": reference_loss,
        "last_reference_loss": None if callback.diverged else callback.latest["reference"],
        "best_tokens": callback.best_step * cfg.tokens_per_step + callback.previous_tokens,
    }
    measured = {f"{name}_loss": loss for name, loss in losses.items() if name != "reference"}
    training = {**summary, **measured, "dtype": trainer.training_dtype(cfg.hardware)}
    if cfg.start is not None:
        training["imported"] = {"start": cfg.start, "sequence_length": cfg.sequence_length, "before": callback.first}
        parts = (f"{name} loss {callback.first[name]:.4f} before, {loss:.4f} after" for name, loss in losses.items())
        if ctx.group.is_first:
            ctx.logger.log("; ".join(parts))
    checkpoint.save(module, out / "trainer", training)
    _export(cfg, shape, module, corpus, out / "hf")
    if ctx.group.is_first:
        (out / "training.json").write_text(json.dumps(training, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        ctx.logger.log(f"training ended after {result.tokens:,} tokens: {summary['reason']}")
        if callback.best_state is not None:
            ctx.logger.log(
                f"the best state is kept: reference loss {losses['reference']:.4f} at {summary['best_tokens']:,} tokens of the "
                f"run; it ended at {callback.latest['reference']:.4f}"
            )
    digest = digest_files(out, out / "hf", out / "trainer") if ctx.group.is_first else ""  # the first one's record counts
    return Checkpoint(dir=out, digest=digest, **summary)


def _reference_loss(cfg: PretrainConfig, module: TransformerTrainModule, corpus: Corpus) -> float:
    """Loss of the state that is kept: of far more of the split than the loop measures, for searches compare it."""
    from synpro.corpus.tokens import read_tokens
    from synpro.lm.batches import eval_tokens
    from synpro.lm.callbacks import packed_loss

    split = read_tokens(corpus.dir / "tokens" / "reference.bin", corpus.dtype)
    tokens = eval_tokens(split, corpus.eos_id, max(cfg.evaluate_tokens, FINAL_TOKENS))
    return packed_loss(module, tokens, batch_size=cfg.hardware.micro_batch_size)


def _export(cfg: PretrainConfig, shape: ModelConfig, module: TransformerTrainModule, corpus: Corpus, folder: Path) -> None:
    from synpro.lm import checkpoint

    checkpoint.export(
        module,
        folder,
        model=shape,
        tokenizer=corpus.dir / "tokenizer",
        context=cfg.sequence_length,
        eos=corpus.eos_id,
        pad=corpus.pad_id,
    )


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


def _callback(
    cfg: PretrainConfig, corpus: Corpus, start: Checkpoint | None, min_tokens: int, ctx: StepContext
) -> PretrainCallback:
    from synpro.corpus.tokens import read_tokens
    from synpro.lm.batches import eval_tokens
    from synpro.lm.callbacks import PretrainCallback

    names = [name for name in ("reference", "heldout", "general") if name in corpus.tokens]
    splits = {name: read_tokens(corpus.dir / "tokens" / f"{name}.bin", corpus.dtype) for name in names}
    return PretrainCallback(
        logger=ctx.logger if ctx.group.is_first else None,
        eval_sets={name: eval_tokens(tokens, corpus.eos_id, cfg.evaluate_tokens) for name, tokens in splits.items()},
        evaluate_every=cfg.evaluate_every,
        log_every=cfg.log_every,
        checkpoint_every=cfg.checkpoint_every,
        checkpoints=ctx.out / "scratch" / "states",
        plateau=None if cfg.round_tokens else cfg.plateau,
        min_tokens=min_tokens,
        starts_trained=cfg.start is not None,
        keep_best=cfg.keep == "best",
        previous_steps=start.steps if start else 0,
        previous_tokens=start.tokens_seen if start else 0,
        label="pretraining",
        eval_batch_size=cfg.hardware.micro_batch_size,
        dropout_seed=ctx.seed if cfg.optimizer.dropout else None,
    )


def _log_sizes(
    cfg: PretrainConfig, shape: ModelConfig, corpus: Corpus, epochs: MixtureEpochs, steps: int, logger: StepLogger
) -> None:
    logger.log(epochs.summary)
    budget = steps * cfg.tokens_per_step
    flops = flops_per_token(shape, corpus.vocab_size, cfg.sequence_length) * budget
    parameters = num_parameters(shape, corpus.vocab_size)
    logger.log(f"{parameters:,} parameters, at most {steps:,} steps, {budget:,} tokens, {flops:.2g} FLOP")


def _budget_reason(cfg: PretrainConfig, steps: int, plateau_reason: str) -> str:
    used = f"the budget of {steps * cfg.tokens_per_step:,} tokens is used"
    return used if cfg.plateau is None or cfg.round_tokens else f"{used}; no plateau yet: {plateau_reason}"


def trained(model: Checkpoint) -> Checkpoint:
    """The model. Raises StepError where training diverged before there was a state to keep."""
    if model.reference_loss == math.inf:
        raise StepError(f"{model.dir}: {model.reason}; lower pretrain.optimizer.learning_rate")
    return model
