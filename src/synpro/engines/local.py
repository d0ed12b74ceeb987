"""A transformers model in this process that generates text and scores options.

A judge on a CPU reads each chat in a call of its own: its answer must not change in its last bit with the texts that happen to
be beside the one it reads. On a GPU chats run in batches and may differ by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from synpro.engines.base import Sampling, Unanswered
from synpro.engines.chats import refusal
from synpro.engines.hf import HFEngine
from synpro.engines.options import check_options, match_option, option_probs
from synpro.records import Chat, Completion


class LocalModel(HFEngine):
    """Opened by `LocalModel.load(reference, dtype, batch_size=..., slot=...)`."""

    is_remote = False
    one_by_one = True
    """Whether `generate` on a CPU takes the chats one by one: yes for a judge, no for a generator."""

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/hf.py."""
        if not self.one_by_one or self.model is None or self.model.device.type != "cpu":
            return super().generate(chats, sampling)
        alone = super().generate
        return [group for chat in chats for group in alone([chat], sampling)]

    def score_options(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float] | Unanswered]:
        """As in engines/base.py."""
        if self.model is None:
            raise ValueError("the engine is closed")
        check_options(options)
        tokens = self._tokens(options)
        prompts = [self.encode(chat) for chat in chats]
        out: list[list[float] | Unanswered] = [Unanswered(refusal(prompt, self.context)) for prompt in prompts]
        fitting = [i for i, answer in enumerate(out) if isinstance(answer, Unanswered) and not answer.reason]
        with torch.no_grad(), self._evaluating():
            for rows in self._batches([prompts[i] for i in fitting]):
                numbers = [fitting[row] for row in rows]
                logprobs = self._last([prompts[i] for i in numbers]).float().log_softmax(-1)[:, list(tokens)].double()
                for i, values in zip(numbers, logprobs.tolist(), strict=True):
                    probs = option_probs(zip(tokens.values(), values, strict=True), options)
                    is_number = probs is not None and all(0 <= x <= 1 for x in probs)
                    nan = f"{self.model.config.name_or_path!r} answers NaN; use dtype float32, or check its weights"
                    out[i] = probs if probs is not None and is_number else Unanswered(nan)
        return out

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])

    def _tokens(self, options: Sequence[str]) -> dict[int, str]:
        """Ids with which an answer that becomes one of the options may begin, and their text."""
        found: dict[int, str] = {}
        for option in options:
            forms = [lead + option[:size] for size in range(1, len(option) + 1) for lead in ("", "Ġ", "▁")]
            known = [self.tokenizer.convert_tokens_to_ids(form) for form in forms]
            ids = [i for i, form in zip(known, forms, strict=True) if self.tokenizer.convert_ids_to_tokens(i or 0) == form]
            ids += [
                i for text in (option, " " + option) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"][:1]
            ]
            for i in ids:
                text = self.tokenizer.decode([i])
                if match_option(text, options) is not None:
                    found[i] = text
        missing = [option for j, option in enumerate(options) if all(match_option(t, options) != j for t in found.values())]
        if missing:
            raise ValueError(f"options: no token of this model begins {missing[0]!r} alone; use options that begin differently")
        return dict(sorted(found.items()))

    def _batches(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        size = 1 if self.model.device.type == "cpu" else self.batch_size
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for first in range(0, len(order), size):
            yield order[first : first + size]

    def _last(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits after each prompt, (R, V)."""
        span = max(map(len, prompts))
        ids = torch.tensor([[0] * (span - len(p)) + list(p) for p in prompts], device=self.model.device)
        mask = torch.tensor([[0] * (span - len(p)) + [1] * len(p) for p in prompts], device=self.model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
        return out.logits[:, -1]
