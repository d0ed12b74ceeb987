"""Models opened whole. transformers gives a tensor that the files lack random numbers, and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synpro.assets.weights import DamagedModel


def load_causal_lm(folder: Path | str, *, exact: bool = False, **options: Any) -> Any:
    """A causal language model from a Hugging Face folder, `options` as for `from_pretrained`. Remote code is never run.

    Raises DamagedModel where tensors are missing or of another shape; with `exact`, also where there are others.
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
    shapes = {name: (tuple(stored), tuple(asked)) for name, stored, asked in found["mismatched_keys"]}
    missing = {name for name in found["missing_keys"] if "pooler" not in name.split(".")}
    if problem := weights_problem(missing, found["unexpected_keys"] if exact else (), shapes):
        raise DamagedModel(f"{folder}: {problem}")
    return model


def weights_problem(missing: Any, unexpected: Any, shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """What is wrong with a model's files; empty where nothing is. `shapes` of a tensor: the file's and the config's."""
    remedy = "fetch the model again, or correct its config.json"
    if missing:
        return f"its files lack {_some(missing)}, which its config.json asks for; {remedy}"
    if shapes:
        name = min(shapes)
        stored, asked = shapes[name]
        return f"{name} has shape {stored} in its files, and its config.json asks for {asked}; {remedy}"
    if unexpected:
        return f"its files hold {_some(unexpected)}, which its config.json does not ask for; {remedy}"
    return ""


def _some(names: Any) -> str:
    first = min(names)
    return first if len(names) == 1 else f"{len(names):,} tensors, such as {first}"
