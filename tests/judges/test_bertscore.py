"""Our BERTScore against the `bert-score` package: the same encoder, the same texts, every number.

The package runs unchanged with the installed transformers, but for two things: an empty text makes it call
`build_inputs_with_special_tokens`, which tokenizers of transformers 5 no longer have (there is none here), and a tokenizer
without `model_max_length` overflows (the small ones here have it).

It is asked one pair at a time. In a batch it pads, and padding has similarity 0: a token whose best match is negative then
counts 0 or that negative number, depending on the lengths of its neighbours (two of these pairs, by up to 4e-3).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from synpro.assets import model_folder
from synpro.judges.base import JudgesConfig
from synpro.judges.encoder import BertScoreEncoder
from tests.judges.pairs import LONG, PAIRS
from tests.rewards.reference import REPHRASED, SOURCES

Pairs = Sequence[tuple[str, str]]


def theirs(folder: Path, layer: int, pairs: Pairs = PAIRS) -> list[tuple[float, ...]]:
    from bert_score import BERTScorer

    candidates, references = map(list, zip(*pairs, strict=True))
    scorer = BERTScorer(model_type=str(folder), num_layers=layer, device="cpu", nthreads=0)
    return list(zip(*(column.tolist() for column in scorer.score(candidates, references, batch_size=1)), strict=True))


def ours(encoder: BertScoreEncoder, pairs: Pairs = PAIRS) -> list[tuple[float, ...]]:
    candidates, references = map(list, zip(*pairs, strict=True))
    alignments = encoder.align(candidates, references)
    return [(a.precision, a.recall, a.f1) for a in alignments]


def largest_difference(a: list[tuple[float, ...]], b: list[tuple[float, ...]]) -> float:
    return max(abs(x - y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def test_there_are_fifty_pairs_and_some_are_long() -> None:
    assert len(PAIRS) == len(set(PAIRS)) >= 50
    encoder = BertScoreEncoder(model_folder(JudgesConfig().encoder.model, slot="judges.encoder"))
    assert 400 < max(len(e) for e in encoder.embed([candidate for candidate, _ in PAIRS])) <= encoder.window


@pytest.mark.parametrize("layer", [None, 4])
def test_minilm_agrees_with_the_package(layer: int | None) -> None:
    folder = model_folder(JudgesConfig().encoder.model, slot="judges.encoder")
    mine = ours(BertScoreEncoder(folder, layer=layer))
    assert largest_difference(mine, theirs(folder, layer or 6)) < 1e-4
    f1 = [f for _, _, f in mine]
    assert max(f1) > 0.99 and min(f1) < 0.4  # the pairs are not all alike, so that agreeing says something


def tokenizer(kind: str):
    """A byte-level tokenizer of DeBERTa's or RoBERTa's class, trained on the texts at hand."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import DebertaTokenizer, RobertaTokenizer

    special = {
        "deberta": ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"],
        "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    }
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special[kind], initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([*SOURCES.values(), *REPHRASED.values()], trainer)
    table = json.loads(raw.to_str())["model"]
    merges = [tuple(m) for m in table["merges"]]
    return {"deberta": DebertaTokenizer, "roberta": RobertaTokenizer}[kind](
        vocab=table["vocab"], merges=merges, model_max_length=514
    )


@pytest.fixture(params=["deberta", "roberta"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The paper's encoder and its cousin in small, with random weights: 4 layers, 512 tokens."""
    import torch
    from transformers import DebertaConfig, DebertaModel, RobertaConfig, RobertaModel

    torch.manual_seed(0)
    size = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
    model: torch.nn.Module
    if request.param == "deberta":
        relative = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"]}
        model = DebertaModel(DebertaConfig(**size, **relative, type_vocab_size=0, max_position_embeddings=512, pad_token_id=0))
    else:
        model = RobertaModel(RobertaConfig(**size, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1))
    for parameter in model.parameters():
        parameter.data.mul_(4.0)  # the default initialisation makes all texts alike
    model.save_pretrained(tmp_path)
    tokenizer(request.param).save_pretrained(tmp_path)
    return tmp_path


def test_other_kinds_of_encoder_and_a_chosen_layer_agree_with_the_package(small: Path) -> None:
    encoder = BertScoreEncoder(small, layer=3)
    assert encoder.window == 510
    pairs = [pair for pair in PAIRS if pair not in LONG]  # these tokenizers know few words: long texts would not fit
    mine = ours(encoder, pairs)
    assert largest_difference(mine, theirs(small, 3, pairs)) < 1e-4
    assert largest_difference(mine[:5], theirs(small, 4, pairs[:5])) > 1e-3  # the layer matters
    assert len(encoder.embed([" ".join(SOURCES.values()) * 3])[0]) > 600  # windows of the right size for its positions


def test_a_layer_that_is_not_there_is_refused(small: Path) -> None:
    with pytest.raises(ValueError, match="encoder_layer: the encoder has layers 1 to 4, not 5"):
        BertScoreEncoder(small, layer=5)
