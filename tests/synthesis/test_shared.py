"""Answers and scores that steps of one run directory share: which, and that no byte tells."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from synpro.engines.openai import OpenAIConfig
from synpro.engines.transformers import TransformersConfig
from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.records import Chat, Completion, Rewrite
from synpro.rewards.worker import RubricWorker
from synpro.synthesis import blocks
from tests.synthesis.scripted import ANY, RUBRIC, Sampled, Uneven, files, run


def test_steps_that_ask_the_same_share_the_answers_and_judge_them_by_their_own_rules(tmp_path: Path, monkeypatch) -> None:
    best = replace(RUBRIC, num_versions=2, num_candidates=4, max_tries=4, select_by="reward")
    run(tmp_path, "best", monkeypatch, Uneven(), best, filters=ANY, keep_answers=True)
    engine, least_copied = Uneven(), replace(best, select_by="least_copied", max_length=1.3)
    shared = run(tmp_path, "shared", monkeypatch, engine, least_copied, filters=ANY, keep_answers=True)
    assert engine.asked == [] and shared.answers == 4 * shared.passages
    alone = run(tmp_path, "alone", monkeypatch, Uneven(), least_copied, filters=ANY)
    assert files(shared.dir) == files(alone.dir), "bytes do not tell where answers came from"
    reasons = [json.loads(line)["reason"] for line in (shared.dir / "rejects.jsonl").open()]
    assert reasons.count("too long") == shared.passages, "a rule that the first step did not have"
    run(tmp_path, "warmer", monkeypatch, engine, replace(best, temperature=1.1), filters=ANY, keep_answers=True)
    assert len(engine.asked) == 12, "another request"


def test_steps_that_choose_among_the_same_answers_share_their_scores(tmp_path: Path, monkeypatch) -> None:
    scored: list[int] = []
    score, problems = RubricWorker.__call__, iter([True])

    def counted(self: RubricWorker, some: list[Rewrite]) -> list[dict]:
        scored.append(len(some))
        rows = score(self, some)
        return [{"scores": {}, "claims": [], "problem": "too long"}, *rows[1:]] if next(problems, False) else rows

    def rescored(name: str, operation: OperationConfig, **changes: Any) -> int:
        scored.clear()
        shared = run(tmp_path, name, monkeypatch, Uneven(), operation, keep_answers=True, **{"filters": ANY, **changes})
        if name == "length":
            alone = run(tmp_path, "alone", monkeypatch, Uneven(), operation, filters=ANY)
            assert files(shared.dir) == files(alone.dir), "bytes do not tell where scores came from"
            return sum(scored) - 4 * shared.passages
        return sum(scored)

    monkeypatch.setattr(RubricWorker, "__call__", counted)
    best = replace(RUBRIC, num_versions=2, num_candidates=4, max_tries=4, select_by="reward")
    by_length = replace(best, num_versions=1, select_by="length")
    everything = rescored("best", best, max_failed=0.5)
    assert everything == 4 * 12
    assert rescored("again", best) == 5, "the chunk with a text that was not judged"
    assert rescored("length", by_length) == 0, "the same answers, chosen otherwise"
    assert rescored("recall", replace(best, min_recall=0.7)) == everything, "what a reward may read"
    assert rescored("filters", best, filters=replace(ANY, min_faithfulness=0.1)) == everything
    assert rescored("probe", best, probe="another") == everything
    dataman = JudgesConfig(quality="dataman")
    assert rescored("dataman", best, judges=dataman) == rescored("dataman 2", by_length, judges=dataman) == everything
    monkeypatch.setattr(blocks, "own_code", lambda: "a mended reward")
    assert rescored("mended", best) == everything


def test_an_answer_that_is_missing_is_not_kept_for_others(tmp_path: Path, monkeypatch) -> None:
    class Failing(Sampled):
        def answer(self, chat: Chat, seed: int, index: int) -> Completion:
            failed = "Metal 0.0 " in chat[-1]["content"]
            return Completion("", 0, "error") if failed else super().answer(chat, seed, index)

    run(tmp_path, "first", monkeypatch, Failing(), filters=ANY, keep_answers=True, max_failed=0.5)
    engine = Sampled()
    run(tmp_path, "second", monkeypatch, engine, filters=ANY, keep_answers=True)
    assert len(engine.asked) == 5, "its chunk of five"


def test_answers_of_a_server_that_runs_already_are_not_kept(tmp_path: Path, monkeypatch) -> None:
    """It may have other weights under the same name when the next step asks."""
    assert not OpenAIConfig.reads_weights
    with monkeypatch.context() as as_a_server:
        as_a_server.setattr(TransformersConfig, "reads_weights", False)
        run(tmp_path, "served", monkeypatch, Sampled(), filters=ANY, keep_answers=True)
    assert not (tmp_path / "answers").exists()
    run(tmp_path, "here", monkeypatch, Sampled(), filters=ANY, keep_answers=True)
    assert len([*(tmp_path / "answers").iterdir()]) == 3
