"""The stage prepare, whole, on small real files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synpro.assets import AssetError
from synpro.corpus import gather, store
from synpro.corpus.files import CorpusError, SourceFile
from synpro.corpus.listing import Listing
from synpro.corpus.passages import PassageConfig
from synpro.corpus.readers import SourceConfig, read_source
from synpro.corpus.tokens import TokenizerConfig, load_tokenizer, read_tokens, split_documents
from synpro.records import Corpus
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.schema import build
from synpro.stages.prepare import PrepareConfig, prepare
from tests.stages.small_corpus import text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """120 documents, three copies, an empty row and a row that is no text, in two files."""
    folder = tmp_path / "data"
    folder.mkdir()
    records = [{"key": f"doc-{i}", "text": text(i)} for i in range(120)]
    records += [{"key": f"copy-{i}", "text": text(i)} for i in (3, 50, 70)]
    records += [{"key": "none", "text": "  "}, {"key": "number", "text": 5}, {"key": "doc-7", "text": "Another text."}]
    for name, part in (("a", records[::2]), ("b", records[1::2])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part))
    return folder


def config(data: Path, **settings: object) -> PrepareConfig:
    base = {
        "sources": (SourceConfig(str(data), id_column="key"),),
        "reference_share": 0.1,
        "heldout_share": 0.1,
        "passages": PassageConfig(max_words=40, target_words=30),
        "tokenizer": TokenizerConfig("train", 512),
    }
    return PrepareConfig(**{**base, **settings})  # type: ignore[arg-type]


def run(cfg: PrepareConfig, out: Path) -> tuple[Corpus, StepLogger]:
    logger = StepLogger(out)
    return prepare(cfg, ctx=StepContext.local(out, logger=logger)), logger


def files(out: Path) -> dict[str, str]:
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*")) if p.is_file()
    }


def test_a_larger_corpus_holds_the_smaller_one_and_reads_with_its_tokenizer(data: Path, tmp_path: Path) -> None:
    small, _ = run(config(data, train_words=600), tmp_path / "small")
    whole = config(data, train_words=1200)
    large = prepare(whole, base=small, ctx=StepContext.local(tmp_path / "large", 0))
    ids = [{d.id for d in store.read_documents(c.dir, "train")} for c in (small, large)]
    assert ids[0] < ids[1] and large.tokens["train"] > 1.5 * small.tokens["train"]
    for name in ("tokenizer/tokenizer.json", "tokens/heldout.bin", "tokens/reference.bin"):
        assert (small.dir / name).read_bytes() == (large.dir / name).read_bytes()
    with pytest.raises(CorpusError, match=r"train_words: 999,999 words are asked for, and the sources hold"):
        prepare(config(data, train_words=999_999), base=small, ctx=StepContext.local(tmp_path / "x", 0))
    with pytest.raises(CorpusError, match=r"must have the same prepare\.sources"):
        other = config(data, heldout_share=0.3)
        prepare(other, base=small, ctx=StepContext.local(tmp_path / "y", 0))


def test_everything_goes_somewhere(data: Path, tmp_path: Path) -> None:
    corpus, logger = run(config(data), tmp_path / "out")
    assert sum(corpus.documents.values()) == 120 and min(corpus.documents[s] for s in ("train", "reference", "heldout")) > 0
    assert logger.rejects.reasons() == {"duplicate": 3, "empty": 1, "not-text-column": 1, "duplicate-id": 1}
    assert "the same text as document doc-50" in {r.detail for r in logger.rejects.rows()}
    kept = {d.id: d.text for split in store.SPLITS for d in store.read_documents(corpus.dir, split)}
    assert len(kept) == 120 and set(kept.values()) - {text(i) for i in range(120)} <= {"Another text."}


def test_tokens_are_the_documents(data: Path, tmp_path: Path) -> None:
    corpus, _ = run(config(data), tmp_path / "out")
    tokenizer = load_tokenizer(corpus.dir / "tokenizer")
    assert (corpus.vocab_size, corpus.dtype) == (512, "uint16") and tokenizer.token_to_id("<|pad|>") == corpus.pad_id
    for split in ("train", "reference", "heldout"):
        tokens = read_tokens(corpus.dir / "tokens" / f"{split}.bin", corpus.dtype)
        assert len(tokens) == corpus.tokens[split] and tokens.dtype == np.uint16
        texts = [tokenizer.decode(d[:-1].tolist()) for d in split_documents(tokens, corpus.eos_id)]
        assert texts == [d.text for d in store.read_documents(corpus.dir, split)]


def test_no_generator_sees_reference_or_held_out_text(data: Path, tmp_path: Path) -> None:
    """Passages, all that a generator is ever given, are of train documents only."""
    corpus, _ = run(config(data, train_words=2000), tmp_path / "out")
    train = {d.id: d.text for d in store.read_documents(corpus.dir, "train")}
    passages = store.read_passages(corpus.dir)
    assert len(passages) == corpus.passages and {p.document for p in passages} == set(train)
    for id, whole in train.items():
        assert "".join(p.text for p in passages if p.document == id) == whole
    hidden = "\n".join(d.text for split in ("reference", "heldout") for d in store.read_documents(corpus.dir, split))
    assert hidden and not any(p.text.strip() in hidden for p in passages)


def test_other_held_out_text_changes_nothing_that_is_trained_on(data: Path, tmp_path: Path) -> None:
    one, _ = run(config(data), tmp_path / "one")
    hidden = {d.id for split in ("reference", "heldout") for d in store.read_documents(one.dir, split)}
    for file in data.iterdir():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        changed = [{**r, "text": f"{r['text']} Changed."} if r["key"] in hidden else r for r in rows]
        file.write_text("".join(json.dumps(r) + "\n" for r in changed))
    run(config(data), tmp_path / "two")
    before, after = files(tmp_path / "one"), files(tmp_path / "two")
    same = {name for name in before if before[name] == after[name]}
    assert {"passages.parquet", "tokenizer/tokenizer.json", "tokens/train.bin"} <= same
    assert not {"tokens/reference.bin", "tokens/heldout.bin", "documents.parquet"} & same


def test_splits_follow_ids_alone(data: Path, tmp_path: Path) -> None:
    first, _ = run(config(data), tmp_path / "one")
    with (data / "c.jsonl").open("w") as handle:
        handle.writelines(json.dumps({"key": f"new-{i}", "text": text(1000 + i)}) + "\n" for i in range(40))
    second, _ = run(config(data), tmp_path / "two")
    for split in ("train", "reference", "heldout"):
        before, after = ({d.id for d in store.read_documents(c.dir, split)} for c in (first, second))
        assert before < after and {id.split("-")[0] for id in after - before} == {"new"}


def test_ids_without_a_column_are_hashes_of_the_text(data: Path, tmp_path: Path) -> None:
    corpus, _ = run(config(data, sources=(SourceConfig(str(data)),)), tmp_path / "out")
    ids = {d.id: d.text for s in store.SPLITS for d in store.read_documents(corpus.dir, s)}
    assert all(id == hashlib.sha256(t.encode()).hexdigest()[:16] for id, t in ids.items()) and len(ids) == 121


def test_caps_say_what_they_leave_out(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, _ = run(config(data, train_words=1500), tmp_path / "out")
    words = sum(len(d.text.split()) for d in store.read_documents(corpus.dir, "train"))
    assert 1300 < words <= 1500 and sum(corpus.documents.values()) < 70  # the others are not written
    reported = capsys.readouterr().out
    assert f"train_words = 1,500: {words:,} words of " in reported and "the held-out split has documents of only" in reported
    corpus, _ = run(config(data, max_documents=60), tmp_path / "sixty")
    assert sum(corpus.documents.values()) == 60 and "stopped reading after 60 documents" in capsys.readouterr().out


def test_the_same_bytes_every_time_and_after_leftovers(data: Path, tmp_path: Path) -> None:
    run(config(data), tmp_path / "one")
    two = tmp_path / "two"
    (two / "tokens").mkdir(parents=True)
    (two / "tokens" / "old.bin").write_bytes(b"x")
    (two / "documents.parquet.partial").write_bytes(b"half")
    (two / "spool-000000000000").mkdir()
    (two / "spool-000000000000" / "00000.parquet").write_bytes(b"half")
    (two / "rejects.jsonl").write_text('{"id": "old"')
    (two / "metrics.jsonl").write_text("half a row")
    run(config(data), two)
    assert files(tmp_path / "one") == files(two)


def test_a_kill_at_any_moment_leaves_nothing_that_shows(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.stages.test_prepare import *\n"
        "print('up', flush=True); run(config(Path(sys.argv[1])), Path(sys.argv[2])); print('done', flush=True)"
    )
    run(config(data), tmp_path / "one")
    out = tmp_path / "two"
    for wait in (0.0, 0.03, 0.06, 0.1, 0.15, 0.2):
        command = [sys.executable, "-c", code, str(data), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
    run(config(data), out)
    assert files(tmp_path / "one") == files(out)


def test_a_full_disk_is_an_error_and_leaves_nothing_that_looks_done(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, resource; from pathlib import Path; from tests.stages.test_prepare import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try: run(config(Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "except CorpusError as e: print('refused:', e)"
    )
    command = [sys.executable, "-c", code, str(data), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "no space left on the disk" in done.stdout, done
    assert not (out / "documents.parquet").exists() and not (out / "tokens").exists()


def refused(message: str, cfg: PrepareConfig, out: Path, error: type[Exception] = CorpusError) -> None:
    with pytest.raises(error, match=message):
        run(cfg, out)
    assert not (out / "passages.parquet").exists()


def test_corpora_that_cannot_be_used(data: Path, tmp_path: Path) -> None:
    empty, few = tmp_path / "empty", tmp_path / "few"
    empty.mkdir()
    few.mkdir()
    (empty / "a.jsonl").write_text('{"text": ""}\n{"text": 1}\n')
    (few / "a.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
    out = tmp_path / "out"
    refused(r"prepare.sources: no corpus is named", config(data, sources=()), out)
    refused(
        r"2 of 2 rows and files cannot be used, nothing is left: 1 empty \(a.jsonl:1: .*1 not-text-column.*see rejects.jsonl",
        config(data, sources=(SourceConfig(str(empty)),)),
        out,
    )
    refused(
        r"too small to split: 2 documents gave . train, . reference and . held-out.*raise",
        config(data, sources=(SourceConfig(str(few)),)),
        out,
    )
    refused(r"train_words: no document fits into 5 words; the shortest has \d+", config(data, train_words=5), out)
    refused(
        r"prepare.sources.0: .*no such file or folder", config(data, sources=(SourceConfig(str(tmp_path / "nowhere")),)), out
    )
    refused(
        r"no column 'body'; the row has key, text; rename one, or set `text_column`",
        config(data, sources=(SourceConfig(str(data), text_column="body"),)),
        out,
    )
    (few / "b.jsonl").write_text("".join(json.dumps({"text": text(i), "n": i % 3}) + "\n" for i in range(30)))
    refused(r"27 of 30 rows repeat an id", config(data, sources=(SourceConfig(str(few / "b.jsonl"), id_column="n"),)), out)


def test_tokenizers_that_cannot_be_used(data: Path, tmp_path: Path) -> None:
    corpus, _ = run(config(data), tmp_path / "one")
    out = tmp_path / "out"

    def tokenizer(source: str, size: int) -> PrepareConfig:
        return config(data, tokenizer=TokenizerConfig(source, size))

    with pytest.raises(CorpusError, match=r"ids up to \d+, more than vocab_size = 300; set vocab_size = "):
        run(tokenizer(str(corpus.dir / "tokenizer"), 300), out)
    with pytest.raises(AssetError, match=r"prepare.tokenizer.source: .*no such file"):
        run(tokenizer(str(tmp_path / "none.json"), 300), out)
    again, _ = run(tokenizer(str(corpus.dir / "tokenizer"), 100_352), out)
    assert (
        again.dtype == "uint32"
        and again.tokens == corpus.tokens
        and (out / "tokens" / "train.bin").stat().st_size == 4 * again.tokens["train"]
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"reference_share": 0.0},
        {"heldout_share": 1.0},
        {"heldout_share": 0.995},
        {"train_words": 0},
        {"max_documents": 0},
        {"max_row_bytes": 0},
    ],
)
def test_bad_settings(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}: "):
        build(PrepareConfig, bad)


def test_importing_the_config_opens_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "datasets", "pyarrow", "numpy", "fsspec", "tokenizers"}
    code = f"import sys, synpro.stages.prepare; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "set()", done.stderr


def test_no_split_shares_a_group_with_another(data: Path, tmp_path: Path) -> None:
    with (data / "c.jsonl").open("w") as handle:
        for i in range(200):
            handle.write(json.dumps({"key": f"part-{i}", "text": text(1000 + i), "site": {"name": i % 40}}) + "\n")
    sources = (SourceConfig(str(data / "c.jsonl"), id_column="key", group_column="site.name"),)
    small, _ = run(config(data, sources=sources, document_words=40, train_words=600, sample_words=2500), tmp_path / "small")
    whole = config(data, sources=sources, document_words=40, train_words=1800, sample_words=2500)
    large = prepare(whole, base=small, ctx=StepContext.local(tmp_path / "large", 0))
    for corpus in (small, large):
        rows = [*store.read_rows(corpus.dir / "documents.parquet")]
        groups = {split: {row["group"] for row in rows if row["split"] == split} for split in store.SPLITS}
        assert sum(map(len, groups.values())) == len(set.union(*groups.values())) and min(map(len, groups.values())) > 1
        assert corpus.documents["train"] > len(groups["train"])  # several documents of a group
    ids = [{d.id for d in store.read_documents(c.dir, "train")} for c in (small, large)]
    assert ids[0] < ids[1] and small.documents["heldout"] == large.documents["heldout"]


def test_reading_stops_when_the_splits_have_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless source ends, and is not held in memory."""

    class Endless:
        """A file system with one file without an end, in which documents repeat after a while."""

        def open(self, path: str, mode: str) -> "Endless":
            self.read_bytes, self.number = 0, 0
            return self

        def read(self, size: int) -> bytes:
            self.number += 1
            block = b"".join(json.dumps({"text": text(self.number * 40 + i)}).encode() + b"\n" for i in range(40))
            self.read_bytes += len(block)
            assert self.read_bytes < 3_000_000, "reading does not stop"
            return block

        def __enter__(self) -> "Endless":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    endless = SourceFile("endless.jsonl", "endless.jsonl", 1 << 60, Endless())
    monkeypatch.setattr(gather, "find_files", lambda cfg, **_: Listing([endless]))
    corpus, _ = run(config(tmp_path, sources=(SourceConfig("endless.jsonl"),), train_words=1000), tmp_path / "out")
    words = sum(len(d.text.split()) for d in store.read_documents(corpus.dir, "train"))
    assert 950 < words <= 1000 and min(corpus.documents["reference"], corpus.documents["heldout"]) >= 20
    assert sum(corpus.documents.values()) < 200


