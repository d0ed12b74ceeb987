"""The searches of a comparison: settings of repetition at every corpus, and of every arm with synthetic text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from synpro.compare.config import SCARCE, CompareConfig
from synpro.compare.steps import DedupSteps
from synpro.compare.tuning import AXES, TrainingSettings, Trial, grid, near, open_axes, propose_next, winner
from synpro.records import Checkpoint, Corpus, Shard
from synpro.runner.step import StepError
from synpro.stages.pretrain import PretrainConfig, pretrain


@dataclass(frozen=True)
class SearchResult:
    """The settings found for one text, and the trainings it took to find them."""

    chosen: TrainingSettings
    trials: tuple[Trial, ...] = ()
    open_axes: tuple[str, ...] = AXES
    """The axes on which a neighbour of the chosen settings was not tried, or won. None: the search is settled."""
    carried: bool = False
    """Not searched here: the settings of the smaller corpus, or of repetition."""
    steps: tuple[str, ...] = ()
    """The step of each trial. Another arm with the same text may have run it."""
    models: tuple[Checkpoint, ...] = ()
    """The model of each trial."""

    @property
    def best(self) -> int | None:
        """The trial that trained the chosen settings first, with the seed of the climb; None where nothing was searched."""
        return next((i for i, t in enumerate(self.trials) if t.settings == self.chosen), None)

    @property
    def settled(self) -> bool:
        """Whether every neighbour of the chosen settings was tried and lost."""
        return bool(self.trials) and not self.open_axes

    @property
    def gains_from_tokens(self) -> bool:
        """Whether the whole budget is best, and was used to its end, so that more of it might be better still."""
        model = None if self.best is None else self.models[self.best]
        stopped_early = model is not None and model.best_tokens is not None and model.best_tokens < 0.95 * model.tokens_seen
        return self.chosen.share >= 1.0 and not stopped_early

    @property
    def settings_tried(self) -> int:
        """Different settings that were trained."""
        return len({t.settings for t in self.trials})


def default_settings(cfg: CompareConfig) -> TrainingSettings:
    """The settings that nobody tuned."""
    rate, replay = cfg.pretrain.optimizer.learning_rate, cfg.pretrain.mixture.replay_share
    return TrainingSettings(cfg.compare.weight_decay, rate, replay_share=replay)


def search_settings(
    cfg: CompareConfig,
    steps: DedupSteps,
    folder: str,
    corpus: Corpus,
    begin: TrainingSettings,
    *,
    max_trials: int,
    shards: Sequence[Shard] = (),
    start: Checkpoint | None = None,
    training: PretrainConfig | None = None,
) -> SearchResult:
    """Search the settings for a text on the reference split, under the protocol that is measured (`tuning.propose_next`).

    `begin`: the settings it begins with. `start`: the model that trainings continue, None from new weights.
    `training`: how models are trained, before the settings; None: as repetition's. Raises StepError where all diverge.
    """
    tune = cfg.compare.tune
    if not max_trials:
        return SearchResult(begin, carried=True)
    natural = natural_share(corpus, shards) if shards else None
    least = (start.tokens_seen + cfg.measured.batch_size * cfg.pretrain.sequence_length) / cfg.budget if start else 0.0
    replays = bool(cfg.prepare.general)
    if begin.share <= least:  # it would end before the plateau that it continues
        begin = replace(begin, share=1.0)
    if natural is not None and begin.organic_share is not None and near(begin.organic_share, natural):
        begin = replace(begin, organic_share=None)
    axes = grid(tune, begin, cfg.pretrain.optimizer.learning_rate, natural=natural, least_share=least, replays=replays)
    base = training or cfg.measured
    trials: list[Trial] = []
    models: list[Checkpoint] = []
    mine = steps.within(folder)
    while (proposed := propose_next(axes, begin, trials, tune, max_trials)) is not None:
        settings, draw = proposed
        applied = settings.apply(base, cfg.budget, cfg.compare.decay_fraction)
        step = f"trial-{len(trials):02d}/pretrain"
        seed_key = f"tune-{draw}" if draw else "tune"  # trials of one draw differ in their settings alone
        model = mine(step, pretrain, applied, seed_key=seed_key, corpus=corpus, shards=list(shards), start=start)
        models.append(model)
        trials.append(Trial(settings, math.inf if model.diverged else model.reference_loss, model.tokens_seen, draw))
    if not any(math.isfinite(t.loss) for t in trials):
        raise StepError(f"{folder}: every training of this search diverged; lower pretrain.optimizer.learning_rate")
    found = tuple(open_axes(axes, trials))
    return SearchResult(winner(trials), tuple(trials), found, steps=tuple(mine.places), models=tuple(models))


def natural_share(corpus: Corpus, shards: Sequence[Shard]) -> float:
    """Share of organic tokens when every text is taken once."""
    return 1 / (1 + sum(s.text_tokens for s in shards) / corpus.tokens["train"])


def search_corpus(
    cfg: CompareConfig, steps: DedupSteps, name: str, corpus: Corpus, start: Checkpoint | None, *before: SearchResult
) -> SearchResult:
    """The search for repetition of one corpus. Where the config gives no beginning, it is what the next smaller one found."""
    tune, given = cfg.compare.tune, cfg.compare
    if not before:
        begin = given.begin or default_settings(cfg)
    else:
        is_smallest = name == f"u{min(given.anchors)}"
        begin = (given.begin_anchors if is_smallest else None) or before[-1].chosen
    trials = tune.trials if name == SCARCE else tune.anchor_trials
    return search_settings(cfg, steps, f"tune/{name}", corpus, begin, max_trials=trials, start=start)
