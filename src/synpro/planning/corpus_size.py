"""The size of a corpus before and after it is prepared: tokens, documents, passages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.config import RunConfig
from synpro.planning.memory import TOKENS_PER_WORD
from synpro.runner.artifacts import finished, read_record

if TYPE_CHECKING:
    from synpro.corpus.readers import SourceConfig

SMALL_VOCABULARY = 1.7
"""Tokens per word of a small trained BPE on English. Replaced by the measured ratio once the corpus is prepared."""
CHARACTERS_PER_WORD = 6
"""Characters of an English word, with the space after it."""
DOCUMENT_CHARACTERS = 5600
"""Mean length of a web document (DCLM-baseline: about 4T tokens in 3B documents, 4.2 characters a token). Assumed where nothing
is known."""
SAMPLE, SAMPLE_BYTES = 200, 1 << 24
"""Documents of a local source whose length is measured, and bytes of it that are decompressed for its size."""


class PlanError(ValueError):
    """A plan that cannot be made; the message says what is missing."""


@dataclass(frozen=True)
class CorpusSize:
    """The size of the corpus, as far as it is known."""

    tokens: int
    passages: int
    passage_words: float
    known: bool
    """False while this is estimated from the config."""
    documents: int = 0
    about: str = "measured by prepare"
    """Where the numbers come from, in words."""


def corpus_size(cfg: RunConfig, root: Path) -> CorpusSize:
    """The size of the corpus from `prepare`'s result, else from the config. Raises PlanError when neither can tell."""
    ratio = SMALL_VOCABULARY if cfg.prepare.tokenizer.source == "train" else TOKENS_PER_WORD
    step = root / "round-00" / "prepare"
    if finished(step):
        record = read_record(step)
        tokens, passages = record["tokens"]["train"], record["passages"]
        return CorpusSize(
            tokens, passages, tokens / ratio / max(1, passages), True, record.get("documents", {}).get("train", 0)
        )
    lengths, about = document_lengths(cfg)
    words = cfg.prepare.train_words
    if words is None:
        size = sum(_characters(source, sum(lengths) / len(lengths)) for source in cfg.prepare.sources)
        if not size:
            raise PlanError(
                "the size of the corpus is not known before it is read: set prepare.train_words, or run the first step "
                "(synpro step CONFIG round-00/prepare) and plan again"
            )
        words = round(size / CHARACTERS_PER_WORD)
    most = cfg.prepare.document_words
    mean = min(sum(lengths) / len(lengths), most * CHARACTERS_PER_WORD if most else math.inf)
    documents = max(1, round(words * CHARACTERS_PER_WORD / mean))
    limits = cfg.prepare.passages
    target = limits.target_words or limits.max_words
    passage = min(target * CHARACTERS_PER_WORD if target else math.inf, limits.max_characters)
    each = (
        sum(math.ceil(n / passage) for n in lengths) / len(lengths) if len(lengths) > 1 and not most else _cuts(mean, passage)
    )
    passages = max(1, round(documents * each))
    return CorpusSize(round(words * ratio), passages, words / passages, False, documents, about)


def document_lengths(cfg: RunConfig) -> tuple[Sequence[float], str]:
    """(characters of documents, where that is known from): one mean, or the lengths of a sample."""
    if cfg.prepare.document_characters is not None:
        return [cfg.prepare.document_characters], "documents as prepare.document_characters says"
    lengths = [length for source in cfg.prepare.sources if _local_files(source.path) for length in _sample(source)]
    if lengths:
        return lengths, f"documents as the first {len(lengths):,} of the sources"
    return [
        DOCUMENT_CHARACTERS
    ], f"documents of {DOCUMENT_CHARACTERS:,} characters on average assumed: prepare.document_characters"


def _cuts(mean: float, passage: float) -> float:
    """Passages of a document on average, where lengths are distributed exponentially: E[ceil(length / passage)]."""
    return 1 / -math.expm1(-passage / mean)


def _characters(source: SourceConfig, mean: float) -> float:
    """Characters of a local source, by what a byte of its first file holds: rows of Parquet, or what it decompresses to."""
    import pyarrow.parquet as pq

    from synpro.corpus.readers import find_files

    size, read = float(sum(file.stat().st_size for file in _local_files(source.path))), 0
    try:
        first = find_files(source, slot="prepare.sources").files[0]
        if first.head().startswith(b"PAR1"):
            return size * pq.read_metadata(first.path).num_rows * mean / first.size
        for chunk in first.chunks():
            read += len(chunk)
            if read >= SAMPLE_BYTES:
                break
        return size * read / first.done
    except Exception:  # whatever is wrong with a source is for `prepare` to say
        return size


def _sample(source: SourceConfig) -> list[float]:
    from synpro.corpus.readers import SourceRow, find_files, read_source

    try:
        files = find_files(source, slot="prepare.sources").files
        rows = (row for file in files for row in read_source(file, source, 20_000_000))
        return [float(len(row.text)) for row in islice(rows, SAMPLE) if isinstance(row, SourceRow)]
    except Exception:  # whatever is wrong with a source is for `prepare` to say
        return []


def _local_files(path: str) -> list[Path]:
    here = Path(path)
    if here.is_dir():
        return [p for p in here.rglob("*") if p.is_file()]
    if here.is_file():
        return [here]
    return [p for p in Path().glob(path) if p.is_file()] if "*" in path and ":" not in path and not here.is_absolute() else []
