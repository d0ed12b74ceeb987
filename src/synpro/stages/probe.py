"""Fit the probe: a short training on the reference task from the plateau checkpoint (method.md, step 2).

The paper trains on FLAN-style prompts with the loss on the answers. So do we where `data` names such data; without it the
reference task is the corpus' reference split, with the loss on every token. Optimizer state comes with the checkpoint.

Beyond the paper: the probe can be replicated with other orders of the data. Influence is then the mean over the replicas, and
how far they rank the corpus' passages alike (Spearman) says how much of it is the order's doing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    replicas: int = 1
    """Probes from the same checkpoint, each with its own order of the data (paper: 1). Costs that many times as much."""
    ranked_passages: int = 1000
    """At most so many passages of the corpus, evenly spread, are ranked by each replica and compared."""
    log_every: int = 10
    """Steps whose mean training loss makes one row."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluate_tokens", "log_every", "replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if self.ranked_passages < 2:
            raise ValueError(f"ranked_passages: {self.ranked_passages} cannot be ranked; use at least 2")
        if self.batch % min(self.batch, self.hardware.microbatch):
            raise ValueError(f"batch: {self.batch} is not a multiple of hardware.microbatch = {self.hardware.microbatch}")
        if self.max_examples is not None and self.max_examples < 1:
            raise ValueError(f"max_examples: {self.max_examples} leaves nothing to train on")