def test_reading_goes_on_after_the_files_that_were_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "c.jsonl").write_text("".join(json.dumps({"key": f"c{i}", "text": text(i)}) + "\n" for i in range(100, 160)))
    monkeypatch.setattr(gather, "_PART_CHARACTERS", 1)  # each file is a part
    run(config(data, document_words=60), tmp_path / "one")
    read_files: list[str] = []

    def failing(file: SourceFile, *rest):
        read_files.append(file.name)
        for number, item in enumerate(read_source(file, *rest)):
            if file.name == "b.jsonl" and number == 20 and read_files.count("b.jsonl") == 1:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(gather, "read_source", failing)
    with pytest.raises(KeyboardInterrupt):
        run(config(data, document_words=60), tmp_path / "two")
    capsys.readouterr()
    run(config(data, document_words=60), tmp_path / "two")
    assert read_files == ["a.jsonl", "b.jsonl", "b.jsonl", "c.jsonl"]
    assert "1 files were read by an earlier attempt" in capsys.readouterr().out
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_long_documents_become_several_of_at_most_so_many_words(data: Path, tmp_path: Path) -> None:
    whole, _ = run(config(data), tmp_path / "whole")
    parts, _ = run(config(data, document_words=50), tmp_path / "parts")
    originals = {d.id: d.text for split in store.SPLITS for d in store.read_documents(whole.dir, split)}
    cut = {d.id: d.text for split in store.SPLITS for d in store.read_documents(parts.dir, split)}
    assert len(cut) > len(originals) and max(len(t.split()) for t in cut.values()) <= 50
    for id, original in originals.items():
        mine = [cut[key] for key in sorted(cut) if key == id or key.startswith(f"{id}.")]
        assert " ".join(" ".join(mine).split()) == " ".join(original.split())


