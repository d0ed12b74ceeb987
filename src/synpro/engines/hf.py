"""Generation in this process with a transformers model: on a CPU or a GPU, with loaded weights or a policy in training.

    engine = HFEngine.load(generator, dtype="bfloat16")        # a Generator record, a folder or an asset reference
    engine = HFEngine(policy, tokenizer, batch_size=64)        # a live model; a change of its weights is seen at the next call
    engine.generate_ids([[1, 5, 9], ...], sampling)            # token level, for RL rollouts: flat, `n` per prompt, in order

Greedy text equals that of `model.generate`. What differs is the speed (engines/cpu) and that each completion has a random
stream of its own, so that its text hardly depends on its neighbours (in 16 bits a matrix product may round differently at
another batch size; the same call always gives the same text on the same machine).

A live model may be a PeftModel: adapters run unmerged, because a merge into 16-bit weights rounds small updates away. Pass the
bare model, not one wrapped for data parallel training. Its train/eval flags and attention implementation are put back.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from synpro.assets.models import load_causal_lm
from synpro.engines.base import EngineError, Sampling, Unanswered
from synpro.engines.chats import complete, encode_chat, refusal
from synpro.engines.cpu.prepacked import PrepackedWeights
from synpro.engines.cpu.sampling import sample, uniforms
from synpro.engines.cpu.shared_prefix_cache import NAME, SharedPrefixCache, UnsupportedAttention
from synpro.engines.export import locate
from synpro.engines.failures import FailureCount
from synpro.records import Chat, Completion, Generator

PREFILL_TOKENS = 1024
"""Prompt tokens computed in one pass; few, so that prompts in a pass are of like length and their activations stay in the CPU's
cache."""


@dataclass
class _Request:
    """One completion under way."""

    prompt: int
    index: int
    last: int
    limit: int
    uniforms: torch.Tensor | None
    ids: list[int] = field(default_factory=list)
    failed: bool = False
    """Whether the model's logits were NaN."""

    def uniform(self) -> float:
        return 0.0 if self.uniforms is None else float(self.uniforms[len(self.ids)])


