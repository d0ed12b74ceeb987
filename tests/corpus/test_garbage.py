"""Whatever a person's files hold: nothing stops the reading, nothing disappears. Generated files, counted."""

import gzip
import json
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from synpro.commands.texts import documents_of
from synpro.corpus import store
from synpro.corpus.prompt_completion import read_prompt_completions
from synpro.corpus.readers import SourceConfig, SourceRow, find_files, read_source
from synpro.corpus.tokens import TokenizerConfig
from synpro.runner.context import StepContext
from synpro.runner.rejects import RejectLog
from synpro.stages.prepare import PrepareConfig, prepare
from tests.garbage import LINE, ROW
from tests.stages.small_corpus import text

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
FILES = st.dictionaries(
    st.sampled_from(
        [
            "a.jsonl",
            "b.JSON",
            "c.json.gz",
            "d.txt",
            "e.parquet",
            "f.arrow",
            "g.xml",
            "h",
            "i.md.xz",
            "_j.jsonl",
            "k.csv",
            "l.bz2",
        ]
    ),
    st.one_of(
        st.binary(max_size=60),
        st.lists(LINE, max_size=5).map(b"\n".join),
        st.lists(ROW, max_size=4).map(lambda rows: json.dumps(rows).encode()),
        st.lists(LINE, max_size=4).map(lambda lines: gzip.compress(b"\n".join(lines))[:-3]),
        st.sampled_from(
            [b"PAR1", b"ARROW1\0\0", b"\x28\xb5\x2f\xfd\0", b"<mediawiki><page><title>x</page>", b"\xff\xfea\0", b"\x1f\x8b"]
        ),
    ),
    max_size=5,
)


def folder(files: dict[str, bytes]) -> Path:
    root = Path(tempfile.mkdtemp())
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


@QUICK
@given(lines=st.lists(LINE, min_size=1, max_size=12))
@example(lines=[b'{"text": "\\ud800"}', b'{"text": "x", "id": [[1]]}', b'{"id": "\\udfff", "text": "y"}'])
def test_rows_in_are_rows_out_and_rejects(lines: list[bytes]) -> None:
    # a line that begins with a bracket makes a file an array, whose rows are counted otherwise
    root = folder({"a.jsonl": b'{"text": "first", "id": "first"}\n' + b"\n".join(lines) + b"\n"})
    cfg = SourceConfig(str(root), id_column="id")
    (file,) = find_files(cfg, slot="s").files
    for place in (file, *find_files(SourceConfig(str(root / "a.jsonl")), slot="s").files):
        items = list(read_source(place, cfg, 1000))
        assert len(items) == 1 + len(lines)
        for item in items:
            f"{item.id}{item.source}{item.text}{getattr(item, 'detail', '')}".encode()
    assert len(documents_of(root)) == 1 + len(lines)
    assert sum(1 for _ in read_prompt_completions(root)) <= 1 + len(lines)
    shutil.rmtree(root)


@QUICK
@given(files=FILES)
def test_files_in_are_files_read_and_rejects(files: dict[str, bytes]) -> None:
    root = folder(files | {"good.jsonl": b'{"text": "good"}\n'})
    found = find_files(SourceConfig(str(root)), slot="s")
    assert sorted([f.name for f in found.files] + [r.id for r in found.rejects]) == sorted([*files, "good.jsonl"])
    for file in found.files:
        items = list(read_source(file, SourceConfig(str(root)), 1000))
        assert items, f"{file.name} disappeared"
        for item in items:
            assert isinstance(item, SourceRow) or (item.reason and item.detail and item.source.startswith(file.name))
    list(read_prompt_completions(root))
    shutil.rmtree(root)


@QUICK
@given(rows=st.lists(st.tuples(st.none() | st.text(max_size=9), st.none() | st.floats() | st.integers(0, 9)), max_size=9))
def test_rows_of_columnar_files(rows: list[tuple[str | None, float | None]]) -> None:
    rows = [(None if t is None else t.encode("utf-8", "replace").decode(), None if n is None else float(n)) for t, n in rows]
    root = Path(tempfile.mkdtemp())
    columns = {"text": pa.array([t for t, _ in rows], pa.string()), "id": pa.array([n for _, n in rows], pa.float64())}
    pq.write_table(pa.table(columns), root / "a.parquet")
    cfg = SourceConfig(str(root), id_column="id")
    (file,) = find_files(cfg, slot="s").files
    assert len(list(read_source(file, cfg, 1000))) == max(1, len(rows))
    shutil.rmtree(root)


@settings(QUICK, max_examples=8, phases=[Phase.generate])
@given(lines=st.lists(LINE, min_size=1, max_size=12), files=FILES)
def test_prepare_counts_every_row(lines: list[bytes], files: dict[str, bytes]) -> None:
    good = b"".join(json.dumps({"text": text(i), "id": f"good-{i}"}).encode() + b"\n" for i in range(40))
    root = folder({f"z{name}": content for name, content in files.items()} | {"a.jsonl": good + b"\n".join(lines) + b"\n"})
    out = Path(tempfile.mkdtemp())
    cfg = PrepareConfig(
        (SourceConfig(str(root)),), reference_share=0.2, heldout_share=0.2, max_rejected=1.0, max_row_bytes=4000,
        tokenizer=TokenizerConfig("train", 300),
    )  # fmt: skip
    corpus = prepare(cfg, ctx=StepContext.local(out))
    rejects = list(RejectLog(out / "rejects.jsonl").rows())
    found = find_files(cfg.sources[0], slot="s")
    items = [item for file in found.files for item in read_source(file, cfg.sources[0], cfg.max_row_bytes)]
    assert len(found.rejects) + len(items) == sum(corpus.documents.values()) + len(rejects)
    kept = {d.id for split in store.SPLITS for d in store.read_documents(corpus.dir, split)}
    assert len(kept) == sum(corpus.documents.values()) >= 40
    shutil.rmtree(out)
    shutil.rmtree(root)
