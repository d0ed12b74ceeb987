"""Data influence of a text: how learning the reference task changed the model's loss on it (method.md, step 3).

`influence = loss_before - loss_after`, mean cross-entropy per token in nats. Positive: learning the reference task also made
this text easier, so the text teaches what the model has yet to learn. `before` is the plateau checkpoint, `after` the probe;
with several probes (replicas, which the paper does not have) influence is their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from synpro.lm.loss import context_of, load_model, plain_tokenizer, text_losses


class Influence:
    """Scores texts under a checkpoint and probes trained from it.

    All models see the same batches, so identical checkpoints give exactly 0.0. A text's score is the same alone, in any batch,
    in any order and at either padding side (see `synpro.lm.loss`).
    """

    def __init__(
        self,
        before: Path | str,
        after: Path | str,
        *replicas: Path | str,
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
                    f"{before} and {other} have different tokenizers; influence compares the loss of the same tokens: "
                    "name models of one run"
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
        """Influence of each text in nats per token, a row per probe; arguments as of `score`."""
        distinct = list(dict.fromkeys(texts))
        models = (self._before, *self._afters)
        losses = []
        for number, model in enumerate(models):
            report = None
            if progress is not None:

                def report(done: int, total: int, number: int = number) -> None:
                    progress(number * total + done, len(models) * total)

            losses.append(
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
        rows = []
        for after in losses[1:]:
            influence = {
                text: (nats_before - nats_after) / tokens
                for text, (nats_before, tokens), (nats_after, _) in zip(distinct, losses[0], after, strict=True)
            }
            rows.append([influence[text] for text in texts])
        return rows
