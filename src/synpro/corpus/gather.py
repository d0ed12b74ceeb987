"""Reading the sources of a corpus until there is enough, in parts that a restart need not read again.

A part is the documents of some whole files, `NNNNN.parquet` in a folder beside the step's results, with what else was learned
from those files. The folder is deleted when the step is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synpro.corpus.files import CorpusError, SourceFile
from synpro.corpus.passages import PassageConfig, passage_spans
from synpro.corpus.readers import RejectCount, SourceConfig, SourceRow, find_files, read_source
from synpro.corpus.splits import DocumentIndex
from synpro.corpus.store import DOCUMENTS, read_rows, write_rows
from synpro.language.segmentation import count_words, is_blank
from synpro.runner.artifacts import write_json
from synpro.runner.logger import StepLogger
from synpro.runner.rejects import Reject

if TYPE_CHECKING:
    from synpro.corpus.contamination import BenchmarkIndex

_SEEN = pa.schema([("digest", pa.binary(16)), ("id", pa.string())])
_PART_CHARACTERS = 64 << 20
"""Characters after which a part ends, at the end of a file."""


@dataclass(frozen=True)
class GatherSettings:
    """What is read, and how much."""

    sources: Sequence[SourceConfig]
    max_row_bytes: int
    max_rejected: float
    max_documents: int | None
    document_words: int | None
    train_words: int | None
    """Reading stops when the train split has so many, and the others have groups enough."""


@dataclass
class Gatherer:
    """Reads documents into parts; `index` knows all of them afterwards."""

    settings: GatherSettings
    index: DocumentIndex
    logger: StepLogger
    benchmarks: BenchmarkIndex | None = None
    """What no document may hold."""
    _count: RejectCount = field(init=False)
    _unique: _UniqueRows = field(init=False)
    _stopped: bool = False
    _next: int = 0
    """The first file that is not read yet."""

    def __post_init__(self) -> None:
        self._count = RejectCount("prepare.sources", self.settings.max_rejected, "prepare.max_rejected")
        self._unique = _UniqueRows(self.logger)

    def read(self, folder: Path) -> list[Path]:
        """The files of the parts, in order; those that an earlier attempt finished in `folder` are not read again.

        Raises CorpusError for a source that cannot be read, or of which too much cannot be used.
        """
        files: list[tuple[SourceFile, SourceConfig]] = []
        left_out: list[Reject] = []
        for number, source in enumerate(self.settings.sources):
            found = find_files(source, slot=f"prepare.sources.{number}", log=self.logger.log, progress=self.logger.progress)
            files += [(file, source) for file in found.files]
            left_out += found.rejects
            for line in found.lines():
                self.logger.log(line)
        parts = self._resume(folder, files, left_out)
        while self._next < len(files) and not self._stopped:
            part = folder / f"{len(parts):05d}.parquet"
            write_rows(part, DOCUMENTS, self._documents(files))
            write_rows(part.with_suffix(".seen"), _SEEN, self._unique.take_new())
            note = {"next": self._next, "rejects": self.logger.rejects.path.stat().st_size, "stopped": self._stopped}
            state = {"usable": self._count.usable, "repeated_ids": self._unique.repeated_ids}
            write_json(part.with_suffix(".json"), {**note, **state, "files": _names(files[: self._next])})
            parts.append(part)
        self._count.check()
        self._unique.check(len(self.index))
        return parts

    def _resume(self, folder: Path, files: Sequence[tuple[SourceFile, SourceConfig]], left_out: Sequence[Reject]) -> list[Path]:
        """The parts that are there, whose files are not read again; everything else is removed."""
        notes: list[Any] = []
        while (note := folder / f"{len(notes):05d}.json").exists():
            notes.append(json.loads(note.read_text(encoding="utf-8")))
        if not notes or notes[-1]["files"] != _names(files[: notes[-1]["next"]]):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.logger.rejects.clear()
            for reject in left_out:
                self.logger.rejects.append(reject)
                self._count.add(reject)
            return []
        parts = [folder / f"{i:05d}.parquet" for i in range(len(notes))]
        with self.logger.rejects.path.open("r+b") as handle:
            handle.truncate(notes[-1]["rejects"])
        for part in parts:
            for row in read_rows(part, ["id", "words", "group"]):
                self.index.append(row["id"], row["words"], row["group"])
            for row in read_rows(part.with_suffix(".seen")):
                self._unique.restore(row["digest"], row["id"])
        for reject in self.logger.rejects.rows():
            if reject.reason not in _UniqueRows.REASONS:
                self._count.add(reject)
        last = notes[-1]
        self._count.usable, self._unique.repeated_ids, self._stopped = last["usable"], last["repeated_ids"], last["stopped"]
        self._next = last["next"]
        self.logger.log(f"{self._next:,} files were read by an earlier attempt: {len(self.index):,} documents")
        return parts

    def _documents(self, files: Sequence[tuple[SourceFile, SourceConfig]]) -> Iterator[dict[str, Any]]:
        """The documents of the next part: those of whole files until it is large enough, or nothing more is needed."""
        size, total = 0, sum(file.size for file, _ in files)
        done = sum(file.size for file, _ in files[: self._next])
        while self._next < len(files) and size < _PART_CHARACTERS:
            file, source = files[self._next]
            self._next += 1
            for item in read_source(file, source, self.settings.max_row_bytes):
                self.logger.progress(min(done + file.done, total), total, "reading")
                if isinstance(item, Reject):
                    self._reject(item, file)
                    continue
                self._count.add(item)
                for document in self.documents_of(item):
                    size += len(document["text"])
                    yield document
                    if self._has_enough():
                        return
            done += file.size

    def documents_of(self, row: SourceRow) -> Iterator[dict[str, Any]]:
        """The documents of a row, as rows of `documents.parquet` without a split."""
        id = row.id if row.id is not None else hashlib.sha256(row.text.encode()).hexdigest()[:16]
        if not self._unique.accept(row.text, id, row.source):
            return
        group = row.group if row.group is not None else id
        for number, text in enumerate(cut_text(row.text, self.settings.document_words)):
            part_id = id if text is row.text else f"{id}.{number:03d}"
            if part_id != id and not self._unique.accept(text, part_id, row.source):
                continue
            if self.benchmarks is not None and (found := self.benchmarks.contaminated(text)) is not None:
                self.logger.rejects.append(Reject(part_id, *found, source=row.source, text=text))
                continue
            words = max(1, round(count_words(text)))
            self.index.append(part_id, words, group)
            yield {"id": part_id, "split": "", "text": text, "source": row.source, "words": words, "group": group}

    def _reject(self, reject: Reject, file: SourceFile) -> None:
        """Note what cannot be used; of a whole file, in the log too. Raises CorpusError when it is too much."""
        self.logger.rejects.append(reject)
        if reject.source == file.name or reject.reason == "damaged":
            self.logger.log(f"{reject.source}: {reject.reason}: {reject.detail}")
        self._count.add(reject)

    def _has_enough(self) -> bool:
        """Whether reading may stop; the log says why."""
        limit, documents = self.settings.train_words, len(self.index)
        if self.settings.max_documents is not None and documents >= self.settings.max_documents:
            self.logger.log(f"stopped reading after {documents:,} documents (prepare.max_documents)")
            self._stopped = True
        elif limit is not None and self.index.has_enough(limit):
            self.logger.log(f"stopped reading after {documents:,} documents: the splits have what they need")
            self._stopped = True
        return self._stopped


class _UniqueRows:
    """Rejects a text that was there before, and another text under an id that is taken.

    Two versions of a document could otherwise end on both sides of the split.
    """

    REASONS = frozenset(("duplicate", "duplicate-id"))

    def __init__(self, logger: StepLogger) -> None:
        self.repeated_ids = 0
        self._logger = logger
        self._first: dict[bytes, str] = {}  # hash of a text (128 bits) -> the document that holds it
        self._ids: set[str] = set()
        self._new: list[bytes] = []

    def accept(self, text: str, id: str, source: str) -> bool:
        """Whether neither this text nor this id was there before; if not, it goes to the reject log."""
        digest = hashlib.sha256(text.encode()).digest()[:16]
        if digest in self._first:
            detail = f"the same text as document {self._first[digest]}"
            self._logger.rejects.append(Reject(id, "duplicate", detail, source, text))
            return False
        if id in self._ids:
            self.repeated_ids += 1
            self._logger.rejects.append(Reject(id, "duplicate-id", "another text has this id already", source, text))
            return False
        self.restore(digest, id)
        self._new.append(digest)
        return True

    def restore(self, digest: bytes, id: str) -> None:
        """Remember a text."""
        self._first[digest] = id
        self._ids.add(id)

    def take_new(self) -> Iterator[dict[str, Any]]:
        """What was accepted since the last call."""
        new, self._new = self._new, []
        for digest in new:
            yield {"digest": digest, "id": self._first[digest]}

    def check(self, documents: int) -> None:
        """Say how many ids were repeated. Raises CorpusError when that is most of them."""
        if not self.repeated_ids:
            return
        self._logger.log(
            f"{self.repeated_ids:,} rows had an id that another text has; ids must be unique over all sources, or leave "
            "`id_column` out"
        )
        if self.repeated_ids > documents:
            total = self.repeated_ids + documents
            raise CorpusError(f"prepare.sources: {self.repeated_ids:,} of {total:,} rows repeat an id; leave `id_column` out")


def _names(files: Sequence[tuple[SourceFile, SourceConfig]]) -> str:
    """A digest of names and sizes: other files are read anew."""
    return hashlib.sha256(json.dumps([[f.path, f.name, f.size] for f, _ in files]).encode()).hexdigest()


def cut_text(text: str, max_words: int | None) -> Iterator[str]:
    """The text itself, or its parts of at most `max_words` words; white space at their ends is dropped."""
    if max_words is None or count_words(text) <= max_words:
        yield text
        return
    for start, end in passage_spans(text, PassageConfig(max_characters=len(text), max_words=max_words)):
        if not is_blank(part := text[start:end].strip()):
            yield part
