"""FLOP/s of this machine, from a few seconds of the real work: training the configured shape, reading prompts and generating
with a decoder. Only useful arithmetic is counted, so that other sizes can be planned from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synpro.lm.model_config import ModelConfig, flops_per_token


@dataclass(frozen=True)
class Throughput:
    """FLOP/s that this machine reached in each kind of work."""

    training: float
    """Forward and backward of a model of the configured shape."""
    prefill: float
    """Forward of a generator-sized model over prompts, bfloat16."""
    decode: float
    """The same, one token at a time, 32 answers side by side."""

    def decode_at(self, batch_size: int) -> float:
        """`decode` for another number of answers side by side: about proportional to its square root (measured: 118 tokens/s
        with 8 answers, 342 with 64)."""
        return self.decode * (min(batch_size, 64) / 32) ** 0.5


def measure_throughput(model: ModelConfig, vocab_size: int, sequence_length: int, *, seconds: float) -> Throughput:
    """Measure for about `seconds`.

    Shapes that would not fit into a few seconds are measured with fewer layers. The decoder has SmolLM2-135M's widths and 6
    layers; its rates are per FLOP, so the depth cancels out.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = _training_rate(model, vocab_size, sequence_length, seconds * 0.4, device)
    prefill, decode = _decoder_rates(seconds * 0.3, device)
    return Throughput(training, prefill, decode)


def training_sample(model: ModelConfig, vocab_size: int, sequence_length: int, device: str) -> tuple[int, int, int]:
    """Layers, sequences and tokens of each that training is measured with: on a CPU few enough for a call of a second or two
    and about a GiB, whatever the vocabulary."""
    weights, tokens = (1 << 26, 4096) if device == "cuda" else (1 << 24, min(4096, (1 << 25) // vocab_size))
    layers, length = max(1, min(model.n_layers, weights // (model.d_model**2 * 4))), min(sequence_length, tokens)
    return layers, max(1, tokens // length), length


def _training_rate(model: ModelConfig, vocab_size: int, sequence_length: int, seconds: float, device: str) -> float:
    import torch
    from transformers import Olmo2Config, Olmo2ForCausalLM

    layers, rows, length = training_sample(model, vocab_size, sequence_length, device)
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
    ids = torch.randint(0, vocab_size, (rows, length), device=device)

    def train() -> None:
        trained(input_ids=ids, labels=ids).loss.backward()
        trained.zero_grad()

    measured = ModelConfig(layers, model.d_model, model.n_heads, model.hidden_size)
    return flops_per_token(measured, vocab_size, length) * ids.numel() / _median_seconds(train, seconds, device)


def _decoder_rates(seconds: float, device: str) -> tuple[float, float]:
    """(prefill, decode) in FLOP/s."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

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
        prefill = _median_seconds(lambda: decoder(prompt, use_cache=False, logits_to_keep=1), seconds, device)
        decode = _median_seconds(lambda: decoder(step, use_cache=False), seconds, device)
    head = 49152 * 576
    return 2 * weights * prompt.numel() / prefill, (weights + head) * step.numel() / decode


def _median_seconds(work: Callable[[], object], seconds: float, device: str) -> float:
    """Median time of one call, over as many as fit into `seconds`, after a first call that is not counted."""
    import torch

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
