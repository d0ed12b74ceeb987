"""`examples/my_reward.py`: a reward that does not come with SynPro, from the config to a step's own process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from synpro.config import ConfigError, dumps, load_config
from synpro.judges.base import JudgesConfig
from synpro.operations.registry import build_operation, operation_config
from synpro.rewards.base import FAILED
from synpro.rewards.config import RubricConfig
from synpro.rewards.registry import REWARDS
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring
from synpro.runner.launch import MachineConfig
from synpro.runner.progress import NullProgress
from synpro.runner.step import StepError, Steps
from tests.markdown import blocks
from tests.rewards.reference import SOURCES, answered
from tests.rewards.scoring import ScoreConfig, score

ROOT = Path(__file__).parents[2]
ZERO = dict.fromkeys(("influence", "quality", "similarity", "structure", "format"), 0.0)
WEIGHTS = {**ZERO, "length": 1.0, "reading_ease": 0.5}


def test_the_test_of_the_docs_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(next(blocks("python", ["docs/extending.md"])).text, names)
    names["test_reading_ease_pays_for_plain_words"]()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example as a user has it: beside the config, outside the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    return Path(shutil.copy(ROOT / "examples" / "my_reward.py", tmp_path / "my_reward.py"))


def test_it_pays_for_easier_text_and_not_for_exploits(file: Path) -> None:
    operation = build_operation(operation_config("rephrase", weights=WEIGHTS, max_copied=1.0, min_length=0.0))
    rubric = Rubric.build(operation, Scoring(RubricConfig(files=("my_reward.py",)), JudgesConfig()))
    assert rubric.names == ["length", "reading_ease"]
    easy = (
        SOURCES["honey"].replace(", where enzymes begin to split its sucrose into", ". It turns to").replace("less than ", "")
    )
    texts = [easy, SOURCES["honey"], "Bees. Go. Hum.", ""]
    scores = rubric.score([answered(operation, "honey", f"Rephrased:\n{t}" if t else "") for t in texts])
    gains = [s["reading_ease"] for s in scores]
    assert gains[0] is not None and 0 < gains[0] <= 1 and gains[1] == 0.0 and gains[2] == gains[3] == FAILED


def test_a_config_names_it_and_a_step_runs_it_in_its_own_process(file: Path, tmp_path: Path) -> None:
    inline = ", ".join(f"{name} = {weight}" for name, weight in {**WEIGHTS, "faithfulness": 0.0}.items())
    sets = ['rubric.files=["my_reward.py"]', f"operations.rephrase.weights={{{inline}}}"]
    (tmp_path / "my.toml").write_text((ROOT / "tests" / "loop.toml").read_text())
    cfg = load_config(tmp_path / "my.toml", sets)
    assert cfg.rubric.files[0].startswith("my_reward.py#sha256=")
    (tmp_path / "config.toml").write_text(dumps(cfg))
    assert load_config(tmp_path / "config.toml") == cfg  # as a run directory keeps it

    def do() -> dict[str, float]:
        steps = Steps(tmp_path / "run", seed=7, machine=MachineConfig(threads=1), listener=NullProgress())
        cfg = load_config(tmp_path / "my.toml", sets)
        inputs = {"operation": cfg.operations["rephrase"], "scoring": Scoring(cfg.rubric, cfg.judges)}
        done = steps("round-00/score", score, ScoreConfig("honey"), **inputs)
        return json.loads((done.dir / "scores.json").read_text())[0]

    first = do()
    assert set(first) == {"length", "reading_ease"} and do() == first
    # Other code is another request: what was scored with the old one is not passed off as the new one's.
    file.write_text(file.read_text().replace("/ 20", "/ 10"))
    with pytest.raises(StepError, match=r"inputs\.scoring\.rubric\.files: \['my_reward\.py#sha256="):
        do()
    with pytest.raises(ConfigError, match=r"rubric\.files: my_reward\.py has changed since the run was begun"):
        load_config(tmp_path / "config.toml")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"files: 'bad\.py' is no Python file here"),
        ("import no_such_module", r"files: bad\.py does not run: ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "from synpro.rewards.registry import REWARDS\nREWARDS['length'] = None",
            "takes the name of a built-in reward: length",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_runs(
    code: str | None, message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reward in list(REWARDS.items()):  # put back what a bad file overwrites
        monkeypatch.setitem(REWARDS, name, reward)
    if code is not None:
        Path("bad.py").write_text(code)
    with pytest.raises(ValueError, match=message):
        RubricConfig(files=("bad.py",))
