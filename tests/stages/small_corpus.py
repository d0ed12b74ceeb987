"""A corpus of simple sentences with its own tokenizer, and a synthetic shard, as `prepare` and `synthesize` write them."""

from __future__ import annotations

import random
from pathlib import Path

from synpro.records import Corpus, Shard, digest_files
from tests.lm.conftest import sentences

WORDS = [*"model river word stone sand water year".split(), *"reads turns runs sees".split(), *"the a of and over into".split()]  # noqa: SIM905


def text(seed: int) -> str:
    """Paragraphs of random words; another text for every seed."""
    rng = random.Random(seed)
    parts = [" ".join(rng.choices(WORDS, k=rng.randint(4, 14))).capitalize() + f" {seed}." for _ in range(rng.randint(3, 20))]
    return "\n\n".join(" ".join(parts[i : i + 4]) for i in range(0, len(parts), 4))


def small_corpus(folder: Path) -> Corpus:
    """60 training, 30 reference and 30 held-out documents; 320 ids."""
    from synpro.corpus.store import DOCUMENTS, write_rows
    from synpro.corpus.tokens import TokenizerConfig, save_tokenizer, train_tokenizer, write_tokens

    cfg = TokenizerConfig(source="train", vocab_size=320)
    splits = {"train": sentences(11, 60), "reference": sentences(12, 30), "heldout": sentences(13, 30)}
    tokenizer = train_tokenizer(splits["train"], cfg)
    save_tokenizer(tokenizer, folder / "tokenizer", cfg)
    eos, pad = tokenizer.token_to_id(cfg.eos_token), tokenizer.token_to_id(cfg.pad_token)
    tokens = {name: write_tokens(folder / "tokens" / f"{name}.bin", t, tokenizer, eos, "uint16") for name, t in splits.items()}
    rows = [
        {"id": f"{name}-{i}", "split": name, "text": text, "source": f"{name}:{i}", "words": len(text.split())}
        for name, texts in splits.items()
        for i, text in enumerate(texts)
    ]
    write_rows(folder / "documents.parquet", DOCUMENTS, rows)
    digest = digest_files(folder, folder / "documents.parquet", folder / "tokens")
    return Corpus(folder, 320, eos, pad, "uint16", {n: len(t) for n, t in splits.items()}, tokens, 0, digest)


def small_shard(folder: Path, corpus: Corpus) -> Shard:
    """40 synthetic documents."""
    from synpro.corpus.synthetic import shard_of_texts

    return shard_of_texts(folder, ((f"train-{i}", text) for i, text in enumerate(sentences(14, 40))), corpus, "rephrase")
