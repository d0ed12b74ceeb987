"""What a run will take, before it runs: tokens, steps, FLOPs, memory, disk, and time from ten seconds of measuring here.

Counts follow from the config; sizes that only the corpus can tell (passages, tokens per word) are read from a finished
`prepare` step when there is one, and estimated otherwise; the plan says which. Times are estimates; a plateau may come
earlier than the budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synpro.config import RunConfig
from synpro.engines.sizes import Size as ModelSize
from synpro.engines.sizes import SizeError, size_of
from synpro.lm.shapes import flops_per_token, parameters
from synpro.memory import CLAIM_TOKENS, DOCUMENT, JUDGES, LIBRARIES, PROMPT_TOKENS, TOKENS_PER_WORD, large_judges, of_stage
from synpro.run.screen import duration

SMALL_VOCABULARY = 1.7
"""Tokens per word of a small trained BPE on English. Replaced by the measured ratio once the corpus is prepared."""
CLAIMS_PER_PASSAGE, WRITTEN_CLAIMS = 12, 350
"""Of the verifier's training, on passages of about 60 words (measured on the demo's text)."""
ENCODER_PARAMETERS, FLUENCY_PARAMETERS = 1.1e7, 1.35e8
"""Of MiniLM without its embeddings, and of SmolLM2-135M."""
START_SECONDS = 8.0
"""A step's process: Python, PyTorch and its libraries."""
JUDGING_SECONDS = 15.0
"""Of a step with a generator, on top: loading the judges and scoring the sources of a small corpus (measured: 12 to 18)."""
CLAIMS_PER_TEXT = {"reformat": 8}
"""Claims of a text that a language model checks one by one; of other operations four."""


@dataclass(frozen=True)
class Size:
    """The corpus, as far as it is known."""

    tokens: int
    passages: int
    passage_words: float
    known: bool
    """False while this is estimated from the config."""


@dataclass(frozen=True)
class Cost:
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
    written: float = 0.0
    """Of `flops`: those of writing token by token, which keeps a machine far less busy than reading."""


@dataclass(frozen=True)
class Speed:
    """FLOP/s that this machine reached in ten seconds of each kind of work."""

    training: float
    """Forward and backward of a model of the configured shape, in the configured precision."""
    prefill: float
    """Forward of a generator-sized model over prompts, bfloat16."""
    decode: float
    """The same, one token at a time, 32 answers side by side."""

    def writing(self, answers: int) -> float:
        """`decode` for another number of answers side by side: about the square root of it (measured: 118 tokens/s with 8,
        342 with 64)."""
        return self.decode * (min(answers, 64) / 32) ** 0.5


def size(cfg: RunConfig, root: Path) -> Size:
    """The corpus from `prepare`'s result, else from the config. Raises ValueError when neither can tell."""
    result = root / "round-00" / "prepare" / "result.json"
    words = cfg.prepare.passages.target_words or cfg.prepare.passages.max_words or cfg.prepare.passages.max_characters / 6
    if result.exists():
        record = json.loads(result.read_text(encoding="utf-8"))["record"]
        return Size(record["tokens"]["train"], record["passages"], words, True)
    total = cfg.prepare.train_words
    if total is None:
        bytes_here = sum(p.stat().st_size for s in cfg.prepare.sources for p in _local(s.path))
        if not bytes_here:
            raise PlanError(
                "the size of the corpus is not known before it is read: set prepare.train_words, or run the first step "
                "(synpro step CONFIG round-00/prepare) and plan again"
            )
        total = round(bytes_here / 6)
    ratio = SMALL_VOCABULARY if cfg.prepare.tokenizer.source == "train" else TOKENS_PER_WORD
    return Size(round(total * ratio), max(1, round(total / words)), words, False)


class PlanError(ValueError):
    """A plan that cannot be made; the message says what is missing."""


def _local(path: str) -> list[Path]:
    here = Path(path)
    if here.is_dir():
        return [p for p in here.rglob("*") if p.is_file()]
    return (
        [here] if here.is_file() else [p for p in Path().glob(path) if p.is_file()] if "*" in path and ":" not in path else []
    )


