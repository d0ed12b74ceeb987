"""Counting operations: against a model whose operations can be counted by hand, and adding parts up."""

from __future__ import annotations

import pytest

from synpro.lm.shapes import ModelConfig, flops_per_token, parameters
from synpro.measure.cost import Work, added, learning, reading, scoring, total


def test_learning_is_three_passes_and_adapters_save_one():
    assert learning(10, 5, adapters=False) == 3 * reading(10, 5) == 300
    assert learning(10, 5, adapters=True) == 200


def test_scoring_is_a_third_of_training():
    model = ModelConfig(n_layers=2, d_model=64, n_heads=2, hidden_size=128)
    per_token = flops_per_token(model, 320, 64)
    assert scoring(per_token, 7) == pytest.approx(7 * per_token / 3)
    # A forward pass is 2 operations per parameter that multiplies, and attention on top.
    assert scoring(per_token, 1) > reading(parameters(model, 320, embeddings=False), 1)


def test_parts_add_up():
    bills = [{"RL": Work(1, 2, 3), "judging": Work(10)}, {"RL": Work(1, 1, 1)}, {}]
    whole = added(bills)
    assert whole == {"RL": Work(2, 3, 4), "judging": Work(10)} and total(whole) == Work(12, 3, 4)
    assert whole["RL"] * 0.5 == Work(1, 1.5, 2)
