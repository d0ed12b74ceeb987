"""The dataset card of an export (`README.md` of the folder), written from the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpro.config import RunConfig
from synpro.export.selection import Counts, Selection
from synpro.operations.registry import build_operation
from synpro.records import Passage
from synpro.report.run_data import RunData, load_run
from synpro.report.samples import samples

PAPER = "Yu and Xiong, Generating Pretraining Tokens from Organic Data for Data-Bound Scaling, arXiv 2605.17849"
QUALITY = ("auc", "precision", "recall", "accuracy")
"""Measures of the verifier that the card shows, where its report has them."""


def write_card(run: Path, cfg: RunConfig, selection: Selection, counts: Counts, out: Path, files: Sequence[Path]) -> Path:
    """Write `README.md`. Raises what reading a run raises (NotARun, CorruptRun)."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    data = load_run(run)
    pages = Environment(
        loader=PackageLoader("synpro.export"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    text = pages.get_template("card.md.jinja").render(
        cfg=cfg,
        name=cfg.name,
        selection=selection,
        counts=counts,
        total=sum(counts.rows.values()),
        parquet=any(f.suffix == ".parquet" for f in files),
        sources=[_source(source) for source in cfg.prepare.sources],
        operations=[build_operation(o) for o in cfg.operations.values()],
        empty=Passage("", "", 0, 0, 0, "{the passage}"),
        syntheses=[s for s in data.syntheses if s.operation in counts.rows],
        verifier=_verifier(run),
        overlap=[row for evaluation in data.evaluated[-1:] for row in evaluation.overlap],
        samples=_samples(data, counts),
        environment=data.environment,
        paper=PAPER,
    )
    card = out / "README.md"
    card.write_text(text, encoding="utf-8")
    return card


def _source(source: Any) -> dict[str, str]:
    return {"path": source.path, "license": getattr(source, "license", None) or "not stated in the config"}


def _verifier(run: Path) -> dict[str, float]:
    """How good the faithfulness verifier is on held-out claims; empty where none was trained."""
    report = run / "round-00" / "verifier" / "report.json"
    if not report.exists():
        return {}
    body = json.loads(report.read_text(encoding="utf-8"))
    flat = {**body, **(body.get("heldout") or {})} if isinstance(body.get("heldout"), dict) else body
    return {name: float(flat[name]) for name in QUALITY if isinstance(flat.get(name), (int, float))}


def _samples(data: RunData, counts: Counts) -> list[dict[str, str]]:
    """A passage and its last kept text for each operation, side by side."""
    shown = []
    for sample in samples(data, per_operation=1) if data.syntheses else ():
        kept = [v for v in sample.versions if v.kept]
        if kept and sample.operation in counts.rows:
            shown.append({"operation": sample.operation, "source": sample.source, "id": kept[-1].id, "text": kept[-1].text})
    return shown
