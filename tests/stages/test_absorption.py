"""What a real checkpoint has absorbed: the stage's files, and the numbers a comparison makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synpro.compare.absorption import absorption_numbers
from synpro.corpus.store import PASSAGES, REWRITES, read_rows, write_rows
from synpro.records import Absorption, Shard
from synpro.report.what_pays import absorption_table, checks_table, what_pays
from synpro.runner.context import StepContext
from synpro.stages import absorption
from synpro.stages.absorption import AbsorptionConfig, absorb
from tests.measure.facts import fact
from tests.stages.small_corpus import small_corpus
from tests.stages.small_model import CFG
from tests.stages.small_model import run as pretrained


def test_own_wording_other_words_and_held_out_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = small_corpus(tmp_path / "corpus")
    model = pretrained(CFG, corpus, tmp_path / "model")
    table = list(read_rows(corpus.dir / "documents.parquet"))
    rows = [{**row, "text": fact(i), "group": f"article-{i // 3}"} for i, row in enumerate(table)]
    from synpro.corpus.store import DOCUMENTS

    write_rows(corpus.dir / "documents.parquet", DOCUMENTS, rows)
    train = [row for row in rows if row["split"] == "train"]
    place = {"index": 0, "start": 0, "end": 1}
    passages = [{"id": f"{r['id']}#0000", "document": r["id"], "text": r["text"], **place} for r in [*train, rows[-1]]]
    write_rows(corpus.dir / "passages.parquet", PASSAGES, passages[:-1])
    wide = small_corpus(tmp_path / "wide")
    write_rows(wide.dir / "documents.parquet", DOCUMENTS, [{**r, "id": r["id"].replace("heldout", "new")} for r in rows])
    new = {**passages[-1], "id": "new-1#0000", "document": "new-1"}
    write_rows(wide.dir / "passages.parquet", PASSAGES, [*passages[:-1], new])
    reported = [{"passage": p["id"], "document": p["document"], "text": f"Again: {p['text']}"} for p in [*passages[:30], new]]
    shard = Shard(tmp_path / "shard", "rephrase", 1, 31, 31, 0, 31, 0, "")
    shard.dir.mkdir()
    write_rows(shard.dir / "rewrites.parquet", REWRITES, [{**row, "kept": i != 5} for i, row in enumerate(reported)])

    def asked(name: str) -> Absorption:
        ctx = StepContext.local(tmp_path / name)
        return absorb(AbsorptionConfig(distractors=4), corpus=corpus, model=model, ctx=ctx, held_back=shard, written_from=wide)

    with monkeypatch.context() as patch:
        patch.setattr(absorption, "MAX_TEXTS", 7)
        some = list(read_rows(asked("some").dir / "losses.parquet"))
    assert [sum(r["text"] == kind for r in some) for kind in ("train", "rephrased", "unseen")] == [7, 7, 1]
    assert len({r["document"] for r in some if r["text"] == "train"}) == 7 and some[6]["document"] != train[6]["id"], "spread"
    first, again = asked("first"), asked("again")
    assert first.digest == again.digest
    losses = list(read_rows(first.dir / "losses.parquet"))
    assert [sum(r["text"] == kind for r in losses) for kind in ("train", "rephrased", "unseen")] == [60, 29, 1]
    numbers = absorption_numbers({0: first, 1: again}, {0: first, 1: again})
    assert set(numbers["cloze"]) == {"train", "rephrased", "heldout"} and numbers["cloze"]["rephrased"]["items"] == 29
    assert set(numbers["loss"]) == {"train", "rephrased"}, "one article gives no interval"
    for row in (*numbers["cloze"].values(), *numbers["loss"].values()):
        assert row["low"] <= row["mean"] <= row["high"] and row["change"]["mean"] == 0
    assert numbers["cloze"]["train"]["chance"] == 0.2 and set(numbers["cloze"]["train"]["kinds"]) == {"name", "number", "year"}
    json.dumps(numbers, allow_nan=False)
    page(numbers)


def page(absorption: dict) -> None:
    """The tables of a comparison with one arm and one that leaves a check out."""
    change = {"mean": -0.1, "low": -0.2, "high": -0.05, "detectable": 0.1}
    shard = {
        "operation": "rephrase",
        "round": 1,
        "kept": 6,
        "dropped": 4,
        "reasons": {"too short": {"answers": 3, "tokens": 30}, "copy": {"answers": 1, "tokens": 9}},
    }
    cost = {"text": {"generating": {"flops": 2e9}}}
    arm = {"absorption": absorption, "shards": [shard], "change": change, "data_efficiency": None, "cost": cost}
    numbers = {
        "arms": {"prompt-only": arm, "prompt-only-without-length": {**arm, "absorption": None}},
        "contrasts": [
            {
                "arm": "prompt-only-without-length",
                "control": "prompt-only",
                "about": "without",
                "change": change,
                "equal_tokens": {"change": {**change, "high": 0.01}, "synthetic_tokens": 5},
            }
        ],
        "refused": None,
        "about": {"budget_tokens": 10, "parameters": 10, "seeds": [0]},
    }
    assert [row[0] for row in absorption_table(numbers)[1]] == ["prompt-only"]
    rows = checks_table(numbers)[1]
    assert rows[0][:5] == ("prompt-only", "length", "3", "30.0%", "30") and rows[0][5].startswith("-0.1000")
    text = what_pays(numbers, "synpro compare")
    assert "cannot be told apart below 0.100" in text and "is better" in text
