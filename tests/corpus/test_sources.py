"""Files under a source: each is read, or is in the reject log with a reason."""

import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpro.commands.texts import documents_of
from synpro.corpus.files import CorpusError
from synpro.corpus.prompt_completion import PromptCompletionText, read_prompt_completions
from synpro.corpus.readers import RejectCount, SourceConfig, SourceRow, find_files, read_source
from synpro.records import Document
from synpro.runner.inputs import stat_inputs
from synpro.runner.rejects import Reject


def read(path: Path | str, **settings) -> tuple[list[SourceRow], list[Reject]]:
    cfg = SourceConfig(str(path), **settings)
    found = find_files(cfg, slot="s")
    items = [*found.rejects, *(item for file in found.files for item in read_source(file, cfg, 10**6))]
    return [i for i in items if isinstance(i, SourceRow)], [i for i in items if isinstance(i, Reject)]


def row(text: str) -> bytes:
    return json.dumps({"text": text}).encode() + b"\n"


def test_every_file_is_read_or_in_the_log(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in ("sub/deep", "_delta_log", "_temporary/0", ".hidden"):
        (data / folder).mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "linked.jsonl").write_bytes(row("linked"))
    (data / "link").symlink_to(elsewhere)
    (data / "again").symlink_to(data)  # a circle
    (data / "nothing.jsonl").symlink_to(tmp_path / "gone.jsonl")
    os.mkfifo(data / "pipe.jsonl")  # opening it would wait for ever
    usable = {
        "A.JSONL": row("upper"), "b.json.gz": gzip.compress(row("dolma")), "c.jsonl.xz": lzma.compress(row("xz")),
        "d.TXT": b"text", "e.md": b"note", "sub/deep/f.ndjson": row("nested"), "g.JSON": b'[{"text": "in an array"}]',
        "h::i.txt": b"colons",
    }  # fmt: skip
    left_out = {
        "_delta_log/0.json": b"{}", "_temporary/0/x.parquet": b"half", ".a.parquet.crc": b"crc", "_SUCCESS": b"",
        ".hidden/x.txt": b"x", "README.md": b"about", "k.csv": b"a,b", "l.bin": b"\0\1", os.fsdecode(b"\xe9.bin"): b"x",
    }  # fmt: skip
    for name, content in (usable | left_out).items():
        (data / name).write_bytes(content)
    good, bad = read(data)
    assert sorted(r.text for r in good) == sorted(
        ["upper", "dolma", "xz", "text", "note", "nested", "linked", "colons", "in an array"]
    )
    reasons = {b.id: b.reason for b in bad}
    assert {
        "again/": "leftover",
        "nothing.jsonl": "unreadable",
        "pipe.jsonl": "unreadable",
        "README.md": "description",
    }.items() <= reasons.items()
    assert reasons["k.csv"] == reasons["l.bin"] == reasons["\\xe9.bin"] == "no-reader"
    assert len(bad) == len(left_out) + 3 and all(f"{b}".encode() for b in bad)
    lines = find_files(SourceConfig(str(data)), slot="s").lines()
    assert "2 files not read (no-reader: no reader for .bin): \\xe9.bin, l.bin" in lines
    assert any("no reader for .csv; write it as JSONL" in line and line.endswith(": k.csv") for line in lines)
    assert [r.text for r in read(data / "h::i.txt")[0]] == ["colons"]
    assert {r.text for r in read(data / "*.jsonl*")[0]} == {"xz"} and len(read(data, max_files=2)[0]) == 2


@pytest.mark.parametrize("path", ["a::b", "zip://x.jsonl::nowhere.zip", "nope://x", "s3:/", "\0"])
def test_a_path_that_names_nothing_is_a_sentence(path: str) -> None:
    with pytest.raises(CorpusError, match=r"^s: "):
        read(path)


def test_odd_values_in_columns_that_nobody_asked_for_do_not_matter(tmp_path: Path) -> None:
    long = "1" * 5000
    (tmp_path / "a.jsonl").write_text(
        f'{{"text": "kept", "n": {long}, "x": NaN, "d": {"[" * 50}{"]" * 50}}}\n{{"text": {long}}}\n'
    )
    good, bad = read(tmp_path)
    assert [r.text for r in good] == ["kept"] and [b.reason for b in bad] == ["not-text-column"]
    (tmp_path / "a.jsonl").write_text('{"text": "kept"}\n' + "[" * 100_000 + "\n")
    assert [b.reason for b in read(tmp_path)[1]] == ["invalid-json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,text\n1,hello\n", "the line is not a JSON object; it begins with 'id,text'"),
        (b"{'text': 'x'}\n", "JSON needs double quotes; this looks like Python's repr"),
        (b'{"text": "x" "y"}\n', "it is not JSON: Expecting ',' delimiter at character 14"),
        (b"\xe8\x03\0\0", "it holds binary data, not text"),
        (b'{"text": "Gr\xf6\xdfe"}\n', "iconv -f ENCODING -t utf-8"),
    ],
)
def test_a_row_that_is_something_else_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert said in read(tmp_path)[1][0].detail


