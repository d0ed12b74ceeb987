"""Rewards and operations in TRL's terms: one GRPO run (GDPO's per-reward normalisation) over passages.

Differences from TRL's defaults are the paper's settings, or keep a run exact: rewards are normalised one by one inside their
group before the weighted sum; answers cut at the limit teach nothing; nothing is saved along the way, because TRL's resume is
not exact: a step that was killed starts over.

TRL does the sampling of prompts, the advantages, the loss and the optimiser, over as many processes as there are, and keeps
vLLM's weights those of the policy where that writes. Two things are replaced, through its hook `rollout_func` and one method:
generation (our engine decodes a shared prefix once, and every engine gets the prompts of `synthesize`) and, in one process on a
CPU, the log-probabilities (`packed.py`). Seconds are measured here, not by TRL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from synpro.engines.base import Sampling
from synpro.engines.hf import HFEngine
from synpro.grpo.packed import can_pack, log_probabilities
from synpro.grpo.policy import Policy
from synpro.operations.base import Operation, read
from synpro.records import Completion, Passage, Rewrite
from synpro.run.ranks import ALONE, Ranks


class Rubric(Protocol):
    """What this room needs of `rewards.rubric.Rubric`."""

    weights: dict[str, float]

    def score(self, rewrites: Sequence[Rewrite]) -> list[dict[str, float | None]]: ...


@dataclass(frozen=True)
class Settings:
    """One GRPO run."""

    steps: int
    prompts: int
    """Passages per step."""
    completions: int
    """Answers per passage: the group that is compared."""
    micro_batch: int
    """Answers per forward and backward pass; divides `prompts * completions`."""
    learning_rate: float
    final_rate: float
    """Learning rate at the end over that at the top."""
    warmup: float
    """Share of the steps."""
    beta: float
    """Weight of the KL penalty."""
    sampling: Sampling
    seed: int
    dtype: str
    checkpointing: bool
    """Compute activations twice instead of keeping them."""
    batch_size: int = 64
    """Answers written side by side."""
    engine: str = "transformers"
    """What writes answers: the policy, `vllm` in each process, or the address of a `trl vllm-serve`."""
    vllm_memory: float = 0.3
    """Share of a GPU's memory for the former of these."""


@dataclass
class Tally:
    """What happened in the step that is running."""

    rewrites: list[Rewrite] = field(default_factory=list)
    scores: list[dict[str, float | None]] = field(default_factory=list)
    generate_seconds: float = 0.0
    reward_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)


Report = Callable[[int, Tally, Mapping[str, float]], None]
"""Told after each step: its number, what happened, and TRL's own metrics."""


class Trainer(GRPOTrainer):
    """GRPOTrainer whose log-probabilities are computed with each prompt once, where that is exact and pays."""

    def _get_per_token_logps_and_entropies(  # TRL names it
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, batch_size: Any = None, **kwargs: Any
    ) -> Any:
        if input_ids.device.type != "cpu" or not can_pack(model):
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs
            )
        with self.accelerator.autocast():
            chosen, entropies = log_probabilities(model, input_ids, attention_mask, logits_to_keep, self.temperature)
        return chosen, entropies, None


