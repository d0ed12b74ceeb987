"""The comparison, the algorithm: nested corpora, a tuned baseline on each, every arm's text, and one measured model per seed.

Made of the stages of `loop.py`, called through the same `do`, in one directory. A step that was asked for before with the same
config and inputs is not done twice under another name: arms share the first plateau, its probe, and whatever else is equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synpro.compare.arms import ARMS, Arm
from synpro.compare.config import CompareConfig
from synpro.compare.tuning import Settings, Trial, following, grid, winner
from synpro.loop import Do, fit_verifier, write
from synpro.records import Checkpoint, Corpus, digest_of, encode

PRETRAIN = "synpro.stages.pretrain:pretrain"


@dataclass
class Search:
    """The settings found for repetition of one corpus, and what finding them took."""

    chosen: Settings
    trials: list[Trial] = field(default_factory=list)
    settled: bool = False
    """The best setting has no untried neighbour on the grid; False: the search ended on its number of trials."""
    carried: bool = False
    """Not searched here: the setting of the smaller corpus."""


@dataclass
class Text:
    """Synthetic text of one arm, and the steps that made it."""

    shards: list[Any] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """Models trained alike but for their seed."""

    corpus: str
    settings: Settings
    runs: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """Seed -> (checkpoint, evaluation)."""
    texts: dict[int, Text] = field(default_factory=dict)


@dataclass
class Compared:
    """Everything a comparison did, as records: what `tally.py` counts."""

    corpora: dict[str, Any] = field(default_factory=dict)
    searches: dict[str, Search] = field(default_factory=dict)
    arms: dict[str, Measured] = field(default_factory=dict)
    curve: dict[str, Measured] = field(default_factory=dict)
    """Tuned repetition by corpus."""
    passes: dict[str, Measured] = field(default_factory=dict)
    """Single passes by corpus."""


def compare(cfg: CompareConfig, steps: Do) -> Compared:
    """Do every step of a comparison. Raises what a step raises; what was done before it stands."""
    do = Once(steps)
    done = Compared(corpora=prepare(cfg, do))
    scarce, largest = next(iter(done.corpora)), list(done.corpora)[-1]
    start = usual(cfg)
    for name, corpus in done.corpora.items():
        done.searches[name] = tune(cfg, do, name, corpus, start, first=name == scarce)
        start = done.searches[name].chosen
    for seed in cfg.compare.seeds:
        for name in (a for a in ARMS if a in cfg.compare.arms):
            arm = ARMS[name]
            where = largest if arm.oracle else scarce
            settings = done.searches[where].chosen if arm.tuned else usual(cfg)
            if not arm.repeats:
                settings = replace(settings, share=1.0)
            text = texts(cfg, do, name, arm, done.corpora[scarce], seed)
            into = done.arms.setdefault(name, Measured(where, settings))
            measure(cfg, do, f"arms/{name}", seed, done.corpora[where], into, arm, text)
        for name, search in done.searches.items():
            at = done.curve.setdefault(name, Measured(name, search.chosen))
            measure(cfg, do, f"curve/{name}", seed, done.corpora[name], at, ARMS["tuned-repetition"], Text())
            if cfg.compare.passes:
                once = done.passes.setdefault(name, Measured(name, usual(cfg)))
                measure(cfg, do, f"passes/{name}", seed, done.corpora[name], once, ARMS["repetition"], Text(), single=True)
    return done


def prepare(cfg: CompareConfig, do: Do) -> dict[str, Any]:
    """The scarce corpus `u1` and its multiples: train splits nest, the other splits and the tokenizer are equal."""
    stage = "synpro.stages.prepare:prepare"
    corpora = {"u1": do("corpus/u1/prepare", stage, cfg.prepare)}
    for multiple in sorted(cfg.compare.anchors):
        larger = replace(cfg.prepare, train_words=multiple * (cfg.prepare.train_words or 0))
        base = list(corpora.values())[-1]
        corpora[f"u{multiple}"] = do(f"corpus/u{multiple}/prepare", stage, larger, base=base)
    return corpora


def usual(cfg: CompareConfig) -> Settings:
    """What nobody tuned."""
    return Settings(cfg.compare.weight_decay, cfg.pretrain.optimizer.lr)


def tune(cfg: CompareConfig, do: Do, name: str, corpus: Any, start: Settings, *, first: bool) -> Search:
    """Search the settings of repetition at one corpus, on its reference split, from those of the smaller one."""
    most = cfg.compare.tune.trials if first else cfg.compare.tune.anchor_trials
    axes = grid(cfg.compare.tune, start, cfg.pretrain.optimizer.lr)
    search = Search(start, carried=not first and most == 0)
    while len(search.trials) < most:
        settings = following(axes, start, search.trials)
        if settings is None:
            search.settled = True
            break
        model = do(
            f"tune/{name}/trial-{len(search.trials):02d}/pretrain",
            PRETRAIN,
            settings.training(cfg.pretrain, cfg.budget, cfg.compare.anneal),
            processes=cfg.machine.processes,
            drawn="tune",  # one seed for all trials: they differ in their settings alone
            corpus=corpus,
            shards=[],
            start=None,
        )
        # An outline has no losses: it walks the most trials there can be.
        known = isinstance(model, Checkpoint)
        loss, tokens = (model.reference_loss, model.tokens_seen) if known else (-float(len(search.trials)), 0)
        search.trials.append(Trial(settings, loss, tokens))
    if search.trials:
        search.chosen = winner(search.trials)
    return search


def texts(cfg: CompareConfig, do: Once, name: str, arm: Arm, corpus: Any, seed: int) -> Text:
    """The loop of one arm without its last training: what it writes over all its rounds."""
    if arm.writes is None:
        return Text()
    part = f"seed-{seed}/" if cfg.compare.texts == "per-seed" else ""
    own, text = arm.writes(cfg), Text()
    shared, mine = (do.within(f"text/{folder}", part, text.steps) for folder in ("shared", name))
    verifier = fit_verifier(cfg, shared, "round-00/verifier", corpus)
    model = first_plateau(cfg, shared, corpus)
    probe = shared("round-01/probe", "synpro.stages.probe:fit_probe", cfg.probe, corpus=corpus, model=model)
    generators: dict[str, Any] = {}
    for number in range(1, cfg.rounds + 1):
        round = f"round-{number:02d}"
        if number > 1 and arm.follows:
            probe = mine(f"{round}/probe", "synpro.stages.probe:fit_probe", cfg.probe, corpus=corpus, model=model)
        text.shards += write(own, mine, round, number, corpus, probe, verifier, generators)
        if number < cfg.rounds and arm.follows:
            settled = {"corpus": corpus, "shards": list(text.shards), "start": model}
            model = mine(f"{round}/pretrain", PRETRAIN, cfg.pretrain, processes=cfg.machine.processes, **settled)
    return text


def first_plateau(cfg: CompareConfig, do: Do, corpus: Any) -> Any:
    """The model that every arm's first round measures: organic text until the plateau."""
    settled = {"corpus": corpus, "shards": [], "start": None}
    return do("round-00/pretrain", PRETRAIN, cfg.pretrain, processes=cfg.machine.processes, **settled)


