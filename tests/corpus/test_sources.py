"""Files under a source: each is read, or is in the reject log with a reason."""

import gzip
import json
import lzma
import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpro.assets.file_tree import each_match, file_system, matches
from synpro.commands.texts import documents_of
from synpro.config import ConfigError
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


def test_files_that_a_glob_matches_with_their_folders_are_read_once(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for folder in ("sub/deep", "_old"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.jsonl", "sub/b.jsonl", "sub/deep/c.jsonl", "_old/d.jsonl"):
        (tmp_path / name).write_bytes(row(name))
        memory.pipe(f"/globbed/{name}", row(name))
    (tmp_path / "sub/link").symlink_to(tmp_path / "sub/deep")
    for place in (str(tmp_path), "memory://globbed"):
        good, bad = read(f"{place}/**")
        assert sorted(r.text for r in good) == ["a.jsonl", "sub/b.jsonl", "sub/deep/c.jsonl"]
        assert {b.id for b in bad} - {"sub/link/"} == {"_old/d.jsonl"}
    assert sorted(read(f"{tmp_path}/*")[0], key=str) == sorted(read(tmp_path)[0], key=str)
    memory.rm("/globbed", recursive=True)


@pytest.mark.parametrize("path", ["a::b", "~no-such-user/x", "zip://x.jsonl::nowhere.zip", "nope://x", "s3:/", "\0"])
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
        (b'{"text": "x"} and more\n{"text": "y"}\n', "it is not JSON: Extra data at character 15"),
        (b'{"text": "x", "n": 1, "text": "y"}\n', "the row has 'text' more than once; rename one, to say which is meant"),
        (b'[{"text": "x", "n": 1, "text": "y"}]', "the row has 'text' more than once; rename one, to say which is meant"),
        (b"FEA1\0\0\0\0", "is Feather V1, an old format"),
        (b"PK\5\6" + b"\0" * 18, "is an empty ZIP archive, not jsonl; convert or unpack it"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "is compressed twice, not jsonl; convert or unpack it"),
        (b'{"text": "x", "id": "gd", "group": {"a": 1}}', "the group is {'a': 1}; a text or a whole number is needed"),
    ],
)
def test_a_row_that_is_something_else_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    columns = {"id_column": "id", "group_column": "group"} if b"group" in content else {}
    assert said in read(tmp_path, **columns)[1][0].detail


def test_a_file_name_that_is_not_utf8_is_watched_too(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    (stats,) = stat_inputs({"config": {"sources": [{"path": str(tmp_path)}]}}).values()
    assert [name.rpartition("/")[2] for name in json.loads(json.dumps(stats))] == ["caf\\xe9.txt"]


@pytest.mark.parametrize(
    "pattern", ["*", "a*", "*/*", "**", "a/**", "**/*.txt", "*/b/*", "a/?.txt", "*.txt", "[ab]/*.txt", "**/b", "none/*", "s/*"]
)
def test_a_glob_matches_what_that_of_fsspec_does_and_lists_no_more_than_is_asked_for(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/b/1.txt", "a/1.txt", "a.txt", "b/2.txt", "b/b/b/3.txt", ".h/4.txt", "a/b/c/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "s").symlink_to(tmp_path / "b")
    fs, path = file_system(f"{tmp_path}/{pattern}")
    assert matches(fs, path) == sorted(fs.glob(path)) == sorted(each_match(fs, path))
    if found := matches(fs, path):
        listed = list[str]()
        monkeypatch.setattr(os, "scandir", lambda place, scan=os.scandir: (listed.append(place), scan(place))[1])
        next(each_match(fs, f"{tmp_path}/*"))
        assert len(listed) == 1 and found


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
    assert "read before it (3) are used" in bad[-1].detail


def test_objects_without_line_ends_between_them(tmp_path: Path) -> None:
    rows = [{"text": f"row {i} " + "é" * 9000 * (i % 2), "n": i} for i in range(300)]
    one = [json.dumps(r, ensure_ascii=False) for r in rows]
    layouts = {
        "on one line": "".join(one), "on a few lines": "\n".join("".join(one[i : i + 7]) for i in range(0, 300, 7)),
        "only in the middle": "\n".join([*one[:50], one[50] + one[51], *one[52:]]), "with commas": ", ".join(one),
        "old Macintosh": "\r".join(one), "RFC 7464": "".join(f"\x1e{r}\n" for r in one),
        "RFC 7464 of several lines": "".join(f"\x1e{json.dumps(r, indent=1)}\n" for r in rows),
        "separators alone": "".join(f"\x1e{r}" for r in one),
    }  # fmt: skip
    for name, text in layouts.items():
        for content in (text.encode(), gzip.compress(text.encode())):
            (tmp_path / "a.jsonl").write_bytes(content)
            good, bad = read(tmp_path)
            assert ([r.text for r in good], bad) == ([r["text"] for r in rows], []), name
            assert len({r.source for r in good}) == 300
    (tmp_path / "a.jsonl").write_text('{"text": "x"}{"text": "y"} 3\n{"text": "z"} oops\n')
    good, bad = read(tmp_path)
    assert [r.text for r in good] == ["x", "y", "z"] and "read before it (3) are used" in bad[-1].detail


def test_a_repeated_key_is_refused_only_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "kept", "n": 1, "n": 2}\n{"doc": {"text": "a", "text": "b"}, "text": "kept too"}\n'
    )
    assert [r.text for r in read(tmp_path)[0]] == ["kept", "kept too"]
    assert [b.reason for b in read(tmp_path, text_column="doc.text")[1]] == ["no-column", "two-columns"]


