"""The card of an export says what the config asked for, and nothing else."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from synpro.config import load_config
from synpro.corpus.readers import SourceConfig
from synpro.export import card as cards
from synpro.export import model_card as model_cards
from synpro.export.card import write_card
from synpro.export.model_card import model_card
from synpro.export.selection import Counts, Selection
from synpro.report.run_data import load_run
from synpro.rewards.filters import filter_reasons
from tests.conftest import ROOT
from tests.report.builder import build, write_json


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
    checked = "filters.keep_truncated=false"  # which the demo's config turns off
    assert claimed in card(run, tmp_path, checked)
    assert claimed not in card(run, tmp_path, checked, setting)


def test_what_was_kept_is_that_of_the_rounds_that_are_exported(run: Path, tmp_path: Path) -> None:
    assert [n for n in (1, 2) if f"| {n} | rephrase |" in card(run, tmp_path)] == [1, 2]
    assert [n for n in (1, 2) if f"| {n} | rephrase |" in card(run, tmp_path, rounds=(1,))] == [1]


def test_a_card_shows_texts_of_the_export_alone(run: Path, tmp_path: Path) -> None:
    def shown(selection: Selection, *operations: str) -> str:
        counts = Counts({"organic": 3} | dict.fromkeys(operations, 2), 999)
        return write_card(run, load_config(ROOT / "configs" / "tiny.toml"), selection, counts, tmp_path, []).read_text("utf-8")

    one = shown(Selection(rounds=(1,), operations=("reformat",)), "reformat")
    samples, watch = one.partition("## Samples")[2], one.partition("## Collapse watch")[2].partition("##")[0]
    assert ":reformat:01:" in samples and ":02:" not in samples and "rephrase" not in samples
    assert "reformat, round 1" in watch and "round 2" not in watch and "rephrase" not in watch
    assert "## Samples" not in shown(Selection(min_scores={"quality": 99.0}), "reformat")
    none = shown(Selection())
    assert "from a run of SynPro: human-written text." in none
    assert "can be wrong" not in none and "This export has no synthetic text." in none
    assert "human-written and synthetic text." in shown(Selection(), "reformat")


def test_names_licences_and_texts_of_any_kind_stay_in_their_place(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    twice = (
        SourceConfig("hf:a/b", subset="one", license="mit"),
        SourceConfig("hf:a/b", subset="two", split="test", license="no"),
        SourceConfig("c", license="mine\n# not `yours` <script>"),
    )
    cfg = load_config(ROOT / "configs" / "tiny.toml", ["name=null"])
    cfg = replace(cfg, prepare=replace(cfg.prepare, sources=twice))
    sample = SimpleNamespace(operation="rephrase", source="one\r\ntwo\rthree", versions=[])
    sample.versions.append(SimpleNamespace(kept=True, scores={}, id="x", text="a | b\r\n<i>c"))
    monkeypatch.setattr(cards, "samples", lambda data, per_operation: [sample])
    text = write_card(run, cfg, Selection(), Counts({"rephrase": 2}, 9), tmp_path, []).read_text("utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["pretty_name"] == "null" and head["license"] == ["mit", "no"]
    assert "- `hf:a/b (one)`: licence mit\n- `hf:a/b (two, test)`: licence no\n- `c`: licence mine # not" in text
    assert "<script>" not in text and "\r" not in text
    assert "| one<br>two<br>three | a &#124; b<br>&lt;i&gt;c |" in text


def test_a_model_card_names_the_general_text_that_was_replayed(run: Path) -> None:
    cfg = load_config(ROOT / "configs" / "tiny.toml")
    general = (SourceConfig("general.jsonl", license="cc-by-nc-4.0"),)
    folder = run / "round-01/pretrain/hf"
    write_json(folder / "config.json", {"architectures": ["X"], "max_position_embeddings": 64, "vocab_size": 640})
    for share, named in ((0.3, True), (0.0, False)):
        mixture = replace(cfg.pretrain.mixture, replay_share=share)
        with_general = replace(
            cfg, prepare=replace(cfg.prepare, general=general), pretrain=replace(cfg.pretrain, mixture=mixture)
        )
        text = model_card(load_run(run), with_general, 1)
        assert (
            ('- "cc-by-nc-4.0"' in text)
            is ("`general.jsonl`: licence" in text)
            is ("30% of the training tokens" in text)
            is named
        )


def test_a_card_says_whether_generators_were_trained_and_what_answered(run: Path, tmp_path: Path) -> None:
    trained, plain = "trained with GRPO", "by prompt alone"
    steps = ("operations.rephrase.steps=0", "operations.reformat.steps=0")
    assert trained in card(run, tmp_path) and plain not in card(run, tmp_path)
    assert plain in card(run, tmp_path, *steps) and trained not in card(run, tmp_path, *steps)
    assert (
        "influence 3.0" in card(run, tmp_path, *steps)
        and "influence"
        not in (card(run, tmp_path, *steps, "generate_only=true").partition("## How")[2].partition("## What")[0])
    )
    answered = card(run, tmp_path, *steps, 'synthesize.engine={type="scripted", answers=["a"]}')
    assert "Generator: the engine `scripted`, which was asked for `wheel:" in answered


def test_a_filter_that_was_added_is_on_the_card(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(filter_reasons()) == set(cards.STATED), "the template words every filter of the package"
    monkeypatch.setattr(cards, "filter_reasons", lambda: {"copy": "no", "url": "The text holds an address."})
    assert (
        "Also dropped, `url`: The text holds an address." in (text := card(run, tmp_path))
        and "Also dropped, `copy`" not in text
    )


def test_a_card_that_cannot_be_written_costs_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(tmp_path / "run")
    for number in (1, 2):
        (run / f"round-{number:02d}/pretrain/hf").mkdir(parents=True, exist_ok=True)
        (run / f"round-{number:02d}/pretrain/hf/model.safetensors").touch()
    (run / "round-01/pretrain/hf/README.md").mkdir()
    monkeypatch.setattr(model_cards, "model_card", lambda data, cfg, round: f"round {round}")
    (problem,) = model_cards.write_model_cards(run, load_config(ROOT / "configs" / "tiny.toml"))
    assert problem.startswith("the model of round 1 has no new card: ") and "is a folder where a file is needed" in problem
    assert (run / "round-02/pretrain/hf/README.md").read_text() == "round 2"
