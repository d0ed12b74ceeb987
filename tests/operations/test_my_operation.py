"""`examples/my_operation.py`: an operation that does not come with SynPro, from the config to a step's own process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synpro.config import ConfigError, RunConfig, dumps, load_config, load_stored
from synpro.operations.registry import build_operation
from synpro.records import Passage
from synpro.runner.launch import MachineConfig
from synpro.runner.progress import NullProgress
from synpro.runner.step import StepError, Steps
from tests.conftest import forget_plugins
from tests.markdown import blocks
from tests.operations.asking import PromptConfig, ask

ROOT = Path(__file__).parents[2]
SETS = ['operation_files=["my_operation.py"]', "operations.simplify.steps=5", "operations.reformat={}"]
CONFIG = 'name = "mine"\n[operations.rephrase]\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example as a user has it: beside the config, outside the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    (tmp_path / "my.toml").write_text(CONFIG)
    return Path(shutil.copy(ROOT / "examples" / "my_operation.py", tmp_path / "my_operation.py"))


def test_a_config_names_it_and_a_step_runs_it_in_its_own_process(file: Path, tmp_path: Path) -> None:
    cfg = load_config("my.toml", SETS)
    assert list(cfg.operations) == ["rephrase", "simplify", "reformat"]
    mine = cfg.operations["simplify"]
    assert (mine.steps, mine.weights["faithfulness"]) == (5, 1.0) and mine.files[0].startswith("my_operation.py#sha256=")
    operation = build_operation(mine)
    assert operation.parse("Simply put:\nTin melts.") == "Tin melts."
    asked = operation.prompt(Passage("d#0", "d", 0, 0, 4, "Tin."))[-1]["content"]
    (tmp_path / "config.toml").write_text(dumps(cfg))
    assert load_config("config.toml") == cfg  # as a run directory stores it

    def step() -> str:
        steps = Steps(tmp_path / "run", seed=7, machine=MachineConfig(threads=1), listener=NullProgress())
        done = steps("round-00/ask", ask, PromptConfig("Tin."), operation=load_config("my.toml", SETS).operations["simplify"])
        return (done.dir / "prompt.txt").read_text()

    assert step() == step() == asked
    # Other code is another request: what was done with the old one is not passed off as the new one's.
    file.write_text(file.read_text().replace("to a child", "to a beginner"))
    with pytest.raises(StepError, match=r"inputs\.operation\.files"):
        step()
    with pytest.raises(ConfigError, match=r"operation_files: my_operation\.py has changed since the run was begun"):
        load_config("config.toml")
    with pytest.raises(ConfigError, match=r"operation_files: my_operation\.py has changed since the run was begun"):
        load_stored(RunConfig, Path("config.toml"))  # as `run`, `status` and `report` read it: not left out like an unknown key


def test_the_examples_that_its_prompt_shows_are_part_of_the_request(file: Path, tmp_path: Path) -> None:
    """A config beside the file, which may have its name, is not: an execution key of it may change."""
    beside = tmp_path / "my_operation.toml"
    beside.write_text("[machine]\nthreads = 1\n")
    plain = load_config("my.toml", SETS).operation_files
    beside.write_text("[machine]\nthreads = 2\n")
    assert load_config("my.toml", SETS).operation_files == plain
    forget_plugins()
    source, begin, end = file.read_text(), "    default_examples = (", "    def instruction"
    head, _, rest = source.partition(begin)
    file.write_text(f"{head}    default_examples = read_examples(__file__)\n\n{end}{rest.partition(end)[2]}")
    file.write_text(file.read_text().replace("import Example, OperationConfig", "import OperationConfig, read_examples"))
    beside.write_text('[[examples]]\nsource = "Tin."\nanswer = "Simply put:\\nTin."\n')
    (tmp_path / "config.toml").write_text(dumps(load_config("my.toml", SETS)))
    load_config("config.toml")
    beside.write_text(beside.read_text().replace("Tin.", "Lead."))
    with pytest.raises(ConfigError, match=r"my_operation\.py or my_operation\.toml, which it reads, has changed since"):
        load_config("config.toml")


def test_the_page_shows_how_to_try_it_without_a_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, block = blocks("python", ["docs/extending.md"])
    engine = '[synthesize.engine]\ntype = "scripted"\nanswers = ["Simply put:\\nTin melts.", "Tin."]\n'
    Path("my.toml").write_text(f'name = "mine"\noperation_files = ["my_operation.py"]\n[operations.simplify]\n{engine}')
    exec(block.text, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and set(lines) <= {"Tin melts.", "the heading 'Simply put:' is missing: Tin."}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"operation_files: 'bad\.py' is no Python file here"),
        (
            "import no_such_module",
            r"operation_files: bad\.py does not run: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("from synpro.operations.registry import OPERATIONS\nOPERATIONS['rephrase'] = None", "built-in operation: rephrase"),
        ("", r"operations\.simplfy: there is no operation 'simplfy'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_runs(code: str | None, message: str, file: Path) -> None:
    if code is not None:
        Path("bad.py").write_text(code)
    with pytest.raises(ConfigError, match=message):
        load_config("my.toml", ['operation_files=["bad.py"]', "operations.simplfy={}"])
