"""The comparison, the algorithm: nested corpora, a tuned baseline on each, every arm's text, and one measured model per seed.

It runs the stages of `loop.py` through the same `run_step`, in one directory. A step that was asked for before with the same
config and inputs is not run again under another name: arms share the first plateau, its probe, and whatever else is equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from synpro.compare.arms import ARMS, Arm
from synpro.compare.config import SCARCE, CompareConfig
from synpro.compare.search import SearchResult, default_settings, search_settings
from synpro.compare.steps import DedupSteps
from synpro.compare.tuning import TrainingSettings
from synpro.loop import synthesize_round
from synpro.outline import step_names
from synpro.records import Checkpoint, Corpus, Evaluation, Generator, Shard
from synpro.rewards.scoring import Scoring
from synpro.runner.jobs import Job, run_jobs
from synpro.runner.step import RunStep
from synpro.stages.evaluate import evaluate
from synpro.stages.prepare import prepare
from synpro.stages.pretrain import PretrainConfig, pretrain
from synpro.stages.probe import fit_probe
from synpro.stages.train_verifier import train_verifier


@dataclass(frozen=True)
class SyntheticText:
    """Synthetic text of one arm; none for an arm of organic text."""

    shards: tuple[Shard, ...] = ()
    steps: tuple[str, ...] = ()
    """The steps that made it."""


@dataclass(frozen=True)
class Target:
    """A training to be measured with every seed: an arm, or a point of a curve."""

    folder: str
    """Where its steps are: `arms/synpro`, `curve/u2`, `passes/u2`."""
    corpus: str
    settings: TrainingSettings
    arm: Arm
    single_pass: bool = False
    """Trained on each token of the corpus once."""


@dataclass(frozen=True)
class MeasuredModel:
    """A model trained on organic text and an arm's, with one seed, and its evaluation."""

    model: Checkpoint
    evaluation: Evaluation
    text: SyntheticText


@dataclass(frozen=True)
class MeasuredModels:
    """The models of one target, which differ in their seed alone."""

    corpus: str
    settings: TrainingSettings
    models: Mapping[int, MeasuredModel]
    """By seed, in the order of the config."""


@dataclass(frozen=True)
class ComparisonResult:
    """Everything a comparison did, as records; `summary.py` makes numbers of it."""

    corpora: Mapping[str, Corpus]
    searches: Mapping[str, SearchResult]
    arms: Mapping[str, MeasuredModels]
    curve: Mapping[str, MeasuredModels]
    """Tuned repetition, by corpus."""
    passes: Mapping[str, MeasuredModels]
    """Single passes, by corpus."""


def compare(cfg: CompareConfig, run_step: RunStep, max_parallel: int = 1) -> ComparisonResult:
    """Run every step of a comparison, at most `max_parallel` at a time where none waits for another.

    Raises what a step raises; the results of earlier steps are kept.
    """
    steps = DedupSteps(run_step)
    corpora = prepare_corpora(cfg, steps)
    seeds = cfg.compare.seeds
    text_seeds = seeds if cfg.compare.texts == "per-seed" else seeds[:1]
    # The search and the texts do not need each other. Jobs that share steps wait for each other, so that a step is always
    # stored under the name of the one that comes first here.
    jobs = {"search": Job(partial(search_settings, cfg, steps, corpora))}
    if synthetic_arms(cfg):
        jobs |= {f"texts/{seed}": Job(partial(synthesize_texts, cfg, steps, corpora[SCARCE], seed)) for seed in text_seeds}
    for name in corpora:
        for seed in seeds:
            jobs[f"organic/{name}/{seed}"] = Job(partial(measure_organic, cfg, steps, corpora, name, seed), ("search",))
    if synthetic_arms(cfg):
        for seed in seeds:
            texts = f"texts/{seed if seed in text_seeds else text_seeds[0]}"
            after = ("search", texts, f"organic/{SCARCE}/{seed}")
            jobs[f"synthetic/{seed}"] = Job(partial(measure_synthetic, cfg, steps, corpora, seed), after)
    done = run_jobs(jobs, max_parallel, steps.stop)
    measured = {k: m for name, found in done.items() if name.startswith(("organic/", "synthetic/")) for k, m in found.items()}
    return _result(cfg, corpora, done["search"], measured)


