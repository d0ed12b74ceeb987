"""Training batches as pure functions of the step: a step always gives the same rows, however the run reached it.

Suffixes: `_B_T` batch by time, `_N_T` tracks by time.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

IGNORE_INDEX = -100
"""Label of a position that is not trained on (the convention of PyTorch and OLMo-core)."""
ALL = slice(None)
"""Every row of a batch."""
LEAST_DOCUMENT_TOKENS = 64
"""A sample of a split takes fewer documents rather than less than this of each."""


@dataclass(frozen=True)
class Batch:
    """Rows of one global batch."""

    input_B_T: np.ndarray
    """int64 token ids."""
    label_B_T: np.ndarray | None = None
    """int64 targets, already shifted: position t holds the token after `input[t]`, or IGNORE_INDEX. None: every next token."""
    keep_B: np.ndarray | None = None
    """False for a sequence that the instance filter drops."""


class Batches(Protocol):
    """What a training run reads: rows of the global batch of a step, counted from 0."""

    @property
    def batch_size(self) -> int:
        """Rows of a global batch."""
        ...

    def __call__(self, step: int, rows: slice = ALL) -> Batch: ...

    @property
    def tokens_per_batch(self) -> int:
        """Positions in a batch, padding included."""
        ...


class TokenStream:
    """Epoch after epoch of shuffled documents, joined end to end and cut into sequences.

    `epoch(n)`, n from 1, gives the tokens of the n-th epoch: documents in a new order, EOS after each. Tokens that do not fill
    a sequence at the end of an epoch begin the next one, so no text is lost. One process builds an epoch and writes it to
    `folder`, where the others wait for it; all map the file, so memory does not grow with the corpus. `folder` is empty before
    the first process reads from it.

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
        length: Callable[[int], int] | None = None,
    ) -> None:
        """`is_first`: whether this process builds the epochs; `length(n)`: tokens of the n-th one, to pass over it unbuilt."""
        self._epoch, self._length = epoch, length
        self._folder = folder
        self._shape = (batch_size, sequence_length)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._tracks = 2 if has_noise else 1
        self._is_first = is_first
        self._ends = [0]
        """Positions in the endless stream: epoch n begins at `_ends[n - 1]` and ends before `_ends[n]`."""
        self._open: tuple[int, np.ndarray] = (0, np.empty((self._tracks, 0), self._dtype))

    @property
    def batch_size(self) -> int:
        return self._shape[0]

    @property
    def tokens_per_batch(self) -> int:
        return self._shape[0] * self._shape[1]

    @property
    def epochs(self) -> int:
        """The epoch that was read last."""
        return self._open[0]

    def __call__(self, step: int, rows: slice = ALL) -> Batch:
        """Rows of the batch of a step. Raises ValueError for a mixture without tokens."""
        start, stop, _ = rows.indices(self._shape[0])
        first = step * self.tokens_per_batch
        parts_N_T = self._read(first + start * self._shape[1], (stop - start) * self._shape[1])
        if self._is_first:
            # The others need theirs of this step now: a collective operation that waits for them would wait for ever.
            self._read(first, self.tokens_per_batch)
            self._delete_before(first - 2 * self.tokens_per_batch)
        both = np.concatenate(parts_N_T, axis=1).astype(np.int64).reshape(self._tracks, stop - start, self._shape[1])
        input_B_T, clean_B_T = both[0], both[-1]
        keep_B = np.array([not is_repetitive(row) for row in clean_B_T])
        if self._tracks == 1:
            return Batch(input_B_T, keep_B=keep_B)
        label_B_T = np.full_like(clean_B_T, IGNORE_INDEX)
        label_B_T[:, :-1] = clean_B_T[:, 1:]
        return Batch(input_B_T, label_B_T, keep_B)

    def _read(self, first: int, count: int) -> list[np.ndarray]:
        """Parts of epochs that hold `count` tokens from position `first` of the stream on."""
        parts: list[np.ndarray] = []
        while count:
            while self._ends[-1] <= first:
                number = len(self._ends)
                tokens = self._length(number) if self._length is not None else self._map(number).shape[1]
                if not tokens:
                    raise ValueError("the training mixture has no tokens; check the train split and pretrain.mixture")
                self._ends.append(self._ends[-1] + tokens)
            number = bisect_right(self._ends, first)
            offset = first - self._ends[number - 1]
            parts.append(self._map(number)[:, offset : offset + count])
            first, count = first + parts[-1].shape[1], count - parts[-1].shape[1]
        return parts

    def _map(self, number: int) -> np.ndarray:
        """The tokens of an epoch, built now or before, or awaited."""
        if self._open[0] == number:
            return self._open[1]
        file = self._file(number)
        if self._is_first and not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            tokens_N_T = np.atleast_2d(self._epoch(number))
            if not tokens_N_T.size:
                raise ValueError("the training mixture has no tokens; check the train split and pretrain.mixture")
            draft = file.with_suffix(".tmp")
            with draft.open("wb") as written:  # numpy's tofile says nothing of a disk that is full
                written.write(np.ascontiguousarray(tokens_N_T, self._dtype).data)
            draft.replace(file)
        while not file.exists():  # no collective operation: this runs in a thread beside the training step
            time.sleep(0.05)
        self._open = (number, np.memmap(file, mode="r", dtype=self._dtype).reshape(self._tracks, -1))
        return self._open[1]

    def _file(self, number: int) -> Path:
        return self._folder / f"pass-{number:05d}.bin"

    def _delete_before(self, position: int) -> None:
        """Delete the epochs that end before a position; other processes may be a step or two behind this one."""
        for number in range(bisect_right(self._ends, position) - 1, 0, -1):
            if not (file := self._file(number)).exists():
                break
            file.unlink()


def eval_tokens(tokens: np.ndarray, eos: int, limit: int) -> np.ndarray:
    """About `limit` tokens of a split, evenly spread over its documents, as int64; EOS before each document.

    All of it where it fits. Else documents at even distances (all of them, as long as each can give LEAST_DOCUMENT_TOKENS),
    each cut to one length. An EOS that begins the next document after such a cut is read and not scored: it is given as its
    complement, `~eos`. Raises ValueError for an empty split.
    """
    if not len(tokens):
        raise ValueError(
            "a split to be measured has no tokens; give more text to prepare.sources, or raise prepare.reference_share and "
            "prepare.heldout_share"
        )
    if len(tokens) <= limit:
        return np.concatenate([[eos], tokens]).astype(np.int64)
    ends = np.flatnonzero(tokens == eos) + 1
    documents = np.split(tokens, ends[ends < len(tokens)])
    count = min(len(documents), max(1, limit // LEAST_DOCUMENT_TOKENS))
    chosen = [documents[i * len(documents) // count].astype(np.int64) for i in range(count)]
    cap, room = 0, limit  # the documents in the order of length: what the short ones leave is shared by the longer ones
    for place, length in enumerate(sorted(map(len, chosen))):
        cap = room // (count - place)
        if length > cap:
            break
        room -= length
    parts = [np.array([eos], np.int64)]
    for document in chosen:
        parts.append(document[:cap])
        if len(document) > cap or document[-1] != eos:
            parts.append(np.array([~eos], np.int64))
    return np.concatenate(parts)


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
