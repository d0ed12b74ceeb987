"""Choosing by a model in this process, on small random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from synpro.engines.base import EngineError, Sampling, Unanswered
from synpro.engines.local import LocalModel, _fitting
from synpro.engines.options import check_options, match_option, option_probs
from synpro.records import Chat

CHATS: list[Chat] = [({"role": "user", "content": text},) for text in ("Is it so?", "no", "A much longer question? " * 4)]


@pytest.fixture
def model(llama: torch.nn.Module, tokenizer: object) -> LocalModel:
    return LocalModel(llama, tokenizer)


def test_the_probability_of_an_option_is_that_of_its_first_token(model: LocalModel) -> None:
    options = ("Yes", "No", "maybe")
    got = model.score_options(CHATS, options)
    for chat, shares_ in zip(CHATS, got, strict=True):
        logits = model.model(torch.tensor([model.encode(chat)])).logits[0, -1].double()
        wanted = logits[[model.tokenizer.convert_tokens_to_ids(option[0]) for option in options]].softmax(-1)
        assert shares_ == pytest.approx(wanted.tolist(), abs=1e-6)


def test_neither_text_nor_choice_depends_on_the_chats_beside_it(model: LocalModel) -> None:
    sampling = Sampling(1.0, 0.9, 8, n=2, seed=3)
    alone = [(model.score_options([chat], ("A", "B"))[0], model.generate([chat], sampling)[0]) for chat in CHATS]
    for order in (slice(None), slice(None, None, -1)):
        together = zip(model.score_options(CHATS[order], ("A", "B")), model.generate(CHATS[order], sampling), strict=True)
        assert list(together) == alone[order]


def test_batches_as_on_a_gpu_give_the_same_but_for_rounding(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = model.score_options(CHATS, ("A", "B"))
    monkeypatch.setattr(LocalModel, "_batches", lambda self, prompts: [[1, 0, 2]])
    for a, b in zip(alone, model.score_options(CHATS, ("A", "B")), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_what_chats_begin_with_is_read_once(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = ["A passage of some length about boats. ", "Another one about the harbour and its master. "]
    chats: list[Chat] = [({"role": "user", "content": p + claim},) for p in passages for claim in ("It is.", "No!", "Was it?")]
    alone = model.score_options([*chats, *CHATS], ("A", "B"))
    read: list[int] = []
    forward = model.model.forward
    monkeypatch.setattr(LocalModel, "_batches", lambda self, prompts: [range(len(prompts))])

    def counted(**given: Any) -> Any:
        read.append(given["input_ids"].numel())
        return forward(**given)

    monkeypatch.setattr(model.model, "forward", counted)
    for a, b in zip(alone, model.score_options([*chats, *CHATS], ("A", "B")), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    read.clear()
    model.score_options(chats, ("A", "B"))
    assert len(read) == 2 and sum(read) < 0.75 * len(chats) * max(len(model.encode(chat)) for chat in chats)


def test_chats_read_at_once_are_bounded_in_number_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synpro.engines.local.CACHED_TOKENS", 10)
    prompts = [[0] * size for size in (2, 2, 2, 5, 5, 99)]
    assert list(_fitting([0, 1, 2, 3, 4, 5], prompts, 2)) == [[0, 1], [2, 3], [4], [5]]


def test_a_sliding_window_sees_as_far_in_a_batch_as_alone(model: LocalModel) -> None:
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8}
    size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    config = Gemma3TextConfig(**size, **heads, initializer_range=0.2)
    sliding = LocalModel(AutoModelForCausalLM.from_config(config).eval(), model.tokenizer)
    prompts = [[*range(3, 33), *own] for own in ([40], [41, 42, 43, 44, 45], [46, 47])]
    with torch.no_grad():
        alone = torch.cat([sliding._last([prompt]) for prompt in prompts])
        assert torch.allclose(sliding._last(prompts), alone, atol=1e-4)


LONG: Chat = ({"role": "user", "content": "x" * 300},)


@pytest.mark.parametrize("batched", [False, True])
def test_a_model_that_answers_nan_gives_no_text_and_no_number(model: LocalModel, batched: bool) -> None:
    from copy import deepcopy

    broken = deepcopy(model.model)
    with torch.no_grad():
        broken.lm_head.weight[:] = float("nan")
    engine = LocalModel(broken, model.tokenizer)
    engine._fast, engine.one_by_one = batched, not batched
    assert all(isinstance(a, Unanswered) and "NaN" in a.reason for a in engine.score_options(CHATS, ("A", "B")))
    for temperature in (0.0, 1.0):
        for completion in (c for group in engine.generate(CHATS, Sampling(temperature, 0.9, 4, n=2)) for c in group):
            assert (completion.text, completion.finish) == ("", "error") and "are NaN after 0 tokens" in completion.problem
    with pytest.raises(EngineError, match=r"chat 0: the logits .* NaN .*The prompt ends with"):
        engine.generate_ids([[1, 2], [3]], Sampling())


def test_a_chat_that_does_not_fit_has_no_answer_and_the_others_have_theirs(model: LocalModel) -> None:
    sampling = Sampling(0.0, 1.0, 6, n=2)
    alone, (first, *rest) = model.generate(CHATS, sampling), model.generate([LONG, *CHATS], sampling)
    assert rest == alone and [c.finish for c in first] == ["error"] * 2
    assert "tokens and the model reads at most 256" in first[0].problem
    refused, *scores = model.score_options([LONG, *CHATS], ("A", "B"))
    assert scores == model.score_options(CHATS, ("A", "B"))
    assert isinstance(refused, Unanswered) and "reads at most 256" in refused.reason
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.score_options(CHATS, ("A", "B"))


def test_opened_from_a_folder_it_counts_tokens(folder: Path) -> None:
    model = LocalModel.load(str(folder), "float32", slot="judges.layout_model")
    assert not model.is_remote and model.count("four") == 4


@pytest.mark.parametrize("options", [("Yes",), ("Yes", ""), ("Yes", " No"), ("No", "Not")])
def test_options_that_cannot_be_told_apart_are_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="options"):
        check_options(options)


def test_options_that_share_their_first_token_are_refused(model: LocalModel) -> None:
    with pytest.raises(ValueError, match="no token of this model begins 'false' alone"):
        model.score_options(CHATS, ("false", "faithful"))


def test_a_token_belongs_to_the_option_it_begins() -> None:
    assert [match_option(t, ("Yes", "No")) for t in (" Yes", "Y", "N", "no", "", " ", "Yesterday")] == [
        0,
        0,
        1,
        None,
        None,
        None,
        None,
    ]
    assert match_option("f", ("false", "faithful")) is None
    assert option_probs([(" Yes", -1.0), ("Yes", -1.0), ("No", -1.0), ("x", 0.0)], ("Yes", "No")) == pytest.approx(
        [2 / 3, 1 / 3]
    )
    assert option_probs([("x", 0.0)], ("Yes", "No")) is None
    assert option_probs([("Yes", -900.0)], ("Yes", "No")) == [1.0, 0.0]


def test_qwen3_answers_without_thinking_aloud(qwen: Path) -> None:
    model = LocalModel.load(str(qwen), "float32")
    text = model.tokenizer.decode(model.encode(CHATS[0]))
    assert text.endswith("<|im_start|>assistant\n") and "<think>" not in text
