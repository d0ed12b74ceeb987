"""Linear layers that keep their weights in the order in which the processor multiplies them.

The idea: PyTorch's matrix product in bfloat16 (oneDNN) reads weights in blocks. A linear layer keeps them in rows, so each call
puts them in blocks first, and for the few rows of a decoding step that takes longer than the product itself. Frozen weights are
put in blocks once here, as PyTorch's own compiler does. The products are the same to the bit but for another split of very
large ones among threads. It costs the memory of the weights a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

ROWS = 64
"""Rows that the blocks are chosen for. Any number may be multiplied."""


def prepack(model: nn.Module) -> dict[nn.Linear, torch.Tensor]:
    """The frozen bfloat16 linear layers of a model on a CPU, and their weights in blocks; none where PyTorch cannot."""
    operators = torch.ops.mkldnn
    known = hasattr(operators, "_reorder_linear_weight") and hasattr(operators, "_linear_pointwise")
    if not known or not torch.backends.mkldnn.is_available() or not operators._is_mkldnn_bf16_supported():
        return {}
    return {
        module: operators._reorder_linear_weight(module.weight.detach(), ROWS)
        for module in model.modules()
        if type(module) is nn.Linear and _is_frozen(module.weight)
    }


def _is_frozen(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and not weight.requires_grad


@contextmanager
def prepacked(weights: Mapping[nn.Linear, torch.Tensor]) -> Iterator[None]:
    """Within, these layers multiply with the weights of `prepack`. There is no gradient."""
    for layer, weight in weights.items():
        layer.forward = partial(_forward, layer, weight)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in weights:
            del layer.forward


def _forward(layer: nn.Linear, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    x = x.to(torch.bfloat16)  # as autocast does
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, layer.bias, "none", [], "")
    return result
