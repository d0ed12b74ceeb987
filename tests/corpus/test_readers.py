"""Readers on good and bad files of every format."""

import bz2
import gzip
import json
import lzma
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from synpro.corpus.files import CorpusError, SourceFile, split_lines
from synpro.corpus.gather import cut_text
from synpro.corpus.readers import RejectCount, SourceConfig, SourceRow, find_files, read_source
from synpro.runner.rejects import Reject

LIMIT = 1_000_000


def rows(path: Path | str, limit: int = LIMIT, **settings: str) -> tuple[list[SourceRow], list[Reject]]:
    cfg = SourceConfig(str(path), **settings)  # type: ignore[arg-type]
    found = find_files(cfg, slot="prepare.sources.0")
    items = [*found.rejects, *(item for file in found.files for item in read_source(file, cfg, limit))]
    return [i for i in items if isinstance(i, SourceRow)], [i for i in items if isinstance(i, Reject)]


def jsonl(*records: object) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in records)


GOOD = jsonl(*({"text": f"text number {i} é", "key": i} for i in range(2000)))


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_jsonl_plain_and_compressed(tmp_path: Path, ending: str, pack) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(pack(GOOD[: len(GOOD) // 2]) + pack(GOOD[len(GOOD) // 2 :]))  # two streams in one file
    good, bad = rows(path, id_column="key")
    assert not bad and len(good) == 2000
    assert good[1999] == SourceRow("1999", "text number 1999 é", f"a.jsonl{ending}:2000")


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)])
def test_a_file_cut_short_keeps_the_rows_before_and_says_so(tmp_path: Path, ending: str, pack) -> None:
    import random

    noise = random.Random(0)
    data = jsonl(*({"text": "".join(noise.choices("abcdefghij ", k=400))} for _ in range(5000)))
    whole = pack(data)
    (tmp_path / f"a.jsonl{ending}").write_bytes(whole[: len(whole) * 2 // 3])
    good, bad = rows(tmp_path)
    assert 1000 < len(good) < 5000
    assert bad[-1].reason == "damaged" and "ends in the middle" in bad[-1].detail and bad[-1].source == f"a.jsonl{ending}"


def test_files_are_what_their_bytes_say_not_their_names(tmp_path: Path) -> None:
    one = jsonl({"text": "one"})
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["p"]}), parquet)
    for name, content in {
        "a.jsonl.zst": one, "b.jsonl": gzip.compress(one), "c.jsonl": parquet.getvalue().to_pybytes(),
        "d.data": lzma.compress(one),
        "e.jsonl": b"PK\x03\x04....", "f.jsonl": b"<!DOCTYPE html><p>Please log in",
        "g.jsonl": '{"text": "x"}'.encode("utf-16"),
        "h.jsonl.gz": b"\0\1\2", "i.parquet": b"", "j.jsonl": b"\xef\xbb\xbf", "k.parquet.gz": gzip.compress(b"PAR1...."),
        "l.jsonl": '{"text": "x"}'.encode("utf-16-le"), "m.jsonl": '{"text": "x"}'.encode("utf-16-be"),
        "n.txt": "x".encode("utf-32"), "o.jsonl.zst": b"\x50\x2a\x4d\x18\4\0\0\0skip" + zstandard.compress(one),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    good, bad = rows(tmp_path)
    assert [(r.source, r.text) for r in good] == [("a.jsonl.zst:1", "one"), ("b.jsonl:1", "one"), ("c.jsonl:1", "p"),
                                                     ("o.jsonl.zst:1", "one")]  # fmt: skip
    assert [(b.id, b.reason) for b in bad] == [
        ("d.data", "no-reader"), ("e.jsonl", "mislabelled"), ("f.jsonl", "mislabelled"), ("g.jsonl", "mislabelled"),
        ("h.jsonl.gz", "unreadable"), ("i.parquet", "damaged"), ("j.jsonl", "no-rows"), ("k.parquet.gz", "unreadable"),
        ("l.jsonl", "mislabelled"), ("m.jsonl", "mislabelled"), ("n.txt", "mislabelled"),
    ]  # fmt: skip
    reported = " ".join(b.detail for b in bad)
    for what in ("is a ZIP archive", "is an HTML page", "is UTF-16 text (`iconv -f utf-16", "it is empty", "decompress it",
                 "-f utf-16le", "-f utf-16be", "UTF-32"):  # fmt: skip
        assert what in reported


def test_bad_json_rows_are_rejected_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "first"}\n{"text": "cut\n\n[1]\n{"text": 3}\n{"text": null}\n{"text": " \\n"}\n{"other": "x"}\n'
        b'{"text": "caf\xe9"}\n{"text": "half \\ud800"}\n{"text": "' + b"x" * 2000 + b'"}\n\xef\xbb\xbf{"text": "last"}'
    )
    good, bad = rows(path, limit=1000)
    assert [r.text for r in good] == ["first", "last"]
    assert [(b.reason, b.source) for b in bad] == [
        ("invalid-json", "a.jsonl:2"), ("invalid-json", "a.jsonl:4"), ("not-text-column", "a.jsonl:5"),
        ("not-text", "a.jsonl:6"),
        ("empty", "a.jsonl:7"), ("no-column", "a.jsonl:8"), ("invalid-utf8", "a.jsonl:9"), ("invalid-utf8", "a.jsonl:10"),
        ("too-large", "a.jsonl:11"),
    ]  # fmt: skip
    offset = path.read_bytes().index(b"\xe9")
    assert f"byte {offset - 3} (0xe9)" in bad[6].detail or f"byte {offset} (0xe9)" in bad[6].detail
    assert bad[6].text == '{"text": "caf\\xe9"}' and "2,012 bytes, more than max_row_bytes = 1,000" in bad[8].detail


