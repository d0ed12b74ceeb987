"""The numbers of a comparison: one dictionary of plain data, from which page, table and pictures are made.

Losses of single documents stay where `evaluate` stored them; the dictionary names file and sha256.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from synpro.compare.absorption import absorption_change, absorption_numbers
from synpro.compare.arms import find_arm
from synpro.compare.comparison import ComparisonResult, MeasuredModels
from synpro.compare.config import SCARCE, CompareConfig
from synpro.compare.contrasts import find_contrasts
from synpro.compare.search import SearchResult
from synpro.compare.texts import SyntheticText
from synpro.compare.tuning import AXES, Trial
from synpro.config import RunConfig
from synpro.corpus.store import group_of_each
from synpro.lm.model_config import flops_per_token, num_parameters
from synpro.measure.curves import MIN_ANCHORS
from synpro.measure.data_efficiency import (
    Anchor,
    Baseline,
    Estimate,
    Method,
    Refusal,
    curve_band,
    data_efficiency,
    oracle_equivalent,
    oracle_gap,
    tuned_curve,
)
from synpro.measure.influence_validation import positive_share
from synpro.measure.losses import Losses, detectable_effect, difference, loss_interval
from synpro.planning.step_cost import CostBreakdown, merge_costs, step_cost, total_cost
from synpro.records import Absorption, Shard
from synpro.report.learned import kept_influence
from synpro.runner.artifacts import read_json, read_lines, read_table

POINTS = 60
"""Points of the fitted curve in the picture."""


def summarize(cfg: CompareConfig, result: ComparisonResult, root: Path) -> dict[str, Any]:
    """Make the numbers of a comparison, as JSON can hold them. Raises CorruptRun for damaged files of finished steps."""
    root, base = root.resolve(), baseline(cfg, result)
    groups = group_of_each(result.corpora[SCARCE].dir)
    scarce = result.corpora[SCARCE].tokens["train"]
    losses = {name: _losses(arm, groups) for name, arm in result.arms.items()}
    anchors = [_anchor(result, name, at, groups) for name, at in result.curve.items()]
    passes = [_anchor(result, name, at, groups) for name, at in result.passes.items()]
    tuned, oracle = losses.get("tuned-repetition"), losses.get("oracle")

    def measures(name: str, found: Losses) -> dict[str, Any]:
        """What a set of models is worth, in all meanings."""
        method, is_end = Method(name, scarce, found), name == "tuned-repetition" or find_arm(name).oracle is not None
        return {
            "change": None if tuned is None else _change(tuned, found),
            "data_efficiency": (
                None if is_end or not anchors else _plain(data_efficiency(method, anchors, base, law=cfg.compare.law))
            ),
            "oracle_gap": (
                None if is_end or tuned is None or oracle is None else _plain(oracle_gap(method, tuned, oracle, base))
            ),
            "oracle_equivalent": _plain(oracle_equivalent(method, passes, law=cfg.compare.law)) if passes else None,
        }

    arms = {}
    for name, arm in result.arms.items():
        forced = result.forced.get(name)
        found = _losses(forced, groups) if forced else None
        arms[name] = {
            "about": find_arm(name).about,
            **_measured(root, arm, losses[name]),
            **measures(name, losses[name]),
            "forced": {**_measured(root, forced, found), **measures(name, found)} if forced and found else None,
            "absorption": _absorption(result, name),
            "search": _search(cfg, result.own[name], root) if name in result.own else None,
            "settings_from": cfg.compare.settings_from if name in result.own and name != cfg.compare.settings_from else None,
            "shards": _shards(arm),
            "influence": _influence(arm) if _measures_influence(cfg, name) else [],
            "synthetic_tokens": _mean([one.text.tokens for one in arm.models.values()]),
            "generated_tokens": _mean([sum(s.tokens for s in one.text.shards) for one in arm.models.values()]),
            "cost": _cost(cfg, name, arm, root),
        }
    model = cfg.pretrain.shape
    vocab = result.corpora[SCARCE].vocab_size
    return {
        "name": cfg.name,
        "about": {
            "seeds": list(cfg.compare.seeds),
            "budget_tokens": cfg.budget,
            "decay_fraction": cfg.compare.decay_fraction,
            "protocol": cfg.compare.protocol,
            "text_draws": cfg.compare.text_draws,
            "rounds": cfg.rounds,
            "law": cfg.compare.law,
            "parameters": num_parameters(model, vocab),
            "commits": _commits(root),
            "flops_per_token": flops_per_token(model, vocab, cfg.pretrain.sequence_length),
            "groups": len(set(next(iter(losses.values())).groups)) or None,
            "effective_units": next(iter(losses.values())).effective_units,
        },
        "corpora": {n: {"tokens": c.tokens, "documents": c.documents} for n, c in result.corpora.items()},
        "refused": base.untuned,
        "bound": base.bound,
        "notes": [] if base.bound is None else [base.bound],
        "searches": {n: _search(cfg, s, root) for n, s in result.searches.items()},
        "arms": arms,
        "anchors": [
            {"corpus": n, "unique_tokens": a.unique_tokens, **_measured(root, result.curve[n], a.losses)}
            for n, a in zip(result.curve, anchors, strict=True)
        ],
        "passes": [
            {"corpus": n, "unique_tokens": a.unique_tokens, **_measured(root, result.passes[n], a.losses)}
            for n, a in zip(result.passes, passes, strict=True)
        ],
        "contrasts": _contrasts(result, losses, groups, cfg.rounds),
        "curve": _curve(anchors, cfg) if base.untuned is None else None,
    }


def _contrasts(
    result: ComparisonResult, losses: Mapping[str, Losses], groups: Mapping[str, str], rounds: int = 1
) -> list[dict[str, Any]]:
    """Each contrast as the arms are, and at equal synthetic tokens."""
    equal = {e.contrast.name: e for e in result.equal}
    rows = []
    for c in find_contrasts(losses, rounds):
        row = {"arm": c.arm, "control": c.control, "about": c.about, "change": _change(losses[c.control], losses[c.arm])}
        if (at := equal.get(c.name)) is not None:
            change = _change(_losses(at.control, groups), _losses(at.arm, groups))
            seeds = {name: _diverged(models) for name, models in ((c.arm, at.arm), (c.control, at.control))}
            row["equal_tokens"] = {"change": change, "synthetic_tokens": at.tokens, "seeds": seeds}
        control, arm = (at.control, at.arm) if at else (result.arms[c.control], result.arms[c.arm])
        if (first := _asked(control)) and (second := _asked(arm)):
            row["absorption"] = absorption_change(first, second)  # at equal synthetic tokens where that was measured
        rows.append(row)
    return rows


def _diverged(measured: MeasuredModels) -> dict[str, dict[str, str]]:
    """Why the models diverged that did, by seed."""
    return {str(seed): {"diverged": one.model.reason} for seed, one in measured.models.items() if one.model.diverged}


def baseline(cfg: CompareConfig, result: ComparisonResult) -> Baseline:
    """How repetition was tuned, which decides whether anything may be claimed against it. Epochs are passes over the corpus."""
    first = result.searches[SCARCE]
    if not first.trials or "tuned-repetition" not in result.arms:
        return Baseline()
    scarce = result.corpora[SCARCE].tokens["train"]

    def values(trials: Sequence[Trial], axis: str) -> tuple[float, ...]:
        found = {getattr(t.settings, axis) for t in trials}
        return tuple(sorted(v * cfg.budget / scarce if axis == "share" else v for v in found))

    searched = [axis for axis in AXES if axis != "organic_share" and (axis != "replay_share" or cfg.prepare.general)]
    names = {axis: "epochs" if axis == "share" else axis for axis in searched}
    return Baseline(
        searched={name: values(first.trials, axis) for axis, name in names.items()},
        trainings=sum(len(s.trials) for s in result.searches.values()),
        carried=any(s.carried for s in result.searches.values()),
        open_axes=tuple(
            names[axis] + ("" if corpus == SCARCE else f" at {corpus}")
            for corpus, search in result.searches.items()
            if not search.carried
            for axis in search.open_axes
        ),
        gains_from_tokens=first.gains_from_tokens,
    )


def _commits(root: Path) -> list[str]:
    """The versions of the code that have run steps of a comparison, oldest first; the last may only have published it."""
    path = root / "environment.json"
    first = read_json(path) if path.exists() else {}
    return list(dict.fromkeys(c for part in (first, *first.get("changed", ())) if (c := part.get("commit"))))


def _losses(measured: MeasuredModels, groups: Mapping[str, str]) -> Losses:
    columns = ["document", "nll", "tokens"]
    rows = {s: read_table(m.evaluation.dir / "heldout.parquet", columns) for s, m in measured.models.items()}
    return Losses.from_rows(rows, groups)


def _change(first: Losses, second: Losses) -> dict[str, float]:
    found = difference(first, second)
    return {**_interval(found), "detectable": detectable_effect(found)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _anchor(result: ComparisonResult, name: str, at: MeasuredModels, groups: Mapping[str, str]) -> Anchor:
    first = next(iter(at.models.values()))
    return Anchor(result.corpora[name].tokens["train"], first.model.tokens_seen, _losses(at, groups))


def _measured(root: Path, measured: MeasuredModels, losses: Losses) -> dict[str, Any]:
    """An arm or anchor: settings, loss with interval, and every seed's model."""
    seeds = {}
    for seed, one in measured.models.items():
        model, evaluation = one.model, one.evaluation
        files = read_json(evaluation.dir / "result.json")["files"]
        rows = list(read_lines(model.dir / "metrics.jsonl", whole=True))
        body = read_json(evaluation.dir / "evaluation.json")
        seeds[str(seed)] = {
            "step": model.dir.relative_to(root).as_posix(),
            "heldout_loss": evaluation.heldout_loss,
            "bits_per_byte": evaluation.bits_per_byte,
            "reference_loss": model.reference_loss,
            **{key: body[key] for key in ("general_loss", "start") if key in body},
            **({"diverged": model.reason} if model.diverged else {}),
            "tokens_seen": model.tokens_seen,
            "tasks": evaluation.tasks,
            "items": body["items"],
            "documents": {
                "file": (evaluation.dir / "heldout.parquet").relative_to(root).as_posix(),
                "sha256": files["heldout.parquet"]["sha256"],
            },
            "points": [[r["tokens"], round(r["heldout_loss"], 5)] for r in rows if r.get("heldout_loss", math.nan) < math.inf],
        }
    return {
        "corpus": measured.corpus,
        "settings": asdict(measured.settings),
        "loss": _interval(loss_interval(losses)),
        "seeds": seeds,
    }


