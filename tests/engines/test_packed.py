"""Packed log-probabilities are those of separate rows, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Olmo2Config, Olmo2ForCausalLM

from synpro.engines.cpu import packed
from synpro.engines.cpu.packed import can_pack, log_probabilities, pack, packing_error

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def batch() -> tuple[torch.Tensor, torch.Tensor, int]:
    """Six shuffled completions of three prompts of different lengths, one of them masked whole, as TRL passes them."""
    torch.manual_seed(3)
    prompts = [torch.randint(1, 97, (n,)) for n in (9, 5, 7)]
    rows, masks = [], []
    for prompt, tokens in ((0, 6), (1, 8), (0, 3), (2, 0), (1, 1), (0, 8)):
        p, c = prompts[prompt], torch.randint(1, 97, (8,))
        pad = 9 - len(p)
        rows.append(torch.cat([torch.zeros(pad, dtype=torch.long), p, c]))
        masks.append(torch.tensor([0] * pad + [1] * len(p) + [1] * tokens + [0] * (8 - tokens)))
    return torch.stack(rows), torch.stack(masks), 8


def separate(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, completion: int) -> torch.Tensor:
    """The same, each row alone and without padding on the left."""
    out = []
    for row, seen in zip(ids, mask, strict=True):
        keep = int((seen[:-completion] == 0).sum())
        logits = model(input_ids=row[None, keep:]).logits[0, -completion - 1 : -1].float() / 0.7
        out.append(logits.log_softmax(-1).gather(1, row[-completion:, None])[:, 0] * seen[-completion:])
    return torch.stack(out)


@pytest.mark.parametrize("kind", ["llama", "olmo2", "lora", "eager"])
def test_packed_rows_equal_separate_rows(kind: str) -> None:
    torch.manual_seed(0)
    attention = "eager" if kind == "eager" else "sdpa"
    model: torch.nn.Module = (
        Olmo2ForCausalLM(Olmo2Config(**SHAPE))
        if kind == "olmo2"
        else LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation=attention))
    )
    if kind == "lora":
        adapter = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(model, adapter)
    assert can_pack(model)
    ids, mask, completion = batch()
    packed, entropy = log_probabilities(model, ids, mask, completion, 0.7)
    wanted = separate(model, ids, mask, completion)
    assert torch.allclose(packed, wanted, atol=1e-5)
    assert (entropy[mask[:, -completion:] == 1] > 0).all()

    trained = [p for p in model.parameters() if p.requires_grad]
    weights = torch.randn(packed.shape)
    ours = torch.autograd.grad((packed * weights).sum(), trained)
    theirs = torch.autograd.grad((wanted * weights).sum(), trained)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_padding_that_no_completion_needs_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    ids, mask, completion = batch()
    want, entropy = log_probabilities(model, ids, mask, completion, 0.7)
    more = torch.full((len(ids), 5), 3)
    lengths: list[int] = []
    monkeypatch.setattr(packed, "pack", lambda *a: lengths.append(a[2]) or pack(*a))
    found = log_probabilities(model, torch.cat([ids, more], 1), torch.cat([mask, more * 0], 1), completion + 5, 0.7)
    assert lengths == [completion]
    for got, wanted in zip(found, (want, entropy), strict=True):
        assert torch.equal(got[:, :completion], wanted) and not got[:, completion:].any()


def test_a_batch_of_masked_completions_has_a_gradient_of_zero() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    ids, mask, completion = batch()
    mask[:, -completion:] = 0
    packed, _ = log_probabilities(model, ids, mask, completion, 1.0)
    packed.sum().backward()
    assert packed.abs().sum() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_model_that_ignores_the_mask_or_the_positions_is_not_packed() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    whole = model.model.forward
    model.model.forward = lambda input_ids, **rest: whole(input_ids, use_cache=False)
    assert not can_pack(model)


def test_a_model_that_trains_in_autocast_is_packed_in_it_by_the_bound_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    wrapped, rounded = (LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.3)) for _ in range(2))
    wrapped.forward = torch.autocast("cpu", dtype=torch.bfloat16)(wrapped.forward)  # as accelerate does
    assert packing_error(wrapped) > 1e-3, "outside, packed rows are not computed in it"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert can_pack(wrapped)
        monkeypatch.setattr(packed, "packing_error", lambda model: 0.01)
        assert can_pack(rounded)
    assert not can_pack(rounded)
