"""Labelled claims from the user's own passages: the material a faithfulness verifier learns from and is measured on.

Faithful claims are sentences of a passage, as they stand and reworded (`rewordings.py`); corrupted ones are the same, with one
thing made wrong (`corruptions.py`), or claims of another document's passage. The same passages and seed give the same claims.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Literal

from synpro.corpus.corruptions import CORRUPTIONS, Around, corrupt, names
from synpro.corpus.passages import sentence_spans
from synpro.corpus.rewordings import lowered, reword
from synpro.records import Passage

Label = Literal["faithful", "absent", "unsupported"]
OTHER = "other"
"""Type of a claim of another passage."""
KINDS = (*CORRUPTIONS, OTHER)
"""The types of corrupted claims."""
_WORDS = (5, 45)
"""Fewest and most words of a sentence that becomes a claim."""


@dataclass(frozen=True)
class Claim:
    """A statement about a passage, and whether the passage supports it."""

    text: str
    passage: str
    """The passage's text."""
    document: str
    """Of the passage: claims are split by it."""
    label: Label
    kind: str
    """`verbatim` or `reworded` for a faithful claim, a type of `KINDS` for another."""
    base: str
    """The sentence of the passage it was made from (of the other passage, for a claim of one)."""


def make_claims(passages: Sequence[Passage], seed: int, limit: int) -> list[Claim]:
    """At most `limit` claims, about half of them faithful, spread over the passages.

    From each sentence come up to three faithful claims and as many corrupted ones, of the types there are fewest of. A corpus
    of one document has no passages of another: then there are no claims of type `other`.
    """
    rng = Random(seed)
    pool = [(p, statement) for p in passages for statement in statements(p.text, rng)]
    rng.shuffle(pool)
    by_document: dict[str, list[Passage]] = {}
    for p in passages:
        by_document.setdefault(p.document, []).append(p)
    all_names = {d: list(dict.fromkeys(n for p in ps for n in names(p.text))) for d, ps in by_document.items()}
    counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    claims: list[Claim] = []
    for passage, base in pool:
        if len(claims) >= limit:
            break
        versions = [base, *(reword(base, rng)[0] for _ in range(2))]
        for text in dict.fromkeys(versions):
            kind = "verbatim" if text == base else "reworded"
            claims.append(Claim(text, passage.text, passage.document, "faithful", kind, base))
        others = [d for d in by_document if d != passage.document]
        some = [rng.choice(by_document[d]) for d in rng.sample(others, min(len(others), 4))]
        around = Around(passage.text, [p.text for p in some], [n for p in some for n in all_names[p.document][:40]])
        made = 0
        for kind in sorted(KINDS, key=lambda k: (counts[k], k)):
            if made == 3:
                break
            claim = _corrupted(kind, passage, base, around, versions, rng)
            if claim is not None:
                claims.append(claim)
                counts[kind] += 1
                made += 1
    return claims[:limit]


def _corrupted(kind: str, passage: Passage, base: str, around: Around, versions: Sequence[str], rng: Random) -> Claim | None:
    if kind == OTHER:
        if not around.others:
            return None
        theirs = statements(rng.choice(around.others), rng)
        if not theirs:
            return None
        other = rng.choice(theirs)
        return Claim(reword(other, rng)[0], passage.text, passage.document, "absent", kind, other)
    for version in rng.sample(list(versions), len(versions)):
        text = corrupt(kind, version, around, rng)
        if text is not None:
            return Claim(text, passage.text, passage.document, "unsupported", kind, base)
    return None


def statements(text: str, rng: Random) -> list[str]:
    """The sentences of a passage that say something on their own; now and then two short neighbours joined into one."""
    sentences = [" ".join(text[a:b].split()) for a, b in sentence_spans(text)]
    whole = [s for s in sentences if _WORDS[0] <= len(s.split()) <= _WORDS[1] and s[-1] in ".!?" and s[0].isupper()]
    merged = []
    for first, second in itertools.pairwise(whole):
        if len(first.split()) + len(second.split()) <= 32 and rng.random() < 0.5:
            joint = rng.choice(("; ", ", and "))
            merged.append(first.rstrip(".!?") + joint + lowered(second))
    return whole + merged


@dataclass(frozen=True)
class Split:
    """Claims by what they are for; no document is in two parts."""

    train: tuple[Claim, ...]
    calibration: tuple[Claim, ...]
    heldout: tuple[Claim, ...]


def split_claims(claims: Sequence[Claim], calibration: float, heldout: float) -> Split:
    """By hash of the document: shares of the documents, at least one each for calibration and held-out.

    Raises ValueError for fewer than three documents.
    """
    documents = sorted({c.document for c in claims}, key=lambda d: sha256(d.encode()).digest())
    if len(documents) < 3:
        raise ValueError(
            f"claims come from {len(documents)} documents, and a verifier needs 3 or more: to learn from, to calibrate on"
            " and to hold out. Give prepare more documents, or cut them smaller (prepare.document_words)"
        )
    last, middle = max(1, round(heldout * len(documents))), max(1, round(calibration * len(documents)))
    last, middle = min(last, len(documents) - 2), min(middle, max(1, len(documents) - last - 1))
    part = {d: ("heldout" if i < last else "calibration" if i < last + middle else "train") for i, d in enumerate(documents)}
    chosen = {name: tuple(c for c in claims if part[c.document] == name) for name in ("train", "calibration", "heldout")}
    return Split(**chosen)