def prepare_corpora(cfg: CompareConfig, run_step: RunStep) -> dict[str, Corpus]:
    """The scarce corpus and its multiples: train splits nest, the other splits and the tokenizer are equal."""
    corpora = {SCARCE: run_step(f"corpus/{SCARCE}/prepare", prepare, cfg.prepare)}
    for multiple in sorted(cfg.compare.anchors):
        larger = replace(cfg.prepare, train_words=multiple * (cfg.prepare.train_words or 0))
        base = list(corpora.values())[-1]
        corpora[f"u{multiple}"] = run_step(f"corpus/u{multiple}/prepare", prepare, larger, base=base)
    return corpora


def synthesize_texts(cfg: CompareConfig, steps: DedupSteps, corpus: Corpus, seed: int) -> dict[str, SyntheticText]:
    """The text of every arm that has synthetic text, one arm after the other: each finds what it shares with those before."""
    return {name: synthesize_text(cfg, steps, name, corpus, seed) for name in synthetic_arms(cfg)}


def synthesize_text(cfg: CompareConfig, steps: DedupSteps, name: str, corpus: Corpus, seed: int) -> SyntheticText:
    """The loop of one arm without its last training: the text of all its rounds."""
    arm = ARMS[name]
    assert arm.generator_config is not None
    own = arm.generator_config(cfg)
    seed_part = f"seed-{seed}/" if cfg.compare.texts == "per-seed" else ""
    shared, mine = (steps.within(f"text/{folder}", seed_part) for folder in ("shared", name))
    verifier = shared("round-00/verifier", train_verifier, cfg.train_verifier, corpus=corpus, judges=cfg.judges)
    model = first_plateau(cfg, shared, corpus)
    probe = shared("round-01/probe", fit_probe, cfg.probe, corpus=corpus, model=model)
    shards, generators = list[Shard](), dict[str, Generator]()
    for number in range(1, cfg.rounds + 1):
        round = f"round-{number:02d}"
        if number > 1 and arm.reprobe:
            probe = mine(f"{round}/probe", fit_probe, cfg.probe, corpus=corpus, model=model)
        scoring = Scoring(own.rubric, own.judges, probe, verifier)
        new_shards, generators = synthesize_round(own, mine, number, corpus, scoring, generators)
        shards += new_shards
        if number < cfg.rounds and arm.reprobe:
            model = mine(f"{round}/pretrain", pretrain, cfg.pretrain, corpus=corpus, shards=list(shards), start=model)
    return SyntheticText(tuple(shards), (*shared.places, *mine.places))


def first_plateau(cfg: CompareConfig, run_step: RunStep, corpus: Corpus) -> Checkpoint:
    """The model that every arm's first round measures: organic text until the plateau."""
    return run_step("round-00/pretrain", pretrain, cfg.pretrain, corpus=corpus, shards=[], start=None)


def measure_organic(
    cfg: CompareConfig,
    steps: DedupSteps,
    corpora: Mapping[str, Corpus],
    corpus: str,
    seed: int,
    searches: Mapping[str, SearchResult],
) -> dict[tuple[str, int], MeasuredModel]:
    """Every model of one seed that reads one corpus alone: arms of organic text, its point of the curve, a single pass."""
    targets = [t for t in all_targets(cfg, searches) if t.corpus == corpus and t.arm.generator_config is None]
    return {(t.folder, seed): measure(cfg, steps, t, corpora[corpus], SyntheticText(), seed) for t in targets}


def measure_synthetic(
    cfg: CompareConfig,
    steps: DedupSteps,
    corpora: Mapping[str, Corpus],
    seed: int,
    searches: Mapping[str, SearchResult],
    texts: Mapping[str, SyntheticText],
    _organic: object,
) -> dict[tuple[str, int], MeasuredModel]:
    """The arms with synthetic text, of one seed. `_organic`: those without, which must have asked for shared steps before."""
    targets = {n: t for n, t in arm_targets(cfg, searches).items() if t.arm.generator_config is not None}
    return {(t.folder, seed): measure(cfg, steps, t, corpora[t.corpus], texts[n], seed) for n, t in targets.items()}


def ordered_arms(cfg: CompareConfig) -> list[str]:
    """The arms of a comparison, in the order they run in."""
    return [name for name in ARMS if name in cfg.compare.arms]


