"""Batches are functions of the step, lose no token, and drop what repeats."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from synpro.lm.batches import IGNORE_INDEX, TokenStream, eval_tokens, is_repetitive
from synpro.lm.prompt_completion import PromptCompletion, PromptCompletionBatches


def stream(folder: Path, sizes: tuple[int, ...] = (10, 7, 13), batch: int = 2, length: int = 3) -> TokenStream:
    """Pass n holds n * 100, n * 100 + 1, ..."""
    return TokenStream(
        lambda n: np.arange(n * 100, n * 100 + sizes[(n - 1) % len(sizes)]),
        folder=folder,
        sequence_length=length,
        batch_size=batch,
        dtype="uint16",
    )


def test_passes_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    s = stream(tmp_path)
    got = np.concatenate([s(step).input_B_T.ravel() for step in range(5)])
    assert got.tolist() == [*range(100, 110), *range(200, 207), *range(300, 313)]
    assert s.epochs == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pass-00002.bin", "pass-00003.bin"], "older passes are removed"


def test_a_pass_that_a_full_disk_cuts_short_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "pass-00001.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        stream(tmp_path)(0)
    assert not (tmp_path / "pass-00001.bin").exists()


def test_a_step_has_the_same_rows_however_it_is_reached(tmp_path: Path) -> None:
    walked = stream(tmp_path / "a")
    rows = [walked(step).input_B_T for step in range(12)]
    jumped = stream(tmp_path / "b")
    assert (jumped(11).input_B_T == rows[11]).all()
    assert (jumped(4).input_B_T == rows[4]).all(), "a dry run may look back"


def test_a_resumed_run_builds_the_pass_it_is_in_and_no_other(tmp_path: Path) -> None:
    built = []
    walked = stream(tmp_path / "a")
    sizes = (10, 7, 13)

    def epoch(number: int) -> np.ndarray:
        built.append(number)
        return np.arange(number * 100, number * 100 + sizes[(number - 1) % 3])

    jumped = TokenStream(
        epoch,
        folder=tmp_path / "b",
        sequence_length=3,
        batch_size=2,
        dtype="uint16",
        length=lambda number: sizes[(number - 1) % 3],
    )
    for step in (11, 12):  # tokens 66 to 77: 30 in the first three passes, 30 in the next, 10 in the seventh, 7 in the eighth
        assert (jumped(step).input_B_T == walked(step).input_B_T).all()
    assert built == [7, 8, 9]


def test_a_process_builds_its_own_rows_and_they_are_those_of_the_batch(tmp_path: Path) -> None:
    from synpro.lm.loader import StepLoader

    whole, alone = stream(tmp_path / "a", batch=4), stream(tmp_path / "b", batch=4)
    for step in range(4):
        assert (alone(step, slice(2, 4)).input_B_T == whole(step).input_B_T[2:]).all()
    read = []

    def noted(step: int, rows: slice):
        read.append((step, rows.start, rows.stop))
        return whole(step, rows)

    noted.batch_size, noted.tokens_per_batch = 4, 12
    loader = StepLoader(noted, steps=3, work_dir=tmp_path / "olmo", world=2, rank=1)
    loader.reshuffle(1)
    assert len(list(loader)) == 3 and read == [(step, 2, 4) for step in range(3)]
    read.clear()
    loader.load_state_dict({"batches_processed": 0})
    next(iter(loader))
    until = time.monotonic() + 10
    while len(read) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    assert read == [(0, 2, 4), (1, 2, 4)], "the next batch is built while the first one is trained on"
    examples = [PromptCompletion((n,), (n,)) for n in range(2, 34)]
    answers = PromptCompletionBatches(examples, sequence_length=8, batch_size=8, eos=0, pad=1, seed=4)
    assert (answers(1, slice(2, 5)).input_B_T == answers(1).input_B_T[2:5]).all()


def test_a_batch_larger_than_a_pass_takes_several(tmp_path: Path) -> None:
    s = stream(tmp_path, sizes=(5,), batch=4, length=4)
    assert s(0).input_B_T.ravel().tolist() == [*range(100, 105), *range(200, 205), *range(300, 305), 400]


def test_noise_is_read_and_the_clean_text_is_predicted(tmp_path: Path) -> None:
    clean = stream(tmp_path / "a")
    noisy = TokenStream(
        lambda n: np.stack([np.zeros(10, int), np.arange(n * 100, n * 100 + 10)]),
        folder=tmp_path / "b",
        sequence_length=3,
        batch_size=2,
        dtype="uint16",
        has_noise=True,
    )
    for step, whole in (
        (0, [[101, 102, IGNORE_INDEX], [104, 105, IGNORE_INDEX]]),
        (1, [[107, 108, IGNORE_INDEX], [200, 201, IGNORE_INDEX]]),
    ):
        rows = noisy(step)
        assert rows.label_B_T is not None and rows.label_B_T.tolist() == whole
        assert not rows.input_B_T.any() and rows.keep_B is not None and rows.keep_B.all()
    assert clean(0).label_B_T is None


def test_an_empty_mixture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        stream(tmp_path, sizes=(0,))(0)


def test_the_instance_filter_drops_32_repetitions_of_up_to_13_tokens() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 5000, 2048)
    assert not is_repetitive(noise)
    for period in (1, 2, 5, 13):
        pattern = np.arange(6000, 6000 + period)
        for times, dropped in ((31, False), (32, True), (40, True)):
            ids = noise.copy()
            ids[100 : 100 + period * times] = np.tile(pattern, times)
            assert is_repetitive(ids) == dropped, (period, times)
    assert not is_repetitive(np.tile(np.arange(14), 100)), "a period of 14 is left alone"
    assert not is_repetitive(np.zeros(31, int))


def test_loss_is_on_answers_only() -> None:
    batches = PromptCompletionBatches(
        [
            PromptCompletion((11, 12, 13), (21, 22)),
            PromptCompletion(tuple(range(30, 40)), (41,)),
            PromptCompletion((5,), tuple(range(60, 80))),
        ],
        sequence_length=8,
        batch_size=3,
        eos=0,
        pad=1,
        seed=0,
    )
    rows = batches(0)
    assert rows.label_B_T is not None
    found = {}
    for ids, labels in zip(rows.input_B_T.tolist(), rows.label_B_T.tolist(), strict=True):
        found[tuple(t for t in labels if t != IGNORE_INDEX)] = ids
    assert set(found) == {(21, 22, 0), (41, 0), tuple(range(60, 68))}
    assert found[21, 22, 0] == [0, 11, 12, 13, 21, 22, 1, 1]
    assert found[41, 0] == [0, 34, 35, 36, 37, 38, 39, 41], "a long prompt loses its beginning"
    # Each label is the token that follows in the row.
    for ids, labels in zip(rows.input_B_T.tolist(), rows.label_B_T.tolist(), strict=True):
        for t in range(len(ids) - 1):
            assert labels[t] in (IGNORE_INDEX, ids[t + 1], 0)


def test_answers_are_shuffled_anew_every_pass() -> None:
    examples = [PromptCompletion((n,), (n,)) for n in range(2, 34)]
    batches = PromptCompletionBatches(examples, sequence_length=8, batch_size=32, eos=0, pad=1, seed=4)
    first, second = batches(0).input_B_T[:, 1], batches(1).input_B_T[:, 1]
    assert sorted(first) == sorted(second) == list(range(2, 34))
    assert first.tolist() != second.tolist()
    assert batches(0).input_B_T[:, 1].tolist() == first.tolist()


def test_a_measured_split_begins_with_eos_and_is_not_empty() -> None:
    assert eval_tokens(np.array([5, 6, 7], np.uint16), 0, 9).tolist() == [0, 5, 6, 7]
    assert eval_tokens(np.array([5, 6, 7], np.uint16), 0, 2).tolist() == [0, 5, 6, ~0], "the end of a cut text is not scored"
    with pytest.raises(ValueError, match="no tokens"):
        eval_tokens(np.empty(0, np.uint16), 0, 5)


def test_a_sample_of_a_split_is_spread_over_its_documents() -> None:
    # Document n has 100 + n tokens of the value n, and its EOS.
    documents = [np.array([*[n] * (100 + n), 0], np.uint16) for n in range(1, 60)]
    split = np.concatenate(documents)
    assert eval_tokens(split, 0, len(split)).tolist() == [0, *split.tolist()]
    sample = eval_tokens(split, 0, 4000)
    assert set(sample[sample > 0]) == set(range(1, 60)), "every document is in it"
    assert 3900 <= (sample >= 0).sum() - 1 <= 4000
    few = eval_tokens(split, 0, 640)
    assert sorted(set(few[few > 0])) == [1 + i * 59 // 10 for i in range(10)], "documents at even distances"
    mixed = np.concatenate([np.array([*[n] * size, 0], np.uint16) for n, size in ((1, 10), (2, 400), (3, 400))])
    assert [int((eval_tokens(mixed, 0, 300) == n).sum()) for n in (1, 2, 3)] == [10, 144, 144], "short ones leave room"
