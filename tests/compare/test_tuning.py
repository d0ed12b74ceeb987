"""The search for tuned settings: a climb on a joint grid that depends on the losses so far alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from synpro.compare.tuning import AXES, TrainingSettings, Trial, TuneConfig, finalists, grid, propose_next, winner
from synpro.schema import build
from synpro.stages.pretrain import PretrainConfig

CFG = TuneConfig(trials=40, dropouts=(0.0, 0.1, 0.2))
START = TrainingSettings(0.1, 1e-3)
AXIS_VALUES = grid(CFG, START, 1e-3)


def bowl(s: TrainingSettings) -> float:
    """Best at weight decay 1.6, half the rate, half the budget, dropout 0.1; rate and decay depend on each other."""
    decay, rate = math.log(s.weight_decay / 1.6), math.log(s.learning_rate / 5e-4)
    return 5 + 0.05 * decay**2 + 0.1 * (rate + 0.2 * decay) ** 2 + 0.1 * (s.share - 0.5) ** 2 + (s.dropout - 0.1) ** 2


def searched(trials: int) -> list[Trial]:
    tried: list[Trial] = []
    while len(tried) < trials and (settings := propose_next(AXIS_VALUES, START, tried)) is not None:
        tried.append(Trial(settings, bowl(settings), 1))
    return tried


def test_it_begins_with_the_usual_setting_and_climbs_to_the_best_one_of_the_grid():
    tried = searched(40)
    assert tried[0].settings == START and len({t.settings for t in tried}) == len(tried) < 40, "it settled, trying none twice"
    every = [
        TrainingSettings(w, r, s, d)
        for w in AXIS_VALUES["weight_decay"]
        for r in AXIS_VALUES["learning_rate"]
        for s in (0.5, 1)
        for d in CFG.dropouts
    ]
    assert winner(tried) == min(every, key=bowl)
    assert len(tried) < len(every) / 2


def test_a_few_trials_see_two_values_of_every_axis():
    tried = searched(5)
    assert all(len({getattr(t.settings, axis) for t in tried}) > 1 for axis in AXES)


def test_a_search_carried_on_goes_the_way_of_an_undisturbed_one():
    whole = searched(9)
    assert propose_next(AXIS_VALUES, START, whole[:6]) == whole[6].settings


def test_a_training_that_diverged_is_never_the_winner():
    tried = [Trial(START, math.nan, 1), Trial(replace(START, learning_rate=5e-4), 6.0, 1)]
    assert winner(tried).learning_rate == 5e-4


def test_of_the_finalists_the_best_on_average_wins_and_no_other_setting():
    a, b, c = START, replace(START, learning_rate=5e-4), replace(START, dropout=0.1)
    tried = [Trial(a, 5.00, 1), Trial(b, 5.01, 1), Trial(c, 5.02, 1)]
    assert finalists(tried, 2) == [a, b]
    tried += [Trial(a, 5.30, 1, draw=1), Trial(b, 5.05, 1, draw=1)]
    assert finalists(tried, 2) == [a, b], "a further seed does not change who they are"
    assert winner(tried) == b, "the search's seed was lucky with a"
    assert winner([*tried, Trial(a, math.nan, 1, draw=2), Trial(b, 6.0, 1, draw=2)]) == b


def test_one_setting_is_no_final():
    assert finalists([Trial(START, 5.0, 1)], 2) == []


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
