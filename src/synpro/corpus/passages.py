"""Passages: documents cut once, at paragraph and sentence ends, so that joining them gives the document back.

Cutting is a shortest-path problem over sentence ends: passages should be near the target size, end where a paragraph ends
rather than inside one, and never right after a heading. The paper cuts at 7,000 characters; models of 135M parameters need 50
to 80 words.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from synpro.records import Document, Passage
from synpro.schema import setting


@dataclass(frozen=True)
class PassageConfig:
    """How large passages are."""

    max_characters: int = setting(7000, unit="characters", source="paper", min=1)
    """Most characters of a passage (paper: 7,000)."""
    max_words: int | None = setting(None, unit="words", min=1)
    """Most words of a passage; words are runs of text without white space. None: no limit."""
    target_words: int | None = setting(None, unit="words", min=1)
    """Size to aim for; None aims for the largest size allowed."""

    def __post_init__(self) -> None:
        if self.target_words is not None and (self.max_words is None or self.target_words > self.max_words):
            raise ValueError("target_words: at most max_words, which must be set with it")


# Cost of ending a passage at an atom's end, in units of a passage's squared relative distance from the target size.
_AT_PARAGRAPH, _AT_LINE, _AT_SENTENCE, _INSIDE_SENTENCE, _AFTER_HEADING = 0.0, 0.05, 0.15, 0.5, 2.0

_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof st sr jr vs etc e.g i.e cf no vol fig pp p ed eds inc ltd co corp dept u.s u.k ph.d lit ca c al gen col
    lt sen rep rev hon jan feb mar apr jun jul aug sep sept oct nov dec approx born d b fl r""".split()  # noqa: SIM905
)
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”’）]*")
_WHITE = re.compile(r"\s+")
_PARAGRAPH_GAP = re.compile(r"\n[^\S\n]*\n")


@dataclass(frozen=True)
class _Atom:
    """The smallest span that passages are made of; the white space after it belongs to it."""

    start: int
    end: int
    words: int
    cost: float
    """Cost of ending a passage here."""


def cut_passages(document: Document, cfg: PassageConfig) -> list[Passage]:
    """The passages of a document in order; their texts joined are the document's text."""
    return [
        Passage(f"{document.id}#{i:04d}", document.id, i, start, end, document.text[start:end])
        for i, (start, end) in enumerate(passage_spans(document.text, cfg))
    ]


def join_passages(passages: list[Passage]) -> str:
    """The inverse of `cut`. Raises ValueError when passages are missing or out of order."""
    position = 0
    for passage in passages:
        if passage.start != position or passage.end - passage.start != len(passage.text):
            raise ValueError(
                f"passage {passage.id} starts at {passage.start}, not at {position}: one is missing or out of order; "
                "give all passages of the document in order"
            )
        position = passage.end
    return "".join(p.text for p in passages)


def passage_spans(text: str, cfg: PassageConfig) -> list[tuple[int, int]]:
    """`(start, end)` of each passage in characters; they cover the text without gap or overlap. Empty for an empty text.

    No span has more than `max_characters` or `max_words`; the white space after the last word counts as characters.
    """
    atoms = _atoms(text, cfg)
    words = [0]
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


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """`(start, end)` of each sentence or line in characters, without the white space around it. Empty for a blank text."""
    found: list[tuple[int, int]] = []
    for start, end in itertools.pairwise([0, *_ends(text)]):
        piece = text[start:end]
        if piece.strip():
            left = len(piece) - len(piece.lstrip())
            found.append((start + left, start + len(piece.rstrip())))
    return found


def _atoms(text: str, cfg: PassageConfig) -> list[_Atom]:
    ends = [0, *_ends(text)]
    atoms: list[_Atom] = []
    for start, end in itertools.pairwise(ends):
        piece = text[start:end]
        words = len(piece.split())
        if len(piece) <= cfg.max_characters and (cfg.max_words is None or words <= cfg.max_words):
            # Without a limit on words, thousands of one-letter lines fit a passage and the search would be quadratic in them.
            if atoms and cfg.max_words is None and end - atoms[-1].start <= cfg.max_characters // 100:
                start, words = atoms[-1].start, atoms[-1].words + words
                atoms.pop()
            atoms.append(_Atom(start, end, words, _cost(piece)))
            continue
        pieces = _cut_long(text, start, end, cfg)
        atoms += [_Atom(a, b, len(text[a:b].split()), _INSIDE_SENTENCE if b < end else _cost(text[a:b])) for a, b in pieces]
    return atoms


def _ends(text: str) -> list[int]:
    """Positions where atoms end: after a sentence or a line, with the white space that follows. The last is the end of the
    text."""
    found: set[int] = {len(text)} if text else set()
    for mark in _SENTENCE_END.finditer(text):
        if not _is_abbreviation(text, mark.start(), mark.end()):
            gap = _WHITE.match(text, mark.end())
            found.add(gap.end() if gap else mark.end())
    for gap in _WHITE.finditer(text):
        if "\n" in gap.group() and gap.start() > 0:
            found.add(gap.end())
    return sorted(found)


def _is_abbreviation(text: str, dot: int, end: int) -> bool:
    """Whether a full stop does not end a sentence: after an abbreviation or an initial, or before a small letter."""
    if text[dot] != ".":
        return False
    after = _WHITE.sub("", text[end : end + 8])[:1]
    if after.islower():
        return True
    before = re.search(r"[^\s(\[]*$", text[max(0, dot - 24) : dot])
    word = before.group() if before else ""
    return word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper())


def _cost(piece: str) -> float:
    tail = piece[len(piece.rstrip()) :]
    if _PARAGRAPH_GAP.search(tail.replace("\r\n", "\n")):
        body = piece.strip()
        heading = len(body.split()) <= 12 and not re.search(r"[.!?…:;,。！？\"”)]$", body)
        return _AFTER_HEADING if heading else _AT_PARAGRAPH
    return _AT_LINE if "\n" in tail else _AT_SENTENCE


def _cut_long(text: str, start: int, end: int, cfg: PassageConfig) -> list[tuple[int, int]]:
    """Cut a sentence that is too long at white space, and a word that is too long between characters."""
    found: list[tuple[int, int]] = []
    position = count = 0
    here = last = start  # the span that grows, and its last white space
    for match in re.finditer(r"\S+\s*|\s+", text[start:end]):
        position = start + match.end()
        count += 1 if match.group().strip() else 0
        if last > here and (position - here > cfg.max_characters or (cfg.max_words is not None and count > cfg.max_words)):
            found.append((here, last))
            here, count = last, 1
        while position - here > cfg.max_characters:
            found.append((here, here + cfg.max_characters))
            here += cfg.max_characters
        last = position
    if here < end:
        found.append((here, end))
    return found
