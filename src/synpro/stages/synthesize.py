"""synthesize: run a generator over the whole corpus, passage by passage; join the texts of one document (method.md, step 5).

Differences from the paper: every text passes filters before it may be trained on, because a small generator loops, copies and
drifts. Nothing is dropped without a row that says why: kept + dropped = passages in.

Answers and scores are stored in chunks under `chunks/` until the shard is written, so that a killed step resumes. A chunk is
one call of the engine with a seed of its own, so its texts do not depend on which chunks were stored before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

from synpro.engines.batch_generator import BatchGeneratorFactory, Chunk
from synpro.engines.parallel_map import WorkerFactory, parallel_map
from synpro.engines.registry import EngineTable
from synpro.engines.transformers import TransformersConfig
from synpro.operations.base import Operation, OperationConfig, parse_completion
from synpro.operations.registry import build_operation
from synpro.records import Completion, Corpus, Generator, Passage, Rewrite, Shard, digest_files, digest_of
from synpro.rewards.filters import FilterConfig, Sample, first_failure
from synpro.rewards.registry import needs_of
from synpro.rewards.scoring import Scoring
from synpro.rewards.worker import RubricSpec, Scored
from synpro.runner.chunks import ChunkStore, Rows
from synpro.runner.context import StepContext
from synpro.runner.rejects import Reject
from synpro.schema import setting

T = TypeVar("T")

SCORING_COST = 0.25
"""Time of scoring a passage over that of generating it, for the progress bar."""
VERSION = 0
"""Number of a rewrite among those of the same passage, operation and round; there is one."""


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig(FilterConfig):
    """How texts are generated, and which are kept. How they are sampled is in `[operations.NAME]`."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **{key: f"operations.NAME.{key}" for key in ("temperature", "top_p", "max_new_tokens", "max_copied")},
        **{"clipped": "keep_truncated", "max_looped": "max_repetition", "min_support": "min_faithfulness"},
        **{"chunk": "chunk_size", "contaminated": "keep_contaminated", "embedded": "max_embedded"},
        **{key: f"synthesize.engine.{key}" for key in ("dtype", "device", "batch_size")},
        **dict.fromkeys(("vllm", "serve", "server"), "synthesize.engine"),
    }

    engine: EngineTable = field(default_factory=TransformersConfig)
    """What generates the texts (docs/engines.md)."""
    chunk_size: int = setting(1024, unit="passages", min=1)
    """Passages between two save points."""
    keep_contaminated: bool = False
    """Keep texts with an evaluation item (13 of its words in a row, or 80% of its 5-word runs; corpus/contamination.py)."""
    max_embedded: int = setting(256, unit="texts", min=0)
    """Kept texts that are embedded, with their passages, to watch the distribution for collapse."""


@dataclass(frozen=True)
class ScoredRewrite:
    """A rewrite with everything that its row in `rewrites.parquet` holds."""

    rewrite: Rewrite
    scored: Scored
    seed: int
    failure: tuple[str, str] | None
    """Why it is dropped (reason, detail); None for one that is kept."""


def synthesize(
    cfg: SynthesizeConfig,
    *,
    operation: OperationConfig,
    scoring: Scoring,
    corpus: Corpus,
    generator: Generator,
    round: int,
    ctx: StepContext,
    tasks: Sequence[str] = (),
) -> Shard:
    """Rewrite every passage of the corpus' train split and write the shard. No text may contain an item of `tasks`.

    A shard that kept nothing is written too. Raises what the engine, the judges and the files raise.
    """
    from synpro.corpus.store import read_passages

    op = build_operation(operation)
    work = _Chunks(cfg, op, generator, read_passages(corpus.dir), ctx)
    began = time.monotonic()
    rewrites = work.generate()  # all of them first: generator and judges need not fit into memory together
    generated = time.monotonic()
    scored = work.score(rewrites, scoring)
    seconds = {"seconds/generate": generated - began, "seconds/reward": time.monotonic() - generated}
    ctx.logger.metrics(step=0, **seconds)
    samples = [Sample(r, s.scores, operation.max_copied) for r, s in zip(rewrites, scored, strict=True)]
    failures = [first_failure(sample, cfg) for sample in samples]
    if tasks and not cfg.keep_contaminated:
        from synpro.corpus.contamination import BenchmarkIndex
        from synpro.lm.tasks import benchmark_items

        index = BenchmarkIndex.of(benchmark_items(tasks))
        failures = [failure or index.contaminated(s.text) for s, failure in zip(samples, failures, strict=True)]
    results = [ScoredRewrite(*parts) for parts in zip(rewrites, scored, work.seeds(), failures, strict=True)]
    if "encoder" in needs_of(operation.weights):  # else the encoder is not open, and nothing is embedded
        _write_embeddings(cfg, scoring, results, ctx)
    shard = _write_shard(op, generator, results, round, ctx)
    work.store.clear()
    return shard


