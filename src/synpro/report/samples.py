"""Samples: the same source passages with each round's rewrite."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from synpro.report.lineage import scores_of
from synpro.report.run_data import RunData
from synpro.runner.artifacts import one_of, read_table

_SAMPLED = 2000
"""Rewrites of the last round from which samples are chosen: a large shard is not read whole."""
MAX_VERSIONS = 3
"""Rewrites of a passage that are shown of each round."""


@dataclass(frozen=True)
class Version:
    """One rewrite of the passage."""

    id: str
    round: int
    version: int
    text: str
    """The text trained on; the raw answer when it did not parse."""
    kept: bool
    reason: str | None
    detail: str | None
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Sample:
    """A passage and its rewrites, at most MAX_VERSIONS of each round, kept ones first."""

    operation: str
    passage: str
    why: str
    """Why this one is shown."""
    source: str
    versions: tuple[Version, ...]


def samples(data: RunData, per_operation: int = 3) -> tuple[Sample, ...]:
    """Choose for each operation the passages whose last rewrite, kept or not, has the highest, median and lowest influence
    (evenly spaced by id when influence was not scored)."""
    import pyarrow.compute as pc

    result: list[Sample] = []
    for operation in dict.fromkeys(s.operation for s in data.syntheses):
        shards = [s for s in data.syntheses if s.operation == operation]
        path = data.run / shards[-1].step / "rewrites.parquet"
        # answers that did not parse earn the worst of every reward; they are shown among the dropped instead
        rows = read_table(path, ["id", "passage", "scores"], pc.field("text").is_valid(), head=_SAMPLED)
        scored = []
        for row in rows:
            value = scores_of(row["scores"], path, row["id"]).get("influence")
            if value is not None and value > float("-inf"):  # else it fails its gate, and has no influence to rank by
                scored.append((float(value), str(row["passage"])))
        # a passage counts by its best version
        chosen = _evenly_spaced(list(dict.fromkeys(p for _, p in sorted(scored, reverse=True))), per_operation)
        labels = ["highest influence", "median influence", "lowest influence"]
        if not chosen:
            chosen = _evenly_spaced(sorted({str(r["passage"]) for r in rows}), per_operation)
            labels = ["evenly spaced in the corpus"] * 3
        if not chosen:  # nothing parsed
            continue
        why = dict(zip(chosen, (labels * per_operation)[: len(chosen)], strict=True))
        result += _sample(data, operation, [(s.round, s.step) for s in shards], why, len(rows))
    return tuple(result)


def _evenly_spaced(ids: list[str], n: int) -> list[str]:
    """Pick `n` ids: the first, the last and evenly between."""
    if len(ids) <= n:
        return ids
    return [ids[round(i * (len(ids) - 1) / (n - 1))] for i in range(n)] if n > 1 else ids[:1]


def _sample(data: RunData, operation: str, shards: list[tuple[int, str]], why: dict[str, str], sampled: int) -> list[Sample]:

    wanted = list(why)
    passages = data.run / "round-00/prepare/passages.parquet"
    sources = {r["id"]: r["text"] for r in read_table(passages, ["id", "text"], one_of("id", wanted))}
    versions: dict[str, list[Version]] = {p: [] for p in wanted}
    columns = ["id", "passage", "version", "answer", "text", "kept", "reason", "detail", "scores"]
    for number, step in shards:
        path: Path = data.run / step / "rewrites.parquet"
        found = sorted(read_table(path, columns, one_of("passage", wanted)), key=lambda r: (not r["kept"], r["version"]))
        shown: Counter[str] = Counter()
        for r in found:
            shown[r["passage"]] += 1
            if shown[r["passage"]] > MAX_VERSIONS:
                continue
            versions[r["passage"]].append(
                Version(
                    id=r["id"],
                    round=number,
                    version=r["version"],
                    text=r["text"] if r["text"] is not None else r["answer"],
                    kept=r["kept"],
                    reason=r["reason"],
                    detail=r["detail"],
                    scores=scores_of(r["scores"], path, r["id"]),
                )
            )
    return [
        Sample(operation, p, f"{why[p]} of {sampled:,} in the last round", sources.get(p, ""), tuple(versions[p]))
        for p in wanted
    ]
