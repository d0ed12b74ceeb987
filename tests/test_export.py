"""Exports of the finished run: every format read back, token counts equal to the run's, every id known to `why`."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from synpro.commands.export import Exported, export, parse_selection, push
from synpro.export.selection import ROWS, Counts, ExportError, Selection, select_rows
from synpro.records import Corpus, Shard, decode
from synpro.report.lineage import why

pytestmark = pytest.mark.loop


def record(step: Path, run: Path) -> Corpus | Shard:
    value = decode(json.loads((step / "result.json").read_text(encoding="utf-8"))["record"], run)
    assert isinstance(value, (Corpus, Shard))
    return value


@pytest.fixture(scope="module")
def corpus(finished_run: Path) -> Corpus:
    found = record(finished_run / "round-00" / "prepare", finished_run)
    assert isinstance(found, Corpus)
    return found


@pytest.fixture(scope="module")
def run_tokens(finished_run: Path, corpus: Corpus) -> int:
    """Tokens of everything the run trained on, once each."""
    made = [record(p, finished_run) for p in sorted(finished_run.glob("round-*/synthesize-*"))]
    return corpus.tokens["train"] + sum(s.text_tokens for s in made if isinstance(s, Shard))


def rows_of(run: Path, selection: Selection = Selection(), counts: Counts | None = None) -> list[dict]:  # noqa: B008
    return pa.Table.from_batches(select_rows(run, selection, counts or Counts()), ROWS).to_pylist()


def test_datasets_reads_the_folder_offline_and_why_knows_every_row(finished_run: Path, tmp_path: Path) -> None:
    import datasets

    done = export(finished_run, tmp_path / "out")
    rows = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    wanted = rows_of(finished_run)
    assert [r["text"] for r in rows] == [r["text"] for r in wanted] and len(rows) == sum(done.counts.rows.values())
    assert {r["origin"] for r in rows} == {"organic", "synthetic"}
    for row in (rows[0], next(r for r in rows if r["origin"] == "synthetic")):
        assert why(finished_run, row["id"]).kind in ("organic document", "synthetic document")
        for id in row["rewrites"]:
            assert why(finished_run, id).kind == "rewrite"


def test_the_card_says_what_and_how(finished_run: Path, tmp_path: Path) -> None:
    card = export(finished_run, tmp_path / "out").card.read_text(encoding="utf-8")
    assert card.startswith("---\n") and "data/train-*.parquet" in card
    for said in (
        "licence",
        "rephrase",
        "reformat",
        "arXiv 2605.17849",
        "synpro why",
        "SmolLM2",
        "GRPO",
        "{the passage}",
        "(`support`)",
        "GRPO steps kept |",
    ):
        assert said in card, said
    assert "None" not in card and "{%" not in card and "{{" not in card


def test_dolma_lines_carry_their_lineage(finished_run: Path, tmp_path: Path) -> None:
    done = export(finished_run, tmp_path / "out", "dolma", Selection("synthetic"))
    lines = []
    for file in done.files:
        with file.open("rb") as raw:
            lines += zstandard.ZstdDecompressor().stream_reader(raw).read().decode().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [r["text"] for r in rows] == [r["text"] for r in rows_of(finished_run, Selection("synthetic"))]
    assert all(set(r) == {"id", "text", "source", "added", "metadata"} and r["metadata"]["generator"] for r in rows)


def written(finished_run: Path, out: Path, format: str) -> tuple[Exported, int]:
    done = export(finished_run, out, format)
    ids = [json.loads(line) for line in (out / "ids.jsonl").read_text(encoding="utf-8").splitlines()]
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json")).get_vocab_size() and str(finished_run) not in "".join(
        f.read_text(encoding="utf-8") for f in out.glob("*.metadata")
    )
    assert ids == [r["id"] for r in rows_of(finished_run)]
    return done, len(ids)


def test_olmo_core_reads_its_array(finished_run: Path, corpus: Corpus, run_tokens: int, tmp_path: Path) -> None:
    from olmo_core.data import NumpyFSLDatasetConfig, TokenizerConfig

    done, _ = written(finished_run, tmp_path / "out", "olmo")
    assert done.tokens == run_tokens
    dataset = NumpyFSLDatasetConfig(
        paths=[str(done.files[0])],
        sequence_length=32,
        tokenizer=TokenizerConfig(corpus.vocab_size, corpus.eos_id, corpus.pad_id),
        work_dir=str(tmp_path / "work"),
    ).build()
    dataset.prepare()
    assert len(dataset) == run_tokens // 32
    tokens = np.fromfile(done.files[0], corpus.dtype)
    assert dataset[0]["input_ids"].tolist() == tokens[:32].tolist()


def test_megatron_index_bounds_every_document(finished_run: Path, corpus: Corpus, run_tokens: int, tmp_path: Path) -> None:
    done, documents = written(finished_run, tmp_path / "out", "megatron")
    raw = done.files[1].read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, bounds = struct.unpack("<QBQQ", raw[9:34])
    assert (version, code, sequences, bounds) == (1, 8, documents, documents + 1)
    lengths = np.frombuffer(raw, "<i4", sequences, 34)
    offsets = np.frombuffer(raw, "<i8", sequences, 34 + 4 * sequences)
    assert np.frombuffer(raw, "<i8", bounds, 34 + 12 * sequences).tolist() == list(range(documents + 1))
    tokens = np.fromfile(done.files[0], "<u2")
    assert lengths.sum() == len(tokens) == run_tokens
    for length, offset in zip(lengths, offsets, strict=True):
        assert tokens[offset // 2 + length - 1] == corpus.eos_id


def test_nanotron_index_ends_every_document(finished_run: Path, corpus: Corpus, run_tokens: int, tmp_path: Path) -> None:
    done, documents = written(finished_run, tmp_path / "out", "nanotron")
    ends = np.fromfile(done.files[1], "<u8")
    tokens = np.fromfile(done.files[0], "<u2")
    assert len(ends) == documents and ends[-1] == len(tokens) == run_tokens
    assert set(tokens[ends.astype(int) - 1]) == {corpus.eos_id}
    assert done.files[2].read_text().splitlines()[1] == str(run_tokens)


def test_megatron_itself_reads_its_files(finished_run: Path, run_tokens: int, tmp_path: Path) -> None:
    library = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    done, documents = written(finished_run, tmp_path / "out", "megatron")
    dataset = library.IndexedDataset(str(tmp_path / "out" / "tokens"))
    assert len(dataset) == documents and sum(len(dataset[i]) for i in range(documents)) == run_tokens == done.tokens


def test_datatrove_itself_reads_its_files(finished_run: Path, run_tokens: int, tmp_path: Path) -> None:
    library = pytest.importorskip("datatrove.utils.dataset", reason="datatrove is not installed")
    done, _ = written(finished_run, tmp_path / "out", "nanotron")
    dataset = library.DatatroveFileDataset(str(done.files[0]), seq_len=31, token_size=2)
    assert len(dataset) == run_tokens // 32
    read = [token for i in range(len(dataset)) for token in dataset[i]["input_ids"].tolist()]
    assert read == np.fromfile(done.files[0], "<u2")[: len(read)].tolist()


def test_a_selection_narrows(finished_run: Path) -> None:
    everything = rows_of(finished_run)
    assert len(rows_of(finished_run, Selection("organic"))) + len(rows_of(finished_run, Selection("synthetic"))) == len(
        everything
    )
    made = [r for r in everything if r["origin"] == "synthetic"]
    first = made[0]["round"], made[0]["operation"]
    one = rows_of(finished_run, Selection("synthetic", rounds=(first[0],), operations=(first[1],)))
    assert one and {(r["round"], r["operation"]) for r in one} == {first}
    counts = Counts()
    assert rows_of(finished_run, Selection("synthetic", min_scores={"quality": 99.0}), counts) == []
    assert counts.below_minimum == sum(len(r["rewrites"]) for r in made)


def test_what_the_run_lacks_is_refused_by_name(finished_run: Path, tmp_path: Path) -> None:
    for selection, said in (
        (Selection("synthetic", rounds=(9,)), "--round 9"),
        (Selection("synthetic", operations=("poem",)), "--operation poem"),
        (Selection("synthetic", min_scores={"beauty": 0.1}), "--min-score beauty"),
    ):
        with pytest.raises(ExportError, match=said):
            rows_of(finished_run, selection)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ExportError, match="holds something"):
        export(finished_run, tmp_path / "full")
    with pytest.raises(ExportError, match="there is no such format"):
        export(finished_run, tmp_path / "new", "csv")
    with pytest.raises(ExportError, match="REWARD=NUMBER"):
        parse_selection("mixture", [], [], ["faithfulness"])


def test_a_model_goes_with_its_card(finished_run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    done = export(finished_run, tmp_path / "out", "model", Selection(rounds=(1,)))
    assert done.card.read_text(encoding="utf-8") == (finished_run / "round-01/pretrain/hf/README.md").read_text(
        encoding="utf-8"
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() == 164_416
    assert "164,416 parameters" in done.card.read_text(encoding="utf-8")


def test_a_push_is_named_before_it_is_made(finished_run: Path, tmp_path: Path) -> None:
    done = export(finished_run, tmp_path / "out")
    assert push(tmp_path / "out", "me/mine", dry_run=True) == sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (*done.files, done.card)
    )
    with pytest.raises(ExportError, match="ORG/NAME"):
        push(tmp_path / "out", "mine", dry_run=True)
