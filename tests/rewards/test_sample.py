"""Only a sample of the texts is read by every judge; the verifier reads all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synpro.records import Passage, Rewrite
from synpro.rewards.worker import RubricWorker

TEXTS = [
    Rewrite(Passage(f"d#{i}", "d", 0, 0, 3, "abc"), "rephrase", f"answer {i}", f"text {i}", None, 3, "stop") for i in range(400)
]


class Counting:
    """A rubric that notes what it is asked."""

    def __init__(self) -> None:
        self.scored: list[Rewrite] = []
        self.checked = 0

    def score_valid(self, some: Sequence[Rewrite]) -> list[dict[str, float | None]]:
        self.scored += some
        return [{"quality": 0.5} for _ in some]

    def claims(self, some: Sequence[Rewrite]) -> list[list[Any]]:
        self.checked += len(some)
        return [[] for _ in some]

    def can_check(self, passage: Passage) -> bool:
        return True


def rows(share: float, some: Sequence[Rewrite]) -> tuple[list[dict[str, Any]], Counting]:
    rubric: Any = Counting()
    return RubricWorker(rubric, lambda done: None, share)(some), rubric


def test_a_sample_is_scored_and_all_are_checked() -> None:
    whole, rubric = rows(1.0, TEXTS)
    assert len(rubric.scored) == rubric.checked == 400 and all("quality" in row["scores"] for row in whole)
    some, rubric = rows(0.1, TEXTS)
    assert 20 <= len(rubric.scored) <= 65 and rubric.checked == 400 and len(some) == 400
    assert [row["scores"] == {"quality": 0.5, "faithfulness": None} for row in some] == [r in rubric.scored for r in TEXTS]
    assert all(set(row["scores"]) >= {"faithfulness"} for row in some)
    assert rows(0.0, TEXTS)[1].scored == []


def test_the_sample_does_not_depend_on_the_chunk() -> None:
    apart = [row for i in range(0, 400, 7) for row in rows(0.1, TEXTS[i : i + 7])[0]]
    assert apart == rows(0.1, TEXTS)[0]
