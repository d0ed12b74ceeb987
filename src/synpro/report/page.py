"""The page: one HTML file that holds everything, opens with no network, and can be sent to a colleague.

The same run directory gives the same bytes. All text from the run is escaped: a generator may have written HTML.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synpro.report import charts
from synpro.report.cautions import cautions, influence_change
from synpro.report.claims import one_document, verifier
from synpro.report.gather import Contents, gather
from synpro.report.headline import changes, headline
from synpro.report.samples import samples
from synpro.run.lineage import Lineage, why

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_PLOT = {"displayModeBar": False, "responsive": True}


def write_report(run: Path) -> Path:
    """Write RUN/report.html, by rename, and return its path.

    Raises NotARun when `run` is not a run directory, Damaged when a finished step's file cannot be read.
    """
    page = render(run)
    target = run / "report.html"
    temporary = target.with_name("report.html.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(page)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(target)
    return target


def summary(run: Path) -> list[str]:
    """What a run comes to, as plain lines for a terminal: the number with its interval, and what it does not say."""
    contents = gather(run)
    top = headline(contents)
    lines = [top.sentence]
    if top.change is not None:
        bits = top.change.bits_per_byte
        lines.append(f"In bits per byte: {bits.mean:+.4f} (95% interval {bits.low:+.4f} to {bits.high:+.4f}).")
    if top.caution:
        lines.append(top.caution)
    warnings = [c for c in cautions(contents) if c.where != "whole run"]
    if warnings:
        lines.append(f"{len(warnings)} warnings, in full in the report:")
        lines += [f"  {c.where}: {c.what}" for c in warnings]
    return lines


def render(run: Path) -> str:
    """The page as text."""
    import jinja2
    from plotly.offline import get_plotlyjs

    contents = gather(run)
    measured = changes(contents)
    shown = samples(contents)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synpro.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds, "gib": gib, "count": count, "number": number, "signed": signed}
    return environment.get_template("page.html.jinja").render(
        run=contents,
        top=headline(contents, measured),
        changes={c.round: c for c in measured},
        charts=_drawn(contents),
        plotly=get_plotlyjs(),
        samples=shown,
        verifier=verifier(contents),
        document=one_document(contents),
        lineage=_one_lineage(run, contents),
        cautions=cautions(contents),
        influence={(g.operation, g.round): influence_change(g) for g in contents.generators},
        tasks=sorted({t for e in contents.evaluated for t in e.tasks}),
        rewards=charts.reward_names(contents.generators),
        mean=_mean,
        total_seconds=sum(s.seconds or 0 for s in contents.steps),
        peak_bytes=max((s.peak_bytes or 0 for s in contents.steps), default=0),
    )


def _drawn(contents: Contents) -> dict[str, Any]:
    """Charts as HTML that plotly has escaped, by name; None where the run has nothing to draw yet."""
    from markupsafe import Markup

    makers: dict[str, Callable[[Contents], Figure | None]] = {
        "loss": charts.loss,
        "rewards": charts.rewards,
        "health": charts.health,
        "validation": charts.validation,
        "influence": charts.influence,
        "kept": charts.kept,
        "cost": charts.cost,
    }
    drawn: dict[str, Any] = {}
    for name, make in makers.items():
        figure = make(contents)
        drawn[name] = figure and Markup(
            figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}", config=_PLOT)
        )
    return drawn


def _one_lineage(run: Path, contents: Contents) -> Lineage | None:
    """The lineage of one synthetic document, the first of the last shard: shown as an example of `synpro why`."""
    from synpro.run.reading import read_table

    for shard in reversed(contents.syntheses):
        first = read_table(run / shard.step / "documents.parquet", ["id"], head=1)
        if first:
            return why(run, first[0]["id"])
    return None


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def seconds(value: float | None) -> str:
    """42 s, 3 min 10 s, 2 h 05 min."""
    if value is None:
        return "–"
    whole = round(value)
    if whole < 60:
        return f"{value:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def gib(value: int | None) -> str:
    """Bytes as GiB."""
    return "–" if not value else f"{value / 2**30:.2f} GiB"


def count(value: float | None) -> str:
    """1,234."""
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """A value, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """A change, with its sign."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")
