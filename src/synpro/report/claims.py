"""The verifier's quality, and its verdicts on one document: each claim beside the source sentence that supports it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from synpro.report.lineage import CheckedClaim, checked, with_support
from synpro.report.run_data import RunData
from synpro.runner.artifacts import finished, read_json, read_table

_SAMPLED = 500
"""Rewrites of the last round from which the document is chosen."""


@dataclass(frozen=True)
class SourceSpan:
    """A part of a passage's text, and the numbers of the claims it supports."""

    text: str
    supports: tuple[int, ...]


@dataclass(frozen=True)
class CheckedPassage:
    """The claims made of one passage."""

    rewrite: str
    """Id."""
    kept: bool
    source: tuple[SourceSpan, ...]
    """The passage, cut where support begins and ends."""
    claims: tuple[CheckedClaim, ...]


@dataclass(frozen=True)
class Document:
    """One document as one round rewrote it."""

    id: str
    operation: str
    round: int
    passages: tuple[CheckedPassage, ...]


def verifier(data: RunData) -> dict[str, Any] | None:
    """The report of the stage `train_verifier`; None where it is not done or nothing was trained."""
    step = data.run / "round-00" / "verifier"
    return read_json(step / "report.json") if finished(step) and (step / "report.json").exists() else None


def example_document(data: RunData) -> Document | None:
    """Choose the document with the most kinds of verdict from the last shard with claims; None where no shard has claims."""
    import pyarrow.compute as pc

    columns = ["id", "passage", "document", "start", "kept", "claims"]
    for shard in reversed(data.syntheses):
        path = data.run / shard.step / "rewrites.parquet"
        rows = read_table(path, columns, head=_SAMPLED)
        found: dict[str, list[tuple[dict[str, Any], tuple[CheckedClaim, ...]]]] = {}
        for row in rows:
            claims = checked(row["claims"], path, row["id"])
            if claims:
                found.setdefault(row["document"], []).append((row, claims))
        if not found:
            continue
        chosen = max(found, key=lambda d: len({c.label for _, claims in found[d] for c in claims}))
        passages = data.run / "round-00/prepare/passages.parquet"
        texts = {r["id"]: r["text"] for r in read_table(passages, ["id", "text"], pc.field("document") == chosen)}
        ordered = sorted(found[chosen], key=lambda pair: pair[0]["start"])
        checks = []
        for row, claims in ordered:
            text = texts.get(row["passage"], "")
            claims = with_support(claims, text)
            checks.append(CheckedPassage(row["id"], row["kept"], _split_at_support(text, claims), claims))
        return Document(chosen, shard.operation, shard.round, tuple(checks))
    return None


def _split_at_support(text: str, claims: tuple[CheckedClaim, ...]) -> tuple[SourceSpan, ...]:
    spans = [(c.start, c.end, i) for i, c in enumerate(claims, 1) if c.start is not None and c.end is not None]
    cuts = sorted({0, len(text), *(min(p, len(text)) for a, b, _ in spans for p in (a, b))})
    pieces = []
    for start, end in itertools.pairwise(cuts):
        supports = tuple(i for a, b, i in spans if a <= start and end <= b)
        pieces.append(SourceSpan(text[start:end], supports))
    return tuple(pieces)
