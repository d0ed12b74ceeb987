"""Settings of GRPO and of the model it trains. Importing this opens no model library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from synpro.engines.registry import TrainingEngineTable
from synpro.engines.transformers import TransformersConfig
from synpro.schema import setting


@dataclass(frozen=True, kw_only=True)
class GRPOSettings:
    """One GRPO run. Steps, sampling and reward weights belong to the operation (`OperationConfig`)."""

    tuning: Literal["full", "lora"] = "full"
    """Train all weights, or LoRA adapters (arXiv 2106.09685)."""
    lora_rank: int = setting(16, source="ours", min=1)
    """Rank of the adapters, with `tuning = "lora"`."""
    lora_alpha: int = setting(32, source="ours", min=1)
    """Scale of the adapters: their output counts `lora_alpha / lora_rank` times."""
    lora_modules: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter; empty = all but the output head."""
    prompts_per_step: int = setting(16, unit="passages", source="paper", min=1)
    """Passages per optimizer step, all processes together."""
    num_generations: int = setting(8, unit="answers", source="paper", min=2)
    """Answers per prompt: the group whose rewards are compared."""
    learning_rate: float = setting(1e-6, source="paper", above=0)
    """At the top of the schedule: linear warmup, then a cosine."""
    min_lr_ratio: float = setting(0.1, source="paper", min=0, max=1)
    """Where the cosine ends, as a share of `learning_rate`."""
    warmup_ratio: float = setting(0.1, source="paper", min=0, max=1)
    """Share of the steps."""
    beta: float = setting(0.005, source="paper", min=0)
    """Weight of the KL penalty towards the generator the round started from; 0 saves the reference pass."""
    micro_batch_size: int = setting(16, unit="answers", min=1, execution=True)
    """Answers per forward and backward pass; divides `prompts_per_step * num_generations`."""
    gradient_checkpointing: bool = setting(False, execution=True)
    """Compute activations twice instead of storing them: less memory, a third more time."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype of the arithmetic. With `tuning = "full"` the weights stay in float32, or small steps would round away."""
    engine: TrainingEngineTable = field(default_factory=TransformersConfig)
    """What generates the answers that are learned from. `transformers`: the policy itself, the same texts each time. `vllm`:
    vLLM in every process, beside the weights in training. `openai`: a `trl vllm-serve` of the same base on GPUs of its own, at
    `url`. vLLM's probabilities differ a little from the policy's; TRL corrects the loss for that, and texts are not the same
    each time."""

    def __post_init__(self) -> None:
        if self.answers_per_step % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size: {self.micro_batch_size} does not divide the {self.answers_per_step} answers of a step;"
                " use a divisor"
            )
        if not self.engine.follows_training:
            raise ValueError(
                f'engine: {self.engine.type!r} cannot be given new weights at every step; use "transformers", "vllm", or'
                ' "openai" with the address of a `trl vllm-serve`'
            )
        if self.engine.type != "transformers" and self.tuning == "lora" and self.dtype == "bfloat16":
            raise ValueError(
                f"engine: {self.engine.type!r} is given adapters merged into the weights, and 16 bits round most of a small"
                ' update away; use dtype = "float32", or tuning = "full"'
            )

    @property
    def answers_per_step(self) -> int:
        """Answers generated and learned from in each step."""
        return self.prompts_per_step * self.num_generations


def step_of(checkpoint: Path) -> int:
    """The step at whose end a checkpoint of TRL (`checkpoint-STEP`) was saved."""
    return int(checkpoint.name.rpartition("-")[2])
