from pathlib import Path

import pytest

from tests.report.builder import build


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, all steps done. Read only: tests that change a run build their own."""
    return build(tmp_path_factory.mktemp("runs") / "demo")