def test_a_file_name_that_is_not_utf8_is_watched_too(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    (stats,) = stat_inputs({"config": {"sources": [{"path": str(tmp_path)}]}}).values()
    assert [name.rpartition("/")[2] for name in json.loads(json.dumps(stats))] == ["caf\\xe9.txt"]


def test_arrays_and_objects_over_several_lines(tmp_path: Path) -> None:
    rows = [{"text": f"row {i} é", "id": i} for i in range(3000)]
    layouts = (
        json.dumps(rows),
        json.dumps(rows, indent=2, ensure_ascii=False),
        "\n".join(json.dumps(r, indent=1) for r in rows),
    )
    for text in layouts:
        (tmp_path / "a.jsonl").write_text(text, encoding="utf-8-sig")
        good, bad = read(tmp_path, id_column="id")
        assert [(r.id, r.text) for r in good] == [(str(r["id"]), r["text"]) for r in rows] and not bad
        assert good[7].source == "a.jsonl:8"
    (tmp_path / "a.jsonl").write_bytes(b'[{"text": "one"}, null, 3, {"text": "caf\xe9"}, {"text": "two"}, {"text": oops')
    good, bad = read(tmp_path)
    assert [r.text for r in good] == ["one", "two"]
    assert [b.reason for b in bad] == ["invalid-json", "invalid-json", "invalid-utf8", "invalid-json"]
    assert "the 5 rows before it are used" in bad[-1].detail


def test_columnar_files(tmp_path: Path) -> None:
    table = pa.table(
        {"doc": [{"text": "one", "n": 1}, {"text": None, "n": 2}, None], "text": pa.nulls(3), "id": [1.0, 2.0, None]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    good, bad = read(tmp_path, text_column="doc.text", id_column="id")
    assert [(r.source, r.id, r.text) for r in good] == [("a.parquet:1", "1", "one"), ("b.arrow:1", "1", "one")]
    assert [b.reason for b in bad] == ["not-text"] * 4
    assert [b.reason for b in read(tmp_path)[1]] == ["not-text"] * 6  # a column of nulls
    pq.write_table(table.slice(0, 0), tmp_path / "a.parquet")
    assert [b.reason for b in read(tmp_path / "a.parquet")[1]] == ["no-rows"]
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert "has 2 columns named 'text'" in read(tmp_path / "a.parquet")[1][0].detail
    (tmp_path / "c.jsonl").write_text(
        '{"doc": {"text": "nested"}, "doc.text": "named so"}\n{"doc": {"text": "nested"}}\n{"doc": 3}\n'
    )
    good, bad = read(tmp_path / "c.jsonl", text_column="doc.text")
    assert [r.text for r in good] == ["named so", "nested"] and [b.reason for b in bad] == ["no-column"]


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    import datasets

    train, test = (datasets.Dataset.from_dict({"text": [f"{name} {i}" for i in range(3)]}) for name in ("train", "test"))
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "both")
    good, bad = read(tmp_path / "both")
    assert [r.text for r in good] == ["train 0", "train 1", "train 2"]
    assert {b.reason for b in bad} == {"leftover", "other-split"}
    assert [r.text for r in read(tmp_path / "both" / "test")[0]] == ["test 0", "test 1", "test 2"]


def test_one_reader_for_commands_and_probe_data(tmp_path: Path) -> None:
    file = tmp_path / "own.ndjson"
    file.write_text('{"text": "a\u2028b", "id": 7.0}\n\nnull\n{"text": "second"}\n{"text": null}\n', encoding="utf-8")
    found = documents_of(file)
    assert [d.text for d in found if isinstance(d, Document)] == ["a\u2028b", "second"]
    assert [d.id for d in found] == ["7", "own.ndjson:3", "own.ndjson:4", "own.ndjson:5"]
    pq.write_table(pa.table({"prompt": ["2+2="], "answer": ["4"]}), tmp_path / "qa.parquet")
    (tmp_path / "qa.json").write_text(
        '[{"prompt": "1+1=", "answer": "2\u2028"}, {"prompt": "1", "answer": {}}, 3]', encoding="utf-8"
    )
    file.unlink()
    pairs = list(read_prompt_completions(tmp_path))
    assert [p.prompt for p in pairs if isinstance(p, PromptCompletionText)] == ["1+1=", "2+2="] and len(pairs) == 4


def test_too_many_rejects_stop_with_the_most_frequent_reasons() -> None:
    def counted(good: int, bad: int, share: float = 0.1) -> RejectCount:
        count = RejectCount("prepare.sources", share, "prepare.max_rejected")
        for i in range(bad):
            count.add(Reject(f"r{i}", "empty" if i % 3 else "invalid-json", "why", f"a:{i}"))
        for _ in range(good):
            count.add("a row")
        return count

    counted(5, 10).check()  # the first few of a small source
    counted(100, 11, 0.2).check()
    with pytest.raises(CorpusError, match=r"11 of 61 rows and files .* = 0.1 allows: 7 empty \(a:1: why\); 4 invalid-json"):
        counted(50, 11).check()
    with pytest.raises(CorpusError, match=r"3 of 3 rows and files cannot be used, nothing is left"):
        counted(0, 3).check()
    with pytest.raises(CorpusError):  # a long reading is not waited for
        counted(0, 10_000)


def test_who_waits_for_the_hub_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network")

    lines: list[str] = []
    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(CorpusError, match="hf:a/b: cannot be read from the hub"):
        find_files(SourceConfig("hf:a/b"), slot="x", log=lines.append)
    assert lines == ["hf:a/b: asking the Hugging Face hub; without network it gives up after a minute or two"]
