"""Weights in blocks against the same layers with weights in rows."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from synpro.engines.base import Sampling
from synpro.engines.cpu.prepacked import prepack, prepacked
from synpro.engines.hf import HFEngine

WARM = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=20, seed=5)
ASKED = [[1, 2, 3, number, 7] for number in range(11)]

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no products in bfloat16"
)


def frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(torch.bfloat16).requires_grad_(False).eval()


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_the_same_to_the_bit(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = frozen(nn.Linear(100, 96, bias=bias))
    weights = prepack(layer)
    assert list(weights) == [layer]
    several = [torch.randn(rows, 1, 100, dtype=torch.bfloat16) for rows in (1, 2, 7, 64, 65, 300)]
    plain = [layer(x) for x in several]
    layer.weight.zero_()  # the blocks are a copy
    with prepacked(weights):
        assert all(torch.equal(layer(x), y) for x, y in zip(several, plain, strict=True))
    assert not (layer(several[0]) - (layer.bias if bias else 0)).any()


def test_layers_are_as_they_were_even_after_an_error() -> None:
    layer = frozen(nn.Linear(8, 8))
    before = dict(vars(layer))
    with pytest.raises(ZeroDivisionError), prepacked(prepack(layer)):
        assert "forward" in vars(layer)
        raise ZeroDivisionError
    assert vars(layer) == before


def test_only_frozen_weights_in_bfloat16_are_prepacked() -> None:
    trained, single = nn.Linear(8, 8, dtype=torch.bfloat16), nn.Linear(8, 8).requires_grad_(False)
    assert prepack(nn.ModuleList([trained, single])) == {}


def test_an_engine_gives_the_same_text_with_and_without(llama, tokenizer) -> None:
    engine = HFEngine(frozen(llama), tokenizer, batch_size=4)
    ids = engine.generate_ids(ASKED, WARM)
    assert engine._weights
    engine._weights = {}
    assert engine.generate_ids(ASKED, WARM) == ids


def test_a_policy_answers_with_the_adapter_of_its_last_step(llama, tokenizer) -> None:
    policy = get_peft_model(frozen(llama), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    engine = HFEngine(policy, tokenizer, batch_size=4)
    before = engine.generate_ids(ASKED, WARM)
    assert engine._weights
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.add_(torch.linspace(-3, 3, weight.numel()).view_as(weight))
    after = engine.generate_ids(ASKED, WARM)
    assert after != before
    assert after == HFEngine(policy, tokenizer, batch_size=4).generate_ids(ASKED, WARM)
    out = policy(torch.tensor([ASKED[0]])).logits.float().sum()
    out.backward()  # the layers have gradients again
    assert any(weight.grad is not None and weight.grad.any() for name, weight in policy.named_parameters() if "lora_A" in name)
