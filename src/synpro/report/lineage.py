"""Where a text came from: `why` traces an id to its source span, prompt, generator, sampling, scores and verdict."""

from __future__ import annotations

import contextlib
import difflib
import heapq
import json
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from synpro.engines.registry import ENGINES
from synpro.plugins import load_config_files
from synpro.records import Passage
from synpro.runner.artifacts import (
    CorruptRun,
    NotARun,
    finished,
    one_of,
    operation_of,
    read_json,
    read_record,
    read_table,
    steps,
)
from synpro.runner.rejects import Reject, read_rejects

Kind = Literal["synthetic document", "rewrite", "passage", "organic document", "rejected row"]


class UnknownText(LookupError):
    """An id that the run does not know; the message names the nearest ones."""


@dataclass(frozen=True)
class Source:
    """An organic document, as `prepare` stored it."""

    id: str
    split: str
    source: str
    """File and row."""
    words: int
    text: str


@dataclass(frozen=True)
class CheckedClaim:
    """A claim of a rewrite, and the verifier's verdict."""

    claim: str
    label: str
    """`faithful`, `absent` (its topic is not in the passage) or `unsupported` (wrong, or not said there)."""
    probability: float
    """Probability of being faithful."""
    support: str | None
    """The passage's sentence that supports it best, found when a claim is shown (`with_support`)."""
    start: int | None
    """First character of that sentence in the passage's text."""
    end: int | None


@dataclass(frozen=True)
class Origin:
    """One rewrite with everything that made it."""

    id: str
    step: str
    """The step that made it, `round-01/synthesize-rephrase`."""
    span: Passage
    operation: str
    round: int
    version: int
    """Number of the answer among those to its passage in its round, from 0, dropped ones included."""
    generator: str
    """Digest of the generator's weights."""
    generator_round: int | None
    """The round whose training made this generator; None when its training step is not in this run directory."""
    engine: str | None
    """Type of the engine that answered; None where its step's request does not say."""
    base: str
    """The model of the config that the generator started from; some engines do not read it (`start`)."""
    adapter: str | None
    """Its trained weights, relative to the run directory."""
    prompt_hash: str
    seed: int
    sampling: dict[str, Any]
    answer: str
    text: str | None
    kept: bool
    synthetic: str | None
    """The synthetic document that it went into; None when it was dropped."""
    rank: int | None
    """Its place among the candidates of its passage, from 1; None where nothing was selected."""
    reason: str | None
    detail: str | None
    scores: dict[str, float | None]
    claims: tuple[CheckedClaim, ...]
    tokens: int
    finish: str

    @property
    def start(self) -> str:
        """Base and adapter in words, with what the engine has to do with them."""
        weights = f"{self.base}, adapter {self.adapter or 'none'}"
        if self.engine is None:
            return weights
        if self.engine not in ENGINES:  # its file has changed, or is not where this process was started
            return f"{weights}; answered by {self.engine}, an engine of the run's own, which need not read them"
        return f"{weights}; {'read' if ENGINES[self.engine].reads_weights else 'NOT read here: answered'} by {self.engine}"


@dataclass(frozen=True)
class Lineage:
    """What `why` returns."""

    id: str
    kind: Kind
    run: str
    source: Source | None
    passages: tuple[Passage, ...] = ()
    rewrites: tuple[Origin, ...] = ()
    """The rewrites a synthetic text consists of, or those made from an organic one, in the order of the run."""
    synthetic: tuple[str, ...] = ()
    """Synthetic documents these rewrites were joined into."""
    rejects: tuple[Reject, ...] = ()
    """Rows with this id in the reject logs."""
    text: str | None = None
    """The synthetic document itself."""
    notes: tuple[str, ...] = ()


