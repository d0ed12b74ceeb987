"""The figures of a comparison, from `compare.json` alone."""

from __future__ import annotations

from typing import Any

from synpro.report.figures import COLOURS, LineFigure, Series

Numbers = dict[str, Any]
"""`compare.json`, as compare/summary.py makes it."""

TITLES = {
    "loss": "Held-out loss against training tokens",
    "unique": "Loss against unique organic tokens",
    "generated": "Data efficiency against generated tokens",
    "compute": "Data efficiency against all compute",
    "passes": "Repetition: loss against the share of the budget",
}


def figures(numbers: Numbers) -> dict[str, LineFigure]:
    """The figures by name; one that has nothing to show is left out."""
    look = {n: {"colour": COLOURS[i % len(COLOURS)], "style": i // len(COLOURS)} for i, n in enumerate(numbers["arms"])}
    curves = {n: _mean_points(a) for n, a in numbers["arms"].items()}
    lines = tuple(_curve(n, p, look[n]) for n, p in curves.items() if p)
    found = {}
    if lines:
        begin = max(x for s in lines for x in s.x) * 0.15  # the steep beginning would flatten all else
        tuned = [s for s in lines if s.name != "repetition"] or lines  # untuned repetition diverges: it would too
        seen = [y for s in tuned for x, y in zip(s.x, s.y, strict=True) if x >= begin] or [y for s in tuned for y in s.y]
        margin = (max(seen) - min(seen)) * 0.06 or 0.1
        span = (min(seen) - margin, max(seen) + margin)
        found["loss"] = LineFigure("training tokens", "held-out loss, nats per token", lines, y_range=span)
    if len(numbers["anchors"]) > 1:
        found["unique"] = _unique(numbers, look)
    worth = {n: e for n, a in numbers["arms"].items() if (e := a["data_efficiency"]) and e.get("value") is not None}
    axes = {"generated": ("generated tokens", "generated_tokens"), "compute": ("FLOP, text and training", None)}
    arms = {n: numbers["arms"][n] for n in worth}
    for figure, (label, key) in axes.items():
        at = {n: arm[key] if key else arm["cost"]["total"]["flops"] for n, arm in arms.items()}
        points = tuple(_worth(n, at[n], e, look[n]) for n, e in worth.items() if at[n] > 0)
        if points:
            found[figure] = LineFigure(label, "data efficiency, times the unique text", points, log_x=True)
    if shares := _shares(numbers):
        found["passes"] = LineFigure("share of the budget", "reference loss, nats per token", (shares,), log_x=True)
    return found


def _curve(name: str, points: list[tuple[float, float]], look: Numbers) -> Series:
    """A line through the points; a mark for a single one, of which a line would show nothing."""
    x, y = zip(*points, strict=True)
    if len(points) == 1:
        return Series(name, x, y, y, y, kind="points", **look)
    return Series(name, x, y, **look)


def _worth(name: str, x: float, efficiency: Numbers, look: Numbers) -> Series:
    value = efficiency["value"]
    low, high = (value if v is None else v for v in (efficiency["low"], efficiency["high"]))
    return Series(name, (x,), (value,), (min(low, value),), (max(high, value),), kind="points", **look)


def _shares(numbers: Numbers) -> Series | None:
    """The tuned settings at every share of the budget: shows that repetition is over, where the curve turns up again."""
    search = numbers["searches"]["u1"]
    chosen = {k: v for k, v in search["chosen"].items() if k != "share"}
    seen: dict[float, list[float]] = {}
    for t in search["trials"]:
        if (
            {k: v for k, v in t["settings"].items() if k != "share"} == chosen
            and t["reference_loss"] is not None
            and not t["draw"]
        ):
            seen.setdefault(t["settings"]["share"], []).append(t["reference_loss"])
    at = sorted(seen)
    if len(at) < 2:
        return None
    means = tuple(sum(seen[x]) / len(seen[x]) for x in at)
    return Series("tuned repetition", tuple(at), means, colour="#333333")


def _at(loss: Numbers) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    return (loss["mean"],), (loss["low"],), (loss["high"],)


def _mean_points(arm: Numbers) -> list[tuple[float, float]]:
    """(training tokens, held-out loss), the mean of the seeds where all have one."""
    tables = [dict(map(tuple, s["points"])) for s in arm["seeds"].values()]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    return [(x, sum(t[x] for t in tables) / len(tables)) for x in shared if x > 0]


def _unique(numbers: Numbers, look: dict[str, Numbers]) -> LineFigure:
    """The fitted curve with its anchors; dashes go from each arm's loss to the curve and down to the tokens it is worth, where
    arms are few enough to follow them."""
    anchors, curve = numbers["anchors"], numbers["curve"]
    scarce = numbers["corpora"]["u1"]["tokens"]["train"]
    series = []
    if curve:
        x = tuple(curve["unique_tokens"])
        series.append(Series("fitted, 95%", x, (), tuple(curve["low"]), tuple(curve["high"]), kind="band"))
        series.append(Series("", x, tuple(curve["loss"])))
    series.append(
        Series(
            "tuned repetition",
            tuple(a["unique_tokens"] for a in anchors),
            tuple(a["loss"]["mean"] for a in anchors),
            tuple(a["loss"]["low"] for a in anchors),
            tuple(a["loss"]["high"] for a in anchors),
            kind="points",
            colour="#333333",
        )
    )
    ends = [v for a in anchors for v in (a["loss"]["low"], a["loss"]["high"])]
    shown = {name: arm for name, arm in numbers["arms"].items() if arm["shards"] or name == "token-noise"}
    for name, arm in shown.items():
        efficiency = arm["data_efficiency"]
        loss = arm["loss"]["mean"]
        ends.append(loss)
        series.append(Series(name, (scarce,), *_at(arm["loss"]), kind="points", **look[name]))
        if curve and efficiency and efficiency.get("value") and len(shown) <= len(COLOURS):
            reached = (efficiency["laws"].get(numbers["about"]["law"]) or efficiency["value"]) * scarce  # on the drawn curve
            if reached <= 3 * max(curve["unique_tokens"]):
                bottom = min(v for v in (*ends, *(curve["loss"])))
                path = ((scarce, reached, reached), (loss, loss, bottom))
                series.append(Series("", *path, colour=look[name]["colour"], style=1))
    return LineFigure("unique organic tokens", "held-out loss, nats per token", tuple(series), log_x=True)
