"""Fit the probe: a short training on the reference task from the plateau checkpoint (method.md, step 2).

The paper trains on FLAN-style prompts with the loss on the answers. We do the same where `data` names such data; otherwise the
reference task is the corpus' reference split, with the loss on every token. Optimizer state comes with the checkpoint.

On a model that has seen its corpus many times, influence may measure memorisation: whatever is trained next, the loss of what
was memorised rises. Beyond the paper, every probe therefore compares the influence of texts that were trained on with that of
held-out texts, and `contrast = "train"` measures it against the same model trained for as many steps on its own corpus.

Beyond the paper: the probe can be replicated with other orders of the data. Influence is then the mean over the replicas, and
the rank correlation (Spearman) of their influence on the corpus' passages says how much the order of the data matters.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from synpro.lm.training_config import HardwareConfig, OptimizerConfig
from synpro.records import Checkpoint, Corpus, Probe, digest_files, digest_of
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.schema import setting

if TYPE_CHECKING:
    import numpy as np

    from synpro.lm.batches import Batches, TokenStream
    from synpro.lm.prompt_completion import PromptCompletionBatches


MEMORIZATION_TEXTS, MEMORIZATION_CHARS = 64, 2000
"""How many texts of either kind are compared at most, evenly spread, and how much of each."""

RANKED_PASSAGES = 1000
"""At most so many passages of the corpus, evenly spread, are ranked by each replica and compared."""


@dataclass(frozen=True)
class ProbeConfig:
    """The published probe: 100 steps of 64 sequences at a constant 1e-4."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "optimizer": "probe.learning_rate", "ranked_passages": ""}
    FIXED: ClassVar[Mapping[str, int]] = {"ranked_passages": RANKED_PASSAGES}

    steps: int = setting(100, unit="steps", source="published", min=1)
    """Optimizer steps (published: 100)."""
    batch_size: int = setting(64, unit="sequences", source="published", min=1)
    """Sequences per step (published: 64)."""
    learning_rate: float = setting(1e-4, source="published", above=0)
    """Constant learning rate; the other settings of the optimizer are the published ones of pretraining."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Micro-batch size, dtype and parallelism."""
    data: str | None = None
    """Prompt/answer data: a path as in `prepare.sources`. None: the corpus' reference split."""
    max_examples: int | None = setting(None, unit="examples", min=1)
    """Use only so many prompt/answer examples, from the beginning of the data; None uses all."""
    max_rejected: float = setting(0.1, source="ours", min=0, max=1, execution=True)
    """Share of the rows and files of `data` that may be unusable; above it the step stops with the most frequent reasons."""
    evaluate_tokens: int = setting(2_000_000, unit="tokens", source="ours", min=1)
    """About so many tokens of the reference split, evenly spread over its documents, are measured before and after."""
    contrast: Literal["none", "train"] = setting("none", source="ours")
    """The model that the probe is compared with. `none`: the checkpoint (published). `train`: the checkpoint after as many
    steps on text of the train split, so that what any further training does to a text cancels out (one more probe)."""
    replicas: int = setting(1, source="paper", min=1)
    """Probes from the same checkpoint, each with its own order of the data (paper: 1). Costs that many times as much."""
    log_every: int = setting(10, unit="steps", source="ours", min=1, execution=True)
    """Steps whose mean training loss is logged as one row."""

    def __post_init__(self) -> None:
        if self.batch_size % min(self.batch_size, self.hardware.micro_batch_size):
            micro = self.hardware.micro_batch_size
            raise ValueError(f"batch_size: {self.batch_size} is not a multiple of hardware.micro_batch_size = {micro}")