class HFEngine:
    """A transformers causal language model as an engine. Not safe to call from two threads at once."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int = 64,
        progress: Callable[[float, float], None] | None = None,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`batch_size` completions run side by side; `progress(done, total)` counts completions, started ones in part;
        `autocast()` is what a model in training computes in."""
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} completions at once is not possible; use 1 or more")
        self.model, self.tokenizer, self.batch_size, self.progress = model, tokenizer, batch_size, progress
        self.autocast, self.failures = autocast, FailureCount("answers to learn from")
        self._fast: bool | None = None
        self._weights: PrepackedWeights | None = PrepackedWeights(model)

    @classmethod
    def load(
        cls,
        generator: Generator | str | Path,
        dtype: str = "bfloat16",
        device: str | None = None,
        batch_size: int = 64,
        progress: Callable[[float, float], None] | None = None,
        slot: str = "generator",
    ) -> Self:
        """Open a generator (base plus adapter, or full weights), a model folder or an asset reference. `slot` is the config
        key that names it, for messages. Raises AssetError, and ValueError for a dtype torch does not know.
        """
        from transformers import AutoTokenizer

        kind = getattr(torch, dtype, None)
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            raise ValueError(f"dtype: {dtype!r} is not a floating point type; use bfloat16 or float32")
        folder, adapter = locate(generator if isinstance(generator, Generator) else str(generator), slot)
        model = load_causal_lm(folder, dtype=kind)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval().requires_grad_(False)
        return cls(
            model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False), batch_size=batch_size, progress=progress
        )

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py. Raises EngineError for a tokenizer without a chat template."""
        if self.model is None:
            raise ValueError("the engine is closed")
        prompts = [self.encode(chat) for chat in chats]
        refused = [refusal(prompt, self.context) for prompt in prompts]
        requests = iter(self._run([p for p, problem in zip(prompts, refused, strict=True) if not problem], sampling))
        return [
            [Completion.failed(problem) if problem else self._completion(next(requests)) for _ in range(sampling.n)]
            for problem in refused
        ]

    def _completion(self, request: _Request) -> Completion:
        if request.failed:
            return Completion.failed(self._nan(request))
        finish = "stop" if request.ids and request.ids[-1] in self.ends() else "length"
        return complete(self.tokenizer.decode(request.ids, skip_special_tokens=True), len(request.ids), finish)

    def encode(self, chat: Chat) -> list[int]:
        """The token ids of a chat up to where the answer begins. Raises as `encode_chat`."""
        return encode_chat(self.tokenizer, chat)

    @property
    def context(self) -> int | None:
        """Tokens of prompt and answer that the model was made for; None where it does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def generate_ids(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """`sampling.n` completions of each prompt, flat and in order; the token that ends the turn is part of them.

        One after which the logits were NaN is cut before its last token: training would read that one again, and every loss of
        its row would be NaN. `failures` counts these. Raises ValueError for an empty prompt or one that leaves no room for an
        answer, EngineError, which names the prompt, where nothing is left, and TooManyFailures.
        """
        if self.model is None:
            raise ValueError("the engine is closed")
        for number, prompt in enumerate(prompts):
            if problem := refusal(list(prompt), self.context):
                raise ValueError(f"chat {number}: {problem}; cut passages shorter or use a model with a longer context")
        requests = self._run(prompts, sampling)
        for request in requests:
            if request.failed and len(request.ids) < 2:
                shown = self.tokenizer.decode(list(prompts[request.prompt])[-100:])
                raise EngineError(f"chat {request.prompt}: {self._nan(request)}. The prompt ends with {shown!r}")
        self.failures.add(Unanswered(self._nan(r)) if r.failed else r.ids for r in requests)
        return [r.ids[:-1] if r.failed else r.ids for r in requests]

    def _run(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[_Request]:
        """The finished completions of prompts that fit."""
        if not prompts:
            return []
        requests = self._requests(prompts, sampling)
        with self._reading(), self.autocast():
            if self._is_fast():
                with self._attention():
                    self._shared_prefix(prompts, requests, sampling)
            else:
                self._padded(prompts, requests, sampling)
        return requests

    def _nan(self, request: _Request) -> str:
        name, dtype = self.model.config.name_or_path, str(self.model.dtype).removeprefix("torch.")
        return f"the logits of {name!r} ({dtype}) are NaN after {len(request.ids)} tokens; use float32, or check its weights"

    def ends(self) -> set[int]:
        """The ids that end a turn: the tokenizer's and those of the model's generation config."""
        configured = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return {i for i in (*ids, self.tokenizer.eos_token_id) if i is not None}

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        self.model, self._weights = None, None

    def _requests(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[_Request]:
        requests = []
        for number, prompt in enumerate(prompts):
            room = min(sampling.max_new_tokens, (self.context or sys.maxsize) - len(prompt))
            for index in range(sampling.n):
                stream = uniforms(sampling.seed, prompt, index, room) if sampling.temperature > 0 else None
                requests.append(_Request(number, index, prompt[-1], room, stream))
        return requests

    def _shared_prefix(self, prompts: Sequence[Sequence[int]], requests: Sequence[_Request], sampling: Sampling) -> None:
        """Continuous batching over a shared prefix: rows that finish make room for the next prompts."""
        device = self.model.device
        rows = SharedPrefixCache(min(self.batch_size, len(requests)), device)
        # The last token of every prompt is left to the first step, which computes the logits of all rows.
        prefix = min(common_prefix(prompts), min(map(len, prompts)) - 1)
        if prefix:
            rows.fill_prefix(prefix)
            self._forward(torch.tensor([prompts[0][:prefix]]), torch.arange(prefix)[None], rows)
        # Neighbours of like length waste the least padding; the sort is stable, so completions of one prompt stay together.
        queue = deque(sorted(requests, key=lambda request: -len(prompts[request.prompt])))
        active: list[_Request] = []
        ends, finished = self.ends(), 0
        while queue or active:
            free = rows.capacity - len(active)
            if queue and (not active or free >= max(1, rows.capacity // 8)):
                taken = [queue.popleft() for _ in range(min(free, len(queue)))]
                self._prefill(prompts, taken, rows, prefix)
                active += taken
            rows.step()
            logits = self._forward(torch.tensor([[request.last] for request in active]), rows.positions(), rows)
            self._sample(active, logits, sampling)
            for row in reversed(range(len(active))):
                if active[row].failed or active[row].last in ends or len(active[row].ids) == active[row].limit:
                    rows.drop(row)
                    active[row] = active[-1]
                    active.pop()
                    finished += 1
            self._report(finished, active, len(requests))

    def _prefill(
        self, prompts: Sequence[Sequence[int]], taken: Sequence[_Request], rows: SharedPrefixCache, prefix: int
    ) -> None:
        """Compute what the prompts of new rows have of their own, each prompt once, a bounded number of tokens at a time."""
        copies: dict[int, int] = {}
        for request in taken:
            copies[request.prompt] = copies.get(request.prompt, 0) + 1
        waiting = list(copies)
        while waiting:
            longest = max(1, len(prompts[waiting[0]]) - prefix)  # they come longest first
            some, waiting = waiting[: max(1, PREFILL_TOKENS // longest)], waiting[max(1, PREFILL_TOKENS // longest) :]
            rests = [list(prompts[i][prefix:-1]) for i in some]
            rows.fill([len(rest) for rest in rests], [copies[i] for i in some])
            span = max(map(len, rests))
            if span:
                ids = torch.tensor([rest + [0] * (span - len(rest)) for rest in rests])
                self._forward(ids, torch.arange(prefix, prefix + span).expand(len(rests), -1), rows)

    def _padded(self, prompts: Sequence[Sequence[int]], requests: Sequence[_Request], sampling: Sampling) -> None:
        """The plain way, for models with another attention: left padding, the model's own cache."""
        queue = sorted(requests, key=lambda request: -len(prompts[request.prompt]))
        ends, finished = self.ends(), 0
        last = {"logits_to_keep": 1} if self.model._supports_logits_to_keep() else {}  # else it has those of the whole prompt
        for first in range(0, len(queue), self.batch_size):
            batch = queue[first : first + self.batch_size]
            ids, mask = self.padded_left([prompts[request.prompt] for request in batch])
            cache, live = None, list(batch)
            while live:
                out = self.read(ids, mask, cache, use_cache=True, **last)
                cache = out.past_key_values
                self._sample(live, out.logits[[batch.index(request) for request in live], -1], sampling)
                live = [r for r in live if not r.failed and r.last not in ends and len(r.ids) < r.limit]
                ids = torch.tensor([[request.last] for request in batch], device=self.model.device)
                mask = torch.cat([mask, mask.new_ones(len(batch), 1)], dim=1)
                self._report(finished + len(batch) - len(live), live, len(requests))
            finished += len(batch)

    def padded_left(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of prompts, (R, T), padded to one length."""
        span = max(map(len, prompts))
        ids = torch.tensor([[0] * (span - len(p)) + list(p) for p in prompts], device=self.model.device)
        mask = torch.tensor([[0] * (span - len(p)) + [1] * len(p) for p in prompts], device=self.model.device)
        return ids, mask

    def read(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any, **more: Any) -> Any:
        """The model's output for ids that go on from `cache`; `mask` is over all that was read."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, **more)

    def _sample(self, active: Sequence[_Request], logits: torch.Tensor, sampling: Sampling) -> None:
        """Sample the next token of every row; one whose logits are NaN has failed."""
        uniform = torch.tensor([request.uniform() for request in active], dtype=torch.float64)
        chosen = sample(logits, uniform, sampling.temperature, sampling.top_p)
        broken = logits.amax(-1).isnan().tolist()  # NaN if any is
        for request, token, is_broken in zip(active, chosen.tolist(), broken, strict=True):
            if is_broken:
                request.failed = True
                continue
            request.last = token
            request.ids.append(token)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, rows: SharedPrefixCache) -> torch.Tensor:
        """Logits of the last position of each row, (R, V)."""
        device = self.model.device
        out = self.model(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            past_key_values=rows,
            use_cache=True,
            logits_to_keep=1,
            shared_prefix=rows,
        )
        return out.logits[:, -1]

    def _report(self, finished: int, active: Sequence[_Request], total: int) -> None:
        if self.progress is not None:
            self.progress(finished + sum(len(request.ids) / request.limit for request in active), total)

    def _is_fast(self) -> bool:
        """Whether the shared-prefix cache gives this model's own logits; tried once on a few tokens."""
        if self._fast is None:
            try:
                self._verify()
                self._fast = True
            except UnsupportedAttention as problem:
                name = self.model.config.name_or_path or type(self.model).__name__
                warnings.warn(f"{name} generates without the shared-prefix cache, slower: {problem}", stacklevel=3)
                self._fast = False
        return self._fast

    def _verify(self) -> None:
        config = self.model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        if windowed or kinds != {"full_attention"}:
            raise UnsupportedAttention("not all of its layers attend to the whole context")
        base = self._base()
        if not getattr(base, "_supports_attention_backend", False):
            raise UnsupportedAttention("its attention cannot be replaced")
        ids = min(config.vocab_size, 64)
        prompts = [[i * 7 % ids for i in range(9)], [i * 7 % ids for i in range(5)] + [1, 3 % ids]]
        want = torch.stack([self.model(torch.tensor([p], device=self.model.device)).logits[0, -1] for p in prompts]).float()
        with self._attention():
            rows = SharedPrefixCache(2, self.model.device)
            rows.fill_prefix(3)
            try:
                self._forward(torch.tensor([prompts[0][:3]]), torch.arange(3)[None], rows)
                self._prefill(prompts, [_Request(i, 0, p[-1], 1, None) for i, p in enumerate(prompts)], rows, prefix=3)
                rows.step()
                got = self._forward(torch.tensor([[p[-1]] for p in prompts]), rows.positions(), rows).float()
            except TypeError as problem:
                raise UnsupportedAttention(f"its forward pass refuses an argument ({problem})") from problem
        error = float((got - want).abs().max() / want.abs().max().clamp(min=1e-6))
        exact = self.model.dtype == torch.float32 and not torch.is_autocast_enabled(self.model.device.type)
        if not error < (1e-3 if exact else 5e-2):
            raise UnsupportedAttention(
                f"attention over the shared-prefix cache differs from its own by {error:.2g} of the largest logit"
            )

    def _base(self) -> Any:
        """The transformers model inside adapters."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @contextlib.contextmanager
    def _attention(self) -> Iterator[None]:
        base = self._base()
        own = base.config._attn_implementation
        base.set_attn_implementation(NAME)
        try:
            yield
        finally:
            base.set_attn_implementation(own)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Evaluation mode (no dropout, no gradient checkpointing), no gradients, frozen weights prepacked, and every module as
        it was afterwards."""
        assert self._weights is not None, "the engine is closed"
        flags = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad(), self._weights.applied():
                yield
        finally:
            for module, flag in flags:
                module.training = flag


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with: the first and the last in sorted order differ the earliest."""
    first, last = min(map(list, prompts)), max(map(list, prompts))
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
