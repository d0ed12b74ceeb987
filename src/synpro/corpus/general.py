"""General text, beside the corpus: what a model may forget, and may be shown again (`prepare.general`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from synpro.corpus.gather import cut_text
from synpro.corpus.readers import SourceConfig, SourceRow, find_files, read_source
from synpro.language.segmentation import count_words, sentence_ends
from synpro.records import digest_of
from synpro.runner.logger import StepLogger
from synpro.runner.rejects import Reject

if TYPE_CHECKING:
    from synpro.corpus.contamination import BenchmarkIndex

DOCUMENTS = 40
"""Documents to share the words between, where there are so many: half are measured, and an interval needs several."""


def read_general(
    sources: Sequence[SourceConfig], words: int, max_row_bytes: int, benchmarks: BenchmarkIndex | None, logger: StepLogger
) -> list[dict[str, Any]]:
    """Rows of `general.parquet`: about `words` English words, each row in the half (`general` or `replay`) with fewer words so
    far, the same text always in the same one. Long documents are cut to their beginnings, all to the same length, which is a
    fortieth of `words` where there are enough of them. What cannot be used, or holds what `benchmarks` excludes, goes to the
    reject log."""
    least, total = -(-words // DOCUMENTS), 0.0
    rows: list[dict[str, Any]] = []
    sizes: list[float] = []
    unusable = 0
    for number, source in enumerate(sources):
        if total >= words:
            logger.log(f"prepare.general.{number}: not read, the others have the general_words = {words:,}")
            continue
        for item in _items(source, f"prepare.general.{number}", max_row_bytes, logger):
            if isinstance(item, Reject):
                logger.rejects.append(item)
                unusable += 1
                continue
            id = item.id or digest_of(item.text)[:16]
            if benchmarks is not None and (why := benchmarks.contaminated(item.text)) is not None:
                logger.rejects.append(Reject(id, *why, source=item.source, text=item.text))
                unusable += 1
                continue
            text = beginning(item.text, words)
            rows.append({"id": id, "split": "", "text": text, "source": item.source, "words": 0, "group": id})
            sizes.append(count_words(text))
            total += min(sizes[-1], least)
            if total >= words:
                break
    most = max(least, _shared_length(sizes, words))
    halves, half_of = {"general": 0.0, "replay": 0.0}, dict[str, str]()
    for row in rows:
        row["text"] = text = beginning(row["text"], most)
        row["words"] = round(size := count_words(text))
        row["split"] = half = half_of.setdefault(digest_of(text), min(halves, key=lambda name: halves[name]))
        halves[half] += size
    cut, got = sum(size > most for size in sizes), sum(halves.values())
    logger.log(
        f"general text: {len(rows):,} documents with {got:,.0f} words, {cut:,} cut to their beginnings; {unusable:,} rows "
        "cannot be used"
    )
    return rows


def _items(source: SourceConfig, slot: str, max_row_bytes: int, logger: StepLogger) -> Iterator[SourceRow | Reject]:
    found = find_files(source, slot=slot, log=logger.log, progress=logger.progress)
    for reject in found.rejects:  # files, not rows
        logger.rejects.append(reject)
    for file in found.files:
        yield from read_source(file, source, max_row_bytes)


def _shared_length(sizes: Sequence[float], total: float) -> float:
    """The length to which texts are cut so that together they have `total`; infinite where they have no more than that."""
    for number, size in enumerate(sorted(sizes)):
        if size * (left := len(sizes) - number) > total:
            return total / left
        total -= size
    return math.inf


def beginning(text: str, max_words: float) -> str:
    """The first sentences of a text, as many as have at most `max_words` words. Where that is less than half of them, the
    sentence that follows is cut (a title and a text without full stops)."""
    size, place = 0.0, 0
    for end in sentence_ends(text):
        words = count_words(text[place:end])
        if size + words > max_words:
            if size >= max_words / 2:
                return text[:place].rstrip()
            part = next(cut_text(text[place:end], max(1, int(max_words - size))))
            return text[: text.index(part, place) + len(part)]
        size, place = size + words, end
    return text
