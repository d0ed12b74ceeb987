"""The comparison, the algorithm: nested corpora, repetition tuned on each, every arm's text and its own search, one measured
model per seed.

It runs the stages of `loop.py` through the same `run_step`, in one directory. A step that was asked for before with the same
config and inputs is not run again under another name: arms share the probe of tuned repetition, and whatever else is equal.

The order: search of repetition -> probe of its best model -> texts -> each arm's own search -> measured models. Arms whose text
does not depend on the model are generated while repetition is searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from synpro.compare.absorption import HeldBack, absorbed, held_back_texts
from synpro.compare.arms import Arm, find_arm
from synpro.compare.config import SCARCE, CompareConfig
from synpro.compare.contrasts import Contrast, find_contrasts
from synpro.compare.search import SearchResult, default_settings, search_corpus, search_settings
from synpro.compare.steps import DedupSteps
from synpro.compare.texts import SyntheticText, first_plateau, first_probe, first_to_ask, first_verifier, synthesize_text
from synpro.compare.tuning import TrainingSettings
from synpro.outline import step_names
from synpro.records import Absorption, Checkpoint, Corpus, Evaluation
from synpro.runner.jobs import Job, run_jobs
from synpro.runner.step import RunStep
from synpro.stages.evaluate import evaluate
from synpro.stages.prepare import prepare
from synpro.stages.pretrain import PretrainConfig, pretrain, trained

TOKEN_NOISE = 0.1
"""Share of input tokens that the arm `token-noise` replaces."""


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
    synthetic_tokens: int | None = None
    """Most synthetic tokens; None: all there are."""


@dataclass(frozen=True)
class MeasuredModel:
    """A model trained on organic text and an arm's, with one seed, and its evaluation."""

    model: Checkpoint
    evaluation: Evaluation
    text: SyntheticText
    absorption: Absorption | None = None


@dataclass(frozen=True)
class MeasuredModels:
    """The models of one target, which differ in their seed (and the draw of their text) alone."""

    corpus: str
    settings: TrainingSettings
    models: Mapping[int, MeasuredModel]
    """By seed, in the order of the config."""


@dataclass(frozen=True)
class EqualContrast:
    """A contrast at equal synthetic tokens: the arm with more of them has a subsample of its texts."""

    contrast: Contrast
    arm: MeasuredModels
    control: MeasuredModels
    tokens: int


@dataclass(frozen=True)
class ComparisonResult:
    """Everything a comparison did, as records; `summary.py` makes numbers of it."""

    corpora: Mapping[str, Corpus]
    searches: Mapping[str, SearchResult]
    """For repetition, by corpus."""
    own: Mapping[str, SearchResult]
    """For arms with synthetic text, by arm."""
    arms: Mapping[str, MeasuredModels]
    forced: Mapping[str, MeasuredModels]
    """Arms with synthetic text under the settings of tuned repetition."""
    curve: Mapping[str, MeasuredModels]
    """Tuned repetition, by corpus."""
    passes: Mapping[str, MeasuredModels]
    """Single passes, by corpus."""
    equal: tuple[EqualContrast, ...] = ()


def compare(cfg: CompareConfig, run_step: RunStep, max_parallel: int = 1) -> ComparisonResult:
    """Run every step of a comparison, at most `max_parallel` at a time where none waits for another.

    Raises what a step raises; the results of earlier steps are kept.
    """
    comparison = Comparison.prepare(cfg, DedupSteps(run_step))
    shared = shared_steps(cfg)
    jobs = {name: replace(job, wait=(*job.wait, *shared[name])) for name, job in comparison.jobs().items()}
    return comparison.result(run_jobs(jobs, max_parallel, comparison.steps.stop))


