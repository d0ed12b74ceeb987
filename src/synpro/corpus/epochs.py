"""The epochs of a training mixture as token arrays: organic and synthetic documents, repeated, packed, ordered and noised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synpro.corpus.mixture import MixtureConfig, TokenNoise, build_epoch, pack_megadocs, plan_epoch, repeat_documents
from synpro.corpus.store import read_documents, read_rows
from synpro.corpus.tokens import encode_documents, load_tokenizer, read_tokens, split_documents
from synpro.records import Corpus, Shard


class MixtureEpochs:
    """Builds the n-th epoch over a corpus and its synthetic shards; a function of the seed and n."""

    def __init__(self, mixture: MixtureConfig, corpus: Corpus, shards: Sequence[Shard], seed: int) -> None:
        """Open the tokens of the train split and tokenize the shards.

        Raises CorpusError for files that are missing or not whole, RuntimeError when documents and tokens do not fit together.
        """
        self._mixture, self._seed = mixture, seed
        self.organic = split_documents(read_tokens(corpus.dir / "tokens" / "train.bin", corpus.dtype), corpus.eos_id)
        tokenizer = load_tokenizer(corpus.dir / "tokenizer")
        texts = (row["text"] for shard in shards for row in read_rows(shard.dir / "documents.parquet", ["text"]))
        self.synthetic = encode_documents(tokenizer, texts, corpus.eos_id, corpus.dtype)
        self._sources = self._source_indices(corpus, shards) if mixture.packing == "megadocs" else []
        self._separator = encode_documents(tokenizer, ["\n\n"], corpus.eos_id, corpus.dtype)[0][:-1]
        self._noise = TokenNoise(mixture.token_noise, self.organic, corpus.eos_id) if mixture.token_noise else None

    @property
    def summary(self) -> str:
        """How many documents and tokens there are, as one line."""
        organic, synthetic = len(self.organic.tokens), len(self.synthetic.tokens)
        return (
            f"mixture: {len(self.organic):,} organic documents ({organic:,} tokens), "
            f"{len(self.synthetic):,} synthetic ({synthetic:,} tokens)"
        )

    def __call__(self, number: int) -> np.ndarray:
        """The tokens of epoch `number`, `(T,)`; with token noise `(2, T)`: what is read, and what is to be predicted."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        plan = plan_epoch(self.organic.lengths, self.synthetic.lengths, self._mixture, seed)

        def build(organic: Sequence[np.ndarray]) -> np.ndarray:
            if self._mixture.packing == "megadocs":
                return build_epoch(pack_megadocs(organic, self.synthetic, self._sources, plan, self._separator, seed), seed)
            return build_epoch(repeat_documents(organic, self.synthetic, plan), seed)

        clean = build(self.organic)
        return clean if self._noise is None else np.stack([build(self._noise(seed)), clean])

    def _source_indices(self, corpus: Corpus, shards: Sequence[Shard]) -> list[int]:
        """For each synthetic document, the index of the organic document it was made from."""
        index = {d.id: i for i, d in enumerate(read_documents(corpus.dir, "train"))}
        if len(index) != len(self.organic):
            raise RuntimeError(
                f"{corpus.dir}: documents.parquet has {len(index)} train documents and tokens/train.bin has "
                f"{len(self.organic)}; run `prepare` again"
            )
        rows = (row for shard in shards for row in read_rows(shard.dir / "documents.parquet", ["document"]))
        return [index[row["document"]] for row in rows]
