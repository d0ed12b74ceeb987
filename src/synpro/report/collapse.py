"""The collapse watch of a run: variety of each round's texts, and the held-out loss on the tails of the organic text.

Large runs are sampled by rule: the first kept rewrites of a shard, the first documents of the train split.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synpro.report.gather import Contents, Synthesis
from synpro.run.reading import read_table

if TYPE_CHECKING:
    import numpy as np

    from synpro.measure.collapse import Variety
    from synpro.measure.paired import Difference

MOST_TEXTS = 2000
"""Kept rewrites of a shard that are measured."""
MOST_DOCUMENTS = 20_000
"""Train documents whose words are counted to tell rare words."""
SLICE = 0.2
"""Share of the held-out documents in each tail."""


@dataclass(frozen=True)
class Watched:
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
    """Round -> change against round 0, paired by document."""

    @property
    def worse(self) -> bool:
        """Whether the last round's loss here is clearly above round 0's."""
        return bool(self.changes) and self.changes[max(self.changes)].low > 0


@dataclass(frozen=True)
class Collapse:
    """What the section shows; both lists are empty while there is nothing to measure."""

    watched: tuple[Watched, ...]
    tails: tuple[Tail, ...]
    budget: int
    """Words that distinct-n was counted on, the same for all."""


def collapse(contents: Contents) -> Collapse:
    """Measure every shard and every evaluated round. Raises Damaged for a finished step's file that cannot be read."""
    shards = [(s, _kept(contents, s)) for s in contents.syntheses]
    shards = [(s, rows) for s, rows in shards if rows]
    sources = _sources(contents, {p for _, rows in shards for p, _ in rows})
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
            embeddings=_embeddings(contents, shard),
        )
        watched.append(Watched(shard.name, found))
        for key, text in rows:
            earlier.setdefault(key, []).append(text)
    return Collapse(tuple(watched), _tails(contents), budget)


def _kept(contents: Contents, shard: Synthesis) -> list[tuple[str, str]]:
    """(passage, text) of kept rewrites."""
    import pyarrow.compute as pc

    path = contents.run / shard.step / "rewrites.parquet"
    rows = read_table(path, ["passage", "text"], pc.field("kept"), head=MOST_TEXTS)
    return [(str(r["passage"]), str(r["text"])) for r in rows]


def _sources(contents: Contents, wanted: set[str]) -> dict[str, str]:
    import pyarrow.compute as pc

    if not wanted:
        return {}
    path = contents.run / "round-00/prepare/passages.parquet"
    return {r["id"]: r["text"] for r in read_table(path, ["id", "text"], pc.field("id").isin(sorted(wanted)))}


def _embeddings(contents: Contents, shard: Synthesis) -> tuple[np.ndarray, np.ndarray] | None:
    """Of texts and of their sources, where the step embedded some."""
    import numpy as np

    path = contents.run / shard.step / "embeddings.parquet"
    rows = read_table(path, ["text", "source"]) if path.exists() else []
    return (np.array([r["text"] for r in rows]), np.array([r["source"] for r in rows])) if len(rows) > 1 else None


def _tails(contents: Contents) -> tuple[Tail, ...]:
    """All held-out documents, those with the rarest words, and the longest ones."""
    import pyarrow.compute as pc

    from synpro.measure.collapse import rarity, tail, words

    if not contents.evaluated or contents.corpus is None:
        return ()
    first = contents.evaluated[0]
    path = contents.run / "round-00/prepare/documents.parquet"
    train = read_table(path, ["text"], pc.field("split") == "train", head=MOST_DOCUMENTS)
    counts = Counter(w for row in train for w in words(row["text"]))
    held = read_table(path, ["id", "text"], pc.field("split") == "heldout")
    texts = {r["id"]: r["text"] for r in held if r["id"] in first.documents}
    ids = sorted(texts)
    if len(ids) < 5 or not counts:
        return ()
    rare = tail(rarity((texts[i] for i in ids), counts), SLICE)
    long = tail([float(first.documents[i][1]) for i in ids], SLICE)
    slices = {"all documents": ids, "rarest words": [ids[i] for i in rare], "longest documents": [ids[i] for i in long]}
    return tuple(_tail(contents, name, chosen) for name, chosen in slices.items())


def _tail(contents: Contents, name: str, ids: list[str]) -> Tail:
    from synpro.measure.paired import paired_difference

    losses, changes = {}, {}
    first = contents.evaluated[0].documents
    for e in contents.evaluated:
        if any(i not in e.documents for i in ids):
            continue  # evaluated on other documents: the headline says so
        losses[e.round] = sum(e.documents[i][0] for i in ids) / sum(e.documents[i][1] for i in ids)
        if e is not contents.evaluated[0]:
            tokens = [float(first[i][1]) for i in ids]
            changes[e.round] = paired_difference([first[i][0] for i in ids], [e.documents[i][0] for i in ids], tokens)
    return Tail(name, len(ids), losses, changes)