def why(run: Path | str, text_id: str) -> Lineage:
    """The lineage of a synthetic document, a rewrite, a passage, an organic document or a rejected row, by its id.

    Reads finished steps only. Raises UnknownText (with the nearest ids), NotARun when `run` is not a run directory,
    and CorruptRun when a finished step's file cannot be read.
    """
    import pyarrow.compute as pc

    run = Path(run)
    begun = steps(run)
    prepare = run / "round-00" / "prepare"
    if not finished(prepare):
        raise NotARun(f"{prepare} is not done yet; nothing of this run can be traced before it is")
    shards = [s for s in begun if operation_of(s)[0] == "synthesize" and finished(run / s)]
    pending = [s for s in begun if operation_of(s)[0] == "synthesize" and not finished(run / s)]
    notes = tuple(f"{s} is not done: its texts cannot be traced yet" for s in pending)
    rejects = tuple(reject for reject in read_rejects(prepare) if reject.id == text_id)

    def lineage(kind: Kind, source: Source | None, **found: Any) -> Lineage:
        return Lineage(text_id, kind, run.name, source, notes=notes, **found)

    for shard in shards:
        joined = read_table(run / shard / "documents.parquet", ["id", "document", "text"], pc.field("id") == text_id)
        if joined:
            rewrites = tuple(origins(run, [shard], pc.field("synthetic") == text_id))
            spans, source = tuple(o.span for o in rewrites), _source(prepare, joined[0]["document"])
            given = {"passages": spans, "rewrites": rewrites, "synthetic": (text_id,), "text": joined[0]["text"]}
            return lineage("synthetic document", source, **given)
        rewrites = tuple(origins(run, [shard], pc.field("id") == text_id))
        if rewrites:
            span, made = rewrites[0].span, _joined(rewrites)
            return lineage("rewrite", _source(prepare, span.document), passages=(span,), rewrites=rewrites, synthetic=made)

    passages = tuple(_passages(prepare, pc.field("id") == text_id))
    source = _source(prepare, passages[0].document if passages else text_id)
    if passages or source is not None:
        rewrites = tuple(origins(run, shards, pc.field("passage" if passages else "document") == text_id))
        spans = passages or tuple(_passages(prepare, pc.field("document") == text_id))
        given = {"passages": spans, "rewrites": rewrites, "synthetic": _joined(rewrites), "rejects": rejects}
        return lineage("passage" if passages else "organic document", source, **given)
    if rejects:
        return lineage("rejected row", None, rejects=rejects)
    raise UnknownText(_unknown(run, text_id, shards, notes))


def format_lineage(lineage: Lineage, width: int = 110) -> list[str]:
    """A lineage as plain lines for a terminal, texts wrapped at `width` characters."""
    lines = [f"{lineage.id}: {lineage.kind} of run {lineage.run}"]
    for reject in lineage.rejects:
        lines += ["", f"rejected by prepare: {reject.reason}", f"  why      {reject.detail}", f"  source   {reject.source}"]
        lines += _quote(reject.text, width)
    if lineage.source is not None:
        s = lineage.source
        lines += ["", f"organic document {s.id}", f"  source   {s.source}", f"  split    {s.split}, {s.words} words"]
        if s.split != "train":
            lines.append(f"  note     generators only see the train split; nothing is made from {s.split} documents")
        if lineage.kind == "organic document":
            lines.append(f"  passages {len(lineage.passages)}; synthetic documents: {', '.join(lineage.synthetic) or 'none'}")
            lines += _quote(s.text, width)
    if lineage.kind in ("organic document", "passage"):
        if lineage.kind == "passage":
            lines += _span_lines(lineage.passages[0], width)
            lines += ["", f"rewritten {len(lineage.rewrites)} times, joined into: {', '.join(lineage.synthetic) or 'nothing'}"]
        lines += [f"  {o.id}  round {o.round}, {o.operation}, {verdict(o)}" for o in lineage.rewrites]
    else:
        for origin in lineage.rewrites:
            lines += _span_lines(origin.span, width) + _origin_lines(origin, width)
        if lineage.kind == "rewrite" and lineage.synthetic:
            lines += ["", f"part of synthetic document {', '.join(lineage.synthetic)}"]
        if lineage.text is not None:
            lines += ["", f"synthetic document {lineage.id}, as trained on", *_quote(lineage.text, width)]
    return lines + ([""] + [f"note: {n}" for n in lineage.notes] if lineage.notes else [])


