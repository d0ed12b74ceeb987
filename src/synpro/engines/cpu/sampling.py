"""Sampling the next token: temperature, exact top-p, and one stream of random numbers per completion."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

TOP = 512
"""Most likely tokens looked at first. A row whose nucleus is wider is sorted in full, so the result is exact either way."""


def uniforms(seed: int, prompt: Sequence[int], completion: int, count: int) -> torch.Tensor:
    """`count` numbers in [0, 1) that depend on the seed, the prompt and the completion's index alone.

    Neither the device, nor the other prompts of the batch, nor their order change them.
    """
    key = f"{seed}/{completion}/{','.join(map(str, prompt))}".encode()
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def sample(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """The next token of each row by inverse transform sampling: logits (R, V), uniform (R,) -> ids (R,).

    Temperature 0 is greedy. Top-p keeps the smallest set of most likely tokens whose probability reaches `top_p`
    (Holtzman et al. 2020, arXiv 1904.09751).
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    uniform = uniform.to(logits.device)
    if top_p >= 1.0:
        return _inverse(logits.softmax(-1), uniform)
    whole = logits.logsumexp(-1, keepdim=True)
    values, ids = logits.topk(min(TOP, logits.shape[-1]), dim=-1)
    probabilities = (values - whole).exp()
    wide = (probabilities.double().sum(-1) < top_p).nonzero().flatten()
    chosen = ids.gather(1, _from_top_p(probabilities, uniform, top_p)[:, None])[:, 0]
    if len(wide) and values.shape[-1] < logits.shape[-1]:
        values, ids = logits[wide].sort(dim=-1, descending=True, stable=True)
        index = _from_top_p((values - whole[wide]).exp(), uniform[wide], top_p)
        chosen[wide] = ids.gather(1, index[:, None])[:, 0]
    return chosen


def _from_top_p(probabilities: torch.Tensor, uniform: torch.Tensor, top_p: float) -> torch.Tensor:
    """Index into each row of descending probabilities."""
    double = probabilities.double()
    before = double.cumsum(-1) - double
    return _inverse(double.masked_fill(before >= top_p, 0.0), uniform)


def _inverse(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    cumulative = probabilities.double().cumsum(-1)
    # Strictly above: u = 0 must not sample a token of probability 0.
    index = (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(-1)
    last = (probabilities > 0).long().cumsum(-1).argmax(-1)  # rounding in the last place must not step past the nucleus
    return torch.minimum(index, last)
