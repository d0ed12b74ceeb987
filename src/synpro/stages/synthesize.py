"""synthesize: run a generator over the whole corpus, passage by passage; join the outputs of one document (method.md, step 5).

Differences from the paper: every answer passes a table of checks before it may be trained on, because a small generator loops,
copies and drifts. Nothing is dropped without a row that says why: kept + dropped = passages in.

Answers and scores are kept in chunks under `out/chunks/` until the shard is written, so that a killed step carries on; a chunk
is one call of the engine with a seed of its own, so it comes out the same whichever chunks were there before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from synpro.engines.base import Engine, Sampling
from synpro.judges.base import JudgesConfig
from synpro.operations.base import Operation, OperationConfig, read
from synpro.operations.table import build
from synpro.records import Completion, Corpus, Generator, Passage, Probe, Rewrite, Shard, Verifier, digest_files, digest_of
from synpro.rewards.checks import Scores, judge
from synpro.rewards.faithfulness import Checked
from synpro.rewards.faithfulness import share as share_of
from synpro.rewards.rubric import Rubric, RubricConfig
from synpro.run.journal import Journal
from synpro.run.ledger import Reject

SCORING = 0.25
"""Time of scoring a passage over that of generating it, for the progress bar."""


@dataclass(frozen=True)
class SynthesizeConfig:
    """How texts are generated, and which are kept. Sampling defaults are the paper's; the checks are ours."""

    temperature: float = 1.0
    """Paper: 1.0. A model of 135M parameters needs 0.3 to 0.7 to stay with its source."""
    top_p: float = 0.9
    """Paper: 0.9."""
    max_new_tokens: dict[str, int] = field(default_factory=lambda: {"rephrase": 2048, "reformat": 2048})
    """By operation (paper: 2,048)."""
    batch_size: int = 64
    """Answers generated side by side."""
    chunk: int = 1024
    """Passages between two save points."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the generator's weights."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`; None = a GPU where there is one."""
    clipped: bool = False
    """Keep answers that were cut at `max_new_tokens`: their last sentence is not whole."""
    min_length: float = 0.3
    """Words of the text over words of its passage, at least."""
    max_length: float = 2.0
    """The same, at most. (The paper rewards rephrasings of at most 1.25.)"""
    same_language: bool = True
    """Drop texts in another language than their passage (py3langid, where it is at least 90% sure of both)."""
    max_copied: dict[str, float] = field(default_factory=lambda: {"rephrase": 0.85, "reformat": 0.95})
    """By operation: share of the text's words in runs of 6 that stand in its passage, at most; 1 lets copies pass."""
    max_looped: float = 0.2
    """Share of the text's runs of 4 words that stood in it before, at most."""
    min_support: float = 0.5
    """Share of the text's claims that the verifier calls faithful, at least; 0 lets everything pass."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"temperature: {self.temperature} is out of range; use 0 (greedy) to about 1")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} is not a probability above 0; use 0.9, or 1 for no cut")
        for name, limit in self.max_new_tokens.items():
            if limit < 1:
                raise ValueError(f"max_new_tokens.{name}: {limit} tokens hold no answer; use 1 or more")
        for name in ("batch_size", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if not 0 <= self.min_length < self.max_length:
            raise ValueError(f"min_length: {self.min_length} must be 0 or more and below max_length = {self.max_length}")
        shares = {"max_looped": self.max_looped, "min_support": self.min_support}
        for name, share in {**shares, **{f"max_copied.{k}": v for k, v in self.max_copied.items()}}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: {share} is not a share; use 0 to 1")

    def sampling_for(self, operation: str) -> Sampling:
        """How answers of an operation are sampled, one per passage; the seed is for the caller to set."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens.get(operation, 2048))


def synthesize(
    cfg: SynthesizeConfig,
    *,
    operation: OperationConfig,
    rubric: RubricConfig,
    judges: JudgesConfig,
    generator: Generator,
    corpus: Corpus,
    probe: Probe,
    verifier: Verifier,
    round: int,
    out: Path,
    journal: Journal,
    seed: int,
) -> Shard:
    """Rewrite every passage of the corpus' train split; write the shard to `out`.

    A shard that kept nothing is written too, and said loudly. Raises what the engine, the judges and the files raise.
    """
    from synpro.corpus.store import passages

    def open_engine(progress: Callable[[float, float], None]) -> Engine:
        from synpro.engines.hf import HFEngine

        return HFEngine.load(generator, cfg.dtype, cfg.device, cfg.batch_size, progress)

    task = build(operation)
    work = Work(cfg, task, generator, passages(corpus), out / "chunks", journal, seed)
    answers = work.answer(open_engine)  # all of them first: generator and judges need not fit into memory together
    paid = digest_of([asdict(rubric), asdict(judges), probe.digest, verifier.digest])
    scored = work.score(answers, paid, lambda: Rubric.build(task, rubric, judges, probe, verifier, out / "scratch"))
    return _write(cfg, task, generator, answers, scored, round, out, journal, work.seeds())