def verdict(origin: Origin) -> str:
    """`kept`, or why not."""
    if origin.kept:
        return "kept" + (f" (rank {origin.rank} of its passage)" if origin.rank is not None else "")
    return f"dropped: {origin.reason}" + (f" ({origin.detail})" if origin.detail else "")


def _span_lines(span: Passage, width: int) -> list[str]:
    return ["", f"source span: passage {span.id}, characters {span.start} to {span.end}", *_quote(span.text, width)]


def _origin_lines(o: Origin, width: int) -> list[str]:
    trained = f"trained in round {o.generator_round}" if o.generator_round is not None else "not trained in this run"
    sampling = ", ".join(f"{k} {v}" for k, v in o.sampling.items())
    scores = ", ".join(f"{name} {_value(value)}" for name, value in o.scores.items())
    return [
        "",
        f"rewrite {o.id}: {o.operation}, round {o.round}, version {o.version}, made by {o.step}",
        f"  prompt     {o.prompt_hash}",
        f"  generator  {o.generator} ({trained})",
        f"  base       {o.start}",
        f"  sampling   {sampling}; seed {o.seed}; {o.tokens} tokens, ended by {o.finish}",
        f"  scores     {scores or 'none'}",
        f"  verdict    {verdict(o)}",
        *_quote(o.text if o.text is not None else o.answer, width),
        *(line for c in o.claims for line in _claim_lines(c, width)),
    ]


def _claim_lines(c: CheckedClaim, width: int) -> list[str]:
    said = [f"  claim      {c.label}, probability of being faithful {c.probability:.2f}", *_quote(c.claim, width)]
    return said + (["             by the passage's sentence", *_quote(c.support, width)] if c.support else [])


def _quote(text: str, width: int) -> list[str]:
    """A text as an indented block. Control characters are made visible: a text must not be able to steer the terminal."""
    shown = "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)
    lines = []
    for line in shown.splitlines():
        lines += textwrap.wrap(line, width - 4, break_on_hyphens=False) or [""]
    return [f"  | {line}".rstrip() for line in lines]


def _source(prepare: Path, document: str) -> Source | None:
    import pyarrow.compute as pc

    columns = ["id", "split", "source", "words", "text"]
    rows = read_table(prepare / "documents.parquet", columns, pc.field("id") == document)
    return Source(**rows[0]) if rows else None


def _passages(prepare: Path, where: Any) -> list[Passage]:
    columns = ["id", "document", "index", "start", "end", "text"]
    return [Passage(**r) for r in read_table(prepare / "passages.parquet", columns, where)]


def _engine(request: Path) -> str | None:
    """The type of the engine that a step's request names; None where it names none."""
    engine = read_json(request).get("config", {}).get("engine") if request.exists() else None
    return engine.get("type") if isinstance(engine, dict) else engine


def origins(run: Path, shards: list[str], where: Any) -> Iterator[Origin]:
    """Rewrites of some shards, in the order of shards and of passages in a document. `where`: which, as for `read_table`.
    Raises CorruptRun."""
    from synpro.corpus.store import REWRITES

    with contextlib.suppress(ValueError):
        load_config_files(run / "config.toml")  # an engine of the run's own says whether it reads weights
    for shard in shards:
        path = run / shard / "rewrites.parquet"
        rows = sorted(read_table(path, REWRITES.names, where), key=lambda r: (r["document"], r["start"], r["version"]))
        if not rows:
            continue
        wanted = sorted({r["passage"] for r in rows})
        spans = {s.id: s for s in _passages(run / "round-00" / "prepare", one_of("id", wanted))}
        generators, engine = _generators(run), _engine(run / shard / "request.json")
        for row in rows:
            if row["passage"] not in spans:
                raise CorruptRun(f"{path}: rewrite {row['id']} names passage {row['passage']}, which prepare does not have")
            generator_round, adapter = generators.get(row["generator"], (None, None))
            yield Origin(
                id=row["id"],
                step=shard,
                span=spans[row["passage"]],
                generator_round=generator_round,
                adapter=adapter,
                engine=engine,
                sampling=parsed(row["sampling"], path, row["id"], "sampling"),
                scores=scores_of(row["scores"], path, row["id"]),
                claims=with_support(checked(row["claims"], path, row["id"]), spans[row["passage"]].text),
                **{k: row[k] for k in ("operation", "round", "version", "generator", "base", "prompt_hash", "seed", "answer")},
                **{k: row[k] for k in ("text", "kept", "synthetic", "rank", "reason", "detail", "tokens", "finish")},
            )


