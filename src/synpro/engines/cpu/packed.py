"""Log-probabilities of many completions of few prompts, each prompt computed once.

The idea: GRPO compares several completions of the same prompt. TRL gives each of them a row of its own, so the prompt runs
through the model once per completion, and on a CPU every position is projected onto the vocabulary. With prompts of 300 tokens
and 4 completions of 110 each, that is 2.2 times the tokens and 3.7 times the projections needed. Here one row holds a prompt
followed by all its completions. An attention mask keeps the completions from seeing one another, and position numbers restart
after the prompt for each of them, so every token sees exactly what it would see in a row of its own: values and gradients are
the same up to rounding.

Suffixes: B completions as TRL passes them, R rows (distinct prompts), G completions per row at most, P prompt and C completion
tokens (padded), L = P + G * C, N completion tokens that are not masked, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

TILE = 512
"""Tokens projected onto the vocabulary at once; their logits are computed again in the backward pass instead of kept."""
_ERRORS: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
"""`packing_error` of the models that were asked for."""


@dataclass(frozen=True)
class PackedRows:
    """B completions packed into R rows, and where each of them is."""

    ids_RL: torch.Tensor
    positions_RL: torch.Tensor
    allowed_RLL: torch.Tensor
    """Whether the token of the first axis sees that of the second."""
    row_B: torch.Tensor
    slot_B: torch.Tensor
    prompt: int
    completion: int


def pack(ids_BT: torch.Tensor, mask_BT: torch.Tensor, completion: int) -> PackedRows:
    """Pack completions by prompt: `ids_BT` holds left-padded prompts, then right-padded completions of `completion` tokens."""
    prompt = ids_BT.shape[1] - completion
    keys = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(ids_BT[:, :prompt], mask_BT[:, :prompt], strict=True)]
    rows = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    filled = [0] * len(rows)
    row_B, slot_B = [], []
    for key in keys:
        row_B.append(rows[key])
        slot_B.append(filled[rows[key]])
        filled[rows[key]] += 1
    R, G = len(rows), max(filled)
    length = prompt + G * completion
    ids_RL = ids_BT.new_zeros(R, length)
    seen_RL = torch.zeros(R, length, dtype=torch.bool, device=ids_BT.device)
    block_RL = torch.full((R, length), -1, device=ids_BT.device)  # -1: prompt; else the slot of the completion
    positions_RL = torch.zeros(R, length, dtype=torch.long, device=ids_BT.device)
    place = torch.arange(completion, device=ids_BT.device)
    for i, (row, slot) in enumerate(zip(row_B, slot_B, strict=True)):
        at = slice(prompt + slot * completion, prompt + (slot + 1) * completion)
        ids_RL[row, :prompt], ids_RL[row, at] = ids_BT[i, :prompt], ids_BT[i, prompt:]
        seen_RL[row, :prompt], seen_RL[row, at] = mask_BT[i, :prompt].bool(), mask_BT[i, prompt:].bool()
        tokens = int(mask_BT[i, :prompt].sum())
        positions_RL[row, :prompt] = (mask_BT[i, :prompt].cumsum(0) - 1).clamp(min=0)
        positions_RL[row, at] = tokens + place
        block_RL[row, at] = slot
    before = torch.ones(length, length, dtype=torch.bool, device=ids_BT.device).tril()
    same = (block_RL[:, :, None] == block_RL[:, None, :]) | (block_RL[:, None, :] == -1)
    allowed = before & same & seen_RL[:, None, :]
    allowed |= torch.eye(length, dtype=torch.bool, device=ids_BT.device)  # padding sees itself: a row of nothing is NaN
    return PackedRows(
        ids_RL, positions_RL, allowed, torch.tensor(row_B), torch.tensor(slot_B), prompt=prompt, completion=completion
    )


def log_probabilities(
    model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, completion: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token and entropy (nats, no gradient) of its distribution, (B, C), 0 where masked.

    `model` is a causal language model that `can_pack`, with or without adapters.
    """
    longest = max(1, int(mask_BT[:, ids_BT.shape[1] - completion :].sum(1).max()))
    if unused := completion - longest:  # padding that another micro batch needs
        found = log_probabilities(model, ids_BT[:, :-unused], mask_BT[:, :-unused], longest, temperature)
        return pad(found[0], (0, unused)), pad(found[1], (0, unused))
    at = pack(ids_BT, mask_BT, completion)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Added to the scores, as every attention of transformers reads it; a mask of booleans is one to sdpa alone.
    mask_RLL = torch.zeros(at.allowed_RLL.shape, dtype=base.dtype, device=ids_BT.device)
    mask_RLL.masked_fill_(~at.allowed_RLL, torch.finfo(base.dtype).min)
    states_RLD = base.base_model(
        input_ids=at.ids_RL, attention_mask=mask_RLL[:, None], position_ids=at.positions_RL, use_cache=False
    ).last_hidden_state
    # The token before each completion token: the last of the prompt for the first, as in a row of its own.
    before_BC = torch.arange(completion) + at.prompt - 1 + at.slot_B[:, None] * completion
    before_BC[:, 0] = at.prompt - 1
    wanted_BC = mask_BT[:, at.prompt :].bool()
    states_ND = states_RLD[at.row_B[:, None].expand_as(before_BC)[wanted_BC], before_BC[wanted_BC]]
    targets_N = ids_BT[:, at.prompt :][wanted_BC]
    head = base.get_output_embeddings()
    pieces = [
        checkpoint(_project, head, states_ND[i : i + TILE], targets_N[i : i + TILE], temperature, use_reentrant=False)
        for i in range(0, len(targets_N), TILE)
    ]
    zeros_BC = states_RLD.new_zeros(wanted_BC.shape, dtype=torch.float32)
    if not pieces:  # every completion is masked: a zero that still has a gradient
        return zeros_BC + 0 * states_RLD.float().sum(), zeros_BC
    chosen, entropy = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return zeros_BC.masked_scatter(wanted_BC, chosen), zeros_BC.masked_scatter(wanted_BC, entropy)


