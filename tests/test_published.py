"""The resolved 400m and 1b configs hold the published settings: every number of the method's tables, one by one."""

from pathlib import Path

import pytest

from synpro.config import RunConfig, load
from synpro.lm.shapes import flops_per_token, padded_vocab, parameters

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(params=["400m", "1b"])
def cfg(request: pytest.FixtureRequest) -> RunConfig:
    return load(CONFIGS / f"{request.param}.toml")


def at(cfg: RunConfig, small: float, large: float) -> float:
    """The value of the table's column for this config."""
    return small if cfg.name == "400m" else large


def test_model(cfg):
    m = cfg.pretrain.model
    assert (m.n_layers, m.d_model, m.n_heads, m.hidden_size) == (16, at(cfg, 1024, 2048), 16, at(cfg, 4096, 8192))
    assert (m.norm_eps, m.qk_norm, m.rope_theta) == (1e-6, True, 500_000)
    assert padded_vocab(m, 100_278) == cfg.prepare.tokenizer.vocab_size == 100_352


def test_tokenizer(cfg):
    t = cfg.prepare.tokenizer
    assert (t.eos_token, t.pad_token) == ("<|endoftext|>", "<|pad|>")  # ids 100257 and 100277 in dolma2


def test_data(cfg):
    words = cfg.prepare.train_words
    assert words is not None and words * 1.35 == pytest.approx(at(cfg, 0.8e9, 2.2e9), rel=0.03)  # dolma2: 1.35 tokens a word
    assert cfg.prepare.passages.max_characters == 7000


def test_training(cfg):
    p = cfg.pretrain
    assert (p.sequence_length, p.batch, p.warmup, p.anneal) == (2048, 512, 1000, 0.0)
    assert p.steps_after(0) == at(cfg, 21_840, 43_680)
    assert (p.checkpoint_every, p.evaluate_every) == (2184, 1092)
    o = p.optimizer
    assert (o.lr, o.beta1, o.beta2, o.weight_decay, o.eps, o.clip) == (at(cfg, 6e-4, 4e-4), 0.9, 0.95, 0.1, 1e-8, 1.0)
    assert o.z_loss == 1e-5


def test_instance_filter():
    import numpy as np

    from synpro.lm.batches import repetitive

    def filler() -> np.ndarray:
        return np.arange(5000, 5300)

    for period in (1, 5, 13, 14):
        unit = np.arange(period)
        assert repetitive(np.concatenate([filler(), np.tile(unit, 32), filler()])) is (period <= 13)
        assert not repetitive(np.concatenate([filler(), np.tile(unit, 31), filler()]))


def test_probe(cfg):
    assert (cfg.probe.steps, cfg.probe.batch, cfg.probe.optimizer.lr) == (100, 64, 1e-4)


def test_grpo(cfg):
    t = cfg.train_generator
    assert t.base == "hf:allenai/OLMo-2-0425-1B-Instruct" and t.tuning == "full" and t.start == "previous"
    assert (t.learning_rate, t.final_rate, t.warmup, t.beta) == (1e-6, 0.1, 0.1, 0.005)
    assert (t.completions, t.prompts_per_step, t.temperature, t.top_p) == (8, 16, 1.0, 0.9)
    assert t.max_new_tokens == {"rephrase": 2048, "reformat": 2048} and t.steps == {"rephrase": 300, "reformat": 240}
    assert t.source_characters == 7000


def test_rewards(cfg):
    assert cfg.rubric.weights == {
        "rephrase": {"influence": 3.0, "quality": 1.0, "similarity": 1.0, "structure": 1.0, "length": 1.0, "format": 1.0},
        "reformat": {"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
    }
    assert cfg.rubric.similarity.threshold == 0.65 and cfg.rubric.length.at_most == 1.25
    j = cfg.judges
    assert j.encoder == "hf:microsoft/deberta-large-mnli"
    assert (j.quality, j.dataman) == ("dataman", "hf:RuPeng/DataMan-1.5B-EN")
    assert (j.layout, j.layout_model) == ("llm", "hf:Qwen/Qwen3-4B")


def test_generation(cfg):
    s = cfg.synthesize
    assert (s.temperature, s.top_p) == (1.0, 0.9) and set(s.max_new_tokens.values()) == {2048}
    assert [o.name for o in cfg.operations] == ["rephrase", "reformat"]


def test_entries_of_reformat():
    from synpro.operations import reformat

    assert reformat.MAX_ENTRIES == 8


def test_evaluation(cfg):
    tasks = {"piqa", "hellaswag", "winogrande", "openbook_qa", "boolq", "sciq", "arc_easy", "arc_challenge", "copa"}
    assert tasks | {"csqa_rc_0shot", "socialiqa_rc_0shot"} <= set(cfg.evaluate.tasks) and cfg.evaluate.max_items is None


def test_cost(cfg):
    """Hand-worked: 22.9B tokens and about 5.6e19 FLOP; 45.8B and about 3.7e20, head and causal attention included."""
    p = cfg.pretrain
    tokens = p.steps_after(0) * p.batch * p.sequence_length
    assert tokens == pytest.approx(at(cfg, 22.9e9, 45.8e9), rel=1e-3)
    assert tokens * flops_per_token(p.model, 100_352, 2048) == pytest.approx(at(cfg, 5.6e19, 3.7e20), rel=0.02)
    assert parameters(p.model, 100_352, embeddings=False) == pytest.approx(at(cfg, 3.7e8, 1.28e9), rel=0.02)
