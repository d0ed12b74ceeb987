"""What is exported, on a run written without models: refused before a file is written, whole or not at all, and on the card."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from safetensors.numpy import save_file

from synpro.commands import export as commands
from synpro.commands.export import export
from synpro.commands.report import write_report
from synpro.export.selection import ROWS, Counts, ExportError, Selection, select_rows
from synpro.export.text_formats import split, write_parquet
from tests.report import builder

CONFIG = """name = "made"
rounds = 2

[[prepare.sources]]
path = "wiki.jsonl"
license = "cc-by-sa-4.0"

[[prepare.sources]]
path = "notes"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = builder.build(tmp_path_factory.mktemp("runs") / "made")
    (made / "config.toml").write_text(CONFIG, encoding="utf-8")
    for number in range(3):
        folder = made / f"round-{number:02d}/pretrain/hf"
        config = {"architectures": ["Olmo2ForCausalLM"], "max_position_embeddings": 64, "vocab_size": 640}
        builder.write_json(folder / "config.json", config)
        save_file({"w": np.zeros((30, 41), np.float32)}, folder / "model.safetensors")
    return made


def rows(run: Path, **choice: object) -> list[dict]:
    return pa.Table.from_batches(select_rows(run, Selection(**choice), Counts()), ROWS).to_pylist()


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(min_scores={"beauty": 0.1}), "--min-score beauty: .* the run scored .*quality"),
        (Selection("synthetic", min_scores={"quality": 99.0}), "the selection holds no text"),
        (Selection(rounds=(9,)), "--round 9"),
    ],
)
@pytest.mark.parametrize("format", ["parquet", "dolma"])
def test_a_choice_that_cannot_be_served_leaves_nothing_behind(
    run: Path, tmp_path: Path, selection: Selection, said: str, format: str
) -> None:
    with pytest.raises(ExportError, match=said):
        export(run, tmp_path / "out", format, selection)
    assert list(tmp_path.iterdir()) == []


def test_nobody_elses_folder_is_written_or_deleted(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").touch()
    (tmp_path / "out").mkdir()
    real = commands.write_parquet

    def beside_another(rows: Iterable[pa.RecordBatch], out: Path) -> Sequence[Path]:
        monkeypatch.setattr(commands, "write_parquet", real)
        export(run, tmp_path / "out")  # ends while this one is at work
        return real(rows, out)

    monkeypatch.setattr(commands, "write_parquet", beside_another)
    with pytest.raises(ExportError, match="give the path of a new folder"):
        export(run, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()} == {"train-00000.parquet", "README.md"}
    assert {p.name for p in tmp_path.iterdir()} == {"out", "out.partial"} and (tmp_path / "out.partial" / "mine").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ExportError, match=r"--to \.: is the folder that you are in"):
        export(run, Path())


def test_rows_join_the_kept_texts_and_name_their_source(run: Path) -> None:
    found = rows(run, operations=("rephrase",), rounds=(2,))
    documents = pq.read_table(run / "round-00/prepare/documents.parquet").to_pylist()
    assert [r["id"] for r in found if r["origin"] == "organic"] == [d["id"] for d in documents if d["split"] == "train"]
    sources = {d["id"]: d["source"] for d in documents}
    made = [r for r in found if r["origin"] == "synthetic"]
    trained_on = pq.read_table(run / "round-02/synthesize-rephrase/documents.parquet").to_pylist()
    assert [(r["id"], r["text"]) for r in made] == [(d["id"], d["text"]) for d in trained_on]
    kept = {r["id"]: r for r in pq.read_table(run / "round-02/synthesize-rephrase/rewrites.parquet").to_pylist() if r["kept"]}
    for row in made:
        assert row["source"] == sources[row["document"]] and row["generator"] == "g-rephrase-2"
        parts = [json.loads(kept[id]["scores"]) for id in row["rewrites"]]
        means = json.loads(row["scores"])
        assert means["influence"] == pytest.approx(sum(p["influence"] for p in parts) / len(parts))


def test_a_run_that_was_copied_without_its_weights_has_a_report(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("hf"))
    assert write_report(copy).exists() and not list(copy.rglob("hf"))


def test_a_minimum_leaves_out_texts_and_counts_them(run: Path) -> None:
    counts = Counts()
    wanted = Selection("synthetic", min_scores={"influence": 0.0})
    left = [id for batch in select_rows(run, wanted, counts) for ids in batch["rewrites"].to_pylist() for id in ids]
    everything = [id for row in rows(run, content="synthetic") for id in row["rewrites"]]
    assert 0 < len(left) < len(everything) == len(left) + counts.below_minimum


