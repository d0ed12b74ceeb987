"""A text's loss and influence depend on the text and the models alone."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from synpro.lm.influence import Influence
from synpro.lm.loss import _windows, load_model, plain_tokenizer, text_losses, tf32
from tests.lm.conftest import LENGTH, sentences


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """60 texts of 1 to 300 words: the longest need several windows."""
    return [*sentences(7, 52, 1, 60), *sentences(8, 8, 100, 300)]


def test_influence_is_the_same_alone_in_any_batch_order_padding_and_threads(pair: tuple[Path, Path], texts: list[str]) -> None:
    reference = Influence(*pair).score(texts)
    assert len(reference) == 60 and any(value != 0 for value in reference)

    alone = Influence(*pair, batch_tokens=1)
    assert max(abs(alone.score([t])[0] - r) for t, r in zip(texts, reference, strict=True)) <= 1e-6
    order = list(range(60))
    random.Random(3).shuffle(order)
    for side in ("right", "left"):
        for batch_tokens in (256, 5000):
            other = Influence(*pair, batch_tokens=batch_tokens, padding_side=side).score([texts[i] for i in order])
            assert max(abs(value - reference[i]) for i, value in zip(order, other, strict=True)) <= 1e-6, (side, batch_tokens)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            other = Influence(*pair).score(texts[::3])
            assert max(abs(a - b) for a, b in zip(other, reference[::3], strict=True)) <= 1e-6
    finally:
        torch.set_num_threads(threads)


def test_identical_checkpoints_give_exactly_zero(pair: tuple[Path, Path], texts: list[str], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pair[0], tmp_path / "copy"))
    assert set(Influence(pair[0], copy).score(texts)) == {0.0}


def test_loss_is_that_of_a_plain_forward_pass(pair: tuple[Path, Path]) -> None:
    model = load_model(pair[0])
    tokenizer = plain_tokenizer(pair[0])
    text = sentences(9, 1, 20, 21)[0]
    ids = [model.config.eos_token_id, *tokenizer.encode(text).ids]
    logits = model(torch.tensor([ids[:-1]])).logits[0].double()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
    [(nats, tokens)] = text_losses(model, pair[0], [text])
    assert tokens == len(ids) - 1
    assert math.isclose(nats, expected, rel_tol=1e-6)


def test_logits_are_the_models_own_where_it_changes_them_after_the_head(pair: tuple[Path, Path]) -> None:
    from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

    text, known = sentences(9, 1, 20, 21)[0], load_model(pair[0]).config
    ids = [known.eos_token_id, *plain_tokenizer(pair[0]).encode(text).ids]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    sizes |= {"vocab_size": known.vocab_size, "num_key_value_heads": 4, "eos_token_id": known.eos_token_id, "pad_token_id": 0}
    for config, kind, own in (
        (GraniteConfig, GraniteForCausalLM, {"logits_scaling": 8.0}),
        (CohereConfig, CohereForCausalLM, {"logit_scale": 0.1}),
        (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 8, "final_logit_softcapping": 1.0}),
    ):
        model: Any = kind(config(**sizes, **own)).eval()
        model.get_output_embeddings().weight.data.mul_(50)
        logits = model(torch.tensor([ids[:-1]])).logits[0].double()
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
        assert text_losses(model, pair[0], [text])[0][0] == pytest.approx(expected, rel=1e-5), kind.__name__


def test_tf32_is_allowed_while_a_loss_is_measured_and_no_longer(pair: tuple[Path, Path]) -> None:
    """A training in float32 in the same process is exact."""
    matmul = torch.backends.cuda.matmul
    model, seen = load_model(pair[0]), list[bool]()
    model.base_model.register_forward_hook(lambda *_: seen.append(matmul.allow_tf32))
    text_losses(model, pair[0], ["A text."])
    assert seen == [True] and not matmul.allow_tf32
    with pytest.raises(RuntimeError), tf32():
        raise RuntimeError
    assert not matmul.allow_tf32


def test_every_token_of_a_long_text_is_scored_once() -> None:
    for length in (1, 2, 5, 8, 9, 12, 13, 40, 41):
        ids = tuple(range(length + 1))
        windows = list(_windows(0, ids, 8))
        scored = [target for w in windows for target in w.ids[1 + w.skip :]]
        assert scored == list(ids[1:])
        assert all(len(w.ids) - 1 <= 8 for w in windows)
        assert all(w.skip >= 4 for w in windows[1:]), "a later window has half a context before its first target"


def test_special_token_strings_stay_text(pair: tuple[Path, Path]) -> None:
    tokenizer = plain_tokenizer(pair[0])
    eos = tokenizer.token_to_id("<|endoftext|>")
    assert eos not in tokenizer.encode("a <|endoftext|> b").ids
    assert tokenizer.decode(tokenizer.encode("a <|endoftext|> b").ids) == "a <|endoftext|> b"


def test_a_text_without_tokens_is_an_error(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        Influence(*pair).score(["fields", ""])


def test_no_texts_give_no_scores(pair: tuple[Path, Path]) -> None:
    assert Influence(*pair).score([]) == []


def test_a_corpus_is_scored_in_portions_with_the_same_values(
    pair: tuple[Path, Path], texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, whole = load_model(pair[0]), list[tuple[int, int]]()
    reference = text_losses(model, pair[0], texts, progress=lambda *reported: whole.append(reported))
    monkeypatch.setattr("synpro.lm.loss.CHUNK_CHARS", 2000)
    reported: list[tuple[int, int]] = []
    parts = text_losses(model, pair[0], texts, progress=lambda *now: reported.append(now))
    assert [n for _, n in parts] == [n for _, n in reference]
    assert max(abs(a / n - b / n) for (a, n), (b, _) in zip(parts, reference, strict=True)) <= 1e-6
    assert reported[-1] == whole[-1] == (60, 60) and reported == sorted(reported) and len(reported) > len(whole)


def test_equal_texts_have_equal_scores(pair: tuple[Path, Path]) -> None:
    a, b, c = Influence(*pair).score(["old stone mills", "herons", "old stone mills"])
    assert a == c != b


def test_different_tokenizers_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(pair[1], tmp_path / "other"))
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace('"river"', '"revir"').replace("<|pad|>", "<|bad|>"))
    with pytest.raises(ValueError, match="different tokenizers"):
        Influence(pair[0], other)


def test_a_folder_without_a_model_is_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        Influence(pair[0], tmp_path)


def test_context_is_that_of_training(pair: tuple[Path, Path]) -> None:
    assert load_model(pair[0]).config.max_position_embeddings == LENGTH