def test_pictures_beside_the_texts_are_no_fault_of_them(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("a note")
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    names = ["a.PNG", "b.mp3", "c.woff2", "a-hash"]
    for name in names:
        (tmp_path / name).write_bytes(png)
    (tmp_path / "part-00000").write_bytes(row("Spark"))
    (tmp_path / "d.jsonl").write_bytes(png)
    good, bad = read(tmp_path)
    reasons = {b.id: b.reason for b in bad}
    assert [r.text for r in good] == ["a note"] and {n for n, r in reasons.items() if r == "media"} == set(names)
    assert reasons["d.jsonl"] == "mislabelled" and reasons["part-00000"] == "no-reader"
    assert any("without an ending: give it one (.jsonl, .txt), or set `format`" in b.detail for b in bad)
    assert [b.reason for b in read(tmp_path / "[abc].*", format="text")[1]] == ["media"] * 3
    count = RejectCount("prepare.sources", 0.1, "prepare.max_rejected")
    for item in [*good, *[b for b in bad if b.reason == "media"] * 30]:
        count.add(item)
    count.check()


def test_commands_are_not_told_to_set_what_they_do_not_have(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(b"PK\3\4....")
    details = [item.detail for item in documents_of(tmp_path) if isinstance(item, Reject)]
    assert len(details) == 2 and not any("this source" in detail for detail in details)
    (tmp_path / "c.zip").write_bytes(b"PK\3\4....")
    with pytest.raises(ConfigError, match=r"rename the files, or set `format` of a source in \[prepare\]"):
        documents_of(tmp_path / "c.zip")


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
    raw = bytes(range(250, 256)) + bytes(10)
    ids = pa.table({"text": ["x"], "id": pa.array([raw], pa.binary(16)), "loose": pa.array([raw], pa.binary())})
    pq.write_table(ids, tmp_path / "a.parquet")
    assert [r.id for r in read(tmp_path / "a.parquet", id_column="id")[0]] == [raw.hex()]
    assert read(tmp_path / "a.parquet", id_column="loose")[1][0].detail.endswith("; of a UUID, write the text")
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


def test_one_bad_value_of_an_array_costs_itself_alone(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"text {i}", "parts": [{"n": i}]}) for i in range(300)]
    pretty = [json.dumps({"text": f"text {i}", "parts": [{"n": i}]}, indent=2).replace("\n", "\n  ") for i in range(300)]
    for bad in (
        "{'text': 'x'}",
        '{"text": "x" "y"}',
        '{"text": ' + "[" * 50_000 + "}",
        '{"text": oops, "parts": [\n      {"n": 1}]}',
    ):
        for each in (rows, pretty):
            (tmp_path / "a.json").write_text("[\n  " + ",\n  ".join([*each[:40], bad, *each[40:]]) + "\n]\n")
            good, rejects = read(tmp_path)
            assert [r.text for r in good] == [f"text {i}" for i in range(300)], bad[:30]
            assert [r.reason for r in rejects] == ["invalid-json"] and "reading goes on" in rejects[0].detail
            assert rejects[0].id == "a.json:41" and rejects[0].text.startswith(bad[:10])


def test_what_is_passed_over_is_not_kept_in_memory(tmp_path: Path) -> None:
    """One line, so that no row can be found again: the rest is read and forgotten."""
    with (tmp_path / "a.json").open("w") as file:
        file.write('[{"text": "one"}, {"text": bad}' + ', {"text": "x"}' * 2_000_000 + "]")
    tracemalloc.start()
    good, bad = read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [r.text for r in good] == ["one"] and "read before it (1) are used" in bad[0].detail
    assert peak < 10_000_000 < (tmp_path / "a.json").stat().st_size


def test_a_row_with_a_long_number_and_deep_brackets_costs_itself_alone(tmp_path: Path) -> None:
    deep = b'{"text": "x", "n": ' + b"9" * 5000 + b', "a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"
    (tmp_path / "a.jsonl").write_bytes(row("one") + b"\n" + deep + row("two") + b"\n")
    good, bad = read(tmp_path)
    assert [r.text for r in good] == ["one", "two"] and [b.detail for b in bad] == ["brackets are nested too deeply"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html><head>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><body>', "an HTML page"),
        (b"{\\rtf1\\ansi Text}", "an RTF document"),
        (b"%!PS-Adobe-3.0\n", "a PostScript file"),
        ("A text.".encode("utf-32-le"), "binary data, or text in UTF-16 or UTF-32"),
    ],
)
def test_a_text_file_that_is_none_is_said_to_be_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_text("<html> is the root element of a page.")
    good, bad = read(tmp_path)
    assert [r.text[:6] for r in good] == ["<html>"], "a text about it"
    assert bad[0].reason == "mislabelled" and f"is {said}, not text" in bad[0].detail


def test_who_waits_for_the_hub_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network")

    lines: list[str] = []
    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(CorpusError, match="hf:a/b: cannot be read from the hub"):
        find_files(SourceConfig("hf:a/b"), slot="x", log=lines.append)
    assert lines == ["hf:a/b: asking the Hugging Face hub; without network it gives up after a minute or two"]


def test_a_file_that_may_not_be_looked_at_is_no_link_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(row("one"))
    (tmp_path / "b.jsonl").write_bytes(row("two"))
    own = Path.stat

    def stat(self: Path, **how: bool) -> os.stat_result:  # as a folder without the right to search it does
        if self.name == "a.jsonl":
            raise PermissionError(13, "Permission denied")
        return own(self, **how)

    monkeypatch.setattr(Path, "stat", stat)
    good, bad = read(tmp_path)
    assert [r.text for r in good] == ["two"] and bad[0].detail == "cannot be looked at (Permission denied)"