def test_a_broken_first_row_does_not_end_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{\n{"text": "second"}\n{"text": "third"}\n')
    good, bad = rows(tmp_path)
    assert [r.text for r in good] == ["second", "third"] and [b.source for b in bad] == ["a.jsonl:1"]


def test_an_object_over_several_lines_may_be_longer_than_what_is_read_first(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"note": "x" * 300_000, "text": "one record"}, indent=1))
    good, bad = rows(tmp_path / "one.json")
    assert [r.text for r in good] == ["one record"] and not bad


def test_ids_must_be_text_or_whole_numbers(tmp_path: Path) -> None:
    ids: list[object] = [1, 1.5, "x", True, 2.0, float("nan"), None, [1], "", float("inf")]
    (tmp_path / "a.jsonl").write_bytes(jsonl(*({"text": f"text {i}", "id": id} for i, id in enumerate(ids))))
    good, bad = rows(tmp_path, id_column="id")
    assert [r.id for r in good] == ["1", "x", "2", None, None] and [b.reason for b in bad] == ["bad-id"] * 5
    table = pa.table({"text": ["a", "b", "c"], "id": pa.array([1.0, None, 3.0])})  # as pandas writes whole numbers beside a gap
    pq.write_table(table, tmp_path / "b.parquet")
    assert [r.id for r in rows(tmp_path / "b.parquet", id_column="id")[0]] == ["1", None, "3"]


def test_a_wrong_column_names_the_columns_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(*({"content": "x", "url": "y"} for _ in range(3))))
    _, bad = rows(tmp_path)
    assert {b.detail for b in bad} == {
        "no column 'text'; the row has content, url; rename one, or set `text_column` of a source in [prepare]"
    }
    count = RejectCount("prepare.sources", 0.1, "max_rejected")
    for reject in bad:
        count.add(reject)
    with pytest.raises(
        CorpusError, match=r"3 of 3 rows.*nothing is left: 3 no-column \(a.jsonl:1: no column 'text'; the row has"
    ):
        count.check()
    assert (
        "no column 'key'; the row has content, url; rename one, or set `id_column`"
        in rows(tmp_path, text_column="content", id_column="key")[1][0].detail
    )
    pq.write_table(pa.table({"content": ["x"] * 500, "n": [1] * 500}), tmp_path / "b.parquet")
    _, bad = rows(tmp_path / "b.parquet")
    assert len(bad) == 101 and "no column 'text'; the row has content, n" in bad[0].detail and "is not read" in bad[-1].detail
    assert rows(tmp_path / "b.parquet", text_column="n")[1][0].detail == "the text is int"


