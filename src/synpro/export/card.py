"""The dataset card of an export (`README.md` of the folder), written from the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpro.config import RunConfig
from synpro.export.selection import Counts, Selection
from synpro.operations.registry import build_operation
from synpro.records import Passage
from synpro.report.claims import verifier
from synpro.report.collapse import collapse
from synpro.report.contamination import contamination
from synpro.report.html import count, number, signed
from synpro.report.run_data import RunData, load_run
from synpro.report.samples import samples

PAPER = "Yu and Xiong, Generating Pretraining Tokens from Organic Data for Data-Bound Scaling, arXiv 2605.17849"
UNSTATED = "not stated in the config"


def write_card(run: Path, cfg: RunConfig, selection: Selection, counts: Counts, out: Path, files: Sequence[Path]) -> Path:
    """Write `README.md`. Raises what reading a run raises (NotARun, CorruptRun)."""
    data = load_run(run)
    text = render_card(
        "card.md.jinja",
        cfg,
        data,
        selection=selection,
        counts=counts,
        total=sum(counts.rows.values()),
        parquet=any(f.suffix == ".parquet" for f in files),
        operations=[build_operation(o) for o in cfg.operations.values()],
        empty=Passage("", "", 0, 0, 0, "{the passage}"),
        steps_kept={(g.operation, g.round): g.kept for g in data.generators},
        syntheses=[s for s in data.syntheses if s.operation in counts.rows and s.round in (selection.rounds or (s.round,))],
        verifier=(verifier(data) or {}).get("heldout"),
        watch=collapse(data).watched if data.syntheses else (),
        overlap=contamination(data),
        samples=_samples(data, counts),
    )
    card = out / "README.md"
    card.write_text(text, encoding="utf-8")
    return card


def render_card(template: str, cfg: RunConfig, data: RunData, **values: Any) -> str:
    """A card from its template, with what every card says: sources with their licences, versions, how to cite."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("synpro.export", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    pages.filters |= {"count": count, "number": number, "signed": signed, "cell": _cell}
    sources = {source.path: source.license or UNSTATED for source in cfg.prepare.sources}
    identifiers = [license for license in dict.fromkeys(sources.values()) if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license)]
    version = data.environment.get("versions.synpro-lm", "unknown")
    known = {"sources": sources, "licenses": identifiers, "paper": PAPER, "version": version}
    text = pages.get_template(template).render(cfg=cfg, run=data, name=cfg.name, **known, **values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _cell(text: str) -> str:
    """A text inside a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _samples(data: RunData, counts: Counts) -> list[dict[str, str]]:
    """A passage and its last kept text for each operation, side by side."""
    shown = []
    for sample in samples(data, per_operation=1) if data.syntheses else ():
        kept = [v for v in sample.versions if v.kept]
        if kept and sample.operation in counts.rows:
            shown.append(
                {"operation": sample.operation, "source": sample.source, "id": kept[-1].id, "text": kept[-1].text or ""}
            )
    return shown
