"""The report: one HTML file that holds everything, opens without a network, and can be sent to a colleague.

The same run directory gives the same bytes. All text from the run is escaped: a generator may have written HTML.
"""

from __future__ import annotations

from pathlib import Path

from synpro.report import charts
from synpro.report.claims import example_document, verifier
from synpro.report.collapse import collapse
from synpro.report.contamination import contamination, contamination_examples
from synpro.report.execution import execution_changes
from synpro.report.headline import changes, forgotten, headline, since_start
from synpro.report.html import chart, render_template
from synpro.report.learned import learned, positive_shares, reward_spreads
from synpro.report.lineage import Lineage, why
from synpro.report.run_data import RunData, load_run
from synpro.report.samples import samples
from synpro.report.warnings import falls_line, find_warnings, influence_change
from synpro.runner.artifacts import read_table, write_text


def write_report(run: Path) -> Path:
    """Write RUN/report.html, by rename, and return its path.

    Raises NotARun when `run` is not a run directory, CorruptRun when a finished step's file cannot be read.
    """
    target = run / "report.html"
    write_text(target, render(run))
    return target


def summary(run: Path) -> list[str]:
    """The result of a run as lines for a terminal: the number with its interval, what it does not show, and the warnings."""
    data = load_run(run)
    top = headline(data)
    lines = [line for line in (top.sentence, falls_line(data)) if line]
    if top.change is not None:
        bits = top.change.bits_per_byte
        lines.append(f"In bits per byte: {bits.mean:+.4f} (95% interval {bits.low:+.4f} to {bits.high:+.4f}).")
    if top.caution:
        lines.append(top.caution)
    found = find_warnings(data)
    if some := [w for w in found if w.where != "whole run"]:
        lines.append(f"{len(found)} warnings, in full in the report; {len(found) - len(some)} about the whole run, and these:")
        lines += [f"  {w.where}: {w.what}" for w in some]
    return lines


def render(run: Path) -> str:
    """Render the page of a run directory. Raises as `write_report` does."""
    data = load_run(run)
    measured, overlap = changes(data), contamination(data)
    figures = {draw.__name__: draw(data) for draw in charts.CHARTS}
    return render_template(
        "page.html.jinja",
        run=data,
        top=headline(data, measured),
        changes={c.round: c for c in measured},
        forgetting=since_start(data),
        forgotten=forgotten(data),
        charts={name: figure and chart(name, figure) for name, figure in figures.items()},
        samples=samples(data),
        verifier=verifier(data),
        document=example_document(data),
        lineage=_example_lineage(run, data),
        warnings=find_warnings(data),
        falls_line=falls_line(data),
        collapse=collapse(data),
        learned=learned(data),
        positive=positive_shares(data),
        spreads=reward_spreads(data),
        overlap=overlap,
        flagged={row.group for row in overlap if row.is_contaminated},
        kinds=list(dict.fromkeys(kind for row in overlap for kind in row.hit)),
        contaminated=contamination_examples(data),
        influence={(g.operation, g.round): influence_change(g) for g in data.generators},
        tasks=sorted({t for e in data.evaluated for t in e.tasks}),
        rewards=charts.reward_names(data.generators),
        total_seconds=sum(s.seconds or 0 for s in data.steps),
        execution=execution_changes(run, [s.name for s in data.steps]),
        peak_bytes=max((s.peak_bytes or 0 for s in data.steps), default=0),
    )


def _example_lineage(run: Path, data: RunData) -> Lineage | None:
    """The lineage of the first synthetic document of the last shard, as an example of `synpro why`."""
    for shard in reversed(data.syntheses):
        first = read_table(run / shard.step / "documents.parquet", ["id"], head=1)
        if first:
            return why(run, first[0]["id"])
    return None
