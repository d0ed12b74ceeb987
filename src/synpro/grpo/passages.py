"""The passages that one training shows, drawn before anything is read: a corpus of any size costs the memory of the draw."""

from __future__ import annotations

import heapq
from hashlib import sha256
from pathlib import Path

from synpro.records import Passage


def draw_passages(folder: Path, count: int, validation: int, seed: int) -> tuple[list[Passage], list[Passage]]:
    """(`count` passages to train on, `validation` passages that are not trained on), both in the order of the corpus.

    Validation passages are the same for every seed, and at most a quarter of the corpus. Fewer than `count` come back where the
    corpus has no more. Which are drawn depends on ids alone. `folder` is a corpus's `dir`. Raises ValueError for fewer than two
    passages.
    """
    from synpro.corpus.store import read_rows

    table = folder / "passages.parquet"

    def first(salt: str, count: int, but: frozenset[str]) -> list[str]:
        ids = (str(row["id"]) for row in read_rows(table, ["id"]))
        return heapq.nsmallest(count, (i for i in ids if i not in but), key=lambda i: sha256(f"{salt}{i}".encode()).digest())

    total = sum(1 for _ in read_rows(table, ["id"]))
    if total < 2:
        raise ValueError(f"the train split has {total} passages; a generator needs at least 2. Give prepare more text")
    kept = frozenset(first("", min(validation, max(1, total // 4)), frozenset()))
    shown = frozenset(first(f"{seed} ", max(1, count), kept))
    found = [Passage(**row) for row in read_rows(table) if row["id"] in kept or row["id"] in shown]
    return [p for p in found if p.id in shown], [p for p in found if p.id in kept]
