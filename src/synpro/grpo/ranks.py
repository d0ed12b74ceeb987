"""The processes that share a piece of work, as `accelerate launch` or torchrun started them."""

from __future__ import annotations

import os
from typing import Any

from synpro.run.ranks import ALONE, Ranks


def enter() -> Ranks:
    """Join the other processes, if there are any; TRL's trainer then finds them joined."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState(cpu=not torch.cuda.is_available())

    def exchange(part: list[Any]) -> list[Any]:
        return list(gather_object(part))

    return Ranks(state.process_index, state.num_processes, exchange)


def leave(ranks: Ranks) -> None:
    """Before a process ends: wait until all have read what they were sent. Nothing for one alone."""
    if ranks.count > 1:
        from synpro.lm import checkpoint

        checkpoint.leave()
