"""synthesize: run a generator over the whole corpus, passage by passage; join the outputs of one document (method.md, step 5).

Differences from the paper: every answer passes a table of checks before it may be trained on, because a small generator loops,
copies and drifts. Nothing is dropped without a row that says why: kept + dropped = passages in.

Answers and scores are kept in chunks under `out/chunks/` until the shard is written, so that a killed step carries on; a chunk
is one call of the engine with a seed of its own, so it comes out the same whichever chunks were there before.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from synpro.engines.author import Asked, EngineName, Writing
from synpro.engines.base import Sampling
from synpro.engines.openai import ServerConfig
from synpro.engines.spawn import ServeConfig
from synpro.engines.spread import Maker, spread
from synpro.engines.vllm import VLLMConfig
from synpro.judges.base import JudgesConfig
from synpro.operations.base import Operation, OperationConfig, read
from synpro.operations.table import build
from synpro.records import (
    Completion,
    Corpus,
    Generator,
    Passage,
    Probe,
    Rewrite,
    Shard,
    Verifier,
    digest_files,
    digest_of,
)
from synpro.rewards.checks import judge
from synpro.rewards.judging import Judging, Scored
from synpro.rewards.rubric import RubricConfig
from synpro.run.journal import Journal
from synpro.run.launch import MachineConfig
from synpro.run.ledger import Reject

T = TypeVar("T")

ENCODED = frozenset({"influence", "faithfulness", "similarity"})
"""Rewards that open the encoder: where none of them is paid, nothing is embedded either."""
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
    """`cpu`, `cuda`, `cuda:1`; None = a GPU where there is one. Of the engine `transformers`."""
    engine: EngineName = "transformers"
    """Who writes: `transformers` or `vllm` in this process, or a `server` that is started for the step (docs/engines.md)."""
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    """How the server is started."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How the server is asked."""
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
    contaminated: bool = False
    """Keep texts that hold an evaluation item (13 words of it in a row, or 80% of its 5-word runs; `corpus/overlap.py`)."""
    embedded: int = 256
    """At most so many kept texts, and their passages, are embedded for the collapse watch."""
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
        for name, least in (("batch_size", 1), ("chunk", 1), ("embedded", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least {least}")
        if not 0 <= self.min_length < self.max_length:
            raise ValueError(f"min_length: {self.min_length} must be 0 or more and below max_length = {self.max_length}")
        shares = {"max_looped": self.max_looped, "min_support": self.min_support}
        for name, share in {**shares, **{f"max_copied.{k}": v for k, v in self.max_copied.items()}}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: {share} is not a share; use 0 to 1")

    def writing(self, generator: Generator, scratch: Path | None = None) -> Writing:
        """Opens a generator in the engine that the config names; a server's log goes to `scratch`."""
        how = {name: getattr(self, name) for name in ("dtype", "device", "batch_size", "engine", "vllm", "serve", "server")}
        return Writing(generator, scratch=scratch, **how)

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
    tasks: Sequence[str] = (),
) -> Shard:
    """Rewrite every passage of the corpus' train split; write the shard to `out`. No text may hold an item of `tasks`.

    A shard that kept nothing is written too. Raises what the engine, the judges and the files raise.
    """
    from synpro.corpus.store import passages

    task = build(operation)
    work = Work(cfg, task, generator, passages(corpus), out / "chunks", journal, seed)
    began = time.monotonic()
    answers = work.answer()  # all of them first: generator and judges need not fit into memory together
    answered = time.monotonic()
    paid = digest_of([asdict(rubric), asdict(judges), probe.digest, verifier.digest])
    scored = work.score(answers, paid, Judging(operation, rubric, judges, probe, verifier, out / "scratch", work.passages))
    journal.metrics(step=0, **{"seconds/generate": answered - began, "seconds/reward": time.monotonic() - answered})
    verdicts = [judge(r, s.scores, cfg) for r, s in zip(answers, scored, strict=True)]
    if tasks and not cfg.contaminated:
        from synpro.corpus.overlap import Items
        from synpro.lm.tasks import items

        known = Items.of(items(tasks))
        verdicts = [v or known.contaminated(r.text) for r, v in zip(answers, verdicts, strict=True)]
    if ENCODED & {name for name, weight in rubric.weights[operation.name].items() if weight}:
        from synpro.judges.sentences import write_embeddings

        kept = [r for r, v in zip(answers, verdicts, strict=True) if v is None]
        some = [(r.passage.id, r.text or "", r.passage.text) for r in kept[:: -(-len(kept) // max(1, cfg.embedded)) or 1]]
        write_embeddings(out / "embeddings.parquet", judges, some[: cfg.embedded])
    return _write(cfg, task, generator, answers, scored, verdicts, round, out, journal, work.seeds())


Rows = list[dict[str, Any]]


class Work:
    """Answers and scores of all passages, chunk by chunk, each chunk once, wherever it is done."""

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
        self.generator, self.passages = generator, passages
        self.chunks = [passages[i : i + cfg.chunk] for i in range(0, len(passages), cfg.chunk)]
        self.sampling = cfg.sampling_for(operation.name)
        by = [cfg.engine, asdict(cfg.vllm), asdict(cfg.serve), asdict(cfg.server)]
        self._what = [generator.digest, asdict(self.sampling), cfg.dtype, cfg.batch_size, *by]
        dir.mkdir(parents=True, exist_ok=True)

    def seeds(self) -> list[int]:
        """The seed of each passage's answer."""
        return [self._seed(i) for i, chunk in enumerate(self.chunks) for _ in chunk]

    def answer(self) -> list[Rewrite]:
        """One rewrite per passage, in order. The generator is opened only when an answer is missing."""
        tasks, keys = dict[int, Asked](), list[str]()
        for number, chunk in enumerate(self.chunks):
            chats = [self.operation.prompt(p) for p in chunk]
            tasks[number] = chats, replace(self.sampling, seed=self._seed(number))
            keys.append(digest_of([self._what, self._seed(number), chats]))
        writing = self.cfg.writing(self.generator, self.dir.parent / "scratch")
        rows = self._fill("answers", keys, writing, tasks, lambda done: done)
        pairs = zip(self.passages, rows, strict=True)
        return [read(self.operation, passage, Completion(**row)) for passage, row in pairs]

    def score(self, rewrites: Sequence[Rewrite], paid: str, judging: Judging) -> list[Scored]:
        """The rubric's raw values and the claims of every rewrite, parsed or not. `paid` names the rubric: other scores are not
        reused."""
        tasks, keys, first = dict[int, Sequence[Rewrite]](), list[str](), 0
        for number, chunk in enumerate(self.chunks):
            tasks[number] = rewrites[first : first + len(chunk)]
            keys.append(digest_of([paid, [asdict(r) for r in tasks[number]]]))
            first += len(chunk)
        rows = self._fill("scores", keys, judging, tasks, lambda done: len(self.passages) + SCORING * done)
        return [Scored(**row) for row in rows]

    def _fill(
        self, kind: str, keys: list[str], maker: Maker[T, Rows], tasks: Mapping[int, T], shown: Callable[[float], float]
    ) -> Rows:
        """The rows of all chunks, in order: those that are kept, and the rest done and kept."""
        held = {number: rows for number, key in enumerate(keys) if (rows := self._load(number, kind, key)) is not None}

        def progress(part: float) -> None:
            done = sum(map(len, held.values())) + part
            self.journal.progress(shown(done), (1 + SCORING) * len(self.passages), "passages")

        missing = {number: task for number, task in tasks.items() if number not in held}
        for number, rows in spread(maker, missing, machine=MachineConfig.here(), progress=progress, say=self.journal.say):
            self._save(number, kind, keys[number], rows)
            held[number] = rows
            progress(0)
        return [row for number in range(len(keys)) for row in held[number]]

    def _seed(self, number: int) -> int:
        return int(digest_of([self.seed, number])[:12], 16)

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
    verdicts: Sequence[tuple[str, str] | None],
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

    texts = ["passage", "document", "operation", "generator", "base", "prompt_hash", "sampling"]
    numbers = ["start", "end", "round"]
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
    why = ", ".join(f"{reason} {count}" for reason, count in journal.rejects.reasons().items())
    journal.say(f"{operation.name}: kept {kept} of {len(rewrites)} passages" + (f"; dropped: {why}" if why else ""))
    if rewrites and not kept:
        journal.say(
            f"WARNING: nothing of {operation.name} was kept, this round adds no text of it; see {out.name}/rejects.jsonl, and "
            "loosen the checks or use a stronger generator"
        )
    shutil.rmtree(out / "chunks")  # the shard holds all of it
    names = ("documents.parquet", "rewrites.parquet", "rejects.jsonl", "embeddings.parquet")
    digest = digest_files(out, *(out / name for name in names if (out / name).exists()))
    spent = sum(r.tokens for r in rewrites)
    return Shard(out, operation.name, round, len(rewrites), kept, dropped, len(documents), spent, digest)
