"""Real judges and a tiny real probe."""

from __future__ import annotations

from pathlib import Path

import pytest

from synpro.faithfulness.registry import open_judges
from synpro.judges.base import JudgesConfig
from synpro.judges.registry import JudgePool
from synpro.records import Probe, TrainedVerifier
from tests.rewards.reference import SOURCES

REFERENCE = (
    "The chapel on the rocks was built of wood and destroyed in a storm. The builder was lost. A stone tower is lit at night.",
    "Bees carry nectar to the hive. It is dried until little water is left, and then it keeps for a long time under wax.",
    "Letters were cast in metal and books were printed in many towns. Few of the copies survive in whole.",
    "Snow falls and melts. The ice begins to flow downhill, and it leaves a valley behind. The weight of the layers is great.",
)


@pytest.fixture(scope="session")
def judges() -> JudgePool:
    """The judges of the default config. They open when a test first asks for them."""
    return open_judges(JudgesConfig())


@pytest.fixture(scope="session")
def panel(verifier: TrainedVerifier) -> JudgePool:
    """The judges of a run: with the verifier it has trained."""
    return open_judges(JudgesConfig(), None, verifier)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Two tiny models a few steps of SGD apart: `before` has read the passages, `after` also the reference texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("probe")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([*SOURCES.values(), *REFERENCE], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
    shape = LlamaConfig(
        vocab_size=600,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(shape)

    def train(texts: tuple[str, ...], steps: int, rate: float) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        for step in range(steps):
            ids = torch.tensor([[0, *tokenizer(texts[step % len(texts)])["input_ids"]]])
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def save(name: str) -> Path:
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        return root / name

    train(tuple(SOURCES.values()), 60, 3e-3)
    before = save("before")
    train(REFERENCE, 12, 1e-3)
    return Probe(before, save("after"), "tiny")
