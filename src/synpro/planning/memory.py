"""Bytes that one process of each stage holds at its largest, from the config alone.

What a block stores for its backward pass was counted with PyTorch's saved-tensor hooks on OLMo-core's eager model
(`tests/planning/test_memory.py`); a compiled one stores less. The rest is arithmetic: 16 bytes per trained weight for itself,
its gradient and Adam's two moments in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from synpro.config import RunConfig, plain
from synpro.engines.base import EngineSpec
from synpro.engines.vllm import MEMORY_UTILIZATION, VLLMConfig
from synpro.judges.base import JudgeConfig
from synpro.lm.model_config import ModelConfig, num_parameters, padded_vocab_size
from synpro.lm.training_config import HardwareConfig
from synpro.planning.model_sizes import ModelSizeError, model_size
from synpro.rewards.registry import needs_of
from synpro.schema import build

PROMPT_TOKENS = 280
"""Instruction and worked example around a passage (measured with SmolLM2's tokenizer)."""
TOKENS_PER_WORD = 1.35
"""Tokens of an English word in the tokenizer of a large language model."""
CLAIM_TOKENS = 40
"""Tokens of a claim that the verifier reads (measured on the demo's text)."""
CLAIM_PROMPT_TOKENS = 150
"""Instruction around a claim and its passage, for a language model that checks it."""
LIBRARY_BYTES = 0.6e9
"""Python, PyTorch and its libraries in a process on a CPU (demo: 0.6 GiB)."""
BYTES_PER_DOCUMENT = 1350.0
"""Memory of `prepare` for each document, from a run over a million. The training of a tokenizer is the larger part of it
(docs/LOG.md)."""
RESERVED_GPU_BYTES = 3.2e9
"""On a GPU: CUDA's context, communication buffers, and what the allocator cannot use. Assumed."""
JUDGE_PROCESS_BYTES = 1.4e9
"""The libraries beside a generator and its judges (demo: 4.4 GiB in all)."""
ENCODER_BATCH_TOKENS, ENCODER_CACHED_TOKENS, ENCODER_VOCABULARY = 4096, 200_000, 50_000
"""What the encoder reads at once on a GPU, and whose states it keeps (`judges/encoder.py`); rows of its table (DeBERTa's)."""
JUDGE_CACHED_TOKENS = 32_768
"""Most tokens whose keys and values a judge on a GPU holds at once (`engines/local.py`)."""
GPUS_PER_NODE = 8
"""GPUs of a node, which `hsdp` shards over."""


def activation_bytes(n_layers: int, d_model: int, hidden_size: int, dtype: str) -> float:
    """Bytes per token that the blocks store for the backward pass."""
    per_width, per_hidden = (50, 8) if dtype == "bfloat16" else (56, 16)
    return float(n_layers * (per_width * d_model + per_hidden * hidden_size))


def logit_bytes(vocab: int, dtype: str) -> float:
    """Bytes per token of the logits, of what the loss stores of them, and of their gradient."""
    return vocab * (14.0 if dtype == "bfloat16" else 12.0)


def training_bytes(model: ModelConfig, vocab: int, length: int, batch_size: int, hardware: HardwareConfig, world: int) -> float:
    """One of `world` processes that train a model: weights, optimizer, and one micro-batch."""
    count, rows = num_parameters(model, vocab), padded_vocab_size(vocab)
    dtype = "float32" if hardware.dtype == "float32" else "bfloat16"  # `auto` is bfloat16 on a GPU
    half = dtype == "bfloat16"
    if hardware.parallel == "ddp" or world == 1:
        states = count * (16.0 + (2 if half else 0) + (4 if world > 1 else 0))  # autocast's copies; the buckets of gradients
    else:
        over = world if hardware.parallel == "fsdp" else min(world, GPUS_PER_NODE)
        block = 4 * model.d_model**2 + 3 * model.d_model * model.hidden_size
        gathered = (2 * block + 2 * rows * model.d_model) * (2 if half else 4)  # this block and the next, and both tables
        states = count * 16.0 / over + gathered
    micro = min(hardware.micro_batch_size, max(1, batch_size // world))
    per_token = activation_bytes(model.n_layers, model.d_model, model.hidden_size, dtype)
    return states + micro * length * (per_token + logit_bytes(rows, dtype))


def judge_bytes(cfg: RunConfig, operation: str, device_bytes: float = 0.0) -> float:
    """The judges of one operation's texts in its process, and the models of influence in float32. On a GPU (`device_bytes`)
    also the largest cache of a language model that reads a batch; on a CPU it reads one text at a time."""
    total = small_judge_bytes(cfg, operation)
    if "probe" in needs_of(cfg.operations[operation].weights):
        total += (1 + cfg.probe.replicas) * 4.0 * num_parameters(cfg.pretrain.shape, cfg.vocab_size)
    caches, length = [0.0], passage_tokens(cfg) + CLAIM_PROMPT_TOKENS + CLAIM_TOKENS
    for judge in language_judges(cfg, operation):
        if isinstance(engine := judge.engine, VLLMConfig):
            total += device_bytes * (engine.gpu_memory_utilization or MEMORY_UTILIZATION["judge"])
        elif engine.reads_weights:
            size = model_size(judge.model)
            total += weight_bytes(size.parameters, device_bytes)
            caches.append(2.0 * size.kv_cache * min(JUDGE_CACHED_TOKENS, engine.batch_size * length))
    return total + (max(caches) if device_bytes else 0.0)


def small_judge_bytes(cfg: RunConfig, operation: str) -> float:
    """The encoder, in float32 with its table, what it reads at once and the states that it keeps, and the model of fluency,
    where they are in use; nothing for one whose size is not known before it is fetched."""
    needs, verifier, total = needs_of(cfg.operations[operation].weights), cfg.train_verifier, 0.0
    with suppress(ModelSizeError):
        if "encoder" in needs or verifier.kind == "features":
            size = model_size(cfg.judges.encoder.model)
            reading = ENCODER_BATCH_TOKENS * (size.hidden_size + 30 * size.d_model)  # 24 of the 30: attention, of 512 tokens
            states = (ENCODER_CACHED_TOKENS + ENCODER_VOCABULARY) * size.d_model
            total += 4.0 * (size.parameters + states + reading)
    with suppress(ModelSizeError):
        if "quality" in needs and cfg.judges.quality == "fluency":
            width = 4.0 if cfg.judges.fluency.dtype == "float32" else 2.0
            total += width * model_size(cfg.judges.fluency.model).parameters
    return total


def language_judges(cfg: RunConfig, operation: str) -> list[JudgeConfig]:
    """The language models that score an operation's texts, on this machine or behind a server; the small ones not."""
    needs, judges = needs_of(cfg.operations[operation].weights), list[JudgeConfig]()
    if "quality" in needs and cfg.judges.quality == "dataman":
        judges.append(cfg.judges.dataman)
    if "layout" in needs and cfg.judges.layout == "llm":
        judges.append(cfg.judges.layout_model)
    if cfg.train_verifier.kind == "llm":  # `synthesize` checks the claims of every operation
        judges.append(JudgeConfig(cfg.train_verifier.base, cfg.judges.verifier.engine))
    return judges


def passage_tokens(cfg: RunConfig) -> float:
    """Tokens of a passage in the tokenizer of a generator."""
    p = cfg.prepare.passages
    return TOKENS_PER_WORD * min(p.target_words or p.max_words or math.inf, p.max_characters / 6)


def weight_bytes(parameters: float, device_bytes: float) -> float:
    """The weights of a language model that only answers, in 16 bits; on a CPU at most once more in blocks (engines/cpu)."""
    return parameters * (2.0 if device_bytes else 4.0)


def train_generator_bytes(cfg: RunConfig, operation: str, world: int = 1, device_bytes: float = 0.0) -> float:
    """One of `world` processes of RL: the generator with its optimizer, the judges, and the larger of generating the answers of
    a step and learning from a micro-batch of them. vLLM takes its share of `device_bytes`."""
    t, size = cfg.train_generator, model_size(cfg.train_generator.base)
    length = passage_tokens(cfg) + PROMPT_TOKENS + cfg.operations[operation].max_new_tokens
    trained = size.parameters * (18.0 + (4 if t.beta else 0))  # autocast's copies; the generator the round began with
    block = activation_bytes(1, size.d_model, size.hidden_size, t.dtype)
    per_token = size.n_layers * 4.0 * size.d_model + block if t.gradient_checkpointing else size.n_layers * block
    # Logits are computed in tiles. (One process on a CPU computes the prompt of a group once and holds less: engines/cpu.)
    learning = t.micro_batch_size * length * per_token + 0.5e9
    side_by_side = min(t.engine.batch_size, t.answers_per_step // world)
    generating = side_by_side * length * size.kv_cache * (4.0 if t.tuning == "full" else 2.0)  # in the weights' own dtype
    if isinstance(t.engine, VLLMConfig):  # it has a share of the device of its own, and gives it back only if it sleeps
        generating = device_bytes * (t.engine.gpu_memory_utilization or MEMORY_UTILIZATION["judge"])
        learning += 0 if t.engine.enable_sleep_mode else generating
    weights = trained if t.tuning == "full" else weight_bytes(size.parameters, device_bytes)
    return weights + max(learning, generating) + judge_bytes(cfg, operation, device_bytes)


def synthesize_bytes(cfg: RunConfig, operation: str, device_bytes: float = 0.0) -> float:
    """Synthesis: the generator, the cache of a batch, and the judges."""
    size = model_size(cfg.train_generator.base)
    if isinstance(engine := cfg.synthesize.engine, VLLMConfig):  # closed before the judges open
        share = engine.gpu_memory_utilization or MEMORY_UTILIZATION["generator"]
        return max(device_bytes * share, judge_bytes(cfg, operation, device_bytes))
    length = passage_tokens(cfg) + PROMPT_TOKENS + cfg.operations[operation].max_new_tokens
    cache = cfg.synthesize.engine.batch_size * length * size.kv_cache * 2.0
    return weight_bytes(size.parameters, device_bytes) + cache + judge_bytes(cfg, operation, device_bytes)


def verifier_bytes(cfg: RunConfig) -> float:
    """Fine-tuning the verifier. Where it is no language model, it needs little."""
    v = cfg.train_verifier
    if v.kind != "llm" or not cfg.judges.verifier.engine.reads_weights:
        return 0.6e9
    size = model_size(v.base)
    per_token = size.n_layers * activation_bytes(1, size.d_model, size.hidden_size, v.dtype)
    length = passage_tokens(cfg) + CLAIM_PROMPT_TOKENS + CLAIM_TOKENS
    return size.parameters * (2.0 if v.lora_rank else 18.0) + v.micro_batch_size * length * per_token


def stage_bytes(cfg: RunConfig, stage: str, world: int, device_bytes: float = 0.0) -> float:
    """Bytes of one of `world` processes of a stage (`pretrain`, `train-rephrase`, ...), without those of its libraries.
    `device_bytes`: memory of its GPU, of which vLLM takes a share."""
    kind, _, operation = stage.partition("-")
    p, vocab = cfg.pretrain, cfg.vocab_size
    match kind:
        case "train":
            return train_generator_bytes(cfg, operation, world, device_bytes)
        case "synthesize":
            return synthesize_bytes(cfg, operation, device_bytes)
        case "verifier":
            return verifier_bytes(cfg)
        case "pretrain":
            return training_bytes(p.shape, vocab, p.sequence_length, p.batch_size, p.hardware, world)
        case "probe":  # alone on its device
            return training_bytes(p.shape, vocab, p.sequence_length, cfg.probe.batch_size, cfg.probe.hardware, 1)
        case "evaluate":
            return 4.0 * num_parameters(p.shape, vocab)
    return 0.0


Overrides = dict[str, Any]
"""Keys of the config, as `--set` takes them, and their values."""


def suggestions(cfg: RunConfig, stage: str) -> Iterator[Overrides]:
    """Settings with which a stage holds less, the cheapest first."""
    kind, _, _ = stage.partition("-")
    t = cfg.train_generator
    if kind in ("pretrain", "probe"):
        hardware = cfg.pretrain.hardware if kind == "pretrain" else cfg.probe.hardware
        key = f"{kind}.hardware"
        yield from _halved(f"{key}.micro_batch_size", hardware.micro_batch_size, {}, {f"{key}.parallel": "fsdp"})
    elif kind == "train":
        less = {"train_generator.gradient_checkpointing": True}
        for more in ({}, less, less | {"train_generator.tuning": "lora"}):
            for halved in _halved("train_generator.micro_batch_size", t.micro_batch_size, more):
                yield from _smaller_batches("train_generator", t.engine, halved)
    elif kind == "synthesize":
        yield from _smaller_batches("synthesize", cfg.synthesize.engine, {})
    elif kind == "verifier":
        v = cfg.train_verifier
        yield from _halved("train_verifier.micro_batch_size", v.micro_batch_size, {}, {"train_verifier.lora_rank": 16})


def _smaller_batches(table: str, engine: EngineSpec, settings: Overrides) -> Iterator[Overrides]:
    """The settings with smaller batches of generation, where the engine has such a key."""
    if engine.type == "transformers":
        yield from _halved(f"{table}.engine.batch_size", engine.batch_size, settings)
    elif isinstance(engine, VLLMConfig):
        for share in (engine.gpu_memory_utilization, 0.3, 0.2, 0.15, 0.1):
            yield settings | ({f"{table}.engine.gpu_memory_utilization": share} if share else {})
    else:
        yield settings


def _halved(key: str, number: int, *more: Overrides) -> Iterator[Overrides]:
    """The number and its halves, with each of the further settings."""
    for settings in more:
        value = number
        while value >= 1:
            yield settings | {key: value}
            value //= 2


def with_settings(cfg: RunConfig, settings: Overrides) -> RunConfig:
    """The config with other values for some settings. Raises SchemaError for those that do not go together."""
    table = plain(cfg)
    for key, value in settings.items():
        *path, last = key.split(".")
        place = table
        for part in path:
            place = place[part]
        place[last] = value
    return build(type(cfg), table)
