"""Memory of `train_generator` and `synthesize` over corpora of more and more passages of 7,000 characters.

    python -m benchmarks.long_passages --counts 1000 10000 100000

Answers are scripted and the verifier believes everything, so that what is measured is the stages themselves: the corpus, the
prompts, the rules, the chunks and the files. `synthesize` holds one block, 4,096 passages. `train_generator` is a training of
300 steps of 16 passages up to its first step. `--without-rules` leaves out the rules of synthesis, most of the time, which hold
nothing.
Exit code 1 when the memory of a stage grows by more than 15% over the second half of the counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from synpro.corpus.store import PASSAGES, write_rows
from synpro.engines.scripted import ScriptedConfig
from synpro.judges.base import JudgesConfig, Support, Verdict
from synpro.judges.registry import JudgePool
from synpro.operations.base import OperationConfig
from synpro.records import Corpus, Generator, TrainedVerifier, decode, encode
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import RULES, FilterConfig
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext

ROOT = Path(__file__).parents[1]
STAGES = ("train_generator", "synthesize")
CHARACTERS, ANSWER = 7000, 4000
GROWTH = 1.15


def make_corpus(folder: Path, count: int) -> Corpus:
    """Passages that are stretches of one made-up text, ten to a document."""
    from benchmarks.gpu_shapes import save_tokenizer, words

    text, last = words(0, 1_000_000), 1_000_000 - CHARACTERS
    rows = (
        {
            "id": f"d{i // 10}#{i % 10:04d}",
            "document": f"d{i // 10}",
            "index": i % 10,
            "start": i % 10 * CHARACTERS,
            "end": (i % 10 + 1) * CHARACTERS,
            "text": text[(at := i * 7919 % last) : at + CHARACTERS],
        }
        for i in range(count)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "passages.parquet", PASSAGES, rows)
    tokenizer = save_tokenizer(folder / "tokenizer")
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    return Corpus(folder, 3072, eos, pad, "uint16", {"train": count // 10}, {}, count, f"{count} passages")


class Believer:
    """A verifier that believes everything."""

    def knows(self, passage: str) -> bool:
        return True

    def check(self, claims: list[str], passages: list[str]) -> list[Verdict]:
        return [Verdict("faithful", 0.75, Support(p[:80], 0, 80)) for p in passages]

    def close(self) -> None: ...


def run_stage(stage: str, chunk_size: int, folder: Path, rules: bool) -> None:
    """Run one stage in this process and print what it took."""
    from benchmarks.gpu_shapes import TINY, olmo2, save_model, words
    from synpro.grpo.trl import GRPORun
    from synpro.stages import synthesize as synthesis
    from synpro.stages import train_generator as training

    corpus = decode(json.loads((folder / "corpus.json").read_text()), folder)
    assert isinstance(corpus, Corpus)
    JudgePool.verifier = Believer()  # type: ignore[assignment,method-assign]
    operation = OperationConfig("rephrase", weights={"length": 1.0, "format": 1.0}, max_new_tokens=2048)
    verifier = TrainedVerifier(folder, "none", "believer")
    scoring = Scoring(RubricConfig(), JudgesConfig(), None, verifier, FilterConfig())
    ctx, before = StepContext.local(folder / stage, 7), peak_mib()
    began = time.monotonic()
    if not rules:
        RULES.clear()
    if stage == "synthesize":
        answers = tuple(f"Rephrased:\n{words(seed, ANSWER)}" for seed in range(1, 40))
        shard = synthesis.synthesize(
            synthesis.SynthesizeConfig(engine=ScriptedConfig(answers=answers), chunk_size=chunk_size),
            operation=operation,
            scoring=scoring,
            corpus=corpus,
            generator=Generator("rephrase", "hf:some/model", None, None, 1, "scripted"),
            round=1,
            ctx=ctx,
        )
        done = {"kept": shard.kept}
    else:
        import torch

        base = save_model(folder / "base", olmo2(TINY, 8192), torch.float32)
        GRPORun.train = lambda *_: None  # type: ignore[method-assign]
        training.preflight = lambda *_: []  # random weights keep no form
        training.train_generator(
            training.TrainGeneratorConfig(
                base=str(base),
                dtype="float32",
                num_generations=2,
                micro_batch_size=1,
                validation_passages=4,
                beta=0.0,
            ),
            operation=replace(operation, max_new_tokens=8),
            scoring=scoring,
            corpus=corpus,
            start=None,
            round=1,
            ctx=ctx,
        )
        done = {"kept": 300 * 16}
    print(json.dumps({"seconds": time.monotonic() - began, "mib": peak_mib(), "before": before, **done}))


def peak_mib() -> float:
    """Memory of this process at its largest; `getrusage` would count that of the process it was started by."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--chunk-size", type=int, default=1024, help="synthesize.chunk_size, in passages")
    parser.add_argument("--stage", choices=STAGES, action="append", help="this stage; default both")
    parser.add_argument("--without-rules", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.folder:
        run_stage(a.stage[0], a.chunk_size, a.folder, not a.without_rules)
        return
    grown = False
    print("| stage | passages | MiB at its largest | before it began | seconds |\n|---|--:|--:|--:|--:|")
    for stage in a.stage or STAGES:
        peaks = []
        for count in a.counts:
            with tempfile.TemporaryDirectory() as folder:
                corpus = make_corpus(Path(folder) / "prepare", count)
                (Path(folder) / "corpus.json").write_text(json.dumps(encode(corpus, Path(folder))))
                argv = [sys.executable, "-m", "benchmarks.long_passages", "--chunk-size", str(a.chunk_size), "--stage", stage]
                argv += ["--without-rules"] if a.without_rules else []
                done = subprocess.run([*argv, "--folder", folder], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            peaks.append(row["mib"])
            print(f"| {stage} | {count:,} | {row['mib']:,.0f} | {row['before']:,.0f} | {row['seconds']:.0f} |", flush=True)
        grown |= peaks[-1] > GROWTH * peaks[len(peaks) // 2]
    sys.exit(grown)


if __name__ == "__main__":
    main()
