"""The [compare] table, and which steps a comparison is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from synpro.commands.configs import load_comparison
from synpro.commands.run_dir import init_or_verify
from synpro.compare.arms import ARMS
from synpro.compare.comparison import comparison_outline
from synpro.compare.config import CompareConfig
from synpro.config import ConfigError, dumps, load_config_as
from synpro.config import load_config as load_run
from tests.conftest import ROOT

ALL = f"compare.arms={list(ARMS)}"
SMALL = ROOT / "configs" / "compare-tiny.toml"


@pytest.mark.parametrize("name", ["compare", "compare-tiny"])
def test_shipped_configs_load_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    cfg = load_comparison(ROOT / "configs" / f"{name}.toml")
    (tmp_path / "c.toml").write_text(dumps(cfg))
    assert load_config_as(CompareConfig, tmp_path / "c.toml") == cfg
    assert {"tuned-repetition", "prompt-only", "synpro", "oracle"} <= set(cfg.compare.arms) and cfg.compare.tune.trials


def test_arms_share_what_is_equal_and_seeds_share_the_texts() -> None:
    names = comparison_outline(load_comparison(SMALL, [ALL, "rounds=2", "compare.seeds=[0, 1]"]))
    assert len(set(names)) == len(names)
    kinds = Counter(n.partition("/")[0] + "/" + n.rsplit("/", 1)[1] for n in names if n.startswith("text/"))
    assert kinds["text/probe"] == 3, "one for all first rounds, one each for the second of synpro (and static) and placebo"
    static = [n for n in names if n.startswith("text/static")]
    assert static == ["text/static/round-02/synthesize-rephrase", "text/static/round-02/synthesize-reformat"]
    assert not any(n.startswith("text/megadocs") for n in names)
    for arm in ARMS:
        assert [n for n in names if n.startswith(f"arms/{arm}/") and n.endswith("pretrain")] == [
            f"arms/{arm}/seed-{seed}/pretrain" for seed in (0, 1)
        ]


def test_texts_of_their_own_for_each_seed() -> None:
    cfg = load_comparison(SMALL, ["compare.arms=['synpro']", "compare.seeds=[0, 1]", "compare.texts=per-seed"])
    names = comparison_outline(cfg)
    assert sum("synthesize-rephrase" in n for n in names) == 2 * cfg.rounds
    assert {"text/shared/seed-0/round-00/pretrain", "text/shared/seed-1/round-00/pretrain"} <= set(names)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("compare.arms=['sinpro']", "no arm 'sinpro'"),
        ("compare.seeds=[1, 1]", "listed twice"),
        ("compare.anchors=[1]", r"compare\.anchors.*2"),
        ("compare.tune.trials=0", "tuned-repetition needs a search"),
        ("rounds=0", "needs at least one"),
        ("prepare.train_words=none", "the anchors are multiples of it"),
        ("compare.budget=5", "did you mean 'budget_tokens'"),
    ],
)
def test_what_cannot_be_compared_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison(SMALL, [setting])


def test_a_smaller_batch_is_evaluated_and_saved_as_often_by_tokens() -> None:
    usual, small = load_comparison(SMALL), load_comparison(SMALL, ["compare.batch_size=2"])
    assert usual.measured == usual.pretrain and small.pretrain == usual.pretrain, "what texts are made with stays"
    found = small.measured
    assert (found.batch_size, found.hardware.micro_batch_size) == (2, 2)
    for name in ("evaluate_every", "checkpoint_every"):
        assert getattr(found, name) * found.batch_size == getattr(usual.pretrain, name) * usual.pretrain.batch_size
    with pytest.raises(ConfigError, match=r"compare\.batch_size.*0"):
        load_comparison(SMALL, ["compare.batch_size=-1"])


def test_run_names_the_right_command_for_a_comparison() -> None:
    with pytest.raises(ConfigError, match="synpro compare"):
        load_run(SMALL)


def test_a_comparison_may_get_other_arms_and_seeds_later_and_nothing_else(tmp_path: Path) -> None:
    file = ROOT / "configs" / "compare-tiny.toml"
    init_or_verify(load_comparison(file), tmp_path)
    fewer = load_comparison(file, ['compare.arms=["tuned-repetition", "oracle"]', "compare.seeds=[0, 1]"])
    init_or_verify(fewer, tmp_path)
    assert load_comparison(tmp_path / "config.toml") == fewer
    with pytest.raises(ConfigError, match=r"compare\.budget_tokens: 65536 -> 70000"):
        init_or_verify(load_comparison(file, ["compare.budget_tokens=70000"]), tmp_path)
    assert load_comparison(tmp_path / "config.toml") == fewer, "a refusal changes nothing"
