"""What generators learned beside their rewards, and the share of texts with influence, from a run directory."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpro.report.learned import learned, positive_shares, reward_spreads
from synpro.report.page import render
from synpro.report.run_data import load_run
from synpro.runner import artifacts
from synpro.runner.artifacts import read_table
from tests.report.builder import build


def test_shorter_copies_after_training_show(tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    source = "The old bridge over the river was built by engineers from the north in stone and wood."
    answers = {
        "before": "Engineers from another land made a crossing of timber over that water long ago.",
        "after": "The old bridge over",
    }
    sides = {s: {"samples": [{"passage": "a#0000", "source": source, "text": t, "scores": {}}]} for s, t in answers.items()}
    path = run / "round-01/train-rephrase/validation.json"
    path.write_text(json.dumps({**sides, "steps": 4, "kept": 4}))
    data = load_run(run)
    found = learned(data)[0]
    assert found.name == "rephrase, round 1"
    assert found.before.length_ratio > 0.7 > 0.3 > found.after.length_ratio and found.before.novelty == 1 > found.after.novelty
    shares = positive_shares(data)
    assert [s.name for s in shares] == [s.name for s in data.syntheses]
    assert all(0 <= s.share.low <= s.share.value <= s.share.high <= 1 and s.share.n > 20 for s in shares)
    page = render(run)
    assert "What else training changed" in page and "Texts that have what the model of their round lacks" in page


def test_a_reward_that_differs_between_passages_alone_is_no_signal_for_rl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build(tmp_path / "run")
    data = load_run(run)
    assert reward_spreads(data) == [], "one text of each passage"
    path = run / data.syntheses[0].step / "rewrites.parquet"
    rows = pq.read_table(path)
    scores = [json.dumps({"influence": i % 2 / 10, "quality": float(i // 2), "format": "failed"}) for i in range(len(rows))]
    changed = rows.set_column(rows.schema.get_field_index("scores"), "scores", pa.array(scores))
    places = pa.array([f"p{i // 2}" for i in range(len(rows))])
    pq.write_table(changed.set_column(rows.schema.get_field_index("passage"), "passage", places), path)
    data = load_run(run)
    monkeypatch.setattr(artifacts, "read_table", lambda *a, head=None, **k: read_table(*a, head=head or 1 / 0, **k))
    found = {s.reward: s for s in reward_spreads(data)}  # a batch at a time, whatever the size of a shard
    assert set(found) == {"influence", "quality"}
    assert found["influence"].share == 1 and found["quality"].share == 0
    assert abs(found["influence"].within - 0.1 / 2**0.5) < 1e-9
