"""What the verifier is worth, and what it said of one document: each claim beside the source sentence that supports it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from synpro.report.gather import Contents
from synpro.run.lineage import CheckedClaim, checked
from synpro.run.reading import finished, read_json, read_table

_LOOKED_AT = 500
"""Rewrites of the last round among which the document is chosen."""


@dataclass(frozen=True)
class Piece:
    """A part of a passage's text, and the numbers of the claims it supports."""

    text: str
    supports: tuple[int, ...]


@dataclass(frozen=True)
class Checks:
    """The claims made of one passage."""

    rewrite: str
    """Id."""
    kept: bool
    source: tuple[Piece, ...]
    """The passage, cut where support begins and ends."""
    claims: tuple[CheckedClaim, ...]


@dataclass(frozen=True)
class Document:
    """One document as one round rewrote it."""

    id: str
    operation: str
    round: int
    passages: tuple[Checks, ...]


def verifier(contents: Contents) -> dict[str, Any] | None:
    """The report of the stage `train_verifier`; None where it is not done or nothing was trained."""
    step = contents.run / "round-00" / "verifier"
    return read_json(step / "report.json") if finished(step) and (step / "report.json").exists() else None


def one_document(contents: Contents) -> Document | None:
    """Of the last shard with claims, the document with the most kinds of verdict, the first of equals; None without claims."""
    import pyarrow.compute as pc

    columns = ["id", "passage", "document", "start", "kept", "claims"]
    for shard in reversed(contents.syntheses):
        path = contents.run / shard.step / "rewrites.parquet"
        rows = read_table(path, columns, head=_LOOKED_AT)
        found: dict[str, list[tuple[dict[str, Any], tuple[CheckedClaim, ...]]]] = {}
        for row in rows:
            claims = checked(row["claims"], path, row["id"])
            if claims:
                found.setdefault(row["document"], []).append((row, claims))
        if not found:
            continue
        chosen = max(found, key=lambda d: len({c.label for _, claims in found[d] for c in claims}))
        passages = contents.run / "round-00/prepare/passages.parquet"
        texts = {r["id"]: r["text"] for r in read_table(passages, ["id", "text"], pc.field("document") == chosen)}
        ordered = sorted(found[chosen], key=lambda pair: pair[0]["start"])
        checks = [Checks(r["id"], r["kept"], _pieces(texts.get(r["passage"], ""), c), c) for r, c in ordered]
        return Document(chosen, shard.operation, shard.round, tuple(checks))
    return None


def _pieces(text: str, claims: tuple[CheckedClaim, ...]) -> tuple[Piece, ...]:
    spans = [(c.start, c.end, i) for i, c in enumerate(claims, 1) if c.start is not None and c.end is not None]
    cuts = sorted({0, len(text), *(min(p, len(text)) for a, b, _ in spans for p in (a, b))})
    pieces = []
    for start, end in itertools.pairwise(cuts):
        supports = tuple(i for a, b, i in spans if a <= start and end <= b)
        pieces.append(Piece(text[start:end], supports))
    return tuple(pieces)
