"""Prompts and completions for the probe, tokenized, in batches with the loss on the completion.

Suffix: `_B_T` batch by time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synpro.lm.batches import ALL, IGNORE_INDEX, Batch


@dataclass(frozen=True)
class PromptCompletion:
    """A tokenized prompt and its completion; the loss is on the completion."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


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
        self.batch_size = batch_size
        self._eos, self._pad, self._seed = eos, pad, seed

    @property
    def tokens_per_batch(self) -> int:
        return self.batch_size * self._length

    def __call__(self, step: int, rows: slice = ALL) -> Batch:
        wanted = range(step * self.batch_size, (step + 1) * self.batch_size)[rows]
        texts = [self._row(self._example(i)) for i in wanted]
        width = max(len(ids) for ids, _ in texts) - 1
        input_B_T = np.full((len(texts), width), self._pad, np.int64)
        label_B_T = np.full((len(texts), width), IGNORE_INDEX, np.int64)
        for b, (ids, trained) in enumerate(texts):
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
