"""Every layout of the model over processes trains, stops, resumes and exports. `ddp`: tests/runner/test_torchrun.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synpro.lm.training_config import HardwareConfig
from synpro.records import Corpus, decode, encode
from synpro.runner.context import StepContext
from synpro.runner.process_group import exit_process, final_barrier, init_distributed
from synpro.stages.pretrain import PretrainConfig, pretrain
from tests.lm.conftest import LENGTH
from tests.stages.small_corpus import small_corpus
from tests.stages.small_model import CFG

LAYOUTS = (("fsdp", "float32"), ("fsdp", "bfloat16"), ("hsdp", "bfloat16"))


def stop_and_resume(cfg: PretrainConfig, corpus: Corpus, out: Path) -> str:
    """The digest of a training that is broken off between two checkpoints, and run again."""
    from synpro.lm.callbacks import PretrainCallback

    group, whole = init_distributed(), PretrainCallback.post_step
    ctx = replace(StepContext.local(out, 7), group=group)

    def broken(self: PretrainCallback) -> None:
        whole(self)
        if self.step == 4:
            self.writer.wait()
            raise InterruptedError

    PretrainCallback.post_step = broken  # type: ignore[method-assign]
    try:
        with pytest.raises(InterruptedError):
            pretrain(cfg, corpus=corpus, shards=[], start=None, ctx=ctx)
    finally:
        PretrainCallback.post_step = whole  # type: ignore[method-assign]
    return pretrain(cfg, corpus=corpus, shards=[], start=None, ctx=ctx).digest


def train_all(root: Path) -> None:
    """Every layout: an undisturbed training, and one that is broken off; rank 0 writes the digests."""
    group = init_distributed()
    corpus = decode(json.loads((root / "corpus.json").read_text()), root)
    digests = {}
    for parallel, dtype in LAYOUTS:
        hardware = HardwareConfig(micro_batch_size=4, parallel=parallel, dtype=dtype)  # type: ignore[arg-type]
        cfg, name = replace(CFG, hardware=hardware, max_tokens=5 * 8 * LENGTH, checkpoint_every=3), f"{parallel}-{dtype}"
        ctx = replace(StepContext.local(root / f"{name}-whole", 7), group=group)
        whole = pretrain(cfg, corpus=corpus, shards=[], start=None, ctx=ctx)
        digests[name] = (whole.digest, stop_and_resume(cfg, corpus, root / name), whole.reference_loss)
        rows = [(root / folder / "metrics.jsonl").read_text() for folder in (name, f"{name}-whole")]
        assert rows[0] == rows[1], "the loss of every process is in the row that the kill divided"
    if group.is_first:
        (root / "digests.json").write_text(json.dumps(digests))
    final_barrier(group)


def test_every_layout_stops_resumes_and_exports_on_two_processes(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "corpus")
    (tmp_path / "corpus.json").write_text(json.dumps(encode(corpus, tmp_path)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["--local-addr=127.0.0.1", __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "digests.json").read_text())
    assert set(found) == {f"{parallel}-{dtype}" for parallel, dtype in LAYOUTS}
    for name, (whole, resumed, loss) in found.items():
        assert whole == resumed, name
        assert loss == pytest.approx(found["fsdp-float32"][2], abs=0.02), name


if __name__ == "__main__":  # the two processes of the test above
    train_all(Path(sys.argv[1]))
    exit_process()
