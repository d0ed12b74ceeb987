"""The split of each document: train, reference, held-out or none, decided by a hash of the group it belongs to.

A group is an article, a book, a site: what `group_column` says, else the row itself; the parts of a long document are one. So
no held-out document has a sibling that is trained on, and adding documents to a corpus moves none of those it had. A split is a
number, the index of its name in `store.SPLITS`, or UNUSED; there is one byte per document for it, in reading order, so that
millions of documents take little memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from synpro.corpus.files import CorpusError
from synpro.corpus.store import SPLITS, read_rows
from synpro.records import Corpus

TRAIN, REFERENCE, HELDOUT, UNUSED = range(len(SPLITS) + 1)

MIN_GROUPS = 20
"""Groups that the reference and held-out splits should have: fewer say little about other text, and what is read before that is
not enough."""
_MIN_REACHED = 0.98
"""Share of `train_words` that a corpus around a smaller one must reach, because it is named by its multiple of that size."""


@dataclass(frozen=True)
class DocumentIndex:
    """What is remembered of each document, in reading order."""

    reference_share: float
    heldout_share: float
    hashes: array[float] = field(default_factory=lambda: array("d"))
    """`id_hash` of the document's id."""
    words: array[int] = field(default_factory=lambda: array("q"))
    splits: bytearray = field(default_factory=bytearray)
    totals: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Words per split."""
    groups: tuple[set[float], set[float]] = field(default_factory=lambda: (set(), set()))
    """Hashes of the groups of the reference and of the held-out split."""

    def __len__(self) -> int:
        return len(self.hashes)

    def append(self, id: str, words: int, group: str) -> None:
        """Add the next document."""
        hash = id_hash(group)
        limit = self.heldout_share + self.reference_share
        split = HELDOUT if hash < self.heldout_share else REFERENCE if hash < limit else TRAIN
        if split != TRAIN:
            self.groups[split - REFERENCE].add(hash)
        self.hashes.append(hash if id == group else id_hash(id))
        self.words.append(words)
        self.splits.append(split)
        self.totals[split] += words

    def has_enough(self, train_words: int) -> bool:
        """Whether there are so many words to train on, and groups enough in the other splits."""
        return self.totals[TRAIN] >= train_words and min(map(len, self.groups)) >= MIN_GROUPS

    def check(self) -> None:
        """Raise CorpusError when one of the three splits is empty."""
        counts = [self.splits.count(code) for code in (TRAIN, REFERENCE, HELDOUT)]
        if not all(counts):
            raise CorpusError(
                f"prepare: the corpus is too small to split: {len(self)} documents gave {counts[0]} train, {counts[1]} "
                f"reference and {counts[2]} held-out, and each needs at least one (whole articles go into one split); "
                "add documents, or raise prepare.reference_share and prepare.heldout_share"
            )

    def warnings(self) -> list[str]:
        """Lines about splits that have too few groups."""
        return [
            f"the {name} split has documents of only {len(groups)} groups (articles, or what group_column says), fewer than "
            f"{MIN_GROUPS}: losses on it say little about other text; raise prepare.{key}, or add text"
            for name, key, groups in zip(
                ("reference", "held-out"), ("reference_share", "heldout_share"), self.groups, strict=True
            )
            if len(groups) < MIN_GROUPS
        ]


def id_hash(id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    return int.from_bytes(hashlib.sha256(f"split:{id}".encode()).digest()[:8], "big") / 2**64


def find_nested(base: Corpus, splits: bytearray, ids: Sequence[str]) -> set[int]:
    """Indices of the train documents of a smaller corpus among `ids`. Raises CorpusError when its splits are not ours."""
    inner: set[int] = set()
    places = {id: i for i, id in enumerate(ids)}
    for row in read_rows(base.dir / "documents.parquet", ["id", "split"]):
        place = places.get(row["id"])
        here = "missing" if place is None else SPLITS[splits[place]]
        if here != row["split"]:
            raise CorpusError(
                f"prepare: document {row['id']} is in the {row['split']} split of the smaller corpus and {here} here; "
                "both must have the same prepare.sources, prepare.sample_words, prepare.reference_share and "
                "prepare.heldout_share"
            )
        if row["split"] == "train" and place is not None:
            inner.add(place)
    return inner


def limit_train_words(
    splits: bytearray, index: DocumentIndex, train_words: int, inner: set[int], read_ids: Callable[[], Sequence[str]]
) -> int:
    """Mark the train documents that do not fit into `train_words` as UNUSED, and return the words of those that do.

    Documents go in while they fit: those of a smaller corpus (`inner`) first, then by hash, then by id (`read_ids` is called
    when two hashes are equal). Raises CorpusError when no document fits, or when a nested corpus does not reach `train_words`.
    """
    order = [i for i, code in enumerate(splits) if code == TRAIN]
    order.sort(key=lambda i: (i not in inner, index.hashes[i]))
    if any(index.hashes[a] == index.hashes[b] for a, b in pairwise(order)):  # one corpus of a million in ten thousand
        ids = read_ids()
        order.sort(key=lambda i: (i not in inner, index.hashes[i], ids[i]))
    words = 0
    for i in order:
        if words + index.words[i] <= train_words:
            words += index.words[i]
        else:
            splits[i] = UNUSED
    if not words:
        least = min(index.words[i] for i in order)
        raise CorpusError(
            f"prepare.train_words: no document fits into {train_words:,} words; the shortest has {least:,}: raise it"
        )
    if inner and not splits.count(UNUSED) and words < _MIN_REACHED * train_words:
        raise CorpusError(
            f"prepare.train_words: {train_words:,} words are asked for, and the sources hold {words:,} for training; "
            "take a smaller multiple, or give more text"
        )
    return words
