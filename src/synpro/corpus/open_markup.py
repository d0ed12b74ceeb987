"""Markup that is opened and never closed: the parser reads the rest of the article anew for each such mark, so that many of
them would take a time that grows with the square of the article. They are dropped before it sees them.

What is left is nested as in a book of grammar, at most `_DEEPEST` deep, but for a few marks; an ordinary article is left as it
is.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)\b[^<>]*?(/?)>")
_NAME = r"[^\s{}\[\]<>|=&'#*;:/\\\"!-]"
_MARK = re.compile(
    r"\{{2,}|\}{2,}|\[\[|\[(?=[a-z][a-z0-9+.-]*:|//)|\]{1,2}"
    rf"|<(/?)({_NAME}+)(?=[\s/>])(?:[^<>{{\[]|\{{(?!\{{)|\[(?!\[))*?(/?)>|<(?={_NAME})",
    re.IGNORECASE,
)
"""What the parser takes for the beginning or end of something. The last is a `<` that begins no tag."""
_NO_TAG = re.compile(r"<(?=[a-zA-Z/!][^<>]*(?:<|\Z))|\[(?=(?:https?:|ftp:|//)[^\[\]]*(?:\[|\Z))")
_MOST_UNCLOSED = 20
"""Marks that may be left open: of tags so many of each name, and of all marks together."""
_DEEPEST = 30
"""Marks within each other, far more than an article has. The parser stops at 100 of its own steps, up to three a mark, and then
takes what closes the inner ones for what closes the outer."""
_MANY_MARKS = re.compile(r"^[*#:;]{21,}|\{{21,}", re.MULTILINE)
"""Marks each of which would become an object of its own, or one within the other."""
_NEVER_CLOSED = frozenset({"br", "wbr", "hr", "meta", "link", "img"})
_VERBATIM = frozenset({
    "categorytree", "ce", "chem", "gallery", "graph", "hiero", "imagemap", "inputbox", "math", "nowiki", "pre", "score",
    "section", "source", "syntaxhighlight", "templatedata", "timeline",
})  # fmt: skip
"""Tags whose content the parser does not read."""
_NOTHING = "\u00ad"
"""What takes the place of a mark, so that its neighbours do not become another; `strip_markup` drops it at the end."""


def without_open_markup(text: str) -> str:
    """Drop the tags of names that are opened and never closed, brackets that begin no tag, and templates, links and tags
    without an end, each in large numbers."""
    text = _MANY_MARKS.sub(lambda marks: marks.group()[:20], text)
    if len(_NO_TAG.findall(text)) > _MOST_UNCLOSED:
        text = _NO_TAG.sub("", text)
    still_open: Counter[str] = Counter()
    for tag in _TAG.finditer(text):
        if not tag.group(3):
            still_open[tag.group(2).lower()] += -1 if tag.group(1) else 1
    dropped = {name for name, count in still_open.items() if count > _MOST_UNCLOSED}
    if dropped:
        text = _TAG.sub(lambda tag: "" if tag.group(2).lower() in dropped else tag.group(), text)
    spans = _Pairing(text).unpaired()
    if len(spans) <= _MOST_UNCLOSED:
        return text
    parts, at = list[str](), 0
    for start, end in sorted(spans):
        less = text[start] == "<" and not _TAG.match(text, start)  # "p <0.05 and n >20" is text
        parts += text[at:start], "&lt;" if less else _NOTHING
        at = start + 1 if less else end
    return "".join(parts) + text[at:]


@dataclass
class _Open:
    """A mark that nothing has closed yet: its place in the text, of a run of braces that of what is left."""

    kind: str
    """`{`, `[[`, `[` or the name of a tag."""
    start: int
    end: int


class _Pairing:
    """Goes through the marks of a text once and finds for each the one that closes it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.open: list[_Open] = []
        self.open_of: Counter[str] = Counter()
        self.spans: list[tuple[int, int]] = []

    def unpaired(self) -> list[tuple[int, int]]:
        """`(start, end)` of the marks without an end, of those too deep, and of what closes those."""
        at, endless = 0, set[str]()
        while mark := _MARK.search(self.text, at):
            at, (start, end), what = mark.end(), mark.span(), mark.group()
            kind = (mark.group(2) or what).lower()
            if what[0] == "}":
                self._close_braces(start, end)
            elif what == "]]" and not (self.open and self.open[-1].kind == "["):
                self._close("[[", start, end)
            elif what[0] == "]":
                at = start + 1
                self._close("[", start, at)
            elif mark.group(1):
                self._close(kind, start, end)
            elif mark.group(3) or kind in _NEVER_CLOSED:
                continue
            elif kind == "<":
                self.spans.append((start, end))
            elif kind not in _VERBATIM:
                self.open.append(_Open(kind if what[0] != "{" else "{", start, end))
                self.open_of[self.open[-1].kind] += 1
            elif kind not in endless and (close := re.compile(rf"</{kind}\s*>", re.IGNORECASE).search(self.text, at)):
                at = close.end()
            else:
                endless.add(kind)
                self.spans.append((start, end))
        return self.spans + [(mark.start, mark.end) for mark in self.open]

    def _close(self, kind: str, start: int, end: int) -> _Open | None:
        """The mark that this one closes, taken off; those opened after it have no end."""
        if not self.open_of[kind]:
            return None
        while (mark := self.open.pop()).kind != kind:
            self.open_of[mark.kind] -= 1
            self.spans.append((mark.start, mark.end))
        self.open_of[kind] -= 1
        if len(self.open) >= _DEEPEST and kind != "{":
            self.spans += (mark.start, mark.end), (start, end)
        return mark

    def _close_braces(self, start: int, end: int) -> None:
        """Close by twos and threes, the inner ones first; three that only two close are looked for to the end of the text."""
        while end - start > 1 and (mark := self._close("{", start, end)):
            size = 3 if min(mark.end - mark.start, end - start) > 2 else 2
            used = [(mark.end - size, mark.end), (start, start + size)]
            if mark.end - mark.start > size == 2:
                used[0] = (mark.start, mark.end)
            if mark.end - mark.start > size == 2 or len(self.open) >= _DEEPEST:
                self.spans += used
            mark.end, start = used[0][0], start + size
            if mark.end - mark.start > 1:
                self.open.append(mark)
                self.open_of["{"] += 1
