"""Where the weights of a generator are, and a generator as one folder that any server opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synpro.assets.models import load_causal_lm
from synpro.records import Generator

GENERATION = "generation_config.json"


def locate(model: Generator | str, slot: str) -> tuple[Path, Path | None]:
    """(folder of a Hugging Face model, folder of its LoRA adapter or None). Raises AssetError for a model that cannot be had;
    `slot` is the table of the config that names it."""
    from synpro.assets import model_folder

    if isinstance(model, Generator):
        return model.weights or model_folder(model.base, slot="train_generator.base"), model.adapter
    return model_folder(model, slot=slot), None


def export_merged(base: Path, adapter: Path | None, dtype: str, into: Path) -> Path:
    """Make `into` a Hugging Face folder of a generator: links to the files of `base`, or the base with the adapter merged in.

    Sampling defaults that the model ships (top-k, penalties) are left out, so that requests alone decide how to sample. Merged
    into 16 bits, part of what few small steps learned is lost (docs/engines.md has a measurement): use float32. Raises
    FileExistsError when `into` exists.
    """
    from transformers import AutoTokenizer, GenerationConfig

    into.mkdir(parents=True)
    if adapter is None:
        for file in base.iterdir():
            (into / file.name).symlink_to(file.resolve())
    else:
        import torch
        from peft import PeftModel

        model = load_causal_lm(base, dtype=torch.float32)
        merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        merged.to(getattr(torch, dtype)).save_pretrained(into)
        AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(into)
    shipped = GenerationConfig.from_pretrained(base) if (base / GENERATION).exists() else GenerationConfig()
    ends = {name: getattr(shipped, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (into / GENERATION).unlink(missing_ok=True)
    GenerationConfig(**ends, do_sample=True, top_k=0).save_pretrained(into)  # without do_sample `transformers serve` is greedy
    return into
