"""Files of one's own: what they add is there before a step's process reads its config, and what cannot run is refused."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from synpro import plugins
from synpro.config import ConfigError, dumps, load_config
from synpro.engines.base import Sampling
from synpro.engines.parallel_map import _Actor
from synpro.engines.registry import ENGINES
from synpro.engines.scripted import ScriptedEngine
from synpro.operations.base import Operation, OperationConfig, rewrite_passages
from synpro.operations.registry import build_operation
from synpro.records import Evaluation, Passage, digest_files
from synpro.rewards.filters import RULES, FilterConfig, Sample, rule_failure
from synpro.runner.context import StepContext
from synpro.runner.launch import MachineConfig
from synpro.runner.progress import NullProgress
from synpro.stages.synthesize import SynthesizeConfig
from tests.conftest import forget_plugins
from tests.in_process import Here

ROOT = Path(__file__).parents[1]
SETS = ['synthesize.engine={type="reversed"}', 'rubric.files=["my_engine.py", "my_filter.py"]', "operations.rephrase.steps=0"]
SOURCE = "Tin melts at 232 degrees. It is soft."


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two examples and a config."""
    monkeypatch.chdir(tmp_path)
    for name in ("my_engine.py", "my_filter.py"):
        shutil.copy(ROOT / "examples" / name, name)
    Path("my.toml").write_text('name = "mine"\n[operations.rephrase]\n')
    return tmp_path


def test_the_example_of_an_engine_can_be_moved_into_the_package() -> None:
    """`synpro.engines` may import what is below it."""
    (house, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    _, _, below = " | ".join(house["layers"]).partition("operations | ")
    found = re.findall(r"^from synpro\.(\w+)", (ROOT / "examples/my_engine.py").read_text(), re.MULTILINE)
    assert "engines" in found and set(found) <= set(below.split(" | "))


@dataclass(frozen=True)
class Opens:
    """A factory of workers that holds an engine of a file and answers with it."""

    engine: object

    def open(self, on_done: object) -> Callable[[object], object]:
        return lambda task: self.engine


def first_reason(cfg: SynthesizeConfig, *, operation: OperationConfig, ctx: StepContext) -> Evaluation:
    """A stage: write what the engine of the config answers, and why the answer with a number added is dropped."""
    passage = Passage("d#0", "d", 0, 0, len(SOURCE), SOURCE)
    op = build_operation(operation)
    ((rewrite,),) = rewrite_passages(op, [passage], cfg.engine.open("", slot="synthesize"), Sampling())
    other = Passage("e#0", "e", 0, 0, 39, "Lead is heavy and grey. Nobody eats it.")
    ((dropped,),) = rewrite_passages(op, [other], ScriptedEngine([rewrite.answer]), Sampling())
    failure = rule_failure(Sample(dropped, operation), FilterConfig())
    (ctx.out / "said.txt").write_text(f"{rewrite.text}\n{failure}")
    return Evaluation(ctx.out, 0.0, 0.0, digest=digest_files(ctx.out, ctx.out / "said.txt"))


def test_a_file_of_the_package_defines_what_it_is_named_after() -> None:
    with pytest.raises(ImportError, match=r"base\.py defines no Operation, or more than one, with the name 'base'"):
        plugins.classes_of("synpro.operations", Operation, "rephrase", "base")


def test_an_engine_and_a_filter_of_ones_own_reach_a_step_and_a_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config("my.toml", SETS)
    Path("run").mkdir()
    Path("run/config.toml").write_text(dumps(cfg))
    files = plugins.loaded_files()
    forget_plugins()  # as in the step's own process
    steps = Here(folder / "run", seed=7, machine=MachineConfig(threads=1), listener=NullProgress())
    done = steps("round-01/say", first_reason, cfg.synthesize, operation=cfg.operations["rephrase"])
    said = (done.dir / "said.txt").read_text()
    assert said == "It is soft. Tin melts at 232 degrees.\n('new number', 'its passage does not have 232')"

    from ray import cloudpickle

    factory = cloudpickle.dumps(Opens(load_config("run/config.toml").synthesize.engine))
    forget_plugins()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")  # a worker's working directory
    monkeypatch.setattr("synpro.runner.launch.die_with_parent", lambda: None)
    assert _Actor(files, factory).run("task")[2] == ENGINES["reversed"]() and "new number" in RULES


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        ("from synpro.engines.registry import ENGINES\nENGINES['vllm'] = None", "name of a built-in engine: vllm"),
        (
            "from synpro.engines.registry import ENGINES\nENGINES['mine'] = print",
            "engine 'mine', which is no subclass of Engine",
        ),
        (
            "from synpro.engines.registry import ENGINES, EngineSpec\nclass Mine(EngineSpec): ...\nENGINES['mine'] = Mine",
            "adds the engine 'mine', which lacks open_model",
        ),
        (
            "from synpro.rewards.registry import REWARDS\nclass Mine(REWARDS['length']): name = 'ease'\nREWARDS['easy'] = Mine",
            "adds the reward 'easy', which has name = 'ease'",
        ),
        (
            "from synpro.operations.registry import OPERATIONS\nclass Mine(OPERATIONS['rephrase']): name = 'talk'\n"
            "OPERATIONS['talk'] = Mine",
            "adds the operation 'talk', which has defaults.name = 'rephrase'",
        ),
        (
            "from synpro.operations.registry import OPERATIONS\nfrom synpro.operations.prose import ProseOperation\n"
            "class Talk(ProseOperation):\n def instruction(self, text): return ''\nOPERATIONS['talk'] = Talk",
            "adds the operation 'talk', which has no name",
        ),
        (
            "from synpro.engines.registry import ENGINES\nclass Mine(ENGINES['scripted']): ...\nENGINES['mine'] = Mine",
            "adds the engine 'mine', which has type = 'scripted'",
        ),
        ("from synpro.rewards.filters import RULES\nRULES['mine'] = 3", "adds the filter 'mine', which is no function"),
        (
            "from synpro.rewards.filters import RULES\nRULES['Not so!'] = print",
            "which is not named by one or two lower-case words",
        ),
    ],
)
def test_what_a_file_adds_can_be_used(code: str, reported: str) -> None:
    Path("bad.py").write_text(code)
    for key in plugins.KEYS:
        with pytest.raises(ConfigError, match=rf"{key}: bad\.py .*{reported}"):
            load_config("my.toml", [f'{key}=["bad.py"]'])
        forget_plugins()
