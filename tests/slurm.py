"""Stand-ins for Slurm's commands: `sbatch` and `scontrol` write down what they are asked, `srun` starts its nodes here."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

from synpro.runner.launch import MASTER_PORT

SBATCH = """#!/bin/bash
number=$((101 + $(wc -l < "$STANDIN/sbatch.txt" 2>/dev/null || echo 0)))
echo "$*" >> "$STANDIN/sbatch.txt"
echo "$number;here"
"""
SCONTROL = """#!/bin/bash
echo "$*" >> "$STANDIN/scontrol.txt"
"""
SRUN = """#!/bin/bash
echo "$*" >> "$STANDIN/srun.txt"
nodes=1
while [[ $1 == --* ]]; do case $1 in --nodes=*) nodes=${1#*=} ;; esac; shift; done
started=() stopped=
end() { kill -TERM "${started[@]}" 2>/dev/null; }
trap 'stopped=yes; end' TERM  # before the first node: a signal may come while they are started
for ((i = 0; i < nodes; i++)); do
    [[ $stopped ]] && break
    SLURM_NODEID=$i SLURM_LAUNCH_NODE_IPADDR=127.0.0.1 "$@" &
    started+=($!)
done
[[ $stopped ]] && end
status=0
for one in "${started[@]}"; do wait "$one" || status=$?; done
wait  # a signal ends the first wait only
exit "$status"
"""


def standins(folder: Path) -> dict[str, str]:
    """Put the stand-ins into a folder; the environment of a process that is to find them. They write into the folder."""
    folder.mkdir(parents=True)
    for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL), ("srun", SRUN)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "STANDIN": str(folder)}


def free_job() -> int:
    """The number of a job whose nodes can meet: another checkout's tests may run on this machine too."""
    while True:
        number = random.randrange(1000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", MASTER_PORT + number))
            return number


def job(number: int, nodes: int) -> dict[str, str]:
    """What Slurm tells a job's script."""
    return {"SLURM_JOB_ID": str(number), "SLURM_JOB_NUM_NODES": str(nodes)}