class _Chunks:
    """Answers and scores of all passages: each chunk once, in this process or by a worker elsewhere."""

    def __init__(
        self, cfg: SynthesizeConfig, operation: Operation, generator: Generator, passages: Sequence[Passage], ctx: StepContext
    ) -> None:
        self.cfg, self.operation, self.generator, self.passages, self.ctx = cfg, operation, generator, passages, ctx
        self.chunks = [passages[i : i + cfg.chunk_size] for i in range(0, len(passages), cfg.chunk_size)]
        self.store = ChunkStore(ctx.out / "chunks")

    def seeds(self) -> list[int]:
        """The seed of each passage's answer."""
        return [self._seed(number) for number, chunk in enumerate(self.chunks) for _ in chunk]

    def generate(self) -> list[Rewrite]:
        """One rewrite per passage, in order. The generator is opened only when an answer is missing."""
        tasks, keys = dict[int, Chunk](), list[str]()
        made_by = [self.generator.digest, self.cfg.engine.result_settings()]
        for number, chunk in enumerate(self.chunks):
            sampling = self.operation.config.sampling(seed=self._seed(number))
            chats = [self.operation.prompt(p) for p in chunk]
            tasks[number] = chats, sampling
            keys.append(digest_of([made_by, asdict(sampling), chats]))
        spec = BatchGeneratorFactory(self.generator, self.cfg.engine, scratch=self.ctx.out / "scratch")
        rows = self._run("answers", keys, spec, tasks, lambda done: done)
        pairs = zip(self.passages, rows, strict=True)
        return [parse_completion(self.operation, passage, Completion(**row)) for passage, row in pairs]

    def score(self, rewrites: Sequence[Rewrite], scoring: Scoring) -> list[Scored]:
        """The rubric's raw values and the claims of every rewrite, parsed or not."""
        tasks, keys, first = dict[int, Sequence[Rewrite]](), list[str](), 0
        config = self.operation.config
        for number, chunk in enumerate(self.chunks):
            tasks[number] = rewrites[first : first + len(chunk)]
            keys.append(digest_of([scoring.digest, config.weights, [asdict(r) for r in tasks[number]]]))
            first += len(chunk)
        spec = RubricSpec(config, scoring, self.ctx.out / "scratch", self.passages)
        rows = self._run("scores", keys, spec, tasks, lambda done: len(self.passages) + SCORING_COST * done)
        return [Scored(**row) for row in rows]

    def _run(
        self,
        kind: str,
        keys: Sequence[str],
        spec: WorkerFactory[T, Rows],
        tasks: Mapping[int, T],
        position: Callable[[float], float],
    ) -> Rows:
        """The rows of all chunks, in order: those that are stored, and the rest, which is done and stored."""
        found = {number: rows for number, key in enumerate(keys) if (rows := self.store.load(kind, number, key)) is not None}
        logger = self.ctx.logger

        def progress(part: float) -> None:
            done = sum(map(len, found.values())) + part
            logger.progress(position(done), (1 + SCORING_COST) * len(self.passages), "passages")

        missing = {number: task for number, task in tasks.items() if number not in found}
        for number, rows in parallel_map(spec, missing, machine=self.ctx.workers, progress=progress, log=logger.log):
            self.store.save(kind, number, keys[number], rows)
            found[number] = rows
            progress(0)
        return [row for number in range(len(keys)) for row in found[number]]

    def _seed(self, number: int) -> int:
        return int(digest_of([self.ctx.seed, number])[:12], 16)


