"""train_generator: GRPO on what the model has yet to absorb (method.md, step 4).

Differences from the paper: LoRA is offered beside full weights (`tuning`); a few passages of the train split are held aside
from training to compare the generator before and after on the same sample, which also serves as preflight. The paper's
settings are the defaults.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from synpro.engines.base import Engine, Sampling
from synpro.judges.base import JudgesConfig
from synpro.operations.base import Operation, OperationConfig, rewrite
from synpro.operations.table import build
from synpro.records import Corpus, Generator, Passage, Probe, Rewrite, Verifier, digest_files, digest_of
from synpro.rewards.rubric import Rubric, RubricConfig
from synpro.run.journal import Journal
from synpro.run.ranks import Ranks

if TYPE_CHECKING:
    from synpro.grpo.trl import Run, Tally

T = TypeVar("T")


@dataclass(frozen=True)
class TrainGeneratorConfig:
    """How generators are trained. The defaults are the paper's (OLMo-2-0425-1B-Instruct, full weights)."""

    base: str = "hf:allenai/OLMo-2-0425-1B-Instruct"
    """Asset reference or folder of the instruction-tuned model a generator starts from."""
    start: Literal["previous", "base"] = "previous"
    """From round 2 on: the previous round's generator of the same operation (paper), or `base` again."""
    tuning: Literal["full", "lora"] = "full"
    """Train all weights, or LoRA adapters (arXiv 2106.09685)."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_modules: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter; none named = all but the output head."""
    steps: dict[str, int] = field(default_factory=lambda: {"rephrase": 300, "reformat": 240})
    """Optimiser steps by operation (paper: 300 and 240). 0 = the generator by prompt alone, the baseline without RL."""
    prompts_per_step: int = 16
    completions: int = 8
    """Answers per prompt: the group whose rewards are compared."""
    max_new_tokens: dict[str, int] = field(default_factory=lambda: {"rephrase": 2048, "reformat": 2048})
    """By operation. Answers cut at the limit are not learned from."""
    temperature: float = 1.0
    top_p: float = 0.9
    learning_rate: float = 1e-6
    """At the top of the schedule."""
    later_rate: float = 1.0
    """Share of `learning_rate` for a generator that a round before has trained: few steps at a rate that moves fresh adapters
    undo in trained ones what they had learned (docs/LOG.md)."""
    final_rate: float = 0.1
    """Where the cosine ends, as a share of `learning_rate`."""
    warmup: float = 0.1
    """Share of the steps."""
    beta: float = 0.005
    """Weight of the KL penalty towards the generator the round started from; 0 saves the reference pass."""
    micro_batch: int = 16
    """Answers per forward and backward pass; divides `prompts_per_step * completions`."""
    batch_size: int = 64
    """Answers written side by side; bounds the memory of their key/value cache."""
    checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the arithmetic. With full weights the weights themselves stay in float32, or small steps would round away."""
    engine: str = "transformers"
    """What writes the answers that are learned from. `transformers`: the policy itself, the same texts each time. `vllm`: vLLM
    in every process, beside the weights in training. `http://HOST:PORT`: a `trl vllm-serve` of the same base on GPUs of its
    own. vLLM's probabilities differ a little from the policy's; TRL corrects the loss for that, and texts are not the same
    each time."""
    vllm_memory: float = 0.3
    """Share of each GPU's memory that vLLM takes beside the weights in training."""
    source_characters: int = 7000
    """Passages are cut to this many characters (paper value)."""
    validation_passages: int = 16
    """Passages held aside, answered before and after."""

    def __post_init__(self) -> None:
        for operation, steps in self.steps.items():
            if steps < 0:
                raise ValueError(f"steps.{operation}: {steps} is below 0; use 0 for the generator by prompt alone")
        at_least_one = ("lora_rank", "lora_alpha", "prompts_per_step", "micro_batch", "batch_size", "source_characters")
        for name in (*at_least_one, "validation_passages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is below 1")
        if self.completions < 2:
            raise ValueError(f"completions: {self.completions} leaves nothing to compare; use at least 2 (paper: 8)")
        if any(tokens < 1 for tokens in self.max_new_tokens.values()):
            raise ValueError("max_new_tokens: a limit below 1 leaves no room for an answer")
        if (self.prompts_per_step * self.completions) % self.micro_batch:
            total = self.prompts_per_step * self.completions
            raise ValueError(f"micro_batch: {self.micro_batch} does not divide the {total} answers of a step; use a divisor")
        if self.temperature <= 0:
            raise ValueError(f"temperature: {self.temperature} makes all answers of a group equal; use about 1.0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} is not in (0, 1]; use about 0.9")
        for name in ("final_rate", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a share; use 0.1")
        if not 0 < self.later_rate <= 1:
            raise ValueError(f"later_rate: {self.later_rate} is no share of learning_rate; use 1.0, or less for small runs")
        if self.learning_rate <= 0 or self.beta < 0:
            raise ValueError(f"learning_rate: {self.learning_rate} must be above 0, and beta ({self.beta}) not below 0")

        if self.engine not in ("transformers", "vllm") and not self.engine.startswith(("http://", "https://")):
            raise ValueError(f"engine: {self.engine!r} is none; use transformers, vllm, or the address of a `trl vllm-serve`")
        if not 0 < self.vllm_memory < 1:
            raise ValueError(f"vllm_memory: {self.vllm_memory} is no share of a GPU; use 0.3")
        if self.engine != "transformers" and self.tuning == "lora" and self.dtype == "bfloat16":
            raise ValueError(
                f"engine: {self.engine!r} is handed adapters merged into the weights, and 16 bits round most of a small update"
                ' away; use dtype = "float32", or tuning = "full"'
            )

    def steps_of(self, operation: str) -> int:
        """Steps for an operation. Raises ValueError when the config does not say."""
        return _of(self.steps, operation, "steps")

    def tokens_of(self, operation: str) -> int:
        """`max_new_tokens` for an operation. Raises ValueError when the config does not say."""
        return _of(self.max_new_tokens, operation, "max_new_tokens")


def _of(values: dict[str, int], operation: str, name: str) -> int:
    if operation not in values:
        raise ValueError(f"{name}: no value for operation {operation!r}, only for {', '.join(values)}; add one")
    return values[operation]


def train_generator(
    cfg: TrainGeneratorConfig,
    *,
    operation: OperationConfig,
    rubric: RubricConfig,
    judges: JudgesConfig,
    corpus: Corpus,
    probe: Probe,
    verifier: Verifier,
    start: Generator | None,
    round: int,
    out: Path,
    journal: Journal,
    seed: int,
) -> Generator:
    """The generator of one operation for one round; starts over when it was interrupted.

    Of several processes (`accelerate launch`) each calls this with the same arguments, writes and scores the answers to its
    share of the passages, and learns from them with the others; process 0 writes the files.

    Raises PreflightError when a sample of answers shows that nothing could be learned, ValueError for settings that do not
    fit, AssetError when a model cannot be had.
    """
    from synpro.corpus.store import passages as all_passages
    from synpro.grpo.ranks import enter

    ranks = enter()
    if ranks.first:
        for left in ("adapter", "weights", "trl"):
            shutil.rmtree(out / left, ignore_errors=True)
        (out / "validation.json").unlink(missing_ok=True)
    journal.rewind({})
    op = build(operation)
    steps = cfg.steps_of(op.name)
    passages = [_cut(p, cfg.source_characters) for p in all_passages(corpus)]
    train, aside = hold_aside(passages, cfg.validation_passages)
    previous = start if start is not None and cfg.start == "previous" else None
    journal.progress(0, steps + 2, "judges")
    memory = out / "scratch" / (f"rank-{ranks.number}" if ranks.count > 1 else "")
    scorer = Rubric.build(op, rubric, judges, probe, verifier, memory, ranks)
    try:
        scorer.prepare(passages)
        return _Training(cfg, op, scorer, train, aside, previous, steps, round, out, journal, seed, ranks).run()
    finally:
        scorer.close()


def hold_aside(passages: Sequence[Passage], count: int) -> tuple[list[Passage], list[Passage]]:
    """(passages to train on, passages held aside): by hash of id, at most a quarter, in the order of the corpus.

    Raises ValueError for fewer than two passages.
    """
    if len(passages) < 2:
        raise ValueError(f"the train split has {len(passages)} passages; a generator needs at least 2. Give prepare more text")
    count = min(count, max(1, len(passages) // 4))
    chosen = {p.id for p in sorted(passages, key=lambda p: sha256(p.id.encode()).digest())[:count]}
    return [p for p in passages if p.id not in chosen], [p for p in passages if p.id in chosen]


def _cut(passage: Passage, characters: int) -> Passage:
    if len(passage.text) <= characters:
        return passage
    return replace(passage, text=passage.text[:characters], end=passage.start + characters)


@dataclass
class _Training:
    """One training, from an opened base to a generator's files."""

    cfg: TrainGeneratorConfig
    op: Operation
    rubric: Rubric
    train: list[Passage]
    aside: list[Passage]
    previous: Generator | None
    steps: int
    round: int
    out: Path
    journal: Journal
    seed: int
    ranks: Ranks
    baseline: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and deviation of each reward before training: the unit in which `reward` is told."""

    def run(self) -> Generator:
        from synpro.grpo.preflight import check

        run = self._open()
        self.journal.progress(1, self.steps + 2, "before")
        groups, scores = self._sample(run.engine)
        self.baseline = {name: _moments([s[name] for s in _flat(scores)]) for name in self.rubric.weights}
        summary = {"before": self._summary(groups, scores)}
        self.journal.say(f"{self.op.name}, before: {_line(summary['before'])}")
        if self.steps:
            for warning in check(groups, scores, self.rubric.weights, self.cfg.tokens_of(self.op.name)):
                self.journal.say(warning)
            run.train()
            self.journal.progress(self.steps + 1, self.steps + 2, "after")
            groups, scores = self._sample(run.engine)
        summary["after"] = self._summary(groups, scores)
        self.journal.say(f"{self.op.name}, after:  {_line(summary['after'])}")
        return self._save(run.policy, run.tokenizer, summary)

    def _open(self) -> Run:
        from synpro.assets import model_folder
        from synpro.grpo.policy import Tuning, open_policy
        from synpro.grpo.trl import Run, Settings

        cfg = self.cfg
        folder = model_folder(cfg.base, slot="generator.base", say=self.journal.say)
        tuning = Tuning(cfg.tuning == "full", cfg.lora_rank, cfg.lora_alpha, cfg.lora_modules, cfg.dtype)
        settings = Settings(
            steps=max(1, self.steps),
            prompts=cfg.prompts_per_step,
            completions=cfg.completions,
            micro_batch=cfg.micro_batch,
            learning_rate=cfg.learning_rate * (cfg.later_rate if self._trained_before else 1.0),
            final_rate=cfg.final_rate,
            warmup=cfg.warmup,
            beta=cfg.beta,
            sampling=Sampling(cfg.temperature, cfg.top_p, cfg.tokens_of(self.op.name)),
            seed=self.seed,
            dtype=cfg.dtype,
            checkpointing=cfg.checkpointing,
            batch_size=cfg.batch_size,
            engine=cfg.engine,
            vllm_memory=cfg.vllm_memory,
        )
        return Run(
            open_policy(folder, tuning, self.previous),
            passages=self.train,
            operation=self.op,
            rubric=self.rubric,
            settings=settings,
            folder=self.out / "trl",
            report=self._report,
            ranks=self.ranks,
        )

    def _sample(self, engine: Engine) -> tuple[list[list[Rewrite]], list[list[dict[str, float | None]]]]:
        """Groups of answers to the passages held aside, the same sampling each time, and their scores."""
        cfg = self.cfg
        sampling = Sampling(cfg.temperature, cfg.top_p, cfg.tokens_of(self.op.name), n=cfg.completions, seed=self.seed)
        mine = rewrite(self.op, self.ranks.share(self.aside), engine, sampling)
        given = iter(self.rubric.score(_flat(mine)))
        answered = self.ranks.gather([(group, [next(given) for _ in group]) for group in mine])
        return [group for group, _ in answered], [scores for _, scores in answered]

    def _summary(self, groups: list[list[Rewrite]], scores: list[list[dict[str, float | None]]]) -> dict[str, Any]:
        """Means over the sample; `influence` lists the rewrites that parsed; one sample per passage."""
        rewrites, flat = _flat(groups), _flat(scores)
        parsed = [s for r, s in zip(rewrites, flat, strict=True) if r.text is not None]
        shown = [
            {"passage": g[0].passage.id, "source": g[0].passage.text, "answer": g[0].answer, "text": g[0].text, "scores": s[0]}
            for g, s in zip(groups, scores, strict=True)
        ]
        return {
            **{f"reward/{name}": _moments([s[name] for s in flat])[0] for name in self.rubric.weights},
            "reward": self._total(flat),
            "parsed": len(parsed) / len(rewrites),
            "clipped": sum(r.finish == "length" for r in rewrites) / len(rewrites),
            "completion_tokens": sum(r.tokens for r in rewrites) / len(rewrites),
            "influence": [s["influence"] for s in parsed] if "influence" in self.rubric.weights else [],
            "samples": shown,
        }

    def _total(self, scores: list[dict[str, float | None]]) -> float:
        """Weighted reward in deviations of the sample before training, where it is 0. (Inside GRPO each reward is normalised
        within its group, so that sum is 0 at every step and cannot show progress.)"""
        total = 0.0
        for name, weight in self.rubric.weights.items():
            mean, deviation = self.baseline[name]
            # A reward that was the same for all counts in its own unit, not in units of nothing.
            total += weight * (_moments([s[name] for s in scores])[0] - mean) / (deviation if deviation > 1e-6 else 1.0)
        return total

    def _report(self, step: int, tally: Tally, logs: Mapping[str, float]) -> None:
        from synpro.grpo.preflight import zero_spread

        n = self.cfg.completions
        groups = [tally.scores[i : i + n] for i in range(0, len(tally.scores), n)]
        self.journal.metrics(
            step=step,
            reward=self._total(tally.scores),
            **{f"reward/{name}": _moments([s[name] for s in tally.scores])[0] for name in self.rubric.weights},
            parsed=sum(r.text is not None for r in tally.rewrites) / len(tally.rewrites),
            clipped=sum(r.finish == "length" for r in tally.rewrites) / len(tally.rewrites),
            zero_std=zero_spread(groups, self.rubric.weights),
            kl=logs.get("kl"),
            entropy=logs.get("entropy"),
            grad_norm=logs.get("grad_norm"),
            lr=logs.get("learning_rate"),
            completion_tokens=sum(r.tokens for r in tally.rewrites) / len(tally.rewrites),
            seconds=time.monotonic() - tally.started,
            **{"seconds/generate": tally.generate_seconds, "seconds/reward": tally.reward_seconds},
        )
        self.journal.progress(1 + step, self.steps + 2, f"step {step}/{self.steps}")

    @property
    def _trained_before(self) -> bool:
        """Whether the generator this one starts from has weights of its own. (`_open` refuses those of another tuning.)"""
        return self.previous is not None and (self.previous.adapter or self.previous.weights) is not None

    def _save(self, policy: Any, tokenizer: Any, summary: dict[str, Any]) -> Generator:
        """Files and record; of several processes the first one writes, and all give its record."""
        from synpro.grpo.ranks import leave

        record = self.ranks.gather([self._written(policy, tokenizer, summary)] if self.ranks.first else [])[0]
        leave(self.ranks)
        return record

    def _written(self, policy: Any, tokenizer: Any, summary: dict[str, Any]) -> Generator:
        from synpro.grpo.policy import save_adapter, save_weights

        adapter: Path | None = None
        weights: Path | None = None
        trained = self.steps > 0 or self._trained_before
        if self.cfg.tuning == "lora" and trained:
            adapter = self.out / "adapter"
            save_adapter(policy, self.cfg.base, adapter)
        elif self.cfg.tuning == "full" and trained:
            weights = self.out / "weights"
            save_weights(policy, tokenizer, self.cfg.dtype, weights)
        shutil.rmtree(self.out / "trl", ignore_errors=True)
        body = json.dumps(summary, indent=1, ensure_ascii=False)
        (self.out / "validation.json").write_text(body + "\n", encoding="utf-8")
        files = digest_files(self.out, *(p for p in (adapter, weights) if p is not None))
        digest = digest_of([self.op.name, self.cfg.base, files])
        self.journal.progress(self.steps + 2, self.steps + 2, "done")
        return Generator(self.op.name, self.cfg.base, adapter, weights, self.round, digest)


def _flat(groups: Sequence[Sequence[T]]) -> list[T]:
    return [item for group in groups for item in group]


def _moments(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and deviation of what is known; (0, 0) where nothing is."""
    known = [v for v in values if v is not None]
    if not known:
        return 0.0, 0.0
    mean = sum(known) / len(known)
    return mean, (sum((v - mean) ** 2 for v in known) / len(known)) ** 0.5


def _line(summary: dict[str, Any]) -> str:
    rewards = ", ".join(f"{k.removeprefix('reward/')} {v:.3f}" for k, v in summary.items() if k.startswith("reward/"))
    return f"{summary['parsed']:.0%} parsed, {summary['clipped']:.0%} clipped, {rewards}"
