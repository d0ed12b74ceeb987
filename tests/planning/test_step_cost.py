"""The cost of steps: formulas counted by hand, and each step of a finished run, with time that adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synpro.config import load_config
from synpro.lm.model_config import ModelConfig, flops_per_token, num_parameters
from synpro.outline import outline
from synpro.planning.step_cost import (
    Cost,
    claims_per_text,
    count_parameters,
    eval_flops,
    forward_flops,
    judge_costs,
    merge_costs,
    rl_flops,
    step_cost,
    total_cost,
    train_flops,
    verifier_cost,
)
from tests.conftest import ROOT

PARTS = {
    "pretrain": {"pretraining"},
    "probe": {"probing"},
    "train-rephrase": {"RL", "judging"},
    "train-reformat": {"RL", "judging"},
    "synthesize-rephrase": {"generating", "judging"},
    "synthesize-reformat": {"generating", "judging"},
    "verifier": {"judging"},
    "prepare": set(),
    "evaluate": set(),
}
LOOP = ROOT / "tests" / "loop.toml"


def test_training_is_three_passes_and_adapters_save_one() -> None:
    assert train_flops(10, 5, adapters=False) == 3 * forward_flops(10, 5) == 300
    assert train_flops(10, 5, adapters=True) == 200


def test_evaluation_is_a_third_of_training() -> None:
    model = ModelConfig(n_layers=2, d_model=64, n_heads=2, hidden_size=128)
    per_token = flops_per_token(model, 320, 64)
    assert eval_flops(per_token, 7) == pytest.approx(7 * per_token / 3)
    # A forward pass is 2 operations per parameter that multiplies, and attention on top.
    assert eval_flops(per_token, 1) > forward_flops(num_parameters(model, 320, embeddings=False), 1)


def test_a_kl_penalty_costs_a_pass_of_the_reference() -> None:
    without, penalty = (load_config(LOOP, ["train_generator.tuning=full", f"train_generator.beta={b}"]) for b in (0.0, 0.1))
    assert rl_flops(without, 10, prompts=5, learned=7) == 2 * 10 * 5 + 6 * 10 * 7
    assert rl_flops(penalty, 10, prompts=5, learned=7) == 2 * 10 * 5 + 8 * 10 * 7


def test_judges_cost_only_where_their_reward_has_a_weight() -> None:
    weights = {"quality": 0, "faithfulness": 0, "similarity": 0, "structure": 0, "influence": 0}
    sizes = {"encoder": 1.0, "fluency": 100.0}

    def cost(**on: float) -> float:
        sets = [f"operations.rephrase.weights.{name}={weight}" for name, weight in {**weights, **on}.items()]
        cfg = load_config(LOOP, [*sets, "probe.replicas=2"])
        count = {cfg.judges.encoder.model: sizes["encoder"], cfg.judges.fluency.model: sizes["fluency"]}
        found = judge_costs(cfg, "rephrase", count.__getitem__, tokens=10, texts=2, passage_tokens=3, model_flops=3000)
        return sum(found.values())

    assert cost() == 0
    assert cost(similarity=1) == 2 * 1 * 10 and cost(quality=1) == 2 * 100 * 10
    assert cost(influence=1) == 2 * 1 * 10 + 3 * 1000 * 10, "the model before the probe, and after each of two replicas"


def test_a_language_model_that_checks_claims_reads_the_passage_once_for_all() -> None:
    kinds = [load_config(LOOP, [f"train_verifier.kind={kind}"]) for kind in ("features", "llm")]
    few, many = (
        judge_costs(cfg, "rephrase", lambda name: 1.0, tokens=0, texts=2, passage_tokens=60, model_flops=0).get("verifier", 0)
        for cfg in kinds
    )
    sentences = 60 / 1.35 / 20
    assert (few, many) == (0, pytest.approx(2 * 2 * (60 + sentences * (40 + 150))))
    tokens, flops = verifier_cost(kinds[1], lambda name: 1.0, passages=1, passage_tokens=50)
    assert tokens == (12 + 350) * (50 + 150) * kinds[1].train_verifier.epochs and flops == 6 * tokens


def test_claims_of_a_text_are_counted_by_the_length_of_its_passage() -> None:
    def claims(*sets: str) -> tuple[float, float]:
        cfg = load_config(LOOP, list(sets))
        return claims_per_text(cfg, "rephrase", 1600), claims_per_text(cfg, "reformat", 1600)  # 7,000 characters

    assert claims() == (8, 8) and claims("rubric.faithfulness.max_claims=3") == (3, 3)
    assert claims("rubric.faithfulness.max_claims=none") == (pytest.approx(1600 / 1.35 / 20), 8), "60 sentences, 8 entries"


def test_parts_add_up() -> None:
    costs = [{"RL": Cost(1, 2, 3), "judging": Cost(10)}, {"RL": Cost(1, 1, 1)}, {}]
    whole = merge_costs(costs)
    assert whole == {"RL": Cost(2, 3, 4), "judging": Cost(10)} and total_cost(whole) == Cost(12, 3, 4)
    assert whole["RL"] * 0.5 == Cost(1, 1.5, 2)


def test_parameters_are_known_by_name_or_counted_in_the_weights(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    assert count_parameters(load_config(LOOP).train_generator.base) == 134_515_008
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "model.safetensors")
    assert count_parameters(str(tmp_path)) == 22
    assert count_parameters("no/such/model") == 0


@pytest.mark.loop
def test_every_step_is_billed_in_its_parts(finished_run: Path) -> None:
    cfg = load_config(LOOP)
    costs = {step: step_cost(finished_run, step, cfg) for step in outline(cfg)}
    for step, parts in costs.items():
        assert set(parts) == PARTS[step.rpartition("/")[2]]
        seconds = json.loads((finished_run / step / "timing.json").read_text())["seconds"]
        assert not parts or total_cost(parts).seconds == pytest.approx(seconds)
        assert all(cost.flops > 0 and cost.tokens > 0 and cost.seconds >= 0 for cost in parts.values()), (step, parts)
    whole = merge_costs(list(costs.values()))
    last = json.loads((finished_run / "round-02/pretrain/result.json").read_text())["record"]
    assert whole["pretraining"].tokens == last["tokens_seen"], "what each round added, together"
    shard = json.loads((finished_run / "round-01/synthesize-rephrase/result.json").read_text())["record"]
    assert costs["round-01/synthesize-rephrase"]["generating"].tokens > shard["tokens"] > 0
