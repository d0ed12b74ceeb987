"""Keys and values of a batch of chats that begin alike, and the attention that reads them.

The idea (known as cascade attention): every chat of an operation begins with the same instruction and worked example. The keys
and values of that prefix are computed once and stored once, without a row dimension. At each new token the queries of all rows
are stacked into one matrix and multiplied with the prefix' keys in a single product, while the tokens that a row has of its own
are in per-row buffers, written in place. The scores of both parts go through one softmax, so the result is that of ordinary
attention up to rounding. In `generate` of transformers the prefix is stored and read once per row, and the whole cache is
copied at every token: at batch 64 that was 47% and 39% of the time on two cores, which left 10% for the weights.

Suffixes of names: R rows, H key heads, G query heads per key head, T new tokens, P prefix tokens, L own tokens, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.cache_utils import Cache

NAME = "synpro_shared_prefix"
BLOCK = 128
"""Columns by which the buffers grow, in tokens."""


class UnsupportedAttention(Exception):
    """The attention of the model does something that this cache does not support."""


class SharedPrefixCache(Cache):
    """Keys and values of one batch: a shared prefix, and rows of their own lengths. Rows `0..count` are in use.

    Use: `fill_prefix()`, then a forward pass over the prefix; `fill(...)`, then one over the rest of new prompts; `step()`,
    then one over the next token of every row. Models hand new keys to `update` and queries to `attend`.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        super().__init__(layers=[])
        self.capacity = capacity
        self.device = device
        self.prefix = 0
        self.count = 0
        self.lengths_R = torch.zeros(capacity, dtype=torch.long)
        # Of each layer: keys (H, D, P) and values (H, P, D) of the prefix; of the rows (R, H, D, columns), (R, H, columns, D).
        self._prefix, self._own = list[tuple[torch.Tensor, torch.Tensor]](), list[tuple[torch.Tensor, torch.Tensor]]()
        self._mode = "prefix"
        self._of: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None
        self._index: tuple[torch.Tensor, torch.Tensor] | None = None
        self._span = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens before the next one; only models that make up positions ask, and ours are given."""
        return 0 if self._mode == "prefix" else self.prefix

    def fill_prefix(self, tokens: int) -> None:
        """The next forward pass is over the shared prefix, as one row."""
        self._mode, self.prefix = "prefix", tokens

    def fill(self, lengths: list[int], copies: list[int]) -> None:
        """The next forward pass is over the rest of some prompts, padded on the right to one length; prompt `i` has
        `lengths[i]` tokens there and becomes `copies[i]` new rows."""
        self._mode, self._span = "fill", max(lengths)
        self._of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(copies))
        first, self.count = self.count, self.count + len(self._of)
        self.lengths_R[first : self.count] = torch.tensor(lengths)[self._of]

    def step(self) -> None:
        """The next forward pass is over one token for every row."""
        self._mode = "step"
        lengths_R = self.lengths_R[: self.count]
        self._span = int(lengths_R.max()) + 1
        self._index = (torch.arange(self.count, device=self.device), lengths_R.to(self.device, copy=True))
        seen = torch.arange(self._span)[None, :] <= lengths_R[:, None]
        mask = torch.zeros(self.count, 1, 1, self._span).masked_fill_(~seen[:, None, None, :], float("-inf"))
        self._mask = mask.to(self.device) if not bool(seen.all()) else None
        self.lengths_R[: self.count] += 1

    def positions(self) -> torch.Tensor:
        """Position of the token that each row computes in the pass that `step` announced, (R, 1)."""
        return (self.prefix + self.lengths_R[: self.count, None] - 1).to(self.device)

    def drop(self, row: int) -> None:
        """Free a row: the last one takes its place. The caller's own lists must do the same."""
        last = self.count - 1
        if row != last:
            for keys, values in self._own:
                keys[row].copy_(keys[last])
                values[row].copy_(values[last])
            self.lengths_R[row] = self.lengths_R[last]
        self.count = last

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values, each (R, H, T, D), of one layer."""
        if self._mode == "prefix":
            self._prefix.append((key_states[0].transpose(1, 2).contiguous(), value_states[0].contiguous()))
            return key_states, value_states
        keys, values = self._room(layer_idx, key_states, value_states)
        if self._mode == "fill":
            assert self._of is not None
            of, first = self._of.to(key_states.device), self.count - len(self._of)
            keys[first : self.count, :, :, : self._span] = key_states[of].transpose(2, 3)
            values[first : self.count, :, : self._span] = value_states[of]
        else:
            assert self._index is not None
            row, column = self._index
            keys[row, :, :, column] = key_states[:, :, 0]
            values[row, :, column] = value_states[:, :, 0]
        return key_states, value_states

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        """Attention of queries (R, H * G, T, D) over what `update` stored; returns (R, T, H * G, D)."""
        if self._mode == "step":
            return self._attend_step(layer, query, scale)
        rows, heads = query.shape[0], key.shape[1]
        mask = None
        if self._mode == "fill" and self.prefix:
            prefix_keys, prefix_values = self._prefix[layer]
            key = torch.cat([prefix_keys.transpose(1, 2).expand(rows, -1, -1, -1), key], dim=2)
            value = torch.cat([prefix_values.expand(rows, -1, -1, -1), value], dim=2)
            # Padding is on the right, after every token that is read later: the causal mask hides it.
            new = query.shape[2]
            mask = torch.ones(new, self.prefix + new, dtype=torch.bool, device=query.device).tril(self.prefix)
        groups = query.shape[1] // heads
        out = functional.scaled_dot_product_attention(
            query,
            key.repeat_interleave(groups, dim=1),
            value.repeat_interleave(groups, dim=1),
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
        )
        return out.transpose(1, 2)

    def _attend_step(self, layer: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        keys, values = self._own[layer]
        R, H, D, columns = keys[: self.count].shape
        G, L = query.shape[1] // H, self._span
        query = (query * scale).view(R, H, G, D)
        own = torch.bmm(query.reshape(R * H, G, D), keys.view(-1, D, columns)[: R * H, :, :L])
        scores = own.view(R, H, G, L).float()
        if self._mask is not None:
            scores += self._mask
        if not self.prefix:
            weights = scores.softmax(-1).to(query.dtype)
            out = torch.bmm(weights.view(R * H, G, L), values.view(-1, columns, D)[: R * H, :L])
            return out.view(R, 1, H * G, D)
        prefix_keys, prefix_values = self._prefix[layer]
        P = self.prefix
        shared = torch.bmm(query.transpose(0, 1).reshape(H, R * G, D), prefix_keys)
        shared_scores = shared.view(H, R, G, P).transpose(0, 1).float()
        weights = torch.cat([shared_scores, scores], dim=-1).softmax(-1).to(query.dtype)
        out = torch.bmm(weights[..., P:].reshape(R * H, G, L), values.view(-1, columns, D)[: R * H, :L]).view(R, H, G, D)
        shared_out = torch.bmm(weights[..., :P].transpose(0, 1).reshape(H, R * G, P), prefix_values)
        return (out + shared_out.view(H, R, G, D).transpose(0, 1)).reshape(R, 1, H * G, D)

    def _room(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers of a layer, wide enough for the columns in use."""
        if layer == len(self._own):
            columns = -(-self._span // BLOCK) * BLOCK
            heads, width = key.shape[1], key.shape[3]
            # Zeros, not garbage: a masked column is multiplied by a weight of 0, and 0 * NaN is NaN.
            self._own.append(
                (key.new_zeros(self.capacity, heads, width, columns), value.new_zeros(self.capacity, heads, columns, width))
            )
        keys, values = self._own[layer]
        if keys.shape[3] < self._span:
            more = -(-self._span // BLOCK) * BLOCK - keys.shape[3]
            self._own[layer] = (functional.pad(keys, (0, more)), functional.pad(values, (0, 0, 0, more)))
        return self._own[layer]


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared_prefix: SharedPrefixCache | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The function transformers calls in every layer while `attn_implementation` is NAME. Raises UnsupportedAttention."""
    for name in ("softcap", "s_aux", "position_bias", "sliding_window"):
        if kwargs.get(name) is not None:
            raise UnsupportedAttention(f"its attention uses {name}")
    if shared_prefix is None or not isinstance(module.layer_idx, int):
        raise UnsupportedAttention("it does not pass its keyword arguments on to its attention")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return shared_prefix.attend(module.layer_idx, query, key, value, scale), None


AttentionInterface.register(NAME, attention)
