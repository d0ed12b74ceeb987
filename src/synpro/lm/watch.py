"""What happens beside the training steps: losses measured, progress told, states kept, and the plateau called.

One OLMo-core callback. Everything it decides is a function of numbers that all processes share, and its own state is saved
with the weights, so that a run carried on after a kill writes the rows and takes the decisions of an undisturbed one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
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

from synpro.lm import checkpoint
from synpro.lm.batches import IGNORE
from synpro.lm.plateau import PlateauConfig, decide
from synpro.run.journal import Journal


def packed_loss(module: TransformerTrainModule, tokens: np.ndarray, *, batch: int) -> float:
    """Mean cross-entropy per token, nats, of joined documents cut into sequences; each token but the first is scored once.

    Sequences are shared between the processes; the sums are float64.
    """
    length = module.max_sequence_length
    count = -(-(len(tokens) - 1) // length)
    input_N_T = np.zeros((count, length), np.int64)
    label_N_T = np.full((count, length), IGNORE, np.int64)
    input_N_T.reshape(-1)[: len(tokens) - 1] = tokens[:-1]
    label_N_T.reshape(-1)[: len(tokens) - 1] = tokens[1:]
    world, rank = get_world_size(), get_rank()
    total = torch.zeros(2, dtype=torch.float64, device=module.device)
    # Sharded models need every process in every forward pass: a process without work repeats the last batch, unscored.
    for first in range(0, count, batch * world):
        start = min(first + rank * batch, count - 1)
        input_B_T = torch.from_numpy(input_N_T[start : start + batch])
        label_B_T = torch.from_numpy(label_N_T[start : start + batch])
        if first + rank * batch >= count:
            label_B_T = torch.full_like(label_B_T, IGNORE)
        output: Any = module.eval_batch({"input_ids": input_B_T}, labels=label_B_T)
        scored_B_T = (label_B_T != IGNORE).to(module.device)
        total[0] += output.ce_loss[scored_B_T].double().sum()
        total[1] += scored_B_T.sum()
    if is_distributed():
        dist.all_reduce(total)
    return float(total[0] / total[1])


@dataclass
class Watch(Callback):
    """Measures every `evaluate_every` steps, logs every `log_every`, saves every `checkpoint_every`, stops on a plateau."""

    priority: ClassVar[int] = -1

    journal: Journal | None = None
    """Where rows and progress go; None on all processes but the first."""
    evaluation: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Tokens per name; `NAME_loss` is logged. The plateau is judged on `reference`."""
    evaluate_every: int = 0
    """Steps; 0 never measures."""
    log_every: int = 1
    checkpoint_every: int | None = None
    folder: Path | None = None
    """Where intermediate states go."""
    plateau: PlateauConfig | None = None
    """None trains to the end of the budget."""
    min_tokens: int = 0
    steps_before: int = 0
    """Optimizer steps of earlier rounds: added to what is logged."""
    tokens_before: int = 0
    label: str = "training"
    loss_name: str = "train_loss"
    """Column of the training loss."""
    microbatch: int = 16
    dropout_seed: int | None = None
    """What dropout draws from, together with the step: a run carried on drops what an undisturbed one drops."""
    part: tuple[int, int] = (1, 1)
    """(number of this training, how many there are): of several, each row names its `replica`, and progress counts all."""

    points: list[tuple[int, float]] = field(default_factory=list)
    """(tokens since this training began, reference loss)."""
    last: dict[str, float] = field(default_factory=dict)
    """The latest measurements."""
    stopped: str | None = None
    """Why training stopped before its budget, in a person's words."""
    verdict: str = ""
    """The latest judgement of the plateau."""
    writer: checkpoint.Writer = field(default_factory=checkpoint.Writer)
    _loss: Any = None
    _count: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": self.points,
            "last": self.last,
            "stopped": self.stopped,
            "verdict": self.verdict,
            "loss": 0.0 if self._loss is None else float(self._loss),
            "count": self._count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [(int(tokens), float(loss)) for tokens, loss in state_dict["points"]]
        self.last, self.stopped, self.verdict = state_dict["last"], state_dict["stopped"], state_dict["verdict"]
        self._loss = torch.tensor(state_dict["loss"], dtype=torch.float64, device=self.trainer.device)
        self._count = state_dict["count"]

    @property
    def module(self) -> TransformerTrainModule:
        module = self.trainer.train_module
        assert isinstance(module, TransformerTrainModule)
        return module

    def pre_train(self) -> None:
        if self.step == 0 and self.evaluate_every:
            self._measure()

    def pre_step(self, batch: dict[str, Any]) -> None:
        if self.dropout_seed is not None:
            key = np.random.SeedSequence([self.dropout_seed, self.step, get_rank()])
            torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))

    def post_step(self) -> None:
        loss = self.trainer.get_metric(TRAIN_CE_LOSS_METRIC)
        assert loss is not None
        self._loss = loss.double() if self._loss is None else self._loss + loss.double()
        self._count += 1
        last = self.step == self.trainer.max_steps
        if self.evaluate_every and (self.step % self.evaluate_every == 0 or last):
            self._measure()
            self._judge()
        done = last or self.stopped is not None
        if self.step % self.log_every == 0 or done:
            self._log()
        if self.checkpoint_every and self.step % self.checkpoint_every == 0 and not done:
            self.keep()
        if self.journal is not None:
            now = self.last.get("reference")
            told = self.label if now is None else f"{self.label}, reference loss {now:.3f}"
            steps, (number, count) = self.trainer.max_steps or self.step, self.part
            self.journal.progress((number - 1) * steps + self.step, count * steps, told)

    def _row(self, **values: float) -> None:
        if self.journal is not None:
            tokens = self.trainer.global_train_tokens_seen + self.tokens_before
            replica = {"replica": self.part[0]} if self.part[1] > 1 else {}
            self.journal.metrics(step=self.step + self.steps_before, **replica, tokens=tokens, **values)

    def _log(self) -> None:
        assert self._loss is not None
        mean = self._loss / self._count
        if is_distributed():
            dist.all_reduce(mean)
            mean = mean / get_world_size()
        self._loss, self._count = None, 0
        optimizer = self.module.optim
        assert optimizer is not None
        self._row(**{self.loss_name: float(mean), "lr": float(optimizer.param_groups[0]["lr"])})

    def _measure(self) -> None:
        self.last = {name: packed_loss(self.module, tokens, batch=self.microbatch) for name, tokens in self.evaluation.items()}
        self._row(**{f"{name}_loss": loss for name, loss in self.last.items()})
        self.points.append((self.trainer.global_train_tokens_seen, self.last["reference"]))

    def _judge(self) -> None:
        if self.plateau is None:
            return
        decision = decide(self.points, self.plateau, min_tokens=self.min_tokens)
        self.verdict = decision.reason
        if decision.plateau:
            self.stopped = decision.reason
            # The losses are all-reduced: every process takes the same decision at the same step.
            self.trainer.cancel_run(decision.reason, no_sync=True)

    def keep(self) -> None:
        """Write the state to carry on from, after a whole step, and then drop the one before; nothing where none is to be kept.
        It is written while training goes on: `writer.wait` says when it is there."""
        if not self.checkpoint_every:
            return
        assert self.folder is not None
        trainer = self.trainer
        state = {
            "step": self.step,
            "tokens": trainer.global_train_tokens_seen,
            "loader": trainer.data_loader.state_dict(),
            "watch": self.state_dict(),
        }
        self.writer.save(self.module, self.folder / f"step-{self.step:08d}", state, then=partial(_newest_only, self.folder))


def _newest_only(folder: Path) -> None:
    for old in sorted(folder.glob("step-*"))[:-1]:
        shutil.rmtree(old)
