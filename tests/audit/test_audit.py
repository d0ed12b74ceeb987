"""The audit's statistic and what it says, on rewards that are known; the real rewards are in tests/rewards/test_exploits.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from synpro.audit.audit import REFERENCE, Findings, audit
from synpro.audit.reference import reference_answers
from synpro.audit.report import page, plain, table, verdict
from synpro.commands.audit_rewards import audit_rewards
from synpro.config import ConfigError, load_config
from synpro.judges.text_stats import words
from synpro.operations.registry import build_operation, operation_config
from synpro.records import Rewrite
from synpro.rewards.base import Reward
from synpro.rewards.format import Format
from synpro.rewards.length import Length
from synpro.rewards.rubric import Rubric
from tests.conftest import ROOT

REPHRASE = build_operation(operation_config("rephrase"))
SUBJECTS = reference_answers()[:4]


class Words(Reward):
    """Pays for every word: the longest answer wins."""

    name = "quality"

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [float(len(words(r.text or ""))) for r in rewrites]


class Honesty(Reward):
    """Knows the reference answers."""

    name = "faithfulness"

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        known = {(s.passage.id, s.rewrite(REPHRASE).text) for s in SUBJECTS}
        return [float((r.passage.id, r.text) in known) for r in rewrites]


def audited(*rewards, weights: dict[str, float]) -> Findings:
    return audit(REPHRASE, Rubric(rewards, weights), SUBJECTS)


def test_a_rubric_that_pays_for_length_is_caught_and_the_reward_named() -> None:
    findings = audited(Words(), Format(), weights={"quality": 1.0, "format": 1.0})
    beaten = {kind.name: kind for kind in findings.winners}
    assert "reference answer twice" in beaten and "empty" not in beaten and REFERENCE not in beaten
    assert beaten["reference answer twice"].credited_rewards == ["quality"] and beaten["reference answer twice"].own == 1.0
    assert "'reference answer twice' (credited by quality)" in verdict(findings)
    assert findings.kinds[0].rank == 1 and findings.kinds[0].total == max(k.total for k in findings.kinds)
    assert findings.length["all"] > 0.99
    noticed = audited(Words(), Honesty(), weights={"quality": 3.0, "faithfulness": 0.1})
    assert "What costs it: faithfulness; give that more weight (operations.rephrase.weights)" in verdict(noticed)


def test_a_blind_rubric_is_caught() -> None:
    """Equal pay is a defeat: a generator would take the cheaper way."""
    findings = audited(Format(), Length(), weights={"format": 1.0, "length": 1.0})
    beaten = {kind.name: kind for kind in findings.winners}
    assert beaten["verbatim copy"].credited_rewards == ["format", "length"]
    assert "empty" not in beaten


def test_a_rubric_that_knows_better_passes() -> None:
    findings = audited(Words(), Honesty(), Format(), weights={"quality": 0.1, "faithfulness": 3.0, "format": 1.0})
    assert not findings.winners
    assert findings.kinds[0].name == REFERENCE and findings.kinds[0].rank == 1
    assert verdict(findings) == "rephrase: every exploit is below the median of the reference answers."


def test_table_and_data_say_the_same() -> None:
    findings = audited(Words(), Format(), weights={"quality": 1.0, "format": 1.0})
    text = "\n".join(table(findings))
    data = plain([findings])["rephrase"]
    assert [k["name"] for k in data["kinds"]] == [k.name for k in findings.kinds]
    assert data["passed"] is False and len(data["answers"]) == len(findings.rows)
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    for kind in findings.kinds:
        assert [str(kind.rank), kind.name, f"{kind.total:.2f}"] in [row[1:4] for row in cells]
    assert text in page([findings], len(SUBJECTS))


def test_one_passage_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least two passages"):
        audit(REPHRASE, Rubric([Words()], {"quality": 1.0}), SUBJECTS[:1])


def test_an_operation_that_the_config_has_not_is_refused_before_anything_runs(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "tiny.toml")
    with pytest.raises(ConfigError, match=r"the config has no 'questions'; it has rephrase, reformat"):
        audit_rewards(cfg, tmp_path, print, ["rephrase", "questions"])
    assert not list(tmp_path.iterdir())
