"""What happens between training steps: losses are measured and logged, the best state and checkpoints kept, plateaus detected.

One OLMo-core callback. Every decision is a function of numbers that all processes share, and the callback's state is saved with
the weights: a run resumed after a kill writes the rows and takes the decisions of an undisturbed one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from olmo_core.distributed.utils import get_rank, get_world_size, is_distributed
from olmo_core.train.callbacks import Callback
from olmo_core.train.common import TRAIN_CE_LOSS_METRIC
from olmo_core.train.train_module import TransformerTrainModule

from synpro.lm.batches import IGNORE_INDEX
from synpro.lm.checkpoint import CheckpointWriter, Snapshot
from synpro.lm.plateau import PlateauConfig, detect_plateau
from synpro.runner.logger import StepLogger


def packed_loss(module: TransformerTrainModule, tokens_T: np.ndarray, *, batch_size: int) -> float:
    """Mean cross-entropy in nats per token of joined documents cut into sequences; each token but the first is scored once.

    An id given as its complement, `~id`, is read and not scored. The processes share the sequences; `batch_size` is sequences
    per process and forward pass. Sums are float64, and stay on the device until the end.
    """
    length, ids_T = module.max_sequence_length, tokens_T.astype(np.int64)
    count = -(-(len(ids_T) - 1) // length)
    input_N_T = np.zeros((count, length), np.int64)
    label_N_T = np.full((count, length), IGNORE_INDEX, np.int64)
    input_N_T.reshape(-1)[: len(ids_T) - 1] = np.where(ids_T < 0, ~ids_T, ids_T)[:-1]
    label_N_T.reshape(-1)[: len(ids_T) - 1] = np.where(ids_T < 0, IGNORE_INDEX, ids_T)[1:]
    world, rank = get_world_size(), get_rank()
    total = torch.zeros(2, dtype=torch.float64, device=module.device)
    # Sharded models need every process in every forward pass: a process without work repeats the last batch, unscored.
    for first in range(0, count, batch_size * world):
        start = min(first + rank * batch_size, count - 1)
        input_B_T = torch.from_numpy(input_N_T[start : start + batch_size])
        label_B_T = torch.from_numpy(label_N_T[start : start + batch_size])
        if first + rank * batch_size >= count:
            label_B_T = torch.full_like(label_B_T, IGNORE_INDEX)
        # Compiled code is for the shapes of training; measuring has others, and would compile again.
        with torch.compiler.set_stance("force_eager") if module.model.compile_enabled else nullcontext():
            output: Any = module.eval_batch({"input_ids": input_B_T}, labels=label_B_T)
        total[0] += output.ce_loss.double().sum()  # 0 where the label is ignored
        total[1] += (label_B_T != IGNORE_INDEX).sum()
    if is_distributed():
        dist.all_reduce(total)
    return float(total[0] / total[1])


@dataclass
class PretrainCallback(Callback):
    """Measures losses, logs, saves checkpoints, and stops on a plateau, each every so many steps."""

    priority: ClassVar[int] = -1

    logger: StepLogger | None = None
    """Gets rows and progress; None on all processes but the first."""
    eval_sets: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name -> tokens, `(T,)`; logged as `NAME_loss`. The plateau is judged on `reference`."""
    evaluate_every: int = 0
    """Steps; 0 never measures."""
    log_every: int = 1
    checkpoint_every: int | None = None
    checkpoints: Path | None = None
    """Folder of the intermediate checkpoints."""
    plateau: PlateauConfig | None = None
    """None trains to the end of the budget."""
    min_tokens: int = 0
    """No plateau is looked for before so many training tokens of this training."""
    starts_trained: bool = False
    """The weights it begins with are those of a trained model, which no step may have made better."""
    keep_best: bool = False
    """Keep the state with the lowest reference loss, in memory and in the checkpoints."""
    previous_steps: int = 0
    """Optimizer steps of earlier rounds: added to what is logged."""
    previous_tokens: int = 0
    label: str = "training"
    """Shown beside the progress."""
    loss_name: str = "train_loss"
    """Column of the training loss in `metrics.jsonl`."""
    eval_batch_size: int = 16
    """Sequences per process in one forward pass of a measurement."""
    dropout_seed: int | None = None
    """Seeds dropout together with the step, so that a resumed run drops what an undisturbed one drops."""
    replica: tuple[int, int] = (1, 1)
    """(number of this training from 1, how many there are): with several, rows name their `replica` and progress counts all."""

    points: list[tuple[int, float]] = field(default_factory=list)
    """(training tokens of the whole run, reference loss), of this training alone."""
    first: dict[str, float] = field(default_factory=dict)
    """The losses before the first step."""
    latest: dict[str, float] = field(default_factory=dict)
    """The latest measured loss of each evaluation set."""
    best: dict[str, float] = field(default_factory=dict)
    """The losses at the lowest measured reference loss."""
    best_step: int = 0
    best_state: Snapshot | None = None
    """Where the reference loss was lowest; None at the end of training when that is the state it ended in."""
    diverged: bool = False
    """Whether training stopped because the reference loss was no number."""
    stop_reason: str | None = None
    """Why training stopped before its budget, as a sentence; None while it goes on."""
    plateau_reason: str = ""
    """The latest judgement of the plateau, as a sentence."""
    writer: CheckpointWriter = field(default_factory=CheckpointWriter)
    _loss_sum: Any = None
    _loss_count: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": self.points,
            "first": self.first,
            "latest": self.latest,
            "best": self.best,
            "best_step": self.best_step,
            "stop_reason": self.stop_reason,
            "plateau_reason": self.plateau_reason,
            "loss_sum": self._loss_sums(),
            "loss_count": self._loss_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [(int(tokens), float(loss)) for tokens, loss in state_dict["points"]]
        self.first = state_dict.get("first", {})
        self.latest, self.best, self.best_step = state_dict["latest"], state_dict["best"], state_dict["best_step"]
        self.stop_reason, self.plateau_reason = state_dict["stop_reason"], state_dict["plateau_reason"]
        sums = np.ravel(state_dict["loss_sum"])  # of each process; of as many as there were
        own = sums[get_rank()] if len(sums) == get_world_size() else sums.mean()
        self._loss_sum = torch.tensor(own, dtype=torch.float64, device=self.trainer.device)
        self._loss_count = state_dict["loss_count"]

    @property
    def module(self) -> TransformerTrainModule:
        module = self.trainer.train_module
        assert isinstance(module, TransformerTrainModule)
        return module

    def pre_train(self) -> None:
        self._show_progress()  # where it begins: a resumed round not at 0
        if self.step == 0 and self.evaluate_every:
            self._measure()

    def pre_step(self, batch: dict[str, Any]) -> None:
        if self.dropout_seed is not None:
            key = np.random.SeedSequence([self.dropout_seed, self.step, get_rank()])
            torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))

    def post_step(self) -> None:
        loss = self.trainer.get_metric(TRAIN_CE_LOSS_METRIC)
        assert loss is not None
        self._loss_sum = loss.double() if self._loss_sum is None else self._loss_sum + loss.double()
        self._loss_count += 1
        is_last = self.step == self.trainer.max_steps
        if self.evaluate_every and (self.step % self.evaluate_every == 0 or is_last):
            self._measure()
            self._stop_early()
        is_done = is_last or self.stop_reason is not None
        if self.step % self.log_every == 0 or is_done:
            self._log_train_loss()
        if self.checkpoint_every and self.step % self.checkpoint_every == 0 and not is_done:
            self.save_checkpoint()
        self._show_progress()

    def _show_progress(self) -> None:
        if self.logger is None:
            return
        loss = self.latest.get("reference")
        label = self.label if loss is None else f"{self.label}, reference loss {loss:.3f}"
        steps, (number, count) = self.trainer.max_steps or self.step, self.replica
        self.logger.progress((number - 1) * steps + self.step, count * steps, label)

    def _log_row(self, **values: float) -> None:
        if self.logger is not None:
            tokens = self.trainer.global_train_tokens_seen + self.previous_tokens
            replica = {"replica": self.replica[0]} if self.replica[1] > 1 else {}
            self.logger.metrics(step=self.step + self.previous_steps, **replica, tokens=tokens, **values)

    def _log_train_loss(self) -> None:
        assert self._loss_sum is not None
        mean = self._loss_sum / self._loss_count
        if is_distributed():
            dist.all_reduce(mean)
            mean = mean / get_world_size()
        self._loss_sum, self._loss_count = None, 0
        optimizer = self.module.optim
        assert optimizer is not None
        self._log_row(**{self.loss_name: float(mean), "lr": float(optimizer.param_groups[0]["lr"])})

    def _loss_sums(self) -> list[float]:
        """The training loss of every process since the last row, in nats, by rank. All processes call it."""
        sums = torch.zeros(get_world_size(), dtype=torch.float64, device=self.trainer.device)
        if self._loss_sum is not None:
            sums[get_rank()] = self._loss_sum
        if is_distributed():
            dist.all_reduce(sums)
        return sums.tolist()

    def _measure(self) -> None:
        self.latest = {
            name: packed_loss(self.module, tokens, batch_size=self.eval_batch_size) for name, tokens in self.eval_sets.items()
        }
        self.first = self.first or self.latest
        self._log_row(**{f"{name}_loss": loss for name, loss in self.latest.items()})
        reference = self.latest["reference"]
        self.points.append((self.trainer.global_train_tokens_seen + self.previous_tokens, reference))
        assert self.module.optim is not None
        is_trained = self.module.optim.state or self.starts_trained  # new weights are nobody's best
        if is_trained and math.isfinite(reference) and (not self.best or reference < self.best["reference"]):
            self.best, self.best_step = self.latest, self.step
            # The copy in memory costs what a checkpoint does; after the last step the state itself is there.
            self.best_state = Snapshot.of(self.module) if self.keep_best and self.step != self.trainer.max_steps else None

    def _stop_early(self) -> None:
        """Stop on a plateau, and where a loss is no number: what follows is none either."""
        tokens, loss = self.points[-1]
        if not math.isfinite(loss):
            self.diverged = True
            self.stop_reason = f"training has diverged: the reference loss at {tokens:,} tokens is {loss}"
        elif self.plateau is not None:
            decision = detect_plateau(self.points, self.plateau, min_tokens=self.min_tokens + self.previous_tokens)
            self.plateau_reason = decision.reason
            self.stop_reason = decision.reason if decision.plateau else None
        if self.stop_reason is not None:
            # The losses are all-reduced: every process takes the same decision at the same step.
            self.trainer.cancel_run(self.stop_reason, no_sync=True)

    def save_checkpoint(self) -> None:
        """Save a checkpoint to resume from, after a whole step, and then delete the previous one.

        Returns before it is written; `writer.wait()` waits for it. Does nothing without `checkpoint_every`.
        """
        if not self.checkpoint_every:
            return
        assert self.checkpoints is not None
        state = {
            "step": self.step,
            "tokens": self.trainer.global_train_tokens_seen,
            "loader": self.trainer.data_loader.state_dict(),
            "callback": self.state_dict(),
        }
        folder = self.checkpoints / f"step-{self.step:08d}"
        best = self.best_state if self.step != self.best_step else None
        self.writer.save(self.module, folder, state, then=partial(_delete_all_but_newest, self.checkpoints), best=best)


def _delete_all_but_newest(checkpoints: Path) -> None:
    for old in sorted(checkpoints.glob("step-*"), key=lambda p: (p.suffix != ".tmp", p))[:-1]:  # drafts that a kill left first
        shutil.rmtree(old)
