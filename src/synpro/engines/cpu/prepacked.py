"""Linear layers that keep their weights in the order in which the processor multiplies them.

The idea: PyTorch's matrix product in bfloat16 (oneDNN) reads weights in blocks. A linear layer keeps them in rows, so each call
puts them in blocks first, and for the few rows of a decoding step that takes as long as the product itself. Frozen weights are
put in blocks once here, as PyTorch's own compiler does. Products are the same to the bit for contiguous inputs on one thread;
elsewhere they may round differently. It costs the memory of the weights a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

ROWS = 64
"""Rows that the blocks are chosen for. Any number may be multiplied."""
SAMPLE = 4
"""Rows of a weight that are compared with what they were when it was put in blocks."""


@dataclass(frozen=True)
class _Blocks:
    """A weight in blocks, and what it was made from."""

    weight: torch.Tensor
    version: int
    sample: torch.Tensor
    blocks: torch.Tensor

    def is_of(self, weight: torch.Tensor) -> bool:
        return self.weight is weight and self.version == weight._version and torch.equal(self.sample, _sample(weight))


class PrepackedWeights:
    """The frozen bfloat16 linear layers of a model on a CPU, in blocks from their first use on.

    A weight that has changed is put in blocks again: by its version, which PyTorch counts up, and by a few of its rows, for
    writes to `weight.data` (the merge of an adapter) do not count. Such a write to some of its rows alone may be missed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._blocks: dict[nn.Linear, _Blocks] = {}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the layers multiply with blocks; with gradients, or another type than bfloat16, as ever."""
        changed = list[nn.Linear]()
        try:
            for layer in self.model.modules() if supported() else ():
                if type(layer) is nn.Linear and "forward" not in vars(layer) and _can_prepack(layer.weight):
                    changed.append(layer)
                    layer.forward = partial(_forward, layer, self._of(layer))  # type: ignore[method-assign]
            yield
        finally:
            for layer in changed:
                vars(layer).pop("forward", None)

    def _of(self, layer: nn.Linear) -> torch.Tensor:
        found = self._blocks.get(layer)
        if found is None or not found.is_of(layer.weight):
            weight = layer.weight.detach()
            blocks = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
            found = self._blocks[layer] = _Blocks(layer.weight, weight._version, _sample(weight).clone(), blocks)
        return found.blocks


def supported() -> bool:
    """Whether this PyTorch and this processor multiply bfloat16 in blocks."""
    operators = torch.ops.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    known = torch.backends.mkldnn.is_available() and all(hasattr(operators, name) for name in names)
    return known and bool(operators._is_mkldnn_bf16_supported())


def _can_prepack(weight: torch.Tensor) -> bool:
    plain = type(weight) is nn.Parameter and weight.layout is torch.strided and not weight.is_inference()
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.numel() > 0
    return plain and on_cpu and not weight.requires_grad


def _sample(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach()[:: -(-len(weight) // SAMPLE)]


def _forward(layer: nn.Linear, blocks: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        input = input.to(torch.bfloat16)
    if input.dtype != torch.bfloat16 or torch.is_grad_enabled():
        return nn.Linear.forward(layer, input)
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, blocks, layer.bias, "none", [], "")
    return result
