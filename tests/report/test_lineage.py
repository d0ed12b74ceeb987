import json
import shutil
from pathlib import Path

import pytest

from synpro.report.lineage import CorruptRun, UnknownText, format_lineage, why
from synpro.runner.artifacts import NotARun
from tests.conftest import ROOT
from tests.report.builder import HOSTILE, build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("runs") / "demo")


def test_a_synthetic_document_names_everything_that_made_it(run: Path) -> None:
    found = why(run, "wiki00:reformat:02:0")
    assert found.kind == "synthetic document"
    assert found.source is not None and found.source.source == "wiki.jsonl:1"
    assert [p.id for p in found.passages] == ["wiki00#0000", "wiki00#0001", "wiki00#0002"]
    first = found.rewrites[0]
    assert first.span.text == found.source.text[first.span.start : first.span.end]
    assert (first.operation, first.round, first.generator, first.generator_round) == ("reformat", 2, "g-reformat-2", 2)
    assert (first.base, first.adapter) == ("wheel:smol", "round-02/train-reformat/adapter")
    assert first.prompt_hash == "ab" * 32 and first.seed == 100 and first.sampling == {"temperature": 1.0, "top_p": 0.9}
    assert set(first.scores) == {"influence", "quality", "faithfulness", "format"} and first.kept
    said = "\n".join(format_lineage(found))
    for word in ("wiki.jsonl:1", "ab" * 32, "g-reformat-2", "wheel:smol", "round-02", "seed 100", "faithfulness 0.7", "kept"):
        assert word in said
    faithful, invented = first.claims
    assert (faithful.label, faithful.probability, faithful.start, faithful.end) == ("faithful", 0.91, 0, 20)
    assert invented.label == "unsupported" and invented.support == faithful.support
    assert "unsupported, probability of being faithful 0.12" in said and "by the passage's sentence" in said


def test_a_round_that_kept_its_start_did_not_make_the_texts_before_it(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "demo"))
    later = copy / "round-02/train-rephrase/result.json"
    later.write_text(later.read_text().replace("g-rephrase-2", "g-rephrase-1"))
    first = why(copy, "wiki00#0000:rephrase:01:0").rewrites[0]
    assert (first.generator_round, first.adapter) == (1, "round-01/train-rephrase/adapter")


def test_an_engine_that_reads_no_weights_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(run, tmp_path / "demo"))
    said = {}
    for engine in ("transformers", "scripted", "reversed"):
        request = {"stage": "made by tests", "config": {"engine": {"type": engine}}, "inputs": {}, "seed": 1}
        (copy / "round-01/synthesize-rephrase/request.json").write_text(json.dumps(request))
        said[engine] = "\n".join(format_lineage(why(copy, "wiki00#0000:rephrase:01:0")))
    assert "adapter round-01/train-rephrase/adapter; read by transformers" in said["transformers"]
    assert "; NOT read here: answered by scripted" in said["scripted"]
    assert "; answered by reversed, an engine of the run's own, which need not read them" in said["reversed"]
    shutil.copy(ROOT / "examples" / "my_engine.py", tmp_path)
    with (copy / "config.toml").open("a") as handle:
        handle.write('[rubric]\nfiles = ["my_engine.py"]\n')
    assert "; NOT read here: answered by reversed" in "\n".join(format_lineage(why(copy, "wiki00#0000:rephrase:01:0")))


def test_every_synthetic_document_and_rewrite_can_be_traced(run: Path) -> None:
    import pyarrow.parquet as pq

    for file in run.glob("round-*/synthesize-*/documents.parquet"):
        for row in pq.read_table(file).to_pylist():
            found = why(run, row["id"])
            assert found.text == row["text"] == "\n\n".join(str(r.text) for r in found.rewrites)
    dropped = why(run, "wiki01#0000:rephrase:01:0")
    assert (dropped.kind, dropped.synthetic) == ("rewrite", ())
    assert "dropped: unparsed (unparsed: seen in passage 3)" in "\n".join(format_lineage(dropped))
    assert why(run, "wiki01#0001:rephrase:01:0").synthetic == ("wiki01:rephrase:01:0",)


def test_organic_ids_show_what_was_made_from_them(run: Path) -> None:
    passage = why(run, "wiki02#0001")
    assert passage.kind == "passage" and len(passage.rewrites) == 4
    assert [r.kept for r in passage.rewrites] == [False] * 4
    document = why(run, "wiki00")
    assert document.kind == "organic document" and len(document.rewrites) == 12
    assert document.synthetic == tuple(
        f"wiki00:{operation}:{r:02d}:0" for r in (1, 2) for operation in ("rephrase", "reformat")
    )
    heldout = why(run, "wiki15")
    assert heldout.rewrites == () and "generators only see the train split" in "\n".join(format_lineage(heldout))


def test_a_rejected_row_says_why(run: Path) -> None:
    found = why(run, "wiki20")
    assert found.kind == "rejected row" and found.rejects[0].reason == "duplicate"
    said = "\n".join(format_lineage(found))
    assert "same text as wiki03" in said and "wiki.jsonl:20" in said and HOSTILE in said


def test_an_unknown_id_names_the_nearest(run: Path) -> None:
    with pytest.raises(UnknownText, match="wiki00:rephrase:02"):
        why(run, "wiki00:rephrse:02")
    with pytest.raises(UnknownText, match="`id` column"):
        why(run, "§§§§")


def test_nearest_ids_are_found_among_many(tmp_path: Path) -> None:
    run = build(tmp_path / "large", rounds=0)
    with (run / "round-00/prepare/rejects.jsonl").open("a") as handle:
        for i in range(6000):
            handle.write(json.dumps({"id": f"page{i:06d}", "reason": "empty", "detail": "no text"}) + "\n")
    with pytest.raises(UnknownText, match="page005432"):
        why(run, "page0054322")


def test_texts_cannot_steer_the_terminal(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "demo"))
    row = {"id": "evil", "reason": "empty", "detail": "none", "source": "a:1", "text": "clear \x1b[2J and \x07 ring"}
    (copy / "round-00/prepare/rejects.jsonl").write_text(json.dumps(row) + "\n")
    said = "\n".join(format_lineage(why(copy, "evil")))
    assert "\x1b" not in said and "\x07" not in said and "�[2J" in said


def test_steps_that_are_not_done_are_named_and_damage_is_an_error(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "demo"))
    (copy / "round-02/synthesize-reformat/result.json").unlink()
    with pytest.raises(UnknownText, match="round-02/synthesize-reformat is not done"):
        why(copy, "wiki00:reformat:02:0")
    (copy / "round-01/synthesize-rephrase/rewrites.parquet").write_bytes(b"")
    with pytest.raises(CorruptRun, match=r"rewrites\.parquet is not a readable Parquet file"):
        why(copy, "wiki00#0000")
    (copy / "round-00/prepare/rejects.jsonl").write_text('{"id": "wiki20"}\n')
    with pytest.raises(CorruptRun, match="other fields than a reject"):
        why(copy, "wiki20")
    (copy / "round-00/prepare/result.json").unlink()
    with pytest.raises(NotARun, match="not done yet"):
        why(copy, "wiki00")