def test_a_row_of_fifty_megabytes_does_not_stand_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(
        zstandard.compress(jsonl({"text": "before"}) + b'{"text": "' + b"x" * 50_000_000 + b'"}\n' + jsonl({"text": "after"}))
    )
    plain = tmp_path / "b.jsonl"
    plain.write_bytes(jsonl({"text": "before"}) + b'{"text": "' + b"xy" * 25_000_000 + b'"}\n' + jsonl({"text": "after"}))
    tracemalloc.start()
    good, bad = rows(plain)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert (
        [r.text for r in good] == ["before", "after"] and bad[0].reason == "too-large" and "50,000,012 bytes" in bad[0].detail
    )
    good, bad = rows(path)
    assert [r.text for r in good] == ["before", "after"] and [b.reason for b in bad] == ["too-large"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["one é", None, "", "x" * 2000, "five"]
    table = pa.table({"body": pa.array(texts).cast(kind), "n": list(range(5))})
    pq.write_table(table, tmp_path / "a.parquet")
    good, bad = rows(tmp_path / "*.parquet", limit=1000, text_column="body", id_column="n")
    assert good == [SourceRow("0", "one é", "a.parquet:1"), SourceRow("4", "five", "a.parquet:5")]
    assert [b.reason for b in bad] == ["not-text", "empty", "too-large"]


def test_parquet_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9"], pa.binary())
    pq.write_table(pa.table({"text": raw.view(pa.string())}), tmp_path / "a.parquet")
    good, bad = rows(tmp_path)
    assert [r.text for r in good] == ["fine"] and bad[0].reason == "invalid-utf8" and "byte 3 (0xe9)" in bad[0].detail


def test_a_parquet_file_cut_short_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"] * 100}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    (bad,) = rows(tmp_path)[1]
    assert (bad.id, bad.reason) == ("a.parquet", "damaged") and "not a complete Parquet file" in bad.detail


def test_text_files_keep_every_character(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_bytes("é\r\n e\u0301\t ".encode())
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfmark")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9 ...")
    (tmp_path / "big.txt").write_bytes(b"x" * 2000)
    (tmp_path / ".hidden.txt").write_bytes(b"no")
    (tmp_path / "notes.md").write_bytes(b"no")
    good, bad = rows(tmp_path, limit=1000)
    assert [(r.source, r.text) for r in good] == [
        ("a.txt", "mark"), ("c.txt.gz", "packed"), ("deep/b.txt", "é\r\n e\u0301\t "), ("notes.md", "no"),
    ]  # fmt: skip
    assert [(b.source, b.reason) for b in bad] == [
        (".hidden.txt", "leftover"), ("bad.txt", "invalid-utf8"), ("big.txt", "too-large"),
    ]  # fmt: skip
    assert "byte 3 (0xe9)" in bad[1].detail
    assert rows(tmp_path / "a.txt")[0] == [SourceRow(None, "mark", "a.txt")]
    assert [r.text for r in rows(tmp_path / "*.md", format="text")[0]] == ["no"]


def test_text_that_nobody_sees_is_empty(tmp_path: Path) -> None:
    texts = (" ", "\u200b\u200b", "\ufeff", "\x00\x00", "a\u200b")
    (tmp_path / "a.jsonl").write_bytes(jsonl(*({"text": text} for text in texts)))
    good, bad = rows(tmp_path)
    assert [r.text for r in good] == ["a\u200b"] and [b.reason for b in bad] == ["empty"] * 4
    assert bad[0].detail == "no text but white space" and bad[1].detail == "no text but white space and invisible characters"
    long = "\n\n".join(["word " * 8, *(["\u200b" * 300] * 2), "word " * 8])
    assert all("word" in part for part in cut_text(long, 10)), "nor is it a part of a document"


def test_hub_data_sets_are_streamed(tmp_path: Path) -> None:
    """A folder in the hub's layout: `datasets` opens it in the same way as a repository of the hub."""
    (tmp_path / "train.jsonl").write_bytes(jsonl({"body": "one", "n": 1}, {"body": "", "n": 2}, {"body": "three", "n": 3}))
    good, bad = rows(f"hf:{tmp_path}", text_column="body", id_column="n")
    assert [(r.id, r.text) for r in good] == [("1", "one"), ("3", "three")] and [b.reason for b in bad] == ["empty"]
    assert "no column 'text'; the row has body, n; rename one, or set `text_column`" in rows(f"hf:{tmp_path}")[1][0].detail
    with pytest.raises(CorpusError, match=r"cannot be read from the hub .*check the name, `subset` and `split`"):
        rows(f"hf:{tmp_path / 'nowhere'}")
    with pytest.raises(CorpusError, match="cannot be read from the hub"):
        rows(f"hf:{tmp_path}", text_column="body", split="tset")


def test_fsspec_urls_and_globs(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in "ba":
        memory.pipe(f"/corpus/{name}.jsonl", jsonl({"text": name}))
    assert [(r.source, r.text) for r in rows("memory://corpus/*.jsonl")[0]] == [("a.jsonl:1", "a"), ("b.jsonl:1", "b")]
    assert len(rows("memory://corpus")[0]) == 2
    memory.rm("/corpus", recursive=True)
    (tmp_path / "x[1].jsonl").write_bytes(jsonl({"text": "brackets"}))
    assert rows(tmp_path / "x[1].jsonl")[0][0].text == "brackets"


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("")
    with pytest.raises(CorpusError, match=r"prepare.sources.0: .*no such file or folder; did you mean corpus.jsonl\?"):
        rows(tmp_path / "korpus.jsonl")
    with pytest.raises(CorpusError, match=r"no file there; there are corpus.jsonl"):
        rows(tmp_path / "*.parquet")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(CorpusError, match=r"no reader for .csv; write it as JSONL.*: a.csv. Known endings"):
        rows(tmp_path / "a.csv")
    with pytest.raises(CorpusError, match=r"prepare.sources.0: nope://x"):
        rows("nope://x")


def test_unreadable_file(tmp_path: Path) -> None:
    class Refusing:
        def open(self, path: str, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

    refused = SourceFile("a.txt", "a.txt", 1, Refusing())
    (reject,) = read_source(refused, SourceConfig("a.txt"), LIMIT)
    assert isinstance(reject, Reject) and (reject.id, reject.reason) == ("a.txt", "unreadable")
    assert "cannot be opened (Permission denied)" in reject.detail


def test_lines_count_and_forget_long_ones() -> None:
    data = b"ab\n\n" + b"x" * 50 + b"\nlast"
    for size in (1, 2, 7, 100):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert list(split_lines(iter(pieces), 10)) == [(1, 0, b"ab", 2), (2, 3, b"", 0), (3, 4, None, 50), (4, 55, b"last", 4)]
