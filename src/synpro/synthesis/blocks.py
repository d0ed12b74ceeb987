"""Generates, scores and selects the texts of a corpus, chunk by chunk, each once and by whoever is free.

A block is a stretch of the corpus. Its passages are asked for as many answers as they lack, in waves: those whose answers fail
a rule are asked again at once, those whose answers fail by their scores when all have been scored. Generator and judges need
not fit into memory together, so there are two passes over the corpus: one opens the generator and answers, one opens the judges
and scores; where texts that the judges drop are asked for again, there are more. Memory holds the blocks that are worked on:
one, or as many as keep all workers busy. What is known of the others is on the disk. The first block goes through both passes
alone: a generator whose answers come to nothing is stopped there.

Everything is a function of the config, the corpus and the step's seed. A chunk is one call of the engine with a seed of its
own; its rows are stored under a key of everything it depends on, and so are those of a finished block. A step that is killed
goes on where it was, and ends in the same bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from synpro.corpus.contamination import BenchmarkIndex
from synpro.engines.base import Sampling, Unanswered
from synpro.engines.batch_generator import BatchGeneratorFactory
from synpro.engines.failures import FailureCount
from synpro.engines.parallel_map import WorkerFactory, parallel_map
from synpro.operations.base import Operation, parse_completion
from synpro.records import Completion, Corpus, Generator, Passage, Rewrite, digest_files, digest_of
from synpro.rewards.filters import BY_SCORE, Failure, Sample, score_failure
from synpro.rewards.scoring import Scoring
from synpro.rewards.worker import RubricSpec, Scored
from synpro.runner.chunks import ChunkRows, ChunkStore
from synpro.runner.context import StepContext
from synpro.synthesis.answers import Answer, AnswerFactory, PassCount
from synpro.synthesis.selection import CHOICES, count_distinct, select
from synpro.synthesis.settings import SynthesizeConfig

Kind = Literal["answers", "scores"]
COSTS: dict[Kind, float] = {"answers": 1.0, "scores": 0.25}
"""Time of an answer and of scoring one, for the progress bar."""
BLOCK_PASSAGES = 4096
"""Passages of a block, or those of one chunk where that has more."""
MISSING: dict[Kind, tuple[str, str]] = {"answers": ("no_answer", "answers"), "scores": ("unjudged", "texts to judge")}
"""The reason of answers that are missing, or that no judge can read, and what is missing then."""
ChunkId = tuple[int, int]
"""Numbers of a block, and of a chunk of one kind in it."""


@cache
def own_code() -> str:
    """Digest of this package's code: scores that other code has made are not used, so that a reward that was mended counts."""
    package = Path(__file__).parents[1]
    return digest_files(package, *sorted(package.rglob("*.py")))


