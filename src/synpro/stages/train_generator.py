"""train_generator: GRPO on what the model has yet to absorb (method.md, step 4).

Differences from the paper: LoRA is offered beside full weights (`tuning`). A few passages of the train split are not trained
on; the same sample of answers to them, before and after, shows what training changed, and serves as preflight. The paper's
settings are the defaults.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from synpro.engines.base import Engine
from synpro.grpo.preflight import preflight, zero_std_share
from synpro.grpo.settings import GRPOSettings
from synpro.grpo.stats import RewardScale, StepStats, summarize
from synpro.operations.base import Operation, OperationConfig, rewrite_passages
from synpro.operations.registry import build_operation
from synpro.records import Corpus, Generator, Passage, Rewrite, digest_files, digest_of
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.schema import setting

if TYPE_CHECKING:
    from synpro.grpo.trl import GRPORun

T = TypeVar("T")
Scores = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class TrainGeneratorConfig(GRPOSettings):
    """How generators are trained. The defaults are the paper's (OLMo-2-0425-1B-Instruct, full weights)."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **{key: f"operations.NAME.{key}" for key in ("steps", "max_new_tokens", "temperature", "top_p")},
        **{"completions": "num_generations", "micro_batch": "micro_batch_size", "checkpointing": "gradient_checkpointing"},
        **{"final_rate": "min_lr_ratio", "later_rate": "later_lr_ratio", "warmup": "warmup_ratio"},
        **{"batch_size": "train_generator.engine.batch_size", "vllm_memory": "train_generator.engine.gpu_memory_utilization"},
        "source_characters": "prepare.passages.max_characters",
    }

    base: str = "hf:allenai/OLMo-2-0425-1B-Instruct"
    """Asset reference or folder of the instruction-tuned model that a generator starts from."""
    start: Literal["previous", "base"] = "previous"
    """From round 2 on: the previous round's generator of the same operation (paper), or `base` again."""
    later_lr_ratio: float = setting(1.0, above=0, max=1)
    """Share of `learning_rate` for a generator that an earlier round has trained: a few steps at a rate that moves fresh
    adapters undo what trained ones have learned (docs/LOG.md)."""
    validation_passages: int = setting(16, unit="passages", source="ours", min=1)
    """Passages that are not trained on, answered before and after."""


def train_generator(
    cfg: TrainGeneratorConfig,
    *,
    operation: OperationConfig,
    scoring: Scoring,
    corpus: Corpus,
    start: Generator | None,
    round: int,
    ctx: StepContext,
) -> Generator:
    """Train the generator of one operation for one round. A step that was interrupted starts over.

    Each of several processes (`accelerate launch`) calls this with the same arguments, generates and scores the answers to its
    share of the passages, and learns with the others; the first one writes the files.

    Raises PreflightError when a sample of answers shows that nothing could be learned, ValueError for settings that do not fit,
    AssetError when a model cannot be found.
    """
    from synpro.corpus.store import read_passages

    out, group = ctx.out, ctx.group
    if group.is_first:
        for leftover in ("adapter", "weights", "trl"):
            shutil.rmtree(out / leftover, ignore_errors=True)
        (out / "validation.json").unlink(missing_ok=True)
    ctx.logger.truncate({})
    op = build_operation(operation)
    passages = read_passages(corpus.dir)
    train, validation = split_validation(passages, cfg.validation_passages)
    previous = start if cfg.start == "previous" else None
    ctx.logger.progress(0, operation.steps + 2, "judges")
    state_dir = out / "scratch" / (f"rank-{group.rank}" if group.size > 1 else "")
    rubric = Rubric.build(op, scoring, state_dir, group)
    try:
        rubric.prepare(passages)
        return _Training(cfg, op, rubric, train, validation, previous, round, ctx).run()
    finally:
        rubric.close()


