"""How a model is trained, apart from its shape and its data: the optimizer, and the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as published; the weight decay wants tuning when the corpus is repeated often (method.md)."""

    lr: float = 6e-4
    """Peak learning rate (400M: 6e-4; 1.1B: 4e-4)."""
    weight_decay: float = 0.1
    """On every weight but the embeddings (published: 0.1; for many epochs 10 to 30 times as much is best)."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.95
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    z_loss: float = 1e-5
    """Weight of the squared log-partition in the loss; 0 turns it off."""
    dropout: float = 0.0
    """Share of each block's outputs dropped before they are added to the residual (published: none); one of the settings that
    repetition is tuned by."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr: {self.lr} trains nothing; give a rate above 0")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay: {self.weight_decay} would grow the weights; give 0 or more")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is outside 0 <= {name} < 1")
        if not self.eps > 0 or not self.clip > 0:
            raise ValueError(f"eps, clip: {self.eps}, {self.clip} must both be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout} is no share; give 0 (off) to below 1, 0.1 is usual")
        if self.z_loss < 0:
            raise ValueError(f"z_loss: {self.z_loss} is negative; give 0 or more")


@dataclass(frozen=True)
class HardwareConfig:
    """How the work is laid out on the machine. These do not change what is learned, up to rounding."""

    microbatch: int = 16
    """Sequences per process in one forward and backward pass; must divide the batch over the processes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products (autocast); weights and optimizer stay float32. `bfloat16` on GPUs."""
    compile: bool = False
    """`torch.compile` the blocks (GPUs only)."""
    parallel: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    """Across processes: replicas (below about 1B parameters), or sharded weights and optimizer."""
    attention: Literal["auto", "torch", "flash_2", "flash_3"] = "auto"
    """OLMo-core's attention backend. `auto` is PyTorch's, which is a FlashAttention kernel on GPUs; the others need packages of
    their own."""

    def __post_init__(self) -> None:
        if self.microbatch < 1:
            raise ValueError(f"microbatch: {self.microbatch} sequences are no batch; give at least 1")
