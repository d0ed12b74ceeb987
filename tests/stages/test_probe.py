"""The probe on a real checkpoint: reference split, and prompt/answer rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from synpro.lm.influence import Influence
from synpro.lm.training_config import HardwareConfig
from synpro.records import Passage, Probe, decode, encode
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.stages.probe import ProbeConfig, fit_probe
from tests.lm.conftest import sentences
from tests.stages.small_corpus import small_corpus
from tests.stages.small_model import CFG
from tests.stages.small_model import run as pretrained

PROBE = ProbeConfig(
    steps=8,
    batch_size=8,
    hardware=HardwareConfig(micro_batch_size=8),
    learning_rate=1e-3,
    log_every=4,
    evaluate_tokens=4000,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    corpus = small_corpus(tmp_path_factory.mktemp("corpus"))
    return corpus, pretrained(CFG, corpus, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def plain(trained, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """The probe of `PROBE`, in a folder of its own."""
    corpus, model = trained
    return fit_probe(PROBE, corpus=corpus, model=model, ctx=StepContext.local(tmp_path_factory.mktemp("plain"), 3))


def test_the_reference_task_becomes_easier_and_so_do_texts_like_it(trained, plain: Probe, tmp_path: Path) -> None:
    corpus, model = trained
    probe = plain
    shutil.copytree(plain.after.parent, tmp_path, dirs_exist_ok=True)
    reported = json.loads((tmp_path / "probe.json").read_text())
    assert reported["reference_loss_after"] < reported["reference_loss_before"] == pytest.approx(model.reference_loss, abs=1e-6)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "loss" in r] == [4, 8]
    assert {r["lr"] for r in rows if "lr" in r} == {1e-3}
    assert not (tmp_path / "scratch").exists()
    scores = Influence(probe.before, probe.after).score(sentences(99, 20, 20, 40))
    assert sum(scores) / len(scores) > 0.01
    seen = reported["memorization"]
    assert seen["train"] > 0.01 and seen["heldout"] > 0.01 and seen["error"] > 0
    again = fit_probe(PROBE, corpus=corpus, model=model, ctx=StepContext.local(tmp_path, 3))
    assert again.digest == probe.digest, "a probe that is run again over its leftovers is the same"


def test_influence_can_be_measured_against_as_much_training_on_the_corpus(trained, plain: Probe, tmp_path: Path) -> None:
    corpus, model = trained
    cfg = replace(PROBE, contrast="train")
    probe = fit_probe(cfg, corpus=corpus, model=model, ctx=StepContext.local(tmp_path / "b", 3))
    assert probe.before == tmp_path / "b" / "contrast" / "hf" and probe.digest != plain.digest
    assert (probe.after / "model.safetensors").read_bytes() == (plain.after / "model.safetensors").read_bytes()
    folders = (plain.after.parent, tmp_path / "b")
    reported = [json.loads((folder / "probe.json").read_text())["memorization"] for folder in folders]
    assert abs(reported[1]["heldout"]) < 0.3 * reported[0]["heldout"], "what any more training does cancels out"


def test_replicas_differ_in_their_order_and_are_compared_by_rank(trained, plain: Probe, tmp_path: Path, monkeypatch) -> None:
    from synpro.corpus.store import PASSAGES, read_documents, write_rows

    corpus, model = trained
    rows = [Passage(f"{d.id}#0000", d.id, 0, 0, len(d.text), d.text) for d in read_documents(corpus.dir, "train")]
    write_rows(corpus.dir / "passages.parquet", PASSAGES, [vars(p) for p in rows])
    monkeypatch.setattr("synpro.stages.probe.RANKED_PASSAGES", 40)
    cfg = replace(PROBE, replicas=3)
    out = tmp_path / "3"
    probe = fit_probe(cfg, corpus=corpus, model=model, ctx=StepContext.local(out, 3))
    assert probe.afters == (out / "hf", out / "replica-2" / "hf", out / "replica-3" / "hf")
    weights = {(folder / "model.safetensors").read_bytes() for folder in probe.afters}
    assert len(weights) == 3 and (plain.after / "model.safetensors").read_bytes() in weights, "the first is the one alone"
    assert not (out / "scratch").exists() and probe.digest != plain.digest

    reported, ranks = (json.loads((out / name).read_text()) for name in ("probe.json", "replicas.json"))
    assert (reported["replicas"], reported["ranked_passages"], len(ranks["passages"])) == (3, 40, 40)
    assert set(ranks["pairs"]) == {"1 and 2", "1 and 3", "2 and 3"}
    lowest, mean = reported["rank_correlation_lowest"], sum(ranks["pairs"].values()) / 3
    assert -1 <= lowest <= reported["rank_correlation"] == pytest.approx(mean)
    assert reported["rank_correlation"] > 0.2, "the same task in another order teaches much the same"
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [r["replica"] for r in logged if "loss" in r] == [1, 1, 2, 2, 3, 3]

    texts = [p.text for p in rows[:5]]
    alone = [Influence(probe.before, after).score(texts) for after in probe.afters]
    mean = [sum(values) / 3 for values in zip(*alone, strict=True)]
    assert Influence(probe.before, *probe.afters).score(texts) == pytest.approx(mean, abs=1e-12)
    assert decode(encode(probe, tmp_path), tmp_path).afters == probe.afters
    assert decode({"record": "Probe", "before": "b", "after": "a", "digest": "d"}, tmp_path).afters == ("a",)  # older files


def test_prompt_answer_rows_are_learned_and_bad_ones_kept_in_the_ledger(trained, tmp_path: Path) -> None:
    corpus, model = trained
    data = tmp_path / "qa.jsonl"
    rows = [{"prompt": f"where do {w} stand?", "answer": "in shallow water"} for w in ("herons", "mills", "sheep")]
    data.write_text("".join(json.dumps(r) + "\n" for r in [*rows, {"prompt": "x"}]), encoding="utf-8")
    cfg = ProbeConfig(
        steps=8, batch_size=8, hardware=PROBE.hardware, learning_rate=PROBE.learning_rate, data=str(data), evaluate_tokens=2000
    )
    out = tmp_path / "probe"
    fit_probe(cfg, corpus=corpus, model=model, ctx=StepContext.local(out, 3))
    losses = [row["loss"] for row in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
    assert losses and losses[-1] > 0
    assert StepLogger(out).rejects.reasons() == {"no_answer": 1}


def test_data_without_a_usable_row_is_an_error(trained, tmp_path: Path) -> None:
    corpus, model = trained
    (tmp_path / "bad.jsonl").write_text('{"question": "x"}\n')
    cfg = ProbeConfig(steps=2, batch_size=8, hardware=PROBE.hardware, data=str(tmp_path / "bad.jsonl"))
    with pytest.raises(ValueError, match=r"probe\.data: .* nothing is left: 1 no_prompt"):
        fit_probe(cfg, corpus=corpus, model=model, ctx=StepContext.local(tmp_path / "o", 0))


def test_the_defaults_are_the_published_probe() -> None:
    cfg = ProbeConfig()
    assert (cfg.steps, cfg.batch_size, cfg.learning_rate, cfg.replicas) == (100, 64, 1e-4, 1)
