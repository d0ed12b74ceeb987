"""Weights and optimizer state on disk, as safetensors: `trainer/` to continue training, `hf/` to open anywhere.

OLMo-core's own checkpoints hold pickles and machine-dependent metadata. Ours hold the same tensors, whole, under the same
names, and two equal runs write equal bytes. Sharded states are gathered to rank 0, which is enough up to a few billion
parameters. Only tensors and plain JSON are ever loaded.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint.state_dict as dist_state
from olmo_core.distributed.utils import barrier, broadcast_object, get_rank, is_distributed
from olmo_core.nn.transformer import Transformer
from olmo_core.train.train_module import TransformerTrainModule
from safetensors.torch import load_file, save_file

from synpro.lm.model_config import ImportedModel, ModelConfig, transformer_config
from synpro.runner.artifacts import sync

WEIGHTS, OPTIMIZER, STATE, BEST = "model.safetensors", "optim.safetensors", "state.json", "best"

_HEAD = "lm_head.w_out.weight"
_FULL = dist_state.StateDictOptions(full_state_dict=True, cpu_offload=True)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """A state of training in memory, whole, on the CPU of rank 0; empty on the other processes."""

    weights: Tensors
    moments: Tensors

    @classmethod
    def of(cls, module: TransformerTrainModule) -> Snapshot:
        """The state as it is now, which later training does not change. All processes call it."""
        now = _gather(module)
        if (
            module.device.type == "cpu" and get_rank() == 0
        ):  # gathering has copied nothing, and training changes tensors in place
            return cls(*({name: t.clone() for name, t in tensors.items()} for tensors in (now.weights, now.moments)))
        return now


def save(module: TransformerTrainModule, folder: Path, state: dict[str, Any]) -> None:
    """Write weights, optimizer moments and `state` (plain JSON) to `folder`, whole or not at all. All processes call it."""
    snapshot = _gather(module)
    if get_rank() == 0:
        write(folder, snapshot, state)
    barrier()


class CheckpointWriter:
    """Saves checkpoints while training continues: copies the tensors at once, and writes them in a thread of rank 0."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(
        self,
        module: TransformerTrainModule,
        folder: Path,
        state: dict[str, Any],
        then: Callable[[], None],
        best: Snapshot | None = None,
    ) -> None:
        """Start what `save` does and return; `then` is called when the checkpoint is complete. All processes call it.

        `best` is an earlier state that is stored with it. Waits for the previous checkpoint first, and raises the error that
        stopped it.
        """
        self.wait()
        snapshot = Snapshot.of(module)
        if get_rank() == 0:

            def run() -> None:
                write(folder, snapshot, state, best)
                then()

            self._writing = self._pool.submit(run)

    def wait(self) -> None:
        """Wait until the last checkpoint is written. Raises the error that stopped it."""
        if self._writing is not None:
            done, self._writing = self._writing, None
            done.result()


def _gather(module: TransformerTrainModule) -> Snapshot:
    """Weights and optimizer moments by name, none of an optimizer that has made no step; on a CPU, the tensors themselves."""
    weights = dist_state.get_model_state_dict(module.model, options=_FULL)
    assert module.optim is not None
    moments = dict[str, Any]()
    if module.optim.state:  # else asking for it would make the optimizer count a step
        moments = dist_state.get_optimizer_state_dict(module.model, module.optim, options=_FULL)
    named = {f"{name}.{key}": t for name, fields in moments.get("state", {}).items() for key, t in fields.items()}
    if module.model.tie_word_embeddings:
        weights.pop(_HEAD, None)  # another name of the embeddings: a file holds a tensor once
    return Snapshot(_contiguous(weights), _contiguous(named))


def _with_head(weights: Mapping[str, Any], model: Transformer) -> dict[str, Any]:
    """Weights with the head that shares the embeddings, where it does; none where there are none."""
    shared = {_HEAD: weights["embeddings.weight"]} if model.tie_word_embeddings and weights else {}
    return {**weights, **shared}


def _contiguous(tensors: dict[str, Any]) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}


