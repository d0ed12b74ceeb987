"""Texts to look at: the same source passages as each round rewrote them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synpro.report.gather import Contents
from synpro.run.lineage import parsed
from synpro.run.reading import read_table

_LOOKED_AT = 2000
"""Passages of the last round among which samples are chosen: a large shard is not read whole."""


@dataclass(frozen=True)
class Version:
    """What one round made of the passage."""

    id: str
    round: int
    text: str
    """The text trained on; the raw answer when it did not parse."""
    kept: bool
    reason: str | None
    detail: str | None
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Sample:
    """A passage and its rewrites, one per round."""

    operation: str
    passage: str
    why: str
    """Why this one is shown."""
    source: str
    versions: tuple[Version, ...]


def samples(contents: Contents, per_operation: int = 3) -> tuple[Sample, ...]:
    """For each operation, the passages whose last rewrite has the highest, the middle and the lowest influence, whether kept or
    not (by id, evenly spread, when influence was not scored): chosen by rule, not by taste."""
    import pyarrow.compute as pc

    result: list[Sample] = []
    for operation in dict.fromkeys(s.operation for s in contents.syntheses):
        shards = [s for s in contents.syntheses if s.operation == operation]
        path = contents.run / shards[-1].step / "rewrites.parquet"
        # answers that did not parse earn the worst of every reward; they are shown among the dropped instead
        rows = read_table(path, ["id", "passage", "scores"], pc.field("text").is_valid(), head=_LOOKED_AT)
        scored = []
        for row in rows:
            value = parsed(row["scores"], path, row["id"], "scores").get("influence")
            if value is not None:
                scored.append((float(value), str(row["passage"])))
        chosen = _spread([p for _, p in sorted(scored, reverse=True)], per_operation)
        labels = ["highest influence", "median influence", "lowest influence"]
        if not chosen:
            chosen, labels = _spread(sorted(str(r["passage"]) for r in rows), per_operation), ["spread over the corpus"] * 3
        if not chosen:  # nothing parsed
            continue
        why = dict(zip(chosen, (labels * per_operation)[: len(chosen)], strict=True))
        result += _sample(contents, operation, [(s.round, s.step) for s in shards], why, len(rows))
    return tuple(result)


def _spread(ids: list[str], n: int) -> list[str]:
    """First, last and evenly between."""
    if len(ids) <= n:
        return ids
    return [ids[round(i * (len(ids) - 1) / (n - 1))] for i in range(n)] if n > 1 else ids[:1]


def _sample(
    contents: Contents, operation: str, shards: list[tuple[int, str]], why: dict[str, str], looked_at: int
) -> list[Sample]:
    import pyarrow.compute as pc

    wanted = list(why)
    passages = contents.run / "round-00/prepare/passages.parquet"
    sources = {r["id"]: r["text"] for r in read_table(passages, ["id", "text"], pc.field("id").isin(wanted))}
    versions: dict[str, list[Version]] = {p: [] for p in wanted}
    columns = ["id", "passage", "answer", "text", "kept", "reason", "detail", "scores"]
    for number, step in shards:
        path: Path = contents.run / step / "rewrites.parquet"
        for r in read_table(path, columns, pc.field("passage").isin(wanted)):
            versions[r["passage"]].append(
                Version(
                    id=r["id"],
                    round=number,
                    text=r["text"] if r["text"] is not None else r["answer"],
                    kept=r["kept"],
                    reason=r["reason"],
                    detail=r["detail"],
                    scores=parsed(r["scores"], path, r["id"], "scores"),
                )
            )
    return [
        Sample(operation, p, f"{why[p]} of {looked_at:,} in the last round", sources.get(p, ""), tuple(versions[p]))
        for p in wanted
    ]
