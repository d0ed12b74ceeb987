"""How a model is trained, apart from its shape and its data: the optimizer, and the layout on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from synpro.schema import setting


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as published; tune the weight decay when the corpus is repeated often (arXiv 2509.14786)."""

    RENAMED: ClassVar[Mapping[str, str]] = {"lr": "learning_rate", "clip": "max_grad_norm"}

    learning_rate: float = setting(6e-4, source="published", above=0)
    """Peak learning rate (400M: 6e-4; 1.1B: 4e-4)."""
    weight_decay: float = setting(0.1, source="published", min=0)
    """Applies to every weight but the embeddings (published: 0.1; for many epochs 10 to 30 times as much is best)."""
    beta1: float = setting(0.9, source="published", min=0, below=1)
    """Decay rate of the first moment."""
    beta2: float = setting(0.95, source="published", min=0, below=1)
    """Decay rate of the second moment."""
    eps: float = setting(1e-8, source="published", above=0)
    """Added to the root of the second moment."""
    max_grad_norm: float = setting(1.0, source="published", above=0)
    """Largest norm of the gradient; a larger one is scaled down to it."""
    z_loss: float = setting(1e-5, source="published", min=0)
    """Weight of the squared log-partition function in the loss; 0 turns it off."""
    dropout: float = setting(0.0, source="published", min=0, below=1)
    """Share of each block's outputs dropped before they are added to the residual stream (published: none); one of the settings
    that a comparison tunes for repetition."""


@dataclass(frozen=True)
class HardwareConfig:
    """How the work is laid out on the machine. These keys do not change what is learned, up to rounding."""

    RENAMED: ClassVar[Mapping[str, str]] = {"microbatch": "micro_batch_size", "precision": "dtype"}

    micro_batch_size: int = setting(16, unit="sequences", source="ours", min=1, execution=True)
    """Sequences per process in one forward and backward pass; must divide the batch over the processes."""
    dtype: Literal["auto", "float32", "bfloat16"] = setting("auto", source="ours")
    """Type of the matrix products (autocast); weights and optimizer stay float32. `auto`: bfloat16 where the GPU or the
    processor has instructions for it (1.6 times as fast on a CPU); name one where machines differ and results must not."""
    compile: bool = setting(False, execution=True)
    """`torch.compile`: the blocks on a GPU, the whole model on a CPU with a C++ compiler. It takes about a minute the first
    time, and ten seconds at each start."""
    parallel: Literal["ddp", "fsdp", "hsdp"] = setting("ddp", execution=True)
    """Data parallelism across processes: replicas (`ddp`, below about 1B parameters), or sharded weights and optimizer."""
    attention: Literal["auto", "torch", "flash_2", "flash_3"] = setting("auto", execution=True)
    """OLMo-core's attention backend. `auto` is PyTorch's, which is a FlashAttention kernel on GPUs; `flash_2` and `flash_3`
    need packages of their own."""
