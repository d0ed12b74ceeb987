"""What a run will take, before it runs: tokens, steps, FLOPs, memory, disk, and time from ten seconds of measuring here.

Counts follow from the config. What only the corpus can tell (passages, tokens per word) is read from a finished `prepare` step
where there is one and estimated otherwise; the plan says which. Times are estimates; a plateau may come before the budget is
used. The formulas are those that a finished step is billed with (`step_cost.py`).
"""

from __future__ import annotations

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
from synpro.planning.model_sizes import ModelSizeError, model_size
from synpro.planning.step_cost import (
    eval_flops,
    forward_flops,
    judge_flops,
    model_flops_per_token,
    probe_tokens,
    rl_flops,
    task_tokens,
    verifier_cost,
)
from synpro.planning.throughput import Throughput, measure_throughput
from synpro.runner.progress import duration

INDEX_SECONDS, SEARCHED_WORDS = 8.0, 560_000
"""Indexing the items of the published tasks, and words per second searched for them on one core (docs/LOG.md)."""
START_SECONDS = 8.0
"""Start of a step's process: Python, PyTorch and its libraries."""
JUDGING_SECONDS = 15.0
"""More of that for a step with a generator: loading the judges and scoring the sources of a small corpus (measured: 12 to
18)."""


@dataclass(frozen=True)
class StageEstimate:
    """What one kind of step takes, all its occurrences together."""

    stage: str
    count: int
    tokens: float
    flops: float
    memory: float
    """Bytes of one process at its largest on this machine, estimated."""
    disk: float
    """Bytes that stay."""
    seconds: float | None
    """None where nothing was calibrated."""
    decode_flops: float = 0.0
    """The part of `flops` spent on generating token by token, which keeps a machine far less busy than reading."""
    decode_steps: float = 0.0
    """Forward passes of that part, one after another, where the transformers engine makes them: their dispatch from Python is
    what takes the time on a GPU. 0 for vLLM."""
    host_seconds: float = 0.0
    """Work of one core while the device waits."""


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
    rows += [estimates.pretrain(), estimates.probe()]
    for name in cfg.operations:
        rows += [estimates.train_generator(name), estimates.synthesize(name)]
    return [*rows, estimates.evaluate()]


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
        seconds = 5.0 if self.speed else None
        return self._row("prepare", 1, self.corpus.tokens, 0.0, self.corpus.tokens * 8, seconds)

    def verifier(self) -> StageEstimate:
        v = self.cfg.train_verifier
        tokens, flops = verifier_cost(self.cfg, self._parameters, passages=self.corpus.passages, passage_tokens=self.passage)
        if v.kind == "none":
            return self._row("verifier", 1, 0.0, 0.0, 0.0, 1.0 if self.speed else None)
        # A short text by itself keeps a machine at about a quarter of what a batch of prompts does (measured: 28 ms a claim).
        slower, disk = (4, 5e6) if v.kind == "features" else (1, 2.0 * self._parameters(v.base))
        return self._row("verifier", 1, tokens, flops, disk, slower * flops / self.speed.prefill if self.speed else None)

    def pretrain(self) -> StageEstimate:
        p, count = self.cfg.pretrain, self.cfg.rounds + 1
        tokens = p.max_tokens * count
        if p.total_tokens is not None:
            tokens = min(tokens, p.total_tokens)
        flops = float(tokens * model_flops_per_token(self.cfg))
        return self._row("pretrain", count, tokens, flops, count * self._model() * 16, self._training_seconds(flops))

    def probe(self) -> StageEstimate:
        rounds = self.cfg.rounds
        tokens = probe_tokens(self.cfg) * rounds
        flops = float(tokens * model_flops_per_token(self.cfg))
        disk = rounds * self._model() * 4 * self.cfg.probe.replicas
        return self._row("probe", rounds, tokens, flops, disk, self._training_seconds(flops))

    def train_generator(self, operation: str) -> StageEstimate:
        t, op, rounds = self.cfg.train_generator, self.cfg.operations[operation], self.cfg.rounds
        answer = min(op.max_new_tokens, self.passage * 1.3)
        prompts = (op.steps * t.prompts_per_step + 2 * t.validation_passages) * rounds
        answers = prompts * t.num_generations
        generated = answers * answer
        read = self.passage + PROMPT_TOKENS
        learned = op.steps * t.answers_per_step * (read + answer) * rounds
        decode = forward_flops(self.generator, generated)
        prefill = rl_flops(self.cfg, self.generator, prompts=prompts * read, learned=learned)
        seconds = None
        if self.speed:
            seconds = decode / self.speed.decode_at(t.answers_per_step) + prefill / self.speed.prefill
        disk = rounds * self.generator * (0.08 if t.tuning == "lora" else 2)
        flops = decode + prefill + self._judge_flops(operation, answers, answer)
        steps = self._decode_steps(t.engine, generated, t.answers_per_step)
        return self._row(f"train-{operation}", rounds, generated, flops, disk, seconds, decode, steps)

    def synthesize(self, operation: str) -> StageEstimate:
        op, rounds = self.cfg.operations[operation], self.cfg.rounds
        # Where `max_tries` allows more answers than are wanted of a passage, some passages take them.
        texts = self.corpus.passages * rounds * (op.candidates + op.tries) / 2
        text = min(op.max_new_tokens, self.passage * 1.3)
        generated = texts * text
        decode = forward_flops(self.generator, generated)
        # Instruction and example are the same for all passages, and are computed once.
        prefill = forward_flops(self.generator, texts * (self.passage + PROMPT_TOKENS) * 0.4)
        seconds = None
        if self.speed:
            batch_size = self.cfg.synthesize.engine.batch_size
            seconds = decode / self.speed.decode_at(batch_size) + prefill / self.speed.prefill
        flops = decode + prefill + self._judge_flops(operation, texts, text)
        steps = self._decode_steps(self.cfg.synthesize.engine, generated, self.cfg.synthesize.engine.batch_size)
        return self._row(f"synthesize-{operation}", rounds, generated, flops, generated * 20, seconds, decode, steps)

    def evaluate(self) -> StageEstimate:
        share = self.cfg.prepare.heldout_share / (1 - self.cfg.prepare.heldout_share)
        count = self.cfg.rounds + 1
        tokens = (self.corpus.tokens * share + task_tokens(self.cfg)) * count
        flops = eval_flops(model_flops_per_token(self.cfg), tokens)
        # Every text that is trained on is searched once for items of the tasks.
        words = self.corpus.passages * self.corpus.passage_words * (1 + self.cfg.rounds * len(self.cfg.operations))
        host = (INDEX_SECONDS * count + words / SEARCHED_WORDS) if self.cfg.evaluate.tasks else 0.0
        seconds = None if self.speed is None else flops / self.speed.training + host
        return replace(self._row("evaluate", count, tokens, flops, 1e6, seconds), host_seconds=host)

    def _row(
        self,
        stage: str,
        count: int,
        tokens: float,
        flops: float,
        disk: float,
        seconds: float | None,
        decode_flops: float = 0.0,
        decode_steps: float = 0.0,
    ) -> StageEstimate:
        with_generator = stage.startswith(("train-", "synthesize-"))
        try:
            memory = stage_bytes(self.cfg, stage, 1) + (JUDGE_PROCESS_BYTES if with_generator else LIBRARY_BYTES)
        except ModelSizeError as problem:
            raise PlanError(f"{stage}: {problem}") from problem
        if stage == "prepare":
            memory += (self.corpus.documents or self.corpus.passages) * BYTES_PER_DOCUMENT
        if seconds is not None:
            seconds += count * (START_SECONDS + (JUDGING_SECONDS if with_generator else 0.0))
        return StageEstimate(stage, count, tokens, flops, memory, disk, seconds, decode_flops, decode_steps)

    @staticmethod
    def _decode_steps(engine: EngineSpec, tokens: float, side_by_side: int) -> float:
        return tokens / min(engine.batch_size, side_by_side) if engine.type == "transformers" else 0.0

    def _judge_flops(self, operation: str, texts: float, text_tokens: float) -> float:
        return judge_flops(
            self.cfg,
            operation,
            self._parameters,
            tokens=texts * (text_tokens + self.passage),
            texts=texts,
            passage_tokens=self.passage,
            model_flops=model_flops_per_token(self.cfg),
        )

    def _parameters(self, reference: str) -> float:
        """Parameters of a judge. A small one whose size is not known before it is fetched is left out."""
        try:
            return model_size(reference).parameters
        except ModelSizeError as problem:
            if reference in (self.cfg.judges.encoder.model, self.cfg.judges.fluency.model):
                return 0.0
            raise PlanError(str(problem)) from problem

    def _model(self) -> int:
        return num_parameters(self.cfg.pretrain.model, self.cfg.prepare.tokenizer.vocab_size)

    def _training_seconds(self, flops: float) -> float | None:
        return flops / self.speed.training if self.speed else None


