"""The stage train_verifier: what it writes, that it is the same every time, and the language model end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synpro.config import ConfigError, RunConfig
from synpro.engines.openai import OpenAIConfig
from synpro.engines.transformers import TransformersConfig
from synpro.faithfulness.handwritten_claims import handwritten_claims
from synpro.faithfulness.registry import open_judges
from synpro.faithfulness.report import table_lines
from synpro.judges.base import JudgesConfig, VerifierJudgeConfig
from synpro.records import Passage, TrainedVerifier
from synpro.runner.context import StepContext
from synpro.schema import build
from synpro.stages.train_verifier import TrainVerifierConfig, _sample, train_verifier
from tests.chat_server import NAME, Nursery, Server
from tests.passages import passage_corpus


def train(out: Path, corpus: Path, judges: JudgesConfig | None = None, **settings: object) -> TrainedVerifier:
    out.mkdir()
    corpus.mkdir(exist_ok=True)
    cfg = TrainVerifierConfig(**settings)  # type: ignore[arg-type]
    return train_verifier(cfg, corpus=passage_corpus(corpus), judges=judges or JudgesConfig(), ctx=StepContext.local(out, 3))


def test_it_writes_numbers_a_table_and_a_picture(verifier: TrainedVerifier) -> None:
    assert {p.name for p in verifier.dir.iterdir()} == {
        "verifier.json", "report.json", "report.html", "claims.jsonl", "rejects.jsonl",
    }  # fmt: skip
    report = json.loads((verifier.dir / "report.json").read_text())
    assert report["kind"] == "features" and report["documents"]["heldout"] >= 2
    assert (
        sum(row["claims"] for row in report["heldout"]["by_type"].values())
        == report["heldout"]["count"] - (report["heldout"]["positives"])
    )
    assert sum(b["count"] for b in report["heldout"]["reliability"]) == report["heldout"]["count"]
    assert report["heldout"]["auc"] > 0.8
    model = json.loads((verifier.dir / "verifier.json").read_text())
    assert len(model["faithful"]["weights"]) == len(model["faithful"]["names"])
    page = (verifier.dir / "report.html").read_text()
    assert "<svg" in page and "written by hand" in page and 'src="http' not in page
    reported = "\n".join(table_lines(report))
    assert all(kind in reported for kind in report["heldout"]["by_type"])
    rows = [json.loads(line) for line in (verifier.dir / "claims.jsonl").read_text().splitlines()]
    assert len(rows) == report["heldout"]["count"] and all(0 <= r["probability"] <= 1 for r in rows)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    small = {"kind": "features", "max_claims": 40, "handwritten_share": 0.0}
    first, second = (train(tmp_path / name, tmp_path / "corpus", **small) for name in ("a", "b"))
    assert first.digest == second.digest
    for path in first.dir.iterdir():
        assert path.read_bytes() == (second.dir / path.name).read_bytes(), path.name


def test_none_trains_nothing_and_claims_are_checked_by_rule(tmp_path: Path) -> None:
    made = train(tmp_path / "none", tmp_path / "corpus", kind="none")
    assert made.kind == "none" and not (made.dir / "report.json").exists()
    judges = open_judges(JudgesConfig(), trained=made)
    right, wrong = judges.verifier.check(
        ["It is a dry day in Rome."] * 2, ["It is a dry day in Rome.", "Copper is red. It is soft."]
    )
    assert (right.label, wrong.label) == ("faithful", "absent")
    judges.close()


def test_a_language_model_is_trained_measured_and_asked_in_process_and_behind_a_server(
    qwen: Path, nursery: Nursery, tmp_path: Path
) -> None:
    judges = JudgesConfig(verifier=VerifierJudgeConfig(TransformersConfig(dtype="float32")))
    claims = {"max_claims": 24, "handwritten_share": 0.0}
    small = {"epochs": 10, "batch_size": 8, "micro_batch_size": 8, "dtype": "float32", "learning_rate": 1e-2}
    made = train(tmp_path / "llm", tmp_path / "corpus", judges, kind="llm", base=str(qwen), **claims, **small)
    report = json.loads((made.dir / "report.json").read_text())
    assert report["kind"] == "llm" and report["heldout"]["count"] > 0
    assert (made.dir / "model" / "model.safetensors").read_bytes() != (qwen / "model.safetensors").read_bytes()
    by_hand = handwritten_claims("test", corrupted=False)[:4]
    asked = [c.text for c in by_hand], [c.passage for c in by_hand]
    here = open_judges(judges, trained=made)
    said = here.verifier.check(*asked)
    assert [here.verifier.check([c], [p])[0] for c, p in zip(*asked, strict=True)] == said
    here.close()
    with Server(nursery, made.dir / "model") as server:
        behind = JudgesConfig(verifier=VerifierJudgeConfig(OpenAIConfig(url=server.url, model=NAME, top_logprobs=100)))
        name = str(made.dir / "model")
        served = train(tmp_path / "served", tmp_path / "corpus", behind, kind="llm", base=name, epochs=0, **claims)
        assert not (served.dir / "model").exists()
        there = open_judges(behind, trained=served)
        calibration = json.loads((served.dir / "calibration.json").read_text())
        again = json.loads((made.dir / "calibration.json").read_text())
        assert calibration["model"] == name and again["model"] is None
        assert [calibration["slope"], calibration["shift"]] == pytest.approx([again["slope"], again["shift"]], abs=1e-2)
        for remote, direct in zip(there.verifier.check(*asked), said, strict=True):
            assert remote.probability == pytest.approx(direct.probability, abs=1e-2)
        there.close()


def test_bad_settings_are_refused_by_name() -> None:
    for key, value in (
        ("max_claims", 0),
        ("handwritten_share", 1.0),
        ("micro_batch_size", 5),
        ("epochs", -1),
        ("learning_rate", 0.0),
        ("base", ""),
    ):
        with pytest.raises(ValueError, match=f"^{key}"):
            build(TrainVerifierConfig, {key: value})
    for old, new in TrainVerifierConfig.RENAMED.items():
        with pytest.raises(ValueError, match=f"^{old}: .*{new}"):  # of a key that is gone, its own name
            build(TrainVerifierConfig, {old: 1})


def test_a_running_server_cannot_have_fine_tuned_weights() -> None:
    behind = JudgesConfig(verifier=VerifierJudgeConfig(OpenAIConfig(url="http://127.0.0.1:1/v1")))
    with pytest.raises(ValueError, match=r"^train_verifier\.epochs"):
        RunConfig("x", judges=behind)
    RunConfig("x", judges=behind, train_verifier=TrainVerifierConfig(epochs=0))


def test_a_corpus_of_two_documents_is_refused(tmp_path: Path) -> None:
    from synpro.corpus.store import PASSAGES, write_rows

    corpus = passage_corpus(tmp_path)
    text = "The mill stands by the river. It was built in 1850 by a man from York."
    rows = [{"id": f"{d}#0", "document": d, "index": 0, "start": 0, "end": len(text), "text": text} for d in "ab"]
    write_rows(tmp_path / "passages.parquet", PASSAGES, rows)
    with pytest.raises(ValueError, match="2 documents"):
        train_verifier(
            TrainVerifierConfig(kind="features", max_claims=20),
            corpus=corpus,
            judges=JudgesConfig(),
            ctx=StepContext.local(tmp_path),
        )


def test_a_run_without_rounds_trains_none(tmp_path: Path) -> None:
    from synpro.commands.train_verifier import train_verifier as command

    with pytest.raises(ConfigError, match="0 rounds"):
        command(RunConfig("x", rounds=0), tmp_path)


def test_a_large_corpus_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synpro.corpus import store

    whole, made = passage_corpus(tmp_path), list[str]()
    monkeypatch.setattr(store, "Passage", lambda **row: made.append(row["id"]) or Passage(**row))
    found = _sample(tmp_path, 20)
    assert len(found) == len(made) == 5 < whole.passages
