"""What `synthesize` costs above its engine: generated tokens per second of the stage's generating, and of all of it with
scoring and checks, beside the engine called directly on the same prompts in one call.

    python -m benchmarks.generate RUN        # RUN: made by `synpro generate` or `synpro run`, finished up to its verifier

The stage is called in this process on the first passages of the run's corpus, by its first operation, without an influence
reward, since a run that only generates has none. Opening models is left out on both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measuring import Measurement, as_json, compare_pairs, open_run, table
from synpro.commands.run_dir import newest_record
from synpro.corpus.store import PASSAGES, read_rows, write_rows
from synpro.engines.batch_generator import BatchGeneratorFactory
from synpro.operations.registry import build_operation
from synpro.records import Chat, Corpus, Generator, Passage, TrainedVerifier
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.stages.synthesize import synthesize

LEAST_GENERATING, LEAST_ALL = 0.95, 0.7
"""Bounds of the ratios."""


def first_passages(corpus: Corpus, count: int, folder: Path) -> Corpus:
    """The corpus with its first passages only."""
    for name in ("documents.parquet", "tokenizer", "tokens"):
        (folder / name).symlink_to((corpus.dir / name).resolve())
    rows = list(islice(read_rows(corpus.dir / "passages.parquet"), count))
    write_rows(folder / "passages.parquet", PASSAGES, rows)
    return replace(corpus, dir=folder, passages=len(rows))


def measure(run: Path, count: int, passages: int = 48) -> list[Measurement]:
    """Both ratios, measured in turns `count` times."""
    cfg, whole = open_run(run)
    op = replace(next(iter(cfg.operations.values())), steps=0)
    operation = build_operation(op)
    generator = Generator(op.name, cfg.train_generator.base, None, None, 0, "base")
    scoring = Scoring(cfg.rubric, cfg.judges, None, newest_record(run, "verifier", TrainedVerifier), cfg.filters)
    stage, parts, direct, kept = [], [], [], ""
    with tempfile.TemporaryDirectory() as scratch:
        (folder := Path(scratch) / "corpus").mkdir()
        corpus = first_passages(whole, passages, folder)
        chats: list[Chat] = [operation.prompt(Passage(**row)) for row in read_rows(folder / "passages.parquet")]
        factory = BatchGeneratorFactory(generator, cfg.synthesize.engine, scratch=Path(scratch) / "direct")
        open_seconds = _opening(factory, scoring, op, corpus, Path(scratch))

        def by_engine() -> float:
            worker = factory.open(lambda done: None)
            began = time.perf_counter()
            rows: Any = worker((chats, op.sampling(op.candidates, 1)))
            seconds = time.perf_counter() - began
            worker.close()
            return sum(row["tokens"] for row in rows) / seconds

        def by_stage(number: int) -> tuple[float, float, str]:
            ctx = StepContext.local(Path(scratch) / f"stage-{number}", seed=1)
            inputs: dict[str, Any] = {"operation": op, "scoring": scoring, "corpus": corpus, "generator": generator}
            shard = synthesize(cfg.synthesize, **inputs, round=1, ctx=ctx)
            elapsed = json.loads((ctx.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
            generating = elapsed["seconds/generate"] - open_seconds[0]
            scored = elapsed["seconds/reward"] - open_seconds[1]
            reported = f"kept {shard.kept} of {shard.answers}"
            return shard.tokens / generating, shard.tokens / (generating + scored), reported

        for number in range(count):
            for mine in (True, False) if number % 2 else (False, True):
                if mine:
                    one, both, kept = by_stage(number)
                    parts.append(one)
                    stage.append(both)
                else:
                    direct.append(by_engine())
    note = f"{len(chats)} passages, {op.name}, chunks of {cfg.synthesize.chunk_size}; {kept}"
    name = "synthesize / its engine called directly"
    return [
        compare_pairs(name, "tokens/s", parts, direct, least=LEAST_GENERATING, note=note),
        compare_pairs(f"{name}, with scoring and checks", "tokens/s", stage, direct, least=LEAST_ALL, note=note),
    ]


def _opening(factory: Any, scoring: Scoring, op: Any, corpus: Corpus, scratch: Path) -> tuple[float, float]:
    """Seconds to open the generator, and the judges: the median of three, the first of which reads the files from the disk."""
    from synpro.rewards.worker import RubricSpec

    elapsed: list[list[float]] = [[], []]
    for number, opens in enumerate((factory, RubricSpec(op, scoring, scratch))):
        for _ in range(3):
            began = time.perf_counter()
            opens.open(lambda done: None).close()
            elapsed[number].append(time.perf_counter() - began)
    return statistics.median(elapsed[0]), statistics.median(elapsed[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--passages", type=int, default=48)
    a = parser.parse_args()
    rows = measure(a.run, a.pairs, a.passages)
    print(json.dumps(as_json(rows)))
    print(table(rows))
