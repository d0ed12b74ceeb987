"""Weights and optimizer state on disk, as safetensors: to train on (`trainer/`) and to open anywhere (`hf/`).

OLMo-core's own checkpoints hold pickles and machine-dependent metadata; ours hold the same tensors, whole, under the same
names, and two equal runs write equal bytes. Sharded states are gathered to process 0, which is enough up to a few billion
parameters. Nothing but tensors and plain JSON is ever loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint.state_dict as sharded
from olmo_core.distributed.utils import barrier, broadcast_object, get_rank, get_world_size, is_distributed
from olmo_core.train.train_module import TransformerTrainModule
from safetensors.torch import load_file, save_file
from torch.distributed import distributed_c10d

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optim.safetensors", "state.json"

_FULL = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)


Tensors = dict[str, torch.Tensor]


def save(module: TransformerTrainModule, folder: Path, state: dict[str, Any]) -> None:
    """Write weights, optimizer moments and `state` (plain JSON) to `folder`, whole or not at all. All processes call it."""
    weights, moments = _gathered(module)
    if get_rank() == 0:
        _write(folder, weights, moments, state)
    barrier()


class Writer:
    """Saves while training goes on: what is saved is copied at once, and written by a thread of process 0."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, module: TransformerTrainModule, folder: Path, state: dict[str, Any], then: Callable[[], None]) -> None:
        """As `save`, which returns before it is written; `then` is called after. All processes call it. Waits for the one
        before, and raises what kept that from being written."""
        self.wait()
        weights, moments = _gathered(module)
        if get_rank() == 0:
            if module.device.type == "cpu":  # gathering has copied nothing, and training changes tensors in place
                weights, moments = ({name: t.clone() for name, t in ts.items()} for ts in (weights, moments))

            def write() -> None:
                _write(folder, weights, moments, state)
                then()

            self._writing = self._pool.submit(write)

    def wait(self) -> None:
        """Until what was saved is written. Raises what kept it from being written."""
        if self._writing is not None:
            done, self._writing = self._writing, None
            done.result()


def _gathered(module: TransformerTrainModule) -> tuple[Tensors, Tensors]:
    """Weights and moments, whole, by name, on process 0 and a CPU."""
    weights = sharded.get_model_state_dict(module.model, options=_FULL)
    assert module.optim is not None
    moments: dict[str, Any] = sharded.get_optimizer_state_dict(module.model, module.optim, options=_FULL)
    named = {f"{name}.{key}": t for name, fields in moments.get("state", {}).items() for key, t in fields.items()}
    return _plain(weights), _plain(named)


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
    """Put weights and optimizer moments back into `module`; return the saved state. All processes call it.

    Learning rate, weight decay and betas stay those `module` was built with. Raises FileNotFoundError for a missing file,
    ValueError when the tensors are of another model.
    """
    for name in (WEIGHTS, OPTIMIZER, STATE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; this is not a checkpoint to train on")
    assert module.optim is not None
    first = get_rank() == 0
    weights: dict[str, Any] = load_file(folder / WEIGHTS) if first else {}
    mine = {name: tuple(p.shape) for name, p in module.model.named_parameters()}
    theirs = broadcast_object({name: tuple(t.shape) for name, t in weights.items()})
    if mine != theirs:
        differs = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
        raise ValueError(
            f"{folder / WEIGHTS} is of another model: {differs[0]} has shape {theirs.get(differs[0])} there and "
            f"{mine.get(differs[0])} here ({len(differs)} differ); give the same model settings and tokenizer"
        )
    spread = sharded.StateDictOptions(full_state_dict=True, broadcast_from_rank0=is_distributed())
    sharded.set_model_state_dict(module.model, weights, options=spread)
    # The hyperparameters come from this run's optimizer, the moments from the file.
    moments: dict[str, Any] = sharded.get_optimizer_state_dict(module.model, module.optim, options=_FULL)
    if first:
        moments["state"] = {}
        for name, tensor in load_file(folder / OPTIMIZER).items():
            parameter, _, key = name.rpartition(".")
            moments["state"].setdefault(parameter, {})[key] = tensor
    sharded.set_optimizer_state_dict(module.model, module.optim, moments if first else {}, options=spread)
    return dict(json.loads((folder / STATE).read_text(encoding="utf-8")))


def _plain(tensors: dict[str, Any]) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}


def export(module: TransformerTrainModule, folder: Path, *, tokenizer: Path, context: int, eos: int, pad: int) -> None:
    """Write `folder` as a Hugging Face model (`Olmo2ForCausalLM`) with its tokenizer, then check it against the trainer's.

    `tokenizer` is a Hugging Face tokenizer folder, `context` the length trained on. All processes call it.
    Raises RuntimeError when the exported model's logits are not the trained model's.
    """
    from olmo_core.nn.hf import save_hf_model

    weights = sharded.get_model_state_dict(module.model, options=_FULL)
    if get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        save_hf_model(folder, weights, module.model)
        _describe(folder, context=context, eos=eos, pad=pad)
        for file in sorted(p for p in tokenizer.iterdir() if p.is_file()):
            shutil.copyfile(file, folder / file.name)
    barrier()
    _check(module, folder, context)


def _describe(folder: Path, *, context: int, eos: int, pad: int) -> None:
    """Complete the exported config: OLMo-core leaves out the context and the special ids."""
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        body = json.loads(file.read_text(encoding="utf-8"))
        body |= {"eos_token_id": eos, "pad_token_id": pad, "bos_token_id": eos}
        if name == "config.json":
            body["max_position_embeddings"] = context
        file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def logit_gap(module: TransformerTrainModule, folder: Path, ids_B_T: torch.Tensor) -> float:
    """Largest absolute difference between the trained model's logits and those of its export, both in float32."""
    from synpro.lm.loss import load_model

    with torch.no_grad():
        module.model.eval()
        trained = module.model(ids_B_T.to(module.device)).float().cpu()
        module.model.train()
        exported = load_model(folder, device=str(module.device))(ids_B_T.to(module.device)).logits.float().cpu()
    return float((trained - exported).abs().max())


def _check(module: TransformerTrainModule, folder: Path, context: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ids_B_T = torch.randint(0, module.model.vocab_size, (2, min(context, 64)), generator=generator)
    gap = logit_gap(module, folder, ids_B_T)
    # Bit-equal on a CPU. GPU kernels of the two libraries may round differently; a wrong tensor is off by far more.
    limit = 0.0 if module.device.type == "cpu" else 1e-2
    if not gap <= limit:
        raise RuntimeError(
            f"the model exported to {folder} gives other logits than the trained one (largest difference {gap:.3g}); "
            "the export cannot be trusted: check the versions of ai2-olmo-core and transformers"
        )


def leave() -> None:
    """Wait until all processes are here, the first also until the others have seen that: what it has sent and they have not yet
    read would be lost with its connections. Raises torch's DistStoreError when one is not here five minutes after the rest."""
    barrier()
    if not is_distributed():
        return
    store = distributed_c10d._get_default_store()  # torchrun's, which outlives the processes
    if get_rank():
        store.set(f"left/{get_rank()}", "")
    else:
        store.wait([f"left/{rank}" for rank in range(1, get_world_size())], timedelta(minutes=5))
