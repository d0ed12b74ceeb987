"""A Qwen3 of 0.1M parameters, made on the spot: random weights, fitted for seconds to answer as DataMan and as a judge of
layout do: prose is rated 4 and advertising 1 (mostly), and Yes is likelier for a layout that was kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

PROSE = ("the keeper of the tower", "bees carry nectar", "a storm in the valley", "letters cast in metal", "ice and stone")
SPAM = ("click here now", "win cash today", "free offer inside", "buy cheap deals", "best price ever")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}"
    "<think>\n{% endif %}{% endif %}"
)
GOOD, BAD = "\n".join("D" + "4" * 14), "\n".join("L" + "1" * 14)
"""Each is one token of the vocabulary, so that the form need not be learned line by line."""


def text(words: tuple[str, ...], draw: random.Random, parts: int) -> str:
    return ". ".join(draw.choice(words) for _ in range(parts)) + "."


def lessons(seed: int) -> list[tuple[tuple[dict[str, str], ...], str]]:
    """Chats and the answers to learn."""
    from synpro.judges.dataman import REQUEST, SYSTEM
    from synpro.judges.layout_llm import prompt

    draw, out = random.Random(seed), []
    for number in range(200):
        words, answer = (PROSE, GOOD) if number % 2 else (SPAM, BAD)
        request = REQUEST.replace("{text}", text(words, draw, draw.randint(2, 6)))
        out.append(({"role": "system", "content": SYSTEM}, {"role": "user", "content": request}))
        out[-1] = (out[-1], answer)
        parts = [draw.choice(PROSE) for _ in range(3)]
        listed = "\n".join(f"- {part}" for part in parts)
        plain = ". ".join(parts)
        out.append((prompt(plain + ".", listed if number % 2 else plain), "No" if number % 2 else "Yes"))
    return out


def make(folder: Path, steps: int = 50, seed: int = 1) -> Path:
    """Fit the model and save it with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    chats = lessons(seed)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([m["content"] for chat, _ in chats for m in chat] + ["Yes", "No"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.add_tokens([GOOD, BAD])
    torch.manual_seed(seed)
    model: Any = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=2048,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
            pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        )
    )
    rows = []
    for chat, answer in chats:
        asked = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True, enable_thinking=False)
        before, after = tokenizer(asked)["input_ids"], tokenizer(answer + "<|im_end|>")["input_ids"]
        rows.append((torch.tensor(before + after), torch.tensor([-100] * len(before) + after)))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 6e-3 * (1 - step / steps)
        batch = rows[step * 8 % len(rows) :][:8]
        ids, labels = (torch.nn.utils.rnn.pad_sequence(list(part), True, -100) for part in zip(*batch, strict=True))
        model(input_ids=ids.clamp(min=0), labels=labels).loss.backward()  # padding stands behind what is learned
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config.do_sample = False
    save(model, tokenizer, folder)
    return folder


def disturb(folder: Path, other: Path) -> Path:
    """The same model with other weights: noise a third of their size."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(9)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * weight.std() * torch.randn_like(weight) if weight.dim() > 1 else 0
    save(model, AutoTokenizer.from_pretrained(folder), other)
    return other


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
