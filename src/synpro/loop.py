"""SynPro, the algorithm: pretrain to a plateau, learn what is missing, write texts that teach it, continue; repeat.

Steps are done once and remembered in the run directory, so this same code starts a run, carries it on, and lists its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synpro.config import RunConfig

Do = Callable[..., Any]
"""Does a step: `do(name, stage, config, **inputs) -> record`."""


def loop(cfg: RunConfig, do: Do) -> None:
    """Run every step of a config in order. Raises what a step raises; what was done before it stands."""
    corpus = do("round-00/prepare", "synpro.stages.prepare:prepare", cfg.prepare)
    verifier = None
    if cfg.rounds:  # what checks every claim of a rewrite; trained once, on the train split
        stage = "synpro.stages.train_verifier:train_verifier"
        verifier = do("round-00/verifier", stage, cfg.train_verifier, corpus=corpus, judges=cfg.judges)
    model = pretrain(cfg, do, "round-00", corpus, mixture=[], start=None)

    mixture: list[Any] = []
    generators: dict[str, Any] = {}
    for number in range(1, cfg.rounds + 1):
        if spent(cfg, model):
            break
        name = f"round-{number:02d}"
        probe = do(f"{name}/probe", "synpro.stages.probe:fit_probe", cfg.probe, corpus=corpus, model=model)
        for operation in cfg.operations:
            paid = {"operation": operation, "rubric": cfg.rubric, "judges": cfg.judges, "verifier": verifier}
            generators[operation.name] = do(
                f"{name}/train-{operation.name}",
                "synpro.stages.train_generator:train_generator",
                cfg.train_generator,
                **paid,
                round=number,
                corpus=corpus,
                probe=probe,
                start=generators.get(operation.name),
            )
            shard = do(
                f"{name}/synthesize-{operation.name}",
                "synpro.stages.synthesize:synthesize",
                cfg.synthesize,
                **paid,
                round=number,
                corpus=corpus,
                probe=probe,
                generator=generators[operation.name],
            )
            mixture.append(shard)  # cumulative: earlier rounds stay in
        model = pretrain(cfg, do, name, corpus, mixture, start=model)


def pretrain(cfg: RunConfig, do: Do, name: str, corpus: Any, mixture: list[Any], start: Any) -> Any:
    """Train until the plateau (or the token budget: the record says which), then measure."""
    model = do(
        f"{name}/pretrain",
        "synpro.stages.pretrain:pretrain",
        cfg.pretrain,
        processes=cfg.machine.processes,
        corpus=corpus,
        shards=list(mixture),
        start=start,
    )
    do(f"{name}/evaluate", "synpro.stages.evaluate:evaluate", cfg.evaluate, corpus=corpus, model=model)
    return model


def spent(cfg: RunConfig, model: Any) -> bool:
    """Whether the token budget of the whole run leaves no step of training. A model of None (an outline) has spent nothing."""
    return model is not None and cfg.pretrain.steps_after(model.tokens_seen) == 0


def outline(cfg: RunConfig) -> list[str]:
    """The names of a run's steps, in order: the loop itself, walked without doing anything."""
    names: list[str] = []
    loop(cfg, lambda name, *_, **__: names.append(name))
    return names