def _write_embeddings(cfg: SynthesizeConfig, scoring: Scoring, results: Sequence[ScoredRewrite], ctx: StepContext) -> None:
    """`embeddings.parquet`: vectors of some kept texts, evenly spaced over the corpus, and of their passages."""
    from synpro.judges.embeddings import write_embeddings

    kept = [r.rewrite for r in results if r.failure is None]
    step = -(-len(kept) // max(1, cfg.max_embedded)) or 1
    some = [(r.passage.id, r.text or "", r.passage.text) for r in kept[::step]][: cfg.max_embedded]
    write_embeddings(ctx.out / "embeddings.parquet", scoring.judges, some)


def _write_shard(
    operation: Operation, generator: Generator, results: Sequence[ScoredRewrite], round: int, ctx: StepContext
) -> Shard:
    """The files of a shard, and its record."""
    from synpro.corpus.store import REWRITES, SYNTHETIC_DOCUMENTS, write_rows

    out, logger, name = ctx.out, ctx.logger, operation.name
    logger.rejects.clear()
    joined: dict[str, list[str]] = {}
    for r in results:
        passage = r.rewrite.passage
        if r.failure is None:
            joined.setdefault(passage.document, []).append(r.rewrite.text or "")
        else:
            span = f"{passage.document}[{passage.start}:{passage.end}]"
            logger.rejects.append(Reject(passage.id, *r.failure, source=span, text=r.rewrite.answer))
    write_rows(out / "rewrites.parquet", REWRITES, _rows(operation, generator, results, round))
    documents = [
        {"id": f"{d}:{name}:{round:02d}", "document": d, "operation": name, "round": round, "text": "\n\n".join(texts)}
        for d, texts in joined.items()
    ]
    write_rows(out / "documents.parquet", SYNTHETIC_DOCUMENTS, documents)
    kept, dropped = sum(r.failure is None for r in results), sum(1 for _ in logger.rejects.rows())
    if kept + dropped != len(results):
        raise RuntimeError(f"{len(results)} passages went in, {kept} were kept and {dropped} dropped; the shard is not whole")
    why = ", ".join(f"{reason} {count}" for reason, count in logger.rejects.reasons().items())
    logger.log(f"{name}: kept {kept} of {len(results)} passages" + (f"; dropped: {why}" if why else ""))
    if results and not kept:
        logger.log(
            f"WARNING: no text of {name} was kept, so this round adds none; see {out.name}/rejects.jsonl, and loosen the "
            "filters or use a stronger generator"
        )
    names = ("documents.parquet", "rewrites.parquet", "rejects.jsonl", "embeddings.parquet")
    digest = digest_files(out, *(out / file for file in names if (out / file).exists()))
    tokens = sum(r.rewrite.tokens for r in results)
    return Shard(out, name, round, len(results), kept, dropped, len(documents), tokens, digest)


def _rows(operation: Operation, generator: Generator, results: Sequence[ScoredRewrite], round: int) -> Iterator[dict[str, Any]]:
    """The rows of `rewrites.parquet`."""
    sampling = operation.config.sampling()
    common = {
        "operation": operation.name,
        "round": round,
        "version": VERSION,
        "generator": generator.digest,
        "base": generator.base,
        "prompt_hash": digest_of(list(operation.prompt(Passage("", "", 0, 0, 0, "")))),
        "sampling": json.dumps({name: getattr(sampling, name) for name in ("temperature", "top_p", "max_new_tokens")}),
    }
    for result in results:
        r, (reason, detail) = result.rewrite, result.failure or (None, None)
        yield {
            **common,
            "id": f"{r.passage.id}:{operation.name}:{round:02d}:{VERSION}",
            "passage": r.passage.id,
            "document": r.passage.document,
            "start": r.passage.start,
            "end": r.passage.end,
            "seed": result.seed,
            "answer": r.answer,
            "text": r.text,
            "kept": result.failure is None,
            "reason": reason,
            "detail": detail,
            "scores": json.dumps(result.scored.scores, sort_keys=True),
            "claims": json.dumps(result.scored.claims, ensure_ascii=False),
            "tokens": r.tokens,
            "finish": r.finish,
        }