def generator_parameters(cfg: RunConfig) -> tuple[int, int]:
    """(parameters, values of the key/value cache per token) of the generator, from its config.json when it is on this machine,
    else from the name of a known model. Raises PlanError."""
    found = _known(cfg.train_generator.base, "train_generator.base")
    return found.parameters, found.cache


def known_parameters(reference: str) -> int:
    """Parameters of a language model, as `generator_parameters`. Raises PlanError."""
    return _known(reference, "train_verifier.base").parameters


def _known(reference: str, key: str) -> ModelSize:
    try:
        return size_of(reference)
    except SizeError as problem:
        raise PlanError(f"{key}: {problem}") from problem


def costs(cfg: RunConfig, root: Path, speed: Speed | None) -> list[Cost]:
    """One row per kind of step, in the order of the loop."""
    corpus = size(cfg, root)
    p, t = cfg.pretrain, cfg.train_generator
    vocab = cfg.prepare.tokenizer.vocab_size
    model, per_token = parameters(p.model, vocab), flops_per_token(p.model, vocab, p.sequence_length)
    generator = generator_parameters(cfg)[0]
    rounds, rows = cfg.rounds, []

    def add(
        stage: str, count: int, tokens: float, flops: float, disk: float, seconds: float | None, written: float = 0.0
    ) -> None:
        with_generator = stage.startswith(("train-", "synthesize-"))
        start = START_SECONDS + (JUDGING_SECONDS if with_generator else 0.0)
        memory = of_stage(cfg, stage, 1) + (JUDGES if with_generator else LIBRARIES)
        if stage == "prepare":  # a document has at least one passage
            memory += corpus.passages * DOCUMENT
        whole = None if seconds is None else seconds + count * start
        rows.append(Cost(stage, count, tokens, flops, memory, disk, whole, written))

    def time(flops: float, rate: float | None) -> float | None:
        return None if rate is None else flops / rate

    training = speed.training if speed else None
    budget = p.max_tokens * (rounds + 1)
    if p.total_tokens is not None:
        budget = min(budget, p.total_tokens)
    add("prepare", 1, corpus.tokens, 0, corpus.tokens * 8, 5.0 if speed else None)
    if rounds:
        _verifier(cfg, speed, corpus, add)
    work = budget * per_token
    add("pretrain", rounds + 1, budget, work, (rounds + 1) * model * 16, time(work, training))
    probed = cfg.probe.steps * cfg.probe.replicas * cfg.probe.batch * p.sequence_length * rounds
    add(
        "probe",
        rounds,
        probed,
        probed * per_token,
        rounds * model * 4 * cfg.probe.replicas,
        time(probed * per_token, training),
    )
    passage = corpus.passage_words * TOKENS_PER_WORD + PROMPT_TOKENS
    for operation in cfg.operations:
        name = operation.name
        answer = min(t.tokens_of(name), corpus.passage_words * TOKENS_PER_WORD * 1.3)
        answers = (t.steps_of(name) * t.prompts_per_step + 2 * t.validation_passages) * t.completions
        written = answers * answer * rounds
        learned = t.steps_of(name) * t.prompts_per_step * t.completions * (passage + answer) * rounds
        decode, forward = 2 * generator * written, (2 if t.tuning == "lora" else 3) * 2 * generator * learned
        seconds = (
            None if speed is None else decode / speed.writing(t.prompts_per_step * t.completions) + forward / speed.prefill
        )
        kept = generator * (0.08 if t.tuning == "lora" else 2)
        judged = judging(cfg, name, answers * rounds, answer, passage - PROMPT_TOKENS)
        add(f"train-{name}", rounds, written, decode + forward + judged, rounds * kept, seconds, decode)
        out = corpus.passages * min(cfg.synthesize.max_new_tokens[name], corpus.passage_words * TOKENS_PER_WORD * 1.3) * rounds
        prompts = corpus.passages * passage * rounds * 0.4  # the shared prefix is computed once
        seconds = (
            None
            if speed is None
            else 2 * generator * out / speed.writing(cfg.synthesize.batch_size) + 2 * generator * prompts / speed.prefill
        )
        texts = corpus.passages * rounds
        judged = judging(cfg, name, texts, out / texts, passage - PROMPT_TOKENS)
        add(f"synthesize-{name}", rounds, out, 2 * generator * (out + prompts) + judged, out * 20, seconds, 2 * generator * out)
    share = cfg.prepare.heldout_share / (1 - cfg.prepare.heldout_share)
    heldout = min(corpus.tokens * share * 20, 1e9) * (rounds + 1)
    add("evaluate", rounds + 1, heldout, heldout * per_token / 3, 1e6, time(heldout * per_token / 3, training))
    return rows