def measure(
    cfg: CompareConfig,
    do: Once,
    folder: str,
    seed: int,
    corpus: Any,
    into: Measured,
    arm: Arm,
    text: Text,
    *,
    single: bool = False,
) -> None:
    """Train a model on organic text and an arm's, evaluate it, note both in `into`. `single`: one pass over the corpus."""
    tokens = min(cfg.budget, corpus.tokens["train"]) if single and isinstance(corpus, Corpus) else cfg.budget
    training = into.settings.training(cfg.pretrain, tokens, cfg.compare.anneal)
    if single:  # a pass over a small corpus may be shorter than the warm-up
        training = replace(training, warmup=min(training.warmup, training.steps // 10))
    mixture = replace(
        training.mixture,
        packing="megadocs" if arm.megadocs else training.mixture.packing,
        token_noise=cfg.compare.token_noise if arm.noise else training.mixture.token_noise,
    )
    start = None
    if cfg.compare.protocol == "continued" and into.corpus == "u1" and not single:
        start = first_plateau(
            cfg, lambda step, *given, **inputs: do(f"text/shared/{step}", *given, drawn=step, **inputs), corpus
        )
    model = do(
        f"{folder}/seed-{seed}/pretrain",
        PRETRAIN,
        replace(training, mixture=mixture),
        processes=cfg.machine.processes,
        drawn=f"seed-{seed}/pretrain",
        corpus=corpus,
        shards=text.shards,
        start=start,
    )
    found = do(
        f"{folder}/seed-{seed}/evaluate",
        "synpro.stages.evaluate:evaluate",
        cfg.evaluate,
        drawn=f"seed-{seed}/evaluate",
        corpus=corpus,
        model=model,
        shards=text.shards,
        reference=cfg.probe.data,
    )
    into.runs[seed], into.texts[seed] = (model, found), text


class Once:
    """Does a step unless one with the same stage, config, inputs and seed was done under another name."""

    def __init__(self, do: Do) -> None:
        self._do = do
        self._known: dict[str, tuple[str, Any]] = {}
        self.places: dict[str, str] = {}
        """Name asked for -> step that was done."""

    def __call__(self, name: str, stage: str, cfg: Any, *, drawn: str | None = None, **inputs: Any) -> Any:
        key = digest_of(encode([stage, cfg, inputs, drawn or name], Path("/")))
        if key not in self._known:
            self._known[key] = (name, self._do(name, stage, cfg, drawn=drawn, **inputs))
        self.places[name], record = self._known[key]
        return record

    def within(self, folder: str, part: str = "", noted: list[str] | None = None) -> Do:
        """Does steps in a folder. Their seeds are drawn from their own names, so that they are paired with those of other
        folders; `part` of a folder draws others. What was done, or found done, is added to `noted`."""

        def named(step: str, stage: str, cfg: Any, **inputs: Any) -> Any:
            record = self(f"{folder}/{part}{step}", stage, cfg, drawn=f"{part}{step}", **inputs)
            if noted is not None:
                noted.append(self.places[f"{folder}/{part}{step}"])
            return record

        return named


def outline(cfg: CompareConfig) -> list[str]:
    """The names of a comparison's steps, in order, walked with names in the place of records; a search may end sooner."""
    names: list[str] = []

    def walked(name: str, *_: Any, **__: Any) -> str:
        names.append(name)
        return name

    compare(cfg, walked)
    return names
