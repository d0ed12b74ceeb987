"""What a model has absorbed of its training text: cloze items answered without it, and the loss of other wordings of it.

The method claims that text is learned more thoroughly when it is seen in other forms. Held-out loss cannot tell; this measures
it (ours, the paper has nothing of the kind). Of the passages of the train split:

- *cloze*: a name, number or year is to be told from others of its kind (`measure/absorption.py`) in the passages' own wording,
  in texts that say the same in other words and were never trained on, and, for comparison, in held-out documents.
- *loss* of the passages and of those other wordings. A model that knows the wording alone has a low loss of the first.

The other wordings are by a generator, so that a model trained on texts of the same generator knows their style: *unseen* are
its texts about passages that are not in the train split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from synpro.records import Absorption, Checkpoint, Corpus, Shard, digest_files
from synpro.runner.context import StepContext
from synpro.schema import setting

T = TypeVar("T")
Texts = list[tuple[str, str, str]]
"""(document, text, the text that it says again)."""
MAX_TEXTS = 4_000
"""Texts of each kind that are read at most, evenly spread: a loss over more is hardly surer, and a corpus may have millions."""


@dataclass(frozen=True)
class AbsorptionConfig:
    """How much is asked."""

    max_items: int = setting(500, unit="items", source="ours", min=1)
    """Cloze items of each kind of text, evenly spread."""
    distractors: int = setting(9, unit="values", source="ours", min=1)
    """Wrong values beside the right one."""
    batch_tokens: int = setting(16_384, unit="tokens", source="ours", min=1, execution=True)
    """Padded tokens per forward pass."""


def absorb(
    cfg: AbsorptionConfig,
    *,
    corpus: Corpus,
    model: Checkpoint,
    ctx: StepContext,
    held_back: Shard | None = None,
    written_from: Corpus | None = None,
) -> Absorption:
    """Measure the model in `model.dir/hf`; writes `cloze.parquet` and `losses.parquet`. The seed has no effect.

    `corpus`: whose train split is asked about. `held_back`: texts that no model was trained on, generated from `written_from`
    (by default from `corpus`).
    """
    from synpro.corpus.store import CLOZE, TEXT_LOSSES, read_documents, read_passages, read_rows, write_rows
    from synpro.lm.loss import load_model, text_losses
    from synpro.measure.absorption import cloze_items, rank_of_right, value_pool

    ctx.logger.truncate({})
    network, folder = load_model(model.dir / "hf"), model.dir / "hf"
    wide = written_from or corpus
    rows = (row for c in (wide, corpus) for row in read_rows(c.dir / "documents.parquet", ["id", "group"]))
    groups = {row["id"]: row["group"] or row["id"] for row in rows}
    passages = list(read_rows(corpus.dir / "passages.parquet", ["id", "document"]))
    seen, trained = {p["document"] for p in passages}, read_passages(corpus.dir, {p["id"] for p in evenly(passages)})
    columns = ["passage", "document", "text", "kept"]
    reworded = [row for row in read_rows(held_back.dir / "rewrites.parquet", columns) if row["kept"]] if held_back else []
    again = {k: evenly([r for r in reworded if (r["document"] in seen) == (k == "rephrased")]) for k in ("rephrased", "unseen")}
    sources = {p.id: p.text for p in read_passages(wide.dir, {r["passage"] for some in again.values() for r in some})}
    texts: dict[str, Texts] = {"train": [(p.document, p.text, p.text) for p in trained]}
    texts |= {k: [(r["document"], r["text"], sources[r["passage"]]) for r in some] for k, some in again.items()}
    asked = {k: v for k, v in texts.items() if k != "unseen"}
    asked["heldout"] = [(d.id, d.text, d.text) for d in evenly(list(read_documents(corpus.dir, "heldout")))]
    seen_values, other_values = (value_pool(text for _, text, _ in asked[kind]) for kind in ("train", "heldout"))
    pools = {"train": seen_values, "rephrased": seen_values, "heldout": other_values}  # right and wrong are equally known
    items = {k: cloze_items(found, pools[k], most=cfg.max_items, distractors=cfg.distractors) for k, found in asked.items()}
    sentences = [sentence for some in items.values() for item in some for sentence in item.sentences]
    plain = [text for found in texts.values() for _, text, _ in found]

    def progress(done: int, total: int) -> None:
        ctx.logger.progress(done, total, "cloze items and losses")

    losses = iter(text_losses(network, folder, [*sentences, *plain], batch_tokens=cfg.batch_tokens, progress=progress))
    answers = []
    for kind, some in items.items():
        for item in some:
            rank = rank_of_right([next(losses)[0] for _ in item.options])
            given = {"value": item.options[0], "rank": rank, "options": len(item.options)}
            answers.append(
                {"text": kind, "document": item.document, "group": groups[item.document], "kind": item.kind, **given}
            )
        ranks = [row["rank"] for row in answers if row["text"] == kind]
        if ranks:
            right = sum(rank == 1 for rank in ranks) / len(ranks)
            ctx.logger.log(f"cloze, {kind}: {right:.1%} of {len(ranks)} right, chance {1 / (1 + cfg.distractors):.1%}")
    measured = (
        {"text": kind, "document": document, "group": groups[document], "nll": nats, "tokens": tokens}
        for (kind, document), (nats, tokens) in zip(
            ((k, t[0]) for k, found in texts.items() for t in found), losses, strict=True
        )
    )
    files = ctx.out / "cloze.parquet", ctx.out / "losses.parquet"
    write_rows(files[0], CLOZE, answers)
    write_rows(files[1], TEXT_LOSSES, measured)
    return Absorption(ctx.out, digest_files(ctx.out, *files))


def evenly(items: Sequence[T]) -> list[T]:
    """At most MAX_TEXTS of them."""
    count = min(len(items), MAX_TEXTS)
    return [items[i * len(items) // count] for i in range(count)]
