"""Claims written by hand: real paraphrases, and falsehoods in the passage's own words.

Claims made by rule keep the wording of their sentence, and a verifier that learned from them alone would take any other wording
for invention. These 14 passages with 153 claims (`handwritten.json`), the operations' worked examples and automatic corruptions
of their paraphrases are therefore part of what every verifier learns from. Four passages are never learned from: they measure.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

from synpro.corpus.claims import Claim, Label
from synpro.corpus.corruptions import CORRUPTIONS, Around, corrupt, names
from synpro.operations import reformat, rephrase
from synpro.operations.table import OPERATIONS

FILE = Path(__file__).with_name("handwritten.json")
Use = Literal["train", "calibration", "test"]


def written_claims(use: Use, corrupted: bool = True) -> list[Claim]:
    """The claims for a use, in order; with automatic corruptions of the faithful ones, at most two each, where asked for."""
    texts = json.loads(FILE.read_text(encoding="utf-8"))
    claims: list[Claim] = []
    for number, text in enumerate(texts):
        if text["use"] == use:
            document = f"written-{number:02d}"
            claims += [_claim(c, text["passage"], document, "faithful", "paraphrased") for c in text["faithful"]]
            claims += [_claim(c, text["passage"], document, "unsupported", kind) for kind, c in text["false"].items()]
    if use == "train":
        for name, module in (("rephrase", rephrase), ("reformat", reformat)):
            operation = OPERATIONS[name](())
            for example in module.EXAMPLES:
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
        around = Around(claim.passage, some, [n for p in some for n in names(p)])
        found = 0
        for kind in rng.sample(list(CORRUPTIONS), len(CORRUPTIONS)):
            text = corrupt(kind, claim.text, around, rng)
            if text is not None and found < 2:
                made.append(replace(claim, text=text, label="unsupported", kind=kind))
                found += 1
    return made
