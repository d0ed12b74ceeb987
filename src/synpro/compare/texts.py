"""The synthetic text of an arm: the loop of `loop.py` without its measured training.

The model that shows the generators what is missing is repetition as it was tuned: the winner of the search, and in later rounds
the same training on the text so far. A model that has seen too little would point at what more tokens alone would teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from synpro.compare.arms import find_arm
from synpro.compare.config import CompareConfig
from synpro.compare.search import SearchResult
from synpro.compare.steps import DedupSteps
from synpro.loop import synthesize_round
from synpro.records import Checkpoint, Corpus, Generator, Probe, Shard, TrainedVerifier, digest_of
from synpro.rewards.scoring import Scoring, can_share_scores
from synpro.runner.step import RunStep
from synpro.stages.pretrain import pretrain, trained
from synpro.stages.probe import fit_probe
from synpro.stages.train_verifier import train_verifier


@dataclass(frozen=True)
class SyntheticText:
    """Synthetic text of one arm; none for an arm of organic text."""

    shards: tuple[Shard, ...] = ()
    steps: tuple[str, ...] = ()
    """The steps that made it."""
    draw: int = 0
    """Which sample of its generators' texts."""
    generators: tuple[dict[str, Generator], ...] = ()
    """Those of each round, by operation."""

    @property
    def tokens(self) -> int:
        """Its tokens, for the model that is trained."""
        return sum(s.text_tokens for s in self.shards)


@dataclass(frozen=True)
class FirstProbe:
    """What every arm's first round looks at: the probe of tuned repetition."""

    probe: Probe
    steps: tuple[str, ...]


def first_verifier(cfg: CompareConfig, steps: DedupSteps, corpus: Corpus) -> tuple[TrainedVerifier, str]:
    """The verifier of all arms, and its step."""
    shared = steps.within("text/shared")
    verifier = shared("round-00/verifier", train_verifier, cfg.train_verifier, corpus=corpus, judges=cfg.judges)
    return verifier, shared.places[-1]


def first_plateau(cfg: CompareConfig, run_step: RunStep, corpus: Corpus) -> Checkpoint | None:
    """The model that trainings at the scarce corpus continue: organic text until the plateau. None: they begin anew."""
    if cfg.compare.protocol == "scratch":
        return None
    return trained(run_step("text/shared/round-00/pretrain", pretrain, cfg.pretrain, corpus=corpus, shards=[], start=None))


def first_probe(
    cfg: CompareConfig, steps: DedupSteps, corpus: Corpus, start: Checkpoint | None, search: SearchResult
) -> FirstProbe:
    """The probe of tuned repetition; of repetition as nobody tuned it, where nothing was searched."""
    shared = steps.within("text/shared")
    places = list[str]()
    if search.best is not None:
        model, places = search.models[search.best], [search.steps[search.best]]
    else:
        training = search.chosen.apply(cfg.measured, cfg.budget, cfg.compare.decay_fraction)
        model = trained(shared("round-01/pretrain", pretrain, training, corpus=corpus, shards=[], start=start))
    probe = shared("round-01/probe", fit_probe, cfg.probe, corpus=corpus, model=model)
    return FirstProbe(probe, (*places, *shared.places))


def first_to_ask(cfg: CompareConfig, names: Sequence[str]) -> dict[str, set[str]]:
    """For each arm, those before it in `names` that ask for the same answers by prompt alone, or have the same answers scored
    to choose among them. It waits for these, and finds answers and scores (`synthesize.keep_answers`)."""
    known, found = dict[str, str](), {name: set[str]() for name in names}
    shares = can_share_scores(cfg.judges, cfg.train_verifier.kind)
    for name in names:
        arm, own = find_arm(name), cfg.of_arm(name)
        for operation in own.operations.values():
            for number in range(1, 1 + (arm.rounds or cfg.rounds) if not operation.steps else 1):
                asked = [number, operation.name, asdict(operation.sampling(operation.candidates))]
                scored = [*asked, arm.looks, asdict(operation.for_scoring()), asdict(own.filters)]
                for wanted in (asked, scored) if operation.selects and shares else (asked,):
                    found[name].add(known.setdefault(digest_of(wanted), name))
    return {name: first - {name} for name, first in found.items()}


def synthesize_text(
    cfg: CompareConfig,
    steps: DedupSteps,
    name: str,
    draw: int,
    corpus: Corpus,
    start: Checkpoint | None,
    verified: tuple[TrainedVerifier, str],
    first: FirstProbe | None = None,
    search: SearchResult | None = None,
) -> SyntheticText:
    """The text of all rounds of an arm. `first` and `search`: for arms that look at the model. Generators are trained once, on
    what the texts of draw 0 leave to learn."""
    arm, own = find_arm(name), cfg.of_arm(name)
    mine = steps.within(f"text/{name}", draw)
    probe = first.probe if first else None
    shards, generators, trainings = list[Shard](), list[dict[str, Generator]](), list[str]()
    rounds = arm.rounds or cfg.rounds
    if draw and rounds > 1:  # in a single round, the step's name is enough (`DedupSteps.within`)
        draw_0 = synthesize_text(cfg, steps, name, 0, corpus, start, verified, first, search)
        trainings = [s for s in draw_0.steps if s.rpartition("/")[2].startswith("train-")]
        generators, own = list(draw_0.generators), replace(own, retrain_each_round=False)
    for number in range(1, rounds + 1):
        scoring = Scoring(own.rubric, own.judges, probe, verified[0], own.filters)
        known = generators[number - 1] if trainings else generators[-1] if generators else {}
        new_shards, used = synthesize_round(own, mine, number, corpus, scoring, known)
        shards += new_shards
        generators += [] if trainings else [used]
        if number < rounds and search is not None:
            training = search.chosen.apply(cfg.measured, cfg.budget, cfg.compare.decay_fraction)
            step = f"round-{number:02d}/pretrain"
            model = trained(mine(step, pretrain, training, corpus=corpus, shards=list(shards), start=start))
            probe = mine(f"round-{number + 1:02d}/probe", fit_probe, cfg.probe, corpus=corpus, model=model)
    places = (verified[1], *(first.steps if first else ()), *trainings, *mine.places)
    return SyntheticText(tuple(shards), places, draw, tuple(generators))
