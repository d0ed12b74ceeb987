"""Weights in blocks against the same layers with weights in rows."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from synpro.engines.base import Sampling
from synpro.engines.cpu import prepacked
from synpro.engines.cpu.prepacked import PrepackedWeights, supported
from synpro.engines.hf import HFEngine

WARM = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=20, seed=5)
ASKED = [[1, 2, 3, number, 7] for number in range(11)]

pytestmark = pytest.mark.skipif(not supported(), reason="no products in bfloat16 here")


def frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(torch.bfloat16).requires_grad_(False).eval()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each product with blocks."""
    seen = list[int]()
    real = torch.ops.mkldnn._linear_pointwise

    def product(x, *others):
        seen.append(x.numel() // x.shape[-1])
        return real(x, *others)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", product)
    return seen


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_the_same_to_the_bit(bias: bool, calls: list[int]) -> None:
    torch.manual_seed(0)
    layer = frozen(nn.Linear(100, 96, bias=bias))
    several = [torch.randn(rows, 1, 100, dtype=torch.bfloat16) for rows in (1, 2, 7, 64, 65, 300)]
    plain = [layer(x) for x in several]
    with torch.no_grad(), PrepackedWeights(layer).applied():
        assert all(torch.equal(layer(input=x), y) for x, y in zip(several, plain, strict=True))
    assert calls == [1, 2, 7, 64, 65, 300]
    part = several[-1].view(100, 3, 100)[:, -1:]  # as for the last token of each row
    with torch.no_grad(), PrepackedWeights(layer).applied():
        assert torch.allclose(layer(part), plain[-1].view(100, 3, 96)[:, -1:], atol=0.02)


def test_what_is_not_in_bfloat16_or_has_a_gradient_is_multiplied_as_ever(calls: list[int]) -> None:
    layer, single = frozen(nn.Linear(8, 8)), torch.randn(3, 8)
    with PrepackedWeights(layer).applied():
        with pytest.raises(RuntimeError, match="dtype"):
            layer(single)
        x = single.bfloat16().requires_grad_()
        layer(x).sum().backward()
        assert x.grad is not None and not calls
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(single), nn.Linear.forward(layer, single)) and calls == [3]


def test_layers_are_as_they_were_even_after_an_error_or_within_each_other() -> None:
    layer = frozen(nn.Linear(8, 8))
    before = dict(vars(layer))
    with pytest.raises(ZeroDivisionError), PrepackedWeights(layer).applied():
        with PrepackedWeights(layer).applied():
            pass
        assert "forward" in vars(layer)
        raise ZeroDivisionError
    assert vars(layer) == before
    layer.forward = lambda input: input  # somebody else's, as a library that offloads layers has
    with PrepackedWeights(layer).applied():
        assert layer(7) == 7
    assert layer(7) == 7


class OwnLinear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + 1


class OwnTensor(torch.Tensor):
    """As quantized weights are."""


def test_only_plain_frozen_weights_in_bfloat16_are_put_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = frozen(nn.Linear(8, 8))
    strange.weight = nn.Parameter(strange.weight.as_subclass(OwnTensor), requires_grad=False)
    left = [
        nn.Linear(8, 8, dtype=torch.bfloat16),
        nn.Linear(8, 8).requires_grad_(False),
        frozen(OwnLinear(8, 8)),
        frozen(nn.Linear(0, 8)),
        strange,
    ]
    with PrepackedWeights(nn.ModuleList(left)).applied():
        assert not any("forward" in vars(layer) for layer in left)
    layer = frozen(nn.Linear(8, 8))
    monkeypatch.setattr(prepacked, "supported", lambda: False)
    with PrepackedWeights(layer).applied():
        assert "forward" not in vars(layer)


def test_an_engine_gives_the_same_text_with_and_without(llama, tokenizer, calls, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HFEngine(frozen(llama), tokenizer, batch_size=4)
    ids = engine.generate_ids(ASKED, WARM)
    count = len(calls)
    monkeypatch.setattr(prepacked, "supported", lambda: False)
    assert count and engine.generate_ids(ASKED, WARM) == ids and len(calls) == count
    engine.close()
    assert engine._weights is None


@pytest.mark.parametrize("change", ["in place", "data", "trained", "dtype"])
def test_a_change_of_the_weights_is_seen(llama, tokenizer, change: str) -> None:
    model = frozen(llama)
    engine = HFEngine(model, tokenizer, batch_size=4)
    before = engine.generate_ids(ASKED, WARM)
    with torch.no_grad():
        for layer in [m for m in model.modules() if type(m) is nn.Linear]:
            if change == "trained":
                layer.weight.requires_grad_(True)
            (layer.weight.data if change == "data" else layer.weight).mul_(-1.5)
    if change == "dtype":
        model.to(torch.float32)
    after = engine.generate_ids(ASKED, WARM)
    assert after != before and after == HFEngine(model, tokenizer, batch_size=4).generate_ids(ASKED, WARM)


def test_a_policy_answers_with_the_adapter_of_its_last_step(llama, tokenizer, calls) -> None:
    policy = get_peft_model(frozen(llama), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    engine = HFEngine(policy, tokenizer, batch_size=4)
    before = engine.generate_ids(ASKED, WARM)
    assert calls
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.add_(torch.linspace(-3, 3, weight.numel()).view_as(weight))
    after = engine.generate_ids(ASKED, WARM)
    assert after != before and after == HFEngine(policy, tokenizer, batch_size=4).generate_ids(ASKED, WARM)
    policy(torch.tensor([ASKED[0]])).logits.float().sum().backward()  # the layers have gradients again
    assert any(weight.grad is not None and weight.grad.any() for name, weight in policy.named_parameters() if "lora_A" in name)
    policy.merge_adapter()
    assert engine.generate_ids(ASKED, WARM) == HFEngine(policy, tokenizer, batch_size=4).generate_ids(ASKED, WARM)
