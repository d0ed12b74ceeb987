"""Training batches as pure functions of the step: the same step always gives the same rows, however the run got there.

Suffixes: `_B_T` batch by time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

IGNORE = -100
"""Label of a position that is not trained on (OLMo-core's and PyTorch's convention)."""


@dataclass(frozen=True)
class Rows:
    """One global batch."""

    input_B_T: np.ndarray
    """int64 token ids."""
    label_B_T: np.ndarray | None = None
    """int64 targets, already shifted: position t holds the token after `input[t]`, or IGNORE. None: every next token."""
    keep_B: np.ndarray | None = None
    """False for a sequence the instance filter drops."""


class Batches(Protocol):
    """What a training run reads: the global batch of a step, counted from 0."""

    def __call__(self, step: int) -> Rows: ...

    @property
    def tokens(self) -> int:
        """Positions in a batch, padding included."""
        ...


class TokenStream:
    """Epoch after epoch of shuffled documents, joined end to end and cut into sequences.

    `epoch(n)` (n from 1) gives the tokens of the n-th pass over the mixture, documents in a fresh order, EOS after each. What
    does not fill a sequence at the end of a pass begins the next one, so that no text is dropped. One process builds a
    pass and writes it to `folder`; all map the file, so that a corpus larger than memory per process is no burden.

    With `noised`, a pass is `(2, T)`: what the model reads, and the same text without noise, which it is to predict.
    """

    def __init__(
        self,
        epoch: Callable[[int], np.ndarray],
        *,
        folder: Path,
        sequence_length: int,
        batch: int,
        dtype: str,
        noised: bool = False,
        writer: bool = True,
        wait: Callable[[], None] | None = None,
    ) -> None:
        """`writer`: whether this process builds passes; `wait`: a barrier between the processes."""
        self._epoch = epoch
        self._folder = folder
        self._shape = (batch, sequence_length)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._rows = 2 if noised else 1
        self._writer = writer
        self._wait = wait or (lambda: None)
        self._number = 0
        self._start = 0  # position of the open pass in the endless stream
        self._open: np.ndarray = np.empty((self._rows, 0), self._dtype)

    @property
    def tokens(self) -> int:
        return self._shape[0] * self._shape[1]

    @property
    def epochs(self) -> int:
        """Passes begun so far."""
        return self._number

    def __call__(self, step: int) -> Rows:
        """Raises ValueError for a mixture without tokens."""
        first = step * self.tokens
        if first < self._start:
            self._number, self._start, self._open = 0, 0, np.empty((self._rows, 0), self._dtype)
        parts, missing = [], self.tokens
        while missing:
            offset = first + self.tokens - missing - self._start
            if offset >= self._open.shape[1]:
                self._advance()
                continue
            part = self._open[:, offset : offset + missing]
            parts.append(part)
            missing -= part.shape[1]
        both = np.concatenate(parts, axis=1).astype(np.int64).reshape(self._rows, *self._shape)
        input_B_T, clean_B_T = both[0], both[-1]
        keep_B = np.array([not repetitive(row) for row in clean_B_T])
        if self._rows == 1:
            return Rows(input_B_T, keep_B=keep_B)
        label_B_T = np.full_like(clean_B_T, IGNORE)
        label_B_T[:, :-1] = clean_B_T[:, 1:]
        return Rows(input_B_T, label_B_T, keep_B)

    def _advance(self) -> None:
        self._start += self._open.shape[1]
        self._number += 1
        file = self._folder / f"pass-{self._number:05d}.bin"
        if self._writer:
            self._folder.mkdir(parents=True, exist_ok=True)
            tokens = np.asarray(self._epoch(self._number))
            if not tokens.size:
                raise ValueError("the training mixture has no tokens; check the corpus and the mixture's shares")
            draft = file.with_suffix(".tmp")
            tokens.astype(self._dtype, copy=False).tofile(draft)
            draft.replace(file)
        self._wait()
        self._open = np.memmap(file, mode="r", dtype=self._dtype).reshape(self._rows, -1)
        if self._writer:
            for old in self._folder.glob("pass-*.bin"):
                if old.name < file.name:
                    old.unlink()


def measured(tokens: np.ndarray, eos: int, limit: int) -> np.ndarray:
    """The first `limit` tokens of a split, an EOS before them so that the first is scored too.

    Raises ValueError for an empty split.
    """
    if not len(tokens):
        raise ValueError("a split to be measured has no tokens; give `prepare` a larger corpus or a larger share for it")
    return np.concatenate([np.array([eos], tokens.dtype), tokens[:limit]])


def repetitive(ids: np.ndarray, *, max_period: int = 13, times: int = 32) -> bool:
    """Does a pattern of 1 to `max_period` tokens stand `times` or more times in a row? (method.md: the instance filter.)

    Tokens that repeat with period p equal the token p before them; a run of `p * (times - 1)` such tokens is `times` periods.
    """
    for period in range(1, max_period + 1):
        need = period * (times - 1)
        if len(ids) < need + period:
            break
        equal = ids[period:] == ids[:-period]
        breaks = np.flatnonzero(~equal)
        edges = np.concatenate(([-1], breaks, [len(equal)]))
        if int(np.diff(edges).max()) - 1 >= need:
            return True
    return False


@dataclass(frozen=True)
class Answered:
    """A tokenised prompt and its answer; the loss is on the answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class AnswerBatches:
    """One prompt and answer per row, the loss on the answer and the EOS after it; shuffled anew every pass.

    Rows are padded to the longest of their batch. A prompt that does not fit beside its answer loses its beginning; an answer
    longer than the sequence its end.
    """

    def __init__(
        self, examples: Sequence[Answered], *, sequence_length: int, batch: int, eos: int, pad: int, seed: int
    ) -> None:
        if not examples:
            raise ValueError("there are no prompt/answer examples to train on")
        self._examples = examples
        self._length = sequence_length
        self._batch = batch
        self._eos, self._pad, self._seed = eos, pad, seed

    @property
    def tokens(self) -> int:
        return self._batch * self._length

    def __call__(self, step: int) -> Rows:
        rows = [self._row(self._example(i)) for i in range(step * self._batch, (step + 1) * self._batch)]
        width = max(len(ids) for ids, _ in rows) - 1
        input_B_T = np.full((self._batch, width), self._pad, np.int64)
        label_B_T = np.full((self._batch, width), IGNORE, np.int64)
        for b, (ids, answer) in enumerate(rows):
            input_B_T[b, : len(ids) - 1] = ids[:-1]
            label_B_T[b, len(ids) - 1 - answer : len(ids) - 1] = ids[len(ids) - answer :]
        return Rows(input_B_T, label_B_T)

    def _example(self, index: int) -> Answered:
        epoch, place = divmod(index, len(self._examples))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples))
        return self._examples[int(order[place])]

    def _row(self, example: Answered) -> tuple[list[int], int]:
        """Ids (EOS, prompt, answer, EOS: at most one more than the sequence) and how many at the end are trained on."""
        answer = [*example.answer, self._eos][: self._length]
        room = self._length - len(answer)
        prompt = list(example.prompt[len(example.prompt) - room :] if room < len(example.prompt) else example.prompt)
        return [self._eos, *prompt, *answer], len(answer)