def _absorption(result: ComparisonResult, name: str) -> dict[str, Any] | None:
    """What an arm's models absorbed, and the change against tuned repetition; None where they were not asked."""
    tuned = result.arms.get("tuned-repetition")
    ours, theirs = _asked(result.arms[name]), _asked(tuned) if tuned and name != "tuned-repetition" else {}
    found = absorption_numbers(ours, theirs or None) if ours else None
    if found and result.arms[name].corpus != SCARCE:  # it was trained on the passages that others have not seen
        found.pop("content", None)
    return found


def _asked(arm: MeasuredModels) -> dict[int, Absorption]:
    """What an arm's models absorbed, by seed; empty where they were not asked."""
    return {seed: one.absorption for seed, one in arm.models.items() if one.absorption}


def _shards(arm: MeasuredModels) -> list[dict[str, Any]]:
    kept = {}
    for seed, one in arm.models.items():
        for shard in one.text.shards:
            names = ("operation", "round", "passages", "kept", "dropped", "documents", "tokens", "text_tokens")
            row = {k: getattr(shard, k) for k in names}
            kept[shard.digest] = {"seed": seed, **row, "reasons": _reasons(shard), "generator": _generator(one.text, shard)}
    return list(kept.values())


def _generator(text: SyntheticText, shard: Shard) -> dict[str, int] | None:
    """The round whose RL gave the generator of a shard, the step whose state was kept, and of how many; None without RL."""
    generator = text.generators[shard.round - 1].get(shard.operation) if text.generators else None
    weights = None if generator is None else generator.adapter or generator.weights
    if generator is None or weights is None:
        return None
    validation = read_json(weights.parent / "validation.json")
    return {"round": generator.round, "kept": validation["kept"], "steps": validation["steps"]}


