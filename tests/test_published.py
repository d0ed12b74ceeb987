"""The resolved 400m and 1b configs hold the published settings: every number of the method's tables, one by one."""

from pathlib import Path

import pytest

from synpro.commands.check import rounds_problem
from synpro.config import RunConfig, load_config
from synpro.lm.model_config import NORM_EPS, flops_per_token, num_parameters, padded_vocab_size

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(params=["400m", "1b"])
def cfg(request: pytest.FixtureRequest) -> RunConfig:
    return load_config(CONFIGS / f"{request.param}.toml")


def at(cfg: RunConfig, small: float, large: float) -> float:
    """The value of the table's column for this config."""
    return small if cfg.name == "400m" else large


def test_model(cfg):
    m = cfg.pretrain.model
    assert (m.n_layers, m.d_model, m.n_heads, m.hidden_size) == (16, at(cfg, 1024, 2048), 16, at(cfg, 4096, 8192))
    assert (NORM_EPS, m.rope_theta) == (1e-6, 500_000)
    assert padded_vocab_size(100_278) == cfg.prepare.tokenizer.vocab_size == 100_352


def test_tokenizer(cfg):
    t = cfg.prepare.tokenizer
    assert (t.eos_token, t.pad_token) == ("<|endoftext|>", "<|pad|>")  # ids 100257 and 100277 in dolma2


def test_data(cfg):
    words = cfg.prepare.train_words
    assert words is not None and words * 1.35 == pytest.approx(at(cfg, 0.8e9, 2.2e9), rel=0.03)  # dolma2: 1.35 tokens a word
    assert cfg.prepare.passages.max_characters == 7000


def test_training(cfg):
    p = cfg.pretrain
    assert (p.sequence_length, p.batch_size, p.warmup_steps, p.decay_fraction) == (2048, 512, 1000, 0.0)
    assert p.steps_after(0) == at(cfg, 21_840, 43_680)
    assert p.checkpoint_every == 2184
    # Published: 1,092 steps between measurements, at which our rule for a plateau sees no third one within the budget.
    assert p.evaluate_every == 1092 // 4 and not rounds_problem(cfg, estimate=True)
    o = p.optimizer
    assert (o.learning_rate, o.beta1, o.beta2, o.weight_decay, o.eps, o.max_grad_norm) == (
        at(cfg, 6e-4, 4e-4),
        0.9,
        0.95,
        0.1,
        1e-8,
        1.0,
    )
    assert o.z_loss == 1e-5


def test_instance_filter():
    import numpy as np

    from synpro.lm.batches import is_repetitive

    def filler() -> np.ndarray:
        return np.arange(5000, 5300)

    for period in (1, 5, 13, 14):
        unit = np.arange(period)
        assert is_repetitive(np.concatenate([filler(), np.tile(unit, 32), filler()])) is (period <= 13)
        assert not is_repetitive(np.concatenate([filler(), np.tile(unit, 31), filler()]))


def test_probe(cfg):
    assert (cfg.probe.steps, cfg.probe.batch_size, cfg.probe.learning_rate) == (100, 64, 1e-4)
    assert cfg.probe.data is not None and cfg.probe.data.endswith("/*/train_rc_5shot"), "train splits of tasks of FLAN"


def test_grpo(cfg):
    t = cfg.train_generator
    assert t.base == "hf:allenai/OLMo-2-0425-1B-Instruct" and t.tuning == "full" and t.start == "previous"
    assert (t.learning_rate, t.min_lr_ratio, t.warmup_ratio, t.beta) == (1e-6, 0.1, 0.1, 0.005)
    assert (t.num_generations, t.prompts_per_step) == (8, 16)
    assert {name: o.steps for name, o in cfg.operations.items()} == {"rephrase": 300, "reformat": 240}


def test_rewards(cfg):
    assert {name: o.weights for name, o in cfg.operations.items()} == {
        "rephrase": {"influence": 3.0, "quality": 1.0, "similarity": 1.0, "structure": 1.0, "length": 1.0, "format": 1.0},
        "reformat": {"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
    }
    assert cfg.rubric.similarity.threshold == 0.65 and cfg.rubric.length.at_most == 1.25
    j = cfg.judges
    assert (j.encoder.model, j.encoder.layer) == ("hf:microsoft/deberta-large-mnli", 18)
    assert (j.quality, j.dataman.model) == ("dataman", "hf:RuPeng/DataMan-1.5B-EN")
    assert (j.layout, j.layout_model.model) == ("llm", "hf:Qwen/Qwen3-4B")


def test_generation(cfg):
    assert list(cfg.operations) == ["rephrase", "reformat"]
    assert {(o.temperature, o.top_p, o.max_new_tokens) for o in cfg.operations.values()} == {(1.0, 0.9, 2048)}


def test_entries_of_reformat():
    from synpro.operations.entries import MAX_ENTRIES

    assert MAX_ENTRIES == 8


def test_evaluation(cfg):
    tasks = {"piqa", "hellaswag", "winogrande", "openbook_qa", "boolq", "sciq", "arc_easy", "arc_challenge", "copa"}
    assert tasks | {"csqa_rc_0shot", "socialiqa_rc_0shot"} <= set(cfg.evaluate.tasks) and cfg.evaluate.max_items is None


def test_cost(cfg):
    """Hand-worked: 22.9B tokens and about 5.6e19 FLOP; 45.8B and about 3.7e20, head and causal attention included."""
    p = cfg.pretrain
    tokens = p.steps_after(0) * p.batch_size * p.sequence_length
    assert tokens == pytest.approx(at(cfg, 22.9e9, 45.8e9), rel=1e-3)
    assert tokens * flops_per_token(p.model, 100_352, 2048) == pytest.approx(at(cfg, 5.6e19, 3.7e20), rel=0.02)
    assert num_parameters(p.model, 100_352, embeddings=False) == pytest.approx(at(cfg, 3.7e8, 1.28e9), rel=0.02)
