"""Bytes that one process of each stage holds at its largest, from the config alone.

What a block keeps for its backward pass was counted with PyTorch's saved-tensor hooks on OLMo-core's eager model
(`tests/test_memory.py`); a compiled one keeps less. The rest is arithmetic: 16 bytes per trained weight for itself, its
gradient and Adam's two moments in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from synpro.config import RunConfig, plain
from synpro.engines.sizes import size_of
from synpro.engines.table import is_server
from synpro.lm.settings import HardwareConfig
from synpro.lm.shapes import ModelConfig, padded_vocab, parameters
from synpro.schema import build

PROMPT_TOKENS = 280
"""Instruction and worked example around a passage (measured with SmolLM2's tokenizer)."""
TOKENS_PER_WORD = 1.35
"""Of English in the tokenizer of a large language model."""
LIBRARIES = 0.6e9
"""Python, PyTorch and its libraries in a process on processors (demo: 0.6 GiB)."""
DOCUMENT = 1350.0
"""Of each document in `prepare`: what a million took beyond the libraries, the training of a tokenizer included, which is the
larger part (docs/LOG.md)."""
RESERVED = 3.2e9
"""On a GPU: CUDA's context, communication buffers, and what the allocator cannot use. Assumed."""
JUDGES = 2.3e9
"""The libraries and the small judges beside a generator (demo: 3.9 GiB in all)."""
CLAIM_TOKENS = 40
"""Of a claim that the verifier reads (measured on the demo's text)."""
NODE = 8
"""GPUs of a node: what `hsdp` shards over."""


def kept(layers: int, width: int, hidden: int, precision: str) -> float:
    """Bytes per token that the blocks keep for the backward pass."""
    per_width, per_hidden = (50, 8) if precision == "bfloat16" else (56, 16)
    return float(layers * (per_width * width + per_hidden * hidden))


def logits(vocab: int, precision: str) -> float:
    """Bytes per token of the logits, of what the loss keeps of them, and of their gradient."""
    return vocab * (14.0 if precision == "bfloat16" else 12.0)


def training(model: ModelConfig, vocab: int, length: int, batch: int, hardware: HardwareConfig, world: int) -> float:
    """One process of `world` that train a model: weights, optimizer, and one microbatch."""
    count, rows = parameters(model, vocab), padded_vocab(model, vocab)
    half = hardware.precision == "bfloat16"
    if hardware.parallel == "ddp" or world == 1:
        states = count * (16.0 + (2 if half else 0) + (4 if world > 1 else 0))  # autocast's copies; the buckets of gradients
    else:
        over = world if hardware.parallel == "fsdp" else min(world, NODE)
        block = 4 * model.d_model**2 + 3 * model.d_model * model.hidden_size
        gathered = (2 * block + 2 * rows * model.d_model) * (2 if half else 4)  # this block and the next, and both tables
        states = count * 16.0 / over + gathered
    micro = min(hardware.microbatch, max(1, batch // world))
    each = kept(model.n_layers, model.d_model, model.hidden_size, hardware.precision) + logits(rows, hardware.precision)
    return states + micro * length * each


def pretrain(cfg: RunConfig, world: int) -> float:
    """One process of pretraining, without what its libraries hold."""
    p = cfg.pretrain
    return training(p.model, cfg.prepare.tokenizer.vocab_size, p.sequence_length, p.batch, p.hardware, world)


def probe(cfg: RunConfig, world: int) -> float:
    """The probe's training, alone on its device."""
    p = cfg.pretrain
    return training(p.model, cfg.prepare.tokenizer.vocab_size, p.sequence_length, cfg.probe.batch, cfg.probe.hardware, 1)


def judges(cfg: RunConfig, operation: str) -> float:
    """The large models that score one operation's texts in its process, and both models of influence in float32."""
    weights = {name for name, weight in cfg.rubric.weights[operation].items() if weight}
    there = 0.0
    if "influence" in weights:
        there += (1 + cfg.probe.replicas) * 4.0 * parameters(cfg.pretrain.model, cfg.prepare.tokenizer.vocab_size)
    for reference in large_judges(cfg, operation):
        there += 0.0 if is_server(reference) else 2.0 * size_of(reference).parameters
    return there


def large_judges(cfg: RunConfig, operation: str) -> list[str]:
    """References of the language models that score an operation's texts, a server's too."""
    weights = {name for name, weight in cfg.rubric.weights[operation].items() if weight}
    asked = []
    if "quality" in weights and cfg.judges.quality == "dataman":
        asked.append(cfg.judges.dataman)
    if "structure" in weights and cfg.judges.layout == "llm":
        asked.append(cfg.judges.layout_model)
    if cfg.train_verifier.kind == "llm":  # `synthesize` checks the claims of every operation
        asked.append(cfg.train_verifier.base)
    return asked


def passage_tokens(cfg: RunConfig) -> float:
    """Of a passage as a generator reads it."""
    p = cfg.prepare.passages
    return TOKENS_PER_WORD * (p.target_words or p.max_words or p.max_characters / 6)


def train_generator(cfg: RunConfig, operation: str, world: int = 1) -> float:
    """One of `world` processes of RL: the generator with its optimizer, the judges, and the larger of writing a step's answers
    and learning from a microbatch of them."""
    t, shape = cfg.train_generator, size_of(cfg.train_generator.base)
    read = passage_tokens(cfg) + PROMPT_TOKENS + t.tokens_of(operation)
    # Autocast's copies; the generator the round began with; the buckets of gradients.
    full = shape.parameters * (18.0 + (4 if t.beta else 0) + (4 if world > 1 else 0))
    block = kept(1, shape.width, shape.hidden, t.dtype)
    each = shape.layers * 4.0 * shape.width + block if t.checkpointing else shape.layers * block
    # Logits are made in tiles. (One process on a CPU computes the prompt of a group once and holds less: grpo/packed.py.)
    learning = t.micro_batch * read * each + 0.5e9
    side_by_side = min(t.batch_size, t.prompts_per_step * t.completions // world)
    writing = side_by_side * read * shape.cache * (4.0 if t.tuning == "full" else 2.0)  # in the weights' own precision
    return (full if t.tuning == "full" else 2.0 * shape.parameters) + max(learning, writing) + judges(cfg, operation)


def synthesize(cfg: RunConfig, operation: str) -> float:
    """Writing: the generator, the cache of a batch, and the judges."""
    shape = size_of(cfg.train_generator.base)
    read = passage_tokens(cfg) + PROMPT_TOKENS + cfg.synthesize.max_new_tokens[operation]
    return 2.0 * shape.parameters + cfg.synthesize.batch_size * read * shape.cache * 2.0 + judges(cfg, operation)


def verifier(cfg: RunConfig, world: int) -> float:
    """Fine-tuning the verifier, or nothing worth counting where it is no language model."""
    v = cfg.train_verifier
    if v.kind != "llm" or is_server(v.base):
        return 0.6e9
    shape = size_of(v.base)
    each = shape.layers * kept(1, shape.width, shape.hidden, v.dtype)
    read = passage_tokens(cfg) + 150 + CLAIM_TOKENS
    return shape.parameters * (2.0 if v.lora_rank else 18.0) + v.micro_batch * read * each


def of_stage(cfg: RunConfig, stage: str, world: int) -> float:
    """Bytes of one process of a stage (`pretrain`, `train-rephrase`, ...), without what its libraries hold."""
    kind, _, operation = stage.partition("-")
    if kind == "train":
        return train_generator(cfg, operation, world)
    if kind == "synthesize":
        return synthesize(cfg, operation)
    known: dict[str, Callable[[RunConfig, int], float]] = {"pretrain": pretrain, "probe": probe, "verifier": verifier}
    if kind in known:
        return known[kind](cfg, world)
    model = parameters(cfg.pretrain.model, cfg.prepare.tokenizer.vocab_size)
    return 4.0 * model if kind == "evaluate" else 0.0


Settings = dict[str, Any]
"""Keys of the config, as `--set` takes them, and their values."""


def remedies(cfg: RunConfig, stage: str) -> Iterator[Settings]:
    """Settings with which a stage holds less; those that cost least first."""
    kind, _, _ = stage.partition("-")
    t = cfg.train_generator
    if kind in ("pretrain", "probe"):
        hardware = cfg.pretrain.hardware if kind == "pretrain" else cfg.probe.hardware
        key = f"{kind}.hardware"
        yield from _halved(f"{key}.microbatch", hardware.microbatch, {}, {f"{key}.parallel": "fsdp"})
    elif kind == "train":
        less = {"train_generator.checkpointing": True}
        for more in ({}, less, less | {"train_generator.tuning": "lora"}):
            for halved in _halved("train_generator.micro_batch", t.micro_batch, more):
                yield from _halved("train_generator.batch_size", t.batch_size, halved)
    elif kind == "synthesize":
        yield from _halved("synthesize.batch_size", cfg.synthesize.batch_size, {})
    elif kind == "verifier":
        yield from _halved("train_verifier.micro_batch", cfg.train_verifier.micro_batch, {}, {"train_verifier.lora_rank": 16})


def _halved(key: str, number: int, *more: Settings) -> Iterator[Settings]:
    """The number and its halves, with each of the further settings."""
    for settings in more:
        value = number
        while value >= 1:
            yield settings | {key: value}
            value //= 2


def changed(cfg: RunConfig, settings: Settings) -> RunConfig:
    """The config with some settings changed. Raises SchemaError for those that do not go together."""
    table = plain(cfg)
    for key, value in settings.items():
        *path, last = key.split(".")
        place = table
        for part in path:
            place = place[part]
        place[last] = value
    return build(type(cfg), table)
