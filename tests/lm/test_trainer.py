"""Training on OLMo-core: carried on exactly, the same on two processes, exported without a difference."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from synpro.lm.plateau import PlateauConfig
from synpro.runner.artifacts import write_json
from synpro.runner.chunks import ChunkStore
from synpro.runner.logger import StepLogger
from synpro.runner.process_group import init_distributed
from tests.lm.conftest import LENGTH, TINY, tiny_module

if TYPE_CHECKING:
    from synpro.lm.callbacks import PretrainCallback


def run(
    out: Path,
    tokens: np.ndarray,
    *,
    steps: int,
    stop_at: int | None = None,
    told_at: int | None = None,
    checkpoint_every: int | None = None,
    start: Path | None = None,
) -> PretrainCallback | None:
    """A training with everything on; after step `stop_at` it is broken off as by a kill, after `told_at` it is asked to end.

    Returns its callback, or None after a break.
    """
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import TokenStream
    from synpro.lm.callbacks import PretrainCallback

    class Broken(Exception):
        pass

    class Killed(PretrainCallback):
        def post_step(self) -> None:
            super().post_step()
            if self.step == stop_at:
                raise Broken
            if self.step == told_at:
                os.kill(os.getpid(), signal.SIGTERM)

    group = init_distributed()
    module = tiny_module(steps=steps, warmup=4)
    if start is not None:
        checkpoint.load(module, start)
    stream = TokenStream(
        lambda n: np.random.default_rng(n).permutation(tokens),
        folder=out / "data",
        sequence_length=LENGTH,
        batch_size=8,
        dtype="uint16",
        is_first=group.is_first,
    )
    callback = Killed(
        logger=StepLogger(out) if group.is_first else None,
        eval_sets={"reference": tokens[:500], "heldout": tokens[500:900]},
        evaluate_every=4,
        log_every=3,
        checkpoint_every=checkpoint_every,
        checkpoints=out / "states",
        keep_best=True,
    )
    try:
        trainer.train(module, stream, callback, steps=steps, work_dir=out / "olmo")
    except (Broken, KeyboardInterrupt):
        callback.writer.wait()  # this process lives on, and what it was writing with it
        return None
    checkpoint.save(module, out / "trainer", {})
    return callback


def same(a: Path, b: Path) -> bool:
    return all(
        (a / "trainer" / n).read_bytes() == (b / "trainer" / n).read_bytes() for n in ("model.safetensors", "optim.safetensors")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, stream_tokens: np.ndarray) -> Path:
    """The folder of an undisturbed training of 8 steps with checkpoints at 3 and 6."""
    out = tmp_path_factory.mktemp("whole")
    run(out, stream_tokens, steps=8, checkpoint_every=3)
    return out


def test_equal_runs_write_equal_bytes_and_a_killed_one_ends_in_the_same_state(
    whole: Path, tmp_path: Path, stream_tokens: np.ndarray
) -> None:
    run(tmp_path / "b", stream_tokens, steps=8, checkpoint_every=3)
    assert same(whole, tmp_path / "b")
    # Killed between the two checkpoints, and again after the second.
    for stop in (5, 7):
        run(tmp_path / "c", stream_tokens, steps=8, checkpoint_every=3, stop_at=stop)
        newest = max((tmp_path / "c" / "states").iterdir())
        StepLogger(tmp_path / "c").truncate({"step": int(newest.name.removeprefix("step-"))})
    run(tmp_path / "c", stream_tokens, steps=8, checkpoint_every=3)
    assert same(whole, tmp_path / "c")
    assert (whole / "metrics.jsonl").read_text() == (tmp_path / "c" / "metrics.jsonl").read_text()


def test_a_run_that_is_asked_to_end_keeps_the_step_it_is_at(whole: Path, tmp_path: Path, stream_tokens: np.ndarray) -> None:
    run(tmp_path / "b", stream_tokens, steps=8, checkpoint_every=3, told_at=5)
    assert [p.name for p in (tmp_path / "b" / "states").iterdir()] == ["step-00000005"]
    StepLogger(tmp_path / "b").truncate({"step": 5})
    run(tmp_path / "b", stream_tokens, steps=8, checkpoint_every=3)
    assert same(whole, tmp_path / "b")
    assert (whole / "metrics.jsonl").read_text() == (tmp_path / "b" / "metrics.jsonl").read_text()


def test_what_is_saved_beside_training_is_what_was_there_and_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    from synpro.lm import checkpoint

    module, writer, order = tiny_module(), checkpoint.CheckpointWriter(), list[str]()
    checkpoint.save(module, tmp_path / "now", {"step": 1})
    started, go_on = Event(), Event()

    def first() -> None:
        order.append("first")
        started.set()
        go_on.wait(30)

    writer.save(module, tmp_path / "beside", {"step": 1}, then=first)
    assert started.wait(30)
    Timer(0.2, go_on.set).start()
    with torch.no_grad():
        for weight in module.model.parameters():
            weight.add_(1.0)
    writer.save(module, tmp_path / "later", {"step": 2}, then=lambda: order.append("second"))
    assert order[0] == "first" and go_on.is_set(), "one at a time"
    writer.wait()
    assert order == ["first", "second"]
    for name in ("model.safetensors", "optim.safetensors", "state.json"):
        assert (tmp_path / "beside" / name).read_bytes() == (tmp_path / "now" / name).read_bytes()
    assert (tmp_path / "later" / "model.safetensors").read_bytes() != (tmp_path / "now" / "model.safetensors").read_bytes()
    (tmp_path / "file").write_text("no folder")
    writer.save(module, tmp_path / "file" / "state", {}, then=lambda: order.append("third"))
    with pytest.raises(OSError):
        writer.wait()
    assert len(order) == 2


def test_rows_tell_losses_and_rate(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    measured = [r for r in rows if "reference_loss" in r]
    trained = [r for r in rows if "train_loss" in r]
    assert [r["step"] for r in measured] == [0, 4, 8]
    assert [r["step"] for r in trained] == [3, 6, 8]
    assert [r["tokens"] for r in trained] == [r["step"] * 8 * LENGTH for r in trained]
    assert trained[0]["lr"] == pytest.approx(3e-3 * 3 / 4) and trained[-1]["lr"] == 3e-3
    assert measured[-1]["reference_loss"] < measured[0]["reference_loss"]


def test_continuing_keeps_weights_and_optimizer(whole: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from synpro.lm import checkpoint

    module = tiny_module()
    checkpoint.load(module, whole / "trainer")
    checkpoint.save(module, tmp_path / "b" / "trainer", {})
    assert same(whole, tmp_path / "b")
    moments = load_file(whole / "trainer" / "optim.safetensors")
    assert all(float(moments[name]) == 8 for name in moments if name.endswith(".step"))
    decays = {g["weight_decay"]: len(g["params"]) for g in module.optim.param_groups}
    assert decays[0.0] == 1, "the embeddings alone are not decayed"


def test_a_checkpoint_of_another_model_is_refused(whole: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from synpro.lm import checkpoint

    shutil.copytree(whole / "trainer", tmp_path / "trainer")
    file = tmp_path / "trainer" / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.w_out.weight"] = tensors["lm_head.w_out.weight"][:-64].clone()
    save_file(tensors, file)
    with pytest.raises(ValueError, match=r"another model.*lm_head\.w_out\.weight"):
        checkpoint.load(tiny_module(), tmp_path / "trainer")


def turn_rope(folder: Path) -> Path:
    """Change a setting that the weights do not show."""
    body = json.loads((folder / "config.json").read_text())
    body["rope_parameters"]["rope_theta"] = 10_000
    (folder / "config.json").write_text(json.dumps(body))
    return folder


def test_exported_logits_are_the_trained_ones_to_the_last_bit(
    whole: Path, tmp_path: Path, tokenizer_folder: Path, special_ids: tuple[int, int], stream_tokens: np.ndarray, monkeypatch
) -> None:
    from transformers import AutoTokenizer

    from synpro.lm import checkpoint

    module = tiny_module()
    checkpoint.load(module, whole / "trainer")
    eos, pad = special_ids
    checkpoint.export(module, tmp_path / "hf", model=TINY, tokenizer=tokenizer_folder, context=LENGTH, eos=eos, pad=pad)
    ids = torch.from_numpy(stream_tokens[: 3 * LENGTH].astype(np.int64)).reshape(3, LENGTH)
    assert checkpoint.max_logit_difference(module.model, tmp_path / "hf", ids) == 0.0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (eos, pad)

    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "hf" / "model.safetensors")
    weights["model.norm.weight"] *= 1.01
    save_file(weights, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    assert checkpoint.max_logit_difference(module.model, tmp_path / "hf", ids) > 0.0
    with monkeypatch.context() as other_processor:
        other_processor.setattr(checkpoint, "max_logit_difference", lambda *given: 1e-6)
        checkpoint.export(module, tmp_path / "hf", model=TINY, tokenizer=tokenizer_folder, context=LENGTH, eos=eos, pad=pad)
    with pytest.raises(RuntimeError, match="gives other logits"):
        complete = checkpoint._complete_config
        monkeypatch.setattr(checkpoint, "_complete_config", lambda folder, **ids: complete(turn_rope(folder), **ids))
        checkpoint.export(module, tmp_path / "hf", model=TINY, tokenizer=tokenizer_folder, context=LENGTH, eos=eos, pad=pad)


def test_a_plateau_ends_training(tmp_path: Path, stream_tokens: np.ndarray) -> None:
    from synpro.lm import trainer
    from synpro.lm.batches import TokenStream
    from synpro.lm.callbacks import PretrainCallback

    stream = TokenStream(
        lambda n: stream_tokens, folder=tmp_path / "data", sequence_length=LENGTH, batch_size=8, dtype="uint16"
    )
    callback = PretrainCallback(
        eval_sets={"reference": stream_tokens[:500]},
        evaluate_every=2,
        plateau=PlateauConfig(improvement=5.0, patience=2, min_points=3),
    )
    done = trainer.train(tiny_module(), stream, callback, steps=200, work_dir=tmp_path / "olmo")
    assert done.steps < 40
    assert done.stop_reason is not None and "surely less than 5.0" in done.stop_reason
    callback.points.append((10**6, float("nan")))
    callback._stop_early()
    assert callback.diverged and callback.stop_reason.startswith("training has diverged"), "the best state can be kept"


def test_the_rate_falls_to_nothing_over_the_anneal() -> None:
    from synpro.lm.trainer import lr_schedule

    rates = lr_schedule(warmup_steps=10, steps=100, decay_fraction=0.2)
    assert [float(rates.get_lr(1.0, s, 100)) for s in (5, 10, 79, 90, 100)] == pytest.approx([0.5, 1, 1, 0.5, 0])
    constant = lr_schedule(warmup_steps=0, steps=100, decay_fraction=0.0)
    assert {float(constant.get_lr(1.0, s, 100)) for s in range(1, 101)} == {1.0}


@pytest.mark.parametrize("batch", [7, 12])
def test_a_batch_that_does_not_divide_is_refused(batch: int) -> None:
    with pytest.raises(ValueError, match=r"multiple of processes x hardware\.micro_batch_size"):
        tiny_module(batch=batch + 1 if batch == 12 else batch)


def test_the_best_state_is_kept_through_a_kill(tmp_path: Path, stream_tokens: np.ndarray, monkeypatch) -> None:
    from synpro.lm import callbacks, checkpoint

    losses = iter([])
    monkeypatch.setattr(callbacks, "packed_loss", lambda *_, **__: next(losses))
    measured = [9.0, 9.0, 4.0, 4.0, 6.0, 6.0, 7.0, 7.0]  # reference and held-out at steps 0, 4, 8, 12
    losses = iter(measured)
    whole = run(tmp_path / "a", stream_tokens, steps=12, checkpoint_every=5)
    losses = iter(measured[:4])
    run(tmp_path / "b", stream_tokens, steps=12, checkpoint_every=5, stop_at=7)
    assert [p.name for p in (tmp_path / "b" / "states").iterdir()] == ["step-00000005"]
    losses = iter(measured[4:])
    resumed = run(tmp_path / "b", stream_tokens, steps=12, checkpoint_every=5)
    assert (whole.best_step, resumed.best_step, whole.best["reference"], whole.latest["reference"]) == (4, 4, 4.0, 7.0)
    losses = iter(measured[:4])
    run(tmp_path / "c", stream_tokens, steps=4)
    checkpoint.write(tmp_path / "a" / "trainer", whole.best_state, {})
    checkpoint.write(tmp_path / "b" / "trainer", resumed.best_state, {})
    assert same(tmp_path / "a", tmp_path / "c") and same(tmp_path / "b", tmp_path / "c"), "the state after 4 steps"
    losses = iter([9.0, 9.0, 8.0, 8.0])
    assert run(tmp_path / "d", stream_tokens, steps=4).best_state is None, "the last state is the best"


def test_what_is_resumed_from_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synpro.lm import checkpoint

    synced, kept = set(), set[bool]()

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        kept.add((tmp_path / "step-1").exists())

    monkeypatch.setattr(os, "fsync", fsync)
    replace, renamed = Path.replace, list[str]()

    def rename(draft: Path, target: Path) -> Path:
        assert {p.stat().st_ino for p in (draft, *draft.rglob("*")) if p.is_file()} <= synced
        renamed.append(target.name)
        return replace(draft, target)

    monkeypatch.setattr(Path, "replace", rename)
    monkeypatch.setattr(Path, "rename", rename)
    ChunkStore(tmp_path / "chunks").save("answers", 3, "key", [{"a": 1}])
    write_json(tmp_path / "result.json", {})
    checkpoint.write(tmp_path / "step-1", state := checkpoint.Snapshot({"w": torch.ones(2)}, {}), {}, best=state)
    assert renamed == ["000003.answers.json", "result.json", "step-1"]
    kept.clear()
    checkpoint.write(tmp_path / "step-1", state, {})
    assert kept == {True}, "the only checkpoint goes when the next one is whole"


def test_drafts_that_a_kill_left_are_no_checkpoints(tmp_path: Path) -> None:
    from synpro.lm.callbacks import _delete_all_but_newest

    for name in ("step-00000100", "step-00000150", "step-00000200.tmp"):
        (tmp_path / name).mkdir()
    _delete_all_but_newest(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000150"]


def test_a_machine_without_a_compiler_trains_and_says_so(monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    from torch._inductor import cpp_builder, exc

    def missing() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    module = tiny_module(compile=True)
    assert not module.model.compile_enabled and "install g++" in caplog.text
