"""OLMo-core's data loader over our batches: one endless epoch, resumed by its step alone."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from olmo_core.data import DataLoaderBase

from synpro.lm.batches import Batches


class StepLoader(DataLoaderBase):
    """Feeds `batches(0) .. batches(steps - 1)`: every process builds its own rows, a step ahead of the training.

    The loader's whole state is the number of batches given, so a resumed run gets exactly the batches that were still to come.
    """

    def __init__(self, batches: Batches, *, steps: int, work_dir: Path, world: int = 1, rank: int = 0) -> None:
        super().__init__(work_dir=str(work_dir), global_batch_size=batches.tokens_per_batch, dp_world_size=world, dp_rank=rank)
        self._batches = batches
        self._steps = steps

    @property
    def total_batches(self) -> int:
        return self._steps

    def state_dict(self) -> dict[str, Any]:
        return {"batches_processed": self.batches_processed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches_processed = int(state_dict["batches_processed"])

    def reshuffle(self, epoch: int | None = None, **kwargs: Any) -> None:
        """Do nothing: epochs are shuffled inside `batches`, and the trainer's single epoch is all of them."""
        self._epoch = epoch or 1

    def _iter_batches(self) -> Iterable[dict[str, Any]]:
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = None
            for step in range(self.batches_processed, self._steps):
                batch = (ahead or pool.submit(self._rows, step)).result()
                ahead = pool.submit(self._rows, step + 1) if step + 1 < self._steps else None
                yield batch

    def _rows(self, step: int) -> dict[str, Any]:
        """This process's rows, in OLMo-core's terms."""
        count = self._batches.batch_size // self.dp_world_size
        rows = self._batches(step, slice(self.dp_rank * count, (self.dp_rank + 1) * count))
        named = {"input_ids": rows.input_B_T, "labels": rows.label_B_T, "instance_mask": rows.keep_B}
        batch = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in named.items() if part is not None}
        return {name: part.pin_memory() for name, part in batch.items()} if torch.cuda.is_available() else batch

    def get_mock_batch(self) -> dict[str, Any]:
        """The first batch of the run: OLMo-core's dry run has real shapes and ids."""
        return self._rows(self.batches_processed)

    def global_num_tokens_in_batch(self, batch: dict[str, Any]) -> int:
        return self.global_batch_size
