"""Quality of a text on its own, 1 to 5: likelihood under a causal language model, combined with rules.

Replaces the overall score of DataMan-1.5B-EN, which rates 14 criteria of a text for pretraining. This one sees fluency
(likelihood), repetition, symbols, capitals, lists of words and open ends; it does not see depth or usefulness.

Likelihood counts only up to that of ordinary prose: text that is more predictable gains nothing, and text as predictable as a
loop loses. All parts multiply, so that no part can make up for another that fails.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer

from synpro.assets.models import load_causal_lm
from synpro.judges.text_stats import well_formed
from synpro.language.identification import known_language, may_be
from synpro.lm.loss import padded_batches

BATCH_TOKENS = 4096
"""Tokens read at once on a GPU, padding included."""
PROSE_MIDPOINT = 5.2
"""Nats per token at which the likelihood factor is 0.5 (measured: encyclopedic prose 3.4 to 4.4, shuffled words 6.5 to 7.3)."""
PROSE_WIDTH = 0.4
"""Width of the logistic curve around it, nats per token."""
LOOP_LOSS = 0.9
"""Nats per token below which a text is as predictable as a loop."""


class FluencyQuality:
    """Rates texts by a causal language model and rules. A text's rating never depends on its neighbours."""

    def __init__(
        self,
        folder: Path | str,
        *,
        dtype: str = "bfloat16",
        languages: Sequence[str] = ("en",),
    ) -> None:
        self.languages = frozenset(languages)
        self._only = languages[0] if len(languages) == 1 else None  # what a text of unsure language is taken for
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # On a CPU a text runs alone: this is as fast, and its rating does not depend on its neighbours to the last bit.
        self.batch_tokens = BATCH_TOKENS if self.device.type != "cpu" else 0
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.model = load_causal_lm(folder, dtype=getattr(torch, dtype)).eval()
        self.model.to(self.device)
        self.window = min(2048, int(self.model.config.max_position_embeddings) - 1)
        self._ratings: dict[tuple[bytes, str | None], float] = {}

    def rate(self, texts: Sequence[str], sources: Sequence[str] | None = None) -> list[float | None]:
        """One rating per text, 1.0 (worst) to 5.0; None for a text whose source cannot be in any of `languages` (without
        `sources`: that cannot be itself). Raises ValueError when the model answers with NaN."""
        keys = [
            (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), known_language(source))
            if may_be(source, self.languages)
            else None
            for text, source in zip(texts, sources or texts, strict=True)
        ]
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k and k not in self._ratings}
        losses = self.losses(list(missing.values()))
        for (key, text), loss in zip(missing.items(), losses, strict=True):
            self._ratings[key] = 1.0 + 4.0 * likelihood_factor(loss) * well_formed(text, key[1] or self._only)
        return [self._ratings[k] if k else None for k in keys]

    def losses(self, texts: Sequence[str]) -> list[float]:
        """Mean nats per token of each text; infinite for a text without tokens."""
        rows = [(i, chunk) for i, text in enumerate(texts) for chunk in self._chunks(text)]
        rows.sort(key=lambda row: len(row[1]))
        sums, counts = [0.0] * len(texts), [0] * len(texts)
        for batch in padded_batches(rows, lambda row: len(row[1]) + 1, self.batch_tokens):
            for (i, chunk), loss in zip(batch, self._nats([chunk for _, chunk in batch]), strict=True):
                sums[i] += loss
                counts[i] += len(chunk)
        if any(math.isnan(s) for s in sums):
            raise ValueError("the fluency judge's model gave NaN; its weights are damaged or its dtype overflows: try float32")
        return [s / c if c else math.inf for s, c in zip(sums, counts, strict=True)]

    def close(self) -> None:
        """Release the memory."""
        self.__dict__.pop("model", None)

    def _chunks(self, text: str) -> list[list[int]]:
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return [ids[i : i + self.window] for i in range(0, len(ids), self.window)]

    @torch.inference_mode()
    def _nats(self, rows: list[list[int]]) -> list[float]:
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        size = max(map(len, rows)) + 1
        ids = torch.tensor([[first, *r] + [first] * (size - len(r) - 1) for r in rows], device=self.device)
        logits_BTV = self.model(input_ids=ids[:, :-1]).logits  # padding is at the right: causal attention never sees it
        # A row per token: over (B, V, T) a CPU takes three times as long.
        loss = torch.nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss_BT = loss.view(len(rows), -1)
        return [float(loss_T[: len(r)].double().sum()) for loss_T, r in zip(loss_BT, rows, strict=True)]


def likelihood_factor(loss: float) -> float:
    """0 to 1 from nats per token: near 1 for prose, lower for improbable text and for text as predictable as a loop."""
    if math.isinf(loss):
        return 0.0
    prose = 1 / (1 + math.exp((loss - PROSE_MIDPOINT) / PROSE_WIDTH))
    return prose * min(1.0, (loss / LOOP_LOSS) ** 2)