def format_plan(cfg: RunConfig, root: Path, calibrate: bool) -> list[str]:
    """The plan as lines of text, a table with totals. `calibrate`: measure this machine. Raises PlanError."""
    speed, p, vocab = None, cfg.pretrain, cfg.prepare.tokenizer.vocab_size
    if calibrate:
        speed = measure_throughput(p.model, vocab, p.sequence_length, seconds=10.0)
    corpus, rows = corpus_size(cfg, root), estimate_stages(cfg, root, speed)
    out = [
        f"run {cfg.name}: {cfg.rounds} rounds, {sum(r.count for r in rows)} steps",
        f"corpus: {corpus.tokens:,} train tokens, {corpus.documents:,} documents, {corpus.passages:,} passages "
        f"({corpus.about})",
        f"model: {num_parameters(p.model, vocab):,} parameters; a round ends on a plateau or after {p.steps:,} steps of "
        f"{p.batch_size * p.sequence_length:,} tokens",
        "",
        f"{'stage':<22}{'times':>6}{'tokens':>12}{'FLOP':>10}{'memory':>10}{'disk':>10}{'time':>16}",
    ]
    for r in rows:
        took = duration(r.seconds) if r.seconds is not None else "-"
        out.append(
            f"{r.stage:<22}{r.count:>6}{_short(r.tokens):>12}{r.flops:>10.1e}{_bytes(r.memory):>10}{_bytes(r.disk):>10}{took:>16}"
        )
    seconds = [r.seconds for r in rows if r.seconds is not None]
    total = duration(sum(seconds)) if seconds else "-"
    memory, disk = max(r.memory for r in rows), sum(r.disk for r in rows)
    flops, tokens = sum(r.flops for r in rows), sum(r.tokens for r in rows)
    out.append(f"{'whole run':<22}{'':>6}{_short(tokens):>12}{flops:>10.1e}{_bytes(memory):>10}{_bytes(disk):>10}{total:>16}")
    if speed:
        out.append("")
        out.append(
            f"this machine: {speed.training / 1e9:.0f} GFLOP/s training the model, {speed.prefill / 1e9:.0f} reading prompts, "
            f"{speed.decode / 1e9:.1f} generating; one process, {cfg.machine.threads or 'all'} threads"
        )
        out.append("times are estimates; a plateau ends a round of pretraining before its budget")
    return out


def _short(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.1f}{name}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
