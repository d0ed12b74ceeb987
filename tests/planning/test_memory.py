"""What stages hold in memory: blocks counted on the real model, everything else against hand-worked figures."""

from __future__ import annotations

import contextlib

import pytest
import torch

from synpro.config import load_config
from synpro.lm.model_config import ModelConfig, num_parameters, transformer_config
from synpro.lm.training_config import HardwareConfig
from synpro.planning.memory import (
    ENCODER_BATCH_TOKENS,
    ENCODER_CACHED_TOKENS,
    JUDGE_CACHED_TOKENS,
    activation_bytes,
    judge_bytes,
    logit_bytes,
    small_judge_bytes,
    stage_bytes,
    suggestions,
    synthesize_bytes,
    train_generator_bytes,
    training_bytes,
    with_settings,
)
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


def test_judges_in_the_process_are_counted_with_what_they_hold() -> None:
    """For `configs/400m.toml`: DeBERTa-large, DataMan-1.5B, Qwen3-4B, Qwen3-1.7B that verifies, and influence's model twice."""
    from synpro.engines import local
    from synpro.judges import encoder

    assert JUDGE_CACHED_TOKENS == local.CACHED_TOKENS and ENCODER_CACHED_TOKENS == encoder.CACHED_TOKENS
    assert encoder.BATCH_TOKENS == ENCODER_BATCH_TOKENS
    cfg = load_config(ROOT / "configs" / "400m.toml")
    deberta = 4 * (353e6 + 50_000 * 1024 + 200_000 * 1024 + 4096 * (4096 + 30 * 1024))
    assert small_judge_bytes(cfg, "rephrase") == pytest.approx(deberta) == pytest.approx(3.01e9, rel=0.01)
    judges = 2 * (1_543_714_304 + 4_022_468_096 + 1_720_574_976)
    weights = judges + 2 * 4 * num_parameters(cfg.pretrain.shape, cfg.vocab_size)
    assert judge_bytes(cfg, "rephrase") == pytest.approx(deberta + weights + judges), "a CPU reads one text at a time"
    length = 7000 / 6 * 1.35 + 150 + 40
    cache = 2 * 73_728 * 16 * length
    assert judge_bytes(cfg, "rephrase", 1e11) == pytest.approx(deberta + weights + cache)
    wide = with_settings(cfg, {"judges.layout_model.engine.batch_size": 64})
    assert judge_bytes(wide, "rephrase", 1e11) == pytest.approx(deberta + weights + 2 * 73_728 * 32_768)
    served = load_config(ROOT / "configs" / "400m.toml", ['judges.layout_model.engine={type="vllm"}'])
    without = deberta + weights - 2 * 4_022_468_096 + 2 * 57_344 * 16 * length
    assert judge_bytes(served, "rephrase", 1e11) == pytest.approx(without + 0.3e11), "vLLM takes its share"
    both = load_config(ROOT / "configs" / "400m.toml", ["prepare.passages.max_words=9000"])
    assert judge_bytes(both, "rephrase", 1e11) == judge_bytes(cfg, "rephrase", 1e11), "characters bound a passage too"
    fluent = load_config(ROOT / "configs" / "tiny.toml")
    minilm = 4 * (10_794_624 + 250_000 * 384 + 4096 * (1536 + 30 * 384))
    assert small_judge_bytes(fluent, "rephrase") == pytest.approx(minilm + 2 * 134_515_008)


def test_a_generator_on_a_cpu_holds_its_weights_in_blocks_too() -> None:
    cfg = load_config(ROOT / "configs" / "tiny.toml", ["operations.rephrase.weights={format=1.0, influence=0.0}"])
    for needed in (train_generator_bytes, synthesize_bytes):
        cpu, gpu = needed(cfg, "rephrase"), needed(cfg, "rephrase", device_bytes=8e10)
        assert cpu - judge_bytes(cfg, "rephrase") - (gpu - judge_bytes(cfg, "rephrase", 8e10)) == pytest.approx(2 * 134_515_008)


@pytest.mark.parametrize("stage", ["pretrain", "probe", "train-rephrase", "synthesize-reformat", "verifier"])
def test_every_suggestion_is_a_config_that_holds_less(stage: str) -> None:
    sets = ['synthesize.engine={type="transformers"}', 'train_generator.engine={type="transformers"}']
    cfg = load_config(ROOT / "configs" / "400m.toml", [*sets, "train_generator.gradient_checkpointing=false"])
    before = stage_bytes(cfg, stage, 1)
    found = [stage_bytes(with_settings(cfg, settings), stage, 1) for settings in suggestions(cfg, stage)]
    assert found[0] <= before and min(found) < 0.8 * before
