"""A tiny Chinese corpus through the whole loop, and a German one up to its texts: real models, scripted answers."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synpro.commands.run import run
from synpro.config import load_config
from synpro.language.identification import known_language, languages_of
from tests import tiny_qwen
from tests.conftest import ROOT
from tests.in_process import Here
from tests.languages.texts import ENGLISH_INVENTION, PARAGRAPHS

pytestmark = pytest.mark.loop


@pytest.mark.parametrize(("code", "sets"), [("de", ["generate_only=true"]), ("zh", [])])
def test_the_loop_keeps_texts_in_the_language_of_the_corpus(
    code: str, sets: list[str], tmp_path: Path, record_property, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    rows = [{"id": f"{code}-{i}", "text": text} for i, text in enumerate(PARAGRAPHS[code])]
    (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    answers = [f"Rephrased:\n{text}" for text in (*PARAGRAPHS[code][::2], *[ENGLISH_INVENTION] * 5)]
    base = tiny_qwen.make(tmp_path / "base", steps=0)  # nothing is trained, and the texts are scripted
    shape = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**shape, "max_position_embeddings": 16_384}))
    config = (
        (ROOT / "tests/languages/loop.toml")
        .read_text(encoding="utf-8")
        .replace('"replaced by the test"', json.dumps(answers)[1:-1])
        .replace('"replaced by a tiny model"', json.dumps(str(base)))
        .replace('"corpus.jsonl"', json.dumps(str(tmp_path / "corpus.jsonl")))
    )
    (tmp_path / "loop.toml").write_text(config, encoding="utf-8")
    monkeypatch.setattr("synpro.commands.execution.Steps", Here)
    assert run(load_config(tmp_path / "loop.toml", sets), tmp_path).report
    (shard,) = (tmp_path / "language").glob("round-01/synthesize-*")
    rewrites = pq.read_table(shard / "rewrites.parquet").to_pylist()
    kept = [r for r in rewrites if r["kept"]]
    assert kept and languages_of([r["text"] for r in kept]) == {code: 1.0}
    foreign = [r for r in rewrites if known_language(r["text"] or "") == "en"]
    assert foreign and not any(r["kept"] for r in foreign)
    record_property("measured", f"{code} loop: {len(kept)} of {len(rewrites)} kept, {len(foreign)} English answers, none kept")
    assert "no verifier is trained" in "".join(capfd.readouterr())
