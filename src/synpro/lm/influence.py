"""Data influence of a text: what learning the reference task did to the model's loss on it (method.md, step 3).

`influence = loss_before - loss_after`, mean cross-entropy per token in nats. Positive: learning the reference task also made
this text easier, so it carries what the model has yet to absorb. `before` is the plateau checkpoint, `after` the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from synpro.lm.loss import context_of, load_model, plain_tokenizer, text_losses


class Influence:
    """Scores texts under two models a short training apart.

    Both models see the same batches, so identical checkpoints give exactly 0.0; a text's score is the same alone, in any
    batch, in any order, at any padding side (see `synpro.lm.loss`).
    """

    def __init__(
        self,
        before: Path,
        after: Path,
        *,
        batch_tokens: int = 8192,
        device: str | None = None,
        dtype: str = "float32",
        padding_side: Literal["right", "left"] = "right",
    ) -> None:
        """Open two Hugging Face folders (weights and tokenizer).

        `batch_tokens`: padded tokens per forward pass. `device`: of torch, the GPU where there is one by default.
        Raises FileNotFoundError when a folder lacks its model or tokenizer, ValueError when the two tokenizers differ.
        """
        self._tokenizer = plain_tokenizer(before)
        if plain_tokenizer(after).to_str() != self._tokenizer.to_str():
            raise ValueError(f"{before} and {after} have different tokenizers; influence compares the loss of the same tokens")
        self._before = load_model(before, device=device, dtype=dtype)
        self._after = load_model(after, device=device, dtype=dtype)
        self._context = min(context_of(self._before), context_of(self._after))
        self._batch_tokens = batch_tokens
        self._padding_side = padding_side

    def score(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> list[float]:
        """Influence of each text in nats per token, by row. Equal texts are scored once.

        `progress(done, total)` counts windows of both models. Raises ValueError for a text without tokens.
        """
        distinct = list(dict.fromkeys(texts))
        sides = []
        for turn, model in enumerate((self._before, self._after)):
            report = None
            if progress is not None:

                def report(done: int, total: int, turn: int = turn) -> None:
                    progress(turn * total + done, 2 * total)

            sides.append(
                text_losses(
                    model,
                    self._tokenizer,
                    distinct,
                    batch_tokens=self._batch_tokens,
                    context=self._context,
                    padding_side=self._padding_side,
                    progress=report,
                )
            )
        value = {
            text: (before - after) / tokens
            for text, (before, tokens), (after, _) in zip(distinct, sides[0], sides[1], strict=True)
        }
        return [value[text] for text in texts]
