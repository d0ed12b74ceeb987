"""One evaluation item planted in one organic document: found, shown, and kept out of the synthetic text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from synpro.corpus import store
from synpro.corpus.contamination import BenchmarkItem
from synpro.corpus.passages import PassageConfig
from synpro.corpus.readers import SourceConfig
from synpro.corpus.tokens import TokenizerConfig
from synpro.engines.scripted import ScriptedEngine
from synpro.engines.transformers import TransformersConfig
from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.records import Chat, Corpus, Generator, Probe, Shard, TrainedVerifier
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.stages.evaluate import _find_contamination, _trained_texts
from synpro.stages.prepare import PrepareConfig, prepare
from synpro.stages.synthesize import SynthesizeConfig, synthesize
from tests.report.builder import build
from tests.stages.small_corpus import text

TASK = "arc_easy_rc_0shot_bpb"


@pytest.fixture(scope="module")
def item() -> BenchmarkItem:
    from synpro.lm.tasks import benchmark_items

    return next(i for i in (BenchmarkItem(*row) for row in benchmark_items([TASK])) if 18 <= len(i.text.split()) <= 30)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, item: BenchmarkItem) -> Path:
    """60 documents; the 31st tells the item, between sentences of its own."""
    texts = [text(i) for i in range(60)]
    texts[30] = f"{text(1000)} A teacher asked: {item.text.lower()} {text(1001)}"
    file = tmp_path_factory.mktemp("data") / "texts.jsonl"
    file.write_text("".join(json.dumps({"id": f"doc-{i}", "text": t}) + "\n" for i, t in enumerate(texts)))
    return file


def prepared(data: Path, out: Path, **settings) -> Corpus:
    cfg = PrepareConfig(
        sources=(SourceConfig(str(data), id_column="id"),),
        reference_share=0.1,
        heldout_share=0.1,
        passages=PassageConfig(max_words=400),
        tokenizer=TokenizerConfig("train", 512),
        **settings,
    )
    return prepare(cfg, ctx=StepContext.local(out, 0))


@pytest.fixture(scope="module")
def corpus(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared(data, tmp_path_factory.mktemp("prepare"))


def contamination(corpus: Corpus, shards: list[Shard], out: Path, reference: str | None = None) -> list[dict[str, Any]]:
    """The contamination table of the stage `evaluate`."""
    ctx = StepContext.local(out)
    return _find_contamination([TASK], _trained_texts(corpus, shards, reference, ctx.logger), ctx)


def test_the_organic_document_is_found_and_reported(corpus: Corpus, item: BenchmarkItem, tmp_path: Path) -> None:
    assert "doc-30" in {d.id for d in store.read_documents(corpus.dir, "train")}, "planted in the train split"
    table = contamination(corpus, [], tmp_path)
    assert [(r["group"], r["hit"]) for r in table] == [(TASK, {"organic": 1, "reference": 0})]
    rows = list(store.read_rows(tmp_path / "overlap.parquet"))
    assert [(r["task"], r["item"], r["kind"], r["document"]) for r in rows] == [(TASK, item.id, "organic", "doc-30")]


def test_the_data_of_the_probe_is_searched_too(corpus: Corpus, item: BenchmarkItem, tmp_path: Path) -> None:
    asked = tmp_path / "probe.jsonl"
    prompts = [f"Question: {item.text.upper()}", "Question: what is a mill?"]
    asked.write_text("".join(json.dumps({"prompt": prompt, "answer": "It grinds corn."}) + "\n" for prompt in prompts))
    assert contamination(corpus, [], tmp_path, str(asked))[0]["hit"] == {"organic": 1, "reference": 1}


def test_on_request_neither_the_organic_document_nor_general_text_with_it_is_taken_in(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    general = tmp_path / "general.jsonl"  # no text is in both halves, whatever its id
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    twice = ({"id": f"{row['id']}-{copy}", "text": row["text"]} for row in rows for copy in "ab")
    general.write_text("".join(json.dumps(row) + "\n" for row in twice))
    read = (SourceConfig(str(general), id_column="id"), SourceConfig(str(tmp_path / "nowhere")))
    words = round(1.9 * sum(len(row["text"].split()) for row in rows if row["id"] != "doc-30"))
    clean = prepared(data, tmp_path / "out", exclude_tasks=(TASK,), general=read, general_words=words)
    tmp_path /= "out"
    halves = list(store.read_rows(tmp_path / "general.parquet"))
    assert len(halves) > 100 and not [row for row in halves if row["id"].startswith("doc-30-")]
    assert len({(row["text"], row["split"]) for row in halves}) == len({row["text"] for row in halves})
    assert "prepare.general.1: not read" in capsys.readouterr().out
    assert "doc-30" not in {d.id for split in store.SPLITS for d in store.read_documents(clean.dir, split)}
    found = [r for r in StepLogger(tmp_path).rejects.rows() if r.reason == "contamination"]
    assert [r.id for r in found] == ["doc-30", "doc-30-a", "doc-30-b"] and TASK in found[0].detail


def test_synthetic_text_that_holds_it_is_dropped_with_a_reason(
    corpus: Corpus, item: BenchmarkItem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {p.text: p for p in store.read_passages(corpus.dir)}

    def answer(chat: Chat, index: int) -> str:
        """The passage with its sentences turned round: what carries the item over word for word."""
        passage = next(t for t in sources if t in chat[-1]["content"])
        reported = f"A teacher asked: {item.text.lower()}" if item.text.lower() in passage else ""
        others = re.split(r"(?<=\.)\s+", passage.replace(reported, "") if reported else passage)
        return f"Rephrased:\n{' '.join(reversed(others))} {reported}"

    monkeypatch.setattr(TransformersConfig, "open", lambda self, model, **how: ScriptedEngine(answer))
    scoring = Scoring(
        RubricConfig(),
        JudgesConfig(),
        Probe(tmp_path, tmp_path, "probe"),
        TrainedVerifier(tmp_path, "none", "none"),
        FilterConfig(max_repetition=1.0, same_language=False),
    )

    def shard(out: Path, **settings):
        return synthesize(
            SynthesizeConfig(**settings),
            operation=OperationConfig("rephrase", weights={"format": 1.0}, max_copied=1.0),
            scoring=scoring,
            generator=Generator("rephrase", "hf:some/model", None, None, 1, "generator"),
            corpus=corpus,
            round=1,
            ctx=StepContext.local(out, 1),
            tasks=(TASK,),
        )

    clean = shard(tmp_path / "clean")
    dropped = [r for r in StepLogger(clean.dir).rejects.rows() if r.reason == "contamination"]
    assert clean.dropped == len(dropped) == 1 and dropped[0].id.startswith("doc-30#") and f"item {item.id}" in dropped[0].detail
    assert item.text.lower() not in " ".join(r["text"] for r in store.read_rows(clean.dir / "documents.parquet"))
    assert contamination(corpus, [clean], tmp_path)[0]["hit"] == {"synthetic": 0}
    kept = shard(tmp_path / "kept", keep_contaminated=True)
    assert kept.dropped == 0
    assert contamination(corpus, [kept], tmp_path)[0]["hit"] == {"synthetic": 1}


def test_the_report_shows_it_and_flags_the_task(tmp_path: Path) -> None:
    from synpro.corpus.store import CONTAMINATION, write_rows
    from synpro.report.page import render
    from synpro.report.run_data import load_run
    from synpro.report.warnings import find_warnings

    run = build(tmp_path / "run")
    for number, hit in ((0, {"organic": 1, "reference": 0}), (1, {"synthetic": 0})):
        folder = run / f"round-{number:02d}/evaluate"
        body = json.loads((folder / "evaluation.json").read_text())
        body["overlap"] = [
            {"group": "piqa", "items": 100, "tested": 90, "hit": hit},
            {"group": "sciq", "items": 80, "tested": 80, "hit": dict.fromkeys(hit, 0)},
        ]
        (folder / "evaluation.json").write_text(json.dumps(body))
        row = {
            "task": "piqa",
            "item": "17",
            "kind": "organic",
            "document": "wiki03",
            "words": "how do i ready a cage",
            "share": 1.0,
        }
        write_rows(folder / "overlap.parquet", CONTAMINATION, [row] if number == 0 else [])
    page = render(run)
    section = page[page.index('id="contamination"') :]
    assert (
        "piqa <span" in section and section.count("⚑ contaminated") == 1 and "wiki03" in section and "how do i ready" in section
    )
    assert page.count('href="#contamination">⚑') == 1, "the score of the task is marked, and no other"
    warned = [c for c in find_warnings(load_run(run)) if "piqa" in c.what]
    assert len(warned) == 1 and "1 in organic text" in warned[0].what
