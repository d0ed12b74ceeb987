"""Models of the published shapes with random weights, texts of the published length, and what a card did: for gpu_parts.py.

MFU is `flops_per_token` (6 N for the weights that multiply, and causal attention at half of the square) times tokens per second
over the card's dense 16-bit peak as its maker states it. Memory is the most that PyTorch had allocated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from synpro.config import RunConfig, load_config
from synpro.lm.model_config import ModelConfig, flops_per_token
from synpro.planning.gpu_plan import GPUS
from synpro.records import Passage

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = ModelConfig(n_layers=2, d_model=64, n_heads=2, hidden_size=128)
CHAT = (
    "{% for m in messages %}<user>{{ m.content }}<|endoftext|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def words(seed: int, characters: int) -> str:
    """Text of made-up words in sentences."""
    rng, syllables = Random(seed), [a + b for a in "bdfgklmnprst" for b in ("a", "e", "in", "or", "u")]
    out, size = list[str](), 0
    while size < characters:
        sentence = " ".join("".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3)))) for _ in range(rng.randint(6, 16)))
        out.append(sentence.capitalize() + ".")
        size += len(sentence) + 2
    return " ".join(out)[:characters]


def passage(seed: int, tiny: bool) -> Passage:
    """A passage of the published length."""
    text = words(seed, 300 if tiny else 7000)
    return Passage(f"d{seed}#0000", f"d{seed}", 0, 0, len(text), text)


def save_tokenizer(folder: Path) -> Any:
    """A tokenizer with a chat template, trained in a second."""
    from transformers import PreTrainedTokenizerFast

    from synpro.corpus.tokens import TokenizerConfig, train_tokenizer

    raw = train_tokenizer([words(seed, 20_000) for seed in range(10)], TokenizerConfig("train", 2000))
    raw.encode_special_tokens = False
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|pad|>", **special)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(folder: Path, config: Any, dtype: torch.dtype, auto: str = "AutoModelForCausalLM") -> Path:
    """A model with random weights and its tokenizer, as a Hugging Face folder."""
    import transformers

    tokenizer = save_tokenizer(folder)
    config.eos_token_id, config.pad_token_id, config.bos_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id, None
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = getattr(transformers, auto).from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    return folder


def olmo2(shape: ModelConfig, context: int) -> Any:
    """The shape in transformers' terms."""
    from transformers import Olmo2Config

    return Olmo2Config(
        hidden_size=shape.d_model,
        intermediate_size=shape.hidden_size,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        vocab_size=3000 if shape == TINY else 100_352,
        max_position_embeddings=context,
    )


def qwen(kind: str, tiny: bool) -> Any:
    """The published shapes of the judges; `kind` is the name of a config class."""
    import transformers

    shapes = {"DataMan": (28, 1536, 8960, 12, 2), "Qwen3-4B": (36, 2560, 9728, 32, 8), "Qwen3-1.7B": (28, 2048, 6144, 16, 8)}
    layers, width, hidden, heads, kv = (2, 64, 128, 4, 2) if tiny else shapes[kind]
    more = {} if kind == "DataMan" else {"head_dim": 16 if tiny else 128}
    config = transformers.Qwen2Config if kind == "DataMan" else transformers.Qwen3Config
    return config(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        vocab_size=3000 if tiny else 151_936,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        **more,
    )


def published(name: str) -> RunConfig:
    """A published config."""
    return load_config(ROOT / f"configs/{name}.toml")


def peak_gib() -> float | None:
    """The most that PyTorch has allocated since the last call, GiB; None on a CPU."""
    if DEVICE == "cpu":
        return None
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return round(peak, 2)


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def rates(shape: ModelConfig, vocab: int, length: int, tokens: int, step_seconds: float) -> Row:
    """Tokens per second, and the share of the card's peak."""
    per_second = tokens / step_seconds
    card = torch.cuda.get_device_name().lower() if DEVICE == "cuda" else ""
    peak = next((gpu.peak for name, gpu in GPUS.items() if name in card), None)
    flops = flops_per_token(shape, vocab, length) * per_second
    return {"step_seconds": step_seconds, "tokens_per_second": per_second, "mfu": peak and flops / peak}
