"""The layout of a text as counts, and how far two layouts agree. Stands in for the paper's judge (Qwen3-4B)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_BULLET = re.compile(r"^\s*(?:[-*•+]|\(?\d{1,3}[.)]|[a-z]\))\s+\S")
_HEADING = re.compile(r"^\s*(?:#{1,6}\s+\S|=+[^=]+=+\s*$)")
_TABLE = re.compile(r"^\s*\|.*\|\s*$|^[^|\t]+(?:\t[^\t]+){2,}$")
_SPEECH = re.compile(r"^\s*(?:[A-Z][\w .'-]{0,24}:\s+\S|[-–—]\s*[A-Z\"“])")
_CODE = re.compile(r"^(?: {4,}|\t)\S|[;{}]\s*$|^\s*(?:def|class|import|return|for|if)\b.*[:;{(]\s*$")


@dataclass(frozen=True)
class Layout:
    """How a text is laid out: lines or blocks of each kind."""

    paragraphs: int
    lists: int
    tables: int
    code: int
    headings: int
    dialogue: int


def fingerprint(text: str) -> Layout:
    """Counts of what a reader sees; every line counts for the first kind it fits."""
    counts = dict.fromkeys(("lists", "tables", "code", "headings", "dialogue"), 0)
    fenced = False
    plain = []
    for line in text.splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
            counts["code"] += 1
        elif fenced or _CODE.search(line):
            counts["code"] += 1
        elif _TABLE.match(line):
            counts["tables"] += 1
        elif _HEADING.match(line):
            counts["headings"] += 1
        elif _BULLET.match(line):
            counts["lists"] += 1
        elif _SPEECH.match(line):
            counts["dialogue"] += 1
        else:
            plain.append(line)
            continue
        plain.append("")  # a marked line ends the paragraph before it
    paragraphs = len([p for p in re.split(r"\n\s*\n", "\n".join(plain)) if p.strip()])
    return Layout(paragraphs=paragraphs, **counts)


class Fingerprints:
    """Layout agreement by fingerprint; no model."""

    def kept(self, source: str, output: str) -> float:
        """Mean agreement over the kinds of layout that either text has: 1 equal counts, 0 a kind lost or invented."""
        before, after = asdict(fingerprint(source)), asdict(fingerprint(output))
        pairs = [(before[kind], after[kind]) for kind in before if before[kind] or after[kind]]
        return sum(min(a, b) / max(a, b) for a, b in pairs) / len(pairs) if pairs else 1.0

    def kept_each(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The same for each (source, output)."""
        return [self.kept(*pair) for pair in pairs]

    def close(self) -> None:
        """Nothing to give back."""