class Run:
    """A policy, its engine and TRL's trainer around them."""

    def __init__(
        self,
        policy: Policy,
        *,
        passages: Sequence[Passage],
        operation: Operation,
        rubric: Rubric,
        settings: Settings,
        folder: Path,
        report: Report | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`folder` is where TRL keeps what it must; nothing in it is needed afterwards. `ranks`: the processes that train this
        policy; TRL gives each its prompts and joins their gradients. Raises ValueError for answers that do not divide, and for
        vLLM without a GPU."""
        self.ranks = ranks
        self.operation, self.rubric, self.settings, self.report = operation, rubric, settings, report
        self.passages = {p.id: p for p in passages}
        self.tally = Tally()
        self._calls = 0
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` warns that it may change; versions are pinned
        self.trainer = Trainer(
            model=policy.model,
            reward_funcs=[self._reward(name, first=i == 0) for i, name in enumerate(rubric.weights)],
            args=self._arguments(folder),
            train_dataset=Dataset.from_list([{"prompt": list(operation.prompt(p)), "passage": p.id} for p in passages]),
            processing_class=policy.tokenizer,
            callbacks=[_Steps(self)],
            peft_config=policy.peft,
            rollout_func=self._rollout,
        )
        self.trainer.remove_callback(PrinterCallback)  # what it prints goes to metrics.jsonl
        self.tokenizer = policy.tokenizer
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        self.engine = HFEngine(model, policy.tokenizer, batch_size=settings.batch_size)

    @property
    def policy(self) -> Any:
        """The model in training."""
        return self.engine.model

    def train(self) -> None:
        """All steps."""
        self.trainer.train()

    def _arguments(self, folder: Path) -> GRPOConfig:
        s = self.settings
        on_cpu = not torch.cuda.is_available()
        world = self.ranks.count
        per_step = s.prompts * s.completions
        if s.prompts % world:
            raise ValueError(
                f"prompts_per_step: {s.prompts} passages do not divide over {world} processes; make machine.rl_processes a"
                " divisor, so that the answers to a passage stay together"
            )
        if per_step % (s.micro_batch * world):
            raise ValueError(
                f"micro_batch: {s.micro_batch} answers on {world} processes do not divide the {per_step} answers of a step;"
                f" use a divisor of {per_step // world}"
            )
        accumulate = per_step // (s.micro_batch * world)
        return GRPOConfig(
            output_dir=str(folder),
            max_steps=s.steps,
            per_device_train_batch_size=s.micro_batch,
            gradient_accumulation_steps=accumulate,
            steps_per_generation=accumulate,
            num_generations=s.completions,
            num_iterations=1,
            max_completion_length=s.sampling.max_new_tokens,
            temperature=s.sampling.temperature,
            top_p=s.sampling.top_p,
            learning_rate=s.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": s.final_rate},
            warmup_steps=round(s.warmup * s.steps),
            weight_decay=0.0,
            beta=s.beta,
            loss_type="grpo",
            multi_objective_aggregation="normalize_then_sum",
            reward_weights=list(self.rubric.weights.values()),
            mask_truncated_completions=True,
            bf16=s.dtype == "bfloat16",
            gradient_checkpointing=s.checkpointing,
            use_cpu=on_cpu,
            seed=s.seed,
            data_seed=s.seed,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=not on_cpu,
            ddp_find_unused_parameters=False,
            **_vllm(s),
        )

    def _rollout(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL asks with each prompt repeated once per completion; the engine is asked once per prompt."""
        started = time.monotonic()
        n = self.settings.completions
        ids = [self.engine.encode(tuple(chat)) for chat in prompts[::n]]
        sampling = Sampling(
            self.settings.sampling.temperature,
            self.settings.sampling.top_p,
            self.settings.sampling.max_new_tokens,
            n=n,
            seed=self.settings.seed * 1_000_003 + 1 + self._calls,
        )
        self._calls += 1
        rows, chosen = [i for i in ids for _ in range(n)], None
        if self.settings.engine == "transformers":
            completions = self.engine.generate_ids(ids, sampling)
        else:  # TRL has handed it the weights of this step
            _, completions, likely, _ = trainer.vllm_generation.generate(rows, None, n)
            chosen = [[token[0] for token in completion] for completion in likely]
        self.tally.generate_seconds += time.monotonic() - started
        return {"prompt_ids": rows, "completion_ids": completions, "logprobs": chosen}

    def _reward(self, name: str, *, first: bool) -> Callable[..., list[float | None]]:
        """TRL wants one function per reward and calls them in order; the first scores the batch for all."""

        def reward(
            completions: list[Any], completion_ids: list[list[int]], passage: list[str], **columns: Any
        ) -> list[float | None]:
            if first:
                self._score(completions, completion_ids, passage)
            return [scores[name] for scores in self.tally.scores[-len(completions) :]]

        reward.__name__ = name
        return reward

    def _score(self, completions: list[Any], completion_ids: list[list[int]], passages: list[str]) -> None:
        started = time.monotonic()
        ends = self.engine.ends()
        rewrites = []
        for answer, ids, passage in zip(completions, completion_ids, passages, strict=True):
            finish = "stop" if ids and ids[-1] in ends else "length"
            completion = Completion(answer[0]["content"], len(ids), finish)
            rewrites.append(read(self.operation, self.passages[passage], completion))
        self.tally.rewrites += rewrites
        self.tally.scores += self.rubric.score(rewrites)
        self.tally.reward_seconds += time.monotonic() - started


def _vllm(s: Settings) -> dict[str, Any]:
    """What TRL is told of vLLM."""
    if s.engine == "transformers":
        return {}
    if not torch.cuda.is_available():
        raise ValueError(
            "train_generator.engine: vLLM packs its weights on a CPU and cannot be handed those of the next step; use"
            " transformers, or a machine with a GPU"
        )
    if s.engine == "vllm":
        return {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": s.vllm_memory}
    return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": s.engine}


class _Steps(TrainerCallback):
    """Hands each finished step on and starts a new tally."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.run.tally = Tally()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if self.run.report is not None and logs is not None and "reward" in logs:
            self.run.report(state.global_step, self._whole(), logs)

    def _whole(self) -> Tally:
        """The step of all processes; its seconds are those of the slowest."""
        tallies = self.run.ranks.gather([self.run.tally])
        return Tally(
            [r for tally in tallies for r in tally.rewrites],
            [s for tally in tallies for s in tally.scores],
            max(tally.generate_seconds for tally in tallies),
            max(tally.reward_seconds for tally in tallies),
            self.run.tally.started,
        )
