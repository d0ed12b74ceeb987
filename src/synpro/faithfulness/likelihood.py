"""Likelihood of a claim under a causal language model, with its passage before it and without.

A claim that the passage supports becomes much more likely with it; a word that contradicts the passage stays unlikely. Each
claim is read alone after its passage, which is slow, so that its numbers never depend on the claims beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_SEPARATOR = "\nThis means: "


class ClaimLikelihood:
    """Nats of a claim's tokens. The caller opens and closes the model."""

    def __init__(self, model: Any, tokenizer: Any, window: int) -> None:
        self.model, self.tokenizer, self.window = model, tokenizer, window
        self._alone: dict[str, torch.Tensor] = {}

    def nats(self, claims: Sequence[str], passage: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each claim, (with the passage, without it): nats of each token, float32, at least one token.

        A passage that is too long for the model's window loses its beginning. Raises ValueError for NaN.
        """
        out = []
        for claim in claims:
            if claim not in self._alone:
                self._alone[claim] = self._nats(_SEPARATOR, claim)
            out.append((self._nats(passage.strip() + _SEPARATOR, claim), self._alone[claim]))
        return out

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    @torch.inference_mode()
    def _nats(self, before: str, claim: str) -> torch.Tensor:
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        ours = (self._ids(claim) or [first])[: self.window // 2]
        ids = [first, *self._ids(before)][-(self.window - len(ours)) :] + ours
        logits_TV = self.model(input_ids=torch.tensor([ids], device=self.model.device), logits_to_keep=len(ours) + 1).logits[0]
        target = torch.tensor(ours, device=logits_TV.device)
        nats_T = torch.nn.functional.cross_entropy(logits_TV[:-1].float(), target, reduction="none").cpu()
        if torch.isnan(nats_T).any():
            raise ValueError("the likelihood model gave NaN; its weights are damaged or its dtype overflows: try float32")
        return nats_T
