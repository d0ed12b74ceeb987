"""Generates, scores and selects the texts of a corpus, block by block, each chunk of a block once and by whoever is free.

A block is a stretch of the corpus. Its passages are asked for as many answers as they lack, in waves: those whose answers fail
a rule are asked again at once, those whose answers fail by their scores when all have been scored. Generator and judges need
not fit into memory together, so one is closed before the other is opened.

Everything is a function of the config, the corpus and the step's seed. A chunk is one call of the engine with a seed of its
own; its rows are stored under a key of everything it depends on, and so are those of a finished block. A step that is killed
goes on where it was, and ends in the same bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from synpro.corpus.contamination import BenchmarkIndex
from synpro.engines.base import Unanswered
from synpro.engines.batch_generator import BatchGeneratorFactory, Chunk
from synpro.engines.failures import FailureCount
from synpro.engines.parallel_map import Worker, WorkerFactory, parallel_map
from synpro.operations.base import Operation, parse_completion
from synpro.records import Completion, Corpus, Generator, Passage, Rewrite, digest_of
from synpro.rewards.filters import Failure, Sample, rule_failure, score_failure
from synpro.rewards.scoring import Scoring
from synpro.rewards.worker import RubricSpec, Scored
from synpro.runner.chunks import ChunkRows, ChunkStore
from synpro.runner.context import StepContext
from synpro.synthesis.answers import Answer, PassCount
from synpro.synthesis.selection import count_distinct, select
from synpro.synthesis.settings import SynthesizeConfig

T = TypeVar("T")
R = TypeVar("R")

BLOCK_CHUNKS = 64
"""Chunks of a block's first wave: what memory holds, and how many workers can be busy."""
SCORING_COST = 0.25
"""Time of scoring an answer over that of generating it, for the progress bar."""
MISSING = {"no_answer": "answers", "unjudged": "texts to judge"}
"""Reasons of answers that are missing or that no judge can read, and what is missing then."""
Groups = list[list[Answer]]
"""The answers to each passage of a block."""


class Blocks:
    """The blocks of a corpus, one after the other."""

    def __init__(
        self,
        cfg: SynthesizeConfig,
        operation: Operation,
        generator: Generator,
        scoring: Scoring,
        corpus: Corpus,
        ctx: StepContext,
        index: BenchmarkIndex | None = None,
    ) -> None:
        """`index`: evaluation items that no text may contain."""
        self.cfg, self.operation, self.scoring, self.corpus, self.ctx = cfg, operation, scoring, corpus, ctx
        self.index, self.settings, self.filters = index, operation.config, scoring.filters
        self.store = ChunkStore(ctx.out / "chunks")
        self.made_by = [generator.digest, cfg.engine.result_settings()]
        scratch = ctx.out / "scratch"
        self.generators = _KeptOpen(BatchGeneratorFactory(generator, cfg.engine, scratch=scratch))
        self.share = 1.0 if self.settings.selects else cfg.scored_share
        self.judges = RubricSpec(self.settings, scoring, scratch, corpus.dir, self.share)
        self.by_rule, self.by_score = (PassCount(operation.name, cfg.min_kept) for _ in range(2))
        key = "synthesize.max_failed"
        self.failed = {reason: FailureCount(f"synthesize: {what}", cfg.max_failed, key) for reason, what in MISSING.items()}
        self.seconds = {"seconds/generate": 0.0, "seconds/reward": 0.0}
        self.done, self.total = 0.0, (1 + SCORING_COST) * corpus.passages * self.settings.candidates

    def run(self, number: int, passages: Sequence[Passage], row: Callable[[Answer], dict[str, Any]]) -> None:
        """Store the rows of a block, `row` of each answer, where they are not stored already.

        Raises what the engine, the judges and the files raise, TooFewKept and TooManyFailures.
        """
        key = self._key(passages)
        stored = self.store.load("block", number, key)
        if stored is not None:
            for reason in MISSING:
                self.count(reason, [None if r["kept"] else (r["reason"], r["detail"]) for r in stored])
            self.done += (1 + SCORING_COST) * len(passages) * self.settings.candidates
            return
        block = _Block(self, number, passages)
        while asked := block.wanted():
            began = time.monotonic()
            try:
                while asked:  # all waves with one opened generator
                    block.generate(asked)
                    asked = block.wanted()
            finally:
                self.generators.close()
            generated = time.monotonic()
            block.score()
            self.seconds["seconds/generate"] += generated - began
            self.seconds["seconds/reward"] += time.monotonic() - generated
        select(block.groups, self.settings, self.filters.max_version_overlap)
        self.store.save("block", number, key, (row(answer) for group in block.groups for answer in group))
        self.store.drop(f"{number:05d}.*")

    def _key(self, passages: Sequence[Passage]) -> str:
        """Key of a block's rows: everything that decides them."""
        settings = [asdict(self.settings), asdict(self.filters), self.cfg.chunk_size, self.index is not None, *self.sampled]
        prompts = [[p.id, digest_of(self.operation.prompt(p))] for p in passages]
        return digest_of([self.made_by, self.scoring.digest, self.ctx.seed, settings, prompts])

    @property
    def sampled(self) -> list[float]:
        """What belongs to the keys of scores where only a sample has all of them."""
        return [self.share] if self.share < 1 else []

    def count(self, reason: str, failures: Sequence[Failure | None]) -> None:
        """Count those that failed for a reason of MISSING. Raises TooManyFailures."""
        self.failed[reason].add(Unanswered(f[1]) if f is not None and f[0] == reason else None for f in failures)

    def rows(self, number: int) -> Iterator[dict[str, Any]]:
        """The rows of a block that was run, one by one."""
        return self.store.read("block", number)


