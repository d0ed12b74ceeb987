"""How good a verifier is, for people: the table of a terminal, and one HTML page with a picture that opens with no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BLUE, RED, GREY = "#0072B2", "#D55E00", "#8a8f98"
"""Okabe and Ito (2008), as in the run's report."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1c2430; background:
#fff; } table { border-collapse: collapse; width: 100%; margin: 1em 0; }
th, td { padding: 4px 10px; border-bottom: 1px solid #dfe3e8; text-align: right; }
th:first-child, td:first-child { text-align: left; } caption { text-align: left; font-weight: 600; padding: 6px 0; } .soft {
color: #5d6775; }
"""
_COLUMNS = ("claims", "AUC", "±", "precision", "recall", "false ones found")


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report of the stage `train_verifier` as a table for a terminal."""
    out = [f"{'held-out documents':<20}" + "".join(f"{c:>18}" if len(c) > 9 else f"{c:>11}" for c in _COLUMNS)]
    for name, row in _rows(report):
        out.append(
            f"{name:<20}" + "".join(f"{c:>18}" if len(k) > 9 else f"{c:>11}" for k, c in zip(_COLUMNS, row, strict=True))
        )
    out += ["", *_notes(report)]
    return out


def _rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    rows = [("all", report["heldout"])]
    rows += list(report["heldout"]["by_type"].items())
    table = [(name, _cells(row)) for name, row in rows]
    return [*table, ("written by hand", _cells(report["written"]))]


def _cells(row: Mapping[str, Any]) -> list[str]:
    numbers = [row["auc"], row["auc_error"], row["precision"], row["recall"], row["specificity"]]
    return [str(row.get("claims", row["count"])), *("-" if v is None else f"{v:.3f}" for v in numbers)]


def _notes(report: Mapping[str, Any]) -> list[str]:
    found = report["heldout"]
    faithful = ", ".join(f"{k} {v['called_faithful']:.0%} of {v['claims']}" for k, v in found["faithful"].items())
    faithful += "".join(
        f", {k} by hand {v['called_faithful']:.0%} of {v['claims']}" for k, v in report["written"]["faithful"].items()
    )
    notes = [
        f"calibration: expected error {found['ece']:.3f}, Brier score {found['brier']:.3f}",
        f"called faithful, of the faithful: {faithful}",
        f"claims: {report['claims']['train']} to learn from, {report['claims']['calibration']} to calibrate, "
        f"{report['claims']['heldout']} held out, of {report['documents']['heldout']} documents no part of the others",
    ]
    return notes + [f"below its bound: {line}" for line in report["missed"]]


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """The same with the pictures. The same report gives the same bytes."""
    from plotly.offline import get_plotlyjs

    def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], caption: str) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for name, row in rows
        )
        head_cells = "".join(f"<th>{html.escape(h)}</th>" for h in ("", *head))
        return f"<table><caption>{html.escape(caption)}</caption><tr>{head_cells}</tr>{cells}</table>"

    bins = [
        (
            f"{b['low']:.1f} to {b['high']:.1f}",
            [str(b["count"]), *("-" if b[k] is None else f"{b[k]:.3f}" for k in ("said", "true"))],
        )
        for b in report["heldout"]["reliability"]
    ]
    drawn = "".join(
        figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False})
        for name, figure in (("by-type", _by_type(report)), ("reliability", _reliability(report)))
    )
    page = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Verifier: {html.escape(report['kind'])}</title>"
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        f"<h1>Faithfulness verifier, kind {html.escape(report['kind'])}</h1>"
        + table(_COLUMNS, _rows(report), "Held-out documents: each type of corruption against all faithful claims")
        + "".join(f"<p class='soft'>{html.escape(note)}</p>" for note in _notes(report))
        + drawn
        + table(("claims", "mean probability", "share faithful"), bins, "Reliability")
        + "</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _by_type(report: Mapping[str, Any]) -> Figure:
    import plotly.graph_objects as go

    rows = [("all", report["heldout"]), *report["heldout"]["by_type"].items(), ("written by hand", report["written"])]
    known = [(name, r["auc"], 1.96 * (r["auc_error"] or 0.0)) for name, r in rows if r["auc"] is not None]
    figure = go.Figure()
    figure.add_bar(
        x=[a for _, a, _ in known],
        y=[n for n, _, _ in known],
        orientation="h",
        marker={"color": [GREY if n == "written by hand" else BLUE for n, _, _ in known]},
        error_x={"type": "data", "array": [e for _, _, e in known]},
        hovertemplate="%{y}: AUC %{x:.3f}<extra></extra>",
    )
    figure.add_vline(x=0.5, line={"color": GREY, "dash": "dot"})
    figure.update_layout(
        title="AUC by type of corruption (bars: 95% interval; 0.5 is chance)",
        xaxis={"range": [0, 1.02]},
        yaxis={"autorange": "reversed"},
        height=440,
        template="simple_white",
        margin={"l": 120, "r": 20, "t": 50, "b": 40},
    )
    return figure


def _reliability(report: Mapping[str, Any]) -> Figure:
    import plotly.graph_objects as go

    bins = [b for b in report["heldout"]["reliability"] if b["count"]]
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=[b["said"] for b in bins],
        y=[b["true"] for b in bins],
        mode="lines+markers",
        marker={"size": [6 + min(18, b["count"] / 8) for b in bins], "color": RED},
        line={"color": RED},
        text=[f"{b['count']} claims" for b in bins],
        hovertemplate="said %{x:.2f}, true %{y:.2f}<br>%{text}<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(
        title="Reliability: probability said and share that is faithful",
        xaxis={"range": [0, 1], "title": "probability"},
        yaxis={"range": [0, 1], "title": "share faithful"},
        height=420,
        template="simple_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
    )
    return figure
