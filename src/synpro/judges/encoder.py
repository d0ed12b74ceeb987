"""Token similarity by a bidirectional encoder: BERTScore (arXiv 1904.09675) precision, recall and F1.

Equal to the `bert-score` package (`tests/judges/test_bertscore.py`) for texts that fit the encoder's window: other tokens may
match the states of [CLS] and [SEP], but these two are not averaged over; no rescaling by a baseline; texts are stripped.
Differences: longer texts are read in windows where the package truncates them, and a special token spelled out in a text stays
text.

MiniLM is the default in place of the paper's DeBERTa-large-MNLI. Known limit: negation and swapped roles are not seen, so a
contradiction can score like a paraphrase. The faithfulness verifiers therefore compare numbers, names and denials by rule.
Shapes: E_TD are the token embeddings of a text, T tokens by D dimensions, rows of length 1.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from synpro.assets.models import load_encoder
from synpro.judges.base import Alignment
from synpro.language.identification import may_be
from synpro.lm.loss import padded_batches, tf32

BATCH_TOKENS = 4096
"""Tokens read at once on a GPU, padding included."""
CACHED_TOKENS = 200_000
"""Token embeddings kept in memory, oldest dropped first: 300 MB at 384 dimensions."""


@dataclass(frozen=True)
class _Read:
    """A text as the encoder reads it."""

    ids: list[int]
    """Ids of the text's own T - 2 tokens."""
    states_TD: torch.Tensor
    """Rows of length 1; the first is that of [CLS], the last that of [SEP]."""


