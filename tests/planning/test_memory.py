"""What stages hold in memory: blocks counted on the real model, everything else against hand-worked figures."""

from __future__ import annotations

import contextlib

import pytest
import torch

from synpro.config import load_config
from synpro.lm.model_config import ModelConfig, num_parameters, transformer_config
from synpro.lm.training_config import HardwareConfig
from synpro.planning.memory import activation_bytes, logit_bytes, stage_bytes, suggestions, training_bytes, with_settings
from tests.conftest import ROOT

LENGTH, BATCH = 256, 8


def saved(layers: int, width: int, hidden: int, vocab: int, precision: str) -> float:
    """Bytes per token that a forward pass keeps for the backward one; weights, and autocast's copies of them, left out."""
    shape = ModelConfig(layers, width, width // 64, hidden)
    torch.manual_seed(0)
    model = transformer_config(shape, vocab, attention="torch").build(init_device="cpu")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes = {tuple(p.shape) for p in model.parameters()} | {tuple(p.t().shape) for p in model.parameters() if p.ndim == 2}
    stored: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and tuple(tensor.shape) not in sizes:
            stored[place] = tensor
        return tensor

    ids = torch.randint(0, vocab, (BATCH, LENGTH))
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), cast:
        model(ids, labels=ids, loss_reduction="sum", z_loss_multiplier=1e-5)
    return sum(t.untyped_storage().nbytes() for t in stored.values()) / (BATCH * LENGTH)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("width", "hidden"), [(128, 512), (256, 512)])
def test_blocks_keep_what_is_said(precision: str, width: int, hidden: int) -> None:
    one, three = (saved(n, width, hidden, 384, precision) for n in (1, 3))
    assert (three - one) / 2 == pytest.approx(activation_bytes(1, width, hidden, precision), rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_are_counted_with_their_gradient(precision: str) -> None:
    small, large = (saved(1, 64, 128, vocab, precision) for vocab in (512, 2560))
    gradient = 4 if precision == "float32" else 6
    assert (large - small) / 2048 + gradient == pytest.approx(logit_bytes(1, precision), rel=0.05)


def test_states_of_replicas_and_of_shards() -> None:
    model = ModelConfig(16, 1024, 16, 4096)
    count = num_parameters(model, 100_352)
    half = HardwareConfig(micro_batch_size=8, dtype="bfloat16")
    batch = 8 * 2048 * (activation_bytes(16, 1024, 4096, "bfloat16") + logit_bytes(100_352, "bfloat16"))
    assert training_bytes(model, 100_352, 2048, 512, half, 1) == pytest.approx(18 * count + batch)
    assert training_bytes(model, 100_352, 2048, 512, half, 8) == pytest.approx(22 * count + batch)
    sharded = HardwareConfig(micro_batch_size=8, dtype="bfloat16", parallel="fsdp")
    assert training_bytes(model, 100_352, 2048, 512, sharded, 64) < training_bytes(model, 100_352, 2048, 512, sharded, 8)
    assert training_bytes(model, 100_352, 2048, 512, sharded, 8) - batch < 8 * count


@pytest.mark.parametrize("stage", ["pretrain", "probe", "train-rephrase", "synthesize-reformat", "verifier"])
def test_every_suggestion_is_a_config_that_holds_less(stage: str) -> None:
    sets = ['synthesize.engine={type="transformers"}', 'train_generator.engine={type="transformers"}']
    cfg = load_config(ROOT / "configs" / "400m.toml", [*sets, "train_generator.gradient_checkpointing=false"])
    before = stage_bytes(cfg, stage, 1)
    found = [stage_bytes(with_settings(cfg, settings), stage, 1) for settings in suggestions(cfg, stage)]
    assert found[0] <= before and min(found) < 0.8 * before
