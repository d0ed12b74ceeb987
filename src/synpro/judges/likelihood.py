"""How likely a causal language model finds a claim, with its passage in front of it and without.

A claim that the passage supports becomes much more likely with it; a word that the passage contradicts stays a surprise. A
claim's numbers never depend on the claims beside it: each is read alone, after its passage, which is what makes this dear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_BETWEEN = "\nThis means: "


class Likelihood:
    """Nats of a claim's tokens under a causal language model that somebody else opened and closes."""

    def __init__(self, model: Any, tokenizer: Any, window: int) -> None:
        self.model, self.tokenizer, self.window = model, tokenizer, window
        self._alone: dict[str, torch.Tensor] = {}

    def nats(self, claims: Sequence[str], passage: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each claim, (with the passage, without it): nats of each of its tokens, float32. At least one token each.

        A passage that does not fit the model's window beside the claim loses its beginning. Raises ValueError for NaN.
        """
        out = []
        for claim in claims:
            if claim not in self._alone:
                self._alone[claim] = self._read(_BETWEEN, claim)
            out.append((self._read(passage.strip() + _BETWEEN, claim), self._alone[claim]))
        return out

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    @torch.inference_mode()
    def _read(self, before: str, claim: str) -> torch.Tensor:
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        ours = (self._ids(claim) or [first])[: self.window // 2]
        ids = [first, *self._ids(before)][-(self.window - len(ours)) :] + ours
        logits_TV = self.model(input_ids=torch.tensor([ids], device=self.model.device), logits_to_keep=len(ours) + 1).logits[0]
        target = torch.tensor(ours, device=logits_TV.device)
        nats_T = torch.nn.functional.cross_entropy(logits_TV[:-1].float(), target, reduction="none").cpu()
        if torch.isnan(nats_T).any():
            raise ValueError("the likelihood model answered NaN; its weights are damaged or its dtype overflows: try float32")
        return nats_T
