"""Fit the probe: a short training on the reference task from the plateau checkpoint (method.md, step 2).

The paper trains on FLAN-style prompts with the loss on the answers. So do we where `data` names such data; without it the
reference task is the corpus' reference split, with the loss on every token. Optimizer state comes with the checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.lm.settings import HardwareConfig, OptimizerConfig
from synpro.records import Checkpoint, Corpus, Probe, digest_files, digest_of
from synpro.run.journal import Journal

if TYPE_CHECKING:
    import numpy as np

    from synpro.lm.batches import Answered, Batches


def _probe_optimizer() -> OptimizerConfig:
    return OptimizerConfig(lr=1e-4)


@dataclass(frozen=True)
class ProbeConfig:
    """The published probe: 100 steps of 64 sequences at a constant 1e-4."""

    steps: int = 100
    """Optimizer steps (published: 100)."""
    batch: int = 64
    """Sequences per step (published: 64)."""
    optimizer: OptimizerConfig = field(default_factory=_probe_optimizer)
    """Learning rate 1e-4, constant (published); the rest as in pretraining."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Microbatch, precision and parallelism."""
    data: str | None = None
    """Prompt/answer data: a file or folder of JSONL(.gz), local or an asset reference. None: the corpus' reference split."""
    max_examples: int | None = None
    """Use only so many prompt/answer examples, from the beginning of the data."""
    evaluate_tokens: int = 2_000_000
    """At most so many tokens of the reference split are measured before and after."""
    log_every: int = 10
    """Steps whose mean training loss makes one row."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluate_tokens", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if self.batch % min(self.batch, self.hardware.microbatch):
            raise ValueError(f"batch: {self.batch} is not a multiple of hardware.microbatch = {self.hardware.microbatch}")
        if self.max_examples is not None and self.max_examples < 1:
            raise ValueError(f"max_examples: {self.max_examples} leaves nothing to train on")


def fit_probe(cfg: ProbeConfig, *, corpus: Corpus, model: Checkpoint, out: Path, journal: Journal, seed: int) -> Probe:
    """Train from `model` on the reference task; `before` is the plateau checkpoint's own `hf/`, `after` is `out/hf`.

    A killed probe starts over. Raises FileNotFoundError for missing data, ValueError when none of it can be used.
    """
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import measured
    from synpro.lm.shapes import exported_shape
    from synpro.lm.watch import Watch

    rank, _ = trainer.enter(seed)
    if rank == 0:
        for leftover in (out / "hf", out / "scratch"):
            shutil.rmtree(leftover, ignore_errors=True)
        journal.rewind({})
        journal.rejects.start()
    checkpoint.barrier()
    shape, sequence_length = exported_shape(model.dir / "hf")
    module = trainer.build_module(
        shape,
        cfg.optimizer,
        cfg.hardware,
        vocab_size=corpus.vocab_size,
        sequence_length=sequence_length,
        batch=cfg.batch,
        scheduler=trainer.schedule(warmup=0, steps=cfg.steps, anneal=0.0),
        seed=seed,
    )
    checkpoint.load(module, model.dir / "trainer")
    batches = _batches(cfg, corpus, sequence_length, out, journal, seed, first=rank == 0, wait=checkpoint.barrier)
    watch = Watch(
        journal=journal if rank == 0 else None,
        evaluation={"reference": measured(_split(corpus), corpus.eos_id, cfg.evaluate_tokens)},
        evaluate_every=cfg.steps,
        log_every=cfg.log_every,
        label="probe",
        loss_name="loss",
        microbatch=cfg.hardware.microbatch,
    )
    done = trainer.train(module, batches, watch, steps=cfg.steps, folder=out / "scratch" / "olmo")
    before, after = watch.points[0][1], watch.points[-1][1]
    checkpoint.export(
        module, out / "hf", tokenizer=corpus.dir / "tokenizer", context=sequence_length, eos=corpus.eos_id, pad=corpus.pad_id
    )
    if rank == 0:
        shutil.rmtree(out / "scratch")
        result = {"reference_loss_before": before, "reference_loss_after": after, "steps": done.steps}
        (out / "probe.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        journal.say(f"reference loss {before:.4f} before, {after:.4f} after {done.steps} steps on the reference task")
    checkpoint.barrier()
    digest = digest_of({"before": model.digest, "after": digest_files(out, out / "hf")})
    return Probe(before=model.dir / "hf", after=out / "hf", digest=digest)


def _split(corpus: Corpus) -> np.ndarray:
    from synpro.corpus.tokens import read_tokens

    return read_tokens(corpus.dir / "tokens" / "reference.bin", corpus.dtype)


def _batches(
    cfg: ProbeConfig,
    corpus: Corpus,
    sequence_length: int,
    out: Path,
    journal: Journal,
    seed: int,
    *,
    first: bool,
    wait: Callable[[], None],
) -> Batches:
    """The reference task: answers of `cfg.data`, or the reference split in a fresh order every pass."""
    import numpy as np

    from synpro.corpus.mixture import build_epoch
    from synpro.corpus.tokens import split_documents
    from synpro.lm.batches import AnswerBatches, TokenStream

    if cfg.data is not None:
        examples = _answers(cfg, corpus, journal, first)
        return AnswerBatches(
            examples, sequence_length=sequence_length, batch=cfg.batch, eos=corpus.eos_id, pad=corpus.pad_id, seed=seed
        )
    documents = split_documents(_split(corpus), corpus.eos_id)

    def epoch(number: int) -> np.ndarray:
        return build_epoch(documents, int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))

    return TokenStream(
        epoch,
        folder=out / "scratch" / "data",
        sequence_length=sequence_length,
        batch=cfg.batch,
        dtype=corpus.dtype,
        writer=first,
        wait=wait,
    )


def _answers(cfg: ProbeConfig, corpus: Corpus, journal: Journal, first: bool) -> list[Answered]:
    """Tokenised examples; rows that cannot be used go to the reject ledger (of process 0)."""
    from synpro.assets import resolve
    from synpro.lm.answers import Example, read_answers
    from synpro.lm.batches import Answered
    from synpro.lm.loss import plain_tokenizer

    assert cfg.data is not None
    tokenizer = plain_tokenizer(corpus.dir / "tokenizer")
    examples: list[Answered] = []
    rejected = 0
    for row in read_answers(resolve(cfg.data, slot="probe.data", say=journal.say if first else None)):
        if isinstance(row, Example):
            prompt, answer = tokenizer.encode_batch_fast([row.prompt, row.answer], add_special_tokens=False)
            examples.append(Answered(tuple(prompt.ids), tuple(answer.ids)))
            if len(examples) == cfg.max_examples:
                break
        else:
            rejected += 1
            if first:
                journal.rejects.append(row)
    if not examples:
        raise ValueError(f"probe.data: {cfg.data} has no usable row ({rejected} rejected); rows need `prompt` and `answer`")
    if first:
        journal.say(f"reference task: {len(examples):,} prompt/answer examples, {rejected:,} rows rejected")
    return examples
