"""Cross-entropy of whole texts under a causal language model.

A text's loss depends on the text and the model alone: not on its neighbours in a batch, the order, the batch size, the side of
the padding or the number of threads. Padding is neither scored nor averaged over.

The end-of-text token comes before the text as context, as in the training data, and every token of the text is scored once. A
text longer than the model's context is scored in windows that overlap by half a context: the first window scores a whole
context, each later one scores the next half context with at least half a context before it.

Suffixes: `_B_T` batch by time, `_N_D` scored positions by width, `_N_V` scored positions by vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from synpro.assets.models import load_causal_lm

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

T = TypeVar("T")

LOGIT_ELEMENTS = 1 << 23
"""Most logits in memory at a time: 64 MiB in float64, for every vocabulary."""
CHUNK_CHARS = 1 << 22
"""Characters tokenized and sorted by length at a time: memory does not grow with the corpus, and padding hardly does."""


@dataclass(frozen=True)
class _Window:
    """A part of one text that fits the model's context."""

    row: int
    ids: tuple[int, ...]
    """Input ids and, last, the final target: one more than the positions fed to the model."""
    skip: int
    """Leading positions that are context only: the window before has scored their targets."""


def plain_tokenizer(source: Any) -> Tokenizer:
    """A `tokenizers.Tokenizer` that reads the spelling of a special token inside a text as text.

    `source`: a folder with `tokenizer.json`, that file, a `tokenizers.Tokenizer` or a fast Hugging Face tokenizer, which is
    copied. Raises FileNotFoundError without a tokenizer file, TypeError for a tokenizer without a fast backend.
    """
    from tokenizers import Tokenizer

    if isinstance(source, (str, Path)):
        file = Path(source)
        file = file / "tokenizer.json" if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"no tokenizer at {file}; a model folder needs its tokenizer.json beside the weights")
        plain = Tokenizer.from_file(str(file))
    else:
        backend = source if isinstance(source, Tokenizer) else getattr(source, "backend_tokenizer", None)
        if backend is None:
            raise TypeError(f"{type(source).__name__} has no fast tokenizer behind it; pass a tokenizers.Tokenizer")
        plain = Tokenizer.from_str(backend.to_str())
    plain.encode_special_tokens = True
    plain.no_truncation()
    plain.no_padding()
    return plain


def load_model(
    folder: Path | str, *, device: str | None = None, dtype: str = "float32", exact: bool = False
) -> PreTrainedModel:
    """Load a Hugging Face causal language model from a folder, in evaluation mode. Remote code is never run.

    Raises FileNotFoundError when the folder holds no `config.json`, DamagedModel when its files lack tensors of the
    model (`exact`: or hold layers that it has not).
    """
    import torch

    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is no Hugging Face model (config.json is missing); name a folder that is")
    model: PreTrainedModel = load_causal_lm(folder, exact=exact, dtype=getattr(torch, dtype), local_files_only=True)
    # Weights mapped from a file start where its header ends, and matrix kernels may round differently by alignment.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
        parameter.requires_grad_(False)
    model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    """Within it float32 on a GPU is TF32 (10 bits of fraction, bfloat16 has 7): several times as fast, and closer than bfloat16
    is. Only within it: a training in float32 in the same process is exact. Nothing changes on a CPU."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def context_of(model: PreTrainedModel) -> int:
    """The longest input the model takes, in tokens."""
    return int(model.config.max_position_embeddings)


def text_losses(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    batch_tokens: int = 8192,
    context: int | None = None,
    eos_id: int | None = None,
    padding_side: Literal["right", "left"] = "right",
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[float, int]]:
    """Summed negative log-likelihood (nats, float64) and number of scored tokens of each text, by row.

    `tokenizer`: anything that `plain_tokenizer` takes. `batch_tokens`: most tokens of a padded batch (one window always fits).
    `context` and `eos_id` default to the model's. `progress(done, total)` counts texts. Raises ValueError for a text without
    tokens and for ids the model has no embedding for.
    """
    plain = plain_tokenizer(tokenizer)
    limit = min(context or context_of(model), context_of(model))
    if limit < 2:
        raise ValueError(f"context: {limit} tokens leave nothing to score a token from; give at least 2")
    start = _eos_of(model) if eos_id is None else eos_id
    sums, counts = [0.0] * len(texts), [0] * len(texts)
    for first, last in _chunks(texts):
        windows: list[_Window] = []
        for row, encoding in enumerate(plain.encode_batch_fast(list(texts[first:last]), add_special_tokens=False), first):
            ids = encoding.ids
            if not ids:
                raise ValueError(f"text {row} has no tokens, so it has no loss: {texts[row]!r}; leave empty texts out")
            if max(ids) >= model.config.vocab_size:
                known = model.config.vocab_size
                raise ValueError(
                    f"text {row} has token id {max(ids)} and the model has {known} embeddings; use the model's own tokenizer"
                )
            counts[row] = len(ids)
            windows += _windows(row, (start, *ids), limit)
        # Longest first: a batch that does not fit into memory fails at once, and padding stays small.
        windows.sort(key=lambda w: (-len(w.ids), w.row, w.ids))
        done = 0
        for batch in padded_batches(windows, lambda window: len(window.ids) - 1, batch_tokens):
            for window, loss in zip(batch, _batch_losses(model, batch, start, padding_side), strict=True):
                sums[window.row] += loss
            done += len(batch)
            if progress is not None:
                progress(first + (last - first) * done // len(windows), len(texts))
    return list(zip(sums, counts, strict=True))


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges `[first, last)` of the texts that are tokenized and sorted together."""
    first = size = 0
    for row, text in enumerate(texts):
        size += len(text)
        if size >= CHUNK_CHARS:
            yield first, row + 1
            first, size = row + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _eos_of(model: PreTrainedModel) -> int:
    eos = model.config.eos_token_id
    eos = eos[0] if isinstance(eos, list) else eos
    if eos is None:
        raise ValueError("the model's config.json has no eos_token_id; add it, or pass eos_id")
    return int(eos)


