"""Passages: documents cut once, at paragraph and sentence ends, so that joining them gives the document back.

Cutting is a shortest-path problem over sentence ends: passages should be near the target size, end where a paragraph ends
rather than inside one, and never right after a heading. The paper cuts at 7,000 characters; models of 135M parameters need 50
to 80 words. A limit in words holds about as much content in every language (`language/segmentation.py: count_words`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from synpro.language.segmentation import count_words, cut_points, ends_statement, sentence_ends
from synpro.records import Document, Passage
from synpro.schema import setting


@dataclass(frozen=True)
class PassageConfig:
    """How large passages are."""

    max_characters: int = setting(7000, unit="characters", source="paper", min=1)
    """Most characters of a passage (paper: 7,000)."""
    max_words: int | None = setting(None, unit="words", min=1)
    """Most words of a passage, in English words: of Chinese, Japanese, Thai and the like a word is so many characters
    (docs/languages.md). None: no limit."""
    target_words: int | None = setting(None, unit="words", min=1)
    """Size to aim for; None aims for the largest size allowed."""

    def __post_init__(self) -> None:
        if self.target_words is not None and (self.max_words is None or self.target_words > self.max_words):
            raise ValueError("target_words: at most max_words, which must be set with it")


# Cost of ending a passage at an atom's end, in units of a passage's squared relative distance from the target size.
_AT_PARAGRAPH, _AT_LINE, _AT_SENTENCE, _INSIDE_SENTENCE, _AFTER_HEADING = 0.0, 0.05, 0.15, 0.5, 2.0

_PARAGRAPH_GAP = re.compile(r"\n[^\S\n]*\n")
_MOST_ATOMS = 100
"""Smallest pieces are joined to about a hundredth of a passage: thousands of one-letter lines fit a passage, and the search
would be quadratic in them."""


@dataclass(frozen=True)
class _Atom:
    """The smallest span that passages are made of; the white space after it belongs to it."""

    start: int
    end: int
    words: float
    cost: float
    """Cost of ending a passage here."""


def cut_passages(document: Document, cfg: PassageConfig) -> list[Passage]:
    """The passages of a document in order; their texts joined are the document's text."""
    return [
        Passage(f"{document.id}#{i:04d}", document.id, i, start, end, document.text[start:end])
        for i, (start, end) in enumerate(passage_spans(document.text, cfg))
    ]


def passage_spans(text: str, cfg: PassageConfig) -> list[tuple[int, int]]:
    """`(start, end)` of each passage in characters; they cover the text without gap or overlap. Empty for an empty text.

    No span has more than `max_characters` or `max_words`; the white space after the last word counts as characters.
    """
    atoms = _atoms(text, cfg)
    words = [0.0]
    for atom in atoms:
        words.append(words[-1] + atom.words)
    by_words = cfg.max_words is not None
    target = float(cfg.target_words or cfg.max_words or cfg.max_characters)
    # best[i]: least cost of cutting atoms[:i]; back[i]: the atom at which the last of those passages starts.
    best, back = [0.0], [0]
    for i, atom in enumerate(atoms, start=1):
        cost, origin = float("inf"), i - 1
        for j in range(i - 1, -1, -1):
            characters, count = atom.end - atoms[j].start, words[i] - words[j]
            if j < i - 1 and (characters > cfg.max_characters or (cfg.max_words is not None and count > cfg.max_words)):
                break
            offered = best[j] + (((count if by_words else characters) - target) / target) ** 2
            if offered < cost:
                cost, origin = offered, j
        best.append(cost + (atom.cost if i < len(atoms) else 0.0))
        back.append(origin)
    found: list[tuple[int, int]] = []
    i = len(atoms)
    while i:
        found.append((atoms[back[i]].start, atoms[i - 1].end))
        i = back[i]
    return found[::-1]


def _atoms(text: str, cfg: PassageConfig) -> list[_Atom]:
    atoms: list[_Atom] = []
    for start, end in itertools.pairwise([0, *sentence_ends(text)]):
        piece = text[start:end]
        words = count_words(piece)
        if _fits(end - start, words, cfg, 1):
            if atoms and _fits(end - atoms[-1].start, atoms[-1].words + words, cfg, 1 / _MOST_ATOMS):
                start, words = atoms[-1].start, atoms[-1].words + words
                atoms.pop()
            atoms.append(_Atom(start, end, words, _cost(piece)))
            continue
        for a, b, size in _cut_long(text, start, end, cfg):
            atoms.append(_Atom(a, b, size, _INSIDE_SENTENCE if b < end else _cost(text[a:b])))
    return atoms


def _fits(characters: int, words: float, cfg: PassageConfig, share: float) -> bool:
    """Whether so much text is within a share of the limits."""
    return characters <= share * cfg.max_characters and (cfg.max_words is None or words <= share * cfg.max_words)


def _cost(piece: str) -> float:
    tail = piece[len(piece.rstrip()) :]
    if _PARAGRAPH_GAP.search(tail.replace("\r\n", "\n")):
        body = piece.strip()
        heading = count_words(body) <= 12 and not ends_statement(body) and body[-1:] not in (*':;,：；，、"”)',)
        return _AFTER_HEADING if heading else _AT_PARAGRAPH
    return _AT_LINE if "\n" in tail else _AT_SENTENCE


def _cut_long(text: str, start: int, end: int, cfg: PassageConfig) -> Iterator[tuple[int, int, float]]:
    """Cut a sentence that is too long after white space or a comma, a text without any between words, and a word that is too
    long between characters. Gives (start, end, words) of each piece."""
    here = start
    bounds = [(0.0, start, True)]  # (words up to it, position, whether it is a good place) since `here`
    for offset, words, good in cut_points(text[start:end], lambda size, words: _fits(size, words, cfg, 1)):
        position = start + offset
        bounds.append((bounds[-1][0] + words, position, good))
        while len(bounds) > 2 and not _fits(position - here, bounds[-1][0] - bounds[0][0], cfg, 1):
            # The last good place, but not one that leaves a piece of less than half of what fits; else the last place of all.
            limit = bounds[-2][1] - (bounds[-2][1] - here) // 2
            k = next((k for k in range(len(bounds) - 2, 0, -1) if bounds[k][2] and bounds[k][1] >= limit), len(bounds) - 2)
            yield here, bounds[k][1], bounds[k][0] - bounds[0][0]
            here, bounds = bounds[k][1], bounds[k:]
    if here < end:
        yield here, end, bounds[-1][0] - bounds[0][0]
