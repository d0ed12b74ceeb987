"""The feature verifier, trained by its stage, on rewrites by hand that it never saw; and what its reward makes of exploits."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from statistics import median

import pytest

from synpro.audit.exploits import EXPLOITS, Case, Exploit
from synpro.faithfulness.corruptions import CORRUPTIONS, CorruptionContext, corrupt, find_names
from synpro.faithfulness.feature_verifier import FeatureVerifier
from synpro.faithfulness.features import FeatureExtractor
from synpro.faithfulness.registry import open_judges
from synpro.judges.base import JudgesConfig
from synpro.judges.registry import JudgePool
from synpro.language.segmentation import sentences
from synpro.operations.reformat import Reformat
from synpro.operations.registry import OPERATIONS
from synpro.records import TrainedVerifier
from synpro.rewards.faithfulness import Faithfulness
from tests.rewards.reference import REFORMATTED, REPHRASED, SOURCES, SUBJECTS, answered

ELSE = (
    "empty",
    "heading only",
    "another passage's text",
    "another passage's reference answer",
    "keyword stuffing",
    "common words",
)

HONEST = [
    (claim, SOURCES[name])
    for name in REPHRASED
    for claim in (*sentences(REPHRASED[name]), *(content for _, content in Reformat().entries(REFORMATTED[name])))
]


@pytest.fixture(scope="module")
def judges(verifier: TrainedVerifier) -> Iterator[JudgePool]:
    pool = open_judges(JudgesConfig(), trained=verifier)
    yield pool
    pool.close()


def corrupted() -> list[tuple[str, str]]:
    """A corruption of each honest claim, of each type in turn."""
    rng, kinds, out = Random(0), list(CORRUPTIONS), []
    for i, (claim, source) in enumerate(HONEST):
        others = [t for t in SOURCES.values() if t != source]
        context = CorruptionContext(source, others, [n for t in others for n in find_names(t)])
        for kind in kinds[i % len(kinds) :] + kinds[: i % len(kinds)]:
            text = corrupt(kind, claim, context, rng)
            if text is not None:
                out.append((text, source))
                break
    return out


def test_honest_rewrites_are_mostly_faithful_and_their_corruptions_mostly_not(judges: JudgePool) -> None:
    bad = corrupted()
    assert len(bad) == len(HONEST)
    right = [v.probability >= 0.5 for v in judges.verifier.check(*zip(*HONEST, strict=True))]
    wrong = [v.probability >= 0.5 for v in judges.verifier.check(*zip(*bad, strict=True))]
    assert sum(right) / len(right) > 0.6
    assert sum(wrong) / len(wrong) < 0.4


def test_a_claim_about_something_else_is_absent(judges: JudgePool) -> None:
    claims = sentences(SOURCES["glacier"])
    said = judges.verifier.check(claims, [SOURCES["printing"]] * len(claims))
    assert {v.label for v in said} <= {"absent", "unsupported"}
    assert sum(v.label == "absent" for v in said) >= len(claims) / 2


def test_support_is_the_sentence_of_the_passage_and_its_place(judges: JudgePool) -> None:
    source = SOURCES["lighthouse"]
    (verdict,) = judges.verifier.check(["Henry Winstanley built the first tower of wood."], [source])
    assert verdict.support is not None
    assert verdict.support.text == source[verdict.support.start : verdict.support.end]
    assert verdict.support.text.startswith("The first tower")


def test_a_verdict_does_not_depend_on_the_others(judges: JudgePool, verifier: TrainedVerifier) -> None:
    pairs = HONEST[:6]
    together = judges.verifier.check(*zip(*pairs, strict=True))
    fresh = open_judges(JudgesConfig(), trained=verifier)
    assert [fresh.verifier.check([c], [p])[0] for c, p in reversed(pairs)] == together[::-1]
    fresh.close()


def test_nothing_is_looked_at_twice(judges: JudgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """n completions of one source: the source is embedded once, and each distinct claim once."""
    seen: list[list[int]] = []
    forward = judges.encoder._forward
    monkeypatch.setattr(judges.encoder, "_forward", lambda rows: seen.extend(rows) or forward(rows))
    verifier = FeatureVerifier(judges.verifier.model, FeatureExtractor(judges.encoder))  # type: ignore[attr-defined]
    reward = Faithfulness(Reformat(), verifier)
    source = "The mill by the bridge was built in 1850 by John Hall. It burned down in 1901 and was never rebuilt."
    claims = ["John Hall built the mill by the bridge.", "In 1901 the mill burned down.", "The mill was rebuilt in 1920."]
    answers = [f"Topic: One\nContent: {a}\n\nTopic: Two\nContent: {b}" for a in claims for b in claims if a != b]
    rewrites = [answered(reward.operation, "honey", a) for a in answers]
    passage = type(rewrites[0].passage)("mill#0000", "mill", 0, 0, len(source), source)
    rewrites = [type(r)(passage, r.operation, r.answer, r.text, r.reason, r.tokens, r.finish) for r in rewrites]
    scores = reward.score(rewrites)
    assert len(seen) == 1 + len(claims)
    assert reward.score(rewrites) == scores and len(seen) == 1 + len(claims)


@pytest.mark.parametrize("kind", ["rephrase", "reformat"])
def test_what_says_something_else_or_nothing_is_not_faithful(kind: str, judges: JudgePool) -> None:
    """Copies and loops are faithful, and other rewards pay nothing for them."""
    operation = OPERATIONS[kind]()
    reward = Faithfulness(operation, judges.verifier)

    def scores(answer: Exploit) -> list[float]:
        others = [*list(SUBJECTS.values())[1:], SUBJECTS["lighthouse"]]
        answers = [answer(Case(operation, s, o)) for s, o in zip(SUBJECTS.values(), others, strict=True)]
        reported = [answered(operation, name, a) for name, a in zip(SUBJECTS, answers, strict=True) if a is not None]
        return [float(v or 0) for v in reward.score(reported)]

    honest = scores(lambda case: case.answer)
    assert median(honest) > 0.5
    for name in ELSE:
        assert max(scores(EXPLOITS[name])) < median(honest), name
    invented = scores(EXPLOITS["reference answer plus an invented name and number"])
    assert all(a < b for a, b in zip(invented, honest, strict=True))
