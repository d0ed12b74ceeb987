"""The layout of a text as counts, and how far two layouts agree. Stands in for the paper's judge (Qwen3-4B, yes or no).

By rule, without a model: a line belongs to the first kind it fits, and a mark counts only where a layout could begin, so that
a year, a dash or a colon at a line break makes no list and no dialogue. `layout_pairs.jsonl` holds 200 labelled pairs;
`benchmarks/layout_agreement.py` says how often this judge, or another one, agrees with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEPT = 0.75
"""Agreement from which a layout counts as kept where a yes or no is asked."""

_FENCE = re.compile(r"^\s*(```+|~~~+)")
_BULLET = re.compile(r"^\s*(?:[-*•+]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+\S")
_HEADING = re.compile(r"^\s*(?:#{1,6}\s+\S.*|=+[^=]+=+|(\*\*|__)[^*_]+\1)\s*$")
_UNDERLINE = re.compile(r"^\s*(?:={3,}|-{3,})\s*$")
_SPEAKER = re.compile(r"^\s*(?:\*\*)?[A-Z][\w.'’-]*(?: [\w.'’-]+){0,2}:(?:\*\*)?\s+\S")
_DASH = re.compile(r"^\s*[–—]\s*[\w\"“]")
_QUOTE = re.compile(r"^\s*(?:\"[^\"]*[.,!?…–—]\"|“[^”]*[.,!?…–—]”)")
_STATEMENT = re.compile(r"[;{}]\s*$|^\s*(?:def|class|import|from|return|for|if|while|else|elif|try|with)\b.*[:;{(]\s*$")
_SIGN = re.compile(r"[=<>{}\[\]]|\w\(|^\s*(?:import|return|else|try)\b")
_RULE = re.compile(r"^[\s|:+-]*-[\s|:+-]*$")
_END = re.compile(r"[.!?:;,…][\"'”’)]*$")
WRAPPED = 100
"""Longest line of a text that is taken as broken at a width; beyond it a line is a paragraph."""


@dataclass(frozen=True)
class Layout:
    """How a text is laid out: how many of each kind."""

    paragraphs: int
    lists: int
    """Items."""
    tables: int
    """Rows, the header too."""
    code: int
    """Lines."""
    headings: int
    json: int
    """Values that are neither object nor array."""
    dialogue: int
    """Turns: lines with a speaker, a dash or quotation marks in front."""


def fingerprint(text: str) -> Layout:
    """Counts of what a reader sees."""
    return _Reader(text.splitlines()).read()


class _Reader:
    """Goes through the lines of a text once, kind by kind of what may begin at a line."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = [line.rstrip() for line in lines]
        self.counts = dict.fromkeys(Layout.__dataclass_fields__, 0)
        self.at = 0
        self.before = ""
        """What the line before was: the name of a kind, "" for an empty line or the beginning."""
        self.last = ""
        """The last kind that was not empty."""

    def read(self) -> Layout:
        while self.at < len(self.lines):
            if not self.lines[self.at].strip():
                self.before = ""
                self.at += 1
                continue
            kind, taken, count = self._next()
            self.counts[kind] += count
            self.before = self.last = kind
            self.at += taken
        return Layout(**self.counts)

    def _next(self) -> tuple[str, int, int]:
        """(kind, lines taken, count) of what begins here."""
        line = self.lines[self.at]
        fresh = self.before != "paragraphs"  # in the middle of a paragraph nothing begins
        if fence := _FENCE.match(line):
            return self._fenced(fence.group(1))
        if fresh and (found := self._json()):
            return found
        if rows := self._table():
            return "tables", rows, sum(not _RULE.match(r) for r in self.lines[self.at : self.at + rows])
        if self._continues_list(line):
            return "lists", 1, 0
        if (fresh or self.lines[self.at - 1].endswith(":")) and _BULLET.match(line):
            return "lists", 1, 1
        if _HEADING.match(line):
            return "headings", 1, 1
        if fresh and _UNDERLINE.match(self._line(self.at + 1)):
            return "headings", 2, 1
        if lines := self._code():
            return "code", lines, sum(bool(x.strip()) for x in self.lines[self.at : self.at + lines])
        if fresh and self._speech(line):
            return "dialogue", 1, 1
        if fresh and self._bare_heading(line):
            return "headings", 1, 1
        if self.before == "dialogue" and not _END.search(self.lines[self.at - 1]):
            return "dialogue", 1, 0  # a turn broken at a width
        return self._paragraph()

    def _line(self, at: int) -> str:
        return self.lines[at] if 0 <= at < len(self.lines) else ""

    def _fenced(self, fence: str) -> tuple[str, int, int]:
        end = next((i for i in range(self.at + 1, len(self.lines)) if self.lines[i].strip().startswith(fence[:3])), None)
        body = self.lines[self.at + 1 : end]
        taken = len(body) + (1 if end is None else 2)
        try:
            return "json", taken, _leaves(json.loads("\n".join(body)))
        except ValueError:
            return "code", taken, sum(bool(line.strip()) for line in body)

    def _json(self) -> tuple[str, int, int] | None:
        if self.lines[self.at].lstrip()[0] not in "{[":
            return None
        rest = "\n".join(self.lines[self.at :]).lstrip()
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            return None
        # "[1]" before a reference is none, and what goes on in the same line is not one either.
        if not value or (isinstance(value, list) and len(value) < 2) or rest[end:].split("\n", 1)[0].strip():
            return None
        return "json", rest[:end].count("\n") + 1, _leaves(value)

    def _table(self) -> int:
        """Lines of a table that begins here: at least two with as many cells."""
        for split in (_piped, _tabbed, _columns):
            cells = split(self.lines[self.at])
            if cells < 2:
                continue
            rows = 1
            while (line := self._line(self.at + rows)).strip() and (split(line) == cells or _RULE.match(line)):
                rows += 1
            if rows > 1:
                return rows
        return 0

    def _continues_list(self, line: str) -> bool:
        """An item broken at a width, or its second paragraph."""
        if self.last != "lists" or _BULLET.match(line):
            return False
        indented = line.startswith(("  ", "\t"))
        return indented or (self.before == "lists" and not _END.search(self.lines[self.at - 1]))

    def _code(self) -> int:
        """Lines of code without a fence that begin here: an indented block, or at least two lines that end like statements."""
        if self.before in ("", "code"):
            end = self.at
            while self._line(end).startswith(("    ", "\t")):
                end += 1
            first = self.lines[self.at].strip()
            prose = end == self.at + 1 and ((first[0].isupper() and bool(_END.search(first))) or bool(self._line(end).strip()))
            if end > self.at and not prose:  # one indented line may begin a paragraph
                return end - self.at
        end = self.at
        while self._line(end).strip() and (_STATEMENT.search(self._line(end)) or self._line(end).startswith("    ")):
            end += 1
        lines = self.lines[self.at : end]
        code = len(lines) > 1 and _STATEMENT.search(lines[0]) and any(map(_SIGN.search, lines))  # prose may end in ; too
        return len(lines) if code else 0

    def _speech(self, line: str) -> bool:
        if _DASH.match(line):
            return True
        # A speaker or a quotation alone is nothing: "Note: ..." A dialogue has a second turn.
        for mark in (_SPEAKER, _QUOTE):
            if mark.match(line):
                others = (other for i, other in enumerate(self.lines) if i != self.at)
                return any(mark.match(other) for other in others)
        return False

    def _bare_heading(self, line: str) -> bool:
        """A short line by itself, without a full stop, over a paragraph."""
        text = line.strip()
        alone = self.before == "" and not self._line(self.at + 1).strip()
        follows = next((x.strip() for x in self.lines[self.at + 1 :] if x.strip()), "")
        short = len(text) <= 60 and len(text.split()) <= 8 and text[0].isupper() and not _END.search(text)
        return alone and short and len(follows) > len(text) and not _BULLET.match(follows)

    def _paragraph(self) -> tuple[str, int, int]:
        """A line of prose. It goes on with the next one unless lines are as long as paragraphs are."""
        goes_on = self.before == "paragraphs"
        if goes_on:
            start = self.at
            while self._line(start - 1).strip():
                start -= 1
            whole = [x for x in self.lines[start : self.at + 1] if x.strip()]
            goes_on = max(map(len, whole)) <= WRAPPED or not _END.search(self.lines[self.at - 1])
        return "paragraphs", 1, 0 if goes_on else 1


