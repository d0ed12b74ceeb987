"""Documents as token arrays, in sequences that copy none of them."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np


class Documents(Sequence["np.ndarray"]):
    """A sequence of token arrays; a slice of it is a list."""

    @abstractmethod
    def document(self, place: int) -> np.ndarray:
        """The document at a place from 0."""

    def __getitem__(self, index: Any) -> Any:
        found = range(len(self))[index]  # raises IndexError beyond the last, which ends iteration
        return self.document(found) if isinstance(found, int) else [self.document(place) for place in found]


class TokenizedDocuments(Documents):
    """Documents end to end in one array, each with its EOS; items are views, so a million documents take 16 MB of their own."""

    def __init__(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """`tokens`: `(T,)`; `lengths`: tokens of each document, `(N,)`, T in all."""
        self.tokens = np.asarray(tokens)  # a plain view of a mapped file: slices of a memmap are large and slow
        self.lengths = lengths
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def document(self, place: int) -> np.ndarray:
        end = int(self._ends[place])
        return self.tokens[end - int(self.lengths[place]) : end]


class JoinedDocuments(Documents):
    """Several sequences of documents, one after the other."""

    def __init__(self, parts: Sequence[Sequence[np.ndarray]]) -> None:
        self._parts = parts
        self._ends = [*accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def document(self, place: int) -> np.ndarray:
        part = bisect_right(self._ends, place)
        return self._parts[part][place - self._ends[part] + len(self._parts[part])]


class ChosenDocuments(Documents):
    """The documents at some places, which may be repeated."""

    def __init__(self, documents: Sequence[np.ndarray], places: np.ndarray) -> None:
        self._documents, self._places = documents, places

    def __len__(self) -> int:
        return len(self._places)

    def document(self, place: int) -> np.ndarray:
        return self._documents[int(self._places[place])]