def fit_probe(cfg: ProbeConfig, *, corpus: Corpus, model: Checkpoint, ctx: StepContext) -> Probe:
    """Train from `model` on the reference task.

    `before` is the checkpoint's own `hf/` or `contrast/hf`, `after` is `hf/` of this step, and further replicas are
    `replica-2/hf` and so on. A killed probe starts over. Raises ValueError for missing data and when none of it
    can be used.
    """
    from olmo_core.distributed.utils import barrier

    out = ctx.out
    folders = [out, *(out / f"replica-{number}" for number in range(2, cfg.replicas + 1))]
    if ctx.group.is_first:
        for leftover in (*out.glob("replica-*"), out / "contrast", out / "hf", out / "scratch"):
            shutil.rmtree(leftover, ignore_errors=True)
        ctx.logger.truncate({})
        ctx.logger.rejects.clear()
    barrier()
    losses = [_train_replica(cfg, corpus, model, folder / "hf", number, ctx) for number, folder in enumerate(folders, 1)]
    if not all(math.isfinite(loss) for pair in losses for loss in pair):
        shown = ", ".join(f"{before:.3f} to {after:.3f}" for before, after in losses)
        raise ValueError(f"the probe's loss is no number ({shown}): training has diverged; lower probe.learning_rate")
    before, afters = model.dir / "hf", [folder / "hf" for folder in folders]
    if cfg.contrast == "train":
        before = out / "contrast" / "hf"
        _train_replica(cfg, corpus, model, before, 0, ctx)
    if ctx.group.is_first:
        summary: dict[str, Any] = {
            "reference_loss_before": losses[0][0],
            "reference_loss_after": sum(after for _, after in losses) / len(losses),
            "steps": cfg.steps,
            "contrast": cfg.contrast,
            "memorization": _measure_memorization(corpus, before, afters[0]),
        }
        if cfg.replicas > 1:
            ranking = _compare_replicas(cfg, corpus, before, afters)
            (out / "replicas.json").write_text(json.dumps(ranking, indent=1) + "\n", encoding="utf-8")
            summary |= {"replicas": cfg.replicas, "rank_correlation": ranking["rank_correlation"]}
            summary |= {"rank_correlation_lowest": ranking["lowest"], "ranked_passages": len(ranking["passages"])}
        (out / "probe.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        ctx.logger.log(_describe(summary))
    barrier()
    own = [] if before == model.dir / "hf" else [before]
    digest = digest_of({"before": model.digest, "after": digest_files(out, *own, *afters)})
    return Probe(before=before, after=afters[0], digest=digest, replicas=tuple(afters[1:]))


def _train_replica(
    cfg: ProbeConfig, corpus: Corpus, model: Checkpoint, folder: Path, number: int, ctx: StepContext
) -> tuple[float, float]:
    """Train probe `number`, from 1, and export it to `folder`; the reference loss before and after, in nats per token. Number 0
    is the contrast, which reads the train split."""
    from olmo_core.distributed.utils import barrier

    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import eval_tokens
    from synpro.lm.callbacks import PretrainCallback
    from synpro.lm.model_config import exported_model_config

    seed, scratch = _replica_seed(ctx.seed, number), ctx.out / "scratch"
    shape, sequence_length = exported_model_config(model.dir / "hf")
    module = trainer.build_module(
        shape,
        OptimizerConfig(learning_rate=cfg.learning_rate),
        cfg.hardware,
        vocab_size=corpus.vocab_size,
        sequence_length=sequence_length,
        batch_size=cfg.batch_size,
        scheduler=trainer.lr_schedule(warmup_steps=0, steps=cfg.steps, decay_fraction=0.0),
        seed=seed,
    )
    checkpoint.load(module, model.dir / "trainer")
    batches: Batches
    if cfg.data is None or number == 0:
        batches = _split_batches("reference" if number else "train", cfg, corpus, sequence_length, seed, ctx)
    else:
        # Every replica reads the same rows; their rejects are logged once.
        batches = _prompt_batches(cfg, corpus, sequence_length, seed, ctx.logger if number == 1 else None)
    callback = PretrainCallback(
        logger=ctx.logger if ctx.group.is_first else None,
        eval_sets={"reference": eval_tokens(_split_tokens(corpus, "reference"), corpus.eos_id, cfg.evaluate_tokens)},
        evaluate_every=cfg.steps,
        log_every=cfg.log_every,
        label=f"probe {number} of {cfg.replicas}" if number else "contrast",
        loss_name="loss" if number else "contrast_loss",
        eval_batch_size=cfg.hardware.micro_batch_size,
        replica=(number, cfg.replicas) if number else (1, 1),
    )
    trainer.train(module, batches, callback, steps=cfg.steps, work_dir=scratch / "olmo")
    checkpoint.export(
        module,
        folder,
        model=shape,
        tokenizer=corpus.dir / "tokenizer",
        context=sequence_length,
        eos=corpus.eos_id,
        pad=corpus.pad_id,
    )
    barrier()
    if ctx.group.is_first:
        shutil.rmtree(scratch)
    barrier()
    return callback.points[0][1], callback.points[-1][1]


def _replica_seed(seed: int, number: int) -> int:
    """The seed of a replica; the first and the contrast have the step's own: that is the probe of a step without replicas."""
    return seed if number <= 1 else int(digest_of([seed, number])[:8], 16) & 0x7FFFFFFF


def _split_tokens(corpus: Corpus, split: str) -> np.ndarray:
    from synpro.corpus.tokens import read_tokens

    return read_tokens(corpus.dir / "tokens" / f"{split}.bin", corpus.dtype)


def _split_batches(
    split: str, cfg: ProbeConfig, corpus: Corpus, sequence_length: int, seed: int, ctx: StepContext
) -> TokenStream:
    """The organic text of a split, in a new order every epoch."""
    import numpy as np

    from synpro.corpus.mixture import build_epoch
    from synpro.corpus.tokens import split_documents
    from synpro.lm.batches import TokenStream

    documents = split_documents(_split_tokens(corpus, split), corpus.eos_id)

    def epoch(number: int) -> np.ndarray:
        return build_epoch(documents, int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))

    return TokenStream(
        epoch,
        folder=ctx.out / "scratch" / "data",
        sequence_length=sequence_length,
        batch_size=cfg.batch_size,
        dtype=corpus.dtype,
        is_first=ctx.group.is_first,
    )


