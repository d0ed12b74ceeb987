"""Prepare organic text: documents in train, reference and held-out splits, passages of the train split, tokens.

Everything else reads these. Difference from the paper: the reference and held-out splits come from the same corpus, by a hash
of the document id, so that no generator and no tokenizer ever sees them and adding documents moves none.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from synpro.corpus.encoding import RemoteEncoder
from synpro.corpus.files import CorpusError, SourceFile
from synpro.corpus.passages import PassageConfig, cut_passages, passage_spans
from synpro.corpus.readers import Reader, SourceConfig, SourceRow, find_files, read_source
from synpro.corpus.tokens import (
    TokenizerConfig,
    fetch_tokenizer,
    load_tokenizer,
    save_tokenizer,
    special_ids,
    token_dtype,
    train_tokenizer,
    write_tokens,
)
from synpro.engines.parallel_map import ordered_map
from synpro.records import Corpus, digest_files
from synpro.runner.context import StepContext
from synpro.runner.launch import threads
from synpro.runner.logger import StepLogger
from synpro.runner.rejects import Reject
from synpro.schema import setting

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from synpro.corpus.contamination import BenchmarkIndex
    from synpro.corpus.splits import DocumentIndex


@dataclass(frozen=True)
class PrepareConfig:
    """The organic corpus."""

    sources: tuple[SourceConfig, ...] = ()
    """Where text comes from; at least one."""
    reference_share: float = setting(0.01, source="ours", above=0, below=1)
    """Share of documents, by hash of their id, that the probe and the plateau read."""
    heldout_share: float = setting(0.01, source="ours", above=0, below=1)
    """Share of documents that only evaluation reads."""
    train_words: int | None = setting(None, unit="words", source="paper", min=1)
    """Most words in the train split; None takes all. Documents go in by the order of their hash while they fit, the others are
    `unused`. Paper: 0.8B tokens for the 400M model, 2.2B for the 1.1B model."""
    max_documents: int | None = setting(None, unit="documents", min=1)
    """Reading stops after so many usable documents; None reads everything."""
    document_words: int | None = setting(None, unit="words", min=1)
    """Cut longer documents into several of at most so many words, at paragraph and sentence ends, before splitting; None leaves
    them whole. For small corpora of long documents: parts of one document may then be in different splits."""
    exclude_tasks: tuple[str, ...] = ()
    """Reject documents that contain an item of these tasks (names as in `evaluate.tasks`; rule in `corpus/contamination.py`).
    Paper: none named. Whatever is excluded, `evaluate` reports which items are in the text that is trained on."""
    max_row_bytes: int = setting(20_000_000, unit="bytes", source="ours", min=1)
    """A larger row (text in UTF-8, or its line in a file) is rejected."""
    passages: PassageConfig = field(default_factory=PassageConfig)
    """How documents are cut into passages."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """The tokenizer of the model."""

    def __post_init__(self) -> None:
        if self.reference_share + self.heldout_share >= 1.0:
            raise ValueError("heldout_share: with reference_share it leaves nothing to train on; their sum must be below 1")


def prepare(cfg: PrepareConfig, *, base: Corpus | None = None, ctx: StepContext) -> Corpus:
    """Read, reject, split, cut into passages and tokenize. An interrupted step starts over; the seed has no effect.

    `base` is a smaller corpus of the same sources, for curves over unique tokens: its train documents are all among ours, the
    reference and held-out splits are the same, and its tokenizer is used, so that losses per token can be compared.
    Raises CorpusError (a source that cannot be read, a corpus too small to split, a tokenizer that does not fit, a full disk)
    and AssetError (a reference that cannot be resolved).
    """
    from synpro.corpus import store
    from synpro.corpus.splits import DocumentIndex

    out, logger = ctx.out, ctx.logger
    if not cfg.sources:
        raise CorpusError("prepare.sources: no corpus is named; add [[prepare.sources]] with a path")
    _delete_leftovers(out)
    logger.truncate({})
    logger.rejects.clear()
    with store.disk_errors(out):
        spool = out / "spool.parquet"  # documents in reading order, before their split is known
        index = DocumentIndex()
        store.write_rows(spool, store.DOCUMENTS, _read_documents(cfg, index, logger))
        splits = _split(cfg, index, logger, base, spool)
        counts = {name: splits.count(code) for code, name in enumerate(store.SPLITS)}
        rows = ({**row, "split": store.SPLITS[code]} for row, code in zip(store.read_rows(spool), splits, strict=True))
        store.write_rows(out / "documents.parquet", store.DOCUMENTS, rows)
        spool.unlink()
        cuts = (asdict(p) for d in store.read_documents(out, "train") for p in cut_passages(d, cfg.passages))
        passages = store.write_rows(out / "passages.parquet", store.PASSAGES, cuts)
        tokenizer = _open_tokenizer(cfg.tokenizer, base, out, logger)
        eos, pad = special_ids(tokenizer, cfg.tokenizer)
        dtype = token_dtype(cfg.tokenizer.vocab_size)
        tokens = _write_splits(tokenizer, eos, dtype, len(index) - counts["unused"], ctx)
    written = [out / name for name in ("documents.parquet", "passages.parquet", "tokenizer", "tokens", "rejects.jsonl")]
    logger.metrics(
        step=0,
        passages=passages,
        **{f"documents/{k}": v for k, v in counts.items()},
        **{f"tokens/{k}": v for k, v in tokens.items()},
    )
    logger.log(
        f"{counts['train']:,} train documents in {passages:,} passages and {tokens['train']:,} tokens; "
        f"{counts['reference']:,} reference and {counts['heldout']:,} held-out documents"
    )
    digest = digest_files(out, *written)
    return Corpus(out, cfg.tokenizer.vocab_size, eos, pad, dtype, counts, tokens, passages, digest)


def _delete_leftovers(out: Path) -> None:
    """Delete what an interrupted attempt left."""
    for name in ("tokenizer", "tokens"):
        shutil.rmtree(out / name, ignore_errors=True)
    for pattern in ("*.parquet", "*.partial"):
        for leftover in out.glob(pattern):
            leftover.unlink()


def _read_documents(cfg: PrepareConfig, index: DocumentIndex, logger: StepLogger) -> Iterator[dict[str, Any]]:
    """Rows of `documents.parquet` in reading order, without a split, added to `index`; the reject log gets what is not used."""
    benchmarks = _benchmark_index(cfg.exclude_tasks)
    unique = _UniqueRows(logger)
    for row in _read_sources(cfg, logger):
        id = row.id if row.id is not None else hashlib.sha256(row.text.encode()).hexdigest()[:16]
        if not unique.accept(row, id):
            continue
        for part in _parts(id, row, cfg.document_words):
            if part.id != id and not unique.accept(part.row, part.id):
                continue
            if benchmarks is not None and (found := benchmarks.contaminated(part.row.text)) is not None:
                logger.rejects.append(Reject(part.id, *found, source=part.row.source, text=part.row.text))
                continue
            words = len(part.row.text.split())
            index.append(part.id, words)
            yield {"id": part.id, "split": "", "text": part.row.text, "source": part.row.source, "words": words}
            if len(index) == cfg.max_documents:
                logger.log(f"stopped reading after {len(index):,} documents (prepare.max_documents)")
                return
    if repeated := unique.repeated_ids:
        logger.log(
            f"{repeated:,} rows had an id that another text has; ids must be unique over all sources, or leave `id_column` out"
        )
        if repeated > len(index):
            total = repeated + len(index)
            raise CorpusError(f"prepare.sources: {repeated:,} of {total:,} rows repeat an id; leave `id_column` out")


def _read_sources(cfg: PrepareConfig, logger: StepLogger) -> Iterator[SourceRow]:
    """The usable rows of all sources, in their order; the others go to the reject log."""
    files: list[tuple[SourceFile, Reader, SourceConfig]] = []
    for number, source in enumerate(cfg.sources):
        found = find_files(source, slot=f"prepare.sources.{number}", log=logger.log, progress=logger.progress)
        files += [(file, reader, source) for file, reader in found]
    total = sum(file.size for file, _, _ in files)
    before = 0
    for file, reader, source in files:
        for row in read_source(file, reader, source, cfg.max_row_bytes):
            logger.progress(min(before + file.done, total), total, "reading")
            if isinstance(row, SourceRow):
                yield row
                continue
            logger.rejects.append(row)
            if row.reason == "damaged":
                logger.log(f"{row.source}: {row.detail}")
        before += file.size


class _UniqueRows:
    """Rejects a text that was there before, and another text under an id that is taken.

    Two versions of a document could otherwise end on both sides of the split.
    """

    def __init__(self, logger: StepLogger) -> None:
        self.repeated_ids = 0
        self._rejects = logger.rejects
        self._first: dict[bytes, str] = {}  # hash of a text (128 bits) -> the document that holds it
        self._ids: set[str] = set()

    def accept(self, row: SourceRow, id: str) -> bool:
        """Whether neither this text nor this id was there before; if not, the row goes to the reject log."""
        digest = hashlib.sha256(row.text.encode()).digest()[:16]
        if digest in self._first:
            detail = f"the same text as document {self._first[digest]}"
            self._rejects.append(Reject(id, "duplicate", detail, row.source, row.text))
            return False
        if id in self._ids:
            self.repeated_ids += 1
            self._rejects.append(Reject(id, "duplicate-id", "another text has this id already", row.source, row.text))
            return False
        self._first[digest] = id
        self._ids.add(id)
        return True


def _benchmark_index(tasks: tuple[str, ...]) -> BenchmarkIndex | None:
    """What no document may hold; None without tasks. Raises ValueError for an unknown task."""
    if not tasks:
        return None
    from synpro.corpus.contamination import BenchmarkIndex
    from synpro.lm.tasks import benchmark_items

    return BenchmarkIndex.of(benchmark_items(tasks))


class _Part(NamedTuple):
    """A document as it is kept: a row, or a part of a long one."""

    id: str
    row: SourceRow


def _parts(id: str, row: SourceRow, max_words: int | None) -> Iterator[_Part]:
    """The row itself, or its parts of at most `max_words` words, named `ID.PART`; white space at their ends is dropped."""
    if max_words is None or len(row.text.split()) <= max_words:
        yield _Part(id, row)
        return
    limits = PassageConfig(max_characters=len(row.text), max_words=max_words)
    for number, (start, end) in enumerate(passage_spans(row.text, limits)):
        text = row.text[start:end].strip()
        if text:
            yield _Part(f"{id}.{number:03d}", SourceRow(None, text, row.source))


def _split(cfg: PrepareConfig, index: DocumentIndex, logger: StepLogger, base: Corpus | None, spool: Path) -> bytearray:
    """The split of each document in reading order. Raises CorpusError when a split would be empty, or unlike that of `base`."""
    from synpro.corpus.splits import UNUSED, find_nested, limit_train_words, split_by_hash
    from synpro.corpus.store import read_rows

    def read_ids() -> list[str]:
        return [row["id"] for row in read_rows(spool, ["id"])]

    if not len(index):
        reasons = ", ".join(f"{n} {reason}" for reason, n in logger.rejects.reasons().items())
        raise CorpusError(
            f"prepare.sources: no usable text (rejected: {reasons or 'nothing, the files are empty'}); see rejects.jsonl"
        )
    splits = split_by_hash(index, reference_share=cfg.reference_share, heldout_share=cfg.heldout_share)
    inner = find_nested(base, splits, read_ids()) if base else set()
    if cfg.train_words is not None:
        words = limit_train_words(splits, index, cfg.train_words, inner, read_ids)
        if unused := splits.count(UNUSED):
            logger.log(
                f"train_words = {cfg.train_words:,}: {words:,} words are used, {unused:,} train documents are left unused"
            )
    return splits


def _open_tokenizer(cfg: TokenizerConfig, base: Corpus | None, out: Path, logger: StepLogger) -> Tokenizer:
    """The tokenizer of `base`, or the one that the config names, trained or fetched; saved in `tokenizer/`."""
    from synpro.corpus.store import read_documents

    if base is not None:
        tokenizer = load_tokenizer(base.dir / "tokenizer")
    elif cfg.source == "train":
        tokenizer = train_tokenizer((d.text for d in read_documents(out, "train")), cfg)
        trained = tokenizer.get_vocab_size()
        if trained < cfg.vocab_size:
            logger.log(f"the train split supports {trained:,} tokens; the model keeps room for vocab_size = {cfg.vocab_size:,}")
    else:
        tokenizer = fetch_tokenizer(cfg, slot="prepare.tokenizer.source", log=logger.log, progress=logger.progress)
    save_tokenizer(tokenizer, out / "tokenizer", cfg)
    return tokenizer


def _write_splits(tokenizer: Tokenizer, eos: int, dtype: str, total: int, ctx: StepContext) -> dict[str, int]:
    """Write `tokens/SPLIT.bin` of `total` documents; returns tokens per split."""
    from synpro.corpus.store import read_documents

    done = 0

    def texts(split: str) -> Iterator[str]:
        nonlocal done
        for document in read_documents(ctx.out, split):
            done += 1
            ctx.logger.progress(done, total, "tokens")
            yield document.text

    remote = _ray_encoder(ctx)
    return {
        split: write_tokens(ctx.out / "tokens" / f"{split}.bin", texts(split), tokenizer, eos, dtype, threads(), remote)
        for split in ("train", "reference", "heldout")
    }


def _ray_encoder(ctx: StepContext) -> RemoteEncoder | None:
    """Ray's workers, where the run has them."""
    if ctx.workers.launcher == "local":
        return None
    return lambda settings, batches: ordered_map(settings, batches, machine=ctx.workers, log=ctx.logger.log)
