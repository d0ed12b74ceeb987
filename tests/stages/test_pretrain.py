"""The stage pretrain on a real corpus and a real model, small."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from synpro.config import plain
from synpro.corpus.mixture import MixtureConfig
from synpro.lm.plateau import PlateauConfig
from synpro.lm.training_config import OptimizerConfig
from synpro.records import Checkpoint
from synpro.schema import build
from synpro.stages.pretrain import PretrainConfig
from tests.lm.conftest import LENGTH
from tests.stages.small_corpus import small_corpus, small_shard
from tests.stages.small_model import CFG, run


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def first(corpus, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return run(CFG, corpus, tmp_path_factory.mktemp("first"))


def test_a_round_without_a_plateau_says_that_its_budget_is_used(first: Checkpoint) -> None:
    assert (first.steps, first.tokens_seen, first.plateau) == (12, 12 * 8 * LENGTH, False)
    assert "budget" in first.reason and "no plateau" in first.reason
    assert (first.dir / "scratch" / "states").exists(), "the runner removes it when `result.json` is there"
    found = rows(first.dir)
    assert found[-2]["reference_loss"] == first.reference_loss < found[0]["reference_loss"]
    assert [r["step"] for r in found if "heldout_loss" in r] == [0, 4, 8, 12]


def test_the_state_that_is_kept_is_measured_on_the_whole_split(first: Checkpoint, corpus, tmp_path: Path) -> None:
    sampled = run(dataclasses.replace(CFG, evaluate_tokens=100, keep="last"), corpus, tmp_path)
    assert sampled.reference_loss == first.reference_loss, "searches compare it; the same weights, measured on all tokens"
    assert rows(sampled.dir)[-2]["reference_loss"] != sampled.reference_loss


def test_another_folder_gives_the_same_digest_and_leftovers_do_no_harm(first: Checkpoint, corpus, tmp_path: Path) -> None:
    shutil.copytree(first.dir, tmp_path / "again")
    again = run(dataclasses.replace(CFG, checkpoint_every=None), corpus, tmp_path / "again")
    assert again.digest == first.digest
    assert rows(again.dir) == rows(first.dir)


def test_a_killed_round_carries_on_to_the_same_end(first: Checkpoint, corpus, tmp_path: Path, monkeypatch) -> None:
    from synpro.lm.callbacks import PretrainCallback

    class Killed(Exception):
        pass

    whole = PretrainCallback.post_step

    def broken(self: PretrainCallback) -> None:
        whole(self)
        if self.step == 9:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PretrainCallback, "post_step", broken)
        with pytest.raises(Killed):
            run(CFG, corpus, tmp_path)
    assert [p.name for p in (tmp_path / "scratch" / "states").iterdir()] == ["step-00000005"]
    resumed = run(CFG, corpus, tmp_path)
    assert resumed.digest == first.digest
    assert rows(tmp_path) == rows(first.dir)


def test_a_later_round_counts_on_and_has_no_second_warmup(first: Checkpoint, corpus, tmp_path: Path) -> None:
    shard = small_shard(tmp_path / "shard", corpus)
    second = run(CFG, corpus, tmp_path / "second", start=first, shards=[shard])
    assert (second.steps, second.tokens_seen) == (24, 2 * first.tokens_seen)
    found = rows(second.dir)
    assert found[0]["step"] == 12 and found[0]["reference_loss"] == pytest.approx(first.reference_loss, abs=1e-6)
    assert {r["lr"] for r in found if "lr" in r} == {3e-3}
    assert second.reference_loss < first.reference_loss


def test_a_plateau_ends_the_round(corpus, tmp_path: Path) -> None:
    cfg = dataclasses.replace(
        CFG, plateau=PlateauConfig(improvement=9.0, min_points=3), evaluate_every=1, max_tokens=400 * 8 * LENGTH
    )
    ended = run(cfg, corpus, tmp_path)
    assert ended.plateau and ended.steps < 20 and "surely less than 9.0" in ended.reason


def test_the_best_state_is_the_result_and_the_start_of_the_next_round(corpus, tmp_path: Path) -> None:
    from synpro.lm.loss import load_model

    cfg = dataclasses.replace(
        CFG, optimizer=OptimizerConfig(learning_rate=3e-2), evaluate_every=15, max_tokens=180 * 8 * LENGTH, plateau=None
    )
    ended = run(cfg, corpus, tmp_path / "a")
    measured = {r["tokens"]: r["reference_loss"] for r in rows(ended.dir) if "reference_loss" in r}
    assert ended.reference_loss == min(measured.values()) < ended.last_reference_loss == list(measured.values())[-1]
    assert ended.best_tokens is not None and measured[ended.best_tokens] == ended.reference_loss
    assert ended.tokens_seen == list(measured)[-1] > ended.best_tokens, "what was spent counts"
    later = run(CFG, corpus, tmp_path / "b", start=ended)
    assert rows(later.dir)[0]["reference_loss"] == pytest.approx(ended.reference_loss, abs=1e-6)
    last = run(dataclasses.replace(cfg, keep="last"), corpus, tmp_path / "c")
    assert last.reference_loss == last.last_reference_loss == ended.last_reference_loss
    weights = [load_model(c.dir / "hf").lm_head.weight for c in (ended, last)]
    assert not (weights[0] == weights[1]).all()


def test_a_training_that_diverges_stops_at_once_and_keeps_what_was_good(corpus, tmp_path: Path, monkeypatch) -> None:
    from synpro.lm import callbacks

    def measured(*losses: float) -> None:
        left = iter(losses)
        monkeypatch.setattr(callbacks, "packed_loss", lambda *_, **__: next(left))

    cfg, nan = dataclasses.replace(CFG, plateau=None), float("nan")
    for keep in ("best", "last"):
        measured(6.0, 6.0, 5.0, 5.0, nan, nan, 5.0)  # reference and held-out at steps 0, 4, 8; the end
        ended = run(dataclasses.replace(cfg, keep=keep), corpus, tmp_path / keep)
        if keep == "last":
            assert (ended.steps, ended.plateau, ended.reference_loss) == (8, False, math.inf) and "is nan" in ended.reason
            assert ended.diverged and not (ended.dir / "hf").exists(), "there is no model, and a search goes on without it"
            measured(6.0, 6.0, nan, nan)
            with pytest.raises(RuntimeError, match=r"diverged: .* is nan; lower pretrain\.optimizer\.learning_rate"):
                run(dataclasses.replace(cfg, keep=keep, round_tokens=(cfg.max_tokens,)), corpus, tmp_path / "round")
            continue
        assert (ended.steps, ended.plateau, ended.reference_loss, ended.last_reference_loss) == (8, False, 5.0, None)
        assert ended.best_tokens == 4 * 8 * LENGTH and "diverged" in ended.reason and ended.diverged


def test_rounds_end_at_fixed_token_counts() -> None:
    step = 8 * LENGTH
    cfg = dataclasses.replace(CFG, round_tokens=(10 * step + 5, 4 * step), total_tokens=17 * step)
    assert [cfg.steps_after(n * step) for n in (0, 9, 10, 13, 14, 17)] == [10, 1, 4, 1, 3, 0]
    assert cfg.steps == 10 and cfg.rounds_that_fit(5) == 2
    with pytest.raises(ValueError, match=r"^round_tokens:"):
        build(PretrainConfig, {**plain(CFG), "round_tokens": [step - 1]})


def test_rounds_that_cannot_happen_are_counted() -> None:
    often = PretrainConfig()
    assert often.rounds_that_fit(3) == 3
    # The published interval: the first plateau cannot be seen before half of the budget, and the third not at all.
    assert dataclasses.replace(often, evaluate_every=1092).rounds_that_fit(3) < 3
    assert dataclasses.replace(often, plateau=None).rounds_that_fit(3) == 0
    assert often.rounds_that_fit(3, 8_000_000_000) == 2, "no plateau is looked for before a pass"


def test_a_plateau_waits_for_a_pass_over_the_mixture(corpus, tmp_path: Path) -> None:
    ends = []
    for passes in (0.0, 2.0):
        plateau = PlateauConfig(improvement=9.0, min_points=3)
        cfg = dataclasses.replace(CFG, plateau=plateau, evaluate_every=1, min_passes=passes, max_tokens=400 * 8 * LENGTH)
        ends.append(run(cfg, corpus, tmp_path / str(passes)).tokens_seen)
    assert ends[0] < 2 * corpus.tokens["train"] <= ends[1]


def test_without_a_plateau_rule_the_budget_alone_ends_it(first: Checkpoint, corpus, tmp_path: Path) -> None:
    ended = run(dataclasses.replace(CFG, plateau=None), corpus, tmp_path)
    assert (ended.plateau, ended.reason) == (False, "the budget of 6,144 tokens is used")
    weights = [(c.dir / "hf" / "model.safetensors").read_bytes() for c in (first, ended)]
    assert weights[0] == weights[1]


def test_dropout_and_noise_carry_on_to_the_same_end(first: Checkpoint, corpus, tmp_path: Path, monkeypatch) -> None:
    from synpro.lm.callbacks import PretrainCallback

    cfg = dataclasses.replace(
        CFG,
        optimizer=OptimizerConfig(learning_rate=3e-3, dropout=0.2),
        mixture=MixtureConfig(token_noise=0.1),
        max_tokens=8 * 8 * LENGTH,
    )
    whole = run(cfg, corpus, tmp_path / "whole")
    kept = PretrainCallback.post_step

    def broken(self: PretrainCallback) -> None:
        kept(self)
        if self.step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PretrainCallback, "post_step", broken)
        with pytest.raises(KeyboardInterrupt):
            run(cfg, corpus, tmp_path / "killed")
    assert run(cfg, corpus, tmp_path / "killed").digest == whole.digest
    plain = {r["step"]: r["train_loss"] for r in rows(first.dir) if "train_loss" in r}
    harder = {r["step"]: r["train_loss"] for r in rows(whole.dir) if "train_loss" in r}
    assert all(harder[s] > plain[s] for s in (4, 6, 8)), "what is noised and dropped is harder to learn"


def test_megadocs_join_the_versions_of_a_document(corpus, tmp_path: Path) -> None:
    from synpro.corpus.epochs import MixtureEpochs
    from synpro.corpus.store import read_documents, read_rows
    from synpro.corpus.tokens import load_tokenizer

    shard = small_shard(tmp_path / "shard", corpus)
    epochs = MixtureEpochs(MixtureConfig(packing="megadocs"), corpus, [shard, shard], seed=3)
    found = epochs(1)
    assert epochs.length(1) == len(found)
    texts = load_tokenizer(corpus.dir / "tokenizer").decode_batch(
        [d.tolist() for d in np.split(found, np.flatnonzero(found == corpus.eos_id) + 1)]
    )
    organic = {d.id: d.text for d in read_documents(corpus.dir, "train")}
    rewritten = {r["document"]: r["text"] for r in read_rows(shard.dir / "documents.parquet")}
    expected = sorted(
        "\n\n".join(sorted([text, *2 * [rewritten[i]]]) if i in rewritten else [text]) for i, text in organic.items()
    )
    assert sorted("\n\n".join(sorted(t.split("\n\n"))) for t in texts if t) == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 0},
        {"batch_size": 12},
        {"max_tokens": 10},
        {"decay_fraction": 2.0},
        {"warmup_steps": -1},
        {"checkpoint_every": 0},
        {"min_tokens": -1},
    ],
)
def test_bad_settings_name_the_field(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}:"):
        build(PretrainConfig, {**plain(CFG), **bad})


def test_the_defaults_are_the_published_setting() -> None:
    cfg = PretrainConfig()
    assert cfg.steps == 21_840
    assert (cfg.optimizer.learning_rate, cfg.optimizer.weight_decay, cfg.optimizer.z_loss, cfg.warmup_steps) == (
        6e-4,
        0.1,
        1e-5,
        1000,
    )
