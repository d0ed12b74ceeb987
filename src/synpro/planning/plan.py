"""What a run will take, before it runs: tokens, steps, FLOPs, memory, disk, and time from ten seconds of measuring here.

Counts follow from the config. What only the corpus can tell (passages, tokens per word) is read from a finished `prepare` step
where there is one and estimated otherwise; the plan says which. Times are estimates; a plateau may come before the budget is
used. The formulas are those that a finished step is billed with (`step_cost.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from synpro.config import RunConfig
from synpro.engines.base import EngineSpec
from synpro.lm.model_config import num_parameters
from synpro.planning.corpus_size import CorpusSize, PlanError, corpus_size
from synpro.planning.memory import (
    BYTES_PER_DOCUMENT,
    JUDGE_PROCESS_BYTES,
    LIBRARY_BYTES,
    PROMPT_TOKENS,
    TOKENS_PER_WORD,
    stage_bytes,
)
from synpro.planning.model_sizes import ModelSizeError, lora_parameters, model_size
from synpro.planning.step_cost import (
    CHARACTERS_PER_TOKEN,
    eval_flops,
    forward_flops,
    judge_costs,
    model_flops_per_token,
    probe_tokens,
    rl_flops,
    task_tokens,
    verifier_cost,
)
from synpro.planning.throughput import Throughput

INDEX_SECONDS, SEARCHED_WORDS = 8.0, 560_000
"""Indexing the items of the published tasks, and words per second searched for them on one core (docs/LOG.md)."""
ENCODED_CHARACTERS, TOKENIZING_CORES = 4.65e6, 8
"""Characters per second that one process encodes (docs/benchmarks.md), and the processes taken where `machine.threads` is 0."""
OWN_PROMPT_TOKENS = 60
"""Tokens around a passage that are not the same for all passages."""
START_SECONDS = 8.0
"""Start of a step's process: Python, PyTorch and its libraries."""
JUDGING_SECONDS = 15.0
"""More of that for a step with a generator: loading the judges and scoring the sources of a small corpus (measured: 12 to
18)."""


@dataclass(frozen=True)
class Cost:
    """What has to be computed."""

    flops: float = 0.0
    decode_flops: float = 0.0
    """The part of `flops` spent on generating token by token, which keeps a machine far less busy than reading."""
    decode_steps: float = 0.0
    """Forward passes of that part, one after another, where the transformers engine makes them: their dispatch from Python is
    what takes the time on a GPU. 0 for vLLM."""
    host_seconds: float = 0.0
    """Work of a machine's cores while the device waits."""
    is_tf32: bool = False
    """Whether the FLOPs are of float32 models, which a GPU computes at half the rate of bfloat16 (TF32)."""


@dataclass(frozen=True)
class StageEstimate:
    """What one kind of step takes, all its occurrences together."""

    stage: str
    count: int
    tokens: float
    work: Mapping[str, Cost]
    """By part: `pretraining`, `generating`, `verifier`, ... (`tables.PARTS`)."""
    memory: float
    """Bytes of one process at its largest on this machine, estimated."""
    disk: float
    """Bytes that stay."""
    seconds: float | None
    """None where nothing was calibrated."""
    scratch: float = 0.0
    """Bytes of disk that one step takes beside them until it ends: checkpoints to resume from, the newest and the one that is
    being written."""

    @property
    def flops(self) -> float:
        """The sum over all parts."""
        return sum(part.flops for part in self.work.values())

    @property
    def host_seconds(self) -> float:
        """The sum over all parts."""
        return sum(part.host_seconds for part in self.work.values())


def generator_parameters(cfg: RunConfig) -> int:
    """Parameters of the generator's base. Raises PlanError where its size is not known."""
    try:
        return model_size(cfg.train_generator.base).parameters
    except ModelSizeError as problem:
        raise PlanError(f"train_generator.base: {problem}") from problem


def estimate_stages(cfg: RunConfig, root: Path, speed: Throughput | None) -> list[StageEstimate]:
    """One row per kind of step, in the order of the loop. Raises PlanError."""
    estimates = _Estimates(cfg, corpus_size(cfg, root), speed, generator_parameters(cfg))
    rows = [estimates.prepare()]
    if cfg.rounds:
        rows.append(estimates.verifier())
    if not cfg.generate_only:
        rows += [estimates.pretrain(), *([estimates.probe()] if cfg.rounds else [])]
    for name in cfg.operations if cfg.rounds else ():
        rows += [estimates.train_generator(name), estimates.synthesize(name)]
    return rows if cfg.generate_only else [*rows, estimates.evaluate()]