def parsed(value: str | None, path: Path, row: str, column: str) -> dict[str, Any]:
    """A JSON object in a column; empty for a null. Raises CorruptRun naming file, row and column."""
    try:
        result = json.loads(value) if value else {}
        if not isinstance(result, dict):
            raise ValueError("not an object")
    except ValueError as problem:
        raise CorruptRun(f"{path}, row {row}, column {column!r}: not a JSON object ({problem})") from problem
    return result


def scores_of(value: str | None, path: Path, row: str) -> dict[str, float | None]:
    """The scores in a column, minus infinity where the text fails a reward. Raises CorruptRun as `parsed`."""
    return {name: float("-inf") if v == "failed" else v for name, v in parsed(value, path, row, "scores").items()}


def checked(value: str | None, path: Path, row: str) -> tuple[CheckedClaim, ...]:
    """The claims in a column; none for a null. Raises CorruptRun naming file and row."""
    try:
        return tuple(CheckedClaim(**c) for c in json.loads(value or "[]"))
    except (ValueError, TypeError) as problem:
        raise CorruptRun(f"{path}, row {row}, column 'claims': not a list of claims ({problem})") from problem


def with_support(claims: tuple[CheckedClaim, ...], passage: str) -> tuple[CheckedClaim, ...]:
    """The claims, each with the sentence of its passage that is closest to it. (A verifier that looks for it stores it;
    for the others it is looked for here, where a few claims are shown, and not for every claim of a run.)"""
    from synpro.faithfulness.evidence import best_sentence

    found = []
    for claim in claims:
        best = best_sentence(claim.claim, passage) if claim.support is None else None
        found.append(replace(claim, support=best.text, start=best.start, end=best.end) if best else claim)
    return tuple(found)


def _generators(run: Path) -> dict[str, tuple[int, str | None]]:
    """Round and weights (relative to the run) of each generator this run trained, by digest."""
    known: dict[str, tuple[int, str | None]] = {}
    for step in steps(run):
        if operation_of(step)[0] == "train" and finished(run / step):
            record = read_record(run / step)
            where = record.get("adapter") or record.get("weights")
            if where:  # a generator of 0 steps is its base; one of a later round that kept its start is that of the earlier
                known.setdefault(record["digest"], (record["round"], where["path"]))
    return known


def _joined(origins: tuple[Origin, ...]) -> tuple[str, ...]:
    """Ids of the synthetic documents that kept rewrites went into."""
    return tuple(dict.fromkeys(o.synthetic for o in origins if o.synthetic is not None))


def _unknown(run: Path, text_id: str, shards: list[str], notes: tuple[str, ...]) -> str:
    prepare = run / "round-00" / "prepare"
    files = [prepare / "documents.parquet", prepare / "passages.parquet"]
    files += [run / s / name for s in shards for name in ("documents.parquet", "rewrites.parquet")]
    ids = {row["id"] for file in files for row in read_table(file, ["id"])}
    ids |= {reject.id for reject in read_rejects(prepare)}
    if len(ids) > 5000:  # difflib is quadratic; in a large run only ids that start alike are compared
        ids = set(heapq.nlargest(500, sorted(ids), key=lambda i: _shared_start(i, text_id)))
    near = difflib.get_close_matches(text_id, sorted(ids), n=4, cutoff=0.4)
    hint = (
        f"the nearest ids are {', '.join(near)}" if near else "ids are in the `id` column of any documents.parquet of the run"
    )
    return f"{text_id!r}: run {run.name} has no text with this id; {hint}" + "".join(f"\nnote: {n}" for n in notes)


def _shared_start(a: str, b: str) -> int:
    """How many first characters two ids share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _value(score: float | None) -> str:
    return "not applicable" if score is None else "failed" if score == float("-inf") else f"{score:.4g}"
