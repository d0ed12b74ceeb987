"""Which texts of a run are exported, and the rows they become."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from synpro.runner.artifacts import CorruptRun, NotARun, finished, operation_of, round_of, steps

Content = Literal["organic", "synthetic", "mixture"]


class ExportError(ValueError):
    """An export that cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Selection:
    """What is exported. Empty rounds or operations mean all of them."""

    content: Content = "mixture"
    """`organic`: the train split. `synthetic`: kept texts. `mixture`: both."""
    rounds: tuple[int, ...] = ()
    operations: tuple[str, ...] = ()
    min_scores: Mapping[str, float] = field(default_factory=dict)
    """Smallest raw score of a kept text, by reward. A text without that score is left out."""


@dataclass(frozen=True)
class ExportRow:
    """One document of an export: organic, or the synthetic one made of the k-th kept texts of a document's passages."""

    id: str
    """`synpro why RUN ID` knows it."""
    text: str
    origin: str
    """`organic` or `synthetic`."""
    source: str
    """File and row of the organic text; for a synthetic one, of the text it was made from."""
    document: str
    """Id of the organic document."""
    operation: str = ""
    round: int = 0
    version: int = 0
    generator: str = ""
    """Digest of the generator's weights."""
    rewrites: tuple[str, ...] = ()
    """Ids of the rewrites that it joins."""
    scores: dict[str, float] = field(default_factory=dict)
    """Mean raw scores of those rewrites, by reward."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything but id and text, as plain data."""
        return {k: v for k, v in asdict(self).items() if k not in ("id", "text")}


@dataclass
class Counts:
    """What an export read, filled while its rows are read."""

    rows: dict[str, int] = field(default_factory=dict)
    """Documents by origin or operation."""
    characters: int = 0
    below_minimum: int = 0
    """Kept texts that a minimum left out."""

    def add(self, row: ExportRow) -> None:
        key = row.operation or row.origin
        self.rows[key] = self.rows.get(key, 0) + 1
        self.characters += len(row.text)


def select_rows(run: Path, selection: Selection, counts: Counts) -> Iterator[ExportRow]:
    """The rows of an export, organic ones first, read a few at a time; `counts` is filled on the way.

    Raises NotARun for a folder without a finished corpus, ExportError for a round, operation or score that the run lacks.
    """
    prepare = run / "round-00" / "prepare"
    if not finished(prepare):
        raise NotARun(f"{run} has no finished corpus (round-00/prepare); `synpro run CONFIG` makes one")
    shards = _shards(run, selection) if selection.content != "organic" else []
    sources = _sources(prepare) if shards else {}
    if selection.content != "synthetic":
        for row in _organic(prepare):
            counts.add(row)
            yield row
    seen: set[str] = set()
    for name in shards:
        for row in _synthetic(run / name, selection.min_scores, sources, counts, seen):
            counts.add(row)
            yield row
    if unknown := [name for name in selection.min_scores if shards and name not in seen]:
        raise ExportError(
            f"--min-score {unknown[0]}: no text has that score; the run scored {', '.join(sorted(seen)) or 'none'}"
        )


def _shards(run: Path, selection: Selection) -> list[str]:
    """The finished `synthesize` steps that are asked for."""
    made = [name for name in steps(run) if operation_of(name)[0] == "synthesize" and finished(run / name)]
    rounds = {round_of(name) for name in made}
    operations = {str(operation_of(name)[1]) for name in made}
    for option, asked, known in (("--round", selection.rounds, rounds), ("--operation", selection.operations, operations)):
        for value in asked:
            if value not in known:
                raise ExportError(
                    f"{option} {value}: {run} has finished none; it has {', '.join(map(str, sorted(known))) or 'none'}"
                )
    chosen = [
        name
        for name in made
        if (not selection.rounds or round_of(name) in selection.rounds)
        and (not selection.operations or operation_of(name)[1] in selection.operations)
    ]
    if not chosen and selection.content == "synthetic":
        raise ExportError(
            f"{run} has no synthetic text yet; `synpro status {run}` shows how far it is, --content organic exports the rest"
        )
    return chosen


def _sources(prepare: Path) -> dict[str, str]:
    from synpro.corpus.store import read_rows

    rows = read_rows(prepare / "documents.parquet", ["id", "split", "source"])
    return {row["id"]: row["source"] for row in rows if row["split"] == "train"}


def _organic(prepare: Path) -> Iterator[ExportRow]:
    from synpro.corpus.store import read_documents

    for d in read_documents(prepare, "train"):
        yield ExportRow(d.id, d.text, "organic", d.source, d.id)


def _synthetic(
    shard: Path, minimum: Mapping[str, float], sources: Mapping[str, str], counts: Counts, seen: set[str]
) -> Iterator[ExportRow]:
    """The synthetic documents of a shard, made of its kept texts. `seen` collects the names of their scores."""
    from synpro.corpus.store import read_rows

    columns = ["id", "document", "operation", "round", "generator", "synthetic", "text", "scores", "kept"]
    kept = (row for row in read_rows(shard / "rewrites.parquet", columns) if row["kept"])
    for document, rows in groupby(kept, key=lambda row: row["document"]):
        joined: dict[str, list[tuple[dict[str, Any], dict[str, float]]]] = {}
        for row in rows:
            try:
                scores = {k: v for k, v in json.loads(row["scores"]).items() if isinstance(v, float) and isfinite(v)}
            except json.JSONDecodeError as problem:
                raise CorruptRun(f"{shard / 'rewrites.parquet'}, {row['id']}: its scores are not JSON ({problem})") from problem
            seen.update(scores)
            if all(scores.get(name, float("-inf")) >= value for name, value in minimum.items()):
                joined.setdefault(row["synthetic"], []).append((row, scores))
            else:
                counts.below_minimum += 1
        for id, parts in joined.items():
            first = parts[0][0]
            yield ExportRow(
                id=id,
                text="\n\n".join(row["text"] for row, _ in parts),
                origin="synthetic",
                source=sources.get(document, ""),
                document=document,
                operation=first["operation"],
                round=first["round"],
                version=int(id.rpartition(":")[2]),
                generator=first["generator"],
                rewrites=tuple(row["id"] for row, _ in parts),
                scores=_means([scores for _, scores in parts]),
            )


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    names = sorted({name for one in scores for name in one})
    known = {name: [one[name] for one in scores if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}
