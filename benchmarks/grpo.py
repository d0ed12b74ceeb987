"""Where the seconds of a GRPO step go, from the `metrics.jsonl` of a finished run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import Measurement
from benchmarks.reward_time import LIMIT, reward_times


def measure(run: Path, pairs: int = 1) -> list[Measurement]:
    """Seconds per GRPO step of each train step by part, and the share of the rewards in all of them; nothing is run."""
    found = reward_times(run)
    if not found:
        raise SystemExit(f"{run}: no GRPO step has been done here; finish the run first")
    out = []
    for s in found:
        generate, reward = s.generate / s.steps, s.reward / s.steps
        rest = (s.whole - s.generate - s.reward) / s.steps
        note = f"generation {generate:.1f}, rewards {reward:.1f}, training and the rest {rest:.1f}"
        out.append(Measurement(f"GRPO step, {s.name}", s.whole / s.steps, None, "s", note=note))
    share = sum(s.reward for s in found) / sum(s.whole for s in found)
    return [
        *out,
        Measurement("rewards in a GRPO step", 100 * share, None, "%", bound=f"at most {LIMIT:.0%}", met=share <= LIMIT),
    ]
