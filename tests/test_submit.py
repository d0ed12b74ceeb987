"""A run as a chain of jobs: what each asks for, what it waits for, and that the scripts do the run on two nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from synpro.commands.execution import shown_steps
from synpro.commands.run import run
from synpro.commands.submit import SlurmOptions, SubmitError, batches, queue_jobs, shape, submit, write_jobs
from synpro.config import ConfigError, load_config
from synpro.engines.vllm import VLLMConfig
from synpro.outline import outline
from synpro.runner.launch import LaunchError, MachineConfig, torchrun_command
from tests.conftest import ROOT
from tests.slurm import free_job, job, standins

LARGE = ["machine.nodes=8", "machine.processes=8"]


@pytest.fixture(autouse=True)
def vllm_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published configs name it, and the machine that submits them has it."""
    monkeypatch.setattr(VLLMConfig, "missing", lambda self, slot: [])


def directives(script: Path) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.read_text().splitlines() if line.startswith("#SBATCH ")]


def test_the_jobs_of_a_large_run_hold_every_step_once_and_no_more_gpus_than_it_needs(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "400m.toml", LARGE)
    path = write_jobs(cfg, tmp_path, SlurmOptions(options=("--account=mine",), gpu_options=("--partition=gpu",)))
    jobs = batches(cfg, tmp_path / "400m")
    scripts = sorted(path.parent.glob("*.sbatch"))
    assert [step for batch in jobs for step in batch.steps] == outline(cfg) and len(scripts) == len(jobs)
    for batch, script in zip(jobs, scripts, strict=True):
        asked = directives(script)
        assert "--account=mine" in asked and "--requeue" in asked
        assert ("--partition=gpu" in asked) == (batch.steps != ("round-00/prepare",))
        if batch.steps[0].endswith("/pretrain"):
            assert batch.steps == (batch.steps[0],) and {"--nodes=8", "--gpus-per-node=8"} <= set(asked)
        else:
            assert "--nodes=1" in asked and "--gpus-per-node=8" not in asked
        ends = "--until" in script.read_text()
        assert ends == (batch is not jobs[-1]), "the last job goes on to the report"
        if ends:
            assert f"--until {batch.steps[-1]} &" in script.read_text()
    assert [b.resources for b in jobs] == ["cpu", "gpu", *["all", "gpu"] * 4]
    noted = tmp_path / "400m" / "environment.json"
    assert not noted.exists(), "jobs that are written start nothing"
    with shown_steps(load_config(ROOT / "configs" / "400m.toml", ["machine.check_memory=false"]), noted.parent, []) as steps:
        steps.on_first()
    assert noted.exists()


def test_writing_asks_for_a_gpu_per_worker_unless_a_ray_cluster_is_named(tmp_path: Path) -> None:
    spread = ["machine.launcher=ray", "machine.workers=4"]
    own, named = (load_config(ROOT / "configs" / "400m.toml", [*spread, *more]) for more in ([], ["machine.address=auto"]))
    asked = {step: batch.resources for batch in batches(own, tmp_path) for step in batch.steps}
    assert asked["round-01/synthesize-reformat"] == "workers" and asked["round-01/train-reformat"] == "gpu"
    assert "workers" not in {batch.resources for batch in batches(named, tmp_path)}
    scripts = sorted(write_jobs(own, tmp_path, SlurmOptions()).parent.glob("*synthesize*.sbatch"))
    assert scripts and all({"--nodes=1", "--gpus-per-node=4"} <= set(directives(s)) for s in scripts)


def test_many_workers_are_spread_over_nodes_with_ray_on_each(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "400m.toml", ["machine.launcher=ray", "machine.workers=60"])
    scripts = sorted(write_jobs(cfg, tmp_path, SlurmOptions()).parent.glob("*synthesize*.sbatch"))
    assert scripts and all({"--nodes=8", "--gpus-per-node=8"} <= set(directives(s)) for s in scripts)
    text = scripts[0].read_text()
    assert "srun --nodes=8 --ntasks=8" in text and "export RAY_ADDRESS=" in text
    subprocess.run(["bash", "-n", str(scripts[0])], check=True)
    small = load_config(
        ROOT / "configs" / "400m.toml", ["machine.launcher=ray", "machine.workers=6", "machine.gpus_per_node=4"]
    )
    assert shape(small, "workers") == (2, 3)
    (one,) = sorted(write_jobs(small, tmp_path / "small", SlurmOptions()).parent.glob("*-round-01-synthesize-rephrase.sbatch"))
    assert "--nodes=2" in directives(one)


def test_jobs_ask_for_cores_memory_and_time_by_their_gpus(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "400m.toml", LARGE)
    slurm = SlurmOptions(options=("--time=1:00:00",), time="8:00:00", cpus_per_gpu=6, gib_per_gpu=100)
    for script in write_jobs(cfg, tmp_path, slurm).parent.glob("*.sbatch"):
        asked = directives(script)
        gpus = 0 if "prepare" in script.name else 8 if "pretrain" in script.name else 1
        assert f"--cpus-per-task={6 * gpus or 16}" in asked and f"--mem={100 * gpus or 64}G" in asked
        assert asked.index("--time=8:00:00") < asked.index("--time=1:00:00"), "what a person asks for comes last and counts"


