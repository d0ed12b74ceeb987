"""The dataset card of an export (`README.md` of the folder), written from the run."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synpro.config import RunConfig
from synpro.corpus.readers import SourceConfig
from synpro.export.selection import Counts, Selection
from synpro.export.token_formats import TokenExport
from synpro.operations.registry import build_operation
from synpro.records import Passage
from synpro.report.claims import verifier
from synpro.report.collapse import collapse
from synpro.report.contamination import contamination
from synpro.report.html import count, number, signed
from synpro.report.run_data import RunData, load_run
from synpro.report.samples import samples
from synpro.rewards.filters import filter_reasons

PAPER = "Yu and Xiong, Generating Pretraining Tokens from Organic Data for Data-Bound Scaling, arXiv 2605.17849"
UNSTATED = "not stated in the config"
STATED = ("no_answer", "unparsed", "truncated", "too short", "too long", "loop", "language", "copy", "no verdict", "support")
"""Filters that the template words itself, with their limits."""


def write_card(
    run: Path,
    cfg: RunConfig,
    selection: Selection,
    counts: Counts,
    out: Path,
    files: Sequence[Path],
    tokens: TokenExport | None = None,
) -> Path:
    """Write `README.md`. `tokens`: what a token format wrote; None for texts. Raises what reading a run raises (NotARun,
    CorruptRun)."""
    whole = load_run(run)
    exported = [s for s in whole.syntheses if s.operation in counts.rows and s.round in (selection.rounds or (s.round,))]
    data = replace(whole, syntheses=tuple(exported))
    text = render_card(
        "card.md.jinja",
        cfg,
        data,
        selection=selection,
        counts=counts,
        total=sum(counts.rows.values()),
        has_organic="organic" in counts.rows,
        tokens=tokens,
        parquet=any(f.suffix == ".parquet" for f in files),
        operations=[build_operation(o) for o in cfg.operations.values()],
        empty=Passage("", "", 0, 0, 0, "{the passage}"),
        steps_kept={(g.operation, g.round): g.kept for g in data.generators},
        syntheses=data.syntheses,
        more_filters={name: about for name, about in filter_reasons().items() if name not in STATED},
        verifier=(verifier(data) or {}).get("heldout"),
        watch=collapse(data).watched if data.syntheses else (),
        overlap=contamination(data),
        samples=_samples(data, selection),
    )
    card = out / "README.md"
    card.write_text(text, encoding="utf-8")
    return card


def render_card(
    template: str, cfg: RunConfig, data: RunData, *, sources: Sequence[SourceConfig] | None = None, **values: Any
) -> str:
    """A card from its template, with what every card says: sources with their licences (None: those of the corpus), versions,
    how to cite."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("synpro.export", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    pages.filters |= {"count": count, "number": number, "signed": signed, "cell": _cell, "yaml": json.dumps}
    named = cfg.prepare.sources if sources is None else sources
    licenses = dict.fromkeys(source.license for source in named if source.license)
    known = {
        "sources": dict.fromkeys((_source(source), _line(source.license or UNSTATED)) for source in named),
        "licenses": [license for license in licenses if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license)],
        "paper": PAPER,
        "version": data.environment.get("versions.synpro-lm", "unknown"),
    }
    text = pages.get_template(template).render(cfg=cfg, run=data, name=cfg.name, **known, **values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _source(source: SourceConfig) -> str:
    """A source as a person finds it again."""
    part = ", ".join(filter(None, (source.subset, source.split if source.split != "train" else "")))
    name = " ".join(f"{source.path} ({part})".split()) if part else source.path
    return name.replace("`", "'")


def _line(text: str) -> str:
    """A text on one line of Markdown, as it stands."""
    return html.escape(" ".join(text.split()).replace("`", "'"), quote=False)


def _cell(text: str) -> str:
    """A text inside a cell of a Markdown table."""
    return _line(text).replace("|", "\\|")


def _samples(data: RunData, selection: Selection) -> list[dict[str, str]]:
    """A passage and its last exported text for each operation, side by side."""
    shown = []
    for sample in samples(data, per_operation=1) if data.syntheses else ():
        kept = [
            v
            for v in sample.versions
            if v.kept and all(_reaches(v.scores.get(name), least) for name, least in selection.min_scores.items())
        ]
        if kept:
            shown.append(
                {
                    "operation": sample.operation,
                    "source": _lines(sample.source),
                    "id": kept[-1].id,
                    "text": _lines(kept[-1].text or ""),
                }
            )
    return shown


def _reaches(score: float | None, least: float) -> bool:
    return score is not None and score >= least


def _lines(text: str) -> str:
    """A text of several lines inside a cell of a Markdown table."""
    return "<br>".join(html.escape(line, quote=False).replace("|", "&#124;") for line in text.strip().splitlines())
