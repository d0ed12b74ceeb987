"""`examples/my_reward.py`: a reward that does not come with SynPro, from the config to a step's own process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from synpro.config import ConfigError, dumps, load
from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.operations.table import build
from synpro.rewards.rubric import Rubric, RubricConfig
from synpro.run.launch import MachineConfig
from synpro.run.screen import Silent
from synpro.run.step import StepError, Steps
from tests.rewards.honest import SOURCES, answered, passage
from tests.rewards.scoring import ScoreConfig

ROOT = Path(__file__).parents[2]
WEIGHTS = {"rephrase": {"length": 1.0, "reading_ease": 0.5}, "reformat": {"format": 1.0}}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example as a user has it: beside the config, outside the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    return Path(shutil.copy(ROOT / "examples" / "my_reward.py", tmp_path / "my_reward.py"))


def test_it_pays_for_easier_text_and_not_for_exploits(file: Path) -> None:
    operation = build(OperationConfig("rephrase"))
    rubric = Rubric.build(operation, RubricConfig(WEIGHTS, files=("my_reward.py",)), JudgesConfig(), None)
    assert rubric.names == ["length", "reading_ease"]
    easy = (
        SOURCES["honey"].replace(", where enzymes begin to split its sucrose into", ". It turns to").replace("less than ", "")
    )
    texts = [easy, SOURCES["honey"], "Bees. Go. Hum.", ""]
    rubric.prepare([passage(n) for n in SOURCES])
    scores = rubric.score([answered(operation, "honey", f"Rephrased:\n{t}" if t else "") for t in texts])
    gains = [s["reading_ease"] for s in scores]
    assert 0 < gains[0] <= 1 and gains[1] == 0.0 and gains[2] == gains[3] == -1.0


def test_a_config_names_it_and_a_step_runs_it_in_its_own_process(file: Path, tmp_path: Path) -> None:
    sets = ['rubric.files=["my_reward.py"]', "rubric.weights.rephrase={ length = 1.0, reading_ease = 0.5 }"]
    (tmp_path / "my.toml").write_text((ROOT / "tests" / "loop.toml").read_text())
    sets.append("rubric.weights.reformat={ format = 1.0 }")
    cfg = load(tmp_path / "my.toml", sets)
    assert cfg.rubric.files[0].startswith("my_reward.py#sha256=")
    (tmp_path / "config.toml").write_text(dumps(cfg))
    assert load(tmp_path / "config.toml") == cfg  # as a run directory keeps it

    def do() -> dict[str, float]:
        steps = Steps(tmp_path / "run", seed=7, machine=MachineConfig(threads=1), watcher=Silent())
        rubric = load(tmp_path / "my.toml", sets).rubric
        done = steps("round-00/score", "tests.rewards.scoring:score", ScoreConfig("honey"), rubric=rubric)
        return json.loads((done.dir / "scores.json").read_text())[0]

    first = do()
    assert set(first) == {"length", "reading_ease"} and do() == first
    # Other code is another request: what was scored with the old one is not passed off as the new one's.
    file.write_text(file.read_text().replace("/ 20", "/ 10"))
    with pytest.raises(StepError, match=r"inputs\.rubric\.files: \['my_reward\.py#sha256="):
        do()
    with pytest.raises(ConfigError, match=r"rubric\.files: my_reward\.py has changed since the run was begun"):
        load(tmp_path / "config.toml")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"files: 'bad\.py' is no Python file here"),
        ("import no_such_module", r"files: bad\.py does not run: ModuleNotFoundError: No module named 'no_such_module'"),
        ("from synpro.rewards.rubric import REWARDS\nREWARDS['length'] = None", "takes the name of a reward .* length"),
        ("", r"weights\.rephrase: there is no reward 'reading_hard'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_runs(
    code: str | None, message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synpro.rewards import rubric

    for name, reward in list(rubric.REWARDS.items()):  # put back what a bad file overwrites
        monkeypatch.setitem(rubric.REWARDS, name, reward)
    if code is not None:
        Path("bad.py").write_text(code)
    with pytest.raises(ValueError, match=message):
        RubricConfig({"rephrase": {"reading_hard": 1.0}}, files=("bad.py",))