def test_a_job_that_made_no_progress_is_not_queued_again(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "tests" / "loop.toml", ["rounds=0"])
    script = sorted(write_jobs(cfg, tmp_path / "runs", SlurmOptions(gpus=False)).parent.glob("*.sbatch"))[0]
    for code, requeued in ((130, True), (1, False), (0, False)):
        folder = tmp_path / str(code)
        env = {**os.environ, **standins(folder), **job(7, nodes=1)}
        lines = script.read_text().splitlines()
        command = next(i for i, line in enumerate(lines) if line.endswith(" &"))
        lines[command] = f"bash -c 'trap \"exit {code}\" TERM; touch {folder}/up; while :; do sleep .05; done' &"
        (folder / "job.sh").write_text("\n".join(lines))
        process = subprocess.Popen(["bash", str(folder / "job.sh")], env=env)
        while not (folder / "up").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(20) == (1 if requeued else code)
        assert (folder / "scontrol.txt").exists() == requeued


def test_rl_asks_for_a_gpu_per_process(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs" / "400m.toml", ["machine.rl_processes=8"])
    asked = {step: batch.resources for batch in batches(cfg, tmp_path) for step in batch.steps}
    assert asked["round-01/train-reformat"] == "rl" and asked["round-01/synthesize-reformat"] == "gpu"
    scripts = sorted(write_jobs(cfg, tmp_path, SlurmOptions()).parent.glob("*train*.sbatch"))
    assert scripts and all({"--nodes=1", "--gpus-per-node=8"} <= set(directives(s)) for s in scripts)


def test_each_job_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in standins(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    lines = submit(load_config(ROOT / "configs" / "1b.toml", LARGE), tmp_path, SlurmOptions(), now=True)
    asked = (tmp_path / "bin" / "sbatch.txt").read_text().splitlines()
    assert [line.endswith(f"Slurm job {101 + i}") for i, line in enumerate(lines[-len(asked) :])] == [True] * len(asked)
    assert "--dependency" not in asked[0]
    for number, line in enumerate(asked[1:], start=101):
        assert f"--dependency=afterok:{number} --kill-on-invalid-dep=yes" in line


def test_what_slurm_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    script = tmp_path / "submit.sh"
    script.write_text("#!/bin/bash\nsbatch\n")
    script.chmod(0o755)
    with pytest.raises(SubmitError, match="where Slurm is"):
        queue_jobs(script)
    (tmp_path / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(SubmitError, match="exit code 1:\nsbatch: error: invalid partition"):
        queue_jobs(script)


def test_an_option_that_is_none_and_a_step_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmitError, match="is not an option of sbatch"):
        SlurmOptions(options=("partition=gpu",))
    with pytest.raises(ConfigError, match="there is no step 'round-07/probe'"):
        run(load_config(ROOT / "configs" / "tiny.toml"), tmp_path, until="round-07/probe")


def test_more_nodes_need_a_job_that_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(LaunchError, match="this is not a Slurm job"):
        torchrun_command("module", [], MachineConfig(nodes=2))
    for name, value in job(7, nodes=1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match="this Slurm job has 1"):
        torchrun_command("module", [], MachineConfig(nodes=2))


def test_the_scripts_do_a_run_on_two_nodes_and_carry_on_when_their_time_was_over(tmp_path: Path) -> None:
    env = {**os.environ, **standins(tmp_path / "bin")}
    cfg = load_config(ROOT / "tests" / "loop.toml", ["rounds=0", "machine.nodes=2"])
    path = write_jobs(cfg, tmp_path / "runs", SlurmOptions(gpus=False))
    scripts, root, mine = sorted(path.parent.glob("*.sbatch")), tmp_path / "runs" / "loop", free_job()
    assert [s.stem for s in scripts] == ["01-round-00-prepare", "02-round-00-pretrain", "03-round-00-evaluate"]

    def started(number: int) -> subprocess.Popen[str]:
        given = {**env, **job(mine, nodes=2)}
        return subprocess.Popen(
            ["bash", str(scripts[number])], env=given, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def ended(number: int) -> str:
        process = started(number)
        output = process.communicate()[0]
        assert process.returncode == 0, output
        return output

    assert "done up to round-00/prepare" in ended(0)
    interrupted = started(1)
    while not (tmp_path / "bin" / "srun.txt").exists():
        assert interrupted.poll() is None
        time.sleep(0.1)
    interrupted.send_signal(signal.SIGUSR1)
    output = interrupted.communicate(timeout=60)[0]
    assert interrupted.returncode == 1 and "run the same command again" in output, output
    assert (tmp_path / "bin" / "scontrol.txt").read_text() == f"requeue {mine}\n"
    assert not (root / "round-00/pretrain/result.json").exists()
    ended(1)
    assert (tmp_path / "bin" / "srun.txt").read_text().count("--nodes=2") == 2
    assert "report.html" in ended(2) and (root / "report.html").exists()
    with pytest.raises(ConfigError, match="every step is done"):
        write_jobs(cfg, tmp_path / "runs", SlurmOptions())
