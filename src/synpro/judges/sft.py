"""Supervised fine-tuning of a language model as verifier (TRL `SFTTrainer`): the prompt of `llm_verifier.py`, loss on the
letter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from synpro.corpus.claims import Claim
from synpro.judges.llm_verifier import LABELS, LETTERS, prompt


@dataclass(frozen=True)
class Training:
    """How the model is trained."""

    epochs: int
    batch: int
    micro_batch: int
    learning_rate: float
    lora_rank: int
    """0 trains all weights; else adapters of this rank, merged into the weights at the end."""
    dtype: Literal["float32", "bfloat16"]
    seed: int


def train(base: Path, claims: Sequence[Claim], cfg: Training, out: Path, tell: Callable[[float], None]) -> None:
    """Train the model in `base` on labelled claims and write a whole Hugging Face folder to `out`. `tell(share done)`.

    With LoRA the adapters are merged, so that anything can open the folder. Raises ValueError for a tokenizer without a chat
    template.
    """
    tokenizer = AutoTokenizer.from_pretrained(base)
    if not tokenizer.chat_template:
        raise ValueError(f"base: {base} has no chat template; name an instruction-tuned model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # With full weights the weights stay in float32, or small steps would round away; the arithmetic is in `dtype`.
    stored = getattr(torch, cfg.dtype) if cfg.lora_rank else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, dtype=stored)
    rows = [_lesson(tokenizer, c) for c in claims]
    scratch = out.with_name("sft")
    shutil.rmtree(scratch, ignore_errors=True)
    on_cpu = not torch.cuda.is_available()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=cfg.epochs,
        per_device_train_batch_size=cfg.micro_batch,
        gradient_accumulation_steps=max(1, cfg.batch // (cfg.micro_batch * world)),
        learning_rate=cfg.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, len(rows) * cfg.epochs // cfg.batch // 10),
        completion_only_loss=True,
        max_length=None,  # a passage that is cut could lose what supports the claim
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
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_adapters(cfg.lora_rank),
        callbacks=[_Progress(tell)],
    )
    trainer.train()
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    if cfg.lora_rank:
        trained = trained.merge_and_unload()
    trained.to(dtype=getattr(torch, cfg.dtype)).save_pretrained(out)
    tokenizer.save_pretrained(out)
    shutil.rmtree(scratch, ignore_errors=True)


def _lesson(tokenizer: Any, claim: Claim) -> dict[str, list[int]]:
    """The tokens that `engines/hf.py` will ask with, and after them the letter and the end of the turn, alone learned from.
    (TRL would render the chat its own way, and with a template that thinks aloud not as it is asked.)"""
    chat = list(prompt(claim.text, claim.passage))
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    asked = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    answer = [*tokenizer(LETTERS[LABELS.index(claim.label)], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": asked + answer, "completion_mask": [0] * len(asked) + [1] * len(answer)}


def _adapters(rank: int) -> Any:
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


class _Progress(TrainerCallback):
    def __init__(self, tell: Callable[[float], None]) -> None:
        self.tell = tell

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell(state.global_step / max(1, state.max_steps))
