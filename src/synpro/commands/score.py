"""`synpro score influence`: the influence of any text, measured by a run's own probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synpro.commands.run_dir import newest_record, open_run
from synpro.commands.texts import documents_of
from synpro.config import ConfigError
from synpro.engines.parallel_map import parallel_map
from synpro.records import Document, Probe
from synpro.runner.launch import LOCAL_MACHINE
from synpro.runner.process_group import final_barrier, init_distributed
from synpro.runner.rejects import Reject

if TYPE_CHECKING:
    from synpro.lm.influence import Influence

CHUNK_SIZE = 1024
"""Texts of one task."""
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class ScoredText:
    """The influence of one text."""

    document: Document
    influence: float | None
    """Nats per token; None for a text without a token, and for one that could not be read."""
    reason: str = ""
    """Why there is no influence."""


@dataclass(frozen=True)
class InfluenceWorkers:
    """Opens a probe's models, which score chunks of texts."""

    probe: Probe
    dtype: str = "float32"

    def open(self, progress: Callable[[float], None]) -> InfluenceWorker:
        """Load the models."""
        from synpro.lm.influence import Influence

        return InfluenceWorker(Influence(self.probe.before, *self.probe.afters, dtype=self.dtype))


class InfluenceWorker:
    """Scores a chunk of texts: None for one without a token."""

    def __init__(self, influence: Influence) -> None:
        self.influence = influence

    def __call__(self, texts: Sequence[str], /) -> list[float | None]:
        scores = iter(self.influence.score([text for text in texts if text.strip()]))
        return [next(scores) if text.strip() else None for text in texts]

    def close(self) -> None:
        """Nothing is held beyond this process."""


def score_influence(
    run: Path | str,
    texts: Path | str | Iterable[str],
    round: int | None = None,
    dtype: str = "float32",
    log: Callable[[str], None] = lambda line: None,
) -> list[ScoredText] | None:
    """The influence of texts (nats per token), in their order, by a round's probe or the newest; each text is scored once.

    `machine.launcher` of the run says who scores. Where torchrun started this process, its processes share the texts, and all
    but the first return None. `dtype` is that of weights and arithmetic: bfloat16 is for many texts on a GPU, and moves values
    a little (the demo's 58 passages, with a standard deviation of 0.165 nats: by 0.001 on average, 0.003 at most). Raises
    ConfigError where there is nothing to read, a run without a probe, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype}: is unknown; use {' or '.join(DTYPES)}")
    root, group = Path(run), init_distributed()
    cfg, probe, found = open_run(root), newest_record(root, "probe", Probe, round), documents_of(texts)
    documents = [item for item in found if isinstance(item, Document)]
    size = max(1, min(CHUNK_SIZE, -(-len(documents) // group.size)))
    tasks = {i: [d.text for d in documents[i : i + size]] for i in group.shard(range(0, len(documents), size))}
    scores: dict[int, list[float | None]] = {}
    machine = cfg.machine if group.size == 1 else LOCAL_MACHINE
    workers = InfluenceWorkers(probe, dtype)
    for first, some in parallel_map(workers, tasks.items(), machine=machine, progress=lambda share: None, log=log):
        scores[first] = some
        if group.is_first:
            log(f"{sum(map(len, scores.values())):,} of {sum(map(len, tasks.values())):,} texts scored")
    scores = dict(group.all_gather([*scores.items()]))
    final_barrier(group)
    if not group.is_first:
        return None
    values = [value for first in sorted(scores) for value in scores[first]]
    by_place = iter(values)
    return [_scored(item, next(by_place)) if isinstance(item, Document) else _unread(item) for item in found]


def _scored(document: Document, value: float | None) -> ScoredText:
    if value is not None and not math.isfinite(value):
        return ScoredText(document, None, "its loss is no number (NaN): score it with --dtype float32")
    return ScoredText(document, value, "no token" if value is None else "")


def _unread(item: Reject) -> ScoredText:
    return ScoredText(Document(item.id, "", item.source), None, f"{item.reason}: {item.detail}")


def score_row(scored: ScoredText) -> dict[str, Any]:
    """A scored text as a row of JSONL."""
    row = {"id": scored.document.id, "influence": scored.influence}
    return row if scored.influence is not None else {**row, "reason": scored.reason}
