"""SynPro, the algorithm: pretrain to a plateau, find what the model has yet to learn, generate text that teaches it, repeat.

`run_step` runs each step once and finds its record later, so the same lines start a run, resume it, and list its steps.
"""

from synpro.config import RunConfig
from synpro.records import Checkpoint, Corpus, Generator, Shard
from synpro.rewards.scoring import Scoring
from synpro.runner.step import Inputs, RunStep
from synpro.stages.evaluate import evaluate
from synpro.stages.prepare import prepare
from synpro.stages.pretrain import pretrain, trained
from synpro.stages.probe import fit_probe
from synpro.stages.synthesize import synthesize
from synpro.stages.train_generator import train_generator
from synpro.stages.train_verifier import train_verifier


def loop(cfg: RunConfig, run_step: RunStep) -> None:
    """Run every step of a run in order. Raises what a step raises; the results of earlier steps are kept."""
    corpus = run_step("round-00/prepare", prepare, cfg.prepare, model=cfg.pretrain.start)
    verifier, shards, generators = None, list[Shard](), dict[str, Generator]()
    if cfg.rounds:
        verifier = run_step("round-00/verifier", train_verifier, cfg.train_verifier, corpus=corpus, judges=cfg.judges)
    model = None if cfg.generate_only else pretrain_to_plateau(cfg, run_step, "round-00", corpus, shards, None)
    for number in range(1, cfg.rounds + 1):
        if model and cfg.pretrain.steps_after(model.tokens_seen) == 0:
            break  # the token budget of the whole run is used
        name = f"round-{number:02d}"
        probe = run_step(f"{name}/probe", fit_probe, cfg.probe, corpus=corpus, model=model) if model else None
        scoring = Scoring(cfg.rubric, cfg.judges, probe, verifier, cfg.filters)
        new_shards, generators = synthesize_round(cfg, run_step, number, corpus, scoring, generators)
        shards = [*shards, *new_shards]  # the text of earlier rounds stays in the mixture
        model = pretrain_to_plateau(cfg, run_step, name, corpus, shards, model) if model else None


def pretrain_to_plateau(
    cfg: RunConfig, run_step: RunStep, name: str, corpus: Corpus, shards: list[Shard], start: Checkpoint | None
) -> Checkpoint:
    """Train until the plateau, or the end of the token budget (the record says which), then measure."""
    model = trained(run_step(f"{name}/pretrain", pretrain, cfg.pretrain, corpus=corpus, shards=shards, start=start))
    run_step(f"{name}/evaluate", evaluate, cfg.evaluate, corpus=corpus, model=model, shards=shards, reference=cfg.probe.data)
    return model


def synthesize_round(
    cfg: RunConfig, run_step: RunStep, number: int, corpus: Corpus, scoring: Scoring, generators: dict[str, Generator]
) -> tuple[list[Shard], dict[str, Generator]]:
    """Train each operation's generator and let it rewrite the corpus: the shards of this round, and the generators."""
    name, shards, generators = f"round-{number:02d}", list[Shard](), dict(generators)
    for op in cfg.operations.values():
        inputs: Inputs = {"scoring": scoring, "corpus": corpus, "round": number}
        old = generators.get(op.name)
        if cfg.retrain_each_round or old is None:
            train = {**inputs, "operation": op.for_training(), "start": old}
            generators[op.name] = run_step(f"{name}/train-{op.name}", train_generator, cfg.train_generator, **train)
        inputs |= {"operation": op, "generator": generators[op.name], "tasks": cfg.evaluate.tasks}
        shards.append(run_step(f"{name}/synthesize-{op.name}", synthesize, cfg.synthesize, **inputs))
    return shards, generators
