"""Plotly figures of a run. Colours are those of Okabe and Ito (2008): distinct for colour-blind readers and in grey print.

Text and grid colours are set by the page (light, dark, print), so figures carry none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from synpro.report.run_data import GeneratorTraining, PretrainRound, RunData

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BLUE, RED, GREEN, ORANGE, SKY, PINK, YELLOW, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#8a8f98",
)  # fmt: skip
OPERATIONS = (BLUE, RED, GREEN, PINK)
REASONS = (RED, ORANGE, PINK, YELLOW, SKY, GREEN, "#4d4d4d")
METRIC_UNITS = {
    "reward": "weighted, in deviations of the start",
    "total": "weighted, in deviations of the start",
    "completion_tokens": "tokens",
    "kl": "nats per token",
    "zero_std": "share of groups",
}
"""Units of metrics that are no rewards; others are shares of answers. A reward declares its own."""
_MAX_BOX_POINTS = 200
"""Points above which a box plot shows outliers only."""


def palette(operations: Sequence[str]) -> dict[str, str]:
    """Give each operation a colour, by order of appearance."""
    names = list(dict.fromkeys(operations))
    return {name: OPERATIONS[i % len(OPERATIONS)] for i, name in enumerate(names)}


def reward_names(generators: Sequence[GeneratorTraining]) -> list[str]:
    """Rewards in a run's metrics, in the order of the registry; those that are not in it follow by name."""
    from synpro.rewards.registry import REWARDS

    found = {k.removeprefix("reward/") for g in generators for r in g.rows for k in r if k.startswith("reward/")}
    found |= {n for g in generators if g.before for n in g.before.means} - {"total"}
    return [n for n in REWARDS if n in found] + sorted(found - set(REWARDS))


def unit_of(key: str) -> str:
    """The unit of a metric, or of a reward by its name or its key `reward/NAME`."""
    from synpro.rewards.registry import REWARDS

    reward = REWARDS.get(key.removeprefix("reward/"))
    return (reward.unit if reward else METRIC_UNITS.get(key, "")) or "share of answers"


def loss(data: RunData) -> Figure | None:
    """Loss against tokens over all rounds, with where each round ended and why."""
    import plotly.graph_objects as go

    runs = [t for t in data.trainings if t.train or t.reference or t.heldout]
    if not runs:
        return None
    figure = go.Figure()
    lines: list[tuple[str, Callable[[PretrainRound], tuple[tuple[float, float], ...]], str, float, float]] = [
        ("training mixture", lambda t: thinned(t.train), GREY, 1, 0.55),
        ("reference", lambda t: t.reference, BLUE, 2.5, 1),
        ("held-out", lambda t: t.heldout, RED, 2.5, 1),
        *([("general text", lambda t: t.general, ORANGE, 1.5, 1)] if any(t.general for t in runs) else []),
    ]
    for name, pick, colour, width, opacity in lines:
        x: list[float | None] = []
        y: list[float | None] = []
        for t in runs:  # the line breaks between rounds: the mixture changes there
            x += [p[0] for p in pick(t)] + [None]
            y += [p[1] for p in pick(t)] + [None]
        hover = f"{name}: %{{y:.4f}} nats<br>%{{x:,}} tokens<extra></extra>"
        style = {"color": colour, "width": width}
        mode = "lines" if name == "training mixture" else "lines+markers"
        figure.add_scatter(x=x, y=y, name=name, mode=mode, line=style, marker={"size": 5}, opacity=opacity, hovertemplate=hover)
    for done, name, symbol in ((True, "plateau", "diamond"), (False, "token budget spent", "x")):
        ends = [t for t in runs if t.done and bool(t.plateau) is done and t.reference]
        figure.add_scatter(
            x=[t.reference[-1][0] for t in ends],
            y=[t.reference[-1][1] for t in ends],
            text=[f"end of round {t.round}: {t.reason}" for t in ends],
            name=f"ended: {name}",
            mode="markers",
            marker={"symbol": symbol, "size": 13, "color": ORANGE, "line": {"width": 1.5, "color": "#333"}},
            hovertemplate="%{text}<br>%{x:,} tokens<extra></extra>",
            visible=True if ends else "legendonly",
            showlegend=bool(ends),
        )
    for t in runs:
        first = min(points[0][0] for points in (t.train, t.reference, t.heldout) if points)
        start = next((p.tokens for p in data.trainings if p.round == t.round - 1 and p.tokens is not None), first)
        where = {"annotation_text": f" round {t.round}", "annotation_position": "top right"}
        figure.add_vline(x=start if t.round else 0, line={"width": 1, "dash": "dot", "color": GREY}, **where)
    figure.update_yaxes(range=_loss_range(runs))
    return styled(figure, "training tokens since the run began", "loss, nats per token", height=430)


