"""Weights on disk, without loading them: the header of safetensors files, and pickled weights made into such files once."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synpro.assets.cache import AssetRequest, cache_dir, first_line, readable_by_all

Shapes = dict[str, tuple[int, ...]]
"""Shape of each tensor by its name."""
PICKLED = "pytorch_model*.bin"
INDEX = "model.safetensors.index.json"


class DamagedModel(ValueError):
    """A file of a model that is damaged, cut short or missing, or does not hold what its `config.json` asks for; the message
    names it."""


def json_object(file: Path, text: str | bytes | None = None) -> dict[str, Any]:
    """The object in a file, or in a text from it. Raises DamagedModel, OSError."""
    try:
        value = json.loads(file.read_bytes() if text is None else text)
    except ValueError as problem:
        raise DamagedModel(f"{file} is damaged ({problem}); fetch it again") from None
    if not isinstance(value, dict):
        raise DamagedModel(f"{file} holds no JSON object; fetch it again")
    return value


def read_shapes(folder: Path) -> Shapes:
    """The tensors of a model folder, from the headers of its safetensors files. Raises DamagedModel for a file that is
    damaged, cut short or missing."""
    shapes: Shapes = {}
    whole_model = folder / "model.safetensors"  # as transformers chooses: other files beside it are not the model's
    files = [whole_model] if whole_model.is_file() else sorted(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        places = json_object(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise DamagedModel(f"{folder / INDEX} has no weight_map; fetch it again")
        if not whole_model.is_file():
            files = [folder / name for name in sorted(set(map(str, places.values())))]
    for file in files:
        if not file.is_file():
            raise DamagedModel(f"{file} is missing, which {INDEX} names; fetch it again")
        with file.open("rb") as handle:
            head = handle.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else math.inf
            whole = file.stat().st_size
            if size > whole:
                raise DamagedModel(f"{file} is not a safetensors file, or is cut short; fetch it again")
            header = json_object(file, handle.read(int(size)))
        header.pop("__metadata__", None)
        if any(not isinstance(entry, dict) or not {"data_offsets", "shape"} <= entry.keys() for entry in header.values()):
            raise DamagedModel(f"{file} has a header that says no shapes; fetch it again")
        end = 8 + int(size) + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if end != whole:
            raise DamagedModel(f"{file} has {whole:,} bytes and should have {end:,}; fetch it again")
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items()}
    return shapes


def unknown_modules(shapes: Shapes, modules: Iterable[str]) -> dict[str, list[str]]:
    """The names of `modules` that no weight matrix of a model ends in, each with the nearest names that exist."""
    matrices = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 2 and name.endswith(".weight")]
    known = sorted({name.rpartition(".")[2] for name in matrices})
    unknown = [m for m in modules if not any(name == m or name.endswith(f".{m}") for name in matrices)]
    return {m: difflib.get_close_matches(m, known, n=3, cutoff=0.4) or known[:8] for m in unknown}


def has_pickled(folder: Path) -> bool:
    """Whether a model folder holds pickled weights alone."""
    return any(folder.glob(PICKLED)) and not any(folder.glob("*.safetensors"))


def from_pickled(folder: Path, asked: AssetRequest) -> Path:
    """A copy of a model folder with its `pytorch_model*.bin` as safetensors, in the cache. PyTorch reads them with
    `weights_only=True`: tensors, and no program that a pickle may hold. Raises AssetError."""
    files = sorted(folder.glob(PICKLED))

    def make(scratch: Path) -> dict[str, Any]:
        asked.log_line(f"converting {len(files)} pickled file(s) of {folder.name} to safetensors, once")
        model = scratch / "model"
        model.mkdir()
        for other in folder.iterdir():
            if other.is_file() and other.suffix not in (".bin", ".h5", ".msgpack", ".ot", ".pt", ".pth", ".ckpt"):
                shutil.copy(other, model / other.name)
        _convert(files, model, asked)
        return {"pickled": [file.name for file in files]}

    entry = cache_dir() / "converted" / _digest(files)
    asked.stored(entry, make)
    return entry / "model"


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:32]


def _convert(files: list[Path], model: Path, asked: AssetRequest) -> None:
    import torch
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    for number, file in enumerate(files, 1):
        try:
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as problem:  # pickle raises whatever the damaged byte leads to
            remedy = "Fetch it again; a file that holds more than tensors is never opened: ask its makers for safetensors"
            raise asked.error(f"{file.name} cannot be read ({first_line(problem)})", remedy) from problem
        kept = {name: tensor.contiguous().clone() for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors" if len(files) > 1 else "model.safetensors"
        save_file(kept, model / name, metadata={"format": "pt"})
        places |= dict.fromkeys(kept, name)
    if len(files) > 1:
        (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    for leftover in model.glob("*.bin.index.json"):
        leftover.unlink()
    readable_by_all(model)