class BertScoreEncoder:
    """A Hugging Face encoder that compares texts token by token.

    Texts longer than the encoder's window are read in windows that overlap by half; a token's embedding comes from the window
    in which the token is furthest from an edge. Each distinct text is embedded once while it stays in the cache.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        layer: int | None = None,
        max_unknown: float = 0.1,
        languages: Sequence[str] = (),
    ) -> None:
        """`layer` is the one whose states are compared, counted from 1; None is the last. Layers above it are removed.

        Raises ValueError for a layer the encoder lacks and for a tokenizer without [CLS] and [SEP].
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # On a CPU a text runs alone: this is as fast, and its embedding does not depend on its neighbours to the last bit.
        self.batch_tokens = BATCH_TOKENS if self.device.type != "cpu" else 0
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if self.tokenizer.cls_token_id is None or self.tokenizer.sep_token_id is None:
            raise ValueError(f"encoder: {folder} has no [CLS] and [SEP] tokens; name a bidirectional encoder of BERT's kind")
        self.model = load_encoder(folder, dtype=torch.float32)
        if layer is not None:
            _keep_layers(self.model, layer)
        self.model.to(self.device).eval()
        self.window = _longest_input(self.model, self.tokenizer) - 2
        self.max_unknown, self.languages = max_unknown, languages
        self._cache: OrderedDict[bytes, _Read] = OrderedDict()
        self._cached_tokens = 0

    def align(self, candidates: Sequence[str], references: Sequence[str]) -> list[Alignment | None]:
        """One alignment per pair; (0, 0) for a text without tokens, None where the vocabulary lacks the reference (`knows`)."""
        texts = self._read([*candidates, *references])
        out, means, places = list[Alignment | None](), list[torch.Tensor](), list[int]()
        pairs = zip(texts[: len(candidates)], texts[len(candidates) :], references, strict=True)
        for candidate, reference, text in pairs:
            if not self._has(text, reference.ids):
                out.append(None)
                continue
            if not candidate.ids or not reference.ids:
                out.append(Alignment(0.0, 0.0))
                continue
            similarity_TS = candidate.states_TD @ reference.states_TD.T
            means += [similarity_TS.max(dim=axis).values[1:-1].mean().double() for axis in (1, 0)]
            places.append(len(out))
            out.append(None)
        found = iter(torch.stack(means).tolist() if means else [])  # a GPU is waited for once, not at every pair
        for place in places:
            out[place] = Alignment(next(found), next(found))
        return out

    def knows(self, text: str) -> bool:
        """Whether the text may be in one of `languages` (none: any), and the vocabulary lacks at most the share `max_unknown`
        of its tokens: else there is nothing to compare."""
        return self._has(text, self._ids(text))

    def _has(self, text: str, ids: Sequence[int]) -> bool:
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and ids.count(unknown) > self.max_unknown * max(1, len(ids)):
            return False
        return may_be(text, self.languages)

    def embed(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """E_TD of each text, without the special tokens at its ends."""
        return [t.states_TD[1:-1].cpu() for t in self._read(texts)]

    def _read(self, texts: Sequence[str]) -> list[_Read]:
        keys = [hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest() for t in texts]
        found = {k: self._cache[k] for k in set(keys) if k in self._cache}
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in found}
        found |= dict(zip(missing, self._encode(list(missing.values())), strict=True))
        for key in missing:
            self._cache[key] = found[key]
            self._cached_tokens += len(found[key].states_TD)
        while self._cached_tokens > CACHED_TOKENS:
            self._cached_tokens -= len(self._cache.popitem(last=False)[1].states_TD)
        return [found[k] for k in keys]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Characters `(start, end)` of each token of `embed([text])`."""
        bare = text.strip()
        shift = text.find(bare)
        read = self.tokenizer(
            bare, add_special_tokens=False, split_special_tokens=True, verbose=False, return_offsets_mapping=True
        )
        return [(shift + start, shift + end) for start, end in read["offset_mapping"]]

    def close(self) -> None:
        """Release the memory."""
        self.__dict__.pop("model", None)
        self._cache.clear()

    def _encode(self, texts: Sequence[str]) -> list[_Read]:
        ids = [self._ids(t) for t in texts]
        spans = [(row, start) for row, tokens in enumerate(ids) for start in self._starts(len(tokens))]

        def tokens_of(span: tuple[int, int]) -> int:
            return min(self.window, len(ids[span[0]]) - span[1]) + 2

        spans.sort(key=tokens_of)
        width = int(self.model.config.hidden_size)
        out = [torch.zeros(len(tokens) + 2, width, device=self.device) for tokens in ids]
        edge = [torch.full((len(tokens),), -1) for tokens in ids]  # distance of each token to the edge of its best window
        for batch in padded_batches(spans, tokens_of, self.batch_tokens):
            states_BTD = self._forward([ids[row][start : start + self.window] for row, start in batch])
            for (row, start), states_TD in zip(batch, states_BTD, strict=True):
                size = min(self.window, len(ids[row]) - start)
                first, last = start == 0, start + size == len(ids[row])
                place = torch.arange(size)
                # The edges of the text itself are not edges of a window.
                left = place + self.window if first else place
                right = size - 1 - place + self.window if last else size - 1 - place
                here = torch.minimum(left, right)
                better = here > edge[row][start : start + size]
                # `where`, not an index: that would wait for a GPU, to count what it selects.
                whole_TD = out[row][1 + start : 1 + start + size]
                whole_TD.copy_(torch.where(better.to(self.device)[:, None], states_TD[1 : size + 1], whole_TD))
                edge[row][start : start + size][better] = here[better]
                if first:
                    out[row][0] = states_TD[0]
                if last:
                    out[row][-1] = states_TD[size + 1]
        return [_Read(i, torch.nn.functional.normalize(e, dim=-1)) for i, e in zip(ids, out, strict=True)]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text.strip(), add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def _starts(self, length: int) -> list[int]:
        if length <= self.window:
            return [0] if length else []
        return [*range(0, length - self.window, self.window // 2), length - self.window]

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]]) -> torch.Tensor:
        first, last, pad = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id
        size = max(map(len, rows)) + 2
        ids = torch.tensor([[first, *r, last] + [pad] * (size - len(r) - 2) for r in rows])
        mask = torch.tensor([[1] * (len(r) + 2) + [0] * (size - len(r) - 2) for r in rows])
        with tf32():
            return self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state.float()


def _keep_layers(model: Any, layer: int) -> None:
    """Remove the layers above `layer`, as the `bert-score` package does. Raises ValueError where that cannot be done."""
    count = int(model.config.num_hidden_layers)
    if not 1 <= layer <= count:
        raise ValueError(f"encoder_layer: the encoder has layers 1 to {count}, not {layer}")
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if len(stacks) != 1:
        raise ValueError(f"encoder_layer: {type(model).__name__} is not a plain stack of layers; leave encoder_layer out")
    del stacks[0][layer:]


def _longest_input(model: Any, tokenizer: Any) -> int:
    """Tokens that the encoder takes at a time, [CLS] and [SEP] included."""
    limit = min(int(model.config.max_position_embeddings), int(tokenizer.model_max_length))
    for name, module in model.named_modules():
        # RoBERTa and its relatives count positions from padding_idx + 1.
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit
