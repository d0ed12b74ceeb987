"""Line figures as files: what lies at one place is drawn side by side."""

from __future__ import annotations

import re

from synpro.report.figures import LineFigure, Series, to_svg


def places(figure: LineFigure) -> dict[str, float]:
    """Where the points of each colour are, from left to right in the picture."""
    found = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="[\d.]+" style="fill: (#\w+)', to_svg(figure))
    return {colour: float(x) for x, colour in reversed(found)}  # the last of a colour are in the legend


def at(name: str, x: float, y: float, colour: str) -> Series:
    return Series(name, (x,), (y,), (y - 0.1,), (y + 0.1,), "points", colour)


def test_points_at_one_place_are_drawn_side_by_side() -> None:
    one, other, third = at("a", 90_000, 2.0, "#111111"), at("b", 90_100, 2.01, "#222222"), at("c", 90_000, 2.02, "#333333")
    far = at("d", 50_000, 2.0, "#444444")
    x = places(LineFigure("tokens", "x", (one, other, third, far), log_x=True))
    a, b, c, d = (x[s.colour] for s in (one, other, third, far))
    assert c < a - 3 < b - 6, "the second to the right, the third to the left"
    assert d < c - 50, "a point of its own place stays there"


def test_a_bar_that_is_moved_aside_is_drawn_whole() -> None:
    high = Series("b", (90_000.0,), (2.0,), (1.0,), (9.0,), "points", "#222222")
    svg = to_svg(LineFigure("tokens", "x", (at("a", 90_000, 2.0, "#111111"), high)))
    assert ">8</text>" in svg or "<!-- 8 -->" in svg, "the axis reaches the end of the bar"
