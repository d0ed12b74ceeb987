"""Weights and optimizer state on disk, as safetensors: `trainer/` to continue training, `hf/` to open anywhere.

OLMo-core's own checkpoints hold pickles and machine-dependent metadata. Ours hold the same tensors, whole, under the same
names, and two equal runs write equal bytes. Sharded states are gathered to rank 0, which is enough up to a few billion
parameters. Only tensors and plain JSON are ever loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint.state_dict as dist_state
from olmo_core.distributed.utils import barrier, broadcast_object, get_rank, is_distributed
from olmo_core.train.train_module import TransformerTrainModule
from safetensors.torch import load_file, save_file

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optim.safetensors", "state.json"

_FULL = dist_state.StateDictOptions(full_state_dict=True, cpu_offload=True)

Tensors = dict[str, torch.Tensor]


def save(module: TransformerTrainModule, folder: Path, state: dict[str, Any]) -> None:
    """Write weights, optimizer moments and `state` (plain JSON) to `folder`, whole or not at all. All processes call it."""
    weights, moments = _gather(module)
    if get_rank() == 0:
        _write(folder, weights, moments, state)
    barrier()


class CheckpointWriter:
    """Saves checkpoints while training continues: copies the tensors at once, and writes them in a thread of rank 0."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, module: TransformerTrainModule, folder: Path, state: dict[str, Any], then: Callable[[], None]) -> None:
        """Start what `save` does and return; `then` is called when the checkpoint is complete. All processes call it.

        Waits for the previous checkpoint first. Raises the error that stopped the previous one.
        """
        self.wait()
        weights, moments = _gather(module)
        if get_rank() == 0:
            if module.device.type == "cpu":  # gathering has copied nothing here, and training changes tensors in place
                weights, moments = ({name: t.clone() for name, t in ts.items()} for ts in (weights, moments))

            def write() -> None:
                _write(folder, weights, moments, state)
                then()

            self._writing = self._pool.submit(write)

    def wait(self) -> None:
        """Wait until the last checkpoint is written. Raises the error that stopped it."""
        if self._writing is not None:
            done, self._writing = self._writing, None
            done.result()


def _gather(module: TransformerTrainModule) -> tuple[Tensors, Tensors]:
    """Weights and optimizer moments by name, whole, on the CPU of rank 0."""
    weights = dist_state.get_model_state_dict(module.model, options=_FULL)
    assert module.optim is not None
    moments: dict[str, Any] = dist_state.get_optimizer_state_dict(module.model, module.optim, options=_FULL)
    named = {f"{name}.{key}": t for name, fields in moments.get("state", {}).items() for key, t in fields.items()}
    return _contiguous(weights), _contiguous(named)


def _contiguous(tensors: dict[str, Any]) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}


def _write(folder: Path, weights: Tensors, moments: Tensors, state: dict[str, Any]) -> None:
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(weights, draft / WEIGHTS)
    save_file(moments, draft / OPTIMIZER)
    (draft / STATE).write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def load(module: TransformerTrainModule, folder: Path) -> dict[str, Any]:
    """Load weights and optimizer moments into `module` and return the saved state. All processes call it.

    Learning rate, weight decay and betas stay those of `module`. Raises FileNotFoundError for a missing file, ValueError when
    the tensors belong to a model of another shape.
    """
    for name in (WEIGHTS, OPTIMIZER, STATE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing; name a checkpoint folder, such as RUN/round-00/pretrain/trainer"
            )
    assert module.optim is not None
    is_first = get_rank() == 0
    weights: dict[str, Any] = load_file(folder / WEIGHTS) if is_first else {}
    expected = {name: tuple(p.shape) for name, p in module.model.named_parameters()}
    found = broadcast_object({name: tuple(t.shape) for name, t in weights.items()})
    if expected != found:
        differing = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        name = differing[0]
        raise ValueError(
            f"{folder / WEIGHTS}: the weights are of another model: {name} has shape {found.get(name)} there and "
            f"{expected.get(name)} here ({len(differing)} tensors differ); use the same pretrain.model and prepare.tokenizer"
        )
    options = dist_state.StateDictOptions(full_state_dict=True, broadcast_from_rank0=is_distributed())
    dist_state.set_model_state_dict(module.model, weights, options=options)
    # The hyperparameters come from this run's optimizer, the moments from the file.
    moments: dict[str, Any] = dist_state.get_optimizer_state_dict(module.model, module.optim, options=_FULL)
    if is_first:
        moments["state"] = {}
        for name, tensor in load_file(folder / OPTIMIZER).items():
            parameter, _, key = name.rpartition(".")
            moments["state"].setdefault(parameter, {})[key] = tensor
    dist_state.set_optimizer_state_dict(module.model, module.optim, moments if is_first else {}, options=options)
    return dict(json.loads((folder / STATE).read_text(encoding="utf-8")))


def export(module: TransformerTrainModule, folder: Path, *, tokenizer: Path, context: int, eos: int, pad: int) -> None:
    """Write `folder` as a Hugging Face model (`Olmo2ForCausalLM`) with its tokenizer, and compare its logits with `module`'s.

    `tokenizer`: a Hugging Face tokenizer folder. `context`: the sequence length of training, in tokens. All processes call it.
    Raises RuntimeError when the exported model gives other logits than the trained one.
    """
    from olmo_core.nn.hf import save_hf_model

    weights = dist_state.get_model_state_dict(module.model, options=_FULL)
    if get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        save_hf_model(folder, weights, module.model)
        _complete_config(folder, context=context, eos=eos, pad=pad)
        for file in sorted(p for p in tokenizer.iterdir() if p.is_file()):
            shutil.copyfile(file, folder / file.name)
    barrier()
    _compare_logits(module, folder, context)


def _complete_config(folder: Path, *, context: int, eos: int, pad: int) -> None:
    """Add what OLMo-core leaves out of the exported config: the context and the special ids."""
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        body = json.loads(file.read_text(encoding="utf-8"))
        body |= {"eos_token_id": eos, "pad_token_id": pad, "bos_token_id": eos}
        if name == "config.json":
            body["max_position_embeddings"] = context
        file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def max_logit_difference(module: TransformerTrainModule, folder: Path, ids_B_T: torch.Tensor) -> float:
    """Largest absolute difference between the logits of the trained model and of its export, both in float32."""
    from synpro.lm.loss import load_model

    with torch.no_grad():
        module.model.eval()
        trained = module.model(ids_B_T.to(module.device)).float().cpu()
        module.model.train()
        exported = load_model(folder, device=str(module.device))(ids_B_T.to(module.device)).logits.float().cpu()
    return float((trained - exported).abs().max())


def _compare_logits(module: TransformerTrainModule, folder: Path, context: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ids_B_T = torch.randint(0, module.model.vocab_size, (2, min(context, 64)), generator=generator)
    difference = max_logit_difference(module, folder, ids_B_T)
    # Bit-equal on a CPU. GPU kernels of the two libraries may round differently; a wrong tensor is off by far more.
    limit = 0.0 if module.device.type == "cpu" else 1e-2
    if not difference <= limit:
        raise RuntimeError(
            f"the model exported to {folder} gives other logits than the trained one (largest difference {difference:.3g}); "
            "the export cannot be trusted: check the versions of ai2-olmo-core and transformers"
        )
