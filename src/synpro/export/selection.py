"""Which texts of a run are exported, and the rows they become, a few thousand at a time."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, groupby
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from synpro.corpus.store import read_batches
from synpro.runner.artifacts import CorruptRun, NotARun, finished, operation_of, round_of, steps

Content = Literal["organic", "synthetic", "mixture"]
ROWS = pa.schema(
    [
        ("id", pa.string()),  # `synpro why RUN ID` knows it
        ("text", pa.string()),
        ("origin", pa.string()),  # `organic` or `synthetic`
        ("source", pa.string()),  # file and row of the organic text; for a synthetic one, of the text it was made from
        ("document", pa.string()),  # id of the organic document
        ("operation", pa.string()),
        ("round", pa.int64()),
        ("version", pa.int64()),
        ("generator", pa.string()),  # digest of its weights
        ("rewrites", pa.list_(pa.string())),  # ids of the kept texts that it joins
        ("scores", pa.string()),  # JSON: means of their raw scores, by reward
    ]
)
"""One document of an export: organic, or the synthetic one made of the k-th kept texts of a document's passages."""
BATCH_ROWS, BATCH_CHARACTERS = 2048, 4 << 20
"""Synthetic documents of a batch: whichever is reached first."""
_to_json = json.JSONEncoder(sort_keys=True).encode


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


@dataclass
class Counts:
    """What an export read, filled while its rows are read."""

    rows: dict[str, int] = field(default_factory=dict)
    """Documents by origin or operation."""
    characters: int = 0
    below_minimum: int = 0
    """Kept texts that a minimum left out."""

    def add(self, part: str, batch: pa.RecordBatch) -> None:
        self.rows[part] = self.rows.get(part, 0) + batch.num_rows
        self.characters += pc.sum(pc.utf8_length(batch["text"])).as_py()


def select_rows(run: Path, selection: Selection, counts: Counts) -> Iterator[pa.RecordBatch]:
    """Batches of ROWS, the organic ones first; `counts` is filled on the way. All rows of a batch are of one origin, operation,
    round and generator.

    Raises NotARun for a folder without a finished corpus, ExportError for a round, operation or score that the run lacks.
    """
    prepare = run / "round-00" / "prepare"
    if not finished(prepare):
        raise NotARun(f"{run} has no finished corpus (round-00/prepare); `synpro run CONFIG` makes one")
    shards = _shards(run, selection) if selection.content != "organic" else []
    _check_scores([run / name for name in shards], selection.min_scores)
    gc.freeze()  # else every collection goes through all that is imported, which is a third of the time
    try:
        if selection.content != "synthetic":
            for batch in _organic(prepare):
                counts.add("organic", batch)
                yield batch
        for name in shards:
            for batch in _synthetic(run / name, selection.min_scores, _source_of(prepare), counts):
                counts.add(str(operation_of(name)[1]), batch)
                yield batch
    finally:
        gc.unfreeze()


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


def _check_scores(shards: list[Path], minimum: Mapping[str, float]) -> None:
    """Raise ExportError for a minimum of a score that no kept text has. Reads until each is found once."""
    missing, known = set(minimum), set[str]()
    for shard in shards if missing else ():
        for batch in _kept(shard, ["kept", "id", "scores"]):
            for scores in _scores(shard, batch):
                known.update(scores)
            if not missing - known:
                return
    if shards and (missing := missing - known):
        raise ExportError(
            f"--min-score {min(missing)}: no text has that score; the run scored {', '.join(sorted(known)) or 'none'}"
        )


def _source_of(prepare: Path) -> Callable[[str], str]:
    """The source of a training document. To be asked for documents in the order of the corpus: none is held."""
    columns = ["id", "split", "source"]
    pairs = chain.from_iterable(
        zip(train["id"].to_pylist(), train["source"].to_pylist(), strict=True)
        for batch in read_batches(prepare / "documents.parquet", columns)
        for train in (batch.filter(pc.equal(batch["split"], "train")),)
    )

    def find(document: str) -> str:
        for id, source in pairs:
            if id == document:
                return str(source)
        raise CorruptRun(f"{prepare / 'documents.parquet'}: {document} is not where the texts made from it say it is")

    return find


