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
    corpus = do("round-00/prepare", "synpro.stages.prepare:prepare", cfg.prepare, spread="workers")
    verifier = fit_verifier(cfg, do, "round-00/verifier", corpus)
    model = pretrain(cfg, do, "round-00", corpus, mixture=[], start=None)

    mixture: list[Any] = []
    generators: dict[str, Any] = {}
    for number in range(1, cfg.rounds + 1):
        if spent(cfg, model):
            break
        name = f"round-{number:02d}"
        probe = do(f"{name}/probe", "synpro.stages.probe:fit_probe", cfg.probe, corpus=corpus, model=model)
        mixture += write(cfg, do, name, number, corpus, probe, verifier, generators)  # cumulative: earlier rounds stay in
        model = pretrain(cfg, do, name, corpus, mixture, start=model)


def fit_verifier(cfg: RunConfig, do: Do, name: str, corpus: Any) -> Any:
    """What checks every claim of a rewrite, trained once on the train split; None where nothing will be rewritten."""
    stage = "synpro.stages.train_verifier:train_verifier"
    return do(name, stage, cfg.train_verifier, corpus=corpus, judges=cfg.judges) if cfg.rounds else None


def write(
    cfg: RunConfig, do: Do, name: str, number: int, corpus: Any, probe: Any, verifier: Any, generators: dict[str, Any]
) -> list[Any]:
    """Update every operation's generator, in `generators`, and let it rewrite the corpus; the shards of this round."""
    shards = []
    for operation in cfg.operations:
        paid = {"operation": operation, "rubric": cfg.rubric, "judges": cfg.judges, "verifier": verifier, "round": number}
        if cfg.refresh or operation.name not in generators:
            generators[operation.name] = do(
                f"{name}/train-{operation.name}",
                "synpro.stages.train_generator:train_generator",
                cfg.train_generator,
                spread="rl",
                **paid,
                corpus=corpus,
                probe=probe,
                start=generators.get(operation.name),
            )
        shard = do(
            f"{name}/synthesize-{operation.name}",
            "synpro.stages.synthesize:synthesize",
            cfg.synthesize,
            spread="workers",
            **paid,
            corpus=corpus,
            probe=probe,
            generator=generators[operation.name],
            tasks=cfg.evaluate.tasks,
        )
        shards.append(shard)
    return shards


def pretrain(cfg: RunConfig, do: Do, name: str, corpus: Any, mixture: list[Any], start: Any) -> Any:
    """Train until the plateau (or the token budget: the record says which), then measure."""
    model = do(
        f"{name}/pretrain",
        "synpro.stages.pretrain:pretrain",
        cfg.pretrain,
        spread="processes",
        corpus=corpus,
        shards=list(mixture),
        start=start,
    )
    do(
        f"{name}/evaluate",
        "synpro.stages.evaluate:evaluate",
        cfg.evaluate,
        corpus=corpus,
        model=model,
        shards=list(mixture),
        reference=cfg.probe.data,
    )
    return model


def spent(cfg: RunConfig, model: Any) -> bool:
    """Whether the token budget of the whole run leaves no step of training. A model of None (an outline) has spent nothing."""
    return model is not None and cfg.pretrain.steps_after(model.tokens_seen) == 0


def outline(cfg: RunConfig) -> list[str]:
    """The names of a run's steps, in order: the loop itself, walked without doing anything."""
    names: list[str] = []
    loop(cfg, lambda name, *_, **__: names.append(name))
    return names