def _windows(row: int, ids: tuple[int, ...], limit: int) -> Iterator[_Window]:
    """Cut `ids` (context token first) so that each target is scored in exactly one window of at most `limit` inputs."""
    stride = limit // 2
    scored = 0  # targets ids[1 : scored + 1] are done
    start = 0
    while scored < len(ids) - 1:
        end = min(start + limit, len(ids) - 1)
        yield _Window(row, ids[start : end + 1], scored - start)
        scored = end
        start += stride


def padded_batches(items: Iterable[T], tokens: Callable[[T], int], batch_tokens: int) -> Iterator[list[T]]:
    """Groups of neighbours whose padded size stays within `batch_tokens`; one item always fits."""
    batch: list[T] = []
    longest = 0
    for item in items:
        size = tokens(item)
        longest = max(longest, size)
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch, longest = [], size
        batch.append(item)
    if batch:
        yield batch


def head_of(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes a model's logits of its last hidden states: its head, and what some models do to the logits after it (Cohere
    and Granite scale them, Gemma 2 bounds them)."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    bound = getattr(config, "final_logit_softcapping", None)

    def project(states: torch.Tensor) -> torch.Tensor:
        logits = head(states) if scale == 1 else head(states) * scale
        return (logits / bound).tanh() * bound if bound else logits

    return project


def _batch_losses(model: PreTrainedModel, batch: Sequence[_Window], pad: int, side: str) -> list[float]:
    """Summed nats of each window. Only scored positions go through the head, a bounded number at a time."""
    import torch

    width = max(len(w.ids) for w in batch) - 1
    input_B_T = torch.full((len(batch), width), pad, dtype=torch.long)
    target_B_T = torch.zeros((len(batch), width), dtype=torch.long)
    mask_B_T = torch.zeros((len(batch), width), dtype=torch.long)
    scored_B_T = torch.zeros((len(batch), width), dtype=torch.bool)
    for b, window in enumerate(batch):
        n = len(window.ids) - 1
        first = 0 if side == "right" else width - n
        input_B_T[b, first : first + n] = torch.tensor(window.ids[:-1])
        target_B_T[b, first : first + n] = torch.tensor(window.ids[1:])
        mask_B_T[b, first : first + n] = 1
        scored_B_T[b, first + window.skip : first + n] = True
    position_B_T = (mask_B_T.cumsum(1) - 1).clamp(min=0)
    device = model.device
    with torch.inference_mode(), tf32():
        hidden_B_T_D = model.base_model(
            input_ids=input_B_T.to(device),
            attention_mask=mask_B_T.to(device),
            position_ids=position_B_T.to(device),
            use_cache=False,
        ).last_hidden_state
        hidden_N_D = hidden_B_T_D[scored_B_T.to(device)]
        target_N = target_B_T[scored_B_T].to(device)
        head = head_of(model)
        rows = max(1, LOGIT_ELEMENTS // model.config.vocab_size)
        losses: list[torch.Tensor] = []
        for i in range(0, len(target_N), rows):
            logits_N_V = head(hidden_N_D[i : i + rows]).double()
            picked_N = logits_N_V.gather(1, target_N[i : i + rows, None])[:, 0]
            losses.append(logits_N_V.logsumexp(1) - picked_N)
        loss_N = torch.cat(losses).cpu()
    return [float(part.sum()) for part in loss_N.split(scored_B_T.sum(1).tolist())]
