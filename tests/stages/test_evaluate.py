"""The evaluation of a real checkpoint: held-out text and zero-shot tasks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from synpro.records import Evaluation
from synpro.runner.context import StepContext
from synpro.schema import build
from synpro.stages.evaluate import EvaluateConfig, evaluate
from tests.lm.conftest import sentences
from tests.stages.small_corpus import small_corpus
from tests.stages.small_model import CFG
from tests.stages.small_model import run as pretrained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    corpus = small_corpus(tmp_path_factory.mktemp("corpus"))
    return corpus, pretrained(CFG, corpus, tmp_path_factory.mktemp("model"))


def run(trained, out: Path, cfg: EvaluateConfig) -> Evaluation:
    corpus, model = trained
    return evaluate(cfg, corpus=corpus, model=model, ctx=StepContext.local(out, 0))


def test_loss_bits_per_byte_and_tasks(trained, tmp_path: Path) -> None:
    cfg = EvaluateConfig(tasks=("copa", "arc_easy_rc_0shot_bpb"), max_items=20)
    found = run(trained, tmp_path, cfg)
    body = json.loads((tmp_path / "evaluation.json").read_text())
    bytes_total = sum(len(t.encode()) for t in sentences(13, 30))
    assert found.bits_per_byte == pytest.approx(found.heldout_loss * body["heldout_tokens"] / math.log(2) / bytes_total)
    assert 0 < found.heldout_loss < math.log(320)
    assert set(found.tasks) == {"copa/acc", "copa/bpb", "arc_easy_rc_0shot_bpb/bpb"}
    assert body["items"]["copa"] == 20 and 0 <= found.tasks["copa/acc"] <= 1
    assert body["tasks"] == found.tasks
    copa = body["overlap"][0]
    assert (copa["group"], copa["items"], copa["hit"]) == ("copa", 100, {"organic": 0, "reference": 0})
    again = run(trained, tmp_path / "again", cfg)
    assert (again.tasks, again.heldout_loss, again.digest) == (found.tasks, found.heldout_loss, found.digest)


def test_an_unknown_task_names_its_neighbours(trained, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean hellaswag"):
        run(trained, tmp_path, EvaluateConfig(tasks=("helaswag",)))


@pytest.mark.parametrize("bad", [{"tasks": ("copa", "copa")}, {"max_items": 0}, {"batch_tokens": 0}])
def test_bad_settings_name_the_field(bad) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}:"):
        build(EvaluateConfig, bad)