def synthetic_arms(cfg: CompareConfig) -> list[str]:
    """The arms that have synthetic text."""
    return [name for name in ordered_arms(cfg) if ARMS[name].generator_config is not None]


def arm_targets(cfg: CompareConfig, searches: Mapping[str, SearchResult]) -> dict[str, Target]:
    """What is trained for each arm."""
    largest, targets = list(searches)[-1], {}
    for name in ordered_arms(cfg):
        arm = ARMS[name]
        corpus = largest if arm.oracle else SCARCE
        settings = searches[corpus].chosen if arm.tuned else default_settings(cfg)
        targets[name] = Target(f"arms/{name}", corpus, settings if arm.repeats else replace(settings, share=1.0), arm)
    return targets


def curve_targets(searches: Mapping[str, SearchResult]) -> dict[str, Target]:
    """Tuned repetition at every corpus: the curve of loss against unique tokens."""
    return {n: Target(f"curve/{n}", n, found.chosen, ARMS["tuned-repetition"]) for n, found in searches.items()}


def pass_targets(cfg: CompareConfig, searches: Mapping[str, SearchResult]) -> dict[str, Target]:
    """A single pass over every corpus, where the config asks for it."""
    if not cfg.compare.passes:
        return {}
    plain, arm = default_settings(cfg), ARMS["repetition"]
    return {name: Target(f"passes/{name}", name, plain, arm, single_pass=True) for name in searches}


def all_targets(cfg: CompareConfig, searches: Mapping[str, SearchResult]) -> list[Target]:
    """Arms, then points of the curve, then single passes."""
    groups = (arm_targets(cfg, searches), curve_targets(searches), pass_targets(cfg, searches))
    return [target for group in groups for target in group.values()]


def measure(
    cfg: CompareConfig, steps: DedupSteps, target: Target, corpus: Corpus, text: SyntheticText, seed: int
) -> MeasuredModel:
    """Train a model on organic text and an arm's, and evaluate it."""
    training = measured_training(cfg, target, corpus)
    start = None
    if cfg.compare.protocol == "continued" and target.corpus == SCARCE and not target.single_pass:
        start = first_plateau(cfg, steps.within("text/shared"), corpus)
    name, key, shards = f"{target.folder}/seed-{seed}", f"seed-{seed}", list(text.shards)
    model = steps(f"{name}/pretrain", pretrain, training, seed_key=f"{key}/pretrain", corpus=corpus, shards=shards, start=start)
    given = {"corpus": corpus, "model": model, "shards": shards, "reference": cfg.probe.data}
    evaluation = steps(f"{name}/evaluate", evaluate, cfg.evaluate, seed_key=f"{key}/evaluate", **given)
    return MeasuredModel(model, evaluation, text)


def measured_training(cfg: CompareConfig, target: Target, corpus: Corpus) -> PretrainConfig:
    """How a measured model is trained."""
    tokens = int(min(cfg.budget, corpus.tokens["train"])) if target.single_pass else cfg.budget
    training = target.settings.apply(cfg.measured, tokens, cfg.compare.decay_fraction)
    if target.single_pass:  # a pass over a small corpus may be shorter than the warm-up
        training = replace(training, warmup_steps=min(training.warmup_steps, training.steps // 10))
    mixture = training.mixture
    if target.arm.megadocs:
        mixture = replace(mixture, packing="megadocs")
    if target.arm.noise:
        mixture = replace(mixture, token_noise=cfg.compare.token_noise)
    return replace(training, mixture=mixture)


def _result(
    cfg: CompareConfig,
    corpora: Mapping[str, Corpus],
    searches: Mapping[str, SearchResult],
    measured: Mapping[tuple[str, int], MeasuredModel],
) -> ComparisonResult:
    def models(targets: Mapping[str, Target]) -> dict[str, MeasuredModels]:
        return {
            name: MeasuredModels(t.corpus, t.settings, {seed: measured[t.folder, seed] for seed in cfg.compare.seeds})
            for name, t in targets.items()
        }

    arms, curve = models(arm_targets(cfg, searches)), models(curve_targets(searches))
    return ComparisonResult(corpora, searches, arms, curve, models(pass_targets(cfg, searches)))


def comparison_outline(cfg: CompareConfig) -> list[str]:
    """The names of a comparison's steps, in order, without running anything; a search may end sooner."""
    return step_names(lambda run_step: compare(cfg, run_step))
