"""`synpro export` of 10^6 rows as Parquet and as dolma JSON lines: megabytes of text per second of a processor, and memory.

    python -m benchmarks.export --rows 100000 --rows 1000000

Half of the rows are organic documents, half the synthetic ones of two kept texts each, with five scores. Texts are slices of
text made by rule (`corpus_scale.texts`), about 1,000 characters on average. Each export has a process of its own; seconds are
those of all its threads together, the megabytes are UTF-8 text, and memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.corpus_scale import texts
from synpro.corpus.store import DOCUMENTS, REWRITES, write_rows

SCORES = ("influence", "quality", "faithfulness", "similarity", "structure")
LEAST = 50.0
"""MB/s of a core, the bound."""


def slices(count: int, seed: int) -> Iterator[str]:
    """Texts of log-normal length, from a long one."""
    rng = np.random.default_rng(seed)
    base = "\n".join(texts(40_000, 1))
    lengths = np.clip(800 * np.exp(rng.normal(0, 0.7, count)), 50, 20_000).astype(int)
    starts = rng.integers(0, len(base) - 20_000, count)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        yield base[start : start + length]


def make_run(run: Path, rows: int) -> None:
    """Write what an export reads of a run: documents, kept and dropped texts, and the results of both steps."""
    prepare, shard = run / "round-00/prepare", run / "round-01/synthesize-rephrase"
    for step, record in ((prepare, {"record": "Corpus"}), (shard, {"record": "Shard"})):
        step.mkdir(parents=True)
        (step / "result.json").write_text(json.dumps({"record": record, "files": {}, "request": ""}), encoding="utf-8")
    half = rows // 2
    documents = (
        {"id": f"d{i}", "split": "train", "text": text, "source": f"part-{i // 1000}.jsonl:{i % 1000}", "words": 0, "group": ""}
        for i, text in enumerate(slices(half, 1))
    )
    write_rows(prepare / "documents.parquet", DOCUMENTS, documents)
    rng = np.random.default_rng(3)

    def rewrites() -> Iterator[dict[str, Any]]:
        for i, text in enumerate(slices(half, 2)):
            for part in range(3):  # the third is dropped
                scores = json.dumps(dict(zip(sorted(SCORES), rng.normal(size=5).tolist(), strict=True)))
                made = {"operation": "rephrase", "round": 1, "version": 0, "generator": "a" * 64, "scores": scores}
                piece = text[: len(text) // 2] if part == 0 else text[len(text) // 2 :]
                kept = {"text": piece, "kept": part < 2, "synthetic": f"d{i}:rephrase:01:0" if part < 2 else None}
                yield {"id": f"d{i}#{part:04d}:rephrase:01:0", "document": f"d{i}", **made, **kept}

    write_rows(shard / "rewrites.parquet", REWRITES, rewrites())


def export_once(run: Path, format: str) -> dict[str, float]:
    """Export, in this process: rows, MB of text, seconds, MB/s and MiB of memory."""
    from synpro.export.selection import Counts, Selection, select_rows
    from synpro.export.text_formats import write_dolma, write_parquet

    with tempfile.TemporaryDirectory(dir=run.parent) as out:
        counts, size = Counts(), 0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, cpu = time.perf_counter(), time.process_time()

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal size
            for batch in select_rows(run, Selection(), counts):
                size += batch["text"].nbytes - 4 * (batch.num_rows + 1)
                yield batch

        (write_parquet if format == "parquet" else write_dolma)(batches(), Path(out))
        used, wall = time.process_time() - cpu, time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = {"rows": sum(counts.rows.values()), "mb": size / 1e6, "seconds": wall, "mb_per_core_second": size / 1e6 / used}
    return {**body, "mib_before": before / 1024, "mib": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="as often as needed; default 100,000 and 1,000,000")
    parser.add_argument("--folder", type=Path, help="where the runs are made; default the system's")
    parser.add_argument("--one", nargs=2, metavar=("RUN", "FORMAT"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(export_once(Path(a.one[0]), a.one[1])))
        return
    print("| rows | format | text, MB | MB/s per core | bound | peak memory, MiB |\n|--:|---|--:|--:|---|--:|")
    for rows in a.rows or (100_000, 1_000_000):
        with tempfile.TemporaryDirectory(dir=a.folder) as folder:
            run = Path(folder) / "run"
            make_run(run, rows)
            for format in ("parquet", "dolma"):
                argv = [sys.executable, "-m", "benchmarks.export", "--one", str(run), format]
                done = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout)
                speed = done["mb_per_core_second"]
                met = "met" if speed >= LEAST else "**missed**"
                print(
                    f"| {done['rows']:,.0f} | {format} | {done['mb']:,.0f} | {speed:.0f} | at least {LEAST:.0f} {met} | "
                    f"{done['mib']:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
