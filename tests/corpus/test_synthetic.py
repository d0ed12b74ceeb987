"""Synthetic documents on disk, and the mixture made of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from synpro.corpus import store, synthetic
from synpro.corpus.epochs import MixtureEpochs
from synpro.corpus.mixture import MixtureConfig, subsample
from synpro.corpus.synthetic import read_column, shard_of_texts
from synpro.corpus.tokens import load_tokenizer
from synpro.lm.batches import TokenStream
from synpro.records import Corpus, Shard
from tests.stages.small_corpus import sentences, small_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def shards(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Two shards, of 20 documents with 1 and with 3 versions."""
    folder, texts = tmp_path_factory.mktemp("shards"), sentences(5, 80)
    return [
        shard_of_texts(folder / "a", [(f"train-{i}", texts[i]) for i in range(20)], corpus, "rephrase"),
        shard_of_texts(folder / "b", [(f"train-{i % 20}", texts[20 + i]) for i in range(60)], corpus, "reformat"),
    ]


def test_texts_are_encoded_by_the_step_that_made_them_and_by_no_one_else(corpus, shards, monkeypatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("a synthetic text is encoded again")

    tokenizer = load_tokenizer(corpus.dir / "tokenizer")
    monkeypatch.setattr(synthetic, "write_tokens", refused)
    documents = MixtureEpochs(MixtureConfig(), corpus, shards, 0).synthetic
    assert tokenizer.decode_batch([d.tolist() for d in documents]) == sentences(5, 80)
    assert isinstance(documents[30].base, np.memmap | np.ndarray) and documents[30].base is not None, "a view of a mapped file"


def test_a_shard_of_another_tokenizer_is_refused(corpus, shards) -> None:
    with pytest.raises(RuntimeError, match="another tokenizer"):
        MixtureEpochs(MixtureConfig(), corpus, [replace(shards[0], tokenizer="other")], 0)


def test_a_cap_on_synthetic_tokens_is_even_over_sources_and_the_same_for_every_seed(corpus, shards) -> None:
    cap = sum(s.text_tokens for s in shards) // 2
    capped = MixtureConfig(synthetic_tokens=cap)
    one, other = (MixtureEpochs(capped, corpus, shards, seed) for seed in (0, 1))
    longest = max(map(len, one.synthetic))
    assert abs(sum(map(len, one.synthetic)) - cap) <= longest / 2
    assert [d.tolist() for d in one.synthetic] == [d.tolist() for d in other.synthetic]
    assert not np.array_equal(one(1), other(1))
    ids, sources = read_column(shards, "id"), read_column(shards, "document")
    lengths = np.full(len(ids), 10)
    taken = subsample(ids, sources, lengths, 10 * 50)
    assert len(taken) == 50 and list(taken) == sorted(taken)
    assert set(Counter(sources[i] for i in taken).values()) == {2, 3}, "each source gives two before one gives three"
    assert 5 < sum("rephrase" in ids[i] for i in taken) < 20, "versions of all shards are drawn"
    assert len(MixtureEpochs(MixtureConfig(synthetic_tokens=10**9), corpus, shards, 0).synthetic) == 80


@pytest.mark.parametrize("mixture", [{}, {"organic_share": 0.3}, {"packing": "megadocs"}, {"synthetic_tokens": 900}])
def test_a_stream_that_begins_late_builds_no_earlier_epoch(corpus, shards, tmp_path: Path, mixture: dict) -> None:
    epochs = MixtureEpochs(MixtureConfig(**mixture), corpus, shards, 3)
    built: list[int] = []

    def stream(name: str, **jump: object) -> TokenStream:
        built.clear()
        return TokenStream(
            lambda n: built.append(n) or epochs(n),
            folder=tmp_path / name,
            sequence_length=32,
            batch_size=8,
            dtype=corpus.dtype,
            **jump,
        )

    assert [epochs.length(n) for n in (1, 2)] == [len(epochs(n)) for n in (1, 2)]
    late = 4 * epochs.length(1) // (32 * 8)
    want = stream("walked")(late).input_B_T
    assert len(built) > 3
    assert np.array_equal(stream("jumped", length=epochs.length)(late).input_B_T, want)
    assert len(built) <= 2


def test_all_texts_of_a_row_count_for_what_is_held_before_it_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "_GROUP_BYTES", 1000)
    store.write_rows(tmp_path / "a.parquet", store.REWRITES, ({"id": str(i), "answer": 600 * "x"} for i in range(6)))
    written = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert max(written.row_group(i).num_rows for i in range(written.num_row_groups)) == 2
