"""Samples: the same source passages with each round's rewrite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from synpro.report.lineage import Origin, origins, scores_of
from synpro.report.run_data import RunData
from synpro.runner.artifacts import one_of, read_table

_SAMPLED = 2000
"""Rewrites of the last round from which samples are chosen: a large shard is not read whole."""
MAX_VERSIONS = 3
"""Rewrites of a passage that are shown of each round."""


@dataclass(frozen=True)
class Sample:
    """A passage and its rewrites, at most MAX_VERSIONS of each round, kept ones first."""

    operation: str
    passage: str
    why: str
    """Why this one is shown."""
    source: str
    versions: tuple[Origin, ...]


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
        result += _versions(data, operation, [s.step for s in shards], why, len(rows))
    return tuple(result)


def _evenly_spaced(ids: list[str], n: int) -> list[str]:
    """Pick `n` ids: the first, the last and evenly between."""
    if len(ids) <= n:
        return ids
    return [ids[round(i * (len(ids) - 1) / (n - 1))] for i in range(n)] if n > 1 else ids[:1]


def _versions(data: RunData, operation: str, shards: list[str], why: dict[str, str], sampled: int) -> Iterator[Sample]:
    """The passages that `why` chooses, with their rewrites in every shard."""
    passages = data.run / "round-00/prepare/passages.parquet"
    sources = {r["id"]: r["text"] for r in read_table(passages, ["id", "text"], one_of("id", list(why)))}
    versions: dict[str, list[Origin]] = {passage: [] for passage in why}
    for shard in shards:
        found = sorted(origins(data.run, [shard], one_of("passage", list(why))), key=lambda o: (not o.kept, o.version))
        for passage, shown in versions.items():
            shown += [o for o in found if o.span.id == passage][:MAX_VERSIONS]
    for passage, shown in versions.items():
        about = f"{why[passage]} of {sampled:,} in the last round"
        yield Sample(operation, passage, about, sources.get(passage, ""), tuple(shown))
