"""Influence of texts per second, beside a plain loop over padded batches; the memory of scoring 10^3, 10^4 and 10^5 texts."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Measurement, compare_pairs, measure_pairs, open_run
from synpro.commands.run_dir import newest_record
from synpro.corpus.store import read_documents
from synpro.lm.influence import Influence
from synpro.records import Corpus, Probe

BATCH = 32
"""Texts of the plain loop's batches."""
GROWTH = 2 * 2**30
"""Bytes that scoring may take beside the models, whatever the number of texts."""


def texts(corpus: Corpus, count: int, longest: int, seed: int = 0) -> Iterator[str]:
    """Stretches of 5 to `longest` words of the run's documents, the same for the same seed."""
    words = [d.text.split(" ") for split in ("train", "heldout") for d in read_documents(corpus.dir, split)]
    draw = random.Random(seed)
    for _ in range(count):
        some = draw.choice(words)
        first = draw.randrange(len(some))
        yield " ".join(some[first : first + draw.randint(5, longest)]).strip() or "a"


def plain_loop(probe: Probe, some: list[str]) -> list[float]:
    """Influence as a short script computes it: batches as they come, padded, all logits, both models."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(probe.before)
    tokenizer.padding_side = "right"
    sides = []
    for folder in (probe.before, probe.afters[0]):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        losses = []
        for i in range(0, len(some), BATCH):
            rows = tokenizer(some[i : i + BATCH])["input_ids"]
            batch = tokenizer.pad({"input_ids": [[tokenizer.eos_token_id, *row] for row in rows]}, return_tensors="pt")
            ids, mask = batch["input_ids"], batch["attention_mask"]
            with torch.inference_mode():
                logits = model(input_ids=ids, attention_mask=mask).logits
                target = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
                loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), target, reduction="none")
            losses += (loss.sum(1) / mask[:, 1:].sum(1)).tolist()
        sides.append(losses)
    return [before - after for before, after in zip(*sides, strict=True)]


def measure(run: Path, count: int, number: int = 2000) -> list[Measurement]:
    """Texts per second, then the largest memory of processes that score more and more."""
    _, corpus = open_run(run)
    probe = newest_record(run, "probe", Probe)
    some = list(texts(corpus, number, 80))

    def ours() -> float:
        began = time.perf_counter()
        Influence(probe.before, *probe.afters).score(some)
        return len(some) / (time.perf_counter() - began)

    def theirs() -> float:
        began = time.perf_counter()
        plain_loop(probe, some)
        return len(some) / (time.perf_counter() - began)

    a, b = measure_pairs(ours, theirs, count)
    note = f"{number} texts of 5 to 80 words, two models, opening them included; the plain loop takes {BATCH} as they come"
    out = [compare_pairs("influence / plain loop over padded batches", "texts/s", a, b, note=note)]
    return [*out, *memory(run, (1_000, 10_000, 100_000))]


def memory(run: Path, counts: tuple[int, ...]) -> list[Measurement]:
    """The largest resident memory of a process that scores so many short texts: ours is above one that scores ten."""

    def peak(count: int) -> float:
        argv = [sys.executable, "-m", "benchmarks.influence", str(run), str(count)]
        return float(json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))

    least = peak(10)
    found = []
    for count in counts:
        above = peak(count) - least
        what = f"memory of scoring {count:,} texts of 5 to 20 words, above the models"
        found.append(Measurement(what, above / 2**20, None, "MiB", bound="at most 2,048", met=above <= GROWTH))
    return found


if __name__ == "__main__":
    _, of = open_run(Path(sys.argv[1]))
    pair = newest_record(Path(sys.argv[1]), "probe", Probe)
    Influence(pair.before, *pair.afters).score(list(texts(of, int(sys.argv[2]), 20)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