def _verifier(cfg: RunConfig, speed: Speed | None, corpus: Size, add: Callable[..., None]) -> None:
    """The row of the verifier: reading claims with their passages by the encoder, or training and asking a language model."""
    v = cfg.train_verifier
    claims = min(v.claims, corpus.passages * CLAIMS_PER_PASSAGE) + WRITTEN_CLAIMS
    if v.kind == "none":
        add("verifier", 1, 0, 0, 0, 1.0 if speed else None)
    elif v.kind == "features":
        tokens = claims * CLAIM_TOKENS
        flops = 2.0 * ENCODER_PARAMETERS * tokens
        if v.likelihood:
            flops += 2 * FLUENCY_PARAMETERS * claims * (corpus.passage_words * TOKENS_PER_WORD + 2 * CLAIM_TOKENS)
        # A short text by itself keeps a machine at about a quarter of what a batch of prompts does (measured: 28 ms a claim).
        add("verifier", 1, tokens, flops, 5e6, 4 * flops / speed.prefill if speed else None)
    else:
        model = known_parameters(v.base)
        read = claims * (corpus.passage_words * TOKENS_PER_WORD + 150)
        flops = (2 if v.lora_rank else 3) * 2 * model * read * v.epochs
        add("verifier", 1, read * v.epochs, flops, model * 2, flops / speed.prefill if speed else None)


def judging(cfg: RunConfig, operation: str, texts: float, tokens: float, source: float) -> float:
    """Operations of scoring `texts` of `tokens` each, and as many passages of `source` tokens: influence by two models, and the
    language models. The small judges of the demo are left out."""
    weights = {name for name, weight in cfg.rubric.weights[operation].items() if weight}
    both, flops = texts * (tokens + source), 0.0
    if "influence" in weights:
        flops += (1 + cfg.probe.replicas) * 2.0 * parameters(cfg.pretrain.model, cfg.prepare.tokenizer.vocab_size) * both
    for reference in large_judges(cfg, operation):
        asked = CLAIMS_PER_TEXT.get(operation, 4) * texts * (source + CLAIM_TOKENS)  # every claim beside its whole passage
        flops += 2.0 * known_parameters(reference) * (asked if reference == cfg.train_verifier.base else both)
    return flops


def lines(cfg: RunConfig, root: Path, calibrate: bool) -> list[str]:
    """The plan as text, a table with totals. Raises PlanError."""
    speed = None
    if calibrate:
        from synpro.lm.speed import measure

        speed = Speed(
            *measure(cfg.pretrain.model, cfg.prepare.tokenizer.vocab_size, cfg.pretrain.sequence_length, seconds=10.0)
        )
    corpus = size(cfg, root)
    rows = costs(cfg, root, speed)
    about = "measured by prepare" if corpus.known else "estimated"
    model = parameters(cfg.pretrain.model, cfg.prepare.tokenizer.vocab_size)
    out = [
        f"run {cfg.name}: {cfg.rounds} rounds, {sum(r.count for r in rows)} steps",
        f"corpus: {corpus.tokens:,} train tokens in {corpus.passages:,} passages ({about})",
        f"model: {model:,} parameters; a round ends on a plateau or after {cfg.pretrain.steps:,} steps of "
        f"{cfg.pretrain.batch * cfg.pretrain.sequence_length:,} tokens",
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
            f"{speed.decode / 1e9:.1f} writing; one process, {cfg.machine.threads or 'all'} threads"
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