@dataclass(frozen=True)
class Scored:
    """What was found of one rewrite."""

    scores: Scores
    """Raw rewards by name; faithfulness also where it is not paid for."""
    claims: list[dict[str, Any]]
    """Each claim with its verdict (`run/lineage.py` reads it)."""


def told(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """Claims as plain data: claim, label, probability, and the passage's sentence that supports it with its place."""
    rows = []
    for c in checked:
        s = c.verdict.support
        place = {"support": s.text, "start": s.start, "end": s.end} if s else {"support": None, "start": None, "end": None}
        rows.append({"claim": c.claim, "label": c.verdict.label, "probability": round(c.verdict.probability, 6), **place})
    return rows


class Work:
    """Answers and scores of all passages, chunk by chunk, each chunk once."""

    def __init__(
        self,
        cfg: SynthesizeConfig,
        operation: Operation,
        generator: Generator,
        passages: Sequence[Passage],
        dir: Path,
        journal: Journal,
        seed: int,
    ) -> None:
        self.cfg, self.operation, self.dir, self.journal, self.seed = cfg, operation, dir, journal, seed
        self.passages = passages
        self.chunks = [passages[i : i + cfg.chunk] for i in range(0, len(passages), cfg.chunk)]
        self.sampling = cfg.sampling_for(operation.name)
        self._done = 0
        self._what = [generator.digest, asdict(self.sampling), cfg.dtype, cfg.batch_size]
        dir.mkdir(parents=True, exist_ok=True)

    def seeds(self) -> list[int]:
        """The seed of each passage's answer."""
        return [self._seed(i) for i, chunk in enumerate(self.chunks) for _ in chunk]

    def answer(self, open_engine: Callable[[Callable[[float, float], None]], Engine]) -> list[Rewrite]:
        """One rewrite per passage, in order. The engine is opened only when an answer is missing."""
        engine: Engine | None = None
        rewrites: list[Rewrite] = []
        try:
            for number, chunk in enumerate(self.chunks):
                chats = [self.operation.prompt(p) for p in chunk]
                key = digest_of([self._what, self._seed(number), chats])
                rows = self._load(number, "answers", key)
                if rows is None:
                    engine = engine or open_engine(lambda part, _: self._progress(self._done + part))
                    self._done = len(rewrites)
                    groups = engine.generate(chats, replace(self.sampling, seed=self._seed(number)))
                    rows = [asdict(group[0]) for group in groups]
                    self._save(number, "answers", key, rows)
                rewrites += [read(self.operation, p, Completion(**row)) for p, row in zip(chunk, rows, strict=True)]
                self._progress(len(rewrites))
        finally:
            if engine is not None:
                engine.close()
        return rewrites

    def score(self, rewrites: Sequence[Rewrite], paid: str, open_rubric: Callable[[], Rubric]) -> list[Scored]:
        """The rubric's raw values and the claims of every rewrite, parsed or not. `paid` names the rubric: other scores are not
        reused."""
        rubric: Rubric | None = None
        scored: list[Scored] = []
        try:
            for number, chunk in enumerate(self.chunks):
                some = rewrites[len(scored) : len(scored) + len(chunk)]
                key = digest_of([paid, [asdict(r) for r in some]])
                rows = self._load(number, "scores", key)
                if rows is None:
                    rubric = rubric or open_rubric()
                    rows = []
                    for i in range(0, len(some), 64):
                        part = some[i : i + 64]
                        rubric.prepare([r.passage for r in part])
                        for s, checked in zip(rubric.score(part), rubric.claims(part), strict=True):
                            rows.append({"scores": {**s, "faithfulness": share_of(checked)}, "claims": told(checked)})
                        self._progress(len(self.passages) + SCORING * (len(scored) + len(rows)))
                    self._save(number, "scores", key, rows)
                scored += [Scored(**row) for row in rows]
        finally:
            if rubric is not None:
                rubric.close()
        return scored

    def _seed(self, number: int) -> int:
        return int(digest_of([self.seed, number])[:12], 16)

    def _progress(self, done: float) -> None:
        self.journal.progress(done, (1 + SCORING) * len(self.passages), "passages")

    def _load(self, number: int, kind: str, key: str) -> list[dict[str, Any]] | None:
        path = self.dir / f"{number:06d}.{kind}.json"
        if not path.exists():
            return None
        held = json.loads(path.read_text(encoding="utf-8"))
        return held["rows"] if held["key"] == key else None

    def _save(self, number: int, kind: str, key: str, rows: Sequence[dict[str, Any]]) -> None:
        path = self.dir / f"{number:06d}.{kind}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"key": key, "rows": list(rows)}, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)


def _write(
    cfg: SynthesizeConfig,
    operation: Operation,
    generator: Generator,
    rewrites: Sequence[Rewrite],
    scored: Sequence[Scored],
    round: int,
    out: Path,
    journal: Journal,
    seeds: Sequence[int],
) -> Shard:
    import pyarrow as pa

    from synpro.corpus.store import write_rows

    empty = Passage("", "", 0, 0, 0, "")
    constant = {
        "operation": operation.name,
        "round": round,
        "generator": generator.digest,
        "base": generator.base,
        "prompt_hash": digest_of(list(operation.prompt(empty))),
        "sampling": json.dumps({k: v for k, v in asdict(cfg.sampling_for(operation.name)).items() if k not in ("n", "seed")}),
    }
    verdicts = [judge(r, s.scores, cfg) for r, s in zip(rewrites, scored, strict=True)]
    joined: dict[str, list[str]] = {}
    journal.rejects.start()
    for rewrite, verdict in zip(rewrites, verdicts, strict=True):
        passage = rewrite.passage
        if verdict is None:
            joined.setdefault(passage.document, []).append(rewrite.text or "")
        else:
            span = f"{passage.document}[{passage.start}:{passage.end}]"
            journal.rejects.append(Reject(passage.id, *verdict, source=span, text=rewrite.answer))

    def rows() -> Iterator[dict[str, Any]]:
        for r, s, verdict, seed in zip(rewrites, scored, verdicts, seeds, strict=True):
            reason, detail = verdict or (None, None)
            yield {
                **constant,
                "id": f"{r.passage.id}:{operation.name}:{round:02d}",
                "passage": r.passage.id,
                "document": r.passage.document,
                "start": r.passage.start,
                "end": r.passage.end,
                "seed": seed,
                "answer": r.answer,
                "text": r.text,
                "kept": verdict is None,
                "reason": reason,
                "detail": detail,
                "scores": json.dumps(s.scores, sort_keys=True),
                "claims": json.dumps(s.claims, ensure_ascii=False),
                "tokens": r.tokens,
                "finish": r.finish,
            }

    texts, numbers = (
        ["passage", "document", "operation", "generator", "base", "prompt_hash", "sampling"],
        ["start", "end", "round"],
    )
    kinds = {"text": pa.large_string(), "answer": pa.large_string(), "claims": pa.large_string(), "kept": pa.bool_()}
    order = ["id", *texts[:2], *numbers[:2], "operation", "round", "generator", "base", "prompt_hash", "seed", "sampling"]
    order += ["answer", "text", "kept", "reason", "detail", "scores", "claims", "tokens", "finish"]
    whole = {*numbers, "seed", "tokens"}
    schema = pa.schema([(n, kinds.get(n, pa.int64() if n in whole else pa.string())) for n in order])
    write_rows(out / "rewrites.parquet", schema, rows())
    documents = [
        {
            "id": f"{d}:{operation.name}:{round:02d}",
            "document": d,
            "operation": operation.name,
            "round": round,
            "text": "\n\n".join(t),
        }
        for d, t in joined.items()
    ]
    fields = [("id", pa.string()), ("document", pa.string()), ("operation", pa.string()), ("round", pa.int64())]
    write_rows(out / "documents.parquet", pa.schema([*fields, ("text", pa.large_string())]), documents)
    kept, dropped = sum(v is None for v in verdicts), sum(1 for _ in journal.rejects.rows())
    if kept + dropped != len(rewrites):
        raise RuntimeError(f"{len(rewrites)} passages went in, {kept} were kept and {dropped} dropped; the shard is not whole")
    reasons = ", ".join(f"{reason} {count}" for reason, count in journal.rejects.reasons().items())
    journal.say(f"{operation.name}: kept {kept} of {len(rewrites)} passages" + (f"; dropped: {reasons}" if reasons else ""))
    if rewrites and not kept:
        journal.say(
            f"WARNING: nothing of {operation.name} was kept, this round adds no text of it; see {out.name}/rejects.jsonl, and "
            "loosen the checks or use a stronger generator"
        )
    shutil.rmtree(out / "chunks")  # the shard holds all of it
    files = [out / name for name in ("documents.parquet", "rewrites.parquet", "rejects.jsonl")]
    tokens = sum(r.tokens for r in rewrites)
    return Shard(out, operation.name, round, len(rewrites), kept, dropped, len(documents), tokens, digest_files(out, *files))
