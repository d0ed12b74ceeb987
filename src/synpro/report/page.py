"""The report: one HTML file that holds everything, opens without a network, and can be sent to a colleague.

The same run directory gives the same bytes. All text from the run is escaped: a generator may have written HTML.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synpro.report import charts
from synpro.report.claims import example_document, verifier
from synpro.report.collapse import collapse
from synpro.report.contamination import contamination, contamination_examples
from synpro.report.execution import execution_changes
from synpro.report.headline import changes, headline
from synpro.report.learned import learned, positive_shares, reward_spreads
from synpro.report.lineage import Lineage, why
from synpro.report.run_data import RunData, load_run
from synpro.report.samples import samples
from synpro.report.warnings import falls, find_warnings, influence_change

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_PLOT = {"displayModeBar": False, "responsive": True}


def write_report(run: Path) -> Path:
    """Write RUN/report.html, by rename, and return its path.

    Raises NotARun when `run` is not a run directory, CorruptRun when a finished step's file cannot be read.
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
    """The result of a run as lines for a terminal: the number with its interval, what it does not show, and the warnings."""
    data = load_run(run)
    top = headline(data)
    lines = [top.sentence, *(f"{w.where}: {w.what}" for w in falls(data))]
    if top.change is not None:
        bits = top.change.bits_per_byte
        lines.append(f"In bits per byte: {bits.mean:+.4f} (95% interval {bits.low:+.4f} to {bits.high:+.4f}).")
    if top.caution:
        lines.append(top.caution)
    found = [w for w in find_warnings(data) if w.where != "whole run"]
    if found:
        lines.append(f"{len(found)} warnings, in full in the report:")
        lines += [f"  {w.where}: {w.what}" for w in found]
    return lines


def render(run: Path) -> str:
    """Render the page of a run directory. Raises as `write_report` does."""
    import jinja2
    from plotly.offline import get_plotlyjs

    data = load_run(run)
    measured = changes(data)
    shown = samples(data)
    overlap = contamination(data)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synpro.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds, "gib": gib, "count": count, "number": number, "signed": signed}
    return environment.get_template("page.html.jinja").render(
        run=data,
        top=headline(data, measured),
        changes={c.round: c for c in measured},
        charts=_draw_charts(data),
        plotly=get_plotlyjs(),
        samples=shown,
        verifier=verifier(data),
        document=example_document(data),
        lineage=_example_lineage(run, data),
        warnings=find_warnings(data),
        falls=falls(data),
        collapse=collapse(data),
        learned=learned(data),
        positive=positive_shares(data),
        spreads=reward_spreads(data),
        overlap=overlap,
        flagged={row.group for row in overlap if row.flagged},
        kinds=list(dict.fromkeys(kind for row in overlap for kind in row.hit)),
        contaminated=contamination_examples(data),
        influence={(g.operation, g.round): influence_change(g) for g in data.generators},
        tasks=sorted({t for e in data.evaluated for t in e.tasks}),
        rewards=charts.reward_names(data.generators),
        total_seconds=sum(s.seconds or 0 for s in data.steps),
        execution=execution_changes(run, [s.name for s in data.steps]),
        peak_bytes=max((s.peak_bytes or 0 for s in data.steps), default=0),
    )


def _draw_charts(data: RunData) -> dict[str, Any]:
    """Draw every chart as HTML that plotly has escaped, by name; None where the run has nothing to draw yet."""
    from markupsafe import Markup

    makers: dict[str, Callable[[RunData], Figure | None]] = {
        "loss": charts.loss,
        "rewards": charts.rewards,
        "health": charts.health,
        "validation": charts.validation,
        "influence": charts.influence,
        "kept": charts.kept,
        "cost": charts.cost,
    }
    divs: dict[str, Any] = {}
    for name, make in makers.items():
        figure = make(data)
        divs[name] = figure and Markup(
            figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}", config=_PLOT)
        )
    return divs


def _example_lineage(run: Path, data: RunData) -> Lineage | None:
    """The lineage of the first synthetic document of the last shard, as an example of `synpro why`."""
    from synpro.runner.artifacts import read_table

    for shard in reversed(data.syntheses):
        first = read_table(run / shard.step / "documents.parquet", ["id"], head=1)
        if first:
            return why(run, first[0]["id"])
    return None


def seconds(value: float | None) -> str:
    """Format a duration: 42.0 s, 3 min 10 s, 2 h 05 min."""
    if value is None:
        return "–"
    whole = round(value)
    if whole < 60:
        return f"{value:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


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
