"""Training the feature verifier, and measuring any verifier on held-out claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from synpro.corpus.claims import KINDS, Claim, Split
from synpro.judges.base import Verdict
from synpro.judges.features import Evidence, Features
from synpro.judges.verifier import ABSENT_SIGNS, Model
from synpro.judges.weights import fit
from synpro.judges.written import written_claims
from synpro.measure.calibration import Quality, quality

BOUNDS = {"all": 0.85, "number": 0.80, "entity": 0.80, "negation": 0.80}
"""AUC a verifier should reach on held-out documents; what falls short is said in the table."""


def train(split: Split, features: Features, written: float, tell: Any = None) -> Model:
    """A calibrated model. `written` is the share of the training weight that hand-written claims have; `tell(more)` hears how
    many claims have been looked at."""
    rows = {}
    for use, own in (("train", split.train), ("calibration", split.calibration)):
        hand = written_claims(use) if written > 0 else []  # type: ignore[arg-type]
        found = find([*own, *hand], features, tell)
        rows[use] = ([*own, *hand], found, counts(own, hand, written))
    claims, found, weight = rows["train"]
    faithful = fit([e.values for e in found], [c.label == "faithful" for c in claims], weight, features.signs)
    claims, found, weight = rows["calibration"]
    faithful = faithful.calibrated([e.values for e in found], [c.label == "faithful" for c in claims], weight)
    false = [(c, e) for use in rows for c, e in zip(rows[use][0], rows[use][1], strict=True) if c.label != "faithful"]
    labels = [c.label == "absent" for c, _ in false]
    absent = None
    if len(set(labels)) == 2:
        balanced = [1 / (labels.count(label) or 1) for label in labels]
        absent = fit([e.values for _, e in false], labels, balanced, ABSENT_SIGNS)
    return Model(faithful, absent, features.likelihood is not None)


def find(claims: Sequence[Claim], features: Features, tell: Any = None) -> list[Evidence]:
    """The evidence of claims, a passage at a time."""
    found: list[Evidence] = []
    for start in range(0, len(claims), 50):
        some = claims[start : start + 50]
        found += features.find([c.text for c in some], [c.passage for c in some])
        if tell is not None:
            tell(len(some))
    return found


def counts(own: Sequence[Claim], hand: Sequence[Claim], written: float) -> list[float]:
    """How much each claim weighs: both labels the same within each source, and the sources by `written`."""
    out: list[float] = []
    for claims, share in ((own, 1 - written if hand else 1.0), (hand, written if own else 1.0)):
        faithful = sum(c.label == "faithful" for c in claims)
        false = len(claims) - faithful
        out += [share / 2 / (faithful if c.label == "faithful" else false) for c in claims]
    return out


def measured(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What a report says of a verifier on some claims: overall, and by type of corruption against all faithful claims."""
    probabilities, truth = [v.probability for v in verdicts], [c.label == "faithful" for c in claims]
    whole: Quality = quality(probabilities, truth)
    pairs = list(zip(claims, probabilities, strict=True))
    faithful = [p for c, p in pairs if c.label == "faithful"]
    by_type = {}
    for kind in KINDS:
        ours = [p for c, p in pairs if c.kind == kind and c.label != "faithful"]
        if ours:
            part = quality([*faithful, *ours], [True] * len(faithful) + [False] * len(ours))
            by_type[kind] = {k: v for k, v in asdict(part).items() if k != "bins"} | {"claims": len(ours)}
    wordings = {}
    for kind in ("verbatim", "reworded", "paraphrased"):
        ours = [p for c, p in pairs if c.kind == kind and c.label == "faithful"]
        if ours:
            wordings[kind] = {"claims": len(ours), "called_faithful": sum(p >= 0.5 for p in ours) / len(ours)}
    said = [(c.label, v.label) for c, v in zip(claims, verdicts, strict=True)]
    told = [(true, label) for true, label in said if true != "faithful" and label != "faithful"]
    return {
        **{k: v for k, v in asdict(whole).items() if k != "bins"},
        "labels_right": sum(a == b for a, b in told) / len(told) if told else None,
        "reliability": [asdict(b) for b in whole.bins],
        "by_type": by_type,
        "faithful": wordings,
    }


def short_of(found: dict[str, Any]) -> list[str]:
    """Bounds that were missed on held-out documents, in words; types of which there are no claims are named too."""
    missed = []
    for kind, bound in BOUNDS.items():
        reached = found["auc"] if kind == "all" else found["by_type"].get(kind, {}).get("auc")
        if reached is None:
            missed.append(f"{kind}: no claims to measure it on")
        elif reached < bound:
            missed.append(f"{kind}: AUC {reached:.3f}, asked for {bound:.2f}")
    return missed
