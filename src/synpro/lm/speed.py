"""How fast is this machine? A few seconds of the real work: training the configured shape, and reading and writing with a
generator-sized decoder. FLOP/s of useful arithmetic, so that other sizes can be planned from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Olmo2Config, Olmo2ForCausalLM

from synpro.lm.shapes import ModelConfig, flops_per_token


def measure(model: ModelConfig, vocab_size: int, sequence_length: int, *, seconds: float) -> tuple[float, float, float]:
    """(training, prefill, decode) in FLOP/s, from about `seconds` of measuring.

    Shapes that would not fit into a few seconds are measured with fewer layers. The decoder has SmolLM2-135M's widths with 6
    layers; its rates are per FLOP, so the depth cancels out.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layers = max(1, min(model.n_layers, 64 * 1024 * 1024 // (model.d_model**2 * 4)))
    shape = Olmo2Config(
        hidden_size=model.d_model,
        intermediate_size=model.hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=model.n_heads,
        vocab_size=vocab_size,
        max_position_embeddings=sequence_length,
        pad_token_id=None,
        eos_token_id=None,
        bos_token_id=None,
    )
    trained: Any = Olmo2ForCausalLM(shape)
    trained.to(device)
    rows = max(1, 4096 // sequence_length)
    ids = torch.randint(0, vocab_size, (rows, sequence_length), device=device)

    def train() -> None:
        trained(input_ids=ids, labels=ids).loss.backward()
        trained.zero_grad()

    cut = ModelConfig(layers, model.d_model, model.n_heads, model.hidden_size)
    training = flops_per_token(cut, vocab_size, sequence_length) * ids.numel() / _timed(train, seconds * 0.4, device)

    decoder: Any = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=6,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=49152,
            tie_word_embeddings=True,
        )
    )
    decoder.to(device, torch.bfloat16).eval()
    weights = 6 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    prompt = torch.randint(0, 49152, (8, 256), device=device)
    step = torch.randint(0, 49152, (32, 1), device=device)
    with torch.inference_mode():
        read = _timed(lambda: decoder(prompt, use_cache=False, logits_to_keep=1), seconds * 0.3, device)
        write = _timed(lambda: decoder(step, use_cache=False), seconds * 0.3, device)
    head = 49152 * 576
    return training, 2 * weights * prompt.numel() / read, (weights + head) * step.numel() / write


def _timed(work: Callable[[], object], seconds: float, device: str) -> float:
    """Seconds of one call, the median of as many as fit, after one that does not count."""
    work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]
