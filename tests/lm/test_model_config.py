"""Sizes and costs: our arithmetic against OLMo-core's, and against the published models."""

from __future__ import annotations

from pathlib import Path

import pytest

from synpro.lm.model_config import (
    ModelConfig,
    exported_model_config,
    flops_per_token,
    num_parameters,
    padded_vocab_size,
    transformer_config,
)
from tests.lm.conftest import LENGTH, TINY

DOLMA2 = 100_278
PUBLISHED = {
    "400M": (ModelConfig(), 22_900_899_840, 5.6e19),
    "1.1B": (ModelConfig(d_model=2048, hidden_size=8192), 45_801_799_680, 3.7e20),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_models_cost_what_was_published(name: str) -> None:
    shape, tokens, flop = PUBLISHED[name]
    assert padded_vocab_size(DOLMA2) == 100_352
    assert flops_per_token(shape, DOLMA2, 2048) * tokens == pytest.approx(flop, rel=0.02)


@pytest.mark.parametrize("shape", [*(p[0] for p in PUBLISHED.values()), TINY])
def test_parameters_and_flops_are_those_of_olmo_core(shape: ModelConfig) -> None:
    model = transformer_config(shape, DOLMA2).build(init_device="meta")
    assert num_parameters(shape, DOLMA2) == model.num_params
    assert flops_per_token(shape, DOLMA2, 2048) == pytest.approx(model.num_flops_per_token(2048), rel=1e-4)


def test_an_export_tells_its_shape(pair: tuple[Path, Path]) -> None:
    shape, length = exported_model_config(pair[0])
    assert length == LENGTH
    assert padded_vocab_size(320) == padded_vocab_size(320)
    assert num_parameters(shape, 320) == num_parameters(TINY, 320)


@pytest.mark.parametrize("bad", [{"n_heads": 3}, {"n_heads": 48}])
def test_bad_shapes_name_the_field(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}:"):
        ModelConfig(**bad)
