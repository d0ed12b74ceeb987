"""A step of two processes, as a run starts it: torchrun, gloo, and the same curve as one process, on one node and on two."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synpro.lm.training_config import HardwareConfig
from synpro.runner.launch import MachineConfig
from synpro.runner.step import Steps
from synpro.stages.pretrain import pretrain
from tests.in_process import Here
from tests.slurm import free_job, job, standins
from tests.stages.small_corpus import small_corpus
from tests.stages.small_model import CFG


def test_pretrain_in_two_processes_gives_the_curve_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = small_corpus(tmp_path / "corpus")
    cfg = dataclasses.replace(CFG, hardware=HardwareConfig(micro_batch_size=4))
    for name, value in {**standins(tmp_path / "bin"), **job(free_job(), nodes=2)}.items():
        monkeypatch.setenv(name, value)
    machines = {
        "one": MachineConfig(threads=1),
        "processes": MachineConfig(threads=1, processes=2),
        "nodes": MachineConfig(threads=1, nodes=2),
    }
    curves, records = {}, {}
    for name, machine in machines.items():
        run_step = (Here if name == "one" else Steps)(tmp_path / name, seed=3, machine=machine)
        records[name] = run_step("round-00/pretrain", pretrain, cfg, corpus=corpus, shards=[], start=None)
        path = tmp_path / name / "round-00" / "pretrain" / "metrics.jsonl"
        curves[name] = [json.loads(line) for line in path.read_text().splitlines()]
    assert (tmp_path / "bin" / "srun.txt").read_text().count("\n") == 1
    one = curves.pop("one")
    for name, two in curves.items():
        assert len(one) == len(two) > 6
        for a, b in zip(one, two, strict=True):
            assert a.keys() == b.keys() and a["step"] == b["step"]
            for key in a.keys() & {"train_loss", "reference_loss", "heldout_loss"}:
                assert b[key] == pytest.approx(a[key], abs=1e-4)
        assert (records["one"].steps, records["one"].tokens_seen) == (records[name].steps, records[name].tokens_seen)


def test_processes_leave_the_group_and_skip_the_shutdown_that_may_abort_them(tmp_path: Path) -> None:
    script = tmp_path / "last.py"
    script.write_text(
        "import atexit\n"
        "import torch.distributed as dist\n"
        "from synpro.runner.process_group import exit_process, final_barrier, init_distributed\n"
        "from tests.runner.counting import AbortsAtShutdown\n"
        "kept = AbortsAtShutdown()\n"
        "atexit.register(print, 'hook')\n"
        "group = init_distributed()\n"
        "assert dist.is_initialized() and group.all_gather([group.rank]) == [0, 1]\n"
        "final_barrier(group)\n"
        "assert not dist.is_initialized()\n"
        "exit_process()\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*torchrun, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hook") == 2


def test_a_command_of_several_processes_skips_that_shutdown(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "import sys\n"
        "from synpro import cli\n"
        "from tests.runner.counting import AbortsAtShutdown\n"
        "kept = AbortsAtShutdown()\n"
        "sys.argv = ['synpro', *sys.argv[1:]]\n"
        "cli.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "WORLD_SIZE": "2"}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, script, *args], capture_output=True, text=True, env=environment)

    done = run("config", "--schema")
    assert done.returncode == 0 and json.loads(done.stdout)
    failed = run("status", "nowhere")
    assert failed.returncode == 1 and "nowhere" in failed.stderr, "not -6"
    environment["WORLD_SIZE"] = ""
    assert run("config", "--schema").returncode == -signal.SIGABRT, "one process shuts down as always"
