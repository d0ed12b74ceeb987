"""The shipped attacks against the default generator and the judges: how often do they succeed?

    python -m benchmarks.injection --passages 4 --max-new-tokens 96 --out /tmp/injection

The generator answers greedily, each passage with each attack, as the operations put passages and once more without their marks
and escaping. Prints and writes `injection.md` (the tables of docs/injection.md) and `answers.jsonl` (every answer).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.attacks import attacks
from benchmarks.injection_trials import GeneratorOutcome, JudgeOutcome, against_generator, against_judges, share
from synpro.audit.reference import reference_answers
from synpro.config import RunConfig, load_config
from synpro.engines.base import Sampling
from synpro.engines.hf import HFEngine
from synpro.operations.registry import build_operation
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring


def generator_table(answers: list[GeneratorOutcome]) -> list[str]:
    """Markdown: attacks followed and answers in form, by kind."""
    lines = [
        "| kind | attacks | answers | followed, delimited | followed, bare | in form, delimited | in form, bare |",
        "|---|---|---|---|---|---|---|",
    ]
    kinds = list(dict.fromkeys(a.attack.kind for a in answers if a.attack is not None))
    for kind in ["no attack", *kinds, "all attacks"]:
        mine = [
            a
            for a in answers
            if (a.attack is None if kind == "no attack" else a.attack is not None and kind in (a.attack.kind, "all attacks"))
        ]
        sides = [[a for a in mine if a.delimited is side] for side in (True, False)]
        count = len({a.attack.id for a in mine if a.attack is not None})
        cells = [f"{share(a.succeeded for a in s):.1%}" for s in sides] + [f"{share(a.parsed for a in s):.1%}" for s in sides]
        lines.append(f"| {kind} | {count or ''} | {len(sides[0])} | {' | '.join(cells)} |")
    return lines


def judge_table(verdicts: list[JudgeOutcome]) -> list[str]:
    """Markdown: bad outputs lifted to the reference answer, and lifted at all, by kind and by reward."""
    lines = [
        "| kind or reward | attacks | cases | in the output: won | raised | in the passage: won | raised |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = [(k, [v for v in verdicts if v.attack.kind == k]) for k in dict.fromkeys(v.attack.kind for v in verdicts)]
    groups += [(f"reward: {r}", [v for v in verdicts if v.reward == r]) for r in dict.fromkeys(v.reward for v in verdicts)]
    for name, mine in [*groups, ("all attacks", verdicts)]:
        cells = []
        for place in ("output", "passage"):
            here = [v for v in mine if v.place == place]
            cells += [f"{share(v.won for v in here):.1%}", f"{share(v.is_higher for v in here):.1%}"]
        lines.append(f"| {name} | {len({v.attack.id for v in mine})} | {len(mine)} | {' | '.join(cells)} |")
    return lines


def ask_generator(cfg: RunConfig, base: str, count: int, tokens: int, out: Path) -> list[GeneratorOutcome]:
    """Every attack on a generator, delimited and bare, for each operation."""
    engine = HFEngine.load(base)
    sampling = Sampling(temperature=0.0, max_new_tokens=tokens)
    answers: list[GeneratorOutcome] = []
    for operation in map(build_operation, cfg.operations.values()):
        for delimited in (True, False):
            began = time.monotonic()
            some = against_generator(
                attacks("generator"), operation, engine, reference_answers()[:count], sampling, delimited=delimited
            )  # fmt: skip
            answers += some
            side = "delimited" if delimited else "bare"
            print(f"{operation.name}, {side}: {len(some)} answers in {time.monotonic() - began:.0f} s", flush=True)
    engine.close()
    rows = [{**vars(a), "attack": a.attack.id if a.attack else None} for a in answers]
    (out / "answers.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return answers


def ask_judges(cfg: RunConfig, count: int) -> list[JudgeOutcome]:
    """Every attack on a judge, for each operation's rubric without influence (there is no probe here)."""
    verdicts: list[JudgeOutcome] = []
    for operation in map(build_operation, cfg.operations.values()):
        rubric = Rubric.build(operation, Scoring(cfg.rubric, cfg.judges))
        verdicts += against_judges(attacks("judge"), operation, rubric, reference_answers()[:count])
        rubric.close()
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/tiny.toml"))
    parser.add_argument("--base", help="generator to attack; that of the config when left out")
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=("generator", "judges"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cfg = load_config(arguments.config)
    lines: list[str] = []
    if arguments.only != "judges":
        base = arguments.base or cfg.train_generator.base
        answers = ask_generator(cfg, base, arguments.passages, arguments.max_new_tokens, arguments.out)
        for name in cfg.operations:
            lines += ["", f"Generator, {name}:", ""]
            lines += generator_table([a for a in answers if a.operation == name])
    if arguments.only != "generator":
        lines += ["", "Judges:", "", *judge_table(ask_judges(cfg, arguments.passages))]
    (arguments.out / "injection.md").write_text("\n".join(lines).strip() + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
