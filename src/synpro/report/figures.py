"""Line figures as data, and two ways to show them: plotly in a page, and an SVG by matplotlib that can be committed."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from synpro.report.charts import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, YELLOW, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from plotly.graph_objects import Figure

COLOURS = (BLUE, RED, GREEN, ORANGE, SKY, PINK, "#4d4d4d", YELLOW)
"""In the order of series. Beyond eight, styles tell them apart; GREY is for what is behind them."""
_LINES = (("-", "solid"), ("--", "dash"), (":", "dot"), ("-.", "dashdot"))
"""Styles of a line, for matplotlib and for plotly."""
_MARKS = (("o", "full", "circle"), ("o", "none", "circle-open"), ("s", "full", "square"), ("s", "none", "square-open"))
"""Styles of points: matplotlib's mark and how it is filled, and plotly's symbol."""
_SVG_STYLE: Any = {
    "svg.hashsalt": "synpro",  # the ids in the file: random without a salt
    "svg.fonttype": "none",  # text stays text: smaller, and readable in a diff
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": "#8a8f98",
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    name: str
    """For the legend; empty: none."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    """Lower ends of intervals: bars on `points`, the lower edge of a `band`."""
    high: tuple[float, ...] = ()
    kind: Literal["line", "points", "band"] = "line"
    colour: str = GREY
    style: int = 0
    """Of a line: solid, dashed, dotted, dashes with dots. Of points: circles, open circles, squares, open squares."""


@dataclass(frozen=True)
class LineFigure:
    """One picture: its axes and what is drawn in them."""

    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    y_range: tuple[float, float] | None = None


def to_plotly(figure: LineFigure) -> Figure:
    """Draw a figure that can be hovered over and zoomed, for a page."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for s in figure.series:
        common = {"name": s.name, "showlegend": bool(s.name), "legendgroup": s.name or None}
        hover = f"{s.name}: %{{y:.4f}} at %{{x:,.0f}}<extra></extra>"
        if s.kind == "band":
            edge = {"x": [*s.x, *reversed(s.x)], "y": [*s.high, *reversed(s.low)]}
            chart.add_scatter(**edge, fill="toself", fillcolor=_faint(s.colour), line={"width": 0}, hoverinfo="skip", **common)
            continue
        bars = None
        if s.low:
            down, up = _error_bars(s)
            bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 4}
        line = {"color": s.colour, "width": 2, "dash": _LINES[s.style % len(_LINES)][1]}
        mode = "markers" if s.kind == "points" else "lines"
        marker = {"color": s.colour, "size": 9, "symbol": _MARKS[s.style % len(_MARKS)][2]}
        chart.add_scatter(x=s.x, y=s.y, mode=mode, line=line, marker=marker, error_y=bars, hovertemplate=hover, **common)
    chart.update_xaxes(type="log" if figure.log_x else "linear")
    chart.update_yaxes(range=list(figure.y_range) if figure.y_range else None)
    return styled(chart, figure.x, figure.y, height=460, top=70)


def to_svg(figure: LineFigure) -> str:
    """Draw a picture of its own on white. The same figure gives the same bytes: no date, no random ids."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas  # not pyplot, whose state is shared between threads

    with matplotlib.rc_context(_SVG_STYLE):
        names = sum(bool(s.name) for s in figure.series)
        canvas = Canvas(figsize=(7.6, max(4.3, 0.4 + 0.19 * names)), layout="constrained")  # as high as its legend
        axes = canvas.add_subplot()
        for s, aside in zip(figure.series, _asides(figure), strict=True):
            _draw(axes, s, aside)
        axes.set_xlabel(figure.x)
        axes.set_ylabel(figure.y)
        if figure.log_x:
            _log_axis(axes)
        else:
            axes.xaxis.set_major_formatter(_in_thousands)
        if figure.y_range:
            axes.set_ylim(*figure.y_range)  # what begins above the range is cut, not squeezed into it
        if any(s.name for s in figure.series):
            canvas.legend(loc="outside right upper", frameon=False)
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _asides(figure: LineFigure) -> list[float]:
    """How far the points of each series are drawn beside their place, in points (1/72 inch), so that none hides another: those
    at the place of earlier ones go to their right and left by turns."""
    scale = math.log if figure.log_x else float
    points = [s for s in figure.series if s.kind == "points"]
    places = [scale(x) for s in points for x in s.x]
    near = 0.02 * (max(places) - min(places)) if places else 0.0
    taken: list[float] = []
    asides = []
    for s in figure.series:
        own = [scale(x) for x in s.x] if s.kind == "points" else []
        before = max((sum(abs(x - other) <= near for other in taken) for x in own), default=0)
        asides.append(5.0 * ((before + 1) // 2) * (1 if before % 2 else -1))
        taken += own
    return asides


def _draw(axes: Axes, s: Series, aside: float = 0.0) -> None:
    from matplotlib.transforms import ScaledTranslation

    label = s.name or "_"  # matplotlib leaves a label that begins with an underscore out of the legend
    if s.kind == "band":
        axes.fill_between(s.x, s.low, s.high, color=s.colour, alpha=0.15, linewidth=0, label=label)
    elif s.kind == "line":
        axes.plot(s.x, s.y, color=s.colour, linewidth=1.6, linestyle=_LINES[s.style % len(_LINES)][0], label=label)
    else:
        bars = _error_bars(s) if s.low else None
        shape, filled, _ = _MARKS[s.style % len(_MARKS)]
        mark: dict[str, Any] = {"fmt": shape, "markersize": 5, "fillstyle": filled}
        if aside:
            mark["transform"] = axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
            axes.update_datalim([*zip(s.x, s.low or s.y, strict=True), *zip(s.x, s.high or s.y, strict=True)])
        axes.errorbar(s.x, s.y, bars, color=s.colour, elinewidth=1.2, capsize=2, label=label, **mark)


def _log_axis(axes: Axes) -> None:
    """A logarithmic axis with labels at 1, 2 and 5 times the powers of ten: anchors of a curve span less than one decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(_in_thousands)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _in_thousands(value: float, position: Any = None) -> str:
    """`500`, `20k`, `1e+13`: a tick's label. `position` is what matplotlib gives beside the value."""
    return f"{value:.0e}" if value >= 1e7 else f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _error_bars(s: Series) -> tuple[list[float], list[float]]:
    """How far an interval reaches below and above its point."""
    down = [y - low for low, y in zip(s.low, s.y, strict=True)]
    up = [high - y for high, y in zip(s.high, s.y, strict=True)]
    return down, up


def _faint(colour: str) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},0.15)"