def test_scores_that_are_whole_numbers_are_scores(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for file in copy.glob("*/synthesize-*/rewrites.parquet"):
        table = pq.read_table(file)
        scores = pa.array([json.dumps({"mine": 1}) for _ in range(len(table))])
        pq.write_table(table.set_column(table.schema.get_field_index("scores"), "scores", scores), file)
    found = rows(copy, content="synthetic", min_scores={"mine": 1.0})
    assert found and all(json.loads(row["scores"]) == {"mine": 1.0} for row in found)


def test_dolma_lines_say_what_the_rows_say(run: Path, tmp_path: Path) -> None:
    builder.write_json(run / "environment.json", {"started": "2026-11-27"})
    done = export(run, tmp_path / "out", "dolma")
    text = zstandard.ZstdDecompressor().stream_reader(done.files[0].read_bytes()).read().decode()
    for line, row in zip(text.splitlines(), rows(run), strict=True):
        body = json.loads(line)
        assert (body.pop("id"), body.pop("text"), body.pop("added")) == (row.pop("id"), row.pop("text"), "2026-11-27")
        assert body == {
            "source": f"synpro/{row['operation'] or 'organic'}",
            "metadata": {**row, "scores": json.loads(row["scores"])},
        }


def test_files_are_cut_between_batches_and_lose_none(run: Path, tmp_path: Path) -> None:
    batches = list(select_rows(run, Selection(), Counts()))
    assert [len(list(part)) for part in split(batches, 1)] == [1] * len(batches) and len(batches) == 5
    files = write_parquet(batches, tmp_path, shard_bytes=1)
    assert len(files) == 5 and pa.concat_tables(map(pq.read_table, files)).num_rows == sum(b.num_rows for b in batches)


def test_the_cards_give_licences_losses_with_intervals_and_warnings(run: Path, tmp_path: Path) -> None:
    card = export(run, tmp_path / "out").card.read_text(encoding="utf-8")
    assert 'license:\n- "cc-by-sa-4.0"\n' in card and "`notes`: licence not stated in the config" in card
    assert "## Collapse watch" in card and "<script>" not in card  # a generator's text is no part of the page
    write_report(run)
    model = (run / "round-01/pretrain/hf/README.md").read_text(encoding="utf-8")
    assert "1,230 parameters" in model and "cc-by-sa-4.0" in model
    assert "| 1 | " in model and "nats per token" in model and " to " in model.partition("## Measured")[2]
    assert "round-01" in model.partition("## Warnings")[2] and "round-02" not in model
    assert (run / "round-02/pretrain/hf/README.md").exists() and (run / "report.html").exists()
    assert export(run, tmp_path / "model", "model").card.read_bytes() == (run / "round-02/pretrain/hf/README.md").read_bytes()
    with pytest.raises(ExportError, match="no model of round 7; it has 0, 1, 2"):
        export(run, tmp_path / "seven", "model", Selection(rounds=(7,)))


def test_a_model_without_its_weights_is_not_exported_and_no_older_one_instead(run: Path, tmp_path: Path) -> None:
    for number, gone in enumerate(("hf/model.safetensors", "hf")):
        copy = shutil.copytree(run, tmp_path / f"run{number}")
        place = copy / "round-02/pretrain" / gone
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        with pytest.raises(
            ExportError, match=r"the weights of round 2 are not in .*round-02/pretrain/hf; it has 0, 1 \(--round\)"
        ):
            export(copy, tmp_path / "out", "model")
        done = export(copy, tmp_path / f"one{number}", "model", Selection(rounds=(1,)))
        assert "model: of round 1" in commands.export_lines(done)


def test_a_damaged_checkpoint_has_no_card_and_the_report_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    weights = copy / "round-01/pretrain/hf/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert write_report(copy).exists() and (copy / "round-02/pretrain/hf/README.md").exists()
    assert "the model of round 1 has no new card: " in (said := capsys.readouterr().err) and str(weights) in said


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (("mixture", [], [], ["faithfulness=nan"]), "--min-score faithfulness=nan: write REWARD=NUMBER"),
        (("mixture", [], [], ["=0.5"]), "--min-score =0.5: write REWARD=NUMBER"),
        (("organic", [], ["rephrase"], []), "--content organic: takes no"),
        (("organic", [1], [], []), "--content organic: takes no"),
    ],
)
def test_options_that_choose_nothing_are_refused(choice: tuple, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        commands.parse_selection(*choice)


def test_a_push_that_cannot_be_is_refused_before_anything_is_written() -> None:
    for repository, dry_run, said in (("noslash", False, "write ORG/NAME"), (None, True, "give that too")):
        with pytest.raises(ExportError, match=said):
            commands.check_push(repository, dry_run)
    commands.check_push(None, False)
    commands.check_push("a/b", True)


def test_a_folder_that_cannot_be_made_and_a_disk_that_is_full_name_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in (tmp_path / "loop" / "x", Path("/proc/nothing")):
        with pytest.raises(ExportError, match=f"--to {place}: cannot be made"):
            export(run, place)

    def full(rows: object, out: Path) -> Sequence[Path]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(commands, "write_parquet", full)
    with pytest.raises(ExportError, match=f"--to {tmp_path / 'out'}: the disk is full .*run the same command again$"):
        export(run, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["loop"]


def test_a_mixture_without_synthetic_text_says_so(run: Path, tmp_path: Path) -> None:
    lines = commands.export_lines(export(run, tmp_path / "out", selection=Selection(min_scores={"quality": 99.0})))
    assert lines[0].startswith("documents: organic 12; ") and lines[1].startswith("synthetic text: none")
