"""prepare: organic text -> documents in train / reference / held-out, passages of the train split, tokens.

method.md, "The loop": what everything else reads. Differs from the paper in that the reference and held-out splits are
cut from the same corpus by a hash of the document id, so that no generator and no tokenizer ever sees them and adding documents
moves none.
"""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synpro.corpus.encoding import Elsewhere
from synpro.corpus.files import CorpusError, File
from synpro.corpus.passages import PassageConfig, cut, spans
from synpro.corpus.readers import Reader, Row, SourceConfig, find, read
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
from synpro.engines.spread import streamed
from synpro.records import Corpus, Document, digest_files
from synpro.run.journal import Journal
from synpro.run.launch import MachineConfig, threads
from synpro.run.ledger import Reject

if TYPE_CHECKING:
    from synpro.corpus.overlap import Items


@dataclass(frozen=True)
class PrepareConfig:
    """The organic corpus."""

    sources: tuple[SourceConfig, ...] = ()
    """Where text comes from; at least one."""
    reference_share: float = 0.01
    """Share of documents, by hash of their id, that the probe and the plateau read."""
    heldout_share: float = 0.01
    """Share of documents that only evaluation reads."""
    train_words: int | None = None
    """Most words in the train split; None takes all. Documents go in by hash order while they fit, the others are left
    `unused`. Paper: 0.8B tokens for the 400M model, 2.2B for the 1.1B model."""
    max_documents: int | None = None
    """Reading stops after so many good documents; None reads everything."""
    document_words: int | None = None
    """Cut longer documents into several of at most so many words, at paragraph and sentence ends, before splitting; None leaves
    them whole. For small corpora of long documents: parts of one document may then stand in different splits."""
    exclude_tasks: tuple[str, ...] = ()
    """Reject documents that hold an item of these evaluation tasks (names as in `evaluate.tasks`; rule in `corpus/overlap.py`).
    Paper: none named. Whatever is excluded, `evaluate` reports what stands in the text that is trained on."""
    max_row_bytes: int = 20_000_000
    """A larger row (text in UTF-8, or its line in a file) is rejected."""
    passages: PassageConfig = field(default_factory=PassageConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def __post_init__(self) -> None:
        for name in ("reference_share", "heldout_share"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name}: between 0 and 1, both excluded; 0.01 is usual")
        if self.reference_share + self.heldout_share >= 1.0:
            raise ValueError("heldout_share: with reference_share leaves nothing to train on; their sum must be below 1")
        for name in ("train_words", "max_documents", "document_words", "max_row_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: at least 1" + (", or none for no limit" if name != "max_row_bytes" else ""))


@dataclass(frozen=True)
class _Kept:
    """What is remembered of each document, in reading order: all that grows with their number once they are read."""

    places: array[float] = field(default_factory=lambda: array("d"))
    """Of its id's hash between 0 and 1: decides the split, and the order in which train documents go in."""
    words: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.places)


def prepare(cfg: PrepareConfig, *, base: Corpus | None = None, out: Path, journal: Journal, seed: int) -> Corpus:
    """Read, reject, split, cut and tokenize. An interrupted step starts over. `seed` changes nothing: splits go by hash.

    `base` is a smaller corpus of the same sources, for curves over unique tokens: its train documents are all among ours, the
    reference and held-out splits are the same, and its tokenizer is used, so that losses per token can be compared.
    Raises CorpusError (a source that cannot be read, a corpus too small to split, a tokenizer that does not fit, a full disk)
    and AssetError (a reference that cannot be had).
    """
    from synpro.corpus import store

    if not cfg.sources:
        raise CorpusError("prepare.sources: no corpus is named; add [[prepare.sources]] with a path")
    _clear(out)
    journal.rewind({})
    journal.rejects.start()
    with store.disk_errors(out):
        spool = out / "spool.parquet"
        kept = _Kept()
        store.write_rows(spool, store.DOCUMENTS, _documents(cfg, kept, journal))
        splits = _split(cfg, kept, journal, base, spool)
        counts = {name: splits.count(code) for code, name in enumerate(store.SPLITS)}
        rows = ({**row, "split": store.SPLITS[code]} for row, code in zip(store.read_rows(spool), splits, strict=True))
        store.write_rows(out / "documents.parquet", store.DOCUMENTS, rows)
        spool.unlink()
        cuts = (_passage_row(p) for d in _texts(out, "train") for p in cut(d, cfg.passages))
        passages = store.write_rows(out / "passages.parquet", store.PASSAGES, cuts)
        vocab, eos, pad, tokens = _tokens(cfg.tokenizer, out, len(kept) - counts["unused"], journal, base)
    written = [out / name for name in ("documents.parquet", "passages.parquet", "tokenizer", "tokens", "rejects.jsonl")]
    journal.metrics(
        step=0,
        passages=passages,
        **{f"documents/{k}": v for k, v in counts.items()},
        **{f"tokens/{k}": v for k, v in tokens.items()},
    )
    journal.say(
        f"{counts['train']:,} train documents in {passages:,} passages and {tokens['train']:,} tokens; "
        f"{counts['reference']:,} reference and {counts['heldout']:,} held-out documents"
    )
    return Corpus(out, vocab, eos, pad, token_dtype(vocab), counts, tokens, passages, digest_files(out, *written))


