"""A filter of your own: drops texts with a number that their passage does not have.

rubric.files = ["examples/my_filter.py"]
"""

from __future__ import annotations

import re

from synpro.rewards.filters import RULES, FilterConfig, Sample


def new_number(s: Sample, cfg: FilterConfig) -> str | None:
    """The text has a number that its passage does not have."""
    invented = sorted(set(re.findall(r"\d+", s.text)) - set(re.findall(r"\d+", s.source)))
    return f"its passage does not have {', '.join(invented)}" if invented else None


RULES["new number"] = new_number
