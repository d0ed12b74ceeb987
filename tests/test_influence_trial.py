"""benchmarks/influence_trial.py on a small corpus and really trained models: whole, carried on, and the same."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from synpro.config import RunConfig
from synpro.records import Probe, Shard
from tests.lm.conftest import LENGTH, sentences
from tests.stages.small_corpus import small_corpus
from tests.stages.small_model import CFG
from tests.stages.small_model import run as pretrained


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks/influence_trial.py"
    spec = importlib.util.spec_from_file_location("influence_trial", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def shard(folder: Path) -> Shard:
    """40 kept rewrites, half of them in the corpus' own language and half of one repeated word."""
    import pyarrow as pa

    from synpro.corpus.store import write_rows

    folder.mkdir(parents=True)
    texts = [*sentences(21, 20, 20, 40), *(" ".join(["again"] * 30) for _ in range(20))]
    rows = [{"id": f"r{i}", "document": f"train-{i}", "text": t, "passage": f"p{i}", "kept": True} for i, t in enumerate(texts)]
    rows.append({**rows[0], "id": "dropped", "kept": False})
    schema = pa.schema([*((n, pa.string()) for n in ("id", "document", "text", "passage")), ("kept", pa.bool_())])
    write_rows(folder / "rewrites.parquet", schema, rows)
    counts = {"passages": 41, "answers": 41, "kept": 40, "dropped": 1, "covered": 40, "documents": 40}
    return Shard(folder, "rephrase", 1, **counts, tokens=1000, text_tokens=1000, tokenizer="", digest="shard")


def test_a_trial_ranks_groups_by_influence_and_carries_on(script: ModuleType, tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "corpus")
    cfg = dataclasses.replace(CFG, max_tokens=8 * 8 * LENGTH)
    before = pretrained(cfg, corpus, tmp_path / "before")
    after = pretrained(dataclasses.replace(cfg, max_tokens=4 * 8 * LENGTH), corpus, tmp_path / "after", start=before)
    run = script.Run(
        dir=tmp_path,
        cfg=RunConfig("trial", pretrain=cfg),
        corpus=corpus,
        checkpoints={1: before},
        probes={1: Probe(before.dir / "hf", after.dir / "hf", "probe")},
        shards={1: [shard(tmp_path / "shard")]},
    )
    arguments = argparse.Namespace(round=1, groups=4, steps=3, seeds=1, texts=None, by="influence", within=False)
    found = script.trial(run, script.Memory(tmp_path / "work", "key"), arguments)
    rows = found["groups"]
    assert sum(r["texts"] for r in rows) == 40 and [r["influence"] for r in rows] == sorted(r["influence"] for r in rows)
    assert rows[0]["influence"] < rows[-1]["influence"], "one repeated word carries less than the corpus' own language"
    assert found["spearman"]["heldout"]["groups"] == 4 and found["organic_alone"][0]["heldout"] < 6
    assert rows[-1]["heldout_gain"] > rows[0]["heldout_gain"], "and training on it helps less"
    long, short = {"text": "one two three", "passage": "p0"}, {"text": "one", "passage": "p0"}
    assert script.predicted(run, 1, [long, short], "length") == [3.0, 1.0], "a rival of influence"
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").iterdir()}
    (tmp_path / "work/group-02-seed-0.json").unlink()
    again = script.trial(run, script.Memory(tmp_path / "work", "key"), arguments)
    assert again == found
    assert sum(p.stat().st_mtime_ns != t for p, t in done.items()) == 1, "what stood was not done again"
    fresh = script.Memory(tmp_path / "work", "other settings")
    assert fresh.once("organic-seed-0", lambda: "new") == "new", "a result of other settings is not used"
    wild = dataclasses.replace(cfg, optimizer=dataclasses.replace(cfg.optimizer, learning_rate=0.3))
    worse = script.trained(dataclasses.replace(run, cfg=RunConfig("trial", pretrain=wild)), 1, [], 3, 0)
    began = json.loads((before.dir / "training.json").read_text())
    assert worse["reference"] > began["reference_loss"] + 0.01, "what training did is measured, not the best state on its way"


def test_versions_of_one_passage_are_told_apart_without_the_passage(script: ModuleType) -> None:
    texts = [{"passage": p} for p in ("a", "a", "b", "b", "b", "alone")]
    values, places = script.within_passages([1.0, 3.0, 10.0, 20.0, 30.0, 99.0], texts)
    assert values == [-1.0, 1.0, -10.0, 0.0, 10.0] and places == [0, 1, 2, 3, 4]
