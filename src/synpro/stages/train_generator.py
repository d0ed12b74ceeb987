"""train_generator: GRPO on what the model has yet to absorb (method.md, step 4).

Differences from the paper: LoRA is offered beside full weights (`tuning`). A few passages of the train split are not trained
on; the same sample of answers to them, before, during and after, shows what training changed, serves as preflight, and decides
which state goes on: the best of the start, those measured on the way and the last. The paper's settings are the defaults.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from synpro.engines.base import Engine, Unanswered
from synpro.engines.failures import FailureCount
from synpro.grpo.preflight import preflight, zero_std_share
from synpro.grpo.settings import GRPOSettings, step_of
from synpro.grpo.stats import RewardScale, StepStats, summarize
from synpro.operations.base import Operation, OperationConfig, rewrite_passages
from synpro.operations.registry import build_operation
from synpro.records import Corpus, Generator, Passage, Rewrite, digest_files, digest_of
from synpro.rewards.advantages import is_value, readable, variance_shares
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring
from synpro.runner.artifacts import sync
from synpro.runner.context import StepContext
from synpro.schema import setting

if TYPE_CHECKING:
    from synpro.grpo.trl import GRPORun

T = TypeVar("T")
_STATE = "generator.json"
"""Written last to a checkpoint."""
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
    validate_every: int = setting(50, unit="steps", source="ours", min=1)
    """How often they are also answered on the way. The answers cost about one step."""
    keep: Literal["best", "last"] = setting("best", source="ours")
    """Which state goes on: that with the highest validation reward (start and last among them), or the last (paper)."""


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
    """Train the generator of one operation for one round. A step that was interrupted goes on from its newest checkpoint: on a
    CPU to the same bytes, on a GPU to as good a generator.

    Each of several processes (`accelerate launch`) calls this with the same arguments, generates and scores the answers to its
    share of the passages, and learns with the others; the first one writes the files.

    Raises PreflightError when a sample of answers shows that nothing could be learned, ValueError for settings that do not fit,
    AssetError when a model cannot be found.
    """
    from synpro.grpo.passages import draw_passages

    out, group = ctx.out, ctx.group
    checkpoint = _newest_checkpoint(out)
    if group.is_first:
        for leftover in ("adapter", "weights", *(() if checkpoint else ("trl",))):
            shutil.rmtree(out / leftover, ignore_errors=True)
        (out / "validation.json").unlink(missing_ok=True)
    ctx.logger.truncate({"step": step_of(checkpoint)} if checkpoint else {})
    op = build_operation(operation)
    shown = max(1, operation.steps) * cfg.prompts_per_step
    train, validation = draw_passages(corpus.dir, shown, cfg.validation_passages, ctx.seed)
    previous = start if cfg.start == "previous" else None
    learned = step_of(checkpoint) if checkpoint else -1  # a resumed attempt begins where it goes on
    ctx.logger.progress(1 + learned, operation.steps + 2, "judges")
    state_dir = out / "scratch" / (f"rank-{group.rank}" if group.size > 1 else "")
    rubric = Rubric.build(op, scoring, state_dir)
    try:
        return _Training(cfg, op, rubric, train, validation, previous, round, ctx).run(checkpoint)
    finally:
        rubric.close()


def _newest_checkpoint(out: Path) -> Path | None:
    """The checkpoint in a step's folder that is whole; None without one."""
    whole = (state.parent for state in (out / "trl").glob(f"checkpoint-*/{_STATE}"))
    return max(whole, key=step_of, default=None)


