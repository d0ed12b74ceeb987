"""`synpro rewrite`: use a trained generator alone, on texts of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synpro.commands.run_dir import newest_record, open_run
from synpro.commands.texts import documents_of
from synpro.config import ConfigError
from synpro.corpus.passages import cut_passages
from synpro.operations.base import rewrite_passages
from synpro.operations.registry import build_operation
from synpro.records import Document, Generator, Passage, Rewrite
from synpro.runner.rejects import Reject


def rewrite(run: Path | str, texts: Path | str | Iterable[str], operation: str = "rephrase") -> list[Rewrite]:
    """Rewrite texts with the newest generator of a run: one rewrite per passage, in order; those that did not parse have a
    `reason` instead of a `text`, and so has what could not be read, after all others.

    `texts` is a path as in `prepare.sources`, or texts in memory. Raises ConfigError for a file that cannot be read, an
    operation the run does not have, or one whose generator is not trained yet.
    """
    root = Path(run)
    cfg = open_run(root)
    if operation not in cfg.operations:
        raise ConfigError(f"run {root} has no operation {operation!r}; it has {', '.join(cfg.operations)}")
    chosen = cfg.operations[operation]
    found = documents_of(texts)
    passages = [p for item in found if isinstance(item, Document) for p in cut_passages(item, cfg.prepare.passages)]
    generator = newest_record(root, f"train-{operation}", Generator)
    engine = cfg.synthesize.engine.open(generator, slot="synthesize", role="generator")
    try:
        groups = rewrite_passages(build_operation(chosen), passages, engine, chosen.sampling(seed=cfg.seed))
    finally:
        engine.close()
    unread = (item for item in found if isinstance(item, Reject))
    return [*(rewrite for group in groups for rewrite in group), *(_unread(item, operation) for item in unread)]


def _unread(item: Reject, operation: str) -> Rewrite:
    """The rewrite of what could not be read."""
    nothing = Passage(item.id, item.id, 0, 0, 0, "")
    return Rewrite(nothing, operation, "", None, f"{item.reason}: {item.detail}", 0, "error")


def rewrite_row(rewrite: Rewrite) -> dict[str, Any]:
    """A rewrite as a row of JSONL."""
    return {"passage": rewrite.passage.id, "source": rewrite.passage.text, "text": rewrite.text, "reason": rewrite.reason}
