"""The numbers of a comparison: one dictionary of plain data, from which the page, the table and the pictures are drawn.

Losses of single documents stay where `evaluate` wrote them; the dictionary names file and sha256.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from synpro.compare.arms import ARMS
from synpro.compare.bill import bill
from synpro.compare.comparison import Compared, Measured, Search, Text
from synpro.compare.config import CompareConfig
from synpro.lm.shapes import flops_per_token, parameters
from synpro.measure.cost import Bill, added, total
from synpro.measure.data_efficiency import (
    Anchor,
    Baseline,
    Estimate,
    Method,
    Refusal,
    curve,
    curve_band,
    data_efficiency,
    oracle_equivalent,
    oracle_gap,
)
from synpro.measure.losses import Losses, difference, loss_interval
from synpro.run.reading import read_json, read_lines, read_table

CONTRASTS = (
    ("synpro", "prompt-only", "RL against the same generators by prompt alone"),
    ("synpro", "no-influence", "influence among the rewards against none"),
    ("synpro", "placebo", "influence against the same values dealt out at random"),
    ("synpro", "static", "generators refreshed in every round against those of round 1"),
    ("megadocs", "synpro", "versions of a source in one training document against one each"),
)
"""(arm, its control, what the difference says)."""
POINTS = 60
"""Of the fitted curve in the picture."""


def tally(cfg: CompareConfig, done: Compared, root: Path) -> dict[str, Any]:
    """Everything a reader needs, as JSON can hold it. Raises Damaged for files of finished steps that are not whole."""
    root, base = root.resolve(), baseline(cfg, done)
    scarce = done.corpora["u1"].tokens["train"]
    losses = {name: _losses(arm) for name, arm in done.arms.items()}
    anchors = [_anchor(done, name, at) for name, at in done.curve.items()]
    passes = [_anchor(done, name, at) for name, at in done.passes.items()]
    arms = {}
    for name, arm in done.arms.items():
        method = Method(name, scarce, losses[name])
        row = {
            "about": ARMS[name].about,
            **_measured(root, arm, losses[name]),
            "shards": _shards(arm),
            "cost": _cost(cfg, name, arm, root),
            "data_efficiency": _said(data_efficiency(method, anchors, base, law=cfg.compare.law)) if anchors else None,
            "oracle_equivalent": _said(oracle_equivalent(method, passes, law=cfg.compare.law)) if passes else None,
        }
        if "tuned-repetition" in losses:
            row["change"] = _interval(difference(losses["tuned-repetition"], losses[name]))
        if {"tuned-repetition", "oracle"} <= set(losses):
            row["oracle_gap"] = _said(oracle_gap(method, losses["tuned-repetition"], losses["oracle"], base))
        if name == "tuned-repetition" or ARMS[name].oracle:  # the ends of the scale: 1 and 0, or the oracle's own text
            row["data_efficiency"] = row["oracle_gap"] = None
        arms[name] = row
    model = cfg.pretrain.model
    vocab = done.corpora["u1"].vocab_size
    return {
        "name": cfg.name,
        "about": {
            "seeds": list(cfg.compare.seeds),
            "budget_tokens": cfg.budget,
            "anneal": cfg.compare.anneal,
            "protocol": cfg.compare.protocol,
            "texts": cfg.compare.texts,
            "rounds": cfg.rounds,
            "law": cfg.compare.law,
            "parameters": parameters(model, vocab),
            "flops_per_token": flops_per_token(model, vocab, cfg.pretrain.sequence_length),
        },
        "corpora": {n: {"tokens": c.tokens, "documents": c.documents} for n, c in done.corpora.items()},
        "refused": base.untuned,
        "notes": list(base.notes),
        "searches": {n: _search(cfg, s, n, root) for n, s in done.searches.items()},
        "arms": arms,
        "anchors": [
            {"corpus": n, "unique_tokens": a.unique_tokens, **_measured(root, done.curve[n], a.losses)}
            for n, a in zip(done.curve, anchors, strict=True)
        ],
        "passes": [
            {"corpus": n, "unique_tokens": a.unique_tokens, **_measured(root, done.passes[n], a.losses)}
            for n, a in zip(done.passes, passes, strict=True)
        ],
        "contrasts": [
            {"arm": a, "control": b, "about": about, "change": _interval(difference(losses[b], losses[a]))}
            for a, b, about in CONTRASTS
            if {a, b} <= set(losses)
        ],
        "curve": _curve(anchors, cfg) if base.untuned is None else None,
    }


def baseline(cfg: CompareConfig, done: Compared) -> Baseline:
    """How repetition was tuned: what decides whether anything may be claimed against it. Epochs are passes over the corpus."""
    first = done.searches["u1"]
    if not first.trials or "tuned-repetition" not in done.arms:
        return Baseline()
    scarce = done.corpora["u1"].tokens["train"]

    def named(trials: Sequence[Any], axis: str) -> tuple[float, ...]:
        values = {getattr(t.settings, axis) for t in trials}
        return tuple(sorted(v * cfg.budget / scarce if axis == "share" else v for v in values))

    names = {"weight_decay": "weight_decay", "lr": "learning_rate", "share": "epochs", "dropout": "dropout"}
    trials = [t for s in done.searches.values() for t in s.trials]
    return Baseline(
        searched={name: named(first.trials, axis) for axis, name in names.items()},
        chosen={name: named([_trial(first)], axis)[0] for axis, name in names.items()},
        trainings=len(trials),
        flops=float(sum(t.tokens for t in trials)) * _per_token(cfg, done),
        carried=any(s.carried for s in done.searches.values()),
    )


def _trial(search: Search) -> Any:
    return next(t for t in search.trials if t.settings == search.chosen)


def _per_token(cfg: CompareConfig, done: Compared) -> int:
    return flops_per_token(cfg.pretrain.model, done.corpora["u1"].vocab_size, cfg.pretrain.sequence_length)


def _losses(measured: Measured) -> Losses:
    columns = ["document", "nll", "tokens"]
    return Losses.of({s: read_table(e.dir / "heldout.parquet", columns) for s, (_, e) in measured.runs.items()})


def _anchor(done: Compared, name: str, at: Measured) -> Anchor:
    model, _ = next(iter(at.runs.values()))
    return Anchor(done.corpora[name].tokens["train"], model.tokens_seen, _losses(at))


def _measured(root: Path, measured: Measured, losses: Losses) -> dict[str, Any]:
    """Of one arm or anchor: settings, loss with interval, and every seed's model."""
    seeds = {}
    for seed, (model, found) in measured.runs.items():
        files = read_json(found.dir / "result.json")["files"]
        rows = list(read_lines(model.dir / "metrics.jsonl", whole=True))
        body = read_json(found.dir / "evaluation.json")
        seeds[str(seed)] = {
            "step": model.dir.relative_to(root).as_posix(),
            "heldout_loss": found.heldout_loss,
            "bits_per_byte": found.bits_per_byte,
            "reference_loss": model.reference_loss,
            "tokens_seen": model.tokens_seen,
            "tasks": found.tasks,
            "items": body["items"],
            "documents": {
                "file": (found.dir / "heldout.parquet").relative_to(root).as_posix(),
                "sha256": files["heldout.parquet"]["sha256"],
            },
            "points": [[r["tokens"], round(r["heldout_loss"], 5)] for r in rows if "heldout_loss" in r],
        }
    return {
        "corpus": measured.corpus,
        "settings": asdict(measured.settings),
        "loss": _interval(loss_interval(losses)),
        "seeds": seeds,
    }