def _organic(prepare: Path) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(prepare / "documents.parquet", ["id", "split", "text", "source"]):
        train = batch.filter(pc.equal(batch["split"], "train"))
        if rows := train.num_rows:
            yield _batch({**{name: train[name] for name in ("id", "text", "source")}, "document": train["id"]}, rows)


def _kept(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(shard / "rewrites.parquet", columns):
        if (kept := batch.filter(batch["kept"])).num_rows:
            yield kept


def _scores(shard: Path, batch: pa.RecordBatch) -> list[dict[str, float]]:
    """The finite scores of each row. Raises CorruptRun."""
    texts = batch["scores"].to_pylist()
    try:
        parsed = json.loads(f"[{','.join(texts)}]")
    except json.JSONDecodeError as problem:
        where = f"{shard / 'rewrites.parquet'}, rows from {batch['id'][0]}"
        raise CorruptRun(f"{where}: their scores are not JSON ({problem})") from problem
    return [{k: v for k, v in scores.items() if isinstance(v, float | int) and isfinite(v)} for scores in parsed]


def _synthetic(
    shard: Path, minimum: Mapping[str, float], source_of: Callable[[str], str], counts: Counts
) -> Iterator[pa.RecordBatch]:
    """The synthetic documents of a shard, made of its kept texts."""
    columns = ["kept", "id", "document", "synthetic", "text", "scores", "generator"]
    constant: dict[str, Any] = {"origin": "synthetic", "operation": operation_of(shard.name)[1]}
    constant["round"] = round_of(f"{shard.parent.name}/{shard.name}")

    def rows() -> Iterator[tuple[str, str, str, str, dict[str, float]]]:
        for batch in _kept(shard, columns):
            constant["generator"] = batch["generator"][0].as_py()
            values = (batch[name].to_pylist() for name in ("document", "synthetic", "id", "text"))
            yield from zip(*values, _scores(shard, batch), strict=True)

    made: dict[str, list[Any]] = {n: [] for n in ("id", "text", "source", "document", "version", "rewrites", "scores")}
    size = 0
    for document, texts in groupby(rows(), key=itemgetter(0)):
        joined: dict[str, list[tuple[str, str, dict[str, float]]]] = {}
        for _, synthetic, id, text, scores in texts:
            if minimum and not all(scores.get(name, float("-inf")) >= value for name, value in minimum.items()):
                counts.below_minimum += 1
                continue
            joined.setdefault(synthetic, []).append((id, text, scores))
        source = source_of(document)
        for synthetic, parts in joined.items():
            made["id"].append(synthetic)
            made["text"].append("\n\n".join(text for _, text, _ in parts))
            made["source"].append(source)
            made["document"].append(document)
            made["version"].append(int(synthetic.rpartition(":")[2]))
            made["rewrites"].append([id for id, _, _ in parts])
            made["scores"].append(_to_json(_means([scores for _, _, scores in parts])))
            size += len(made["text"][-1])
        if size >= BATCH_CHARACTERS or len(made["id"]) >= BATCH_ROWS:
            yield _batch({**constant, **made}, len(made["id"]))
            made, size = {name: [] for name in made}, 0
    if made["id"]:
        yield _batch({**constant, **made}, len(made["id"]))


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    first, count = scores[0], len(scores)
    if all(list(one) == list(first) for one in scores):  # as a rule: then their values stand in one order
        return {
            name: sum(values) / count for name, values in zip(first, zip(*map(dict.values, scores), strict=True), strict=True)
        }
    known = {name: [one[name] for one in scores if name in one] for name in set().union(*scores)}
    return {name: sum(values) / len(values) for name, values in known.items()}


_ORGANIC = {"origin": "organic", "operation": "", "round": 0, "version": 0, "generator": "", "rewrites": [], "scores": "{}"}


def _batch(columns: Mapping[str, Any], rows: int) -> pa.RecordBatch:
    """A batch of ROWS; a single value, or what an organic document has where none is given, is that of every row."""

    def array(field: pa.Field) -> pa.Array:
        value = columns.get(field.name, _ORGANIC.get(field.name))
        if isinstance(value, pa.Array):
            return value
        many = field.name in columns and isinstance(value, list)
        return pa.array(value, field.type) if many else pa.repeat(pa.scalar(value, field.type), rows)

    return pa.RecordBatch.from_arrays([array(field) for field in ROWS], schema=ROWS)
