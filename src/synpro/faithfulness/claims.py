"""Labelled claims from the user's own passages: the data that a faithfulness verifier is trained and measured on.

Faithful claims are sentences of a passage, unchanged or paraphrased (`paraphrases.py`). The others are the same with one error
(`corruptions.py`), or claims from a passage of another document. The same passages and seed give the same claims.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from synpro.faithfulness.corruptions import CORRUPTIONS, CorruptionContext, corrupt, find_names
from synpro.faithfulness.paraphrases import decapitalize, paraphrase
from synpro.judges.base import Label
from synpro.language.identification import may_be
from synpro.language.segmentation import begins_small, count_words, ends_statement, sentence_spans
from synpro.records import Passage

OTHER = "other"
"""Type of a claim that is from another passage."""
KINDS = (*CORRUPTIONS, OTHER)
"""The types of corrupted claims."""
_ANY_LANGUAGE = ("number", "date", "entity", OTHER)
"""The types that need no English: of passages in another language only these are made, and no paraphrases."""
_CLAIM_WORDS = (5, 45)
"""Minimum and maximum words of a sentence that becomes a claim."""


@dataclass(frozen=True)
class Claim:
    """A statement about a passage, and whether the passage supports it."""

    text: str
    passage: str
    """Text of the passage."""
    document: str
    """Id of the passage's document: claims are split by document."""
    label: Label
    kind: str
    """`verbatim`, `reworded` (by rule) or `paraphrased` (by hand) for a faithful claim, else a type of `KINDS`."""
    base: str
    """The sentence that the claim was made from; of the other passage for type `other`."""


def make_claims(passages: Sequence[Passage], seed: int, limit: int) -> list[Claim]:
    """Make at most `limit` claims, about half of them faithful, spread over the passages.

    Each sentence gives up to three faithful claims and as many corrupted ones, of the types that have the fewest claims so far.
    A corpus of one document gives no claims of type `other`.
    """
    rng = Random(seed)
    pool = [(p, statement) for p in passages for statement in statements(p.text, rng)]
    rng.shuffle(pool)
    by_document: dict[str, list[Passage]] = {}
    for p in passages:
        by_document.setdefault(p.document, []).append(p)
    all_names = {d: list(dict.fromkeys(n for p in ps for n in find_names(p.text))) for d, ps in by_document.items()}
    counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    claims: list[Claim] = []
    for passage, base in pool:
        if len(claims) >= limit:
            break
        english = _is_english(passage.text)
        versions = [base, *(paraphrase(base, rng)[0] for _ in range(2 if english else 0))]
        for text in dict.fromkeys(versions):
            kind = "verbatim" if text == base else "reworded"
            claims.append(Claim(text, passage.text, passage.document, "faithful", kind, base))
        others = [d for d in by_document if d != passage.document]
        some = [rng.choice(by_document[d]) for d in rng.sample(others, min(len(others), 4))]
        context = CorruptionContext(passage.text, [p.text for p in some], [n for p in some for n in all_names[p.document][:40]])
        made = 0
        for kind in sorted(KINDS if english else _ANY_LANGUAGE, key=lambda k: (counts[k], k)):
            if made == 3:
                break
            claim = _corrupted(kind, passage, base, context, versions, rng)
            if claim is not None:
                claims.append(claim)
                counts[kind] += 1
                made += 1
    return claims[:limit]


def _corrupted(
    kind: str, passage: Passage, base: str, context: CorruptionContext, versions: Sequence[str], rng: Random
) -> Claim | None:
    if kind == OTHER:
        if not context.others:
            return None
        theirs = statements(rng.choice(context.others), rng)
        if not theirs:
            return None
        other = rng.choice(theirs)
        said = paraphrase(other, rng)[0] if _is_english(passage.text) else other
        return Claim(said, passage.text, passage.document, "absent", kind, other)
    for version in rng.sample(list(versions), len(versions)):
        text = corrupt(kind, version, context, rng)
        if text is not None:
            return Claim(text, passage.text, passage.document, "unsupported", kind, base)
    return None


def statements(text: str, rng: Random) -> list[str]:
    """The sentences of a passage that are complete on their own, and some pairs of short neighbours joined into one."""
    sentences = [" ".join(text[a:b].split()) for a, b in sentence_spans(text)]
    whole = [s for s in sentences if _CLAIM_WORDS[0] <= count_words(s) <= _CLAIM_WORDS[1] and _is_whole(s)]
    merged: list[str] = []
    if not _is_english(text):
        return whole
    for first, second in itertools.pairwise(whole):
        if count_words(first) + count_words(second) <= 32 and rng.random() < 0.5:
            joint = rng.choice(("; ", ", and "))
            merged.append(first.rstrip(".!?") + joint + decapitalize(second))
    return whole + merged


def _is_whole(sentence: str) -> bool:
    """Whether a sentence begins and ends as one does: with a capital and a full stop, in a script that has them."""
    return ends_statement(sentence) and not begins_small(sentence)


def _is_english(text: str) -> bool:
    return may_be(text, ("en",))


@dataclass(frozen=True)
class Split:
    """Claims by use; no document is in two parts."""

    train: tuple[Claim, ...]
    calibration: tuple[Claim, ...]
    heldout: tuple[Claim, ...]


def split_claims(claims: Sequence[Claim], calibration: float, heldout: float) -> Split:
    """Split claims by hash of the document. `calibration` and `heldout` are fractions of the documents, at least one each.

    Raises ValueError for fewer than three documents.
    """
    documents = sorted({c.document for c in claims}, key=lambda d: sha256(d.encode()).digest())
    if len(documents) < 3:
        raise ValueError(
            f"claims come from {len(documents)} documents, and a verifier needs 3 or more: to train on, to calibrate on and"
            f" to hold out. A claim is made of a sentence of {_CLAIM_WORDS[0]} to {_CLAIM_WORDS[1]} words that ends with a mark"
            " such as a full stop. Give prepare more documents that have such sentences, cut them smaller"
            ' (prepare.document_words), or set train_verifier.kind = "none": claims are then checked by rule'
        )
    last, middle = max(1, round(heldout * len(documents))), max(1, round(calibration * len(documents)))
    last, middle = min(last, len(documents) - 2), min(middle, max(1, len(documents) - last - 1))
    part = {d: ("heldout" if i < last else "calibration" if i < last + middle else "train") for i, d in enumerate(documents)}
    chosen = {name: tuple(c for c in claims if part[c.document] == name) for name in ("train", "calibration", "heldout")}
    return Split(**chosen)
