"""The card of a checkpoint (`README.md` beside its weights), written from the run that trained it."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.assets.weights import DamagedModel, read_shapes
from synpro.config import RunConfig
from synpro.disk import explain
from synpro.export.card import render_card
from synpro.report.headline import changes, forgotten, paired_change, since_start
from synpro.report.run_data import RoundEvaluation, RunData, load_run
from synpro.report.warnings import find_warnings
from synpro.runner.artifacts import CorruptRun, read_json, read_record

if TYPE_CHECKING:
    from synpro.measure.bootstrap import Difference


def write_model_cards(run: Path, cfg: RunConfig) -> list[str]:
    """Give each finished checkpoint that is there its card; what keeps the others from one. Raises what reading a run raises
    (NotARun, CorruptRun)."""
    data, problems = load_run(run), []
    for training in data.trainings:
        folder = _weights(run, training.round)
        if training.done and any(folder.glob("*.safetensors")):  # a run can be read where its weights are not
            try:
                (folder / "README.md").write_text(model_card(data, cfg, training.round), encoding="utf-8")
            except (DamagedModel, CorruptRun, OSError) as problem:
                why = explain(problem, folder) if isinstance(problem, OSError) else problem
                problems.append(f"the model of round {training.round} has no new card: {why}")
    return problems


def _weights(run: Path, round: int) -> Path:
    return run / f"round-{round:02d}" / "pretrain" / "hf"


def model_card(data: RunData, cfg: RunConfig, round: int) -> str:
    """The card of the model of a round: data, tokens, rounds, losses with intervals, warnings of the report."""
    evaluated = [e for e in data.evaluated if e.round <= round]
    folder, trainings = _weights(data.run, round), [t for t in data.trainings if t.round <= round]
    general = cfg.prepare.general if cfg.pretrain.mixture.replay_share else ()
    return render_card(
        "model_card.md.jinja",
        cfg,
        data,
        sources=(*cfg.prepare.sources, *general),
        replayed=[f"`{source.path}`" for source in general],
        round=round,
        model=read_json(folder / "config.json"),
        parameters=sum(map(prod, read_shapes(folder).values())),
        trainings=trainings,
        kept={t.round: read_record(_weights(data.run, t.round).parent).get("best_tokens") for t in trainings if t.done},
        losses={e.round: _interval(data, e) for e in evaluated},
        evaluated=evaluated,
        forgetting=since_start(shown := replace(data, evaluated=tuple(evaluated))),
        forgotten=forgotten(shown),
        changes={c.round: c.loss for c in changes(data)},
        syntheses=[s for s in data.syntheses if s.round <= round],
        warnings=[w for w in find_warnings(data) if w.round is None or w.round <= round],
    )


def _interval(data: RunData, evaluation: RoundEvaluation) -> Difference | None:
    """The held-out loss, nats per token, with its interval over articles (`paired_change`); None with fewer than two."""
    documents = evaluation.documents
    zero = replace(evaluation, documents={i: (0.0, *d[1:]) for i, d in documents.items()})
    return paired_change(data, list(documents), zero, evaluation, [float(d[1]) for d in documents.values()])
