"""Generated tokens per second of our engines, and of the library below each, called directly: the same model, prompts,
sampling and limit, counted up to the end token."""

from __future__ import annotations

import importlib.util
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Measurement, compare_pairs, measure_pairs, open_run
from synpro.assets import model_folder
from synpro.config import RunConfig
from synpro.corpus.store import read_passages
from synpro.engines.base import Sampling
from synpro.engines.hf import HFEngine
from synpro.operations.registry import build_operation
from synpro.records import Chat, Corpus

VLLM = "vLLM engine / vLLM called directly"


def prompts_and_sampling(cfg: RunConfig, corpus: Corpus, count: int) -> tuple[list[Chat], Sampling]:
    """Prompts to rephrase the run's first passages, and how the run samples."""
    operation = build_operation(next(iter(cfg.operations.values())))
    return [operation.prompt(p) for p in read_passages(corpus.dir)[:count]], operation.config.sampling(seed=1)


def with_generate(model: Any, tokenizer: Any, chats: list[Chat], sampling: Sampling, batch: int) -> float:
    """Tokens per second of `model.generate` over batches of prompts as they come, padded to the longest of each."""
    tokenizer.padding_side = "left"
    torch.manual_seed(sampling.seed)
    texts = [tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True) for chat in chats]
    ends = {tokenizer.eos_token_id, *_ids(model.generation_config.eos_token_id)}
    began, tokens = time.perf_counter(), 0
    for i in range(0, len(texts), batch):
        inputs = tokenizer(texts[i : i + batch], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            done = model.generate(
                **inputs,
                do_sample=sampling.temperature > 0,
                temperature=sampling.temperature or None,
                top_p=sampling.top_p,
                top_k=0,
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        for row in done[:, inputs["input_ids"].shape[1] :].tolist():
            tokens += next((n + 1 for n, token in enumerate(row) if token in ends), len(row))
    return tokens / (time.perf_counter() - began)


def with_engine(engine: Any, chats: list[Chat], sampling: Sampling) -> float:
    """Tokens per second of one of our engines."""
    began = time.perf_counter()
    tokens = sum(completion.tokens for group in engine.generate(chats, sampling) for completion in group)
    return tokens / (time.perf_counter() - began)


def measure(run: Path, count: int, prompts: int = 32) -> list[Measurement]:
    """Our transformers engine beside `generate`, and our vLLM path beside vLLM where it is installed."""
    cfg, corpus = open_run(run)
    chats, sampling = prompts_and_sampling(cfg, corpus, prompts)
    base, batch = cfg.train_generator.base, min(cfg.synthesize.engine.batch_size, prompts)
    dtype = cfg.synthesize.engine.result_settings().get("dtype", "bfloat16")
    engine = HFEngine.load(base, dtype, batch_size=batch)
    model, tokenizer = engine.model, engine.tokenizer
    with_engine(engine, chats[:2], sampling)
    plainly = partial(with_generate, model, tokenizer, chats, sampling, batch)
    a, b = measure_pairs(partial(with_engine, engine, chats, sampling), plainly, count)
    note = f"{len(chats)} passages, {batch} side by side, at most {sampling.max_new_tokens} new tokens, {dtype}"
    out = [compare_pairs("transformers engine / padded `generate`", "tokens/s", a, b, least=1.5, note=note)]
    if importlib.util.find_spec("vllm") is None:
        return [
            *out,
            Measurement(VLLM, None, None, "tokens/s", bound="at least 0.95", note="vLLM is not installed here"),
        ]
    return [*out, _vllm(cfg, base, dtype, chats, sampling, count)]


def _vllm(cfg: RunConfig, base: str, dtype: Any, chats: list[Chat], sampling: Sampling, count: int) -> Measurement:
    from vllm import SamplingParams

    from synpro.engines.vllm import VLLMConfig, VLLMModel, llm_arguments

    folder = model_folder(base, slot="train_generator.base")
    import vllm

    chosen = cfg.synthesize.engine
    settings = chosen if isinstance(chosen, VLLMConfig) else VLLMConfig(dtype=dtype)
    engine = VLLMModel(vllm.LLM(**llm_arguments(settings, folder, "generator", None, "synthesize")))
    llm = engine.llm

    def direct() -> float:
        parameters = SamplingParams(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_new_tokens)
        began = time.perf_counter()
        done = llm.chat([list(chat) for chat in chats], sampling_params=parameters, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in done) / (time.perf_counter() - began)

    with_engine(engine, chats, sampling)  # fills vLLM's cache of the worked example, for both
    a, b = measure_pairs(partial(with_engine, engine, chats, sampling), direct, count)
    engine.close()
    note = f"{len(chats)} passages, seeds per request in ours only"
    return compare_pairs(VLLM, "tokens/s", a, b, least=0.95, note=note)


def _ids(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]
