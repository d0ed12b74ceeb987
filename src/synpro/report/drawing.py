"""Line drawings as data, and two ways to show them: plotly in a page, and a small SVG that can be committed.

Colours are those of Okabe and Ito (2008); beyond eight lines, dashes tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from synpro.report.charts import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, YELLOW

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = (BLUE, RED, GREEN, ORANGE, SKY, PINK, "#4d4d4d", YELLOW)
"""In the order of series; GREY is for what is behind them."""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 430, 64, 190, 14, 52


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
    dash: bool = False


@dataclass(frozen=True)
class Drawing:
    """One picture."""

    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    y_range: tuple[float, float] | None = None


def to_plotly(drawing: Drawing) -> Figure:
    """The drawing as an interactive figure."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for s in drawing.series:
        common = {"name": s.name, "showlegend": bool(s.name), "legendgroup": s.name or None}
        hover = f"{s.name}: %{{y:.4f}} at %{{x:,.0f}}<extra></extra>"
        if s.kind == "band":
            edge = {"x": [*s.x, *reversed(s.x)], "y": [*s.high, *reversed(s.low)]}
            figure.add_scatter(**edge, fill="toself", fillcolor=_faint(s.colour), line={"width": 0}, hoverinfo="skip", **common)
            continue
        bars = None
        if s.low:
            up = [h - y for h, y in zip(s.high, s.y, strict=True)]
            down = [y - b for b, y in zip(s.low, s.y, strict=True)]
            bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 4}
        line = {"color": s.colour, "width": 2, "dash": "dash" if s.dash else "solid"}
        mode = "markers" if s.kind == "points" else "lines"
        marker = {"color": s.colour, "size": 9}
        figure.add_scatter(x=s.x, y=s.y, mode=mode, line=line, marker=marker, error_y=bars, hovertemplate=hover, **common)
    axis = {"showgrid": True, "gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "automargin": True}
    figure.update_xaxes(**axis, title_text=drawing.x, type="log" if drawing.log_x else "linear")
    figure.update_yaxes(**axis, title_text=drawing.y, range=list(drawing.y_range) if drawing.y_range else None)
    return figure.update_layout(
        template="none",
        height=460,
        margin={"l": 64, "r": 16, "t": 70, "b": 58},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",  # text colours are the page's
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "xanchor": "left", "x": 0},
    )


def to_svg(drawing: Drawing) -> str:
    """The drawing as a picture of its own on white. The same drawing gives the same bytes."""
    xs = [_x(v, drawing) for s in drawing.series for v in s.x]
    ys = [v for s in drawing.series for v in (*s.y, *s.low, *s.high)]
    if not xs or not ys:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>\n'
    left, right = _room(min(xs), max(xs), 0.03)
    bottom, top = drawing.y_range or _room(min(ys), max(ys), 0.05)

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_x(x, drawing) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - (y - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<clipPath id="inside"><rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM}"/></clipPath>',
    ]
    edge = _WIDTH - _RIGHT
    for tick in _ticks(bottom, top):
        y = at(drawing.series[0].x[0], tick)[1]
        out.append(f'<line x1="{_LEFT}" x2="{edge}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{tick:.5g}</text>')
    for tick in _log_ticks(left, right) if drawing.log_x else _ticks(left, right):
        x = _LEFT + ((math.log10(tick) if drawing.log_x else tick) - left) / (right - left) * (edge - _LEFT)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#e3e3e3"/>')
        label = f"{tick:.0e}" if tick >= 1e7 else f"{tick / 1000:g}k" if tick >= 1000 else f"{tick:g}"
        out.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#444">{label}</text>')
    middle = (_LEFT + edge) / 2
    out.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 12}" text-anchor="middle" fill="#222">{escape(drawing.x)}</text>')
    turned = f'transform="rotate(-90 16 {_HEIGHT / 2 - 20:.0f})"'
    out.append(f'<text x="16" y="{_HEIGHT / 2 - 20:.0f}" {turned} text-anchor="middle" fill="#222">{escape(drawing.y)}</text>')
    out.append('<g clip-path="url(#inside)">')  # what begins above the range is cut, not squeezed into it
    for s in drawing.series:
        out += _drawn(s, at)
    out.append("</g>")
    out += _legend(drawing.series, edge + 14)
    return "\n".join([*out, "</svg>", ""])


def _drawn(s: Series, at: Callable[[float, float], tuple[float, float]]) -> list[str]:
    if s.kind == "band":
        edge = [at(x, y) for x, y in zip(s.x, s.high, strict=True)]
        edge += [at(x, y) for x, y in zip(reversed(s.x), reversed(s.low), strict=True)]
        return [f'<polygon points="{_joined(edge)}" fill="{s.colour}" fill-opacity="0.15"/>']
    points = [at(x, y) for x, y in zip(s.x, s.y, strict=True)]
    if s.kind == "line":
        dash = ' stroke-dasharray="6 4"' if s.dash else ""
        return [f'<polyline points="{_joined(points)}" fill="none" stroke="{s.colour}" stroke-width="2"{dash}/>']
    out = []
    for i, (x, y) in enumerate(points):
        if s.low:
            low, high = at(s.x[i], s.low[i])[1], at(s.x[i], s.high[i])[1]
            out.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{s.colour}" stroke-width="1.5"/>'
            )
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{s.colour}"/>')
    return out


def _legend(series: Sequence[Series], left: float) -> list[str]:
    out = []
    for i, s in enumerate(s for s in series if s.name):
        y = _TOP + 12 + 19 * i
        dash = ' stroke-dasharray="6 4"' if s.dash else ""
        width = 8 if s.kind == "band" else 2
        faint = ' stroke-opacity="0.25"' if s.kind == "band" else ""
        mark = f'<line x1="{left}" x2="{left + 22}" y1="{y}" y2="{y}" stroke="{s.colour}" stroke-width="{width}"{dash}{faint}/>'
        out.append(f'<circle cx="{left + 11}" cy="{y}" r="4.5" fill="{s.colour}"/>' if s.kind == "points" else mark)
        out.append(f'<text x="{left + 28}" y="{y + 4}" fill="#222">{escape(s.name)}</text>')
    return out


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _x(value: float, drawing: Drawing) -> float:
    return math.log10(value) if drawing.log_x else value


def _room(low: float, high: float, share: float) -> tuple[float, float]:
    margin = (high - low) * share or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between."""
    raw = (high - low) / 5
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten between two exponents."""
    found = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    return [t for t in found if low <= math.log10(t) <= high]


def _faint(colour: str) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},0.15)"