@dataclass(frozen=True)
class _Estimates:
    """The rows of a plan, one method each."""

    cfg: RunConfig
    corpus: CorpusSize
    speed: Throughput | None
    generator: int
    """Parameters of the generator."""

    @property
    def passage(self) -> float:
        """Tokens of a passage."""
        return self.corpus.passage_words * TOKENS_PER_WORD

    def prepare(self) -> StageEstimate:
        host = self._tokenizing(self.corpus.passages * self.corpus.passage_words * TOKENS_PER_WORD)
        work = {"tokenizing": Cost(host_seconds=host)}
        return self._row("prepare", 1, self.corpus.tokens, work, self.corpus.tokens * 8, 5.0 + host)

    def verifier(self) -> StageEstimate:
        v = self.cfg.train_verifier
        tokens, flops = verifier_cost(self.cfg, self._parameters, passages=self.corpus.passages, passage_tokens=self.passage)
        if v.kind == "none":
            return self._row("verifier", 1, 0.0, {}, 0.0, 1.0)
        # A short text by itself keeps a machine at about a quarter of what a batch of prompts does (measured: 28 ms a claim).
        slower, disk = (4, 5e6) if v.kind == "features" else (1, 2.0 * self._parameters(v.base))
        seconds = slower * flops / self.speed.prefill if self.speed else 0.0
        return self._row("verifier", 1, tokens, {"verifier": Cost(flops)}, disk, seconds)

    def pretrain(self) -> StageEstimate:
        p, seen, count = self.cfg.pretrain, 0, self.cfg.rounds + 1
        for _ in range(count):
            seen += p.steps_after(seen) * p.tokens_per_step
        flops = float(seen * model_flops_per_token(self.cfg))
        work = {"pretraining": Cost(flops)}
        row = self._row("pretrain", count, seen, work, count * self._model() * 16, self._training_seconds(flops))
        state, saves, best = 12.0 * self._model(), bool(p.checkpoint_every), p.keep == "best"
        # The best state, and a checkpoint while it is written, are copies in the machine's memory. A checkpoint has the best
        # state beside its own; without any, that state alone is on the disk at the end.
        return replace(row, scratch=state * (2 * saves * (1 + best) or best), memory=row.memory + state * (saves + best))

    def probe(self) -> StageEstimate:
        rounds = self.cfg.rounds
        tokens = probe_tokens(self.cfg) * rounds
        flops = float(tokens * model_flops_per_token(self.cfg))
        disk = rounds * self._model() * 4 * self.cfg.probe.replicas
        return self._row("probe", rounds, tokens, {"probe": Cost(flops)}, disk, self._training_seconds(flops))

    def train_generator(self, operation: str) -> StageEstimate:
        t, op, rounds = self.cfg.train_generator, self.cfg.operations[operation], self.cfg.rounds
        answer = min(op.max_new_tokens, self.passage * 1.3)
        looks = 2 + (op.steps - 1) // t.validate_every if op.steps else 0  # before, on the way and after
        prompts = (op.steps * t.prompts_per_step + looks * t.validation_passages) * rounds
        answers = prompts * t.num_generations
        generated = answers * answer
        read = self.passage + PROMPT_TOKENS
        learned = op.steps * t.answers_per_step * (read + answer) * rounds
        decode = forward_flops(self.generator, generated)
        learn = rl_flops(self.cfg, self.generator, prompts=prompts * read, learned=learned)
        seconds = decode / self.speed.decode_at(t.answers_per_step) + learn / self.speed.prefill if self.speed else 0.0
        adapters = lora_parameters(model_size(t.base), t.lora_rank, t.lora_modules) if t.tuning == "lora" else 0
        disk = 4.0 * adapters or 2.0 * self.generator
        # Of each trained weight: itself, Adam's two moments, and the best state so far, in float32.
        scratch = 2.0 * (16 if t.keep == "best" else 12) * (adapters or self.generator)
        if not op.steps:  # nothing is trained, and nothing saved
            disk = scratch = 0.0
        judged = self._judging(operation, answers, answer, passages=prompts)
        steps = self._decode_steps(t.engine, generated, t.answers_per_step // self.cfg.machine.rl_processes)
        work = {
            "RL: answers": Cost(decode, decode, steps),
            "RL: learning": Cost(learn),
            "RL: judges": Cost(sum(part.flops for part in judged.values() if not part.is_tf32)),
            "RL: influence and encoder": Cost(sum(part.flops for part in judged.values() if part.is_tf32), is_tf32=True),
        }
        row = self._row(f"train-{operation}", rounds, generated, work, rounds * disk, seconds)
        return replace(row, scratch=scratch)

    def synthesize(self, operation: str) -> StageEstimate:
        op, rounds, engine = self.cfg.operations[operation], self.cfg.rounds, self.cfg.synthesize.engine
        # Where `max_tries` allows more answers than are wanted of a passage, some passages take them.
        texts = self.corpus.passages * rounds * (op.candidates + op.tries) / 2
        text = min(op.max_new_tokens, self.passage * 1.3)
        generated = texts * text
        decode = forward_flops(self.generator, generated)
        # Instruction and example are the same for all passages, and are computed once.
        prefill = forward_flops(self.generator, texts * (self.passage + OWN_PROMPT_TOKENS))
        seconds = decode / self.speed.decode_at(engine.batch_size) + prefill / self.speed.prefill if self.speed else 0.0
        share = 1.0 if op.selects else self.cfg.synthesize.scored_share
        judged = self._judging(operation, texts, text, passages=texts, share=share)
        work = {
            "generating": Cost(decode + prefill, decode, self._decode_steps(engine, generated, engine.batch_size)),
            **judged,
            "tokenizing": Cost(host_seconds=self._tokenizing(generated)),
        }
        return self._row(f"synthesize-{operation}", rounds, generated, work, generated * 20, seconds)

    def evaluate(self) -> StageEstimate:
        p, count = self.cfg.prepare, self.cfg.rounds + 1
        read = max(1.0, (p.sample_words or 0) / p.train_words) if p.train_words else 1.0  # train words, over those used
        heldout = self.corpus.tokens * read * p.heldout_share / (1 - p.heldout_share - p.reference_share)
        if self.cfg.evaluate.max_documents and self.corpus.documents:
            heldout = min(heldout, self.cfg.evaluate.max_documents * self.corpus.tokens / self.corpus.documents)
        tokens = (heldout + task_tokens(self.cfg)) * count
        flops = eval_flops(model_flops_per_token(self.cfg), tokens)
        # Every text that is trained on is searched once for items of the tasks.
        versions = sum(operation.num_versions for operation in self.cfg.operations.values())
        words = self.corpus.passages * self.corpus.passage_words * (1 + self.cfg.rounds * versions)
        host = (INDEX_SECONDS * count + words / SEARCHED_WORDS) if self.cfg.evaluate.tasks else 0.0
        seconds = flops / self.speed.training + host if self.speed else 0.0
        return self._row("evaluate", count, tokens, {"evaluating": Cost(flops, host_seconds=host, is_tf32=True)}, 1e6, seconds)

    def _row(
        self, stage: str, count: int, tokens: float, work: Mapping[str, Cost], disk: float, seconds: float
    ) -> StageEstimate:
        """`seconds`: of the calibrated machine, without the start of processes."""
        with_generator = stage.startswith(("train-", "synthesize-"))
        try:
            memory = stage_bytes(self.cfg, stage, 1) + (JUDGE_PROCESS_BYTES if with_generator else LIBRARY_BYTES)
        except ModelSizeError as problem:
            raise PlanError(f"{stage}: {problem}") from problem
        if stage == "prepare":
            memory += (self.corpus.documents or self.corpus.passages) * BYTES_PER_DOCUMENT
        seconds += count * (START_SECONDS + (JUDGING_SECONDS if with_generator else 0.0))
        return StageEstimate(stage, count, tokens, work, memory, disk, seconds if self.speed else None)

    def _tokenizing(self, tokens: float) -> float:
        """Seconds of encoding texts of so many tokens, in as many processes as the machine has threads."""
        return tokens * CHARACTERS_PER_TOKEN / ENCODED_CHARACTERS / (self.cfg.machine.threads or TOKENIZING_CORES)

    @staticmethod
    def _decode_steps(engine: EngineSpec, tokens: float, side_by_side: int) -> float:
        return tokens / min(engine.batch_size, side_by_side) if engine.type == "transformers" else 0.0

    def _judging(
        self, operation: str, texts: float, text_tokens: float, *, passages: float, share: float = 1.0
    ) -> dict[str, Cost]:
        """Work of the judges on texts, made of so many passages: each reads a passage once, and the verifier every text."""
        read, sources = texts * text_tokens, passages * self.passage
        flops = judge_costs(
            self.cfg,
            operation,
            self._parameters,
            tokens=read + sources,
            texts=texts,
            passage_tokens=self.passage,
            model_flops=model_flops_per_token(self.cfg),
            share=share,
        )
        if (influence := flops.pop("influence", None)) is not None:
            whole = (read + sources) or 1.0  # a run without rounds has none
            flops["influence of texts"] = influence * read / whole
            flops["influence of the corpus"] = influence * sources / whole
        return {name: Cost(value, is_tf32=name == "encoder" or "influence" in name) for name, value in flops.items()}

    def _parameters(self, reference: str) -> float:
        """Parameters of a judge. A small one whose size is not known before it is fetched is left out."""
        try:
            return model_size(reference).parameters
        except ModelSizeError as problem:
            if reference in (self.cfg.judges.encoder.model, self.cfg.judges.fluency.model):
                return 0.0
            raise PlanError(str(problem)) from problem

    def _model(self) -> int:
        return num_parameters(self.cfg.pretrain.shape, self.cfg.vocab_size)

    def _training_seconds(self, flops: float) -> float:
        return flops / self.speed.training if self.speed else 0.0
