"""Open the model that a generator starts from, and save what training made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from synpro.assets.models import load_causal_lm
from synpro.grpo.settings import GRPOSettings
from synpro.records import Generator


@dataclass(frozen=True)
class Policy:
    """What TRL is given: a model, and the adapter to add."""

    model: Any
    peft: Any
    """A `LoraConfig`; None when all weights are trained, or when the model has its adapter already."""
    tokenizer: PreTrainedTokenizerBase


def open_policy(folder: Path, settings: GRPOSettings, previous: Generator | None) -> Policy:
    """The base in `folder`, or the previous generator on top of it.

    Raises ValueError when the previous generator was tuned in another way than `settings.tuning`, or when the tokenizer has no
    chat template.
    """
    full = settings.tuning == "full"
    if previous is not None and (previous.adapter if full else previous.weights) is not None:
        was, now = ("lora", "full") if full else ("full", "lora")
        raise ValueError(
            f'train_generator.tuning: "{now}" cannot carry on from a generator of the previous round tuned with "{was}";'
            f' use tuning = "{was}" or start = "base"'
        )
    source = previous.weights if previous is not None and previous.weights is not None else folder
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
    if not tokenizer.chat_template:
        raise ValueError(
            f"train_generator.base: the tokenizer in {folder} has no chat template; use an instruction-tuned model"
        )
    if full:
        # Full weights stay in float32 (a step of 1e-6 rounds away in 16 bits); TRL's autocast computes in `dtype`.
        return Policy(load_causal_lm(source, dtype=torch.float32), None, tokenizer)
    model = load_causal_lm(source, dtype=getattr(torch, settings.dtype))
    if previous is not None and previous.adapter is not None:
        from peft import PeftModel

        return Policy(PeftModel.from_pretrained(model, previous.adapter, is_trainable=True), None, tokenizer)
    from peft import LoraConfig

    peft = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=list(settings.lora_modules) or "all-linear",
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return Policy(model, peft, tokenizer)


def save_adapter(policy: Any, reference: str, folder: Path) -> None:
    """Save LoRA weights in PEFT's layout. The config names the base by its asset reference, so that equal weights are equal
    files on every machine."""
    policy.save_pretrained(folder, selected_adapters=["default"], safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card holds the local path of the base
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = reference
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])  # PEFT writes a set, whose order changes from process to process
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_weights(policy: Any, tokenizer: PreTrainedTokenizerBase, dtype: str, folder: Path) -> None:
    """Save full weights and tokenizer as a Hugging Face folder, in the dtype they are used in."""
    policy.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
