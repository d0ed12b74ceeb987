"""The search for the settings of repetition, at every corpus of a comparison: what is trained, and how a search ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synpro.compare.config import SCARCE, CompareConfig
from synpro.compare.tuning import TrainingSettings, Trial, finalists, grid, propose_next, winner
from synpro.records import Corpus
from synpro.runner.step import RunStep
from synpro.stages.pretrain import pretrain


@dataclass(frozen=True)
class SearchResult:
    """The settings found for repetition of one corpus, and the trainings it took to find them."""

    chosen: TrainingSettings
    trials: tuple[Trial, ...] = ()
    settled: bool = False
    """The best setting has no untried neighbour on the grid. False: the search ended on its number of trials."""
    carried: bool = False
    """Not searched here: the settings of the smaller corpus."""


def default_settings(cfg: CompareConfig) -> TrainingSettings:
    """The settings that nobody tuned."""
    return TrainingSettings(cfg.compare.weight_decay, cfg.pretrain.optimizer.learning_rate)


def search_settings(cfg: CompareConfig, run_step: RunStep, corpora: Mapping[str, Corpus]) -> dict[str, SearchResult]:
    """Search at every corpus, from the smallest on; each search starts from the settings found at the corpus before."""
    found: dict[str, SearchResult] = {}
    start = default_settings(cfg)
    for name, corpus in corpora.items():
        found[name] = tune(cfg, run_step, name, corpus, start)
        start = found[name].chosen
    return found


def tune(cfg: CompareConfig, run_step: RunStep, name: str, corpus: Corpus, start: TrainingSettings) -> SearchResult:
    """Search the settings of repetition at one corpus, on its reference split.

    First the climb on the grid (`tuning.propose_next`), until it settles or its trials are used. Then the finals: the best
    settings of the climb are trained again, with further seeds, and the best on average wins.
    """
    tune = cfg.compare.tune
    max_trials = tune.trials if name == SCARCE else tune.anchor_trials
    axes = grid(tune, start, cfg.pretrain.optimizer.learning_rate)
    trials: list[Trial] = []
    settled = False
    while len(trials) < max_trials and not settled:
        proposed = propose_next(axes, start, trials)
        if proposed is None:
            settled = True
        else:
            trials.append(run_trial(cfg, run_step, f"tune/{name}/trial-{len(trials):02d}", corpus, proposed))
    best = finalists(trials, tune.finalists)
    for draw in range(1, tune.finalist_seeds + 1):
        for settings in best:
            trials.append(run_trial(cfg, run_step, f"tune/{name}/trial-{len(trials):02d}", corpus, settings, draw))
    chosen = winner(trials) if trials else start
    return SearchResult(chosen, tuple(trials), settled, carried=name != SCARCE and max_trials == 0)


def run_trial(
    cfg: CompareConfig, run_step: RunStep, folder: str, corpus: Corpus, settings: TrainingSettings, draw: int = 0
) -> Trial:
    """One training of a search. Trials with the same `draw` share a seed, so they differ in their settings alone."""
    training = settings.apply(cfg.measured, cfg.budget, cfg.compare.decay_fraction)
    seed_key = f"tune-{draw}" if draw else "tune"
    given = {"corpus": corpus, "shards": [], "start": None}
    model = run_step(f"{folder}/pretrain", pretrain, training, seed_key=seed_key, **given)
    return Trial(settings, model.reference_loss, model.tokens_seen, draw)
