"""Readers on good and bad files of every format."""

import bz2
import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from synpro.corpus.files import CorpusError, SourceFile, split_lines
from synpro.corpus.readers import SourceConfig, SourceRow, find_files, read_source
from synpro.runner.rejects import Reject

LIMIT = 1_000_000


def rows(path: Path | str, limit: int = LIMIT, **settings: str) -> tuple[list[SourceRow], list[Reject]]:
    cfg = SourceConfig(str(path), **settings)  # type: ignore[arg-type]
    items = [
        item for file, reader in find_files(cfg, slot="prepare.sources.0") for item in read_source(file, reader, cfg, limit)
    ]
    return [i for i in items if isinstance(i, SourceRow)], [i for i in items if isinstance(i, Reject)]


def jsonl(*records: object) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in records)


GOOD = jsonl(*({"text": f"text number {i} é", "key": i} for i in range(2000)))


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)]
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


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(GOOD)
    assert [(b.reason, "cannot be decompressed" in b.detail) for b in rows(tmp_path)[1]] == [("damaged", True)]


def test_bad_json_rows_are_rejected_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "first"}\n{"text": "cut\n\n[1]\n{"text": 3}\n{"text": null}\n{"text": " \\n"}\n{"other": "x"}\n'
        b'{"text": "caf\xe9"}\n{"text": "half \\ud800"}\n{"text": "' + b"x" * 2000 + b'"}\n{"text": "last"}'
    )
    good, bad = rows(path, limit=1000)
    assert [r.text for r in good] == ["first", "last"]
    assert [(b.reason, b.source) for b in bad] == [
        ("invalid-json", "a.jsonl:2"), ("invalid-json", "a.jsonl:4"), ("not-text", "a.jsonl:5"), ("not-text", "a.jsonl:6"),
        ("empty", "a.jsonl:7"), ("no-column", "a.jsonl:8"), ("invalid-utf8", "a.jsonl:9"), ("invalid-utf8", "a.jsonl:10"),
        ("too-large", "a.jsonl:11"),
    ]  # fmt: skip
    offset = path.read_bytes().index(b"\xe9")
    assert f"byte {offset - 3} (0xe9)" in bad[6].detail or f"byte {offset} (0xe9)" in bad[6].detail
    assert bad[6].text == '{"text": "caf\\xe9"}' and "2,012 bytes, more than max_row_bytes = 1,000" in bad[8].detail


def test_ids_must_be_text_or_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        jsonl({"text": "a", "id": 1}, {"text": "b", "id": 1.5}, {"text": "c", "id": "x"}, {"text": "d", "id": True})
    )
    good, bad = rows(tmp_path, id_column="id")
    assert [r.id for r in good] == ["1", "x"] and [b.reason for b in bad] == ["bad-id", "bad-id"]


def test_a_wrong_column_names_the_columns_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(*({"content": "x", "url": "y"} for _ in range(3))))
    with pytest.raises(CorpusError, match=r"a.jsonl: no column 'text'; it has content, url; set `text_column`"):
        rows(tmp_path)
    with pytest.raises(CorpusError, match=r"no column 'key'; it has content, url; set `id_column`"):
        rows(tmp_path, text_column="content", id_column="key")
    pq.write_table(pa.table({"content": ["x"], "n": [1]}), tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match=r"b.parquet: no column 'text'; it has content, n; set `text_column`"):
        rows(tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match=r"column 'n' is int64, not text"):
        rows(tmp_path / "b.parquet", text_column="n")


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
    with pytest.raises(CorpusError, match=r"a.parquet: not a complete Parquet file"):
        rows(tmp_path)


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
    assert [(r.source, r.text) for r in good] == [("a.txt", "mark"), ("c.txt.gz", "packed"), ("deep/b.txt", "é\r\n e\u0301\t ")]
    assert [(b.source, b.reason) for b in bad] == [("bad.txt", "invalid-utf8"), ("big.txt", "too-large")]
    assert "byte 3 (0xe9)" in bad[0].detail
    assert rows(tmp_path / "a.txt")[0] == [SourceRow(None, "mark", "a.txt")]
    assert [r.text for r in rows(tmp_path / "*.md", format="text")[0]] == ["no"]


def test_hub_data_sets_are_streamed(tmp_path: Path) -> None:
    """A folder in the hub's layout: `datasets` opens it in the same way as a repository of the hub."""
    (tmp_path / "train.jsonl").write_bytes(jsonl({"body": "one", "n": 1}, {"body": "", "n": 2}, {"body": "three", "n": 3}))
    good, bad = rows(f"hf:{tmp_path}", text_column="body", id_column="n")
    assert [(r.id, r.text) for r in good] == [("1", "one"), ("3", "three")] and [b.reason for b in bad] == ["empty"]
    with pytest.raises(CorpusError, match=r"no column 'text'; it has body, n; set `text_column`"):
        rows(f"hf:{tmp_path}")
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
    with pytest.raises(CorpusError, match=r"no file there that a reader knows; there are corpus.jsonl"):
        rows(tmp_path / "*.parquet")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(CorpusError, match=r"a.csv: no reader for this suffix"):
        rows(tmp_path / "a.csv")
    with pytest.raises(CorpusError, match=r"prepare.sources.0: nope://x"):
        rows("nope://x")


def test_unreadable_file(tmp_path: Path) -> None:
    class Refusing:
        def open(self, path: str, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

    with pytest.raises(CorpusError, match=r"a.txt: cannot be read \(Permission denied\)"):
        next(SourceFile("a.txt", "a.txt", 1, Refusing()).chunks())


def test_lines_count_and_forget_long_ones() -> None:
    data = b"ab\n\n" + b"x" * 50 + b"\nlast"
    for size in (1, 2, 7, 100):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert list(split_lines(iter(pieces), 10)) == [(1, 0, b"ab", 2), (2, 3, b"", 0), (3, 4, None, 50), (4, 55, b"last", 4)]
