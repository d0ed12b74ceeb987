"""Data influence of a text: what learning the reference task did to the model's loss on it (method.md, step 3).

`influence = loss_before - loss_after`, mean cross-entropy per token in nats. Positive: learning the reference task also made
this text easier, so it carries what the model has yet to absorb. `before` is the plateau checkpoint, `after` the probe; of
several probes (replicas, which the paper does not have) the mean is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from synpro.lm.loss import context_of, load_model, plain_tokenizer, text_losses


class Influence:
    """Scores texts under models a short training apart.

    All models see the same batches, so identical checkpoints give exactly 0.0; a text's score is the same alone, in any
    batch, in any order, at any padding side (see `synpro.lm.loss`).
    """

    def __init__(
        self,
        before: Path,
        after: Path,
        *replicas: Path,
        batch_tokens: int = 8192,
        device: str | None = None,
        dtype: str = "float32",
        padding_side: Literal["right", "left"] = "right",
    ) -> None:
        """Open Hugging Face folders (weights and tokenizer): the checkpoint, its probe, and further probes.

        `batch_tokens`: padded tokens per forward pass. `device`: of torch, the GPU where there is one by default.
        Raises FileNotFoundError when a folder lacks its model or tokenizer, ValueError when the tokenizers differ.
        """
        self._tokenizer = plain_tokenizer(before)
        afters = (after, *replicas)
        for other in afters:
            if plain_tokenizer(other).to_str() != self._tokenizer.to_str():
                raise ValueError(
                    f"{before} and {other} have different tokenizers; influence compares the loss of the same tokens"
                )
        self._before = load_model(before, device=device, dtype=dtype)
        self._afters = [load_model(other, device=device, dtype=dtype) for other in afters]
        self._context = min(map(context_of, (self._before, *self._afters)))
        self._batch_tokens = batch_tokens
        self._padding_side = padding_side

    def score(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> list[float]:
        """Influence of each text in nats per token, by row: the mean over the probes. Equal texts are scored once.

        `progress(done, total)` counts texts, once per model. Raises ValueError for a text without tokens.
        """
        each = self.score_each(texts, progress=progress)
        return [sum(values) / len(values) for values in zip(*each, strict=True)]

    def score_each(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> list[list[float]]:
        """Influence of each text by each probe: a row per probe, as `score` takes them."""
        distinct = list(dict.fromkeys(texts))
        models = (self._before, *self._afters)
        sides = []
        for turn, model in enumerate(models):
            report = None
            if progress is not None:

                def report(done: int, total: int, turn: int = turn) -> None:
                    progress(turn * total + done, len(models) * total)

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
        out = []
        for side in sides[1:]:
            value = {
                text: (before - after) / tokens
                for text, (before, tokens), (after, _) in zip(distinct, sides[0], side, strict=True)
            }
            out.append([value[text] for text in texts])
        return out
