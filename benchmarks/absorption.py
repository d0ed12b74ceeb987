"""What models of a comparison have absorbed of its training text (`stages/absorption.py`), without a step of their own.

    python -m benchmarks.absorption runs/compare tune/u1/trial-00 tune/u1/trial-01 --out absorption.json

Models are named by their steps (`STEP/pretrain`); seeds of the same settings can be joined by commas. `--texts` names the shard
of texts that none was trained on: `text/prompt-only/round-01/synthesize-rephrase` for models of organic text. All are
compared with the first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from synpro.compare.summary import absorption_numbers
from synpro.records import Absorption, Checkpoint, Corpus, Shard, decode
from synpro.runner.artifacts import read_json
from synpro.runner.context import StepContext
from synpro.stages.absorption import AbsorptionConfig, absorb


def record(root: Path, step: str) -> Any:
    return decode(read_json(root / step / "result.json")["record"], root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("models", nargs="+", help="STEP[,STEP...]: seeds of one setting, joined by commas")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", default="corpus/u1/prepare", help="the step whose train split is asked about")
    parser.add_argument("--texts", type=Path, help="folder of a shard that no model was trained on")
    parser.add_argument("--texts-corpus", help="the step whose passages those texts say again (default: --corpus)")
    parser.add_argument("--items", type=int, default=500)
    arguments = parser.parse_args()
    root = arguments.run.resolve()
    corpus: Corpus = record(root, arguments.corpus)
    wide: Corpus = record(root, arguments.texts_corpus or arguments.corpus)
    shard: Shard | None = record(arguments.texts.resolve(), ".") if arguments.texts else None
    if shard is not None:
        shard = Shard(**{**vars(shard), "dir": arguments.texts.resolve()})
    found: dict[str, dict[int, Absorption]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for group in arguments.models:
            for seed, step in enumerate(group.split(",")):
                model: Checkpoint = record(root, f"{step.removesuffix('/pretrain')}/pretrain")
                ctx = StepContext.local(Path(folder) / step, 0)
                given = {"corpus": corpus, "model": model, "held_back": shard, "written_from": wide, "ctx": ctx}
                found.setdefault(group, {})[seed] = absorb(AbsorptionConfig(max_items=arguments.items), **given)
        first = next(iter(found.values()))
        numbers = {name: absorption_numbers(some, first if some is not first else None) for name, some in found.items()}
    arguments.out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    for name, body in numbers.items():
        for what in ("cloze", "loss"):
            for kind, row in body[what].items():
                print(f"{name}  {what} {kind}: {row['mean']:.4f} [{row['low']:.4f}, {row['high']:.4f}]")


if __name__ == "__main__":
    main()