def fit_probe(cfg: ProbeConfig, *, corpus: Corpus, model: Checkpoint, out: Path, journal: Journal, seed: int) -> Probe:
    """Train from `model` on the reference task; `before` is the plateau checkpoint's own `hf/`, `after` is `out/hf`, and the
    further replicas are `out/replica-2/hf` and so on.

    A killed probe starts over. Raises FileNotFoundError for missing data, ValueError when none of it can be used.
    """
    from synpro.lm import checkpoint, trainer

    rank, _ = trainer.enter(seed)
    folders = [out, *(out / f"replica-{number}" for number in range(2, cfg.replicas + 1))]
    if rank == 0:
        for leftover in (*out.glob("replica-*"), out / "hf", out / "scratch"):
            shutil.rmtree(leftover, ignore_errors=True)
        journal.rewind({})
        journal.rejects.start()
    checkpoint.barrier()
    losses = []
    for number, folder in enumerate(folders, 1):
        part = (number, cfg.replicas)
        losses.append(_replica(cfg, corpus, model, folder / "hf", out / "scratch", journal, _seed(seed, number), part))
    found: dict[str, Any] = {
        "reference_loss_before": losses[0][0],
        "reference_loss_after": sum(after for _, after in losses) / len(losses),
        "steps": cfg.steps,
    }
    afters = [folder / "hf" for folder in folders]
    if rank == 0:
        if cfg.replicas > 1:
            ranks = _compare(cfg, corpus, model, afters)
            (out / "replicas.json").write_text(json.dumps(ranks, indent=1) + "\n", encoding="utf-8")
            found |= {"replicas": cfg.replicas, "rank_correlation": ranks["rank_correlation"]}
            found |= {"rank_correlation_lowest": ranks["lowest"], "ranked_passages": len(ranks["passages"])}
        (out / "probe.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        journal.say(_line(found))
    checkpoint.barrier()
    digest = digest_of({"before": model.digest, "after": digest_files(out, *afters)})
    return Probe(before=model.dir / "hf", after=afters[0], digest=digest, replicas=tuple(afters[1:]))


def _seed(seed: int, number: int) -> int:
    """Of a replica; the first is that of a probe that has no others."""
    return seed if number == 1 else int(digest_of([seed, number])[:8], 16) & 0x7FFFFFFF


def _replica(
    cfg: ProbeConfig,
    corpus: Corpus,
    model: Checkpoint,
    out: Path,
    scratch: Path,
    journal: Journal,
    seed: int,
    part: tuple[int, int],
) -> tuple[float, float]:
    """Train one probe into `out`; reference loss before and after. `scratch` is removed."""
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import measured
    from synpro.lm.shapes import exported_shape
    from synpro.lm.watch import Watch

    rank, _ = trainer.enter(seed)
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
    first = rank == 0
    batches = _batches(cfg, corpus, sequence_length, scratch, journal, seed, part[0], first=first, wait=checkpoint.barrier)
    watch = Watch(
        journal=journal if first else None,
        evaluation={"reference": measured(_split(corpus), corpus.eos_id, cfg.evaluate_tokens)},
        evaluate_every=cfg.steps,
        log_every=cfg.log_every,
        label="probe" if part[1] == 1 else f"probe {part[0]} of {part[1]}",
        loss_name="loss",
        microbatch=cfg.hardware.microbatch,
        part=part,
    )
    trainer.train(module, batches, watch, steps=cfg.steps, folder=scratch / "olmo")
    checkpoint.export(
        module, out, tokenizer=corpus.dir / "tokenizer", context=sequence_length, eos=corpus.eos_id, pad=corpus.pad_id
    )
    checkpoint.barrier()
    if first:
        shutil.rmtree(scratch)
    checkpoint.barrier()
    return watch.points[0][1], watch.points[-1][1]


def _compare(cfg: ProbeConfig, corpus: Corpus, model: Checkpoint, afters: Sequence[Path]) -> dict[str, Any]:
    """How each replica ranks passages of the corpus, and how far two of them agree (Spearman, pair by pair).

    Raises ValueError when the corpus has fewer than two passages.
    """
    from synpro.corpus.store import passages
    from synpro.lm.influence import Influence
    from synpro.measure.agreement import rank_correlation

    whole = passages(corpus)
    if len(whole) < 2:
        raise ValueError(f"replicas: {len(whole)} passages cannot be ranked; give prepare more text, or ask for 1 replica")
    count = min(len(whole), cfg.ranked_passages)
    chosen = [whole[i * len(whole) // count] for i in range(count)]
    influence = Influence(model.dir / "hf", *afters).score_each([p.text for p in chosen])
    pairs = {
        f"{i + 1} and {j + 1}": rank_correlation(influence[i], influence[j]) for i, j in combinations(range(len(afters)), 2)
    }
    known = [value for value in pairs.values() if value is not None]
    return {
        "rank_correlation": sum(known) / len(known) if known else None,
        "lowest": min(known, default=None),
        "pairs": pairs,
        "passages": [p.id for p in chosen],
        "influence": influence,
    }


def _line(found: dict[str, Any]) -> str:
    before, after = found["reference_loss_before"], found["reference_loss_after"]
    told = f"reference loss {before:.4f} before, {after:.4f} after {found['steps']} steps on the reference task"
    if "replicas" not in found:
        return told
    mean, lowest = found["rank_correlation"], found["rank_correlation_lowest"]
    said = "cannot be told, a replica gives all of them the same" if mean is None else f"{mean:.3f} (lowest {lowest:.3f})"
    return f"{told}, mean of {found['replicas']} replicas; rank correlation over {found['ranked_passages']} passages: {said}"


def _split(corpus: Corpus) -> np.ndarray:
    from synpro.corpus.tokens import read_tokens

    return read_tokens(corpus.dir / "tokens" / "reference.bin", corpus.dtype)


def _batches(
    cfg: ProbeConfig,
    corpus: Corpus,
    sequence_length: int,
    scratch: Path,
    journal: Journal,
    seed: int,
    replica: int,
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
        examples = _answers(cfg, corpus, journal, first and replica == 1)  # rejects are told once
        return AnswerBatches(
            examples, sequence_length=sequence_length, batch=cfg.batch, eos=corpus.eos_id, pad=corpus.pad_id, seed=seed
        )
    documents = split_documents(_split(corpus), corpus.eos_id)

    def epoch(number: int) -> np.ndarray:
        return build_epoch(documents, int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))

    return TokenStream(
        epoch,
        folder=scratch / "data",
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
