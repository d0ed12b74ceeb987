"""The stage synthesize over Ray workers: the same bytes as in one process."""

from dataclasses import replace
from pathlib import Path

from synpro.engines.scripted import ScriptedConfig
from synpro.judges.base import JudgesConfig
from synpro.records import TrainedVerifier
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.runner.launch import LOCAL_MACHINE, MachineConfig
from synpro.stages.synthesize import SynthesizeConfig, synthesize
from tests.synthesis.scripted import GENERATOR, RUBRIC, corpus, files, text

RAY = MachineConfig(threads=1, launcher="ray", workers=2)


def test_ray_workers_give_the_same_bytes(tmp_path: Path) -> None:
    answers = tuple(f"Rephrased:\n{text(i)}" if i % 3 else "nothing" for i in range(40))
    filters = FilterConfig(same_language=False, max_repetition=1.0, min_faithfulness=0)
    found = []
    for machine in (LOCAL_MACHINE, RAY):
        out = tmp_path / machine.launcher / "synthesize-rephrase"
        shard = synthesize(
            SynthesizeConfig(chunk_size=3, engine=ScriptedConfig(answers=answers)),
            operation=replace(RUBRIC, num_versions=2, num_candidates=3, max_tries=5, select_by="least_copied"),
            scoring=Scoring(
                RubricConfig(), JudgesConfig(), verifier=TrainedVerifier(tmp_path, "none", "none"), filters=filters
            ),
            generator=GENERATOR,
            corpus=corpus(tmp_path),
            round=1,
            ctx=replace(StepContext.local(out, 1), workers=machine),
        )
        found.append((replace(shard, dir=tmp_path), files(out)))
    assert found[0] == found[1]
    assert found[0][0].kept > 12
