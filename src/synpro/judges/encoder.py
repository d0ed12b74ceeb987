"""Token similarity by a bidirectional encoder: BERTScore (arXiv 1904.09675) precision, recall and F1.

Stands in for DeBERTa-large-MNLI with MiniLM by default. Known limit: it does not see negation or swapped roles, a
contradiction can score like a paraphrase; numbers and names are therefore checked by rule in the faithfulness reward.
Notation: E_TD token embeddings of a text, T tokens, D dimensions, rows of length 1.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from synpro.judges.base import Alignment

CACHED_TOKENS = 200_000
"""Token embeddings kept in memory, oldest given up first: 300 MB at 384 dimensions."""


class TokenEncoder:
    """A Hugging Face encoder that compares texts token by token.

    Texts longer than the encoder's window are read in windows that overlap by half; a token's embedding comes from the
    window in which it stands furthest from an edge. Each distinct text is embedded once while it stays in the cache.
    """

    def __init__(self, folder: Path | str, *, batch_tokens: int = 4096, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # On a CPU a text runs alone: as fast there, and its embedding never depends on its neighbours to the last bit.
        self.batch_tokens = batch_tokens if self.device.type != "cpu" else 0
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(self.device).eval()
        self.window = int(self.model.config.max_position_embeddings) - 2
        self._cache: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._cached_tokens = 0

    def align(self, candidates: Sequence[str], references: Sequence[str]) -> list[Alignment]:
        """One alignment per pair; a text without tokens aligns with nothing (0, 0)."""
        embeddings = self.embed([*candidates, *references])
        out = []
        for candidate_TD, reference_SD in zip(embeddings[: len(candidates)], embeddings[len(candidates) :], strict=True):
            if not len(candidate_TD) or not len(reference_SD):
                out.append(Alignment(0.0, 0.0))
                continue
            similarity_TS = candidate_TD @ reference_SD.T
            precision = float(similarity_TS.max(dim=1).values.mean())
            out.append(Alignment(precision, float(similarity_TS.max(dim=0).values.mean())))
        return out

    def embed(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """E_TD of each text, without the special tokens at its ends."""
        keys = [hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest() for t in texts]
        found = {k: self._cache[k] for k in set(keys) if k in self._cache}
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in found}
        found |= dict(zip(missing, self._embed(list(missing.values())), strict=True))
        for key in missing:
            self._cache[key] = found[key]
            self._cached_tokens += len(found[key])
        while self._cached_tokens > CACHED_TOKENS:
            self._cached_tokens -= len(self._cache.popitem(last=False)[1])
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
        """Give the memory back."""
        self.__dict__.pop("model", None)
        self._cache.clear()

    def _embed(self, texts: Sequence[str]) -> list[torch.Tensor]:
        ids = [self._ids(t) for t in texts]
        spans = [(row, start) for row, tokens in enumerate(ids) for start in self._starts(len(tokens))]
        spans.sort(key=lambda s: min(self.window, len(ids[s[0]]) - s[1]))
        width = int(self.model.config.hidden_size)
        out = [torch.zeros(len(tokens), width) for tokens in ids]
        edge = [torch.full((len(tokens),), -1) for tokens in ids]  # distance of each token to the edge of its best window
        for batch in self._batches(spans, ids):
            states_BTD = self._forward([ids[row][start : start + self.window] for row, start in batch])
            for (row, start), states_TD in zip(batch, states_BTD, strict=True):
                size = min(self.window, len(ids[row]) - start)
                place = torch.arange(size)
                # The edges of the text itself are not edges of a window.
                left = place if start else place + self.window
                right = size - 1 - place if start + size < len(ids[row]) else size - 1 - place + self.window
                here = torch.minimum(left, right)
                better = here > edge[row][start : start + size]
                out[row][start : start + size][better] = states_TD[1 : size + 1][better]
                edge[row][start : start + size][better] = here[better]
        return [torch.nn.functional.normalize(e, dim=-1) for e in out]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def _starts(self, length: int) -> list[int]:
        if length <= self.window:
            return [0] if length else []
        return [*range(0, length - self.window, self.window // 2), length - self.window]

    def _batches(self, spans: list[tuple[int, int]], ids: list[list[int]]) -> list[list[tuple[int, int]]]:
        batches: list[list[tuple[int, int]]] = []
        for span in spans:  # sorted by length: the last of a batch is its longest
            size = min(self.window, len(ids[span[0]]) - span[1]) + 2
            if batches and (len(batches[-1]) + 1) * size <= self.batch_tokens:
                batches[-1].append(span)
            else:
                batches.append([span])
        return batches

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]]) -> torch.Tensor:
        first, last, pad = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id
        size = max(map(len, rows)) + 2
        ids = torch.tensor([[first, *r, last] + [pad] * (size - len(r) - 2) for r in rows])
        mask = torch.tensor([[1] * (len(r) + 2) + [0] * (size - len(r) - 2) for r in rows])
        return self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state.cpu().float()
