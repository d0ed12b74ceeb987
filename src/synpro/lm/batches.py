"""Training batches as pure functions of the step: a step always gives the same rows, however the run reached it.

Suffixes: `_B_T` batch by time, `_N_T` tracks by time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

IGNORE_INDEX = -100
"""Label of a position that is not trained on (the convention of PyTorch and OLMo-core)."""


@dataclass(frozen=True)
class Batch:
    """One global batch."""

    input_B_T: np.ndarray
    """int64 token ids."""
    label_B_T: np.ndarray | None = None
    """int64 targets, already shifted: position t holds the token after `input[t]`, or IGNORE_INDEX. None: every next token."""
    keep_B: np.ndarray | None = None
    """False for a sequence that the instance filter drops."""


class Batches(Protocol):
    """What a training run reads: the global batch of a step, counted from 0."""

    def __call__(self, step: int) -> Batch: ...

    @property
    def tokens_per_batch(self) -> int:
        """Positions in a batch, padding included."""
        ...


class TokenStream:
    """Epoch after epoch of shuffled documents, joined end to end and cut into sequences.

    `epoch(n)`, n from 1, gives the tokens of the n-th epoch: documents in a new order, EOS after each. Tokens that do not fill
    a sequence at the end of an epoch begin the next one, so no text is lost. One process builds an epoch and writes it to
    `folder`; all processes map the file, so memory does not grow with the corpus.

    With `has_noise`, an epoch is `(2, T)`: what the model reads, and the same text without noise, which it predicts.
    """

    def __init__(
        self,
        epoch: Callable[[int], np.ndarray],
        *,
        folder: Path,
        sequence_length: int,
        batch_size: int,
        dtype: str,
        has_noise: bool = False,
        is_first: bool = True,
        barrier: Callable[[], None] | None = None,
    ) -> None:
        """`is_first`: whether this process builds the epochs; `barrier`: waits for all processes."""
        self._epoch = epoch
        self._folder = folder
        self._shape = (batch_size, sequence_length)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._tracks = 2 if has_noise else 1
        self._is_first = is_first
        self._barrier = barrier or (lambda: None)
        self._rewind()

    def _rewind(self) -> None:
        self._number = 0
        self._start = 0  # position of the current epoch in the endless stream
        self._current_N_T: np.ndarray = np.empty((self._tracks, 0), self._dtype)

    @property
    def tokens_per_batch(self) -> int:
        return self._shape[0] * self._shape[1]

    @property
    def epochs(self) -> int:
        """Epochs begun so far."""
        return self._number

    def __call__(self, step: int) -> Batch:
        """The batch of a step. Raises ValueError for a mixture without tokens."""
        first = step * self.tokens_per_batch
        if first < self._start:
            self._rewind()
        parts, missing = [], self.tokens_per_batch
        while missing:
            offset = first + self.tokens_per_batch - missing - self._start
            if offset >= self._current_N_T.shape[1]:
                self._next_epoch()
                continue
            part = self._current_N_T[:, offset : offset + missing]
            parts.append(part)
            missing -= part.shape[1]
        both = np.concatenate(parts, axis=1).astype(np.int64).reshape(self._tracks, *self._shape)
        input_B_T, clean_B_T = both[0], both[-1]
        keep_B = np.array([not is_repetitive(row) for row in clean_B_T])
        if self._tracks == 1:
            return Batch(input_B_T, keep_B=keep_B)
        label_B_T = np.full_like(clean_B_T, IGNORE_INDEX)
        label_B_T[:, :-1] = clean_B_T[:, 1:]
        return Batch(input_B_T, label_B_T, keep_B)

    def _next_epoch(self) -> None:
        self._start += self._current_N_T.shape[1]
        self._number += 1
        file = self._folder / f"pass-{self._number:05d}.bin"
        if self._is_first:
            self._folder.mkdir(parents=True, exist_ok=True)
            tokens = np.asarray(self._epoch(self._number))
            if not tokens.size:
                raise ValueError("the training mixture has no tokens; check the train split and pretrain.mixture")
            draft = file.with_suffix(".tmp")
            tokens.astype(self._dtype, copy=False).tofile(draft)
            draft.replace(file)
        self._barrier()
        self._current_N_T = np.memmap(file, mode="r", dtype=self._dtype).reshape(self._tracks, -1)
        if self._is_first:
            for old in self._folder.glob("pass-*.bin"):
                if old.name < file.name:
                    old.unlink()


def eval_tokens(tokens: np.ndarray, eos: int, limit: int) -> np.ndarray:
    """The first `limit` tokens of a split, with an EOS before them so that the first token is scored too.

    Raises ValueError for an empty split.
    """
    if not len(tokens):
        raise ValueError(
            "a split to be measured has no tokens; give more text to prepare.sources, or raise prepare.reference_share and "
            "prepare.heldout_share"
        )
    return np.concatenate([np.array([eos], tokens.dtype), tokens[:limit]])


def is_repetitive(ids: np.ndarray, *, max_period: int = 13, times: int = 32) -> bool:
    """Whether a pattern of 1 to `max_period` tokens occurs `times` or more times in a row (the paper's instance filter).

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
