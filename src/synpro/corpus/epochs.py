"""The epochs of a training mixture as token arrays: organic and synthetic documents, repeated, packed, ordered and noised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synpro.corpus.documents import ChosenDocuments, JoinedDocuments
from synpro.corpus.files import CorpusError
from synpro.corpus.mixture import (
    EpochPlan,
    MixtureConfig,
    TokenNoise,
    build_epoch,
    megadoc_joins,
    pack_megadocs,
    plan_epoch,
    repeat_documents,
    subsample,
)
from synpro.corpus.store import read_documents
from synpro.corpus.synthetic import read_column, shard_documents
from synpro.corpus.tokens import encode_documents, load_tokenizer, read_tokens, split_documents
from synpro.records import Corpus, Shard


class MixtureEpochs:
    """Builds the n-th epoch over a corpus and its synthetic shards; a function of the seed and n."""

    def __init__(self, mixture: MixtureConfig, corpus: Corpus, shards: Sequence[Shard], seed: int) -> None:
        """Open the tokens of the train split and of the shards.

        Raises CorpusError for files that are missing or not whole, RuntimeError when documents and tokens do not fit together.
        """
        self._mixture, self._seed = mixture, seed
        self.organic = split_documents(read_tokens(corpus.dir / "tokens" / "train.bin", corpus.dtype), corpus.eos_id)
        parts = shard_documents(corpus, shards)
        self.synthetic: Sequence[np.ndarray] = JoinedDocuments(parts)
        self._lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
        places = np.arange(len(self.synthetic))
        if mixture.synthetic_tokens is not None:
            ids, sources = (read_column(shards, name) for name in ("id", "document"))
            places = subsample(ids, sources, self._lengths, mixture.synthetic_tokens)
            self.synthetic, self._lengths = ChosenDocuments(self.synthetic, places), self._lengths[places]
        megadocs = mixture.packing == "megadocs"
        self._sources = self._source_indices(corpus, shards)[places].tolist() if megadocs else []
        separator = encode_documents(load_tokenizer(corpus.dir / "tokenizer"), ["\n\n"], corpus.eos_id, corpus.dtype)[0]
        self._separator = separator[:-1]
        self._replay = np.empty(0, corpus.dtype)
        if mixture.replay_share:
            if "replay" not in corpus.tokens:
                raise CorpusError("pretrain.mixture.replay_share: there is no general text; name some in [[prepare.general]]")
            self._replay = np.asarray(read_tokens(corpus.dir / "tokens" / "replay.bin", corpus.dtype))
        self._eos_id = corpus.eos_id
        self._noise = TokenNoise(mixture.token_noise, self.organic, corpus.eos_id) if mixture.token_noise else None

    @property
    def summary(self) -> str:
        """How many documents and tokens there are, as one line."""
        organic, synthetic = len(self.organic.tokens), int(self._lengths.sum())
        return (
            f"mixture: {len(self.organic):,} organic documents ({organic:,} tokens), "
            f"{len(self.synthetic):,} synthetic ({synthetic:,} tokens)"
            + (f", {self._mixture.replay_share:.0%} general text ({len(self._replay):,} tokens)" if len(self._replay) else "")
        )

    def length(self, number: int) -> int:
        """Tokens of epoch `number`, without building it."""
        plan = self._plan(number)
        joins = megadoc_joins(self._sources, plan) if self._mixture.packing == "megadocs" else 0
        joined = joins * (len(self._separator) - 1)
        return plan.tokens + self._replayed(plan) + joined  # where two versions are joined, a separator replaces an EOS

    def __call__(self, number: int) -> np.ndarray:
        """The tokens of epoch `number`, `(T,)`; with token noise `(2, T)`: what is read, and what is to be predicted."""
        seed, plan = self._epoch_seed(number), self._plan(number)
        wanted = self._replayed(plan)
        general: Sequence[np.ndarray] = []
        if wanted:
            taken = self._replay.take(np.arange((number - 1) * wanted, number * wanted), mode="wrap")
            taken[-1] = self._eos_id  # the last document is cut, and must not run into the one that follows
            general = split_documents(taken, self._eos_id)

        def build(organic: Sequence[np.ndarray]) -> np.ndarray:
            if self._mixture.packing == "megadocs":
                packed = pack_megadocs(organic, self.synthetic, self._sources, plan, self._separator, seed)
                return build_epoch([*packed, *general], seed)
            documents = repeat_documents(organic, self.synthetic, plan)
            return build_epoch([*documents, *general] if general else documents, seed)

        clean = build(self.organic)
        return clean if self._noise is None else np.stack([build(self._noise(seed)), clean])

    def _replayed(self, plan: EpochPlan) -> int:
        """Tokens of general text in an epoch."""
        share = self._mixture.replay_share
        return round(plan.tokens * share / (1.0 - share))

    def _epoch_seed(self, number: int) -> int:
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def _plan(self, number: int) -> EpochPlan:
        return plan_epoch(self.organic.lengths, self._lengths, self._mixture, self._epoch_seed(number))

    def _source_indices(self, corpus: Corpus, shards: Sequence[Shard]) -> np.ndarray:
        """For each synthetic document, the index of the organic document it was made from."""
        index = {d.id: i for i, d in enumerate(read_documents(corpus.dir, "train"))}
        if len(index) != len(self.organic):
            raise RuntimeError(
                f"{corpus.dir}: documents.parquet has {len(index)} train documents and tokens/train.bin has "
                f"{len(self.organic)}; remove that folder and run the same command again"
            )
        return np.array([index[document] for document in read_column(shards, "document")], dtype=np.int64)