def test_general_text_is_of_many_documents_and_little_of_it_stays_whole(data: Path, tmp_path: Path) -> None:
    sentence = "Part {} of {} has seven words. "

    def halves(name: str, words: list[int], limit: int, sentence: str = sentence, title: str = "") -> list[dict[str, Any]]:
        file = tmp_path / f"{name}.jsonl"
        long = (title + "".join(sentence.format(i, n) for i in range(count // 7)) for n, count in enumerate(words))
        file.write_text("".join(json.dumps({"text": article}) + "\n" for article in long))
        corpus, _ = run(config(data, general=(SourceConfig(str(file)),), general_words=limit), tmp_path / name)
        found = list(store.read_rows(corpus.dir / "general.parquet"))
        originals = [json.loads(line)["text"] for line in file.read_text().splitlines()]
        assert all(original.startswith(row["text"]) for original, row in zip(originals, found, strict=False))
        assert sum(row["words"] for row in found) <= limit
        return found

    many = halves("many", [2100] * 60, 4000)
    assert len(many) == 40 and {row["words"] for row in many} == {98} and sum(r["split"] == "general" for r in many) > 15
    assert {row["words"] for row in halves("near", [112] * 60, 4000)} == {98}, "as many sentences as fit"
    assert [row["words"] for row in halves("few", [700, 1400, 70], 4000)] == [700, 1400, 70]
    assert [row["words"] for row in halves("some", [700, 1400, 70], 1470)] == [700, 700, 70], "the longest are cut"
    titled = halves("titled", [2100] * 60, 4000, "part {} of {} has no full stop ", "A title\n")
    assert min(row["words"] for row in titled) >= 50 and len({row["split"] for row in titled}) == 2, "not titles alone"
