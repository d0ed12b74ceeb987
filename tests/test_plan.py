"""Plans: hand-worked arithmetic, what is known against what is estimated, and a real measurement of this machine."""

import dataclasses
import json
from pathlib import Path

import pytest

from synpro.config import load
from synpro.lm.shapes import ModelConfig, flops_per_token
from synpro.plan import PlanError, Speed, costs, generator_parameters, lines, size

CONFIGS = Path(__file__).parents[1] / "configs"


def row(rows, stage):
    return next(r for r in rows if r.stage == stage)


def test_the_published_run_costs_what_it_costs(tmp_path):
    rows = costs(load(CONFIGS / "400m.toml"), tmp_path, None)
    assert row(rows, "pretrain").tokens == pytest.approx(22.9e9, rel=1e-3)
    assert row(rows, "pretrain").flops == pytest.approx(5.6e19, rel=0.02)
    assert row(rows, "probe").tokens == 3 * 100 * 64 * 2048
    assert all(r.seconds is None for r in rows)


def test_time_follows_from_the_speed(tmp_path):
    cfg = load(CONFIGS / "tiny.toml")
    slow, fast = (costs(cfg, tmp_path, Speed(r, r, r)) for r in (1e9, 1e12))
    budget = 3 * cfg.pretrain.max_tokens * flops_per_token(cfg.pretrain.model, 2048, 256)
    assert row(slow, "pretrain").seconds - row(fast, "pretrain").seconds == pytest.approx(budget / 1e9 - budget / 1e12)


def test_a_prepared_corpus_is_known_and_another_is_estimated(tmp_path):
    cfg = load(CONFIGS / "tiny.toml")
    assert not size(cfg, tmp_path).known and size(cfg, tmp_path).tokens == round(cfg.prepare.train_words * 1.7)
    result = tmp_path / "round-00/prepare/result.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"record": {"tokens": {"train": 7000}, "passages": 70}}))
    assert size(cfg, tmp_path) == dataclasses.replace(size(cfg, tmp_path), tokens=7000, passages=70, known=True)


def test_what_cannot_be_known_is_said(tmp_path):
    cfg = load(CONFIGS / "tiny.toml")
    unknown = dataclasses.replace(cfg, prepare=dataclasses.replace(cfg.prepare, train_words=None))
    with pytest.raises(PlanError, match=r"set prepare\.train_words"):
        size(unknown, tmp_path)
    strange = dataclasses.replace(cfg, train_generator=dataclasses.replace(cfg.train_generator, base=str(tmp_path)))
    with pytest.raises(PlanError, match=r"train_generator\.base"):
        generator_parameters(strange)


def test_a_generators_size_is_read_from_its_config(tmp_path):
    shape = {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152, "num_attention_heads": 9}
    shape |= {"num_key_value_heads": 3, "intermediate_size": 1536, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    cfg = load(CONFIGS / "tiny.toml")
    here = dataclasses.replace(cfg, train_generator=dataclasses.replace(cfg.train_generator, base=str(tmp_path)))
    assert generator_parameters(here)[0] == pytest.approx(generator_parameters(cfg)[0], rel=1e-3)


def test_this_machine_is_measured(tmp_path):
    from synpro.lm.speed import measure

    rates = measure(ModelConfig(2, 64, 2, 128), 512, 64, seconds=1.0)
    assert all(rate > 1e6 for rate in rates)
    text = "\n".join(lines(load(CONFIGS / "1b.toml"), tmp_path, calibrate=False))
    assert "45.8B" in text and "3.7e+20" in text