def _project(
    head: Any, states_ND: torch.Tensor, targets_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    log_NV = (head(states_ND).float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(log_NV.exp() * log_NV).sum(-1)
    return log_NV.gather(1, targets_N[:, None])[:, 0], entropy_N


def can_pack(model: Any) -> bool:
    """Whether packing gives this model's own log-probabilities: a bare model (data parallel wrappers need their own forward)
    whose attention reads the whole context through a mask, and whose logits are those of its head. It is tried once, in the
    autocast that it is called in."""
    if not hasattr(model, "get_output_embeddings"):
        return False
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    altered = [
        n for n in ("final_logit_softcapping", "logit_scale", "logits_scaling", "num_experts") if getattr(config, n, None)
    ]
    if windowed or altered or kinds != {"full_attention"} or config._attn_implementation not in ("sdpa", "eager"):
        return False
    if model not in _ERRORS:
        _ERRORS[model] = packing_error(model)
    exact = model.dtype == torch.float32 and not torch.is_autocast_enabled(model.device.type)
    return _ERRORS[model] < (1e-3 if exact else 0.5)


def packing_error(model: Any) -> float:
    """Largest difference in nats between packed log-probabilities and those of rows of their own: two prompts of different
    lengths, two completions of each."""
    vocab, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    ids_BT = (torch.arange(4 * 7, device=device).reshape(4, 7) * 31 + 7) % vocab
    ids_BT[1, :4], ids_BT[3, :4] = ids_BT[0, :4], ids_BT[2, :4]
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[2:, 0] = 0  # a shorter prompt, padded on the left
    was_training = model.training
    model.eval()
    with torch.no_grad():
        packed_BC, _ = log_probabilities(model, ids_BT, mask_BT, 3, 1.0)
        positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT, use_cache=False).logits
        plain_BC = logits_BTV[:, 3:-1].float().log_softmax(-1).gather(2, ids_BT[:, 4:, None])[:, :, 0]
    model.train(was_training)
    return float((packed_BC - plain_BC).abs().max())