def _shards(arm: Measured) -> list[dict[str, Any]]:
    kept = {}
    for seed, text in arm.texts.items():
        for shard in text.shards:
            row = {k: getattr(shard, k) for k in ("operation", "round", "passages", "kept", "documents", "tokens")}
            kept[shard.digest] = {"seed": seed, **row}
    return list(kept.values())


def _cost(cfg: CompareConfig, name: str, arm: Measured, root: Path) -> dict[str, Any]:
    """Training of one measured model (the mean over seeds), and the texts it needed."""
    own = ARMS[name].writes
    made = cfg if own is None else own(cfg)
    trained = [bill(root, model.dir.relative_to(root).as_posix(), cfg) for model, _ in arm.runs.values()]
    texts: list[Text] = [t for t in arm.texts.values() if t.steps]
    written = [_by_step(root, text, made) for text in texts]
    parts = {
        "training": {k: w * (1 / len(trained)) for k, w in added(trained).items()},
        "text": {k: w * (1 / len(written)) for k, w in added(written).items()} if written else {},
    }
    whole = total(parts["training"]) + total(parts["text"])
    return {
        **{part: {kind: asdict(work) for kind, work in b.items()} for part, b in parts.items()},
        "total": asdict(whole),
    }


def _by_step(root: Path, text: Text, cfg: Any) -> Bill:
    return added([bill(root, step, cfg) for step in dict.fromkeys(text.steps)])


def _search(cfg: CompareConfig, search: Search, name: str, root: Path) -> dict[str, Any]:
    steps = [f"tune/{name}/trial-{i:02d}/pretrain" for i in range(len(search.trials))]
    return {
        "chosen": asdict(search.chosen),
        "settled": search.settled,
        "carried": search.carried,
        "cost": asdict(total(added([bill(root, step, cfg) for step in steps]))),
        "trials": [
            {
                "settings": asdict(t.settings),
                "draw": t.draw,
                "reference_loss": t.loss if math.isfinite(t.loss) else None,
                "tokens": t.tokens,
            }
            for t in search.trials
        ],
    }


def _interval(found: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), found, strict=True))


def _said(found: Estimate | Refusal) -> dict[str, Any]:
    """An estimate or a refusal as plain data; a bound that is not finite becomes None."""
    body = {"quantity": found.quantity, "words": found.words, "notes": list(found.notes)}
    if isinstance(found, Refusal):
        return {**body, "refused": found.reason}
    return {**body, **{k: _finite(getattr(found, k)) for k in ("value", "low", "high")}, "extrapolated": found.extrapolated}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _curve(anchors: Sequence[Anchor], cfg: CompareConfig) -> Mapping[str, Any] | None:
    """The fitted curve with its band, for the picture; None with too few anchors."""
    least = 2 if cfg.compare.law == "interpolation" else 3
    if len({a.unique_tokens for a in anchors}) < least:
        return None
    sizes = [a.unique_tokens for a in anchors]
    at = np.geomspace(min(sizes) / 1.2, max(sizes) * 1.5, POINTS)
    low, high = curve_band(anchors, at, law=cfg.compare.law)
    fitted = curve(anchors, law=cfg.compare.law).loss(at)[0]
    columns = {"unique_tokens": at, "loss": fitted, "low": low, "high": high}
    return {k: [round(float(v), 5) for v in column] for k, column in columns.items()}
