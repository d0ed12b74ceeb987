"""Models opened whole. transformers gives a tensor that the files lack random numbers, and goes on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from synpro.assets.weights import DamagedModel

_NUMBERED = re.compile(r"(.+?\.)(\d+)(\..+)")
"""A name with a number in it, mostly that of a layer."""


class ImportRefused(ValueError):
    """A model that OLMo-core does not import; the message says why, and what it does import."""


def load_causal_lm(folder: Path | str, *, exact: bool = False, **options: Any) -> Any:
    """A causal language model from a Hugging Face folder, `options` as for `from_pretrained`; `device_map="meta"` reads no
    weights. Remote code is never run.

    Raises DamagedModel where tensors are missing or of another shape, or whole layers are left over; with `exact`, also where
    parts of layers are.
    """
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, folder, exact, options)


def load_encoder(folder: Path | str, **options: Any) -> Any:
    """A bidirectional encoder, as `load_causal_lm`. Its pooler may be missing: states of tokens are read, not that."""
    from transformers import AutoModel

    return _load(AutoModel, folder, False, options)


def _load(kind: Any, folder: Path | str, exact: bool, options: dict[str, Any]) -> Any:
    model, found = kind.from_pretrained(
        folder, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **options
    )
    if problem := _problem(model, found, exact):
        raise DamagedModel(f"{folder}: {problem}; fetch the model again, or correct its config.json")
    return model


def _problem(model: Any, found: Mapping[str, Any], exact: bool) -> str:
    """What transformers found wrong with a model's files; empty where nothing is."""
    if missing := {name for name in found["missing_keys"] if "pooler" not in name.split(".")}:
        return f"its files lack {_some(missing)}, which its config.json asks for"
    for name, stored, asked in sorted(found["mismatched_keys"]):
        return f"{name} has shape {tuple(stored)} in its files, and its config.json asks for {tuple(asked)}"
    # Old files hold tables of the rotary embedding, and others a value head: they change nothing. A layer does.
    layers = _layers_beyond(model, found["unexpected_keys"])
    if exact:
        layers |= {name for name in found["unexpected_keys"] if ".layers." in name and "rotary_emb" not in name}
    return f"its files hold {_some(layers)}, which its config.json does not ask for" if layers else ""


def _layers_beyond(model: Any, left_over: Iterable[str]) -> set[str]:
    """Tensors of layers that a model would have if it had more of them: named as one of its own but for the number."""

    def places(names: Iterable[str]) -> dict[str, tuple[str, int, str]]:
        bare = {name: _NUMBERED.match(name.removeprefix(f"{model.base_model_prefix}.")) for name in names}
        return {name: (found[1], int(found[2]), found[3]) for name, found in bare.items() if found}

    own = places(model.state_dict()).values()
    kinds, last = {(before, after) for before, _, after in own}, dict[str, int]()
    for before, number, _ in own:
        last[before] = max(number, last.get(before, 0))
    # Layers that propose tokens ahead are stored behind the others.
    ahead = getattr(model.config, "num_nextn_predict_layers", None) or 0
    return {
        name
        for name, (before, number, after) in places(left_over).items()
        if (before, after) in kinds and number > last[before] + ahead
    }


def _some(names: Collection[str]) -> str:
    return min(names) if len(names) == 1 else f"{len(names):,} tensors, such as {min(names)}"
