"""Scores of any text by a run's own models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synpro.config import ConfigError
from synpro.engines.spread import spread
from synpro.records import Probe, decode
from synpro.run.launch import MachineConfig
from synpro.session import open_run, texts

if TYPE_CHECKING:
    from synpro.lm.influence import Influence

CHUNK = 1024
"""Texts of one task."""
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Scoring:
    """Opens a probe's models, which score chunks of texts."""

    probe: Probe
    precision: str = "float32"

    def open(self, progress: Callable[[float], None]) -> Scorer:
        from synpro.lm.influence import Influence

        return Scorer(Influence(self.probe.before, *self.probe.afters, dtype=self.precision))


class Scorer:
    """Gives the influence of each text; None of one without a token."""

    def __init__(self, models: Influence) -> None:
        self.models = models

    def __call__(self, some: Sequence[str], /) -> list[float | None]:
        whole = iter(self.models.score([text for text in some if text.strip()]))
        return [next(whole) if text.strip() else None for text in some]

    def close(self) -> None:
        """Nothing is held beyond this process."""


def newest_probe(root: Path, round: int | None) -> Probe:
    """A round's probe, or the last there is. Raises ConfigError when there is none."""
    pattern = "round-*" if round is None else f"round-{round:02d}"
    found = sorted(root.glob(f"{pattern}/probe/result.json"))
    if not found:
        which = "no probe yet" if round is None else f"no probe of round {round}"
        raise ConfigError(f"{root} has {which}; `synpro status {root}` shows how far it is")
    probe = decode(json.loads(found[-1].read_text(encoding="utf-8"))["record"], root)
    assert isinstance(probe, Probe)
    return probe


def influence(root: Path, file: Path, round: int | None, out: Path | None, precision: str = "float32") -> None:
    """Write the influence (nats per token) of every text of a .txt or JSONL file, one JSON row per text, in the file's order.

    `machine.launcher` of the run says who scores; where torchrun started this command, its processes share the texts. Each text
    is scored once. `precision`, of weights and arithmetic: bfloat16 is for many texts on a GPU, and moves values a little (the
    demo's 58 passages, whose influence has a deviation of 0.165 nats: by 0.001 on average, 0.003 at most). Raises ConfigError
    for a file that cannot be read, a run without a probe, or a wrong precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: is none; use {' or '.join(PRECISIONS)}")
    from synpro.grpo.ranks import enter, leave

    cfg, ranks = open_run(root), enter()
    probe, documents = newest_probe(root, round), texts(file)
    size = max(1, min(CHUNK, -(-len(documents) // ranks.count)))
    mine = ranks.share(range(0, len(documents), size))
    tasks = {i: [d.text for d in documents[i : i + size]] for i in mine}
    values: dict[int, list[float | None]] = {}
    machine = cfg.machine if ranks.count == 1 else MachineConfig()
    for first, some in spread(Scoring(probe, precision), tasks, machine=machine, progress=lambda part: None, say=print):
        values[first] = some
        if out is not None and ranks.first:
            print(f"{sum(map(len, values.values())):,} of {sum(map(len, tasks.values())):,} texts scored", flush=True)
    values = dict(ranks.gather([*values.items()]))
    leave(ranks)
    if not ranks.first:
        return
    scored = [value for first in sorted(values) for value in values[first]]
    lines = "".join(json.dumps(_row(d, v), ensure_ascii=False) + "\n" for d, v in zip(documents, scored, strict=True))
    if out is None:
        sys.stdout.write(lines)
        return
    out.write_text(lines, encoding="utf-8")
    known = [v for v in scored if v is not None]
    positive = sum(v > 0 for v in known)
    print(f"{positive} of {len(known)} texts have positive influence, {len(scored) - len(known)} have no token: {out}")


def _row(document: Any, value: float | None) -> dict[str, Any]:
    row = {"id": document.id, "influence": value}
    return row if value is not None else {**row, "reason": "no token"}
