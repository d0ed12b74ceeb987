"""What people are told of the time that is left."""

from types import SimpleNamespace

import pytest

from synpro.runner import progress


def test_opening_a_model_and_what_was_found_done_are_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    display = progress.ProgressDisplay(["a"], lambda step: None)
    display.begin("a", None)
    now = 100.0
    display.event("a", {"done": 10, "total": 50, "startup": 100.0, "ago": 0.0})
    display.event("a", {"done": 10.1, "total": 50})
    assert display.running["a"].left == 0.0, "nothing is known yet"
    now = 120.0
    display.event("a", {"done": 20, "total": 50})
    assert display.running["a"].left == 60.0
