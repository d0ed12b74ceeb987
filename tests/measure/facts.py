"""Made-up sentences, each with a name, a year and a number."""

from __future__ import annotations

import random

NAMES = [f"{a}{b}" for a in ("Mar", "Tor", "Vel", "Kas") for b in ("ina", "onto", "burg", "stein")]


def fact(i: int) -> str:
    """A sentence with a name, a year and a number."""
    rng = random.Random(i)
    return f"The engineer {rng.choice(NAMES)} built the bridge over the river in {1700 + i} with {100 + i} workers."
