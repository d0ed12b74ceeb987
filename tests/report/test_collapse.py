"""The collapse watch of a run directory: a row per shard, and the tails of the held-out text."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from synpro.report.collapse import collapse
from synpro.report.page import render
from synpro.report.run_data import load_run
from tests.report.builder import build


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose held-out documents are in the corpus too: the first ten hold rare words."""
    made = build(tmp_path / "run")
    path = made / "round-00/prepare/documents.parquet"
    table = pq.read_table(path)
    train = table.filter(pc.field("split") == "train")
    word = train["text"][1].as_py().split()[0].lower()
    rows = [
        {
            "id": f"held{i:03d}",
            "split": "heldout",
            "text": " ".join(["zymurgy" if i < 10 else word] * 60),
            "source": "x",
            "words": 60,
        }
        for i in range(40)
    ]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]), path)
    return made


def test_every_shard_has_a_row_and_versions_of_one_source_are_compared_over_rounds(run: Path) -> None:
    found = collapse(load_run(run))
    assert [w.name for w in found.watched] == [
        "rephrase, round 1",
        "reformat, round 1",
        "rephrase, round 2",
        "reformat, round 2",
    ]
    assert all(w.variety.texts == 32 and w.variety.novelty is not None for w in found.watched)
    similar = [w.variety.self_similarity for w in found.watched]
    assert similar[0] is None and all(s is not None and 0 < s < 1 for s in similar[1:])
    assert found.budget > 1000 and found.watched[0].variety.pairwise_distance is None, "the builder's shards have no embeddings"


def test_a_large_shard_is_sampled_whole_and_the_same_passages_in_every_round(run: Path, monkeypatch) -> None:
    from synpro.report import collapse as module

    monkeypatch.setattr(module, "MAX_TEXTS", 8)
    data = load_run(run)
    kept = [[passage for passage, _ in module._kept(data, shard)] for shard in data.syntheses]
    order = [row["passage"] for row in pq.read_table(run / data.syntheses[0].step / "rewrites.parquet").to_pylist()]
    assert all(len(some) == 8 for some in kept) and max(order.index(p) for p in kept[0]) > len(order) / 2
    assert len(set(kept[0]) & set(kept[2])) >= 4
    table = run / "round-00/prepare/documents.parquet"
    assert [r["id"] for r in module.read_table(table, ["id"], sample=3)] != [
        r["id"] for r in module.read_table(table, ["id"], head=3)
    ]


def test_embeddings_are_read_where_a_step_wrote_some(run: Path) -> None:
    rows = [{"id": str(i), "text": [1.0, 0.01 * i], "source": [float(i % 2), float((i + 1) % 2)]} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), run / "round-02/synthesize-reformat/embeddings.parquet")
    last = collapse(load_run(run)).watched[-1].variety
    assert last.pairwise_distance == pytest.approx(0.0, abs=1e-3) and last.source_pairwise_distance == pytest.approx(2 / 3)


def test_the_tails_are_a_fifth_of_the_documents_and_are_paired_with_round_0(run: Path) -> None:
    every, rare, long = collapse(load_run(run)).tails
    assert (every.documents, rare.documents, long.documents) == (40, 8, 8)
    assert list(every.losses) == [0, 1, 2] and list(every.changes) == [1, 2]
    assert every.changes[2].mean == pytest.approx(every.losses[2] - every.losses[0]) and not every.worse


def test_a_tail_that_gets_worse_is_marked_although_the_mean_falls(run: Path) -> None:
    for number in (1, 2):
        path = run / f"round-{number:02d}/evaluate/heldout.parquet"
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            row["nll"] += 0.2 * row["tokens"] if int(row["document"][4:]) < 10 else -0.1 * row["tokens"]
        pq.write_table(pa.Table.from_pylist(rows), path)
    every, rare, _ = collapse(load_run(run)).tails
    assert rare.worse and not every.worse
    page = render(run)
    section = page[page.index('id="collapse"') : page.index('id="contamination"')]
    assert section.count("clearly worse than round 0") == 1 and "rephrase, round 2" in section and "rarest words" in section


def test_a_run_that_has_only_begun_says_so(run: Path) -> None:
    for folder in (*run.glob("round-0[12]"), run / "round-00/evaluate"):
        shutil.rmtree(folder)
    found = collapse(load_run(run))
    assert found.watched == () and found.tails == ()
    page = render(run)
    assert "No synthetic text to measure yet" in page and "No held-out losses to slice yet" in page
