"""Rewards and operations in TRL's terms: one GRPO run over passages, with advantages of our own (`rewards/advantages.py`).

Differences from TRL's defaults are the paper's settings, or make a run exact: rewards are compared one by one in their group
before the weighted sum (GDPO), and TRL only subtracts the group's mean; what synthesis would drop, truncated answers too, earns
the failing reward and is learned from; the warm-up begins at 1/w of the rate, so that every step trains. A checkpoint holds the
trained weights, the optimizer and its schedule; with the seeds, which are functions of the step, a killed training ends in the
same bytes on a CPU.

TRL samples the prompts and computes advantages, loss and optimizer steps, in as many processes as there are, and gives vLLM the
policy's weights where vLLM generates. Three things are replaced, through its hook `rollout_func` and two methods: generation
(our engine computes a shared prefix once, and every engine gets the prompts of `synthesize`), the order of the answers within a
step and, in one process on a CPU, the log-probabilities (`engines/cpu/packed.py`). Seconds are measured here, not by TRL.

One step, in TRL's order: it draws prompts, each repeated once per answer, and calls `_rollout`, which asks the engine once per
prompt for a group of answers, with a seed of its own for every call. Then it calls the one reward function, which scores the
batch with the rubric and returns the total of each answer among those to its passage. TRL computes the log-probabilities in
micro batches and takes one optimizer step; at its end `_ReportSteps` reports what was collected in `StepStats`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from synpro.engines.base import Unanswered
from synpro.engines.chats import refusal
from synpro.engines.cpu.packed import can_pack, log_probabilities
from synpro.engines.failures import FailureCount
from synpro.engines.hf import HFEngine
from synpro.engines.openai import OpenAIConfig
from synpro.engines.vllm import MEMORY_UTILIZATION, VLLMConfig
from synpro.grpo.policy import Policy
from synpro.grpo.settings import GRPOSettings, step_of
from synpro.grpo.stats import StepStats
from synpro.operations.base import Operation, parse_completion
from synpro.records import Completion, Passage
from synpro.rewards.advantages import normalized_totals
from synpro.rewards.rubric import Rubric
from synpro.runner.context import StepContext
from synpro.runner.placement import on_one_gpu

ReportStep = Callable[[int, StepStats, Mapping[str, float]], None]
"""Called after each step with its number, what happened, and TRL's own metrics."""
AfterStep = Callable[[int], None]
"""Called between two steps with the number of steps done."""
SaveState = Callable[[Path], None]
"""Called with the folder of a checkpoint, to which it adds what else a training carries on with."""
SAVE_SECONDS = 900.0
"""Time between two checkpoints."""
TRAINED = "trained.safetensors"


