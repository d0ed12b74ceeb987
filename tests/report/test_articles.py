"""Intervals of a run's report are drawn over articles, where held-out documents are parts of them."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synpro.report.collapse import collapse
from synpro.report.headline import changes, headline, paired_change
from synpro.report.run_data import load_run
from tests.report.builder import build


def with_articles(run: Path, size: int) -> None:
    """Make the evaluated documents parts of articles of `size` documents."""
    ids = sorted(load_run(run).evaluated[0].documents)
    path = run / "round-00/prepare/documents.parquet"
    table = pq.read_table(path)
    rows = [row | {"group": row["id"]} for row in table.to_pylist() if row["id"] not in ids]
    word = next(r["text"].split()[0] for r in rows if r["split"] == "train")
    parts = [
        {**rows[0], "id": i, "split": "heldout", "text": " ".join([word] * 60), "group": f"article-{n // size}"}
        for n, i in enumerate(ids)
    ]
    pq.write_table(pa.Table.from_pylist([*rows, *parts]), path)


def test_headline_and_collapse_watch_resample_articles(tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    count = len(load_run(run).evaluated[0].documents)
    plain = changes(load_run(run))[-1].loss
    with_articles(run, 4)
    data = load_run(run)
    found = changes(data)[-1].loss
    assert (plain.documents, plain.units) == (count, "documents")
    assert (found.documents, found.units) == (-(-count // 4), "articles") and abs(found.mean - plain.mean) < 1e-9
    assert f"{found.documents} held-out articles" in headline(data).sentence
    two = replace(data.evaluated[0], documents={"x": (2.0, 1, 1.0), "y": (3.0, 1, 1.0)})
    other = paired_change(data, ["x", "y"], two, two, [1.0, 1.0])
    assert other is not None and other.units == "documents", "general text has no articles of the corpus"
    assert collapse(data).tails[0].changes[data.evaluated[-1].round] == found, "one function"
    with_articles(run, count)
    data = load_run(run)
    assert changes(data) == () and collapse(data).tails[0].changes == {}, "one article gives no interval"
