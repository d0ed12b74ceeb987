"""The comparison, the algorithm: nested corpora, a tuned baseline on each, every arm's text, and one measured model per seed.

Made of the stages of `loop.py`, called through the same `do`, in one directory. A step that was asked for before with the same
config and inputs is not done twice under another name: arms share the first plateau, its probe, and whatever else is equal.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from synpro.compare.arms import ARMS, Arm
from synpro.compare.config import CompareConfig
from synpro.compare.tuning import Settings, Trial, finalists, following, grid, winner
from synpro.loop import Do, fit_verifier, write
from synpro.records import Checkpoint, Corpus, digest_of, encode
from synpro.run.crew import Job, work_off
from synpro.run.launch import end_running

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
    written: dict[tuple[str, int], Text] = field(default_factory=dict)
    """Texts of the arms that write, by arm and seed."""


def compare(cfg: CompareConfig, steps: Do, at_once: int = 1) -> Compared:
    """Do every step of a comparison, `at_once` of them at a time where none waits for another.

    Raises what a step raises; what was done before it stands.
    """
    do = Once(steps)
    done = Compared(corpora=prepare(cfg, do))
    scarce = next(iter(done.corpora))
    writing = [name for name in ordered(cfg) if ARMS[name].writes is not None]
    authors = cfg.compare.seeds if cfg.compare.texts == "per-seed" else cfg.compare.seeds[:1]
    # The search asks nothing of the texts and the texts nothing of it. Jobs that share steps come one after the other, so that
    # a step always stands under the name that asks first here.
    jobs = {"search": Job(partial(search, cfg, do, done))}
    jobs |= {f"texts/{s}": Job(partial(all_texts, cfg, do, done, writing, s)) for s in authors if writing}
    organic = [name for name in ordered(cfg) if name not in writing]
    for name in done.corpora:
        for seed in cfg.compare.seeds:
            jobs[f"organic/{name}/{seed}"] = Job(partial(organic_on, cfg, do, done, organic, name, seed), ("search",))
    for seed in cfg.compare.seeds if writing else ():
        after = (f"texts/{seed if seed in authors else authors[0]}", f"organic/{scarce}/{seed}")
        jobs[f"written/{seed}"] = Job(partial(measure_arms, cfg, do, done, writing, seed), after)
    work_off(jobs, at_once, do.stop)
    for measured in (m for group in (done.arms, done.curve, done.passes) for m in group.values()):
        measured.runs = {seed: measured.runs[seed] for seed in cfg.compare.seeds}  # not the order they ended in
    return done


def ordered(cfg: CompareConfig) -> list[str]:
    """The arms of a comparison, in the order they are done in."""
    return [name for name in ARMS if name in cfg.compare.arms]


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


def search(cfg: CompareConfig, do: Do, done: Compared) -> None:
    """Find every corpus's settings, and say in `done` what will be measured with them."""
    scarce, largest = next(iter(done.corpora)), list(done.corpora)[-1]
    start = usual(cfg)
    for name, corpus in done.corpora.items():
        done.searches[name] = tune(cfg, do, name, corpus, start, first=name == scarce)
        start = done.searches[name].chosen
    for name in ordered(cfg):
        arm = ARMS[name]
        where = largest if arm.oracle else scarce
        settings = done.searches[where].chosen if arm.tuned else usual(cfg)
        done.arms[name] = Measured(where, settings if arm.repeats else replace(settings, share=1.0))
    for name, found in done.searches.items():
        done.curve[name] = Measured(name, found.chosen)
        if cfg.compare.passes:
            done.passes[name] = Measured(name, usual(cfg))


def tune(cfg: CompareConfig, do: Do, name: str, corpus: Any, start: Settings, *, first: bool) -> Search:
    """Search the settings of repetition at one corpus, on its reference split, from those of the smaller one."""
    most = cfg.compare.tune.trials if first else cfg.compare.tune.anchor_trials
    axes = grid(cfg.compare.tune, start, cfg.pretrain.optimizer.lr)
    found = Search(start, carried=not first and most == 0)
    train = partial(try_out, cfg, do, name, corpus, found.trials)
    while len(found.trials) < most:
        settings = following(axes, start, found.trials)
        if settings is None:
            found.settled = True
            break
        train(settings)
    best = finalists(found.trials, cfg.compare.tune.finalists)
    for draw in range(1, cfg.compare.tune.finalist_seeds + 1):
        for settings in best:
            train(settings, draw)
    if found.trials:
        found.chosen = winner(found.trials)
    return found


