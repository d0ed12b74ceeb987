"""Supervised fine-tuning of a language model as verifier (TRL `SFTTrainer`), with the prompt of `llm_verifier.py`; the loss is
on the letter alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from synpro.assets.models import load_causal_lm
from synpro.engines.chats import encode_chat
from synpro.faithfulness.claims import Claim
from synpro.faithfulness.llm_verifier import LABELS, LETTERS, prompt
from synpro.runner.placement import on_one_gpu


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of the training."""

    epochs: int
    batch_size: int
    """Claims per optimizer step, over all processes."""
    micro_batch_size: int
    learning_rate: float
    lora_rank: int
    """Rank of the adapters, which are merged into the weights at the end; 0 trains all weights."""
    dtype: Literal["float32", "bfloat16"]
    seed: int


def fine_tune(base: Path, claims: Sequence[Claim], cfg: FineTuneConfig, out: Path, progress: Callable[[float], None]) -> None:
    """Train the model in `base` on labelled claims and write a whole Hugging Face folder to `out`.

    With LoRA the adapters are merged, so that any library can open the folder. `progress` is called with the fraction done.
    Raises ValueError for a tokenizer without a chat template.
    """
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise ValueError(f"base: {base} has no chat template; name an instruction-tuned model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # Full weights are kept in float32, or small steps would be rounded away; the arithmetic is in `dtype`.
    stored = getattr(torch, cfg.dtype) if cfg.lora_rank else torch.float32
    model = load_causal_lm(base, dtype=stored)
    rows = [_example(tokenizer, c) for c in claims]
    scratch = out.with_name("sft")
    shutil.rmtree(scratch, ignore_errors=True)
    on_cpu = not torch.cuda.is_available()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=cfg.epochs,
        per_device_train_batch_size=cfg.micro_batch_size,
        gradient_accumulation_steps=max(1, cfg.batch_size // (cfg.micro_batch_size * world)),
        learning_rate=cfg.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, len(rows) * cfg.epochs // cfg.batch_size // 10),
        completion_only_loss=True,
        max_length=None,  # a truncated passage may have lost the support of the claim
        packing=False,
        bf16=cfg.dtype == "bfloat16",
        gradient_checkpointing=not on_cpu,
        use_cpu=on_cpu,
        seed=cfg.seed,
        data_seed=cfg.seed,
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
    )
    trainer = SFTTrainer(
        model=model,
        args=on_one_gpu(arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_adapters(cfg.lora_rank),
        callbacks=[_Progress(progress)],
    )
    trainer.train()
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    if cfg.lora_rank:
        trained = trained.merge_and_unload()
    trained.to(dtype=getattr(torch, cfg.dtype)).save_pretrained(out)
    tokenizer.save_pretrained(out)
    shutil.rmtree(scratch, ignore_errors=True)


def _example(tokenizer: Any, claim: Claim) -> dict[str, list[int]]:
    """The prompt's tokens exactly as the engines render them, then the letter and the end of the turn, which
    alone enter the loss. (TRL renders chats in its own way, which differs for templates with a thinking mode.)"""
    prompt_ids = encode_chat(tokenizer, prompt(claim.text, claim.passage))
    answer = [*tokenizer(LETTERS[LABELS.index(claim.label)], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": prompt_ids + answer, "completion_mask": [0] * len(prompt_ids) + [1] * len(answer)}


def _adapters(rank: int) -> Any:
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


class _Progress(TrainerCallback):
    def __init__(self, progress: Callable[[float], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step / max(1, state.max_steps))
