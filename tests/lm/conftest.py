"""A tokenizer and a pair of tiny models, really trained, shared by the tests of `lm`."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from synpro.lm.model_config import ModelConfig
from synpro.lm.training_config import HardwareConfig, OptimizerConfig
from tests.conftest import made_once

TINY = ModelConfig(n_layers=2, d_model=64, n_heads=2, hidden_size=128)
LENGTH = 64
TEXT = (
    "the river runs past old stone mills and slow green fields where herons stand in shallow water "
    "while farmers count their sheep before winter storms close every mountain road again"
)
WORDS = TEXT.split()


def sentences(seed: int, count: int, low: int = 3, high: int = 40) -> list[str]:
    """Texts of `low` to `high` words in a weakly predictable order."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        at = rng.randrange(len(WORDS))
        words = []
        for _ in range(rng.randint(low, high)):
            words.append(WORDS[at])
            at = (at + 1 if rng.random() < 0.8 else rng.randrange(len(WORDS))) % len(WORDS)
        texts.append(" ".join(words) + ".")
    return texts


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from synpro.corpus.tokens import TokenizerConfig, save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    cfg = TokenizerConfig(source="train", vocab_size=320)
    save_tokenizer(train_tokenizer(sentences(0, 200), cfg), folder, cfg)
    return folder


@pytest.fixture(scope="session")
def special_ids(tokenizer_folder: Path) -> tuple[int, int]:
    """The ids of end-of-text and padding."""
    from synpro.corpus.tokens import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    eos, pad = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|pad|>")
    assert eos is not None and pad is not None
    return eos, pad


@pytest.fixture(scope="session")
def stream_tokens(tokenizer_folder: Path, special_ids: tuple[int, int]) -> np.ndarray:
    from synpro.corpus.tokens import encode_documents, load_tokenizer

    return np.concatenate(encode_documents(load_tokenizer(tokenizer_folder), sentences(1, 300), special_ids[0], "uint16"))


def tiny_module(*, steps: int = 20, batch: int = 8, lr: float = 3e-3, warmup: int = 0, seed: int = 5, compile: bool = False):
    from synpro.lm import trainer

    return trainer.build_module(
        TINY,
        OptimizerConfig(learning_rate=lr),
        HardwareConfig(micro_batch_size=4, compile=compile),
        vocab_size=320,
        sequence_length=LENGTH,
        batch_size=batch,
        scheduler=trainer.lr_schedule(warmup_steps=warmup, steps=steps, decay_fraction=0.0),
        seed=seed,
    )


@pytest.fixture(scope="session")
def pair(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, special_ids: tuple[int, int], stream_tokens: np.ndarray
) -> tuple[Path, Path]:
    """Two exported models, some training steps apart."""
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import TokenStream
    from synpro.lm.callbacks import PretrainCallback

    def make(out: Path) -> None:
        module = tiny_module()
        for name in ("before", "after"):
            stream = TokenStream(
                lambda n: np.roll(stream_tokens, 100 * n),
                folder=out / "data",
                sequence_length=LENGTH,
                batch_size=8,
                dtype="uint16",
            )
            trainer.train(module, stream, PretrainCallback(), steps=10, work_dir=out / "olmo")
            eos, pad = special_ids
            checkpoint.export(module, out / name, model=TINY, tokenizer=tokenizer_folder, context=LENGTH, eos=eos, pad=pad)

    out = made_once(tmp_path_factory, "pair", make)
    return out / "before", out / "after"
