"""The files of a shard: `rewrites.parquet` (every answer), `rejects.jsonl`, `documents.parquet` and `tokens.bin`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from synpro.corpus.store import REWRITES, read_rows, write_rows
from synpro.corpus.synthetic import tokenizer_digest, write_synthetic
from synpro.operations.base import Operation
from synpro.records import Corpus, Generator, Shard, digest_files
from synpro.rewards.advantages import readable
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.runner.rejects import Reject
from synpro.synthesis.answers import Answer

RewriteRow = dict[str, Any]
FILES = ("documents.parquet", "rewrites.parquet", "rejects.jsonl", "tokens.bin", "embeddings.parquet")


def row_maker(operation: Operation, generator: Generator, round: int) -> Callable[[Answer], RewriteRow]:
    """Turns an answer into its row of `rewrites.parquet`, all but `synthetic`."""
    config = operation.config
    sampling = {"temperature": config.temperature, "top_p": config.top_p, "max_new_tokens": config.max_new_tokens}

    def row(answer: Answer) -> RewriteRow:
        r, scored = answer.rewrite, answer.scored
        reason, detail = answer.failure or (None, None)
        return {
            "id": f"{r.passage.id}:{operation.name}:{round:02d}:{answer.version}",
            "passage": r.passage.id,
            "document": r.passage.document,
            "start": r.passage.start,
            "end": r.passage.end,
            "operation": operation.name,
            "round": round,
            "version": answer.version,
            "generator": generator.digest,
            "base": generator.base,
            "prompt_hash": operation.prompt_hash(r.passage),
            "seed": answer.seed,
            "sampling": json.dumps(sampling),
            "answer": r.answer,
            "text": r.text,
            "kept": answer.failure is None,
            "reason": reason,
            "detail": detail,
            "scores": json.dumps(readable(scored.scores) if scored else {}, sort_keys=True),
            "claims": json.dumps(scored.claims if scored else [], ensure_ascii=False),
            "selection": answer.selection,
            "rank": answer.rank,
            "tokens": r.tokens,
            "finish": r.finish,
        }

    return row


def write_shard(
    operation: Operation,
    scoring: Scoring,
    corpus: Corpus,
    round: int,
    rows: Iterable[RewriteRow],
    max_embedded: int,
    ctx: StepContext,
) -> Shard:
    """Write the files from the rows of all answers, in the order of the corpus, and return the record.

    The k-th kept texts of a document's passages make its k-th synthetic document. `max_embedded`: kept texts to embed at most.
    Raises RuntimeError when the files do not add up.
    """
    out, name = ctx.out, operation.name
    count: Counter[str] = Counter()
    write_rows(out / "rewrites.parquet", REWRITES, _with_documents(rows, name, round, count))
    _write_rejects(out, ctx)
    documents, text_tokens = write_synthetic(out, _documents(out / "rewrites.parquet", name, round), corpus)
    if max_embedded:
        _write_embeddings(out, scoring, corpus, count["kept"], max_embedded)
    reasons = ctx.logger.rejects.reasons()
    dropped = sum(reasons.values())
    if count["kept"] + dropped != count["answers"]:
        raise RuntimeError(
            f"{count['answers']} answers were given, {count['kept']} were kept and {dropped} dropped; the shard is not whole"
        )
    why = ", ".join(f"{reason} {number}" for reason, number in reasons.items())
    ctx.logger.log(
        f"{name}: kept {count['kept']} of {count['answers']} answers, for {count['covered']} of {corpus.passages} passages"
        + (f"; dropped: {why}" if why else "")
    )
    if count["answers"] and not count["kept"]:
        ctx.logger.log(
            f"WARNING: no text of {name} was kept, so this round adds none; see {out.name}/rejects.jsonl, and loosen the "
            "filters or use a stronger generator"
        )
    return Shard(
        dir=out,
        operation=name,
        round=round,
        passages=corpus.passages,
        answers=count["answers"],
        kept=count["kept"],
        dropped=dropped,
        covered=count["covered"],
        documents=documents,
        tokens=count["tokens"],
        text_tokens=text_tokens,
        tokenizer=tokenizer_digest(corpus),
        digest=digest_files(out, *(out / file for file in FILES if (out / file).exists())),
    )


def _with_documents(rows: Iterable[RewriteRow], operation: str, round: int, count: Counter[str]) -> Iterator[RewriteRow]:
    """The rows with the id of the synthetic document that each kept text goes into. Counts what passes by."""
    for _, answers in groupby(rows, key=lambda row: row["passage"]):
        kept = 0
        for row in answers:
            document = f"{row['document']}:{operation}:{round:02d}:{kept}" if row["kept"] else None
            kept += row["kept"]
            count.update(answers=1, tokens=row["tokens"], kept=int(row["kept"]))
            yield {**row, "synthetic": document}
        count["covered"] += kept > 0


def _write_rejects(out: Path, ctx: StepContext) -> None:
    ctx.logger.rejects.clear()
    columns = ["id", "document", "start", "end", "kept", "reason", "detail", "answer"]
    for row in read_rows(out / "rewrites.parquet", columns):
        if not row["kept"]:
            span = f"{row['document']}[{row['start']}:{row['end']}]"
            ctx.logger.rejects.append(Reject(row["id"], row["reason"], row["detail"], source=span, text=row["answer"]))


def _documents(rewrites: Path, operation: str, round: int) -> Iterator[RewriteRow]:
    """The synthetic documents, those of one organic document after the other."""
    kept = (row for row in read_rows(rewrites, ["document", "synthetic", "text", "kept"]) if row["kept"])
    for document, texts in groupby(kept, key=lambda row: row["document"]):
        joined: dict[str, list[str]] = {}
        for row in texts:
            joined.setdefault(row["synthetic"], []).append(row["text"])
        for id in sorted(joined, key=lambda id: int(id.rpartition(":")[2])):
            version = int(id.rpartition(":")[2])
            common = {"document": document, "operation": operation, "round": round, "version": version}
            yield {"id": id, **common, "text": "\n\n".join(joined[id])}


def _write_embeddings(out: Path, scoring: Scoring, corpus: Corpus, kept: int, most: int) -> None:
    """`embeddings.parquet`: vectors of some kept texts, evenly spaced over corpus and versions, and of their passages."""
    from synpro.judges.embeddings import write_embeddings

    step = -(-kept // most) or 1
    rows = (row for row in read_rows(out / "rewrites.parquet", ["passage", "text", "kept"]) if row["kept"])
    some = [(row["passage"], row["text"]) for number, row in enumerate(rows) if number % step == 0][:most]
    wanted = {passage for passage, _ in some}
    passages = read_rows(corpus.dir / "passages.parquet", ["id", "text"])
    sources = {row["id"]: row["text"] for row in passages if row["id"] in wanted}
    write_embeddings(out / "embeddings.parquet", scoring.judges, [(p, text, sources[p]) for p, text in some])
