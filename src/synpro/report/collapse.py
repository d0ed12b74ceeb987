"""Signs of collapse: variety of each round's texts, and the held-out loss on the tails of the organic text.

Large runs are sampled: texts of the same passages in every shard, by the hash of their ids, and documents of the train split,
evenly spaced.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from heapq import nsmallest
from typing import TYPE_CHECKING

from synpro.report.run_data import RunData, ShardSummary
from synpro.runner.artifacts import one_of, read_table

if TYPE_CHECKING:
    import numpy as np

    from synpro.measure.bootstrap import Difference
    from synpro.measure.collapse import Variety

MAX_TEXTS = 2000
"""Kept rewrites of a shard that are measured."""
MAX_DOCUMENTS = 20_000
"""Train documents whose words are counted to tell rare words."""
SLICE = 0.2
"""Share of the held-out documents in each tail."""


@dataclass(frozen=True)
class ShardVariety:
    """One operation's texts of one round."""

    name: str
    variety: Variety


@dataclass(frozen=True)
class Tail:
    """A slice of the held-out documents, over the rounds."""

    name: str
    documents: int
    losses: dict[int, float]
    """Round -> nats per token."""
    changes: dict[int, Difference]
    """Round -> change against round 0, paired by document and resampled by article."""

    @property
    def worse(self) -> bool:
        """Whether the last round's loss here is clearly above round 0's."""
        return bool(self.changes) and self.changes[max(self.changes)].low > 0


@dataclass(frozen=True)
class Collapse:
    """What the section shows; both lists are empty while there is nothing to measure."""

    watched: tuple[ShardVariety, ...]
    tails: tuple[Tail, ...]
    budget: int
    """Words on which distinct-n is counted, the same for every shard."""


def collapse(data: RunData) -> Collapse:
    """Measure every shard and every evaluated round. Raises CorruptRun for a finished step's file that cannot be read."""
    shards = [(s, _kept(data, s)) for s in data.syntheses]
    shards = [(s, rows) for s, rows in shards if rows]
    sources = _sources(data, {p for _, rows in shards for p, _ in rows})
    from synpro.measure.collapse import variety, words

    budget = min((sum(len(words(t)) for _, t in rows) for _, rows in shards), default=0)
    earlier: dict[str, list[str]] = {}
    watched = []
    for shard, rows in shards:
        keys, texts = [p for p, _ in rows], [t for _, t in rows]
        found = variety(
            texts,
            [sources[k] for k in keys],
            keys=keys,
            earlier=earlier,
            budget=budget,
            embeddings=_embeddings(data, shard),
        )
        watched.append(ShardVariety(shard.name, found))
        for key, text in rows:
            earlier.setdefault(key, []).append(text)
    return Collapse(tuple(watched), _tails(data), budget)


def _kept(data: RunData, shard: ShardSummary) -> list[tuple[str, str]]:
    """(passage id, text) of the kept rewrites."""
    import pyarrow.compute as pc

    from synpro.corpus.store import read_rows

    path = data.run / shard.step / "rewrites.parquet"
    read_table(path, ["passage", "text", "kept"], head=1)  # says what is wrong with the file, if anything is
    ids = (str(row["passage"]) for row in read_rows(path, ["passage", "kept"]) if row["kept"])
    chosen = nsmallest(MAX_TEXTS, ids, key=lambda i: sha256(i.encode()).digest())
    rows = read_table(path, ["passage", "text"], pc.field("kept") & one_of("passage", chosen))
    return [(str(r["passage"]), str(r["text"])) for r in rows]


def _sources(data: RunData, wanted: set[str]) -> dict[str, str]:

    if not wanted:
        return {}
    path = data.run / "round-00/prepare/passages.parquet"
    return {r["id"]: r["text"] for r in read_table(path, ["id", "text"], one_of("id", wanted))}


def _embeddings(data: RunData, shard: ShardSummary) -> tuple[np.ndarray, np.ndarray] | None:
    """Embeddings of texts and of their sources, where the step stored some."""
    import numpy as np

    path = data.run / shard.step / "embeddings.parquet"
    rows = read_table(path, ["text", "source"]) if path.exists() else []
    return (np.array([r["text"] for r in rows]), np.array([r["source"] for r in rows])) if len(rows) > 1 else None


def _tails(data: RunData) -> tuple[Tail, ...]:
    """All held-out documents, those with the rarest words, and the longest ones."""
    import pyarrow.compute as pc

    from synpro.measure.collapse import mean_surprisal, tail, words

    if not data.evaluated or data.corpus is None:
        return ()
    first = data.evaluated[0]
    path = data.run / "round-00/prepare/documents.parquet"
    train = read_table(path, ["text"], pc.field("split") == "train", sample=MAX_DOCUMENTS)
    counts = Counter(w for row in train for w in words(row["text"]))
    heldout = read_table(path, ["id", "text"], pc.field("split") == "heldout")
    texts = {r["id"]: r["text"] for r in heldout if r["id"] in first.documents}
    ids = sorted(texts)
    if len(ids) < 5 or not counts:
        return ()
    rare = tail(mean_surprisal((texts[i] for i in ids), counts), SLICE)
    long = tail([float(first.documents[i][1]) for i in ids], SLICE)
    slices = {"all documents": ids, "rarest words": [ids[i] for i in rare], "longest documents": [ids[i] for i in long]}
    return tuple(_tail(data, name, chosen) for name, chosen in slices.items())


def _tail(data: RunData, name: str, ids: list[str]) -> Tail:
    from synpro.report.headline import paired_change

    losses, changes = {}, {}
    first = data.evaluated[0].documents
    for e in data.evaluated:
        if any(i not in e.documents for i in ids):
            continue  # evaluated on other documents: the headline says so
        losses[e.round] = sum(e.documents[i][0] for i in ids) / sum(e.documents[i][1] for i in ids)
        if e is not data.evaluated[0]:
            tokens = [float(first[i][1]) for i in ids]
            if (change := paired_change(data, ids, data.evaluated[0], e, tokens)) is not None:
                changes[e.round] = change
    return Tail(name, len(ids), losses, changes)