@dataclass(frozen=True)
class _Measured:
    """The validation passages answered at one step of training."""

    step: int
    reward: float
    summary: dict[str, Any]
    weights: dict[str, Any]
    """The trained weights of that step, in main memory; empty in all processes but the first."""


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
        self.measured: list[_Measured] = []
        self.grpo: GRPORun | None = None
        self.failures = FailureCount(f"{self.op.name}: answers to validation passages")

    def run(self, checkpoint: Path | None) -> Generator:
        from synpro.grpo.trl import restore

        logger = self.ctx.logger
        run = self.grpo = self._open()
        if not self.steps:  # nothing is trained, and another engine may be what generates: there is nothing to measure
            return self._save(run.policy, run.tokenizer, {"kept": 0, "steps": 0, "measured": []})
        learned = step_of(checkpoint) if checkpoint else 0
        logger.progress(1 + learned, self.steps + 2, "before", startup=0.0, ago=0.0)
        if checkpoint is not None:
            logger.log(f"{self.op.name}: carrying on from {checkpoint.name}")
            self._load_state(checkpoint)
        else:
            groups, scores = self._sample(run.engine)
            self.scale = RewardScale.of(_flat(scores), self.rubric.weights)
            self._measure(0, groups, scores)
            for warning in preflight(groups, scores, self.rubric.weights, self.op.config.max_new_tokens):
                logger.log(warning)
        run.train(checkpoint)
        logger.progress(self.steps + 1, self.steps + 2, "after")
        self._measure(self.steps, *self._sample(run.engine))
        for failures in filter(str, (self.rubric.failures, run.engine.failures)):
            logger.log(f"{failures}; they count as failed")
        first, last = self.measured[0], self.measured[-1]
        best = max(self.measured, key=lambda m: (m.reward, m.step)) if self.cfg.keep == "best" else last
        if best is not last:
            logger.log(
                f"{self.op.name}: the best state on the validation passages is that of step {best.step} of {self.steps} (reward"
                f" {best.reward:+.3f}; at the end {last.reward:+.3f}, in deviations of the start); it goes on"
            )
            restore(run.policy, best.weights)  # a process that saves nothing has none: its policy stays as it is
        points = [{"step": m.step, "reward": m.reward, "passed": m.summary["passed"]} for m in self.measured]
        summary = {"before": first.summary, "after": best.summary, "kept": best.step, "steps": self.steps, "measured": points}
        if best is not last:  # what "after" shows was chosen on these very passages; the last state was not
            summary["last"] = last.summary
        return self._save(run.policy, run.tokenizer, summary)

    def _after_step(self, step: int) -> None:
        if self.grpo is not None and step % self.cfg.validate_every == 0:
            self._measure(step, *self._sample(self.grpo.engine))

    def _measure(self, step: int, groups: list[list[Rewrite]], scores: list[list[Scores]]) -> None:
        """Note how the policy does at a step; of earlier states only the best keeps its weights."""
        from synpro.grpo.trl import trained_weights

        summary, policy = self._summarize(groups, scores), self.grpo and self.grpo.policy
        keeps = self.ctx.group.is_first and self.cfg.keep == "best" and step < self.steps
        best = max((m.reward for m in self.measured), default=float("-inf"))
        if keeps and summary["reward"] >= best:
            self.measured = [replace(m, weights={}) for m in self.measured]
        weights = trained_weights(policy) if keeps and summary["reward"] >= best else {}
        self.measured.append(_Measured(step, summary["reward"], summary, weights))
        self.ctx.logger.log(f"{self.op.name}, step {step}: {_line(summary)}")

    def _open(self) -> GRPORun:
        from synpro.assets import model_folder
        from synpro.grpo.policy import open_policy
        from synpro.grpo.trl import GRPORun

        cfg = self.cfg
        folder = model_folder(cfg.base, slot="train_generator.base", log=self.ctx.logger.log)
        settings = replace(cfg, learning_rate=cfg.learning_rate * (cfg.later_lr_ratio if self._trained_before else 1.0))
        policy = open_policy(folder, settings, self.previous)
        return GRPORun(
            policy, self.op, self.rubric, self.train, settings, self.ctx, self._report, self._after_step, self._save_state
        )

    def _save_state(self, checkpoint: Path) -> None:
        """Add to TRL's checkpoint what was measured on the way, the best state with its weights; `_STATE` makes it whole."""
        from safetensors.torch import save_file

        measured = [{"step": m.step, "reward": m.reward, "summary": m.summary} for m in self.measured]
        for m in self.measured:
            if m.weights:
                save_file(m.weights, checkpoint / f"best-{m.step}.safetensors")
        draft = checkpoint / "state.tmp"
        draft.write_text(json.dumps({"scale": asdict(self.scale), "measured": measured}), encoding="utf-8")
        sync(checkpoint)
        draft.rename(checkpoint / _STATE)
        for other in checkpoint.parent.glob("checkpoint-*"):
            if other != checkpoint:
                shutil.rmtree(other)

    def _load_state(self, checkpoint: Path) -> None:
        from safetensors.torch import load_file

        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        self.scale = RewardScale(**state["scale"])
        for m in state["measured"]:
            best = checkpoint / f"best-{m['step']}.safetensors"
            self.measured.append(_Measured(**m, weights=load_file(best) if best.exists() and self.ctx.group.is_first else {}))

    def _sample(self, engine: Engine) -> tuple[list[list[Rewrite]], list[list[Scores]]]:
        """Groups of answers to the validation passages, sampled with the same seed each time, and their scores."""
        group = self.ctx.group
        sampling = self.op.config.sampling(self.cfg.num_generations, self.ctx.seed)
        mine = rewrite_passages(self.op, group.shard(self.validation), engine, sampling)
        self.failures.add(Unanswered(r.reason or "") if r.finish == "error" else r.text for r in _flat(mine))
        values = iter(self.rubric.score(_flat(mine)))
        answered = group.all_gather([(answers, [next(values) for _ in answers]) for answers in mine])
        return [answers for answers, _ in answered], [scores for _, scores in answered]

    def _summarize(self, groups: list[list[Rewrite]], scores: list[list[Scores]]) -> dict[str, Any]:
        """Numbers of the sample, the influence of each rewrite that passes its gate; of each passage one answer, and the mean
        reward of all of them."""
        rewrites, flat = _flat(groups), _flat(scores)
        shown = [
            {
                **{"passage": g[0].passage.id, "source": g[0].passage.text, "answer": g[0].answer, "text": g[0].text},
                "scores": readable(s[0]),
                "mean_reward": self.scale.total(s),
            }
            for g, s in zip(groups, scores, strict=True)
        ]
        return {
            **summarize(rewrites, flat, self.rubric.weights),
            "reward": self.scale.total(flat),
            "shares": variance_shares(scores, self.rubric.weights),
            "influence": [v for s in flat if is_value(v := s.get("influence"))],
            "samples": shown,
        }

    def _report(self, step: int, stats: StepStats, logs: Mapping[str, float]) -> None:
        n = self.cfg.num_generations
        groups = [stats.scores[i : i + n] for i in range(0, len(stats.scores), n)]
        self.ctx.logger.metrics(
            step=step,
            reward=self.scale.total(stats.scores),
            **summarize(stats.rewrites, stats.scores, self.rubric.weights),
            **{f"share/{name}": part for name, part in variance_shares(groups, self.rubric.weights).items()},
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
        body = json.dumps(summary, indent=1, ensure_ascii=False)
        (out / "validation.json").write_text(body + "\n", encoding="utf-8")
        files = digest_files(out, *(p for p in (adapter, weights) if p is not None))
        digest = digest_of([self.op.name, cfg.base, files])
        self.ctx.logger.progress(self.steps + 2, self.steps + 2, "done")
        return Generator(self.op.name, cfg.base, adapter, weights, self.round, digest)


def _flat(groups: Sequence[Sequence[T]]) -> list[T]:
    return [item for group in groups for item in group]


def _line(summary: Mapping[str, Any]) -> str:
    """Counts first, then means over the answers with a value."""
    rewards = [f"{k.removeprefix('reward/')} {v:.3f}" for k, v in summary.items() if k.startswith("reward/") and v is not None]
    counts = ", ".join(f"{summary[name]:.0%} {name}" for name in ("passed", "parsed", "truncated"))
    return f"reward {summary['reward']:+.3f}; {counts}; valid answers: {', '.join(rewards) or 'none'}"
