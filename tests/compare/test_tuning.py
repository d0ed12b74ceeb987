"""The search for tuned settings: a climb on a joint grid that depends on the losses so far alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from synpro.commands.configs import load_comparison
from synpro.compare.comparison import Comparison
from synpro.compare.search import SearchResult, search_corpus, search_settings
from synpro.compare.steps import DedupSteps
from synpro.compare.tuning import (
    TrainingSettings,
    Trial,
    TuneConfig,
    finalists,
    grid,
    neighbours,
    open_axes,
    propose_next,
    winner,
)
from synpro.config import ConfigError
from synpro.outline import NotRun
from synpro.records import Checkpoint
from synpro.runner.step import StepError
from synpro.schema import build
from synpro.stages.pretrain import PretrainConfig
from tests.conftest import ROOT

CFG = TuneConfig(rates=(0.5, 1.0, 2.0, 4.0))
START = TrainingSettings(0.1, 2e-3)
AXES = grid(CFG, START, 2e-3)
Surface = Callable[[TrainingSettings, int], float]


def bowl(s: TrainingSettings, draw: int = 0) -> float:
    """The case that was published wrongly: at rate 8e-3, weight decay 0.8 is .04 nats better than 0.4. Half the budget is
    best."""
    decay, rate, share = math.log2(s.weight_decay / 0.8), math.log2(s.learning_rate / 8e-3), math.log2(s.share / 0.5)
    return 5.002 + 0.04 * decay**2 + 0.06 * (rate + 0.2 * decay) ** 2 + 0.05 * share**2 + (s.dropout - 0.1) ** 2 + 0.001 * draw


def search(loss: Surface, most: int = 60, cfg: TuneConfig = CFG, start: TrainingSettings = START, **axes: float) -> list[Trial]:
    tried: list[Trial] = []
    grown = grid(cfg, start, 2e-3, **axes)
    while (proposed := propose_next(grown, start, tried, cfg, most)) is not None:
        tried.append(Trial(proposed[0], loss(*proposed), 1, proposed[1]))
    return tried


def test_it_begins_with_the_usual_setting_and_ends_where_every_neighbour_was_tried_and_lost():
    tried = search(bowl)
    assert tried[0].settings == START and len({(t.settings, t.draw) for t in tried}) == len(tried)
    best = winner(tried)
    assert best == TrainingSettings(0.8, 8e-3, 0.5, 0.1) and not open_axes(AXES, tried)
    lost = {t.settings: t.loss for t in tried if not t.draw}
    assert {s for _, s in neighbours(AXES, best)} <= set(lost), "1.6e-2 too, beyond the end of the grid"
    assert len(lost) < 30


def test_a_better_weight_decay_that_was_never_tried_beside_the_winner_is_not_settled():
    """The published search: ten trainings, 0.8 tried at another rate, 0.4 chosen."""
    chosen = TrainingSettings(0.4, 8e-3, 0.5, 0.1)
    tried = [chosen, *(s for axis, s in neighbours(AXES, chosen) if axis != "weight_decay"), replace(chosen, weight_decay=0.1)]
    found = [Trial(s, bowl(s) + (s.learning_rate == 4e-3), 1) for s in (*tried, TrainingSettings(0.8, 4e-3, 0.5, 0.1))]
    assert winner(found) == chosen and open_axes(AXES, found) == ["weight_decay"]
    assert propose_next(AXES, START, found, CFG, 60) == (replace(chosen, weight_decay=0.8), 0)


def test_where_the_finals_choose_others_their_neighbours_are_tried_too():
    """The old rule stopped once the best of one seed had no untried neighbour, whatever the finals chose after that."""

    def misled(s: TrainingSettings, draw: int) -> float:
        return bowl(s) - 0.05 * (draw == 0 and s.weight_decay == 0.4)

    tried = search(misled)
    best = winner(tried)
    assert best.weight_decay == 0.8 and not open_axes(AXES, tried)
    assert {s for _, s in neighbours(AXES, best)} <= {t.settings for t in tried}
    assert {t.draw for t in tried if t.settings == replace(best, weight_decay=0.4)} == {0, 1, 2}


def test_an_optimum_at_the_edge_extends_its_axis_up_to_a_limit():
    def high(s: TrainingSettings, draw: int, best: float = 5.0) -> float:
        return bowl(replace(s, weight_decay=s.weight_decay * 0.8 / best), draw)

    tried = search(high)
    assert winner(tried).weight_decay == 6.4 and not open_axes(AXES, tried)
    beyond = search(lambda s, draw: high(s, draw, 50.0))
    assert winner(beyond).weight_decay == 12.8 and open_axes(AXES, beyond) == ["weight_decay"]
    fixed = TuneConfig(rates=CFG.rates, extensions=0)
    assert open_axes(grid(fixed, START, 2e-3), search(high, cfg=fixed)) == ["weight_decay", "learning_rate", "dropout"]


def test_a_search_that_ends_on_its_trials_has_not_settled_but_confirms_its_best_with_further_seeds():
    tried = search(bowl, most=5)
    assert len({t.settings for t in tried}) == 5 and open_axes(AXES, tried) and {t.draw for t in tried} == {0, 1, 2}
    assert search(bowl, most=0) == []
    assert all(len({getattr(t.settings, axis) for t in tried}) > 1 for axis in AXES), "two values of every axis"


def test_text_of_its_own_has_a_share_of_organic_tokens_which_begins_as_it_is():
    tried = search(lambda s, d: bowl(s) + ((s.organic_share or 0.25) - 0.5) ** 2, start=replace(START, share=1.0), natural=0.25)
    assert tried[0].settings.organic_share is None and winner(tried).organic_share == 0.5
    axis = grid(CFG, START, 2e-3, natural=0.25)["organic_share"]
    assert axis.values == (0.2, None, 0.35, 0.5, 0.65) and axis.neighbours(None) == [0.35, 0.2]
    applied = replace(START, organic_share=0.5).apply(PretrainConfig(), 40_000, 0.2)
    assert applied.mixture.organic_share == 0.5 and START.apply(PretrainConfig(), 40_000, 0.2).mixture.organic_share is None


def test_general_text_that_is_there_has_a_share_to_search():
    axis = grid(CFG, START, 2e-3, replays=True)["replay_share"]
    assert axis.values == (0.0, 0.1, 0.25) and axis.neighbours(0.0) == [0.1] and axis.neighbours(0.25)[0] > 0.25
    assert not axis.is_cut(0.0) and "replay_share" not in AXES
    assert replace(START, replay_share=0.1).apply(PretrainConfig(), 40_000, 0.2).mixture.replay_share == 0.1


def test_a_share_that_ends_before_the_plateau_it_continues_is_not_tried():
    tried = search(lambda s, d: bowl(replace(s, share=s.share * 4)), least_share=0.3)
    assert min(t.settings.share for t in tried) == 0.5


def test_a_search_carried_on_goes_the_way_of_an_undisturbed_one():
    whole = search(bowl)
    for place in (3, 9, len(whole) - 1):
        assert propose_next(AXES, START, whole[:place], CFG, 60) == (whole[place].settings, whole[place].draw)


def test_a_training_that_diverged_is_never_the_winner():
    tried = [Trial(START, math.nan, 1), Trial(replace(START, learning_rate=5e-4), 6.0, 1)]
    assert winner(tried).learning_rate == 5e-4


def test_what_diverged_gets_no_further_seeds_and_does_not_win_by_its_first():
    a, b, c = START, replace(START, learning_rate=1e-3), replace(START, weight_decay=0.8)
    tried = [Trial(a, 5.00, 1), Trial(b, 5.01, 1), Trial(c, math.inf, 1)]
    assert finalists(AXES, tried, 3) == [a, b]
    tried += [Trial(a, math.inf, 1, draw=1), Trial(b, math.nan, 1, draw=1), Trial(replace(a, dropout=0.1), 5.02, 1)]
    assert winner(tried) == tried[-1].settings


@pytest.mark.parametrize("kept", [True, False])
def test_a_search_goes_on_where_a_training_diverges_and_ends_where_all_do(kept: bool):
    cfg = load_comparison(ROOT / "tests" / "compare.toml", [])
    corpus = NotRun("prepare", 0.0)

    def search(most: float) -> SearchResult:
        """Every training above a learning rate diverges; what is kept of it would be the best of all."""

        def run_step(name, stage, training, **inputs):
            rate, seen = training.optimizer.learning_rate, training.max_tokens
            if rate <= most:
                return Checkpoint(Path(name), seen, 1, False, "", 5.0 - rate, name, 5.0, seen)
            return Checkpoint(Path(name), seen, 1, False, "nan", *((4.0, name, None, 64) if kept else (math.inf, name)))

        return search_settings(cfg, DedupSteps(run_step), "tune/u1", corpus, START, max_trials=12)

    found = search(3e-3)
    assert math.inf in [t.loss for t in found.trials] and found.chosen.learning_rate <= 3e-3
    assert not found.models[found.best].diverged
    with pytest.raises(StepError, match=r"tune/u1: every training of this search diverged; lower pretrain\.optimizer"):
        search(0.0)


def test_a_search_begins_where_an_earlier_one_ended():
    found = ["compare.begin={weight_decay=0.8,learning_rate=4e-3,share=0.5,dropout=0.2}"]
    found += ["compare.begin_anchors={weight_decay=1.6,learning_rate=2e-3}", "compare.tune.anchor_trials=2"]
    found += ["compare.begin_synthetic={weight_decay=0.4,learning_rate=3e-3}"]
    cfg = load_comparison(ROOT / "tests" / "compare.toml", found)
    tried: list[PretrainConfig] = []

    def run_step(name, stage, training, **inputs):
        tried.append(training)
        seen = training.max_tokens
        return Checkpoint(Path(name), seen, 1, False, "", 5.0 + len(tried), name, 5.0, seen)

    steps, corpus = DedupSteps(run_step), NotRun("prepare", 0.0)
    repetition = search_corpus(cfg, steps, "u1", corpus, None)
    assert (tried[0].optimizer.weight_decay, tried[0].optimizer.dropout) == (0.8, 0.2)
    assert tried[0].max_tokens == cfg.budget / 2 and tried[1].optimizer.weight_decay != 0.8
    multiples = sorted(cfg.compare.anchors)
    tried.clear()
    smallest = search_corpus(cfg, steps, f"u{multiples[0]}", corpus, None, repetition)
    assert (tried[0].optimizer.weight_decay, tried[0].optimizer.learning_rate) == (1.6, 2e-3)
    tried.clear()
    search_corpus(cfg, DedupSteps(run_step), "u9", corpus, None, repetition, smallest)
    assert tried[0].optimizer.weight_decay == smallest.chosen.weight_decay, "further corpora begin where the one before ended"
    tried.clear()
    text = SimpleNamespace(tokens=9, shards=())
    Comparison(cfg, steps, {"u1": corpus}).search_own(
        "prompt-only", None, replace(repetition, trials=repetition.trials[:1]), text
    )
    assert (tried[0].optimizer.weight_decay, tried[0].optimizer.learning_rate) == (0.4, 3e-3)
    assert len(tried) > 1, "a repetition that settled after one setting does not cap it"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["compare.begin.organic_share=0.3"], r"begin\.organic_share: repetition has organic text alone"),
        (
            ["compare.begin_anchors={weight_decay=1.0,learning_rate=1e-3,organic_share=0.3}", "compare.tune.anchor_trials=1"],
            r"begin_anchors\.organic_",
        ),
        (
            ["compare.begin_anchors={weight_decay=1.0,learning_rate=1e-3}", "compare.tune.anchor_trials=0"],
            "begin_anchors: nothing",
        ),
        (
            [
                "compare.begin_anchors={weight_decay=1.0,learning_rate=1e-3}",
                "compare.anchors=[]",
                'compare.arms=["repetition"]',
            ],
            "begin_anchors: nothing",
        ),
        (["compare.tune.trials=0", 'compare.arms=["prompt-only"]'], "begin: nothing is searched at the scarce"),
        (["compare.begin.replay_share=0.3"], r"begin\.replay_share: there is no general text"),
        (
            ["compare.begin_synthetic={weight_decay=1.0,learning_rate=1e-3}", "compare.tune.own_search=false"],
            "begin_synthetic: not",
        ),
    ],
)
def test_where_a_search_cannot_begin(changes: list[str], said: str):
    begin = "compare.begin={weight_decay=0.8,learning_rate=4e-3}"
    with pytest.raises(ConfigError, match=said):
        load_comparison(ROOT / "tests" / "compare.toml", [begin, *changes])


def test_every_text_once_is_tried_wherever_a_search_begins():
    cfg = load_comparison(ROOT / "configs" / "compare.toml", [])
    begin = cfg.compare.begin_synthetic
    axes = grid(cfg.compare.tune, begin, cfg.pretrain.optimizer.learning_rate, natural=0.4)
    assert None in axes["organic_share"].values, "every text once is on the axis wherever it begins"
    assert 0.4 not in axes["organic_share"].values and 0.25 in axes["organic_share"].values


def test_a_share_that_ends_before_the_plateau_is_no_beginning():
    cfg = load_comparison(ROOT / "tests" / "compare.toml", [])
    tried: list[PretrainConfig] = []

    def run_step(name, stage, training, **inputs):
        tried.append(training)
        return Checkpoint(Path(name), training.max_tokens, 1, False, "", 5.0, name, 5.0, training.max_tokens)

    start = Checkpoint(Path("s"), cfg.budget // 2, 1, False, "", 5.0, "s", 5.0, cfg.budget // 2)
    begin = replace(START, share=0.25)
    search_settings(cfg, DedupSteps(run_step), "tune/u1", NotRun("prepare", 0.0), begin, max_trials=3, start=start)
    assert min(t.max_tokens for t in tried) > start.tokens_seen and tried[0].max_tokens == cfg.budget


def test_of_the_finalists_the_best_on_average_wins_and_no_other_setting():
    a, b, c = START, replace(START, learning_rate=1e-3), replace(START, weight_decay=0.8, dropout=0.1)
    tried = [Trial(a, 5.00, 1), Trial(b, 5.01, 1), Trial(c, 5.02, 1)]
    assert finalists(AXES, tried, 2) == [a, b]
    tried += [Trial(a, 5.30, 1, draw=1), Trial(b, 5.05, 1, draw=1)]
    assert finalists(AXES, tried, 2) == [a, b], "a further seed does not change who they are"
    assert winner(tried) == b, "the search's seed was lucky with a"
    assert winner([*tried, Trial(a, math.nan, 1, draw=2), Trial(b, 6.0, 1, draw=2)]) == b


def test_one_setting_is_no_final():
    assert finalists(AXES, [Trial(START, 5.0, 1)], 2) == []


def test_measured_trainings_have_a_fixed_number_of_tokens_and_end_at_rate_zero():
    cfg = TrainingSettings(1.6, 1e-3, share=0.5, dropout=0.1).apply(
        PretrainConfig(batch_size=8, sequence_length=64), 40_000, 0.2
    )
    assert (cfg.max_tokens, cfg.total_tokens, cfg.plateau, cfg.decay_fraction) == (20_000, 20_000, None, 0.2)
    assert (cfg.optimizer.weight_decay, cfg.optimizer.learning_rate, cfg.optimizer.dropout) == (1.6, 1e-3, 0.1)


@pytest.mark.parametrize(
    "bad", [{"trials": -1}, {"rates": (0.0,)}, {"shares": (2.0,)}, {"dropouts": ()}, {"finalists": 1}, {"finalist_seeds": 0}]
)
def test_bad_settings_name_the_field(bad):
    with pytest.raises(ValueError, match=rf"^{next(iter(bad))}(\.0)?:"):
        build(TuneConfig, bad)
