"""A transformers model in this process that generates text and scores options.

A judge on a CPU reads each chat in a call of its own: its answer must not change in its last bit with the texts that happen to
be beside the one it reads. On a GPU chats run in batches and may differ by rounding; what chats that are asked one after the
other begin with (a passage, of which several claims are checked) is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from synpro.engines.base import Sampling, Unanswered
from synpro.engines.chats import refusal
from synpro.engines.hf import HFEngine, common_prefix
from synpro.engines.options import check_options, match_option, option_probs
from synpro.records import Chat, Completion

CACHED_TOKENS = 32_768
"""Tokens of the chats that are read at once on a GPU: the keys and values of what they share are kept for each of them, 3.8 GB
for Qwen3-1.7B in bfloat16."""


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
        with self._reading():
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
        """Places of the prompts that are read at once: on a GPU those with a common beginning together, and like lengths."""
        if self.model.device.type == "cpu":
            yield from ([place] for place in range(len(prompts)))
            return
        alike = sorted(_alike(prompts), key=lambda some: len(prompts[some[0]]))
        yield from _fitting([place for some in alike for place in some], prompts, self.batch_size)

    def _last(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits after each prompt, (R, V)."""
        groups = _alike(prompts)
        cache, mask = None, torch.zeros(len(prompts), 0, dtype=torch.long, device=self.model.device)
        rests = list(prompts)
        # A sliding window counts the padding behind what is shared, so there each prompt is read whole.
        slides = getattr(self.model.config.get_text_config(), "sliding_window", None)
        if len(groups) < len(prompts) and not slides:  # what the prompts of a group begin with is read once for all of them
            alike = [[prompts[i] for i in some] for some in groups]
            lengths = [min(common_prefix(some), min(map(len, some)) - 1) for some in alike]
            first, seen = self.padded_left([prompts[some[0]][:n] for some, n in zip(groups, lengths, strict=True)])
            cache = self.read(first, seen, None, use_cache=True, logits_to_keep=1).past_key_values
            owners = torch.tensor([g for g, some in enumerate(groups) for _ in some], device=self.model.device)
            cache.batch_select_indices(owners)
            mask = seen[owners]
            rests = [prompts[i][n:] for some, n in zip(groups, lengths, strict=True) for i in some]
        ids, own = self.padded_left(rests)
        mask = torch.cat([mask, own], dim=1)
        return self.read(ids, mask, cache, use_cache=cache is not None, logits_to_keep=1).logits[:, -1]


def _fitting(order: Sequence[int], prompts: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Neighbours of `order` that are read at once: at most so many, and within `CACHED_TOKENS` with their padding."""
    batch: list[int] = []
    for place in order:
        longest = max(len(prompts[i]) for i in (*batch, place))
        if batch and (len(batch) == most or (len(batch) + 1) * longest > CACHED_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _alike(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of neighbouring prompts of which each has at least half in common with the one before."""
    groups: list[list[int]] = []
    for place, prompt in enumerate(prompts):
        if groups and 2 * common_prefix([prompts[place - 1], prompt]) >= len(prompt):
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
