"""Claims written by hand: real paraphrases, and falsehoods in the passage's own words.

Claims made by rule keep the wording of their sentence, and a verifier trained on them alone would take other wording for
invention. Every verifier is therefore also trained on these 14 passages with 153 claims (`handwritten.json`), the worked
examples of the paper's operations, and corruptions of their paraphrases. Four passages are only used to measure.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

from synpro.faithfulness.claims import Claim
from synpro.faithfulness.corruptions import CORRUPTIONS, CorruptionContext, corrupt, find_names
from synpro.judges.base import Label
from synpro.operations.registry import OPERATIONS, PAPER

FILE = Path(__file__).with_name("handwritten.json")
Use = Literal["train", "calibration", "test"]


def handwritten_claims(use: Use, corrupted: bool = True) -> list[Claim]:
    """The claims for a use, in order; with `corrupted`, followed by up to two automatic corruptions of each faithful one."""
    texts = json.loads(FILE.read_text(encoding="utf-8"))
    claims: list[Claim] = []
    for number, text in enumerate(texts):
        if text["use"] == use:
            document = f"written-{number:02d}"
            claims += [_claim(c, text["passage"], document, "faithful", "paraphrased") for c in text["faithful"]]
            claims += [_claim(c, text["passage"], document, "unsupported", kind) for kind, c in text["false"].items()]
    if use == "train":
        for name in PAPER:
            operation = OPERATIONS[name]()
            for example in operation.default_examples:
                said = operation.claims(operation.parse(example.answer))
                claims += [_claim(c, example.source, f"example-{name}", "faithful", "paraphrased") for c in said]
    return claims + (_corruptions(claims) if corrupted else [])


def _claim(text: str, passage: str, document: str, label: Label, kind: str) -> Claim:
    return Claim(text, passage, document, label, kind, text)


def _corruptions(claims: list[Claim]) -> list[Claim]:
    rng = Random(0)
    passages = list(dict.fromkeys(c.passage for c in claims))
    made = []
    for claim in claims:
        if claim.label != "faithful":
            continue
        others = [p for p in passages if p != claim.passage]
        some = rng.sample(others, min(3, len(others)))
        context = CorruptionContext(claim.passage, some, [n for p in some for n in find_names(p)])
        found = 0
        for kind in rng.sample(list(CORRUPTIONS), len(CORRUPTIONS)):
            text = corrupt(kind, claim.text, context, rng)
            if text is not None and found < 2:
                made.append(replace(claim, text=text, label="unsupported", kind=kind))
                found += 1
    return made
