"""Read the project's pages: their code blocks, commands, inline code and links."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
HISTORY = ("LOG.md", "CHANGELOG.md")
"""Pages that keep the words of their time."""
PAGES = sorted(p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")) if p.name not in HISTORY)
NAMES = [p.relative_to(ROOT).as_posix() for p in PAGES]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    """Relative to the root."""
    line: int
    """The line of its fence, from 1."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(language: str, pages: list[str] | None = None) -> Iterator[Block]:
    """Every fenced block of a language."""
    for name in pages or NAMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        for match in re.finditer(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):  # also within lists
            yield Block(name, text.count("\n", 0, match.start()) + 1, language, textwrap.dedent(match[2]))


def commands(pages: list[str] | None = None) -> list[tuple[str, str]]:
    """(page, command) of every line of the bash blocks, without comments and prompts."""
    found = []
    for block in blocks("bash", pages):
        for line in block.text.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            found += [(block.page, part.strip()) for part in command.split("&&") if part.strip() and not part.startswith("#")]
    return found


def code_spans(page: str) -> list[str]:
    """The inline code of a page, fenced blocks left out."""
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text)]


def links(page: str) -> list[str]:
    """The relative links of a page, without their anchors."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
