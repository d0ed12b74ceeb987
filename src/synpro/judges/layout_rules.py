"""The layout of a text as counts by rule, and how far two layouts agree. Replaces the paper's judge (Qwen3-4B, yes or no).

A line belongs to the first kind that fits it, and a mark counts only where a layout can begin, so that a year, a dash or a
colon at a line break makes no list and no dialogue. `benchmarks/layout_agreement.py` measures how often this judge, or another
one, agrees with 200 labelled pairs.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

_FENCE = re.compile(r"^\s*(```+|~~~+)")
_BULLET = re.compile(r"^\s*(?:[-*•+]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+\S")
_HEADING = re.compile(r"^\s*(?:#{1,6}\s+\S.*|=+[^=]+=+|(\*\*|__)[^*_]+\1)\s*$")
_UNDERLINE = re.compile(r"^\s*(?:={3,}|-{3,})\s*$")
_SPEAKER = re.compile(r"^\s*(?:\*\*)?[A-Z][\w.'’-]*(?: [\w.'’-]+){0,2}:(?:\*\*)?\s+\S")
_DASH = re.compile(r"^\s*[–—]\s*[\w\"“]")
_QUOTE = re.compile(r"^\s*(?:\"[^\"]*[.,!?…–—]\"|“[^”]*[.,!?…–—]”)")
_STATEMENT = re.compile(r"[;{}]\s*$|^\s*(?:def|class|import|from|return|for|if|while|else|elif|try|with)\b.*[:;{(]\s*$")
_SIGN = re.compile(r"[=<>{}\[\]]|\w\(|^\s*(?:import|return|else|try)\b")
_RULE = re.compile(r"^[\s|:+]*-[\s|:+-]*$")
_END = re.compile(r"[.!?:;,…][\"'”’)]*$")
MAX_WRAP_WIDTH = 100
"""Longest line, in characters, of a text that was wrapped at a width; in a text with longer lines each line is a paragraph."""


@dataclass(frozen=True)
class LayoutCounts:
    """The layout of a text: how many parts of each kind it has."""

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


def count_layout(text: str) -> LayoutCounts:
    """Count the parts that a reader sees."""
    return _LayoutParser(text.splitlines()).parse()


class _LayoutParser:
    """Goes through the lines of a text once and tries at each line the kinds that may begin there, in a fixed order."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = [line.rstrip() for line in lines]
        self.counts = dict.fromkeys(LayoutCounts.__dataclass_fields__, 0)
        self.at = 0
        self.before = ""
        """Kind of the line before; "" for an empty line or the beginning."""
        self.last = ""
        """Kind of the last line that was not empty."""
        # What is asked of the lines around a line is found once for all, so that the time is in proportion to the text.
        self.text = "\n".join(self.lines)
        self.starts = [0, *accumulate(len(line) + 1 for line in self.lines)]
        self.json_budget = 4 * len(self.text)
        """Characters that may still be read in vain, looking for JSON."""
        self.turns = {mark: sum(bool(mark.match(line)) for line in self.lines) for mark in (_SPEAKER, _QUOTE)}
        self.signs = [0, *accumulate(bool(_SIGN.search(line)) for line in self.lines)]
        self.widths = [0]
        """Longest line of its block up to each line, from 1."""
        for before, line in pairwise(["", *self.lines]):
            self.widths.append(max(len(line), self.widths[-1] if before.strip() else 0))
        self.statements_end, self.following = [len(self.lines)] * 2, [""] * 2
        """Where the lines like statements that begin at a line end, and the next line with text; by line, the last first."""
        for at, line in reversed([*enumerate(self.lines)]):
            like_code = line.strip() and (_STATEMENT.search(line) or line.startswith("    "))
            self.statements_end.append(self.statements_end[-1] if like_code else at)
            self.following.append(line.strip() or self.following[-1])
        self.statements_end.reverse()
        self.following.reverse()

    def parse(self) -> LayoutCounts:
        while self.at < len(self.lines):
            if not self.lines[self.at].strip():
                self.before = ""
                self.at += 1
                continue
            kind, taken, count = self._next()
            self.counts[kind] += count
            self.before = self.last = kind
            self.at += taken
        return LayoutCounts(**self.counts)

    def _next(self) -> tuple[str, int, int]:
        """(kind, lines it takes, count) of the part that begins here."""
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
        except (ValueError, RecursionError):
            return "code", taken, sum(bool(line.strip()) for line in body)

    def _json(self) -> tuple[str, int, int] | None:
        line = self.lines[self.at]
        if line.lstrip()[0] not in "{[" or self.json_budget <= 0:
            return None
        start = self.starts[self.at] + len(line) - len(line.lstrip())
        try:
            value, end = json.JSONDecoder().raw_decode(self.text, start)
        except json.JSONDecodeError as problem:
            self.json_budget -= problem.pos - start
            return None
        except (ValueError, RecursionError):  # a number of thousands of digits, a thousand brackets
            self.json_budget -= 10_000
            return None
        # "[1]" before a reference is not JSON, and neither is a value with more text on its line.
        last = bisect_right(self.starts, end) - 1
        rest = self.text[end : self.starts[last + 1]] if last < len(self.lines) else ""
        if not value or (isinstance(value, list) and len(value) < 2) or rest.strip():
            self.json_budget -= end - start
            return None
        return "json", last - self.at + 1, _leaves(value)

    def _table(self) -> int:
        """Number of lines of a table that begins here: at least two with equally many cells; else 0."""
        for count_cells in (_count_piped, _count_tabbed, _count_spaced):
            cells = count_cells(self.lines[self.at])
            if cells < 2:
                continue
            rows = 1
            while (line := self._line(self.at + rows)).strip() and (count_cells(line) == cells or _RULE.match(line)):
                rows += 1
            if rows > 1:
                return rows
        return 0

    def _continues_list(self, line: str) -> bool:
        """Whether a line continues a list item: wrapped at a width, or its second paragraph."""
        if self.last != "lists" or _BULLET.match(line):
            return False
        indented = line.startswith(("  ", "\t"))
        return indented or (self.before == "lists" and not _END.search(self.lines[self.at - 1]))

    def _code(self) -> int:
        """Number of lines of code without a fence that begin here: an indented block, or at least two lines that end like
        statements; else 0."""
        if self.before in ("", "code"):
            end = self.at
            while self._line(end).startswith(("    ", "\t")):
                end += 1
            first = self.lines[self.at].strip()
            prose = end == self.at + 1 and ((first[0].isupper() and bool(_END.search(first))) or bool(self._line(end).strip()))
            if end > self.at and not prose:  # one indented line may begin a paragraph
                return end - self.at
        count = self.statements_end[self.at] - self.at
        has_sign = self.signs[self.at + count] > self.signs[self.at]  # prose may end in ; too
        return count if count > 1 and has_sign and _STATEMENT.search(self.lines[self.at]) else 0

    def _speech(self, line: str) -> bool:
        if _DASH.match(line):
            return True
        # A single speaker or quotation is no dialogue ("Note: ..."): a dialogue has a second turn.
        for mark in (_SPEAKER, _QUOTE):
            if mark.match(line):
                return self.turns[mark] > 1
        return False

    def _bare_heading(self, line: str) -> bool:
        """Whether a line is a heading without a mark: short, alone, without a full stop, and above a paragraph."""
        text = line.strip()
        alone = self.before == "" and not self._line(self.at + 1).strip()
        follows = self.following[self.at + 1]
        short = len(text) <= 60 and len(text.split()) <= 8 and text[0].isupper() and not _END.search(text)
        return alone and short and len(follows) > len(text) and not _BULLET.match(follows)

    def _paragraph(self) -> tuple[str, int, int]:
        """A line of prose. It continues the paragraph of the line before, unless the lines are as long as whole paragraphs."""
        continues = self.before == "paragraphs"
        if continues:
            continues = self.widths[self.at + 1] <= MAX_WRAP_WIDTH or not _END.search(self.lines[self.at - 1])
        return "paragraphs", 1, 0 if continues else 1


def _count_piped(line: str) -> int:
    return len(line.strip().strip("|").split("|"))


def _count_tabbed(line: str) -> int:
    return len(line.strip("\t").split("\t"))


def _count_spaced(line: str) -> int:
    return 0 if line.startswith(" ") else len(re.split(r"(?<![.!?:;]) {2,}", line))


def _leaves(value: Any) -> int:
    """Values that are neither object nor array. They may lie deeper than a function can call itself."""
    waiting, count = [value], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value
        else:
            count += 1
    return count


class RuleLayout:
    """Layout agreement by counts; no model."""

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each (source, output), the agreement on the kind of part that is kept worst: 1 for equal counts, 0 where a kind
        was lost or invented."""
        return [_agreement(*pair) for pair in pairs]

    def close(self) -> None:
        """Nothing to release."""


def _agreement(source: str, output: str) -> float:
    before, after = asdict(count_layout(source)), asdict(count_layout(output))
    ratios = [min(before[k], after[k]) / max(before[k], after[k]) for k in before if before[k] or after[k]]
    return min(ratios, default=1.0)
