"""What the pages have in common: templates in which every text is escaped, charts, and how numbers are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synpro.runner.progress import duration

if TYPE_CHECKING:
    from markupsafe import Markup
    from plotly.graph_objects import Figure


def render_template(name: str, **values: Any) -> str:
    """A template of this package, filled in; its variable `plotly` is the library that draws its charts."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synpro.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (seconds, gib, count, number, signed, interval)
    environment.filters |= {function.__name__: function for function in formats}
    return environment.get_template(name).render(plotly=get_plotlyjs(), **values)


def chart(name: str, figure: Figure) -> Markup:
    """A figure as HTML that plotly has escaped."""
    from markupsafe import Markup

    config = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}", config=config))


def seconds(value: float | None) -> str:
    """Format a duration: 42.0 s, 3 min 10 s, 2 h 05 min."""
    if value is None:
        return "–"
    return f"{value:.1f} s" if round(value) < 60 else duration(value)


def gib(value: int | None) -> str:
    """Format bytes as GiB."""
    return "–" if not value else f"{value / 2**30:.2f} GiB"


def count(value: float | None) -> str:
    """Format a count: 1,234."""
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """Format a value; a dash where there is none, "failed" for an answer that failed its reward."""
    return "–" if value is None else "failed" if value == float("-inf") else f"{round(value, digits) + 0.0:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Format a change with its sign."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def interval(change: dict[str, float]) -> str:
    """Format a change as `-0.0123 [-0.0200, -0.0046]`."""
    return f"{change['mean']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]"
