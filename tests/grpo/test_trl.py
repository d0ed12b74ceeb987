"""What is replaced in TRL's trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from synpro.engines.cpu.packed import log_probabilities
from tests.stages.small_generator import config, make_base, make_corpus, train


def test_the_answers_to_a_prompt_are_learned_from_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dealt out over the micro batches, each prompt would be computed in each of them."""
    seen: list[set[tuple[int, ...]]] = []

    def spy(model, ids, mask, completion, temperature):
        seen.append({tuple(row) for row in ids[:, :-completion].tolist()})
        return log_probabilities(model, ids, mask, completion, temperature)

    monkeypatch.setattr("synpro.grpo.trl.log_probabilities", spy)
    base, corpus = make_base(tmp_path / "base"), make_corpus(tmp_path)
    train(config(base, micro_batch_size=4, beta=0.0), corpus, tmp_path / "out")
    assert [len(prompts) for prompts in seen] == [1] * 4, "two steps of two prompts"
    assert all(first != second for first, second in zip(seen[::2], seen[1::2], strict=True))