def try_out(cfg: CompareConfig, do: Do, name: str, corpus: Any, trials: list[Trial], settings: Settings, draw: int = 0) -> None:
    """One training of a search, noted in `trials`. Those of one `draw` have one seed: they differ in their settings alone."""
    model = do(
        f"tune/{name}/trial-{len(trials):02d}/pretrain",
        PRETRAIN,
        settings.training(cfg.measured, cfg.budget, cfg.compare.anneal),
        spread="processes",
        drawn=f"tune-{draw}" if draw else "tune",
        corpus=corpus,
        shards=[],
        start=None,
    )
    # An outline has no losses: it walks the most trials there can be.
    known = isinstance(model, Checkpoint)
    loss, tokens = (model.reference_loss, model.tokens_seen) if known else (-float(len(trials)), 0)
    trials.append(Trial(settings, loss, tokens, draw))


def all_texts(cfg: CompareConfig, do: Once, done: Compared, arms: list[str], seed: int) -> None:
    """Let every arm that writes do so, one after the other: the second finds what it shares with the first done."""
    for name in arms:
        text = texts(cfg, do, name, done.corpora["u1"], seed)
        for other in cfg.compare.seeds if cfg.compare.texts == "once" else (seed,):
            done.written[name, other] = text


def texts(cfg: CompareConfig, do: Once, name: str, corpus: Any, seed: int) -> Text:
    """The loop of one arm without its last training: what it writes over all its rounds."""
    arm = ARMS[name]
    assert arm.writes is not None
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
            model = mine(f"{round}/pretrain", PRETRAIN, cfg.pretrain, spread="processes", **settled)
    return text


def first_plateau(cfg: CompareConfig, do: Do, corpus: Any) -> Any:
    """The model that every arm's first round measures: organic text until the plateau."""
    settled = {"corpus": corpus, "shards": [], "start": None}
    return do("round-00/pretrain", PRETRAIN, cfg.pretrain, spread="processes", **settled)


def organic_on(cfg: CompareConfig, do: Once, done: Compared, arms: list[str], corpus: str, seed: int) -> None:
    """Every model of one seed that reads one corpus alone: arms without texts, its point of the curve, a single pass."""
    measure_arms(cfg, do, done, [name for name in arms if done.arms[name].corpus == corpus], seed)
    measure(cfg, do, done, f"curve/{corpus}", seed, done.curve[corpus], ARMS["tuned-repetition"], Text())
    if cfg.compare.passes:
        measure(cfg, do, done, f"passes/{corpus}", seed, done.passes[corpus], ARMS["repetition"], Text(), single=True)


def measure_arms(cfg: CompareConfig, do: Once, done: Compared, arms: list[str], seed: int) -> None:
    """Measure arms with one seed, in this order."""
    for name in arms:
        text = done.written.get((name, seed), Text())
        measure(cfg, do, done, f"arms/{name}", seed, done.arms[name], ARMS[name], text)


def measure(
    cfg: CompareConfig,
    do: Once,
    done: Compared,
    folder: str,
    seed: int,
    into: Measured,
    arm: Arm,
    text: Text,
    *,
    single: bool = False,
) -> None:
    """Train a model on organic text and an arm's, evaluate it, note both in `into`. `single`: one pass over the corpus."""
    corpus = done.corpora[into.corpus]
    tokens = min(cfg.budget, corpus.tokens["train"]) if single and isinstance(corpus, Corpus) else cfg.budget
    training = into.settings.training(cfg.measured, tokens, cfg.compare.anneal)
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
        spread="processes",
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


class Stopped(RuntimeError):
    """No further step is started: another one failed, or the comparison was interrupted."""


class Once:
    """Does a step unless one with the same stage, config, inputs and seed was done under another name; for several threads."""

    def __init__(self, do: Do) -> None:
        self._do = do
        self._asked = threading.Lock()
        self._known: dict[str, tuple[str, Future[Any]]] = {}
        self._stopped = False
        self.places: dict[str, str] = {}
        """Name asked for -> step that was done."""

    def __call__(self, name: str, stage: str, cfg: Any, *, drawn: str | None = None, **inputs: Any) -> Any:
        key = digest_of(encode([stage, cfg, inputs, drawn or name], Path("/")))
        with self._asked:
            if self._stopped:
                raise Stopped(f"{name} was not started")
            ours = key not in self._known
            if ours:
                self._known[key] = (name, Future())
            self.places[name], record = self._known[key]
        if ours:
            try:
                record.set_result(self._do(name, stage, cfg, drawn=drawn, **inputs))
            except BaseException as error:
                record.set_exception(error)
                raise
        return record.result()

    def stop(self, interrupted: bool) -> None:
        """Start no step any more. Those that run end by themselves, and their results stand; an interrupt ends them."""
        with self._asked:
            self._stopped = True
        if interrupted:
            end_running()

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