def _measures_influence(cfg: CompareConfig, name: str) -> bool:
    """Whether what an arm's texts have under that name is influence, not what a control puts in its place."""
    return cfg.of_arm(name).rubric.influence.values == "measured"


def _influence(arm: MeasuredModels) -> list[dict[str, Any]]:
    """By round, over all draws: the share of kept texts that have influence over their source under the probe of their round,
    with an interval over documents, that of each draw, and the mean; empty where influence was not scored."""
    found: dict[int, dict[int, list[tuple[float, str]]]] = {}
    for text in {one.text.draw: one.text for one in arm.models.values()}.values():
        for shard in text.shards:
            if pairs := kept_influence(shard.dir):
                found.setdefault(shard.round, {}).setdefault(text.draw, []).extend(pairs)
    rows = []
    for number, draws in sorted(found.items()):
        values, documents = zip(*(pair for pairs in draws.values() for pair in pairs), strict=True)
        by_draw = [_mean([float(value > 0) for value, _ in draws[draw]]) for draw in sorted(draws)]
        share = asdict(positive_share(values, documents))
        rows.append({"round": number, "mean": _mean(values), "positive": share, "by_draw": by_draw})
    return rows


def _reasons(shard: Shard) -> dict[str, dict[str, int]]:
    """What each check dropped: answers, and the tokens the generator spent on them; most first."""
    found: dict[str, dict[str, int]] = {}
    for row in read_table(shard.dir / "rewrites.parquet", ["kept", "reason", "tokens"]):
        if not row["kept"]:
            count = found.setdefault(row["reason"] or "no reason given", {"answers": 0, "tokens": 0})
            count["answers"] += 1
            count["tokens"] += row["tokens"]
    return dict(sorted(found.items(), key=lambda item: -item[1]["answers"]))