def _piped(line: str) -> int:
    return len(line.strip().strip("|").split("|"))


def _tabbed(line: str) -> int:
    return len(line.strip("\t").split("\t"))


def _columns(line: str) -> int:
    return 0 if line.startswith(" ") else len(re.split(r"(?<![.!?:;]) {2,}", line))


def _leaves(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return sum(map(_leaves, value.values() if isinstance(value, dict) else value))
    return 1


class Fingerprints:
    """Layout agreement by fingerprint; no model."""

    def kept(self, source: str, output: str) -> float:
        """Agreement on the kind of layout that is kept worst: 1 equal counts, 0 a kind lost or invented."""
        before, after = asdict(fingerprint(source)), asdict(fingerprint(output))
        shares = [min(before[k], after[k]) / max(before[k], after[k]) for k in before if before[k] or after[k]]
        return min(shares, default=1.0)

    def kept_each(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The same for each (source, output)."""
        return [self.kept(*pair) for pair in pairs]

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class LayoutPair:
    """A source and an output with a label: is the layout kept?"""

    id: str
    """KIND/CONTENT/NUMBER."""
    kind: str
    """Of the source's layout."""
    change: str
    """What was done to it."""
    kept: bool
    source: str
    output: str


def layout_pairs() -> list[LayoutPair]:
    """The 200 pairs that ship with the package; `benchmarks/layout_pairs.py` says how they were made."""
    lines = Path(__file__).with_name("layout_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return [LayoutPair(**json.loads(line)) for line in lines]
