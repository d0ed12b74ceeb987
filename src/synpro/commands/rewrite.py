"""`synpro rewrite`: use a trained generator alone, on texts of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synpro.commands.run_dir import open_run
from synpro.commands.texts import documents_of
from synpro.config import ConfigError
from synpro.corpus.passages import cut_passages
from synpro.operations.base import rewrite_passages
from synpro.operations.registry import build_operation
from synpro.records import Generator, Rewrite, decode
from synpro.runner.step import StepError


def rewrite(run: Path | str, texts: Path | str | Iterable[str], operation: str = "rephrase") -> list[Rewrite]:
    """Rewrite texts with the newest generator of a run: one rewrite per passage, in order; those that did not parse have a
    `reason` instead of a `text`.

    `texts` is a .txt or JSONL file, or texts in memory. Raises ConfigError for a file that cannot be read or an operation the
    run does not have, StepError when its generator is not trained yet.
    """
    root = Path(run)
    cfg = open_run(root)
    if operation not in cfg.operations:
        raise ConfigError(f"run {root} has no operation {operation!r}; it has {', '.join(cfg.operations)}")
    chosen = cfg.operations[operation]
    passages = [p for document in documents_of(texts) for p in cut_passages(document, cfg.prepare.passages)]
    generator = newest_generator(root, operation)
    engine = cfg.synthesize.engine.open(generator, slot="synthesize", role="generator")
    try:
        groups = rewrite_passages(build_operation(chosen), passages, engine, chosen.sampling(seed=cfg.seed))
    finally:
        engine.close()
    return [rewrite for group in groups for rewrite in group]


def newest_generator(root: Path, operation: str) -> Generator:
    """The generator of an operation that a run trained last. Raises StepError when there is none."""
    found = sorted(root.glob(f"round-*/train-{operation}/result.json"))
    if not found:
        raise StepError(f"{root} has no trained {operation} generator yet; `synpro status {root}` shows how far it is")
    generator: Any = decode(json.loads(found[-1].read_text(encoding="utf-8"))["record"], root)
    assert isinstance(generator, Generator)
    return generator


def rewrite_row(rewrite: Rewrite) -> dict[str, Any]:
    """A rewrite as a row of JSONL."""
    return {"passage": rewrite.passage.id, "source": rewrite.passage.text, "text": rewrite.text, "reason": rewrite.reason}