class _Block:
    """One block: the answers to its passages so far, and the chunks that were run for it."""

    def __init__(self, blocks: Blocks, number: int, passages: Sequence[Passage]) -> None:
        self.blocks, self.number, self.passages = blocks, number, passages
        self.groups: Groups = [[] for _ in passages]
        self.chunks = {"answers": 0, "scores": 0}

    def wanted(self) -> dict[int, int]:
        """How many answers each passage that lacks some is asked for."""
        settings, most = self.blocks.settings, self.blocks.filters.max_version_overlap
        asked = {}
        for place, group in enumerate(self.groups):
            answered = not any(answer.rewrite.finish == "error" for answer in group)  # else no prompt of it has an answer
            lacking = settings.candidates - count_distinct(group, most) if len(group) < settings.tries and answered else 0
            if lacking > 0:
                asked[place] = min(lacking, settings.tries - len(group))
        return asked

    def generate(self, asked: Mapping[int, int]) -> None:
        """Answers to the passages at the given places: passages that lack equally many share a chunk, so that what is asked of
        each is sampled in one call."""
        blocks, size, op = self.blocks, self.blocks.cfg.chunk_size, self.blocks.operation
        tasks, keys, places = dict[int, Chunk](), dict[int, str](), dict[int, list[int]]()
        for n in sorted(set(asked.values()), reverse=True):
            alike = [place for place, lacking in asked.items() if lacking == n]
            for first in range(0, len(alike), size):
                chunk = self._next("answers")
                places[chunk] = alike[first : first + size]
                sampling = op.config.sampling(n, self._seed(chunk))
                tasks[chunk] = [op.prompt(self.passages[place]) for place in places[chunk]], sampling
                keys[chunk] = digest_of([blocks.made_by, asdict(sampling), tasks[chunk][0]])
        retried = sum(asked.values()) if any(self.groups) else 0
        blocks.total += (1 + SCORING_COST) * retried

        def take(chunk: int, rows: ChunkRows) -> None:
            completions = [Completion(**row) for row in rows]
            n, new = len(completions) // len(places[chunk]), list[Answer]()
            for i, place in enumerate(places[chunk]):
                for completion in completions[n * i : n * (i + 1)]:
                    rewrite = parse_completion(op, self.passages[place], completion)
                    answer = Answer(rewrite, len(self.groups[place]), self._seed(chunk), self._rule(rewrite))
                    self.groups[place].append(answer)
                    new.append(answer)
            failures = [answer.failure for answer in new]
            blocks.total -= SCORING_COST * sum(failure is not None for failure in failures)  # these are not scored
            blocks.count("no_answer", failures)
            blocks.by_rule.add(failures)

        self._run("answers", blocks.generators, tasks, keys, 1.0, take)

    def score(self) -> None:
        """Scores of the answers that pass the rules and have none."""
        blocks, size = self.blocks, self.blocks.cfg.chunk_size
        new = [a for group in self.groups for a in group if a.failure is None and a.scored is None]
        tasks, keys, parts = dict[int, Sequence[Rewrite]](), dict[int, str](), dict[int, list[Answer]]()
        for first in range(0, len(new), size):
            chunk = self._next("scores")
            parts[chunk] = new[first : first + size]
            tasks[chunk] = [answer.rewrite for answer in parts[chunk]]
            rewrites = [asdict(r) for r in tasks[chunk]]
            keys[chunk] = digest_of([blocks.scoring.digest, blocks.settings.weights, rewrites, *blocks.sampled])

        def take(chunk: int, rows: ChunkRows) -> None:
            for answer, row in zip(parts[chunk], rows, strict=True):
                answer.scored = Scored(**row)
                problem = answer.scored.problem
                sample = Sample(answer.rewrite, blocks.settings, answer.scored.scores)
                answer.failure = ("unjudged", problem) if problem else score_failure(sample, blocks.filters)
            failures = [answer.failure for answer in parts[chunk]]
            blocks.count("unjudged", failures)
            blocks.by_score.add(failures)

        self._run("scores", blocks.judges, tasks, keys, SCORING_COST, take)

    def _rule(self, rewrite: Rewrite) -> Failure | None:
        blocks = self.blocks
        failure = rule_failure(Sample(rewrite, blocks.settings), blocks.filters)
        if failure is None and blocks.index is not None:
            return blocks.index.contaminated(rewrite.text or "")
        return failure

    def _run(
        self,
        kind: str,
        factory: WorkerFactory[T, ChunkRows],
        tasks: Mapping[int, T],
        keys: Mapping[int, str],
        cost: float,
        take: Callable[[int, ChunkRows], None],
    ) -> None:
        """Hand the rows of each chunk to `take`, in order: stored ones, and the rest, which is done and stored."""
        blocks, kind = self.blocks, f"{self.number:05d}.{kind}"
        ready = {chunk: rows for chunk, key in keys.items() if (rows := blocks.store.load(kind, chunk, key)) is not None}
        missing = {chunk: task for chunk, task in tasks.items() if chunk not in ready}
        turns = deque(sorted(tasks))

        def hand_over() -> None:
            while turns and turns[0] in ready:
                rows = ready.pop(turn := turns.popleft())
                blocks.done += cost * len(rows)
                take(turn, rows)

        hand_over()
        log = blocks.ctx.logger

        def progress(part: float) -> None:
            log.progress(blocks.done + cost * part, max(blocks.total, blocks.done), "answers")

        def on_open(seconds: float, ago: float) -> None:
            log.progress(blocks.done, max(blocks.total, blocks.done), "answers", startup=seconds, ago=ago)

        workers = blocks.ctx.workers
        for chunk, rows in parallel_map(factory, missing, machine=workers, progress=progress, log=log.log, on_open=on_open):
            blocks.store.save(kind, chunk, keys[chunk], rows)
            ready[chunk] = rows
            hand_over()
            progress(0)

    def _next(self, kind: str) -> int:
        self.chunks[kind] += 1
        return self.chunks[kind] - 1

    def _seed(self, chunk: int) -> int:
        return int(digest_of([self.blocks.ctx.seed, self.number, chunk])[:12], 16)


class _KeptOpen:
    """Opens a worker once for several waves, until it is closed. Workers of Ray each open their own."""

    def __init__(self, factory: WorkerFactory[Any, Any]) -> None:
        self.factory = factory
        self.worker: Worker[Any, Any] | None = None
        self.progress: Callable[[float], None] = lambda done: None

    def open(self, progress: Callable[[float], None]) -> Worker[Any, Any]:
        """The worker, which `close` of this object closes, not its own."""
        self.progress = progress
        self.worker = self.worker or self.factory.open(lambda done: self.progress(done))
        return _Borrowed(self.worker)

    def close(self) -> None:
        """Close the worker, where it is open."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.close()


class _Borrowed:
    """A worker that its borrower cannot close."""

    def __init__(self, worker: Worker[Any, Any]) -> None:
        self.worker = worker

    def __call__(self, task: Any, /) -> Any:
        return self.worker(task)

    def close(self) -> None: ...
