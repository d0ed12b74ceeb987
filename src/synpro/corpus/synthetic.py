"""The documents of synthetic shards on disk: `documents.parquet`, and `tokens.bin` with the same texts as token ids.

A text is encoded once, by the step that generated it; pretraining maps the file, in every process and at every start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synpro.corpus.documents import TokenizedDocuments
from synpro.corpus.store import SYNTHETIC_DOCUMENTS, read_rows, write_rows
from synpro.corpus.tokens import encode_documents, load_tokenizer, read_tokens, split_documents, write_tokens
from synpro.records import Corpus, Shard, digest_files
from synpro.runner.launch import threads


def write_synthetic(folder: Path, rows: Iterable[Mapping[str, Any]], corpus: Corpus) -> tuple[int, int]:
    """Write the two files from rows of `SYNTHETIC_DOCUMENTS`; the number of documents and of their tokens, EOS included."""
    documents = write_rows(folder / "documents.parquet", SYNTHETIC_DOCUMENTS, rows)
    texts = (row["text"] for row in read_rows(folder / "documents.parquet", ["text"]))
    tokenizer = load_tokenizer(corpus.dir / "tokenizer")
    return documents, write_tokens(folder / "tokens.bin", texts, tokenizer, corpus.eos_id, corpus.dtype, threads())


def shard_of_texts(
    folder: Path, texts: Iterable[tuple[str, str]], corpus: Corpus, operation: str = "texts", round: int = 1
) -> Shard:
    """A shard of texts that no step has generated, as (id of the organic document, text); all count as kept."""
    folder.mkdir(parents=True, exist_ok=True)
    versions: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        for document, text in texts:
            version = versions[document]
            versions[document] += 1
            common = {"document": document, "operation": operation, "round": round, "version": version, "text": text}
            yield {"id": f"{document}:{operation}:{round:02d}:{version}", **common}

    documents, tokens = write_synthetic(folder, rows(), corpus)
    return Shard(
        dir=folder,
        operation=operation,
        round=round,
        **dict.fromkeys(("passages", "answers", "kept", "covered", "documents"), documents),
        dropped=0,
        tokens=0,
        text_tokens=tokens,
        tokenizer=tokenizer_digest(corpus),
        digest=digest_files(folder, folder / "documents.parquet", folder / "tokens.bin"),
    )


def tokenizer_digest(corpus: Corpus) -> str:
    """sha256 of a corpus' tokenizer; corpora that read with the same one have the same."""
    return digest_files(corpus.dir, corpus.dir / "tokenizer" / "tokenizer.json")


def read_column(shards: Sequence[Shard], name: str) -> list[str]:
    """A column of the synthetic documents of all shards."""
    return [row[name] for shard in shards for row in read_rows(shard.dir / "documents.parquet", [name])]


def shard_documents(corpus: Corpus, shards: Sequence[Shard]) -> list[TokenizedDocuments]:
    """The documents of each shard, as views of its mapped `tokens.bin`.

    Raises CorpusError for files that are missing or not whole, RuntimeError for a shard of another tokenizer.
    """
    parts: list[TokenizedDocuments] = []
    tokenizer = tokenizer_digest(corpus)
    for shard in shards:
        if not shard.tokenizer:
            texts = (row["text"] for row in read_rows(shard.dir / "documents.parquet", ["text"]))
            parts.append(encode_documents(load_tokenizer(corpus.dir / "tokenizer"), texts, corpus.eos_id, corpus.dtype))
            continue
        if shard.tokenizer != tokenizer:
            raise RuntimeError(f"{shard.dir}: tokens.bin was encoded by another tokenizer than that of {corpus.dir}")
        part = split_documents(read_tokens(shard.dir / "tokens.bin", corpus.dtype), corpus.eos_id)
        if len(part) != shard.documents:
            raise RuntimeError(f"{shard.dir}: tokens.bin has {len(part)} documents, documents.parquet {shard.documents}")
        parts.append(part)
    return parts