def _clear(out: Path) -> None:
    """Take away what an interrupted attempt left."""
    for name in ("tokenizer", "tokens"):
        shutil.rmtree(out / name, ignore_errors=True)
    for pattern in ("*.parquet", "*.partial"):
        for leftover in out.glob(pattern):
            leftover.unlink()


def _documents(cfg: PrepareConfig, kept: _Kept, journal: Journal) -> Iterator[dict[str, Any]]:
    """Rows of `documents.parquet` in reading order, their split still open; what cannot be used goes to the ledger.

    An exact copy of an earlier text is rejected, and so is another text under an id that is taken: two versions of a document
    could otherwise end on both sides of the split.
    """
    files: list[tuple[File, Reader, SourceConfig]] = []
    for number, source in enumerate(cfg.sources):
        found = find(source, slot=f"prepare.sources.{number}", say=journal.say, progress=journal.progress)
        files += [(file, reader, source) for file, reader in found]
    total = sum(file.size for file, _, _ in files)
    items = _items(cfg.exclude_tasks)
    first: dict[bytes, str] = {}  # hash of a text (128 bits) -> the document that holds it
    ids: set[str] = set()
    before = taken = 0

    def new(row: Row, id: str) -> bool:
        """Whether neither this text nor this id was there before; if not, the row goes to the ledger."""
        nonlocal taken
        digest = hashlib.sha256(row.text.encode()).digest()[:16]
        if digest in first:
            detail = f"the same text as document {first[digest]}"
            journal.rejects.append(Reject(id, "duplicate", detail, row.source, row.text))
        elif id in ids:
            taken += 1
            journal.rejects.append(Reject(id, "duplicate-id", "another text has this id already", row.source, row.text))
        else:
            first[digest] = id
            ids.add(id)
            return True
        return False

    for file, reader, source in files:
        for item in read(file, reader, source, cfg.max_row_bytes):
            journal.progress(min(before + file.done, total), total, "reading")
            if isinstance(item, Reject):
                journal.rejects.append(item)
                if item.reason == "damaged":
                    journal.say(f"{item.source}: {item.detail}")
                continue
            id = item.id if item.id is not None else hashlib.sha256(item.text.encode()).hexdigest()[:16]
            if not new(item, id):
                continue
            for part_id, part in _parts(id, item, cfg.document_words):
                if part_id != id and not new(part, part_id):
                    continue
                if items is not None and (held := items.contaminated(part.text)) is not None:
                    journal.rejects.append(Reject(part_id, *held, source=part.source, text=part.text))
                    continue
                kept.places.append(_place(part_id))
                kept.words.append(len(part.text.split()))
                yield _document_row(part_id, part, kept.words[-1])
                if len(kept) == cfg.max_documents:
                    journal.say(f"stopped reading after {len(kept):,} documents (max_documents)")
                    return
        before += file.size
    if taken:
        journal.say(
            f"{taken:,} rows had an id that another text has; ids must be unique over all sources, or leave `id_column` out"
        )
    if taken > len(kept):
        raise CorpusError(f"prepare.sources: {taken:,} of {taken + len(kept):,} rows repeat an id; leave `id_column` out")


def _items(tasks: tuple[str, ...]) -> Items | None:
    """What no document may hold. Raises ValueError for an unknown task."""
    if not tasks:
        return None
    from synpro.corpus.overlap import Items
    from synpro.lm.tasks import items

    return Items.of(items(tasks))


def _parts(id: str, row: Row, most: int | None) -> Iterator[tuple[str, Row]]:
    """The row itself, or its parts of at most `most` words, named `ID.PART`; white space at their ends goes."""
    if most is None or len(row.text.split()) <= most:
        yield id, row
        return
    limits = PassageConfig(max_characters=len(row.text), max_words=most)
    for number, (start, end) in enumerate(spans(row.text, limits)):
        text = row.text[start:end].strip()
        if text:
            yield f"{id}.{number:03d}", Row(None, text, row.source)


def _document_row(id: str, row: Row, words: int) -> dict[str, Any]:
    return {"id": id, "split": "", "text": row.text, "source": row.source, "words": words}


def _passage_row(passage: Any) -> dict[str, Any]:
    return {name: getattr(passage, name) for name in ("id", "document", "index", "start", "end", "text")}