def shared_steps(cfg: CompareConfig) -> dict[str, tuple[str, ...]]:
    """For each job, those before it that may ask for a step of its own first: it waits for them, so that a step is always
    stored under the same name, however many run at a time. Found by walking all jobs without running anything."""
    found: dict[str, tuple[str, ...]] = {}

    def run_all(run_step: RunStep) -> None:
        comparison = Comparison.prepare(cfg, DedupSteps(run_step))
        owners, results = dict[str, str](), dict[str, Any]()
        for name, job in comparison.jobs().items():
            begin = len(comparison.steps.used)
            results[name] = job.run(*(results[a] for a in job.after))
            used = [owners.setdefault(place, name) for place in comparison.steps.used[begin:]]
            found[name] = tuple(dict.fromkeys(job_name for job_name in used if job_name != name))

    step_names(run_all)
    return found


def comparison_outline(cfg: CompareConfig) -> list[str]:
    """The names of a comparison's steps, in order, without running anything; a search may end sooner."""
    return step_names(lambda run_step: compare(cfg, run_step))


@dataclass(frozen=True)
class Comparison:
    """The jobs of a comparison. `start`, `search`, `own`, `text` and `asked` are what the jobs before one gave: the model that
    trainings continue, the searches for repetition and for the arm, its text, and what arms are asked about."""

    cfg: CompareConfig
    steps: DedupSteps
    corpora: Mapping[str, Corpus]
    """The scarce corpus and its multiples, in the order of their sizes."""

    @classmethod
    def prepare(cls, cfg: CompareConfig, steps: DedupSteps) -> Comparison:
        """Prepare the corpora: train splits nest, the other splits and the tokenizer are equal."""
        scarce, words = cfg.prepare, cfg.prepare.train_words or 0
        if cfg.compare.anchors:  # all are chosen from the same words, so that they nest
            scarce = replace(scarce, sample_words=max(scarce.sample_words or 0, max(cfg.compare.anchors) * words))
        corpora = {SCARCE: steps(f"corpus/{SCARCE}/prepare", prepare, scarce, model=cfg.pretrain.start)}
        for multiple in sorted(cfg.compare.anchors):
            larger, base = replace(scarce, train_words=multiple * words), list(corpora.values())[-1]
            step = f"corpus/u{multiple}/prepare"
            corpora[f"u{multiple}"] = steps(step, prepare, larger, base=base, model=cfg.pretrain.start)
        return cls(cfg, steps, corpora)

    @property
    def scarce(self) -> Corpus:
        """The corpus whose text is scarce."""
        return self.corpora[SCARCE]

    def jobs(self) -> dict[str, Job]:
        """Its jobs, each a few steps one after the other. The first of those that can start are started first, so what others
        wait for is at the top."""
        cfg, of_scarce = self.cfg, (self.cfg, self.steps, self.scarce)
        seeds, synthetic, draws = cfg.compare.seeds, cfg.synthetic, range(cfg.compare.text_draws)
        jobs = {"start": Job(partial(first_plateau, *of_scarce))}
        jobs[f"search/{SCARCE}"] = Job(partial(search_corpus, cfg, self.steps, SCARCE, self.scarce), ("start",))
        if synthetic:
            jobs["verifier"] = Job(partial(first_verifier, *of_scarce))
        if any(arm.looks for arm in synthetic.values()):
            jobs["probe"] = Job(partial(first_probe, *of_scarce), ("start", f"search/{SCARCE}"))
        # An arm that does not look at the model never waits for one that does. Those with RL take longest, and start first.
        first = first_to_ask(cfg, sorted(synthetic, key=lambda n: synthetic[n].looks))
        for name in sorted(synthetic, key=lambda n: 2 * bool(first[n]) if synthetic[n].looks else 1):
            after = ("start", "verifier", *(("probe", f"search/{SCARCE}") if synthetic[name].looks else ()))
            for draw in draws:
                wait = tuple(f"texts/{other}/{draw}" for other in sorted(first[name]))
                run = partial(synthesize_text, cfg, self.steps, name, draw, self.scarce)
                jobs[f"texts/{name}/{draw}"] = Job(run, after, wait)
        held_back = ("held-back",) if cfg.compare.absorption else ()
        if held_back:
            jobs["held-back"] = Job(partial(held_back_texts, cfg, self.steps, self.corpora))
        for before, name in pairwise(self.corpora):
            job = partial(search_corpus, cfg, self.steps, name, self.corpora[name], None)
            jobs[f"search/{name}"] = Job(job, (f"search/{before}",))
        lead = cfg.compare.settings_from
        for name in sorted(synthetic, key=lambda n: n != lead):  # a job stands below those it waits for
            after = ("start", f"search/{SCARCE}", f"texts/{name}/0", *(() if lead in (None, name) else (f"own/{lead}",)))
            jobs[f"own/{name}"] = Job(partial(self.search_own, name), after)
        largest = f"search/{list(self.corpora)[-1]}"
        for name in self.corpora:
            for seed in seeds:
                after = ("start", f"search/{name}", *held_back)
                jobs[f"organic/{name}/{seed}"] = Job(partial(self.measure_organic, name, seed), after, wait=(largest,))
        for name in synthetic:
            for i, seed in enumerate(seeds):
                texts = f"texts/{name}/{i % len(draws)}"
                after = ("start", f"search/{SCARCE}", f"own/{name}", texts, *held_back)
                jobs[f"arm/{name}/{seed}"] = Job(partial(self.measure_synthetic, name, seed), after)
        for i, seed in enumerate(seeds):
            previous: tuple[str, ...] = ()  # contrasts of a seed follow each other: two may cut an arm to as many tokens
            for contrast in self.equal_contrasts():
                pair = (contrast.arm, contrast.control)
                texts_of_pair = [f"texts/{name}/{draw}" for name in pair for draw in draws]
                after = ("start", *(f"own/{name}" for name in pair), *texts_of_pair, *held_back)
                measured = partial(self.measure_equal, contrast, seed, i % len(draws))
                jobs[f"equal/{contrast.name}/{seed}"] = Job(
                    measured, after, (*previous, *(f"arm/{arm}/{seed}" for arm in pair))
                )
                previous = (f"equal/{contrast.name}/{seed}",)
        for name in self.corpora if cfg.compare.passes else ():
            for seed in seeds:
                jobs[f"passes/{name}/{seed}"] = Job(partial(self.measure_pass, name, seed))
        return jobs

    def equal_contrasts(self) -> list[Contrast]:
        """The contrasts that are measured at equal synthetic tokens too."""
        cfg = self.cfg.compare
        measured = [c for c in find_contrasts(self.cfg.synthetic, self.cfg.rounds) if c.equal and cfg.equal_tokens]
        return [c for c in measured if not cfg.equal_contrasts or c.name in cfg.equal_contrasts]

    def search_own(
        self, name: str, start: Checkpoint | None, search: SearchResult, text: SyntheticText, lead: SearchResult | None = None
    ) -> SearchResult:
        """The search for an arm with synthetic text, with at most as many settings as repetition's, or as repetition's
        may have where that begins at `compare.begin`; it begins at those of repetition, with the whole budget, or at
        `begin_synthetic`. An arm without a text has nothing to search. `lead`: the search whose settings it takes instead."""
        if lead is not None:
            return SearchResult(lead.chosen, carried=True)
        most = self.cfg.compare.tune.trials if self.cfg.compare.begin else search.settings_tried
        return search_settings(
            self.cfg,
            self.steps,
            f"tune/{name}",
            self.scarce,
            self.cfg.compare.begin_synthetic or replace(search.chosen, share=1.0),
            max_trials=most if self.cfg.compare.tune.own_search and text.tokens else 0,
            shards=text.shards,
            start=start,
            training=self.arm_training(find_arm(name)),
        )

    def measure_organic(
        self, corpus: str, seed: int, start: Checkpoint | None, search: SearchResult, asked: HeldBack | None = None
    ) -> dict[str, MeasuredModel]:
        """Every model of one seed that reads one corpus alone: arms of organic text, and its point of the curve; by folder."""
        arms = [n for n, arm in self.cfg.arms.items() if arm.generator_config is None and self.corpus_of(arm) == corpus]
        targets = [self.organic_target(name, search) for name in arms]
        targets.append(Target(f"curve/{corpus}", corpus, search.chosen, find_arm("tuned-repetition")))
        return {t.folder: self.measure(t, SyntheticText(), seed, start, asked) for t in targets}

    def corpus_of(self, arm: Arm) -> str:
        """The corpus an arm is trained on."""
        return SCARCE if arm.oracle is None else f"u{arm.oracle}" if arm.oracle else list(self.corpora)[-1]

    def organic_target(self, name: str, search: SearchResult) -> Target:
        """What is trained for an arm of organic text, by the search at its corpus."""
        arm = find_arm(name)
        settings = search.chosen if arm.tuned else default_settings(self.cfg)
        return Target(f"arms/{name}", self.corpus_of(arm), settings if arm.repeats else replace(settings, share=1.0), arm)

    def measure_pass(self, name: str, seed: int) -> MeasuredModel:
        """A single pass over a corpus."""
        target = Target(f"passes/{name}", name, default_settings(self.cfg), find_arm("repetition"), single_pass=True)
        return self.measure(target, SyntheticText(), seed, None)

    def measure_synthetic(
        self,
        name: str,
        seed: int,
        start: Checkpoint | None,
        search: SearchResult,
        own: SearchResult,
        text: SyntheticText,
        asked: HeldBack | None = None,
    ) -> dict[str, MeasuredModel]:
        """An arm with synthetic text, with one seed: under its own settings, and under those of repetition; by folder."""
        targets = [Target(f"arms/{name}", SCARCE, own.chosen, find_arm(name))]
        if self.cfg.compare.forced and own.trials:
            targets.append(replace(targets[0], folder=f"forced/{name}", settings=replace(search.chosen, share=1.0)))
        return {t.folder: self.measure(t, text, seed, start, asked) for t in targets}

    def measure_equal(
        self, contrast: Contrast, seed: int, draw: int, start: Checkpoint | None, *given: Any
    ) -> tuple[MeasuredModel, MeasuredModel, int]:
        """Both arms of a contrast with as many synthetic tokens, each under its own settings, and how many those are.

        `given`: their searches, the draws of their texts, and what models are asked about, where they are.
        """
        (own, control), texts = given[:2], given[2:]
        texts, asked = (texts[:-1], texts[-1]) if self.cfg.compare.absorption else (texts, None)
        pairs = [texts[: len(texts) // 2], texts[len(texts) // 2 :]]
        tokens = min(text.tokens for draws in pairs for text in draws)  # the same for all draws
        models = []
        for name, search, draws in ((contrast.arm, own, pairs[0]), (contrast.control, control, pairs[1])):
            target = Target(f"equal/{contrast.name}/{name}", SCARCE, search.chosen, find_arm(name), synthetic_tokens=tokens)
            models.append(self.measure(target, draws[draw], seed, start, asked))
        return models[0], models[1], tokens

    def measure(
        self, target: Target, text: SyntheticText, seed: int, start: Checkpoint | None, asked: HeldBack | None = None
    ) -> MeasuredModel:
        """Train a model on organic text and an arm's, and evaluate it; ask an arm's what it absorbed. Only models of the
        scarce corpus continue `start`."""
        corpus, steps, training = self.corpora[target.corpus], self.steps, self.measured_training(target, text)
        begin = start if target.corpus == SCARCE and not target.single_pass else None
        draw_folder = f"draw-{text.draw}/" if text.draw else ""
        name, key, given = (
            f"{target.folder}/{draw_folder}seed-{seed}",
            f"seed-{seed}",
            {"corpus": corpus, "shards": list(text.shards)},
        )
        model = trained(steps(f"{name}/pretrain", pretrain, training, seed_key=f"{key}/pretrain", **given, start=begin))
        given |= {"model": model, "reference": self.cfg.probe.data}
        evaluation = steps(f"{name}/evaluate", evaluate, self.cfg.evaluate, seed_key=f"{key}/evaluate", **given)
        is_arm = target.folder.startswith(("arms/", "equal/"))
        absorption = absorbed(self.cfg, steps, f"{name}/absorb", model, asked) if asked and is_arm else None
        return MeasuredModel(model, evaluation, text, absorption)

    def arm_training(self, arm: Arm) -> PretrainConfig:
        """How the models of an arm are trained, before the searched settings."""
        mixture = self.cfg.measured.mixture
        if arm.megadocs:
            mixture = replace(mixture, packing="megadocs")
        if arm.noise:
            mixture = replace(mixture, token_noise=TOKEN_NOISE)
        return replace(self.cfg.measured, mixture=mixture)

    def measured_training(self, target: Target, text: SyntheticText) -> PretrainConfig:
        """How a measured model is trained."""
        budget, one_pass = self.cfg.budget, self.corpora[target.corpus].tokens["train"]
        tokens = int(min(budget, one_pass)) if target.single_pass else budget
        training = target.settings.apply(self.arm_training(target.arm), tokens, self.cfg.compare.decay_fraction)
        if target.single_pass:  # a pass over a small corpus may be shorter than the warm-up
            training = replace(training, warmup_steps=min(training.warmup_steps, training.steps // 10))
        if target.synthetic_tokens is not None and target.synthetic_tokens < text.tokens:
            training = replace(training, mixture=replace(training.mixture, synthetic_tokens=target.synthetic_tokens))
        return training

    def result(self, done: Mapping[str, Any]) -> ComparisonResult:
        """The models that the jobs made, together; `done`: what each returned."""
        cfg, seeds = self.cfg, self.cfg.compare.seeds
        searches = {name: done[f"search/{name}"] for name in self.corpora}
        own = {name: done[f"own/{name}"] for name in cfg.synthetic}

        def models(job: str, folder: str, corpus: str, settings: TrainingSettings) -> MeasuredModels:
            return MeasuredModels(corpus, settings, {seed: done[f"{job}/{seed}"][folder] for seed in seeds})

        arms, forced = dict[str, MeasuredModels](), dict[str, MeasuredModels]()
        for name, arm in cfg.arms.items():
            if name in own:
                arms[name] = models(f"arm/{name}", f"arms/{name}", SCARCE, own[name].chosen)
                if cfg.compare.forced and own[name].trials:
                    settings = replace(searches[SCARCE].chosen, share=1.0)
                    forced[name] = models(f"arm/{name}", f"forced/{name}", SCARCE, settings)
            else:
                target = self.organic_target(name, searches[self.corpus_of(arm)])
                arms[name] = models(f"organic/{target.corpus}", target.folder, target.corpus, target.settings)
        curve = {n: models(f"organic/{n}", f"curve/{n}", n, searches[n].chosen) for n in self.corpora}
        passes = {
            n: MeasuredModels(n, default_settings(cfg), {s: done[f"passes/{n}/{s}"] for s in seeds})
            for n in self.corpora
            if cfg.compare.passes
        }
        equal = []
        for contrast in self.equal_contrasts():
            found = {seed: done[f"equal/{contrast.name}/{seed}"] for seed in seeds}
            one, other = (
                MeasuredModels(SCARCE, own[name].chosen, {s: f[i] for s, f in found.items()})
                for i, name in enumerate((contrast.arm, contrast.control))
            )
            equal.append(EqualContrast(contrast, one, other, next(iter(found.values()))[2]))
        return ComparisonResult(self.corpora, searches, own, arms, forced, curve, passes, tuple(equal))
