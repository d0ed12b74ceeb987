"""What was used when: the report's table of changed execution settings."""

from __future__ import annotations

from pathlib import Path

from synpro.report.execution import execution_changes
from synpro.report.page import render
from synpro.runner.launch import MachineConfig
from synpro.runner.request import note_execution
from tests.report.builder import build


def test_the_report_says_what_was_used_when(tmp_path: Path) -> None:
    run = build(tmp_path / "r")
    first, second = run / "round-00/pretrain", run / "round-01/pretrain"
    assert execution_changes(run, ["round-00/pretrain", "round-01/pretrain"]) == []
    note_execution(first, MachineConfig(), {"config.hardware.micro_batch_size": 16}, 1, run)
    note_execution(first, MachineConfig(), {"config.hardware.micro_batch_size": 16}, 2, run)
    note_execution(first, MachineConfig(), {"config.hardware.micro_batch_size": 4}, 3, run)
    note_execution(second, MachineConfig(processes=8), {"config.hardware.micro_batch_size": 4}, 1, run)
    found = execution_changes(run, ["round-00/pretrain", "round-01/pretrain"])
    assert [(e.step, e.attempt, e.changes) for e in found] == [
        ("round-00/pretrain", 3, ("config.hardware.micro_batch_size: 16 -> 4",)),
        ("round-01/pretrain", 1, ("machine.processes: 1 -> 8",)),
    ]
    page = render(run)
    assert "config.hardware.micro_batch_size: 16 -&gt; 4" in page and "machine.processes: 1 -&gt; 8" in page
