"""Pretrain on organic text, repeated, and on all synthetic text so far, until the reference loss plateaus (method.md, 1 and 6).

Differences from the paper: the reference loss is that of the corpus' reference split; the plateau is our own definition
(`synpro.lm.plateau`); the optional anneal is ours. A later round keeps weights and optimizer, starts a new order of data at
its beginning, and has no second warm-up; tokens and steps are counted across rounds here, not by the trainer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.corpus.mixture import MixtureConfig
from synpro.lm.plateau import PlateauConfig
from synpro.lm.settings import HardwareConfig, OptimizerConfig
from synpro.lm.shapes import ModelConfig, flops_per_token, parameters
from synpro.records import Checkpoint, Corpus, Shard, digest_files
from synpro.run.journal import Journal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PretrainConfig:
    """One round of pretraining. The defaults are the published 400M setting."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the model; the same in every round."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW, clipping and z-loss."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Microbatch, precision and parallelism."""
    plateau: PlateauConfig | None = field(default_factory=PlateauConfig)
    """When a round ends; None: on its token budget alone."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Shares of organic and synthetic text in an epoch."""
    sequence_length: int = 2048
    """Tokens the model is trained on at once (published: 2048)."""
    batch: int = 512
    """Sequences per optimizer step, all processes together (published: 512)."""
    warmup: int = 1000
    """Steps of linear warm-up in the first round (published: 1,000); later rounds have none."""
    anneal: float = 0.0
    """Last share of `max_tokens` over which the rate falls linearly to 0 (published: none). A plateau may come before it."""
    max_tokens: int = 22_900_899_840
    """Training tokens at which a round ends without a plateau; the published run is 21,840 steps (1.1B: 43,680) in all."""
    total_tokens: int | None = 22_900_899_840
    """Training tokens of all rounds together after which the run ends (400M: 22.9B; 1.1B: 45.8B); None: rounds alone decide."""
    min_tokens: int = 0
    """Training tokens of a round before a plateau is looked for: a new mixture needs some to show its effect."""
    evaluate_every: int = 1092
    """Steps between measurements of the reference and held-out loss (published: 1,092)."""
    evaluate_tokens: int = 2_000_000
    """At most so many tokens of each split, from its beginning, are measured in the loop."""
    log_every: int = 10
    """Steps whose mean training loss makes one row."""
    checkpoint_every: int | None = 2184
    """Steps between states to carry on from after a kill (published: 2,184); they are removed at the end. None: start over."""

    def __post_init__(self) -> None:
        for name in ("sequence_length", "batch", "evaluate_every", "evaluate_tokens", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if self.sequence_length < 2:
            raise ValueError("sequence_length: one token has no next token to learn; give at least 2")
        if self.batch % min(self.batch, self.hardware.microbatch):
            raise ValueError(f"batch: {self.batch} is not a multiple of hardware.microbatch = {self.hardware.microbatch}")
        if self.max_tokens < self.batch * self.sequence_length:
            one = self.batch * self.sequence_length
            raise ValueError(f"max_tokens: {self.max_tokens:,} is less than one batch of {one:,}; raise it or shrink the batch")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens:,} is outside 0 .. max_tokens = {self.max_tokens:,}")
        if self.warmup < 0:
            raise ValueError(f"warmup: {self.warmup} steps; give 0 or more")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal: {self.anneal} is no share; give 0 (off) to 1")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ValueError("checkpoint_every: give at least 1 step, or leave it out to start over after a kill")

    @property
    def steps(self) -> int:
        """Optimizer steps in a round that uses its whole budget."""
        return self.max_tokens // (self.batch * self.sequence_length)

    def steps_after(self, tokens_seen: int) -> int:
        """Optimizer steps a round may take after `tokens_seen` training tokens: its budget, or what the run has left."""
        left = self.max_tokens if self.total_tokens is None else min(self.max_tokens, self.total_tokens - tokens_seen)
        return max(0, left // (self.batch * self.sequence_length))


def pretrain(
    cfg: PretrainConfig,
    *,
    corpus: Corpus,
    shards: Sequence[Shard],
    start: Checkpoint | None,
    out: Path,
    journal: Journal,
    seed: int,
) -> Checkpoint:
    """Train from scratch, or on from `start`; `out` then holds `hf/`, `trainer/` and `training.json`.

    Under `torchrun` every process calls this with the same arguments; process 0 writes. Raises ValueError for a corpus or a
    batch that does not fit, RuntimeError when training diverges or the export differs from the trained model.
    """
    from synpro.corpus.tokens import read_tokens
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import TokenStream, measured
    from synpro.lm.watch import Watch

    steps = cfg.steps_after(start.tokens_seen if start else 0)
    if steps == 0:
        raise ValueError(f"pretrain.total_tokens: all {cfg.total_tokens:,} tokens are used; raise it or take fewer rounds")
    budget = steps * cfg.batch * cfg.sequence_length
    rank, _ = trainer.enter(seed)
    states = out / "scratch" / "states"
    if rank == 0:
        _rewind(out, journal, states if cfg.checkpoint_every else None, start)
    checkpoint.barrier()
    module = trainer.build_module(
        cfg.model,
        cfg.optimizer,
        cfg.hardware,
        vocab_size=corpus.vocab_size,
        sequence_length=cfg.sequence_length,
        batch=cfg.batch,
        scheduler=trainer.schedule(warmup=0 if start else cfg.warmup, steps=steps, anneal=cfg.anneal),
        seed=seed,
    )
    if start is not None:
        checkpoint.load(module, start.dir / "trainer")
    stream = TokenStream(
        _epochs(cfg.mixture, corpus, shards, seed, journal if rank == 0 else None),
        noised=cfg.mixture.token_noise > 0,
        folder=out / "scratch" / "data",
        sequence_length=cfg.sequence_length,
        batch=cfg.batch,
        dtype=corpus.dtype,
        writer=rank == 0,
        wait=checkpoint.barrier,
    )
    watch = Watch(
        journal=journal if rank == 0 else None,
        evaluation={
            split: measured(
                read_tokens(corpus.dir / "tokens" / f"{split}.bin", corpus.dtype), corpus.eos_id, cfg.evaluate_tokens
            )
            for split in ("reference", "heldout")
        },
        evaluate_every=cfg.evaluate_every,
        log_every=cfg.log_every,
        checkpoint_every=cfg.checkpoint_every,
        folder=states,
        plateau=cfg.plateau,
        min_tokens=cfg.min_tokens,
        steps_before=start.steps if start else 0,
        tokens_before=start.tokens_seen if start else 0,
        label="pretraining",
        microbatch=cfg.hardware.microbatch,
        dropout_seed=seed if cfg.optimizer.dropout else None,
    )
    if rank == 0:
        size = parameters(cfg.model, corpus.vocab_size)
        work = flops_per_token(cfg.model, corpus.vocab_size, cfg.sequence_length) * budget
        journal.say(f"{size:,} parameters, at most {steps:,} steps, {budget:,} tokens, {work:.2g} FLOP")
    done = trainer.train(module, stream, watch, steps=steps, folder=out / "scratch" / "olmo")
    used = f"the budget of {budget:,} tokens is used"
    reason = done.stopped or (used if cfg.plateau is None else f"{used}; no plateau yet: {watch.verdict}")
    result = {
        "plateau": done.stopped is not None,
        "reason": reason,
        "steps": done.steps + watch.steps_before,
        "tokens_seen": done.tokens + watch.tokens_before,
        "reference_loss": watch.last["reference"],
        "heldout_loss": watch.last["heldout"],
    }
    checkpoint.save(module, out / "trainer", result)
    checkpoint.export(
        module,
        out / "hf",
        tokenizer=corpus.dir / "tokenizer",
        context=cfg.sequence_length,
        eos=corpus.eos_id,
        pad=corpus.pad_id,
    )
    if rank == 0:
        shutil.rmtree(out / "scratch")
        (out / "training.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        journal.say(f"training ended after {done.tokens:,} tokens: {reason}")
    checkpoint.leave()
    return Checkpoint(
        dir=out,
        tokens_seen=done.tokens + watch.tokens_before,
        steps=done.steps + watch.steps_before,
        plateau=done.stopped is not None,
        reason=reason,
        reference_loss=watch.last["reference"],
        digest=digest_files(out, out / "hf", out / "trainer"),
    )


def _rewind(out: Path, journal: Journal, states: Path | None, start: Checkpoint | None) -> None:
    """Take the folder back to its newest state, or to its beginning."""
    scratch = out / "scratch"
    newest = max((p for p in states.glob("step-*") if p.suffix != ".tmp"), default=None) if states else None
    for folder in (out / "hf", out / "trainer", scratch / "data", scratch / "olmo", *([] if newest else [scratch])):
        shutil.rmtree(folder, ignore_errors=True)
    if newest is None:
        journal.rewind({})
        return
    steps = int(newest.name.removeprefix("step-"))
    journal.rewind({"step": steps + (start.steps if start else 0)})
    journal.say(f"carrying on from step {steps:,} of this round")


class _Epochs:
    """The n-th pass over the mixture: whole documents, drawn, packed, ordered and noised by the seed and n."""

    def __init__(self, mixture: MixtureConfig, corpus: Corpus, shards: Sequence[Shard], seed: int) -> None:
        from synpro.corpus.mixture import TokenNoise
        from synpro.corpus.store import documents, read_rows
        from synpro.corpus.tokens import encode_documents, load_tokenizer, read_tokens, split_documents

        self._mixture, self._seed = mixture, seed
        self.organic = split_documents(read_tokens(corpus.dir / "tokens" / "train.bin", corpus.dtype), corpus.eos_id)
        self.sources: list[int] = []  # of each synthetic document: the place of its organic one, where megadocs need it
        tokenizer = load_tokenizer(corpus.dir / "tokenizer")
        texts = (row["text"] for shard in shards for row in read_rows(shard.dir / "documents.parquet", ["text"]))
        self.synthetic = encode_documents(tokenizer, texts, corpus.eos_id, corpus.dtype)
        if mixture.packing == "megadocs":
            place = {d.id: i for i, d in enumerate(documents(corpus, "train"))}
            if len(place) != len(self.organic):
                raise RuntimeError(f"{len(place)} train documents but {len(self.organic)} in train.bin; run `prepare` again")
            rows = (row for shard in shards for row in read_rows(shard.dir / "documents.parquet", ["document"]))
            self.sources = [place[row["document"]] for row in rows]
        self._gap = encode_documents(tokenizer, ["\n\n"], corpus.eos_id, corpus.dtype)[0][:-1]
        self._noise = TokenNoise(mixture.token_noise, self.organic, corpus.eos_id) if mixture.token_noise else None

    def __call__(self, number: int) -> np.ndarray:
        """`(T,)`, or with token noise `(2, T)`: what is read, and what is to be predicted."""
        import numpy as np

        from synpro.corpus.mixture import build_epoch, epoch_documents, megadocs, plan_epoch

        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        plan = plan_epoch(self.organic.lengths, self.synthetic.lengths, self._mixture, seed)

        def built(organic: Sequence[np.ndarray]) -> np.ndarray:
            if self._mixture.packing == "megadocs":
                return build_epoch(megadocs(organic, self.synthetic, self.sources, plan, self._gap, seed), seed)
            return build_epoch(epoch_documents(organic, self.synthetic, plan), seed)

        clean = built(self.organic)
        return clean if self._noise is None else np.stack([built(self._noise(seed)), clean])


def _epochs(mixture: MixtureConfig, corpus: Corpus, shards: Sequence[Shard], seed: int, journal: Journal | None) -> _Epochs:
    epochs = _Epochs(mixture, corpus, shards, seed)
    if journal is not None:
        organic, synthetic = (len(side.tokens) for side in (epochs.organic, epochs.synthetic))
        journal.say(
            f"mixture: {len(epochs.organic):,} organic documents ({organic:,} tokens), "
            f"{len(epochs.synthetic):,} synthetic ({synthetic:,} tokens)"
        )
    return epochs
