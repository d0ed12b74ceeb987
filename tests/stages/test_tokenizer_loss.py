"""Prepare refuses a tokenizer that loses some of the text, wherever in the corpus or the general text that stands."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from synpro.corpus.files import CorpusError
from synpro.corpus.readers import SourceConfig
from synpro.corpus.tokens import TokenizerConfig
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.stages.prepare import PrepareConfig, prepare
from tests.stages.small_corpus import text

CHINESE = "老港口的看守人每天傍晚都数船，并写下它们的名字。"


@pytest.fixture
def english(tmp_path: Path) -> str:
    """A tokenizer of ASCII alone, without a token for what it does not know."""
    letters = ["<|endoftext|>", "<|pad|>", "\u2581", *map(chr, range(33, 127))]
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.add_special_tokens(letters[:2])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def run(tmp_path: Path, tokenizer: str, tail: str = "", general: str = "") -> None:
    def source(name: str, texts: list[str]) -> tuple[SourceConfig, ...]:
        (tmp_path / name).write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        return (SourceConfig(str(tmp_path / name)),)

    own = [text(i) + tail for i in range(60)]
    others = [f"{general or 'Another text.'} {i}" for i in range(40)]
    cfg = PrepareConfig(
        source("own.jsonl", own), source("general.jsonl", others), reference_share=0.1, heldout_share=0.1,
        tokenizer=TokenizerConfig(tokenizer, 512),
    )  # fmt: skip
    out = tmp_path / "out"
    prepare(cfg, ctx=StepContext.local(out, logger=StepLogger(out)))


def test_what_is_lost_at_the_end_of_long_documents_is_found(
    tmp_path: Path, english: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synpro.stages.prepare.SAMPLE_CHARACTERS", 300_000)  # of millions
    run(tmp_path, english)
    with pytest.raises(CorpusError, match=r"loses .* of the characters of .* documents of prepare\.sources"):
        run(tmp_path, english, tail=" Then he went home." * 2000 + CHINESE * 20)


def test_what_is_lost_of_general_text_is_found(tmp_path: Path, english: str) -> None:
    with pytest.raises(CorpusError, match=r"loses .* of the characters of 40 documents of prepare\.general"):
        run(tmp_path, english, general=CHINESE)