class Blocks:
    """The blocks of a corpus."""

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
        self.cfg, self.operation, self.scoring, self.ctx = cfg, operation, scoring, ctx
        self.settings, self.filters, self.index = operation.config, scoring.filters, index
        self.store = ChunkStore(ctx.out / "chunks")
        # A server that runs already may have other weights in the next step.
        shared: dict[Kind, bool] = {"answers": cfg.engine.reads_weights, "scores": scoring.is_shared}
        root = ctx.root if cfg.keep_answers else None
        self.kept = {kind: ChunkStore(root / kind) for kind in COSTS if root is not None and shared[kind]}
        """What is kept for other steps, or was by them, by kind."""
        self.made_by = [generator.digest, cfg.engine.result_settings()]
        self.rules = digest_of([asdict(self.settings), asdict(self.filters), index is not None])
        scratch = ctx.out / "scratch"
        self.share = 1.0 if self.settings.selects else cfg.scored_share
        self.answers = AnswerFactory(
            BatchGeneratorFactory(generator, cfg.engine, scratch=scratch), self.settings, self.filters, index
        )
        self.factories: dict[Kind, WorkerFactory[Any, ChunkRows]] = {
            "answers": self.answers,
            "scores": RubricSpec(self.settings.for_scoring(), scoring, scratch, self.share),
        }
        self.passed: dict[Kind, PassCount] = {kind: PassCount(operation.name, cfg.min_kept) for kind in COSTS}
        key = "synthesize.max_failed"
        self.failed = {kind: FailureCount(f"synthesize: {what}", cfg.max_failed, key) for kind, (_, what) in MISSING.items()}
        self.seconds = {"seconds/generate": 0.0, "seconds/reward": 0.0}
        self.done, self.total = 0.0, sum(COSTS.values()) * corpus.passages * self.settings.candidates
        self.finished: set[int] = set()
        self.counted: set[tuple[Kind, ChunkId]] = set()
        """Chunks that this process has counted; a block comes by in each pass."""

    @property
    def block_size(self) -> int:
        """Passages of a block."""
        return self.cfg.chunk_size * max(1, BLOCK_PASSAGES // self.cfg.chunk_size)

    def run(self, read: Callable[[], Iterable[Sequence[Passage]]], row: Callable[[Answer], dict[str, Any]]) -> int:
        """Store the rows of all blocks that `read` gives, `row` of each answer, where they are not stored already, and return
        the number of blocks.

        Raises what the engine, the judges and the files raise, TooFewKept and TooManyFailures.
        """
        self.row = row
        for end in (1, None):
            while self._pass("answers", islice(read(), end)) and self._pass("scores", islice(read(), end)):
                continue
        return len(self.finished)

    def _pass(self, kind: Kind, blocks: Iterator[Sequence[Passage]]) -> int:
        """Do all that can be done with one kind of model open, and return how many blocks wait for the other kind."""
        began, log, feed = time.monotonic(), self.ctx.logger, _Feed(self, kind, blocks)
        label = {"answers": "answering, percent", "scores": "scoring, percent"}[kind]

        def tell(part: float = 0.0, **more: float) -> None:
            done = self.done + COSTS[kind] * part  # weighted: no number of answers
            log.progress(100 * (done / max(self.total, done, 1)), 100, label, **more)

        def on_open(seconds: float, ago: float) -> None:
            tell(startup=seconds, ago=ago)

        workers = self.ctx.workers
        for number, rows in parallel_map(
            self.factories[kind], feed, machine=workers, progress=tell, log=log.log, on_open=on_open
        ):
            feed.take(number, rows)
            tell()
        self.seconds["seconds/generate" if kind == "answers" else "seconds/reward"] += time.monotonic() - began
        return feed.let_go

    def is_finished(self, block: Block) -> bool:
        """Whether a block's rows are stored."""
        if block.number in self.finished:
            return True
        stored = self.store.load("block", block.number, block.key)
        if stored is None:
            return False
        failures = [None if r["kept"] or r["reason"] in CHOICES else (r["reason"], r["detail"]) for r in stored]
        self.count("answers", [f if f is not None and f[0] not in BY_SCORE else None for f in failures])
        self.count("scores", [f for f in failures if f is None or f[0] in BY_SCORE])
        self.done += sum(COSTS.values()) * len(block.passages) * self.settings.candidates
        self.finished.add(block.number)
        return True

    def finish(self, block: Block) -> None:
        """Select among the answers to a block's passages and store all rows."""
        select(block.groups, self.settings, self.filters.max_version_overlap)
        self.store.save("block", block.number, block.key, (self.row(answer) for group in block.groups for answer in group))
        self.store.drop(f"{block.number:05d}.*")
        self.finished.add(block.number)

    def keep(self, kind: Kind, chunk: _Chunk, rows: ChunkRows) -> None:
        """Keep answers or scores for other steps, unless one is missing."""
        store = self.kept.get(kind)
        if store is None or store.has(chunk.shared, 0):
            return
        if kind == "scores":
            missing, kept = any(row.get("problem") for row in rows), rows
        else:
            kept = [row["completion"] for row in rows]
            missing = any(completion["finish"] == "error" for completion in kept)
        if not missing:
            store.save(chunk.shared, 0, chunk.shared, kept)

    @property
    def sampled(self) -> list[float]:
        """What belongs to the keys of scores where only a sample has all of them."""
        return [self.share] if self.share < 1 else []

    def count(self, kind: Kind, failures: Sequence[Failure | None]) -> None:
        """Count answers, or scores, and why some failed. Raises TooManyFailures and TooFewKept."""
        reason = MISSING[kind][0]
        self.failed[kind].add(Unanswered(f[1]) if f is not None and f[0] == reason else None for f in failures)
        self.passed[kind].add(failures)

    def rows(self, number: int) -> Iterator[dict[str, Any]]:
        """The rows of a block that was run, one by one."""
        return self.store.read("block", number)


class _Feed:
    """The tasks of one pass. A block is read when a worker has nothing else to do, goes on as soon as its chunks are done, and
    is let go when it needs the other kind of model. An iterator that ends may have more once results are taken."""

    def __init__(self, blocks: Blocks, kind: Kind, unread: Iterator[Sequence[Passage]]) -> None:
        self.blocks, self.kind, self.unread = blocks, kind, enumerate(unread)
        self.ready = deque[tuple[Block, int]]()
        self.open: dict[int, Block] = {}
        self.let_go = 0
        """Blocks that wait for the other kind of model."""

    def __iter__(self) -> Iterator[tuple[ChunkId, Any]]:
        return self

    def __next__(self) -> tuple[ChunkId, Any]:
        while not self.ready:
            block = Block(self.blocks, *next(self.unread))
            if not self.blocks.is_finished(block):
                self._go_on(block)
        block, chunk = self.ready.popleft()
        return (block.number, chunk), block.task(chunk)

    def take(self, number: ChunkId, rows: ChunkRows) -> None:
        """Store the rows of a chunk, and see what they make of its block."""
        block = self.open[number[0]]
        chunk = block.chunks[number[1]]
        self.blocks.store.save(block.kind(self.kind), number[1], chunk.key, rows)
        self.blocks.keep(self.kind, chunk, rows)
        block.take(number[1], rows)
        if not block.chunks:
            del self.open[number[0]]
            self._go_on(block)

    def _go_on(self, block: Block) -> None:
        kind = block.advance()
        if kind == self.kind:
            self.open[block.number] = block
            self.ready.extend((block, chunk) for chunk in sorted(block.chunks))
        elif kind is None:
            self.blocks.finish(block)
        else:
            self.let_go += 1


@dataclass(frozen=True)
class _Chunk:
    """A chunk that is asked for or scored."""

    key: str
    """Digest of everything that decides its rows, in this step."""
    shared: str
    """Digest of everything that decides what other steps may use: completions whatever rules they are dropped by, or scores."""
    places: Sequence[int] = ()
    """Passages of the block that are asked for answers."""
    sampling: Sampling | None = None
    """How they are asked; None for answers to score."""
    answers: Sequence[Answer] = ()
    """Answers that are scored."""


class Block:
    """One block: the answers to its passages so far, and the chunks that it waits for."""

    def __init__(self, blocks: Blocks, number: int, passages: Sequence[Passage]) -> None:
        self.blocks, self.number, self.passages = blocks, number, passages
        self.groups: list[list[Answer]] = [[] for _ in passages]
        self.chunks: dict[int, _Chunk] = {}
        self.waits_for: Kind = "answers"
        self.numbers: dict[Kind, int] = {"answers": 0, "scores": 0}

    @cached_property
    def key(self) -> str:
        """Key of its rows: everything that decides them."""
        b = self.blocks
        settings = [asdict(b.settings), asdict(b.filters), b.cfg.chunk_size, b.index is not None, *b.sampled]
        prompts = [[p.id, digest_of(b.operation.prompt(p))] for p in self.passages]
        return digest_of([b.made_by, b.scoring.digest, b.ctx.seed, settings, prompts])

    def kind(self, kind: Kind) -> str:
        """Kind of its chunks in the store."""
        return f"{self.number:05d}.{kind}"

    def advance(self) -> Kind | None:
        """Go on as far as stored chunks reach; return the kind of those that are missing (`chunks`), None when there are
        none."""
        while True:
            if asked := self.wanted():
                self.waits_for = "answers"
                self._ask(asked)
            elif new := [a for group in self.groups for a in group if a.failure is None and a.scored is None]:
                self.waits_for = "scores"
                self._score(new)
            else:
                return None
            for number, chunk in list(self.chunks.items()):
                rows = self.blocks.store.load(self.kind(self.waits_for), number, chunk.key)
                if rows is not None:
                    self.blocks.keep(self.waits_for, chunk, rows)
                elif (rows := self._kept(chunk)) is None:
                    continue
                self.take(number, rows)
            if self.chunks:
                return self.waits_for

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

    def _kept(self, chunk: _Chunk) -> ChunkRows | None:
        """The rows of answers that another step has kept, by the rules of this one, or of scores."""
        b, store = self.blocks, self.blocks.kept.get(self.waits_for)
        stored = store.load(chunk.shared, 0, chunk.shared) if store is not None else None
        if stored is None or self.waits_for == "scores":
            return stored
        of = [self.passages[place] for place in chunk.places for _ in range(len(stored) // len(chunk.places))]
        return [b.answers.checked(b.operation, p, c) for p, c in zip(of, stored, strict=True)]

    def task(self, number: int) -> Any:
        """What a worker is given of a chunk."""
        chunk = self.chunks[number]
        if chunk.sampling is None:
            return [answer.rewrite for answer in chunk.answers]
        return [self.passages[place] for place in chunk.places], chunk.sampling

    def take(self, number: int, rows: ChunkRows) -> None:
        """The answers, or the scores, of a chunk."""
        b, chunk, kind = self.blocks, self.chunks.pop(number), self.waits_for
        if kind == "answers":
            answers = [
                answer for i, place in enumerate(chunk.places) for answer in self._answers(number, place, i, chunk, rows)
            ]
        else:
            answers = [*chunk.answers]
            for answer, row in zip(answers, rows, strict=True):
                answer.scored = Scored(**row)
                problem = answer.scored.problem
                sample = Sample(answer.rewrite, b.settings, answer.scored.scores)
                answer.failure = ("unjudged", problem) if problem else score_failure(sample, b.filters)
        if (kind, (self.number, number)) in b.counted:
            return
        b.counted.add((kind, (self.number, number)))
        failures = [answer.failure for answer in answers]
        b.done += COSTS[kind] * len(answers)
        if kind == "answers":
            b.total += sum(COSTS.values()) * sum(answer.version >= b.settings.candidates for answer in answers)
            b.total -= COSTS["scores"] * sum(failure is not None for failure in failures)  # these are not scored
        b.count(kind, failures)

    def _ask(self, asked: dict[int, int]) -> None:
        """Chunks of the passages at the given places: those that lack equally many share one, so that what is asked of each is
        sampled in one call."""
        b, size = self.blocks, self.blocks.cfg.chunk_size
        for n in sorted(set(asked.values()), reverse=True):
            alike = [place for place, lacking in asked.items() if lacking == n]
            for first in range(0, len(alike), size):
                number, places = self._next("answers"), alike[first : first + size]
                sampling = b.settings.sampling(n, self._seed(number))
                prompts = [b.operation.prompt(self.passages[place]) for place in places]
                request = [b.made_by, asdict(sampling), prompts]
                self.chunks[number] = _Chunk(digest_of([*request, b.rules]), digest_of(request), places, sampling)

    def _score(self, new: Sequence[Answer]) -> None:
        """Chunks of the answers that pass the rules and have no scores."""
        b, size = self.blocks, self.blocks.cfg.chunk_size
        for first in range(0, len(new), size):
            answers = new[first : first + size]
            rewrites = [asdict(answer.rewrite) for answer in answers]
            key = digest_of([b.scoring.digest, b.settings.weights, rewrites, *b.sampled])
            shared = digest_of([key, b.operation.name, asdict(b.settings.for_scoring()), asdict(b.filters), own_code()])
            self.chunks[self._next("scores")] = _Chunk(key, shared, answers=answers)

    def _answers(self, number: int, place: int, i: int, chunk: _Chunk, rows: ChunkRows) -> list[Answer]:
        """The answers to the i-th passage of a chunk, added to those it has."""
        b, n, group = self.blocks, len(rows) // len(chunk.places), self.groups[place]
        for row in rows[n * i : n * (i + 1)]:
            rewrite: Rewrite = parse_completion(b.operation, self.passages[place], Completion(**row["completion"]))
            failure: Failure | None = tuple(row["failure"]) if row["failure"] else None
            group.append(Answer(rewrite, len(group), self._seed(number), failure))
        return group[-n:]

    def _next(self, kind: Kind) -> int:
        self.numbers[kind] += 1
        return self.numbers[kind] - 1

    def _seed(self, chunk: int) -> int:
        return int(digest_of([self.blocks.ctx.seed, self.number, chunk])[:12], 16)
