"""`type = "transformers"`: the model in this process, on a CPU or a GPU. The default; it needs nothing beyond SynPro."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

from synpro.assets.cache import first_line
from synpro.engines.base import EngineSpec, Model, Use
from synpro.records import Generator
from synpro.schema import setting


@dataclass(frozen=True, kw_only=True)
class TransformersConfig(EngineSpec):
    """A transformers model in this process. In RL it is the policy itself."""

    type: Literal["transformers"] = "transformers"
    dtype: Literal["float32", "bfloat16"] = setting("bfloat16")
    """Dtype of the weights. In RL that of the policy counts (`train_generator.dtype`)."""
    device: str | None = setting(None, execution=True)
    """`cpu`, `cuda`, `cuda:1`; none = a GPU where there is one."""
    batch_size: int = setting(64, min=1, unit="completions", execution=True)
    """Completions generated side by side; bounds the memory of their key/value cache. On a CPU a judge reads texts one by
    one."""

    follows_training: ClassVar[bool] = True

    def missing(self, slot: str) -> list[str]:
        """As in engines/base.py."""
        problem = "" if self.device in (None, "cpu") else _device_problem(str(self.device))
        return [f"{slot}.engine.device: {problem}"] if problem else []

    def open_model(self, model: Generator | str, use: Use) -> Model:
        """Raises as `open`."""
        from synpro.engines.local import LocalModel

        local = LocalModel.load(model, self.dtype, self.device, self.batch_size, use.progress, use.slot)
        local.one_by_one = use.role == "judge"
        if use.role == "generator" and local.model.device.type == "cuda":
            warnings.warn(
                f"{use.slot}.engine: transformers generates on this GPU, several times slower than vLLM: Python dispatches "
                f'every kernel. Install vLLM and set {use.slot}.engine = {{type = "vllm"}} (docs/engines.md)',
                stacklevel=2,
            )
        return local


def _device_problem(name: str) -> str:
    """Why PyTorch cannot run a model on a device here; empty where it can. Nothing is opened on the device."""
    import torch

    try:
        device = torch.device(name)
        count = torch.get_device_module(device).device_count()
    except RuntimeError as problem:
        return f"{name!r} is no device to run a model on ({first_line(problem)}); write cpu, cuda or cuda:1"
    if (device.index or 0) < count:
        return ""
    remedy = "correct it, or leave it out: then a GPU is taken where there is one"
    return f"{name!r} is not on this machine, where PyTorch finds {count or 'no'} {device.type} devices; {remedy}"
