"""MediaWiki XML dumps (export-0.3 and later), page by page, without holding more than one page."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from synpro.corpus.files import CorruptFileError, UnusableFileError


@dataclass
class Page:
    """A page of a dump, with the text of its last revision."""

    id: str = ""
    title: str = ""
    namespace: str = "0"
    redirect: bool = False
    text: list[str] = field(default_factory=list)
    """Wiki markup in chunks; empty when it is larger than the limit."""
    bytes: int = 0
    """Size of the text in UTF-8."""
    problem: str = ""
    """What is wrong with the dump; set only on its last page, which is not whole."""


def pages(chunks: Iterator[bytes], limit: int) -> Iterator[Page]:
    """The pages of a dump. Text beyond `limit` bytes is counted, not kept.

    A dump that ends too early, or is not XML from some place on, gives a last page whose `problem` says where. Raises
    UnusableFileError for other XML: TEI, a feed, a web page.
    """
    handler = _Handler(limit)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = handler.start, handler.end
    parser.CharacterDataHandler = handler.data
    parser.EntityDeclHandler = handler.entity
    problem = ""
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            while handler.ready:
                yield handler.ready.popleft()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        problem = f"the dump is cut short or not XML at line {error.lineno}, byte {parser.ErrorByteIndex} ({error})"
    except CorruptFileError as error:
        problem = f"the dump {error}"
    yield from handler.ready
    if problem:
        rest = handler.page or Page()
        rest.problem = problem
        yield rest


class _Handler:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.page: Page | None = None
        self.ready: deque[Page] = deque()
        self.path: list[str] = []

    def entity(self, name: str, *_: object) -> None:
        raise CorruptFileError(f"declares its own entity {name!r}, which dumps do not do; it is not expanded")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.path and name not in ("mediawiki", "page"):  # a page may have been cut out of a dump
            raise UnusableFileError("mislabelled", f"is XML whose root is <{name[:100]}>, not a MediaWiki dump")
        self.path.append(name)
        if name == "page":
            self.page = Page(namespace="")
        elif self.page is not None and name == "redirect":
            self.page.redirect = True
        elif self.page is not None and name == "text":
            self.page.text, self.page.bytes = [], 0

    def end(self, name: str) -> None:
        self.path.pop()
        if name == "page" and self.page is not None:
            self.page.namespace = self.page.namespace or "0"
            self.ready.append(self.page)
            self.page = None

    def data(self, text: str) -> None:
        page = self.page
        if page is None or len(self.path) < 2:
            return
        name, parent = self.path[-1], self.path[-2]
        if name == "text":
            page.bytes += len(text.encode("utf-8"))
            if page.bytes <= self.limit:
                page.text.append(text)
            else:
                page.text.clear()
        elif parent == "page" and name == "title":
            page.title += text
        elif parent == "page" and name == "ns":
            page.namespace += text
        elif parent == "page" and name == "id":
            page.id += text