def write(folder: Path, snapshot: Snapshot, state: dict[str, Any], best: Snapshot | None = None) -> None:
    """Write a state to `folder`, whole or not at all; `best` goes to the folder `best` in it. Rank 0 calls it."""
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    for place, tensors in ((draft, snapshot), (draft / BEST, best)):
        if tensors is not None:
            place.mkdir(parents=True)
            save_file(tensors.weights, place / WEIGHTS)
            save_file(tensors.moments, place / OPTIMIZER)
    (draft / STATE).write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sync(draft)  # takes long, and `folder` may be the only checkpoint
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def read_best(folder: Path) -> Snapshot:
    """The earlier state that was stored with a checkpoint; empty on all processes but the first."""
    files = (folder / BEST / WEIGHTS, folder / BEST / OPTIMIZER)
    return Snapshot(*(load_file(file) if get_rank() == 0 else {} for file in files))


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
    dist_state.set_model_state_dict(module.model, _with_head(weights, module.model), options=options)
    # The hyperparameters come from this run's optimizer, the moments from the file.
    moments: dict[str, Any] = dist_state.get_optimizer_state_dict(module.model, module.optim, options=_FULL)
    if is_first:
        stored = load_file(folder / OPTIMIZER)
        for parameter, fields in moments["state"].items():
            # Without any, the model was imported and is as it was: they are those of a new optimizer.
            moments["state"][parameter] = {
                key: stored[f"{parameter}.{key}"] if stored else torch.zeros_like(tensor) for key, tensor in fields.items()
            }
    dist_state.set_optimizer_state_dict(module.model, module.optim, moments if is_first else {}, options=options)
    return dict(json.loads((folder / STATE).read_text(encoding="utf-8")))


def start_from(module: TransformerTrainModule, model: ImportedModel) -> float:
    """Load the weights of an imported model into `module`, and return the largest difference of its logits from OLMo-core's (on
    rank 0). All processes call it. Raises ImportRefused when they differ."""
    from synpro.lm.imported import read_weights

    weights, difference = dict[str, Any](), 0.0
    if get_rank() == 0:
        weights, difference = read_weights(model.folder, model.vocab_size)
    options = dist_state.StateDictOptions(full_state_dict=True, broadcast_from_rank0=is_distributed())
    dist_state.set_model_state_dict(module.model, weights, options=options)
    return difference


def export(
    module: TransformerTrainModule, folder: Path, *, model: ModelConfig, tokenizer: Path, context: int, eos: int, pad: int
) -> None:
    """Write `folder` as a Hugging Face model with its tokenizer, and compare its logits with OLMo-core's.

    It is an `Olmo2ForCausalLM`; an imported model keeps its own architecture.

    `model`: the shape that `module` was built with. `tokenizer`: a Hugging Face tokenizer folder. `context`: the sequence
    length of training, in tokens. All processes call it. Raises RuntimeError when the exported model gives other logits
    than rounding explains (`TOLERANCE`).
    """
    from olmo_core.nn.hf import save_hf_model

    from synpro.lm.imported import TOLERANCE

    weights = _with_head(dist_state.get_model_state_dict(module.model, options=_FULL), module.model)
    # Both run on the CPU and are equal to the bit where tests ran; rounding on another processor must not cost a training.
    difference = math.nan
    if get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        # A model of its own: whole, in float32 and not compiled, however `module` is laid out.
        plain = transformer_config(model, module.model.vocab_size).build(init_device="cpu")
        plain.load_state_dict({name: tensor.float() for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)})
        if isinstance(model, ImportedModel):
            from synpro.lm.imported import write_folder

            write_folder(folder, model.folder, plain.state_dict(), eos=eos)
        else:
            save_hf_model(folder, weights, plain)
            _complete_config(folder, context=context, eos=eos, pad=pad)
            for file in sorted(p for p in tokenizer.iterdir() if p.is_file()):
                shutil.copyfile(file, folder / file.name)
        generator = torch.Generator().manual_seed(0)
        ids_B_T = torch.randint(0, plain.vocab_size, (2, min(context, 64)), generator=generator)
        difference = max_logit_difference(plain, folder, ids_B_T)
    if not (difference := broadcast_object(difference)) <= TOLERANCE:
        raise RuntimeError(
            f"the model exported to {folder} gives other logits than the trained one (largest difference {difference:.3g}); "
            "the export cannot be trusted: check the versions of ai2-olmo-core and transformers"
        )


def _complete_config(folder: Path, *, context: int, eos: int, pad: int) -> None:
    """Add what OLMo-core leaves out of the exported config: the context and the special ids."""
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        body = json.loads(file.read_text(encoding="utf-8"))
        body |= {"eos_token_id": eos, "pad_token_id": pad, "bos_token_id": eos}
        if name == "config.json":
            body["max_position_embeddings"] = context
        file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def max_logit_difference(model: Transformer, folder: Path, ids_B_T: torch.Tensor) -> float:
    """`logit_difference` of OLMo-core's model and of an export, both in float32 on the CPU."""
    from synpro.lm.imported import logit_difference
    from synpro.lm.loss import load_model

    with torch.inference_mode():
        return logit_difference(model.eval()(ids_B_T), load_model(folder, device="cpu")(ids_B_T).logits)
