"""What the training loop adds to a step of the published batch (512 sequences of 2,048 tokens), as far as a CPU shows it.

    python -m benchmarks.loop_overhead

The loader feeds one rank of 8 or 64, beside a stand-in for the GPU that sleeps for a step's time; what counts is how long the
loop waits for rows. The callback's time is measured in a real training of a tiny model. Checkpoints are copied to main memory
at once and written in a thread: a GPU shows their time (benchmarks/gpu.py). Exit code 1 above 3% of a step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu_pretraining import random_corpus
from benchmarks.gpu_shapes import TINY, published
from synpro.corpus.epochs import MixtureEpochs
from synpro.lm import trainer
from synpro.lm.batches import TokenStream
from synpro.lm.callbacks import PretrainCallback
from synpro.lm.loader import StepLoader

VOCAB, STEPS, BOUND = 100_352, 40, 0.03


def stream(folder: Path, vocab: int, tokens: int, batch_size: int, length: int) -> TokenStream:
    """The batches of a first round over random text, as the stage makes them."""
    corpus = random_corpus(folder / "corpus", vocab, tokens)
    epochs = MixtureEpochs(published("400m").pretrain.mixture, corpus, [], 0)
    return TokenStream(
        epochs,
        length=epochs.length,
        folder=folder / "data",
        sequence_length=length,
        batch_size=batch_size,
        dtype=corpus.dtype,
    )


def loader_waits(world: int, step_seconds: float) -> tuple[float, float]:
    """(share of a step that the loop waits for its rows, milliseconds in which the rows of a rank are built alone)."""
    p = published("400m").pretrain
    with tempfile.TemporaryDirectory() as name:
        batches = stream(Path(name), VOCAB, 60_000_000, p.batch_size, p.sequence_length)
        loader = StepLoader(batches, steps=STEPS, work_dir=Path(name), world=world)
        data_seconds, began = list[float](), time.perf_counter()
        for _ in loader._iter_batches():
            data_seconds.append(time.perf_counter() - began)
            time.sleep(step_seconds)
            began = time.perf_counter()
        alone = []
        for step in range(10):
            began = time.perf_counter()
            loader._rows(step)
            alone.append(time.perf_counter() - began)
    return statistics.mean(data_seconds[3:]) / step_seconds, 1000 * statistics.median(alone)  # the first ones build the pass


def callback_milliseconds() -> float:
    """Mean time of our callback after a step, losses logged as published, nothing measured."""
    p, taken = published("400m").pretrain, list[float]()

    class Timed(PretrainCallback):
        def post_step(self) -> None:
            began = time.perf_counter()
            super().post_step()
            taken.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as name:
        batches = stream(Path(name), 3072, 200_000, 8, 64)
        schedule = trainer.lr_schedule(warmup_steps=0, steps=100, decay_fraction=0.0)
        module = trainer.build_module(
            TINY,
            p.optimizer,
            p.hardware,
            vocab_size=3072,
            sequence_length=64,
            batch_size=8,
            scheduler=schedule,
            seed=0,
        )
        trainer.train(module, batches, Timed(log_every=p.log_every), steps=100, work_dir=Path(name) / "olmo")
    return 1000 * float(np.mean(taken[20:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    callback, worst = callback_milliseconds(), 0.0
    print("| GPUs | step, s | rows alone, ms | waiting for rows | callback | together |\n|--:|--:|--:|--:|--:|--:|")
    for world, seconds in ((8, 0.8), (64, 0.1)):
        share, rows = loader_waits(world, seconds)
        reported = callback / 1000 / seconds
        worst = max(worst, share + reported)
        print(f"| {world} | {seconds} | {rows:.1f} | {share:.2%} | {reported:.2%} | {share + reported:.2%} |", flush=True)
    sys.exit(worst > BOUND)


if __name__ == "__main__":
    main()