def _cost(cfg: CompareConfig, name: str, arm: MeasuredModels, root: Path) -> dict[str, Any]:
    """The training of one measured model (the mean over seeds), and the texts it needed."""
    own = cfg.of_arm(name)
    trained = [step_cost(root, one.model.dir.relative_to(root).as_posix(), cfg) for one in arm.models.values()]
    texts = [_text_cost(root, one.text, own) for one in arm.models.values() if one.text.steps]
    parts = {
        "training": {k: c * (1 / len(trained)) for k, c in merge_costs(trained).items()},
        "text": {k: c * (1 / len(texts)) for k, c in merge_costs(texts).items()},
    }
    whole = total_cost(parts["training"]) + total_cost(parts["text"])
    return {
        **{name: {kind: asdict(cost) for kind, cost in costs.items()} for name, costs in parts.items()},
        "total": asdict(whole),
    }


def _text_cost(root: Path, text: SyntheticText, cfg: RunConfig) -> CostBreakdown:
    return merge_costs([step_cost(root, step, cfg) for step in dict.fromkeys(text.steps)])


def _search(cfg: CompareConfig, search: SearchResult, root: Path) -> dict[str, Any]:
    return {
        "chosen": asdict(search.chosen),
        "settled": search.settled,
        "open_axes": list(search.open_axes) if search.trials else [],
        "gains_from_tokens": search.gains_from_tokens,
        "carried": search.carried,
        "settings_tried": search.settings_tried,
        "cost": asdict(total_cost(merge_costs([step_cost(root, step, cfg) for step in search.steps]))),
        "trials": [
            {
                "settings": asdict(t.settings),
                "draw": t.draw,
                "reference_loss": _finite(t.loss),
                "tokens": t.tokens,
            }
            for t in search.trials
        ],
    }


def _interval(found: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), found, strict=True))


def _plain(found: Estimate | Refusal) -> dict[str, Any]:
    """An estimate or a refusal as plain data. A bound that is not finite becomes None."""
    body: dict[str, Any] = {"quantity": found.quantity, "words": found.words, "notes": list(found.notes)}
    if isinstance(found, Refusal):
        return {**body, "refused": found.reason}
    body |= {k: _finite(getattr(found, k)) for k in ("value", "low", "high")}
    laws = {name: _finite(value) for name, value in found.laws.items()}
    return {**body, "extrapolated": found.extrapolated, "bound": found.bound, "laws": laws}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _curve(anchors: Sequence[Anchor], cfg: CompareConfig) -> dict[str, Any] | None:
    """The fitted curve with its band, for the picture; None with too few anchors."""
    if len({a.unique_tokens for a in anchors}) < MIN_ANCHORS[cfg.compare.law]:
        return None
    sizes = [a.unique_tokens for a in anchors]
    at = np.geomspace(min(sizes) / 1.2, max(sizes) * 1.5, POINTS)
    low, high = curve_band(anchors, at, law=cfg.compare.law)
    fitted = tuned_curve(anchors, law=cfg.compare.law).loss(at)[0]
    columns = {"unique_tokens": at, "loss": fitted, "low": low, "high": high}
    return {k: [round(float(v), 5) for v in column] for k, column in columns.items()}