def _place(id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    return int.from_bytes(hashlib.sha256(f"split:{id}".encode()).digest()[:8], "big") / 2**64


def _split(cfg: PrepareConfig, kept: _Kept, journal: Journal, base: Corpus | None, spool: Path) -> bytearray:
    """Split of each document in reading order, as its number in `store.SPLITS`.

    Raises CorpusError when one of the three would be empty, or would not hold the one of `base`.
    """
    from synpro.corpus.store import SPLITS

    if not kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in journal.rejects.reasons().items())
        raise CorpusError(
            f"prepare.sources: no usable text (rejected: {reasons or 'nothing, the files are empty'}); see rejects.jsonl"
        )
    train, reference, heldout, unused = range(len(SPLITS))
    reading = cfg.heldout_share + cfg.reference_share
    splits = bytearray(
        heldout if place < cfg.heldout_share else reference if place < reading else train for place in kept.places
    )
    counts = [splits.count(code) for code in (train, reference, heldout)]
    if not all(counts):
        raise CorpusError(
            f"prepare: the corpus is too small to split: {len(kept)} documents gave {counts[train]} train, "
            f"{counts[reference]} reference and {counts[heldout]} held-out, and each needs at least one; add documents, "
            "or raise prepare.reference_share and prepare.heldout_share"
        )
    inner = _nested(base, splits, spool)
    if cfg.train_words is not None:
        order = _order([i for i, code in enumerate(splits) if code == train], inner, kept, spool)
        words = 0
        for i in order:
            if words + kept.words[i] <= cfg.train_words:
                words += kept.words[i]
            else:
                splits[i] = unused
        if not words:
            least = min(kept.words[i] for i in order)
            raise CorpusError(
                f"prepare.train_words: no document fits into {cfg.train_words:,} words; the shortest has {least:,}"
            )
        left = splits.count(unused)
        if inner and not left and words < 0.98 * cfg.train_words:
            raise CorpusError(
                f"prepare.train_words: {cfg.train_words:,} words are asked for, and the sources hold {words:,} for training; "
                "take a smaller multiple, or give more text"
            )
        if left:
            journal.say(
                f"train_words = {cfg.train_words:,}: {words:,} words are used, {left:,} train documents are left unused"
            )
    return splits


def _order(train: list[int], inner: set[int], kept: _Kept, spool: Path) -> list[int]:
    """The order in which train documents go in: those of the smaller corpus, then by place, then by id."""
    train.sort(key=lambda i: (i not in inner, kept.places[i]))
    if any(kept.places[a] == kept.places[b] for a, b in pairwise(train)):  # one corpus of a million in ten thousand
        ids = _ids(spool)
        train.sort(key=lambda i: (i not in inner, kept.places[i], ids[i]))
    return train


def _ids(spool: Path) -> list[str]:
    """Of all documents, in reading order."""
    from synpro.corpus import store

    return [row["id"] for row in store.read_rows(spool, ["id"])]


def _nested(base: Corpus | None, splits: bytearray, spool: Path) -> set[int]:
    """Our places of the train documents of `base`. Raises CorpusError when its splits are not found again in ours."""
    from synpro.corpus import store

    inner: set[int] = set()
    if base is None:
        return inner
    places = {id: i for i, id in enumerate(_ids(spool))}
    for row in store.read_rows(base.dir / "documents.parquet", ["id", "split"]):
        place = places.get(row["id"])
        here = "missing" if place is None else store.SPLITS[splits[place]]
        if row["split"] != "unused" and here != row["split"]:
            raise CorpusError(
                f"prepare: document {row['id']} is in the {row['split']} split of the smaller corpus and "
                f"{here} here; both must be made of the same sources with the same shares"
            )
        if row["split"] == "train" and place is not None:
            inner.add(place)
    return inner


def _texts(out: Path, split: str) -> Iterator[Document]:
    from synpro.corpus import store

    for row in store.read_rows(out / "documents.parquet"):
        if row["split"] == split:
            yield Document(row["id"], row["text"], row["source"])


def _elsewhere(journal: Journal) -> Elsewhere | None:
    """The workers of Ray, where the run has them."""
    machine = MachineConfig.here()
    if machine.launcher == "local":
        return None
    return lambda settings, batches: streamed(settings, batches, machine=machine, say=journal.say)


def _tokens(
    cfg: TokenizerConfig, out: Path, total: int, journal: Journal, base: Corpus | None
) -> tuple[int, int, int, dict[str, int]]:
    """Write `tokenizer/` and `tokens/` of `total` documents; returns (vocabulary size, eos id, pad id, tokens per split)."""
    if base is not None:
        tokenizer = load_tokenizer(base.dir / "tokenizer")
    elif cfg.source == "train":
        tokenizer = train_tokenizer((d.text for d in _texts(out, "train")), cfg)
        trained = tokenizer.get_vocab_size()
        if trained < cfg.vocab_size:
            journal.say(
                f"the train split supports {trained:,} tokens; the model keeps room for vocab_size = {cfg.vocab_size:,}"
            )
    else:
        tokenizer = fetch_tokenizer(cfg, slot="prepare.tokenizer.source", say=journal.say, progress=journal.progress)
    save_tokenizer(tokenizer, out / "tokenizer", cfg)
    eos, pad = special_ids(tokenizer, cfg)
    counts: dict[str, int] = {}
    done = 0

    def watched(split: str) -> Iterator[str]:
        nonlocal done
        for document in _texts(out, split):
            done += 1
            journal.progress(done, total, "tokens")
            yield document.text

    for split in ("train", "reference", "heldout"):
        path = out / "tokens" / f"{split}.bin"
        counts[split] = write_tokens(
            path, watched(split), tokenizer, eos, token_dtype(cfg.vocab_size), threads(), _elsewhere(journal)
        )
    return cfg.vocab_size, eos, pad, counts
