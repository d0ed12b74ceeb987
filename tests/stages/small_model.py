"""A model pretrained in seconds by its stage, on the corpus of `small_corpus.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synpro.lm.plateau import PlateauConfig
from synpro.lm.training_config import HardwareConfig, OptimizerConfig
from synpro.records import Checkpoint, Corpus, Shard
from synpro.runner.context import StepContext
from synpro.stages.pretrain import PretrainConfig, pretrain
from tests.lm.conftest import LENGTH, TINY

CFG = PretrainConfig(
    model=TINY,
    optimizer=OptimizerConfig(learning_rate=3e-3),
    hardware=HardwareConfig(micro_batch_size=8),
    plateau=PlateauConfig(improvement=0.001, min_points=3),
    sequence_length=LENGTH,
    batch_size=8,
    warmup_steps=3,
    max_tokens=12 * 8 * LENGTH,
    evaluate_every=4,
    log_every=2,
    checkpoint_every=5,
)


def run(
    cfg: PretrainConfig, corpus: Corpus, out: Path, start: Checkpoint | None = None, shards: Sequence[Shard] = ()
) -> Checkpoint:
    """The stage pretrain, in this process."""
    return pretrain(cfg, corpus=corpus, shards=shards, start=start, ctx=StepContext.local(out, 7))