class Trainer(GRPOTrainer):
    """GRPOTrainer that computes each prompt once for all its answers, where that is exact and saves time, and whose checkpoints
    hold no weights but the trained ones."""

    steps_done = 0
    """Steps of the checkpoint that training carries on from."""
    micro_batches: Sequence[Any] = ()
    """Those of this step."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:  # TRL names these
        sampler: Any = super()._get_train_sampler(dataset)
        passages = sampler.num_samples
        for _ in range(self.steps_done * sampler.batch_size // (passages - passages % sampler.batch_size or 1)):
            torch.randperm(passages, generator=sampler.generator)  # the orders of the passes that are done
        return sampler

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        built: dict[str, Any] = super()._build_accelerator_args(**kwargs)
        for handler in built["kwargs_handlers"]:  # of DDP: gradients are held once, not in its buckets as well
            handler.gradient_as_bucket_view = True
        return built

    def store_flos(self) -> None:
        """Count nothing: all processes would have to take part, and only the first one saves."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super(GRPOTrainer, self)._save_checkpoint(model, trial)  # without TRL's model card

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_file(trained_weights(self.accelerator.unwrap_model(self.model)), Path(output_dir) / TRAINED)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        restore(self.accelerator.unwrap_model(self.model), load_file(Path(resume_from_checkpoint) / TRAINED))

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The next micro batch. TRL deals the answers of a step out at random; here those to a prompt stay side by side, so
        that few micro batches compute it. The gradient is the same: it is the sum over the step."""
        parts: int = self.args.steps_per_generation  # type: ignore[attr-defined]
        if self._step % parts == 0 or not self.micro_batches:
            self.micro_batches = split_tensor_dict(self._generate_and_score_completions(generation_batch), parts)
        return self.micro_batches[self._step % parts]

    def _get_per_token_logps_and_entropies(  # TRL names it
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, batch_size: Any = None, **kwargs: Any
    ) -> Any:
        with self.accelerator.autocast():
            if input_ids.device.type == "cpu" and can_pack(model):
                return *log_probabilities(model, input_ids, attention_mask, logits_to_keep, self.temperature), None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs
        )


class GRPORun:
    """A policy, the engine that generates its answers, and TRL's trainer around them."""

    def __init__(
        self,
        policy: Policy,
        operation: Operation,
        rubric: Rubric,
        passages: Sequence[Passage],
        settings: GRPOSettings,
        ctx: StepContext,
        report: ReportStep | None = None,
        after_step: AfterStep | None = None,
        save: SaveState | None = None,
    ) -> None:
        """Checkpoints are in `ctx.out / "trl"`; nothing in it is needed afterwards. Without `save` there are none. Of several
        processes (`ctx.group`) TRL gives each its prompts and joins their gradients. A passage that the model cannot read
        whole is left out. Raises TooManyFailures for many of them, ValueError for fewer passages than a step shows, for
        answers that do not divide over processes, and for vLLM without a GPU."""
        passages = _readable(policy, operation, passages, ctx) if operation.config.steps else passages
        if operation.config.steps and len(passages) < settings.prompts_per_step:
            raise ValueError(
                f"train_generator.prompts_per_step: a step shows {settings.prompts_per_step} passages, and there are"
                f" {len(passages)} that the model can read; lower it, or give prepare more text"
            )
        self.operation, self.rubric, self.settings, self.ctx, self.report = operation, rubric, settings, ctx, report
        self.after_step, self.save = after_step, save
        self.passages = {p.id: p for p in passages}
        self.stats = StepStats()
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` warns that it may change; versions are pinned
        self.trainer = Trainer(
            model=policy.model,
            reward_funcs=[self._total],
            args=on_one_gpu(self._arguments()),
            train_dataset=Dataset.from_list([{"prompt": list(operation.prompt(p)), "passage": p.id} for p in passages]),
            processing_class=policy.tokenizer,
            callbacks=[_ReportSteps(self)],
            peft_config=policy.peft,
            rollout_func=self._rollout,
        )
        self.trainer.remove_callback(PrinterCallback)  # what it prints goes to metrics.jsonl
        self.tokenizer = policy.tokenizer
        accelerator = self.trainer.accelerator
        model = accelerator.unwrap_model(self.trainer.model)
        # Training sets autocast in the model for good; the engine sets it before too, so that all states answer alike.
        self.engine = HFEngine(model, policy.tokenizer, batch_size=settings.engine.batch_size, autocast=accelerator.autocast)

    @property
    def policy(self) -> Any:
        """The model in training."""
        return self.engine.model

    def train(self, checkpoint: Path | None = None) -> None:
        """Run all steps, or those after a checkpoint. Raises RuntimeError when TRL ends before the last one."""
        self.trainer.steps_done = step_of(checkpoint) if checkpoint else 0
        self.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if (done := self.trainer.state.global_step) < self.trainer.args.max_steps:
            raise RuntimeError(f"GRPO ended after {done} of {self.trainer.args.max_steps} steps; the log says why")

    def _arguments(self) -> GRPOConfig:
        s, operation = self.settings, self.operation.config
        on_cpu = not torch.cuda.is_available()
        steps = max(1, operation.steps)
        accumulate, rest = divmod(s.answers_per_step, s.micro_batch_size * self.ctx.group.size)
        if rest or not accumulate:  # the config checks machine.rl_processes; this is the group as it is
            raise ValueError(
                f"train_generator.micro_batch_size: {s.micro_batch_size} answers in each of {self.ctx.group.size} processes do"
                f" not divide the {s.answers_per_step} answers of a step"
            )
        return GRPOConfig(
            output_dir=str(self.ctx.out / "trl"),
            max_steps=steps,
            per_device_train_batch_size=s.micro_batch_size,
            gradient_accumulation_steps=accumulate,
            steps_per_generation=accumulate,
            num_generations=s.num_generations,
            num_iterations=1,
            max_completion_length=operation.max_new_tokens,
            temperature=operation.temperature,
            top_p=operation.top_p,
            learning_rate=s.learning_rate,
            lr_scheduler_type="cosine_warmup_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": s.min_lr_ratio},
            warmup_steps=round(s.warmup_ratio * steps),
            weight_decay=0.0,
            beta=s.beta,
            loss_type="grpo",
            scale_rewards="none",
            mask_truncated_completions=False,
            bf16=s.dtype == "bfloat16",
            gradient_checkpointing=s.gradient_checkpointing,
            use_cpu=on_cpu,
            seed=self.ctx.seed,
            data_seed=self.ctx.seed,
            save_strategy="no",  # `_ReportSteps` says when
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=not on_cpu,
            ddp_find_unused_parameters=False,
            **_vllm_arguments(s),
        )

    def _rollout(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL asks with each prompt repeated once per answer; the engine is asked once per prompt."""
        started = time.monotonic()
        n = self.settings.num_generations
        ids = [self.engine.encode(tuple(chat)) for chat in prompts[::n]]
        sampling = self.operation.config.sampling(n, seed=self.ctx.seed * 1_000_003 + 1 + trainer.state.global_step)
        rows, logps = [i for i in ids for _ in range(n)], None
        if self.settings.engine.type == "transformers":
            completions = self.engine.generate_ids(ids, sampling)
        else:  # TRL has given vLLM the weights of this step
            _, completions, top_logps, _ = trainer.vllm_generation.generate(rows, None, n)
            logps = [[token[0] for token in completion] for completion in top_logps]
        self.stats.generate_seconds += time.monotonic() - started
        return {"prompt_ids": rows, "completion_ids": completions, "logprobs": logps}

    def _total(
        self, completions: list[Any], completion_ids: list[list[int]], passage: list[str], **columns: Any
    ) -> list[float | None]:
        """The reward function for TRL: the total of each answer among those to its passage."""
        self._score(completions, completion_ids, passage)
        n, scores = self.settings.num_generations, self.stats.scores[-len(completions) :]
        return [t for i in range(0, len(scores), n) for t in normalized_totals(scores[i : i + n], self.rubric.weights)]

    def _score(self, completions: list[Any], completion_ids: list[list[int]], passages: list[str]) -> None:
        started = time.monotonic()
        ends = self.engine.ends()
        rewrites = []
        for answer, ids, passage in zip(completions, completion_ids, passages, strict=True):
            finish = "stop" if ids and ids[-1] in ends else "length"
            completion = Completion(answer[0]["content"], len(ids), finish)
            rewrites.append(parse_completion(self.operation, self.passages[passage], completion))
        self.stats.rewrites += rewrites
        self.stats.scores += self.rubric.score(rewrites)
        self.stats.reward_seconds += time.monotonic() - started


def _readable(policy: Policy, operation: Operation, passages: Sequence[Passage], ctx: StepContext) -> list[Passage]:
    """The passages whose prompt leaves room for an answer. Raises TooManyFailures."""
    engine = HFEngine(policy.model, policy.tokenizer)
    problems = [refusal(engine.encode(operation.prompt(p)), engine.context) for p in passages]
    count = FailureCount(f"{operation.name}: passages to train on")
    count.add(Unanswered(problem) if problem else None for problem in problems)
    if str(count) and ctx.group.is_first:
        ctx.logger.log(f"{count}; they are left out")
    return [p for p, problem in zip(passages, problems, strict=True) if not problem]


def _vllm_arguments(s: GRPOSettings) -> dict[str, Any]:
    """TRL's arguments for the engine of the config."""
    if s.engine.type == "transformers":
        return {}
    if not torch.cuda.is_available():
        raise ValueError(
            "train_generator.engine: vLLM packs its weights on a CPU and cannot be given those of the next step; use"
            ' engine = {type = "transformers"}, or a machine with a GPU'
        )
    if isinstance(s.engine, VLLMConfig):
        memory = s.engine.gpu_memory_utilization or MEMORY_UTILIZATION["judge"]  # beside the weights in training
        colocate = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": memory}
        return colocate | {"vllm_enable_sleep_mode": s.engine.enable_sleep_mode}
    assert isinstance(s.engine, OpenAIConfig)  # GRPOSettings refuses the others
    return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": s.engine.url}


def trained_weights(policy: Any) -> dict[str, torch.Tensor]:
    """A copy of the weights that are trained, in main memory."""
    return {name: p.detach().to("cpu", copy=True) for name, p in policy.named_parameters() if p.requires_grad}


def restore(policy: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a policy the trained weights of an earlier step; those that `weights` lacks stay as they are."""
    for name, parameter in policy.named_parameters():
        if name in weights:
            parameter.data.copy_(weights[name])


class _ReportSteps(TrainerCallback):
    """Reports each finished step and starts counting anew; has a checkpoint saved when one is due."""

    def __init__(self, run: GRPORun) -> None:
        self.run, self.saved = run, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        is_due = time.monotonic() - self.saved >= SAVE_SECONDS and state.global_step < state.max_steps
        control.should_save = is_due and self.run.save is not None and state.is_world_process_zero

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.run.save is not None
        self.run.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self.saved = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.run.after_step is not None and state.global_step:
            self.run.after_step(state.global_step)
        self.run.stats = StepStats()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if self.run.report is not None and logs is not None and "reward" in logs:
            parts = self.run.ctx.group.all_gather([self.run.stats])
            self.run.report(state.global_step, StepStats.join(parts), logs)
