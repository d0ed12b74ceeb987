"""Scores of any text, spread over workers: each row once, and the same as in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from synpro.commands.run_dir import newest_record
from synpro.commands.score import InfluenceWorkers, score_influence
from synpro.config import ConfigError
from synpro.corpus.store import read_passages
from synpro.engines.parallel_map import parallel_map
from synpro.records import Corpus, Probe, decode
from synpro.runner.launch import MachineConfig


def test_influence_by_two_workers_equals_that_of_one_process(finished_run: Path) -> None:
    record = json.loads((finished_run / "round-00/prepare/result.json").read_text(encoding="utf-8"))["record"]
    corpus = decode(record, finished_run)
    assert isinstance(corpus, Corpus)
    texts = [*(p.text for p in read_passages(corpus.dir)), "", *(f"Bees carry nectar {i} times." for i in range(20))]
    tasks = {i: texts[i : i + 5] for i in range(0, len(texts), 5)}
    workers, seen = InfluenceWorkers(newest_record(finished_run, "probe", Probe)), Counter[int]()

    def scored(machine: MachineConfig) -> list[float | None]:
        found = {}
        for first, values in parallel_map(workers, tasks.items(), machine=machine, progress=lambda part: None, log=print):
            seen[first] += 1
            found[first] = values
        return [value for first in sorted(found) for value in found[first]]

    here = scored(MachineConfig(threads=1))
    there = scored(MachineConfig(threads=1, launcher="ray", workers=2))
    assert set(seen.values()) == {2}, "each task once here and once there"
    assert len(here) == len(there) == len(texts)
    empty = texts.index("")
    assert here[empty] is None and there[empty] is None
    assert [v for v in there if v is not None] == pytest.approx([v for v in here if v is not None], abs=1e-6)


def test_influence_by_two_ranks_equals_that_of_one_process(finished_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    lines = [f"Bees carry nectar {i} times to the hive." * (1 + i % 5) for i in range(22)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in lines))
    one = score_influence(finished_run, file)
    assert one is not None and len(one) == 22
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    asked = ["-m", "synpro.cli", "score", "influence", str(finished_run), str(file), "--out", str(tmp_path / "two")]
    done = subprocess.run([*torchrun, *asked], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    two = [json.loads(line) for line in (tmp_path / "two").read_text().splitlines()]
    assert [row["id"] for row in two] == [scored.document.id for scored in one]
    assert [row["influence"] for row in two] == pytest.approx([scored.influence for scored in one], abs=1e-6)
    assert "11 of 11 texts scored" in done.stdout and "of 22 texts have positive influence" in done.stdout


def test_bfloat16_moves_influence_little(finished_run: Path) -> None:
    texts = [f"Bees carry nectar {i} times to the hive." for i in range(20)]
    values = {}
    for dtype in ("float32", "bfloat16"):
        scored = score_influence(finished_run, texts, dtype=dtype)
        values[dtype] = [s.influence for s in scored or []]
    assert values["bfloat16"] == pytest.approx(values["float32"], abs=0.03) and values["bfloat16"] != values["float32"]
    with pytest.raises(ConfigError, match="--dtype int8: is unknown; use float32 or bfloat16"):
        score_influence(finished_run, texts, dtype="int8")