def _loss_range(runs: Sequence[PretrainRound]) -> list[float] | None:
    """A range of loss that leaves out the first tenth of round 0, where everything else would look flat beside it."""
    begin = runs[0].tokens or max(x for points in (runs[0].train, runs[0].reference, runs[0].heldout) for x, _ in points)
    points = [point for t in runs for line in (t.train, t.reference, t.heldout, t.general) for point in line]
    values, every = [y for x, y in points if x >= begin / 10], [y for _, y in points]
    if not values or min(values) == max(values):
        return None
    if max(every) - min(every) < 3 * (max(values) - min(values)):  # a model that is continued begins where it matters
        values = every
    margin = (max(values) - min(values)) * 0.06
    return [min(values) - margin, max(values) + 2 * margin]


def thinned(points: tuple[tuple[float, float], ...], most: int = 1500) -> tuple[tuple[float, float], ...]:
    """Average neighbours until at most `most` points are left, so that the page of a long run stays small."""
    size = -(-len(points) // most) if points else 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return tuple((g[-1][0], sum(v for _, v in g) / len(g)) for g in groups)


def rewards(data: RunData) -> Figure | None:
    """Each reward's mean raw value over GRPO steps, rounds one after another."""
    names = reward_names(data.generators)
    return _over_steps(data.generators, ["reward", *(f"reward/{n}" for n in names)], ["total", *names])


def health(data: RunData) -> Figure | None:
    """RL health: parsed and truncated answers, groups without a gradient, KL, length of answers."""
    titles = {"parsed": "answers parsed", "truncated": "answers truncated", "zero_std": "groups without gradient"}
    titles = {"passed": "answers passed", "pass/influence": "influence gate passed", **titles}
    titles |= {"share/influence": "influence in the advantage", "share/failing": "failing in the advantage"}
    titles |= {"kl": "KL to the start", "completion_tokens": "answer length"}
    keys = [k for k in titles if any(g.series(k) for g in data.generators)]
    return _over_steps(data.generators, keys, [titles[k] for k in keys])


def validation(data: RunData) -> Figure | None:
    """Each reward on fixed passages, before (ring) and after (dot) each training."""
    runs = [g for g in data.generators if g.before and g.after]
    names = [n for n in ("total", *reward_names(data.generators)) if any(g.before and n in g.before.means for g in runs)]
    if not runs or not names:
        return None
    figure, places = _panels(names, [unit_of(n) for n in names])
    colours = palette([g.operation for g in data.generators])
    for name, (row, col) in zip(names, places, strict=True):
        for g in runs:
            assert g.before is not None and g.after is not None
            if name not in g.before.means or name not in g.after.means:
                continue
            before, after = g.before.means[name], g.after.means[name]
            figure.add_scatter(
                x=[_short(g)] * 2,
                y=[before, after],
                mode="lines+markers",
                line={"color": colours[g.operation], "width": 2},
                marker={"size": 10, "symbol": ["circle-open", "circle"], "color": colours[g.operation]},
                hovertemplate=f"{g.name}<br>before {before:.4f}, after {after:.4f}<extra></extra>",
                showlegend=False,
                row=row,
                col=col,
            )
    figure.update_xaxes(tickangle=0, tickfont={"size": 11})
    return styled(figure, height=_height(len(names)), top=66)


def influence(data: RunData) -> Figure | None:
    """Influence of each validation rewrite, before and after training, with the share above zero."""
    import plotly.graph_objects as go

    runs = [g for g in data.generators if g.before and g.after and g.before.influence and g.after.influence]
    if not runs:
        return None
    colours = palette([g.operation for g in data.generators])
    figure = go.Figure()
    for g in runs:
        for label, side, colour in (("before", g.before, GREY), ("after", g.after, colours[g.operation])):
            assert side is not None
            values = [v for v in side.influence if v is not None]
            if not values:
                continue
            positive = sum(v > 0 for v in values) / len(values)
            figure.add_box(
                y=values,
                x=[[g.name] * len(values), [f"{label}<br>{positive:.0%} > 0"] * len(values)],
                marker={"color": colour, "size": 4, "opacity": 0.7},
                line={"width": 1.6, "color": colour},
                boxpoints="all" if len(values) <= _MAX_BOX_POINTS else "outliers",
                jitter=0.5,
                pointpos=0,
                fillcolor="rgba(0,0,0,0)",
                hovertemplate="%{y:.4f}<extra></extra>",
                showlegend=False,
            )
    figure.add_hline(y=0, line={"width": 1, "color": GREY})
    return styled(figure, "", "influence over source, nats per token", height=380, top=16)


def kept(data: RunData) -> Figure | None:
    """Answers of each shard: kept, or dropped and why."""
    import plotly.graph_objects as go

    shards = data.syntheses[::-1]  # the first is drawn at the top
    if not shards:
        return None
    reasons = list(dict.fromkeys(r for s in data.syntheses for r in s.reasons))
    figure = go.Figure()
    bars = [("kept", BLUE, [s.kept for s in shards])]
    bars += [(f"dropped: {r}", REASONS[i % len(REASONS)], [s.reasons.get(r, 0) for s in shards]) for i, r in enumerate(reasons)]
    for name, colour, counts in bars:
        shares = [c / s.answers if s.answers else 0 for c, s in zip(counts, shards, strict=True)]
        figure.add_bar(
            y=[s.name for s in shards],
            x=counts,
            customdata=shares,
            orientation="h",
            name=name,
            marker={"color": colour},
            text=[f"{c:,}" if share > 0.04 else "" for c, share in zip(counts, shares, strict=True)],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            hovertemplate=f"%{{y}}<br>{name}: %{{x:,}} (%{{customdata:.1%}})<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.35)
    return styled(figure, "answers", "", height=150 + 42 * len(shards))


def cost(data: RunData) -> Figure | None:
    """Time, tokens and peak memory of each step."""
    from plotly.subplots import make_subplots

    timed = [s for s in data.steps if s.seconds is not None][::-1]
    if not timed:
        return None
    minutes = max(s.seconds or 0 for s in timed) > 600
    titles = (f"time, {'minutes' if minutes else 'seconds'}", "tokens", "peak memory, GiB")
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.035, subplot_titles=titles)
    columns: list[tuple[list[float | None], str, str]] = [
        ([(s.seconds or 0) / (60 if minutes else 1) for s in timed], BLUE, ",.1f"),
        ([s.tokens or None for s in timed], GREEN, ",.3s"),
        ([s.peak_bytes / 2**30 if s.peak_bytes else None for s in timed], ORANGE, ".2f"),
    ]
    for i, (values, colour, form) in enumerate(columns, start=1):
        figure.add_bar(
            y=[s.name for s in timed],
            x=values,
            orientation="h",
            marker={"color": colour},
            texttemplate=f"%{{x:{form}}}",
            textposition="auto",
            textangle=0,
            hovertemplate=f"%{{y}}: %{{x:{form}}}<extra></extra>",
            showlegend=False,
            row=1,
            col=i,
        )
    return styled(figure, height=100 + 25 * len(timed), top=36)


CHARTS = (loss, rewards, health, validation, influence, kept, cost)
"""The charts of a run's page, named as their functions; None of one that has nothing to draw yet."""


def _over_steps(generators: Sequence[GeneratorTraining], keys: Sequence[str], titles: Sequence[str]) -> Figure | None:
    """One panel per metric, one line per operation; a round's steps follow those of the round before."""
    shown = [(k, t) for k, t in zip(keys, titles, strict=True) if any(g.series(k) for g in generators)]
    if not shown:
        return None
    figure, places = _panels([t for _, t in shown], [unit_of(k) for k, _ in shown], "GRPO step, all rounds")
    colours = palette([g.operation for g in generators])
    named: set[str] = set()
    for (key, title), (row, col) in zip(shown, places, strict=True):
        for operation, colour in colours.items():
            begun = 0.0
            for g in (g for g in generators if g.operation == operation):
                points = g.series(key)
                figure.add_scatter(
                    x=[begun + s for s, _ in points],
                    y=[v for _, v in points],
                    name=operation,
                    legendgroup=operation,
                    showlegend=operation not in named and bool(points),
                    mode="lines+markers",
                    marker={"size": [9] + [4] * (len(points) - 1), "symbol": ["diamond"] + ["circle"] * (len(points) - 1)},
                    line={"color": colour, "width": 1.6},
                    hovertemplate=f"{g.name}<br>{title}: %{{y:.4f}}<extra></extra>",
                    row=row,
                    col=col,
                )
                named |= {operation} if points else set()
                begun += max((r["step"] for r in g.rows if r.get("step") is not None), default=0)
    return styled(figure, height=_height(len(shown)) + 30, top=96)


def _short(g: GeneratorTraining) -> str:
    return f"{g.operation}<br>round {g.round}"


def _panels(titles: Sequence[str], units: Sequence[str], x: str = "") -> tuple[Figure, list[tuple[int, int]]]:
    """Small multiples, four to a row (or all five); each has a y axis of its own, because units differ."""
    from plotly.subplots import make_subplots

    columns = min(4, len(titles)) if len(titles) != 5 else 5
    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[f"<b>{t}</b><br><sup>{u}</sup>" for t, u in zip(titles, units, strict=True)],
        horizontal_spacing=0.06,
        vertical_spacing=0.44 / rows if rows > 1 else 0.1,
    )
    places = [(i // columns + 1, i % columns + 1) for i in range(len(titles))]
    for i, (row, col) in enumerate(places):
        if units[i].startswith("share"):
            figure.update_yaxes(range=[-0.03, 1.05], row=row, col=col)
        if x and i + columns >= len(titles):  # the lowest panel of each column
            figure.update_xaxes(title_text=x, row=row, col=col)
    return figure, places


def _height(panels: int) -> int:
    return 90 + 240 * (1 if panels == 5 else -(-panels // 4))


def styled(figure: Figure, x: str | None = None, y: str | None = None, *, height: int, top: int = 44) -> Figure:
    """Give a figure the look of the pages, and its axes their titles; its text has the colour of the page."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 16, "t": top, "b": 58},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "x": 0, "traceorder": "normal"},
        hoverlabel={"align": "left"},
    )
    axis: dict[str, Any] = {
        "showgrid": True,
        "title": {"font": {"size": 12.5}, "standoff": 8},
        "gridcolor": "rgba(128,128,128,0.22)",
        "zeroline": False,
        "automargin": True,
    }
    figure.update_xaxes(**axis, **({} if x is None else {"title_text": x}))
    figure.update_yaxes(**axis, **({} if y is None else {"title_text": y}))
    return figure