def _prompt_batches(
    cfg: ProbeConfig, corpus: Corpus, sequence_length: int, seed: int, logger: StepLogger | None
) -> PromptCompletionBatches:
    """The rows of `cfg.data`, tokenized, the loss on the answers; rows that cannot be used go to the reject log."""
    from synpro.corpus.prompt_completion import PromptCompletionText, read_prompt_completions
    from synpro.corpus.readers import RejectCount
    from synpro.lm.loss import plain_tokenizer
    from synpro.lm.prompt_completion import PromptCompletion, PromptCompletionBatches

    assert cfg.data is not None
    tokenizer = plain_tokenizer(corpus.dir / "tokenizer")
    logger = logger if logger is not None and logger.is_first else None
    examples: list[PromptCompletion] = []
    rejected, count = 0, RejectCount("probe.data", cfg.max_rejected, "probe.max_rejected")
    for row in read_prompt_completions(cfg.data, logger.log if logger else None):
        if isinstance(row, PromptCompletionText):
            prompt, completion = tokenizer.encode_batch_fast([row.prompt, row.completion], add_special_tokens=False)
            examples.append(PromptCompletion(tuple(prompt.ids), tuple(completion.ids)))
            if len(examples) == cfg.max_examples:
                break
        else:
            rejected += 1
            if logger:
                logger.rejects.append(row)
        count.add(row)
    count.check()
    if not examples:
        raise ValueError(f"probe.data: {cfg.data} has no usable row ({rejected} rejected); rows need `prompt` and `answer`")
    if logger:
        logger.log(f"reference task: {len(examples):,} prompt/answer examples, {rejected:,} rows rejected")
    return PromptCompletionBatches(
        examples, sequence_length=sequence_length, batch_size=cfg.batch_size, eos=corpus.eos_id, pad=corpus.pad_id, seed=seed
    )


def _measure_memorization(corpus: Corpus, before: Path, after: Path) -> dict[str, float]:
    """Mean influence of texts that were trained on and of held-out texts, in nats per token, and the standard error of the
    difference; no text of the two kinds teaches more than the other, so a difference is what the model memorised."""
    from synpro.corpus.store import read_documents
    from synpro.lm.influence import Influence

    means, variances = [], []
    scorer = Influence(before, after)
    for split in ("train", "heldout"):
        count = corpus.documents[split]
        wanted = {i * count // MEMORIZATION_TEXTS for i in range(MEMORIZATION_TEXTS)}
        texts = [d.text[:MEMORIZATION_CHARS] for i, d in enumerate(read_documents(corpus.dir, split)) if i in wanted]
        values = scorer.score(texts)
        means.append(sum(values) / len(values))
        variances.append(sum((v - means[-1]) ** 2 for v in values) / max(1, len(values) - 1) / len(values))
    return {"train": means[0], "heldout": means[1], "error": math.sqrt(sum(variances))}


def _compare_replicas(cfg: ProbeConfig, corpus: Corpus, before: Path, afters: Sequence[Path]) -> dict[str, Any]:
    """Influence of passages of the corpus by each replica, and the rank correlation (Spearman) of every two replicas.

    Raises ValueError when the corpus has fewer than two passages.
    """
    from synpro.corpus.store import read_passages, read_rows
    from synpro.lm.influence import Influence
    from synpro.measure.agreement import spearman

    available = [row["id"] for row in read_rows(corpus.dir / "passages.parquet", ["id"])]
    if len(available) < 2:
        raise ValueError(
            f"probe.replicas: the corpus has {len(available)} passages, which cannot be ranked; give more text to "
            "prepare.sources, or set probe.replicas = 1"
        )
    count = min(len(available), RANKED_PASSAGES)
    ranked = read_passages(corpus.dir, {available[i * len(available) // count] for i in range(count)})
    influence = Influence(before, *afters).score_each([p.text for p in ranked])
    pairs = {f"{i + 1} and {j + 1}": spearman(influence[i], influence[j]) for i, j in combinations(range(len(afters)), 2)}
    known = [value for value in pairs.values() if value is not None]
    return {
        "rank_correlation": sum(known) / len(known) if known else None,
        "lowest": min(known, default=None),
        "pairs": pairs,
        "passages": [p.id for p in ranked],
        "influence": influence,
    }


def _describe(summary: dict[str, Any]) -> str:
    """The result in one line of the log."""
    before, after = summary["reference_loss_before"], summary["reference_loss_after"]
    seen = summary["memorization"]
    line = (
        f"reference loss {before:.4f} before, {after:.4f} after {summary['steps']} steps on the reference task; influence of "
        f"texts that were trained on {seen['train']:+.4f}, of held-out texts {seen['heldout']:+.4f}"
    )
    if "replicas" not in summary:
        return line
    mean, lowest = summary["rank_correlation"], summary["rank_correlation_lowest"]
    found = "unknown, a replica gives all of them the same influence" if mean is None else f"{mean:.3f} (lowest {lowest:.3f})"
    return (
        f"{line}, mean of {summary['replicas']} replicas; rank correlation over {summary['ranked_passages']} passages: {found}"
    )
