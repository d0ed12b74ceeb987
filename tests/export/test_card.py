"""The card of an export says what the config asked for, and nothing else."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from synpro.config import load_config
from synpro.export import card as cards
from synpro.export.card import write_card
from synpro.export.selection import Counts, Selection
from tests.conftest import ROOT
from tests.report.builder import build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("run") / "run")


def card(run: Path, out: Path, *sets: str, rounds: tuple[int, ...] = ()) -> str:
    cfg = load_config(ROOT / "configs" / "tiny.toml", list(sets))
    selection, counts = Selection(rounds=rounds), Counts({"organic": 3, "rephrase": 2, "reformat": 2}, 999)
    return write_card(run, cfg, selection, counts, out, []).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "claimed"),
    [
        ("filters.same_language=false", "(`language`)"),
        ("filters.keep_truncated=true", "ends before the limit of tokens"),
        ("filters.min_faithfulness=0.0", "(`support`)"),
        ("synthesize.keep_contaminated=true", "that contain an item were dropped"),
        ("rubric.faithfulness.max_claims=none", "At most 8 claims of a text were checked"),
    ],
)
def test_a_card_does_not_claim_what_the_config_turned_off(
    setting: str, claimed: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(group="arc", items=9, tested=9, hit={"organic": 1})
    monkeypatch.setattr(cards, "contamination", lambda data: [found])
    monkeypatch.setattr(cards, "verifier", lambda data: {"heldout": {"count": 90, "auc": 0.8, "precision": 0.7, "recall": 0.6}})
    assert claimed in card(run, tmp_path)
    assert claimed not in card(run, tmp_path, setting)


def test_what_was_kept_is_that_of_the_rounds_that_are_exported(run: Path, tmp_path: Path) -> None:
    assert [n for n in (1, 2) if f"| {n} | rephrase |" in card(run, tmp_path)] == [1, 2]
    assert [n for n in (1, 2) if f"| {n} | rephrase |" in card(run, tmp_path, rounds=(1,))] == [1]
