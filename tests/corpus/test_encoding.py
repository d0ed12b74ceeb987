"""Texts to ids over several processes: the same bytes, no process left behind, memory that does not grow with the corpus."""

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tokenizers import Tokenizer

from benchmarks.corpus_scale import texts as made
from benchmarks.corpus_scale import write_corpus
from synpro.corpus import encoding
from synpro.corpus.documents import TokenizedDocuments
from synpro.corpus.files import CorpusError
from synpro.corpus.gather import Gatherer, GatherSettings
from synpro.corpus.mixture import MixtureConfig, build_epoch, plan_epoch, repeat_documents
from synpro.corpus.readers import SourceConfig, find_files, read_source
from synpro.corpus.splits import DocumentIndex
from synpro.corpus.tokens import encode_documents, load_tokenizer, save_tokenizer, write_tokens
from synpro.corpus.tokens import train_tokenizer as trained
from synpro.runner.context import StepContext
from synpro.runner.launch import MachineConfig, threads
from synpro.runner.logger import StepLogger
from synpro.stages.prepare import _ray_encoder
from tests.corpus.texts import CFG, TEXTS, TRICKY

ROOT = Path(__file__).parents[2]
MANY = [text for i in range(6) for text in (*TRICKY, *TEXTS, f"{i} <|endoftext|>" * 300)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(trained(TEXTS, CFG), folder, CFG)
    return load_tokenizer(folder)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and beginnings so small that a few texts are many."""
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 700)
    monkeypatch.setattr(encoding, "MIN_POOL_CHARS", 1500)


def pool(parent: int | None = None) -> list[psutil.Process]:
    """The processes of the pool that a process, this one by default, has started."""
    return [p for p in psutil.Process(parent).children() if "spawn_main" in " ".join(p.cmdline())]


def test_the_bytes_are_the_same_for_any_number_of_processes(tokenizer: Tokenizer, tmp_path: Path, small: None) -> None:
    eos = tokenizer.token_to_id(CFG.eos_token)
    files = [tmp_path / f"{n}.bin" for n in (1, 2, 3)]
    totals = [write_tokens(f, iter(MANY), tokenizer, eos, "uint16", n) for n, f in enumerate(files, start=1)]
    alone = [np.array([*tokenizer.encode(t, add_special_tokens=False).ids, eos], "<u2").tobytes() for t in MANY]
    assert [f.read_bytes() for f in files] == [b"".join(alone)] * 3
    assert totals == [files[0].stat().st_size // 2] * 3 and not pool()
    for n, few in enumerate(([], [""], MANY[:1], TEXTS[:33])):  # nothing; no text; less than a batch; as much as is done alone
        a, b = (write_tokens(tmp_path / f"{n}-{p}.bin", few, tokenizer, eos, "uint32", p) for p in (1, 2))
        assert a == b and (tmp_path / f"{n}-1.bin").read_bytes() == (tmp_path / f"{n}-2.bin").read_bytes()


def test_the_workers_of_ray_give_the_same_bytes(tokenizer: Tokenizer, tmp_path: Path, small: None) -> None:
    eos = tokenizer.token_to_id(CFG.eos_token)
    machine = MachineConfig(threads=1, launcher="ray", workers=2)
    remote = _ray_encoder(StepContext(tmp_path, StepLogger(tmp_path), 0, workers=machine))
    assert remote is not None
    here, there = tmp_path / "here.bin", tmp_path / "there.bin"
    assert write_tokens(here, MANY, tokenizer, eos, "uint16") == write_tokens(
        there, MANY, tokenizer, eos, "uint16", remote=remote
    )
    assert here.read_bytes() == there.read_bytes()


def test_a_small_corpus_starts_no_process(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ProcessPoolExecutor", None)
    assert write_tokens(tmp_path / "t.bin", MANY, tokenizer, 0, "uint16", 4) > 0


def test_a_process_that_crashes_is_an_error_that_says_what_to_do(tokenizer: Tokenizer, tmp_path: Path, small: None) -> None:
    def deadly() -> Iterator[str]:
        for number, text in enumerate(MANY):
            if number == len(MANY) // 2:
                pool()[0].kill()
            yield text

    with pytest.raises(CorpusError, match=r"prepare\.tokenizer: .*too little memory, .*lower machine\.threads"):
        write_tokens(tmp_path / "t.bin", deadly(), tokenizer, 0, "uint16", 2)
    assert not pool() and not (tmp_path / "t.bin").exists()


def test_no_process_is_left_when_reading_fails(tokenizer: Tokenizer, tmp_path: Path, small: None) -> None:
    def failing() -> Iterator[str]:
        yield from MANY
        assert len(pool()) == 2
        raise CorpusError("the source is gone")

    with pytest.raises(CorpusError, match="the source is gone"):
        write_tokens(tmp_path / "t.bin", failing(), tokenizer, 0, "uint16", 2)
    assert not pool()


def test_no_process_outlives_one_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import itertools; from pathlib import Path; from tests.corpus.test_encoding import *\n"
        "encoding.BATCH_CHARACTERS = encoding.MIN_POOL_CHARS = 2000\n"
        f"write_tokens(Path({str(tmp_path / 't.bin')!r}), itertools.cycle(TEXTS), trained(TEXTS, CFG), 0, 'uint16', 2)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        there: list[psutil.Process] = []
        until = time.monotonic() + 120
        while len(there) < 2 and time.monotonic() < until:
            time.sleep(0.05)
            there = pool(process.pid)
        process.kill()
    assert len(there) == 2 and not psutil.wait_procs(there, timeout=60)[1]


def test_a_step_tokenizes_with_the_threads_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (("3", 3), ("", 1), ("2,4", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert threads() == expected


def test_documents_are_views_in_order(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BATCH_TEXTS", 3)
    found = encode_documents(tokenizer, iter(MANY), 0, "uint16")
    assert len(found) == len(MANY) == len(found.lengths) and sum(found.lengths) == len(found.tokens)
    assert [d.tolist() for d in found] == [[*tokenizer.encode(t, add_special_tokens=False).ids, 0] for t in MANY]
    assert found[-1].tolist() == found[len(MANY) - 1].tolist() and np.shares_memory(found[5], found.tokens)
    assert [d.tolist() for d in found[2:4]] == [found[2].tolist(), found[3].tolist()]
    with pytest.raises(IndexError):
        found[len(MANY)]
    assert len(encode_documents(tokenizer, [], 0, "uint16")) == 0


def test_an_epoch_takes_few_bytes_per_document_beside_its_tokens() -> None:
    count, length = 20_000, 12
    sides = [TokenizedDocuments(np.arange(count * length, dtype="<u2"), np.full(count, length)) for _ in range(2)]
    tracemalloc.start()
    plan = plan_epoch(sides[0].lengths, sides[1].lengths, MixtureConfig(0.5), 0)
    epoch = build_epoch(repeat_documents(*sides, plan), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(epoch) == 2 * count * length and (peak - epoch.nbytes) / (2 * count) < 80  # a view alone would be 112


def test_reading_keeps_little_of_each_document(tmp_path: Path, record_property: Callable[[str, str], None]) -> None:
    source = tmp_path / "many.jsonl"
    source.write_text("".join(f'{{"text": "Document {i} of river and stone."}}\n' for i in range(20_000)))
    settings = GatherSettings((SourceConfig(str(source)),), 10**6, 0.1, None, None, None)
    index, stored, logger = DocumentIndex(0.01, 0.01), [], StepLogger(tmp_path)
    gatherer, (file,) = Gatherer(settings, index, logger), find_files(settings.sources[0], slot="s").files
    tracemalloc.start()
    rows = (row for item in read_source(file, settings.sources[0], 10**6) for row in gatherer.documents_of(item))
    for number, _ in enumerate(rows, start=1):
        if number % 10_000 == 0:
            stored.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    each = (stored[1] - stored[0]) / 10_000
    record_property("measured", f"prepare keeps {each:.0f} bytes of each document")
    assert len(index) == 20_000 and each < 400  # both tables double in between


def test_the_corpus_of_the_benchmark_is_the_same_every_time(tmp_path: Path) -> None:
    about = [write_corpus(tmp_path / f"{i}.jsonl.gz", 1200, seed) for i, seed in enumerate((3, 3, 4))]
    one, same, other = ((tmp_path / f"{i}.jsonl.gz").read_bytes() for i in range(3))
    assert one == same != other and about[0] == about[1]
    assert about[0]["rows"] == 1200 and about[0]["copies"] > 5 and about[0]["text_bytes"] > 1200 * 100
    assert len({*made(50, 0)}) == 50