def split_validation(passages: Sequence[Passage], count: int) -> tuple[list[Passage], list[Passage]]:
    """(passages to train on, validation passages): `count` by hash of id, at most a quarter, in the order of the corpus.

    Raises ValueError for fewer than two passages.
    """
    if len(passages) < 2:
        raise ValueError(f"the train split has {len(passages)} passages; a generator needs at least 2. Give prepare more text")
    count = min(count, max(1, len(passages) // 4))
    chosen = {p.id for p in sorted(passages, key=lambda p: sha256(p.id.encode()).digest())[:count]}
    return [p for p in passages if p.id not in chosen], [p for p in passages if p.id in chosen]


@dataclass
class _Training:
    """One training, from an opened base to a generator's files."""

    cfg: TrainGeneratorConfig
    op: Operation
    rubric: Rubric
    train: list[Passage]
    validation: list[Passage]
    previous: Generator | None
    round: int
    ctx: StepContext

    def __post_init__(self) -> None:
        self.steps = self.op.config.steps
        self.scale = RewardScale(self.rubric.weights, {})

    def run(self) -> Generator:
        logger, name = self.ctx.logger, self.op.name
        run = self._open()
        logger.progress(1, self.steps + 2, "before")
        groups, scores = self._sample(run.engine)
        self.scale = RewardScale.of(_flat(scores), self.rubric.weights)
        summary = {"before": self._summarize(groups, scores)}
        logger.log(f"{name}, before: {_line(summary['before'])}")
        if self.steps:
            for warning in preflight(groups, scores, self.rubric.weights, self.op.config.max_new_tokens):
                logger.log(warning)
            run.train()
            logger.progress(self.steps + 1, self.steps + 2, "after")
            groups, scores = self._sample(run.engine)
        summary["after"] = self._summarize(groups, scores)
        logger.log(f"{name}, after:  {_line(summary['after'])}")
        return self._save(run.policy, run.tokenizer, summary)

    def _open(self) -> GRPORun:
        from synpro.assets import model_folder
        from synpro.grpo.policy import open_policy
        from synpro.grpo.trl import GRPORun

        cfg = self.cfg
        folder = model_folder(cfg.base, slot="train_generator.base", log=self.ctx.logger.log)
        settings = replace(cfg, learning_rate=cfg.learning_rate * (cfg.later_lr_ratio if self._trained_before else 1.0))
        policy = open_policy(folder, settings, self.previous)
        return GRPORun(policy, self.op, self.rubric, self.train, settings, self.ctx, self._report)

    def _sample(self, engine: Engine) -> tuple[list[list[Rewrite]], list[list[Scores]]]:
        """Groups of answers to the validation passages, sampled with the same seed each time, and their scores."""
        group = self.ctx.group
        sampling = self.op.config.sampling(self.cfg.num_generations, self.ctx.seed)
        mine = rewrite_passages(self.op, group.shard(self.validation), engine, sampling)
        values = iter(self.rubric.score(_flat(mine)))
        answered = group.all_gather([(answers, [next(values) for _ in answers]) for answers in mine])
        return [answers for answers, _ in answered], [scores for _, scores in answered]

    def _summarize(self, groups: list[list[Rewrite]], scores: list[list[Scores]]) -> dict[str, Any]:
        """Numbers of the sample, the influence of each rewrite that parsed, and one answer per passage."""
        rewrites, flat = _flat(groups), _flat(scores)
        parsed = [s for r, s in zip(rewrites, flat, strict=True) if r.text is not None]
        shown = [
            {"passage": g[0].passage.id, "source": g[0].passage.text, "answer": g[0].answer, "text": g[0].text, "scores": s[0]}
            for g, s in zip(groups, scores, strict=True)
        ]
        return {
            **summarize(rewrites, flat, self.rubric.weights),
            "reward": self.scale.total(flat),
            "influence": [s["influence"] for s in parsed] if "influence" in self.rubric.weights else [],
            "samples": shown,
        }

    def _report(self, step: int, stats: StepStats, logs: Mapping[str, float]) -> None:
        n = self.cfg.num_generations
        groups = [stats.scores[i : i + n] for i in range(0, len(stats.scores), n)]
        self.ctx.logger.metrics(
            step=step,
            reward=self.scale.total(stats.scores),
            **summarize(stats.rewrites, stats.scores, self.rubric.weights),
            zero_std=zero_std_share(groups, self.rubric.weights),
            kl=logs.get("kl"),
            entropy=logs.get("entropy"),
            grad_norm=logs.get("grad_norm"),
            lr=logs.get("learning_rate"),
            seconds=time.monotonic() - stats.started,
            **{"seconds/generate": stats.generate_seconds, "seconds/reward": stats.reward_seconds},
        )
        self.ctx.logger.progress(1 + step, self.steps + 2, f"step {step}/{self.steps}")

    @property
    def _trained_before(self) -> bool:
        """Whether the generator this one starts from has weights of its own."""
        return self.previous is not None and (self.previous.adapter or self.previous.weights) is not None

    def _save(self, policy: Any, tokenizer: Any, summary: dict[str, Any]) -> Generator:
        """Files and record. Of several processes the first one writes, and all return its record."""
        group = self.ctx.group
        return group.all_gather([self._write(policy, tokenizer, summary)] if group.is_first else [])[0]

    def _write(self, policy: Any, tokenizer: Any, summary: dict[str, Any]) -> Generator:
        from synpro.grpo.policy import save_adapter, save_weights

        cfg, out = self.cfg, self.ctx.out
        adapter: Path | None = None
        weights: Path | None = None
        if self.steps > 0 or self._trained_before:
            if cfg.tuning == "lora":
                adapter = out / "adapter"
                save_adapter(policy, cfg.base, adapter)
            else:
                weights = out / "weights"
                save_weights(policy, tokenizer, cfg.dtype, weights)
        shutil.rmtree(out / "trl", ignore_errors=True)
        body = json.dumps(summary, indent=1, ensure_ascii=False)
        (out / "validation.json").write_text(body + "\n", encoding="utf-8")
        files = digest_files(out, *(p for p in (adapter, weights) if p is not None))
        digest = digest_of([self.op.name, cfg.base, files])
        self.ctx.logger.progress(self.steps + 2, self.steps + 2, "done")
        return Generator(self.op.name, cfg.base, adapter, weights, self.round, digest)


def _flat(groups: Sequence[Sequence[T]]) -> list[T]:
    return [item for group in groups for item in group]


def _line(summary: Mapping[str, Any]) -> str:
    rewards = ", ".join(f"{k.removeprefix('reward/')} {v:.3f}" for k, v in summary.items() if k.startswith("reward/"))
    return f"{summary['parsed']:.0%} parsed, {summary['truncated']:.0%} truncated, {rewards}"
