"""The parts of benchmarks/gpu.py that pretrain."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_shapes import TINY, Row, peak_gib, published, rates, save_tokenizer, seconds
from synpro.lm.model_config import num_parameters
from synpro.records import Corpus
from synpro.runner.context import StepContext


def random_corpus(folder: Path, vocab: int, tokens: int) -> Corpus:
    """A corpus of random ids in documents of 700."""
    import numpy as np

    tokenizer = save_tokenizer(folder / "tokenizer")
    rng, eos = np.random.default_rng(0), tokenizer.eos_token_id
    (folder / "tokens").mkdir()
    sizes = {"train": tokens, "reference": 20_000, "heldout": 20_000}
    for name, size in sizes.items():
        ids = rng.integers(0, vocab, size, dtype=np.uint32)
        ids[699::700] = ids[-1] = eos
        ids.tofile(folder / "tokens" / f"{name}.bin")
    documents = {name: size // 700 for name, size in sizes.items()}
    return Corpus(folder, vocab, eos, tokenizer.pad_token_id, "uint32", documents, sizes, 0, "random")


class Stop(Exception):
    """Ends a training between two checkpoints, as a kill does."""


def pretrain_400m(tiny: bool) -> Iterator[Row]:
    """The stage `pretrain`, stopped between two checkpoints and resumed, with everything that costs time."""
    from synpro.lm import callbacks, trainer
    from synpro.planning.memory import training_bytes
    from synpro.stages.pretrain import pretrain

    p = published("400m").pretrain
    batch, every, stop, end, vocab = (8, 3, 5, 7, 3072) if tiny else (64, 12, 16, 20, 100_352)
    p = replace(p, batch_size=batch, checkpoint_every=every, evaluate_every=10_000, evaluate_tokens=16_000, log_every=1)
    p = replace(p, max_tokens=end * batch * p.sequence_length, total_tokens=None)
    if tiny:
        hardware = replace(p.hardware, micro_batch_size=4, compile=False)
        p = replace(p, model=TINY, sequence_length=64, max_tokens=end * batch * 64, hardware=hardware)
    times, data_seconds, saves, losses, stops = list[float](), list[float](), list[float](), list[dict[int, float]](), [stop]

    class Timed(callbacks.PretrainCallback):
        def post_step(self) -> None:
            losses[-1][self.step] = float(self.trainer.get_metric("train/CE loss"))  # waits for the device
            times.append(time.perf_counter())
            super().post_step()
            if self.step == stops[0]:
                self.writer.wait()
                raise Stop

        def save_checkpoint(self) -> None:
            saves.append(seconds(super().save_checkpoint))
            saves.append(seconds(self.writer.wait))

    class Waiting(trainer.StepLoader):
        def _iter_batches(self) -> Iterable[dict[str, Any]]:
            batches = iter(super()._iter_batches())
            while True:
                began = time.perf_counter()
                if (batch := next(batches, None)) is None:
                    return
                data_seconds.append(time.perf_counter() - began)
                yield batch

    callbacks.PretrainCallback, trainer.StepLoader = Timed, Waiting  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        corpus = random_corpus(Path(folder), vocab, (end + 2) * batch * p.sequence_length)
        ctx = StepContext.local(Path(folder) / "step", 7)
        run = lambda: pretrain(p, corpus=corpus, shards=[], start=None, ctx=ctx)  # noqa: E731
        began = time.perf_counter()
        losses.append({})
        with contextlib.suppress(Stop):
            run()
        gaps = [b - a for a, b in itertools.pairwise(times)]
        step = statistics.median(gaps[1 : every - 1])
        planned = training_bytes(p.model, vocab, p.sequence_length, p.batch_size, p.hardware, 1)
        row: Row = {"parameters": num_parameters(p.model, vocab), "micro_batch_size": p.hardware.micro_batch_size}
        row |= {**rates(p.model, vocab, p.sequence_length, batch * p.sequence_length, step), "compiled": p.hardware.compile}
        row |= {"peak_gib": peak_gib(), "planned_gib": planned / 2**30, "first_step_seconds": times[0] - began}
        row |= {"second_step_seconds": gaps[0], "loader_share": statistics.median(data_seconds[1:]) / step}
        yield row | {"checkpoint_seconds": saves[0], "checkpoint_written_after_seconds": saves[1]}
        stops[0], seen = -1, len(times)
        losses.append({})
        began = time.perf_counter()
        run()  # raises unless the export has the trained model's logits
        both = losses[0].keys() & losses[1].keys()
        yield {
            "resume_seconds_to_first_step": times[seen] - began,
            "resumed_from_step": min(losses[1]) - 1,
            "largest_loss_difference_after_resume": max(abs(losses[0][s] - losses[1][s]) for s in both),
            "save_and_export_seconds": time.perf_counter() - times[-1],
            "export_gap": 0.0,
        }


def pretrain_two_steps(name: str, tiny: bool) -> Iterator[Row]:
    """Three steps of a larger model, not compiled: does it fit, and how fast is the last."""
    import numpy as np

    from synpro.lm import trainer
    from synpro.lm.batches import TokenStream
    from synpro.lm.callbacks import PretrainCallback
    from synpro.planning.memory import training_bytes

    p = published(name).pretrain
    hardware, model, length, vocab = replace(p.hardware, compile=False), p.model, p.sequence_length, 100_352
    if tiny:
        model, length, vocab = TINY, 64, 3072
    batch, times = 2 * hardware.micro_batch_size, list[float]()

    class Timed(PretrainCallback):
        def post_step(self) -> None:
            float(self.trainer.get_metric("train/CE loss"))
            times.append(time.perf_counter())
            super().post_step()

    with tempfile.TemporaryDirectory() as folder:
        schedule = trainer.lr_schedule(warmup_steps=0, steps=3, decay_fraction=0.0)
        module = trainer.build_module(
            model,
            p.optimizer,
            hardware,
            vocab_size=vocab,
            sequence_length=length,
            batch_size=batch,
            scheduler=schedule,
            seed=0,
        )
        ids = np.random.default_rng(0).integers(0, vocab, 4 * batch * length, dtype=np.uint32)
        stream = TokenStream(
            lambda _: ids, folder=Path(folder) / "data", sequence_length=length, batch_size=batch, dtype="uint32"
        )
        trainer.train(module, stream, Timed(), steps=3, work_dir=Path(folder) / "olmo")
    planned = training_bytes(model, vocab, length, batch, hardware, 1)
    row: Row = {"parameters": num_parameters(model, vocab), "micro_batch_size": hardware.micro_batch_size, "compiled": False}
    yield (
        row
        | rates(model, vocab, length, batch * length, times[2] - times[1])
        | {
            "peak_gib": peak_gib(),
            "planned_gib": planned / 2**30,
        }
    )
