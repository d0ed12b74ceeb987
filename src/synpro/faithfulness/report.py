"""How good a verifier is: metrics on labelled claims, a table for the terminal, and one HTML page that opens offline."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synpro.faithfulness.claims import KINDS, Claim
from synpro.judges.base import Verdict
from synpro.measure.calibration import classifier_metrics

TARGET_AUC = {"all": 0.85, "number": 0.80, "entity": 0.80, "negation": 0.80}
"""AUC that a verifier should reach on held-out documents, overall and by type of corruption."""
BLUE, RED, GREY = "#0072B2", "#D55E00", "#8a8f98"
"""Okabe and Ito (2008), as in the run's report."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1c2430; background:
#fff; } table { border-collapse: collapse; width: 100%; margin: 1em 0; }
th, td { padding: 4px 10px; border-bottom: 1px solid #dfe3e8; text-align: right; }
th:first-child, td:first-child { text-align: left; } caption { text-align: left; font-weight: 600; padding: 6px 0; } .soft {
color: #5d6775; }
"""
_COLUMNS = ("claims", "AUC", "±", "precision", "recall", "specificity")


def verifier_metrics(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Metrics of the verdicts on labelled claims: overall, by type of corruption (each against all faithful claims), and by
    wording of the faithful claims. Raises ValueError without claims."""
    probabilities, truth = [v.probability for v in verdicts], [c.label == "faithful" for c in claims]
    whole = classifier_metrics(probabilities, truth)
    pairs = list(zip(claims, probabilities, strict=True))
    faithful = [p for c, p in pairs if c.label == "faithful"]
    by_type = {}
    for kind in KINDS:
        false = [p for c, p in pairs if c.kind == kind and c.label != "faithful"]
        if false:
            part = classifier_metrics([*faithful, *false], [True] * len(faithful) + [False] * len(false))
            by_type[kind] = _without_bins(asdict(part)) | {"claims": len(false)}
    wordings = {}
    for kind in ("verbatim", "reworded", "paraphrased"):
        ours = [p for c, p in pairs if c.kind == kind and c.label == "faithful"]
        if ours:
            wordings[kind] = {"claims": len(ours), "called_faithful": sum(p >= 0.5 for p in ours) / len(ours)}
    labels = [(c.label, v.label) for c, v in zip(claims, verdicts, strict=True)]
    found_false = [(true, predicted) for true, predicted in labels if "faithful" not in (true, predicted)]
    return {
        **_without_bins(asdict(whole)),
        "labels_right": sum(a == b for a, b in found_false) / len(found_false) if found_false else None,
        "reliability": [asdict(b) for b in whole.bins],
        "by_type": by_type,
        "faithful": wordings,
    }


def _without_bins(metrics: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metrics.items() if k != "bins"}


def below_target(heldout: Mapping[str, Any]) -> list[str]:
    """A line for each target AUC that was missed on held-out documents, or that there are no claims to measure on."""
    missed = []
    for kind, target in TARGET_AUC.items():
        reached = heldout["auc"] if kind == "all" else heldout["by_type"].get(kind, {}).get("auc")
        if reached is None:
            missed.append(f"{kind}: no claims to measure it on")
        elif reached < target:
            missed.append(f"{kind}: AUC {reached:.3f}, target {target:.2f}")
    return missed


def table_lines(report: Mapping[str, Any]) -> list[str]:
    """The report of the stage `train_verifier` as a table for the terminal."""
    rows = [("held-out documents", _COLUMNS), *_rows(report)]
    table = [f"{name:<20}" + "".join(f"{cell:>12}" for cell in cells) for name, cells in rows]
    return [*table, "", *_notes(report)]


def _parts(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, metrics) of each row of the table."""
    heldout = report["heldout"]
    return [("all", heldout), *heldout["by_type"].items(), ("written by hand", report["written"])]


def _rows(report: Mapping[str, Any]) -> list[tuple[str, Sequence[str]]]:
    return [(name, _cells(part)) for name, part in _parts(report)]


def _cells(part: Mapping[str, Any]) -> list[str]:
    numbers = [part["auc"], part["auc_error"], part["precision"], part["recall"], part["specificity"]]
    return [str(part.get("claims", part["count"])), *map(_shown, numbers)]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _notes(report: Mapping[str, Any]) -> list[str]:
    heldout = report["heldout"]
    wordings = [(kind, v) for kind, v in heldout["faithful"].items()]
    wordings += [(f"{kind} by hand", v) for kind, v in report["written"]["faithful"].items()]
    recalls = ", ".join(f"{kind} {v['called_faithful']:.0%} of {v['claims']}" for kind, v in wordings)
    claims, documents = report["claims"], report["documents"]
    notes = [
        f"calibration: expected calibration error {heldout['ece']:.3f}, Brier score {heldout['brier']:.3f}",
        f"faithful claims that are called faithful: {recalls}",
        f"claims: {claims['train']} for training, {claims['calibration']} for calibration, {claims['heldout']} held out; the "
        f"{documents['heldout']} documents of the last are in no other part",
    ]
    return notes + [f"below target: {line}" for line in report["missed"]]


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the tables and figures as one HTML file. The same report gives the same bytes."""
    title = html.escape(f"Faithfulness verifier, kind {report['kind']}")
    bins = [
        (f"{b['low']:.1f} to {b['high']:.1f}", [str(b["count"]), _shown(b["said"]), _shown(b["true"])])
        for b in report["heldout"]["reliability"]
    ]
    page = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        + _table(_COLUMNS, _rows(report), "Held-out documents: each type of corruption against all faithful claims")
        + "".join(f"<p class='soft'>{html.escape(note)}</p>" for note in _notes(report))
        + _figures(report)
        + _table(("claims", "mean predicted probability", "fraction faithful"), bins, "Reliability")
        + "</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], caption: str) -> str:
    lines = [f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in ('', *head))}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in (name, *cells))}</tr>" for name, cells in rows]
    return f"<table><caption>{html.escape(caption)}</caption>{''.join(lines)}</table>"


def _figures(report: Mapping[str, Any]) -> str:
    """An SVG: the AUC of each row of the table, and the reliability curve."""
    import matplotlib
    from matplotlib.figure import Figure

    known = [(name, p["auc"], 1.96 * (p["auc_error"] or 0.0)) for name, p in _parts(report) if p["auc"] is not None][::-1]
    bins = [b for b in report["heldout"]["reliability"] if b["count"]]
    with matplotlib.rc_context({"svg.hashsalt": "synpro", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        names, values, errors = zip(*known, strict=True)
        left.barh(names, values, xerr=errors, color=[GREY if name == "written by hand" else BLUE for name in names])
        left.axvline(0.5, color=GREY, linestyle=":")
        left.set(xlim=(0, 1.02), title="AUC by type of corruption (bars: 95% interval; 0.5 is chance)")
        right.plot([0, 1], [0, 1], color=GREY, linestyle=":")
        right.plot([b["said"] for b in bins], [b["true"] for b in bins], color=RED)
        right.scatter([b["said"] for b in bins], [b["true"] for b in bins], [20 + b["count"] for b in bins], color=RED)
        right.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="fraction faithful", title="Reliability")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
