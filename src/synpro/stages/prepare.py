"""Prepare organic text: documents in train, reference and held-out splits, passages of the train split, tokens.

Everything else reads these. Difference from the paper: the reference and held-out splits come from the same corpus, by a hash
of the document id, so that no generator and no tokenizer ever sees them and adding documents moves none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.assets import model_folder
from synpro.assets.tokenizer_loss import excerpt
from synpro.corpus.encoding import RemoteEncoder
from synpro.corpus.files import CorpusError
from synpro.corpus.passages import PassageConfig, cut_passages
from synpro.corpus.readers import SourceConfig
from synpro.corpus.tokens import (
    TokenizerConfig,
    check_lossless,
    fetch_tokenizer,
    load_tokenizer,
    model_tokenizer,
    save_tokenizer,
    special_ids,
    token_dtype,
    train_tokenizer,
    write_tokens,
)
from synpro.engines.parallel_map import ordered_map
from synpro.records import Corpus, digest_files, digest_of, encode
from synpro.runner.artifacts import write_json
from synpro.runner.context import StepContext
from synpro.runner.launch import threads
from synpro.runner.logger import StepLogger
from synpro.schema import setting

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from synpro.corpus.contamination import BenchmarkIndex
    from synpro.corpus.splits import DocumentIndex

SAMPLE_DOCUMENTS, SAMPLE_CHARACTERS = 500, 2_500_000
"""What of the train split, or of general text, is encoded and decoded to see what the tokenizer loses."""

LANGUAGE_SAMPLE = 500
"""Passages whose language is looked at."""


@dataclass(frozen=True)
class PrepareConfig:
    """The organic corpus."""

    sources: tuple[SourceConfig, ...] = ()
    """Where text comes from; at least one."""
    general: tuple[SourceConfig, ...] = ()
    """General text, such as the model of `pretrain.start` was trained on before. Half of it is only measured, to show
    what the model forgets; the others may be replayed (`pretrain.mixture.replay_share`)."""
    general_words: int = setting(200_000, unit="words", source="ours", min=1)
    """Words of general text. Where there is more, long documents give their beginnings, a fortieth of it and more, so that
    there are many documents."""
    reference_share: float = setting(0.01, source="ours", above=0, below=1)
    """Share of documents, by hash of their id, that the probe and the plateau read."""
    heldout_share: float = setting(0.01, source="ours", above=0, below=1)
    """Share of documents that only evaluation reads."""
    train_words: int | None = setting(None, unit="words", source="paper", min=1)
    """Most words in the train split; None takes all. Reading stops when the train split has so many (or `sample_words`) and the
    others have documents of 20 groups each. Paper: 0.8B tokens for the 400M model, 2.2B for the 1.1B model."""
    sample_words: int | None = setting(None, unit="words", source="ours", min=1)
    """Words for training that are read before the train split is chosen among them, by the hash of each document; None:
    train_words. Set it where the order of the files is no random one."""
    max_documents: int | None = setting(None, unit="documents", min=1)
    """Reading stops after so many usable documents; None reads everything."""
    document_characters: float | None = setting(None, unit="characters", above=0, execution=True)
    """Mean length of a document, for `synpro plan`; none = measured in a sample of local files, else that of web pages."""
    document_words: int | None = setting(None, unit="words", min=1)
    """Cut longer documents into several of at most so many words, at paragraph and sentence ends, before splitting; None leaves
    them whole. For small corpora of long documents. The parts of a document are all in one split."""
    exclude_tasks: tuple[str, ...] = ()
    """Reject documents that contain an item of these tasks (names as in `evaluate.tasks`; rule in `corpus/contamination.py`).
    Paper: none named. Whatever is excluded, `evaluate` reports which items are in the text that is trained on."""
    max_row_bytes: int = setting(20_000_000, unit="bytes", source="ours", min=1)
    """A larger row (text in UTF-8, or its line in a file) is rejected."""
    max_rejected: float = setting(0.1, source="ours", min=0, max=1, execution=True)
    """Share of rows and files that may be unusable (docs/data.md); above it the step stops and names the most frequent reasons.
    Ten may be, whatever their share."""
    passages: PassageConfig = field(default_factory=PassageConfig)
    """How documents are cut into passages."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """The tokenizer of the model."""

    def __post_init__(self) -> None:
        if self.reference_share + self.heldout_share >= 1.0:
            raise ValueError("heldout_share: with reference_share it leaves nothing to train on; their sum must be below 1")


def prepare(cfg: PrepareConfig, *, base: Corpus | None = None, model: str | None = None, ctx: StepContext) -> Corpus:
    """Read, reject, split, cut into passages and tokenize. The seed has no effect. An interrupted step reads on where a part of
    the files was done, and does what comes after reading anew.

    `base` is a smaller corpus of the same sources, for curves over unique tokens: its train documents are all among ours, the
    reference and held-out splits are the same, and its tokenizer is used, so that losses per token can be compared.
    `model`: what `pretrain.start` names, whose tokenizer `source = "model"` is.
    Raises CorpusError (a source that cannot be read, a corpus too small to split, a tokenizer that does not fit, a full disk)
    and AssetError (a reference that cannot be resolved).
    """
    from synpro.corpus import store
    from synpro.corpus.gather import Gatherer, GatherSettings
    from synpro.corpus.splits import DocumentIndex

    out, logger = ctx.out, ctx.logger
    if not cfg.sources:
        raise CorpusError("prepare.sources: no corpus is named; add [[prepare.sources]] with a path")
    if cfg.tokenizer.source == "model" and model is not None:
        folder = model_folder(model, slot="pretrain.start", log=logger.log, progress=logger.progress)
        cfg = replace(cfg, tokenizer=model_tokenizer(folder, cfg.tokenizer))
    _delete_leftovers(out)
    logger.truncate({})
    with store.disk_errors(out):
        index = DocumentIndex(cfg.reference_share, cfg.heldout_share)
        wanted = cfg.train_words and max(cfg.train_words, cfg.sample_words or 0)
        settings = GatherSettings(
            cfg.sources, cfg.max_row_bytes, cfg.max_rejected, cfg.max_documents, cfg.document_words, wanted
        )
        spool = out / f"spool-{digest_of(encode([cfg, *([base.digest] if base else [])], out, {}))[:12]}"
        benchmarks = _benchmark_index(cfg.exclude_tasks)
        parts = Gatherer(settings, index, logger, benchmarks).read(spool)
        splits = _choose_splits(cfg, index, logger, base, parts)
        counts = {name: splits.count(code) for code, name in enumerate(store.SPLITS)}
        documents = (row for part in parts for row in store.read_rows(part))
        rows = (
            {**row, "split": store.SPLITS[code]}
            for row, code in zip(documents, splits, strict=True)
            if code < len(store.SPLITS)
        )
        store.write_rows(out / "documents.parquet", store.DOCUMENTS, rows)
        cuts = (asdict(p) for d in store.read_documents(out, "train") for p in cut_passages(d, cfg.passages))
        passages = store.write_rows(out / "passages.parquet", store.PASSAGES, cuts)
        _write_languages(out, logger)
        tokenizer = _open_tokenizer(cfg.tokenizer, base, out, logger)
        eos, pad = special_ids(tokenizer, cfg.tokenizer)
        dtype = token_dtype(cfg.tokenizer.vocab_size)
        tokens = _write_splits(tokenizer, eos, dtype, sum(counts.values()), ctx)
        if cfg.general:
            tokens |= _write_general(cfg, tokenizer, eos, dtype, benchmarks, ctx)
        for leftover in out.glob("spool-*"):
            shutil.rmtree(leftover)
    written = [out / name for name in ("documents.parquet", "passages.parquet", "tokenizer", "tokens", "rejects.jsonl")]
    written += [out / "general.parquet"] if cfg.general else []
    logger.metrics(
        step=0,
        passages=passages,
        **{f"documents/{k}": v for k, v in counts.items()},
        **{f"tokens/{k}": v for k, v in tokens.items()},
    )
    if rejected := ", ".join(f"{n:,} {reason}" for reason, n in logger.rejects.reasons().items()):
        logger.log(f"rows and files not used, each with its reason in rejects.jsonl: {rejected}")
    logger.log(
        f"{counts['train']:,} train documents in {passages:,} passages and {tokens['train']:,} tokens; "
        f"{counts['reference']:,} reference and {counts['heldout']:,} held-out documents"
    )
    digest = digest_files(out, *written)
    return Corpus(out, cfg.tokenizer.vocab_size, eos, pad, dtype, counts, tokens, passages, digest)


def _write_languages(out: Path, logger: StepLogger) -> None:
    """Write and log the languages of the first passages: the report says which judges know them."""
    from synpro.corpus.store import read_rows
    from synpro.language.identification import languages_of

    shares = languages_of(row["text"] for row in islice(read_rows(out / "passages.parquet", ["text"]), LANGUAGE_SAMPLE))
    write_json(out / "languages.json", shares)
    logger.log("languages: " + (", ".join(f"{code} {share:.0%}" for code, share in shares.items()) or "none has 2%"))


def _delete_leftovers(out: Path) -> None:
    """Delete what an interrupted attempt left."""
    for name in ("tokenizer", "tokens"):
        shutil.rmtree(out / name, ignore_errors=True)
    for leftover in (*out.glob("*.parquet"), *out.glob("*.partial")):
        leftover.unlink()


def _benchmark_index(tasks: tuple[str, ...]) -> BenchmarkIndex | None:
    """What no document may hold; None without tasks. Raises ValueError for an unknown task."""
    if not tasks:
        return None
    from synpro.corpus.contamination import BenchmarkIndex
    from synpro.lm.tasks import benchmark_items

    return BenchmarkIndex.of(benchmark_items(tasks, "prepare.exclude_tasks"))


def _choose_splits(
    cfg: PrepareConfig, index: DocumentIndex, logger: StepLogger, base: Corpus | None, parts: list[Path]
) -> bytearray:
    """The split of each document in reading order. Raises CorpusError when a split would be empty, or unlike that of `base`."""
    from synpro.corpus.splits import UNUSED, find_nested, limit_train_words
    from synpro.corpus.store import read_rows

    def read_ids() -> list[str]:
        return [row["id"] for part in parts for row in read_rows(part, ["id"])]

    if not len(index):
        reasons = ", ".join(f"{n} {reason}" for reason, n in logger.rejects.reasons().items())
        raise CorpusError(
            f"prepare.sources: no usable text (rejected: {reasons or 'nothing, the files are empty'}); see rejects.jsonl"
        )
    index.check()
    for line in index.warnings():
        logger.log(line)
    splits = bytearray(index.splits)
    inner = find_nested(base, splits, read_ids()) if base else set()
    if cfg.train_words is not None:
        words = limit_train_words(splits, index, cfg.train_words, inner, read_ids)
        logger.log(
            f"train_words = {cfg.train_words:,}: {words:,} words of {index.totals[0]:,} that were read are used; "
            f"{splits.count(UNUSED):,} train documents are left out"
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
    texts = (d.text for d in read_documents(out, "train"))
    check_lossless(tokenizer, _sample(texts, out / "documents.parquet"), cfg, "prepare.sources", logger.log)
    save_tokenizer(tokenizer, out / "tokenizer", cfg)
    return tokenizer


def _sample(texts: Iterable[str], table: Path) -> list[str]:
    """Some of the texts of a table, evenly spread over it, and of long ones pieces from beginning to end."""
    import pyarrow.parquet as pq

    rows = pq.read_metadata(table).num_rows
    step = max(1, rows // SAMPLE_DOCUMENTS)
    return [excerpt(text, SAMPLE_CHARACTERS * step // rows) for text in islice(texts, 0, None, step)]


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


def _write_general(
    cfg: PrepareConfig, tokenizer: Tokenizer, eos: int, dtype: str, benchmarks: BenchmarkIndex | None, ctx: StepContext
) -> dict[str, int]:
    """Write `general.parquet` and its halves, `tokens/general.bin` and `tokens/replay.bin`. Returns tokens of each. Raises
    CorpusError when a half has no text."""
    from synpro.corpus import store
    from synpro.corpus.general import read_general

    rows = read_general(cfg.general, cfg.general_words, cfg.max_row_bytes, benchmarks, ctx.logger)
    store.write_rows(table := ctx.out / "general.parquet", store.DOCUMENTS, rows)
    if rows:
        sample = _sample((row["text"] for row in rows), table)
        check_lossless(tokenizer, sample, cfg.tokenizer, "prepare.general", ctx.logger.log)
    tokens = {}
    for half in ("general", "replay"):
        texts = [row["text"] for row in rows if row["split"] == half]
        if not texts:
            raise CorpusError(f"prepare.general: {len(rows)} usable rows leave none for one of its halves; give more text")
        tokens[half] = write_tokens(ctx.out / "tokens" / f"{half}.bin", texts, tokenizer, eos, dtype, threads())
    ctx.logger.log(f"general text: {tokens['general']:,} tokens to measure, {tokens['replay']:,} to replay")
    return tokens


def _ray_encoder(ctx: StepContext) -> RemoteEncoder | None:
    """Ray's workers, where the run has them."""
    if ctx.workers.launcher == "local":
        return None
    return lambda settings, batches: ordered_map(settings, batches, machine=ctx.workers, log=ctx.logger.log)
