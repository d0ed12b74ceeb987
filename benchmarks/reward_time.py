"""The share of a GRPO step that rewards take, from a run directory: exit code 1 above a limit.

    make demo
    python -m benchmarks.reward_time runs/tiny

Reads `metrics.jsonl` of every train step: seconds of a step, of its generation and of its rewards, as the step measured them.
The rest is the training of the generator. Opening the judges and scoring the sources happens once, before the first step, and
is not part of any.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

LIMIT = 0.20
"""Largest share of a step's seconds, for the demo on a CPU."""


@dataclass(frozen=True)
class RewardTime:
    """Seconds of one train step's GRPO steps, summed."""

    name: str
    steps: int
    whole: float
    generate: float
    reward: float

    @property
    def share(self) -> float:
        """Share of the rewards in the step, 0 to 1."""
        return self.reward / self.whole


def reward_times(run: Path) -> list[RewardTime]:
    """Read the times of every train step that has GRPO steps, in order."""
    found = []
    for path in sorted(run.glob("round-*/train-*/metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [r for r in rows if r.get("seconds")]
        sums = [sum(r[key] for r in rows) for key in ("seconds", "seconds/generate", "seconds/reward")]
        if rows:
            found.append(RewardTime(path.parent.relative_to(run).as_posix(), len(rows), *sums))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory, for example runs/tiny")
    parser.add_argument("--limit", type=float, default=LIMIT, help="largest share of a step that rewards may take")
    arguments = parser.parse_args()
    found = reward_times(arguments.run)
    if not found:
        sys.exit(f"{arguments.run}: no GRPO step has been done here; run `synpro run CONFIG` first")
    print(f"{'step':28} {'GRPO steps':>10} {'s/step':>8} {'generate':>9} {'reward':>8} {'share':>7}")
    for s in [
        *found,
        RewardTime("all", *(sum(getattr(s, k) for s in found) for k in ("steps", "whole", "generate", "reward"))),
    ]:
        each = [value / s.steps for value in (s.whole, s.generate, s.reward)]
        print(f"{s.name:28} {s.steps:>10} {each[0]:>8.2f} {each[1]:>9.2f} {each[2]:>8.2f} {s.share:>7.1%}")
    share = sum(s.reward for s in found) / sum(s.whole for s in found)
    print(f"rewards take {share:.1%} of a GRPO step; the limit is {arguments.limit:.0%}")
    sys.exit(share > arguments.limit)


if __name__ == "__main__":
    main()
