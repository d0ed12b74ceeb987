"""How often the judges of layout agree with the 200 labelled pairs of layout_pairs.py, and with each other.

    python -m benchmarks.layout_agreement
    python -m benchmarks.layout_agreement --model hf:Qwen/Qwen3-4B
    python -m benchmarks.layout_agreement --model Qwen/Qwen3-4B --url http://127.0.0.1:8000/v1
    python -m benchmarks.layout_agreement --passages runs/tiny/round-00/prepare/passages.parquet

The rules (judges/layout_rules.py) always; with `--model` also a language model by reference (judges/layout_llm.py). Prints, for
each judge, the share of pairs it labels right and Cohen's kappa, over all pairs and by kind of layout, then the two judges
against each other. `--passages` takes pairs from a corpus instead, which nobody wrote for the purpose: each passage of several
blocks against itself wrapped at 72 characters (kept) and against itself run together (not kept).
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.layout_pairs import LayoutPair, layout_pairs
from synpro.engines.openai import OpenAIConfig
from synpro.judges.base import JudgesConfig, LayoutJudge, LayoutModelConfig
from synpro.judges.layout_rules import RuleLayout

KEPT_THRESHOLD = 0.75
"""Agreement of two layouts from which the rules count one as kept."""


def verdicts(judge: LayoutJudge, pairs: Sequence[LayoutPair], threshold: float) -> list[bool]:
    """Kept, yes or no, by a judge's value and a threshold."""
    return [value >= threshold for value in judge.compare([(p.source, p.output) for p in pairs])]


def corpus_pairs(file: Path) -> list[LayoutPair]:
    """Two pairs for each passage of at least two blocks in a `passages.parquet`."""
    from synpro.corpus.store import read_rows

    pairs = []
    for row in read_rows(file, ["id", "text"]):
        text = row["text"].strip()
        if "\n\n" in text:
            wrapped = "\n".join(textwrap.fill(line, 72) for line in text.split("\n"))
            pairs.append(LayoutPair(row["id"], "wrapped at 72", "wrapped", True, text, wrapped))
            pairs.append(LayoutPair(row["id"], "run together", "run together", False, text, " ".join(text.split())))
    return pairs


@dataclass(frozen=True)
class Agreement:
    """Two lists of verdicts on the same items, compared."""

    items: int
    accuracy: float
    """Share of items with the same verdict, 0 to 1."""
    kappa: float
    """Cohen's kappa (1960), agreement beyond chance: 1 for full agreement, 0 for chance or when one side never varies."""


def agreement(one: Sequence[bool], other: Sequence[bool]) -> Agreement:
    """Agreement of two lists of verdicts. Raises ValueError for lists of unequal length and for empty ones."""
    if not one:
        raise ValueError("there are no verdicts to compare")
    n = len(one)
    same = sum(a == b for a, b in zip(one, other, strict=True)) / n
    yes = sum(one) / n, sum(other) / n
    chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    return Agreement(n, same, (same - chance) / (1 - chance) if chance < 1 else 0.0)


def table(found: dict[str, list[bool]], pairs: Sequence[LayoutPair]) -> list[str]:
    """Lines of a Markdown table: a row per kind, and for each judge accuracy and kappa against the labels."""
    labels = [p.kept for p in pairs]
    lines = ["| layout of the source | pairs |" + "".join(f" {name}: right | kappa |" for name in found)]
    lines.append("|---|--:|" + "--:|--:|" * len(found))
    for kind in [*dict.fromkeys(p.kind for p in pairs), "all"]:
        rows = [i for i, p in enumerate(pairs) if kind in (p.kind, "all")]
        cells = []
        for given in found.values():
            a = agreement([given[i] for i in rows], [labels[i] for i in rows])
            cells.append(f" {a.accuracy:.3f} | {a.kappa:.2f} |")
        lines.append(f"| {kind} | {len(rows)} |" + "".join(cells))
    return lines


def mistakes(given: Sequence[bool], pairs: Sequence[LayoutPair]) -> list[str]:
    """One line for each pair a judge labels wrong."""
    wrong = [p for p, verdict in zip(pairs, given, strict=True) if verdict != p.kept]
    return [f"{p.id}: {p.change}; labelled {'kept' if p.kept else 'not kept'}" for p in wrong]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a language model: hf:, wheel:, a folder; with --url, what the server calls it")
    parser.add_argument("--url", help="of an OpenAI-compatible server that has the model, for example http://HOST:PORT/v1")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="probability of yes from which the model's answer counts as yes"
    )
    parser.add_argument(
        "--passages", type=Path, help="passages.parquet of a run: pairs from its texts instead of those of layout_pairs.py"
    )
    parser.add_argument("--mistakes", action="store_true", help="also list the pairs a judge labels wrong")
    arguments = parser.parse_args()
    pairs = corpus_pairs(arguments.passages) if arguments.passages else [*layout_pairs()]
    found = {"rules": verdicts(RuleLayout(), pairs, KEPT_THRESHOLD)}
    if arguments.model:
        from synpro.judges.registry import JudgePool

        where = {"engine": OpenAIConfig(url=arguments.url)} if arguments.url else {}
        judges = JudgePool(JudgesConfig(layout="llm", layout_model=LayoutModelConfig(arguments.model, **where)))
        try:
            found["model"] = verdicts(judges.layout, pairs, arguments.threshold)
        finally:
            judges.close()
    print("\n".join(table(found, pairs)))
    for name, given in found.items():
        print(f"\n{name}: says kept for {sum(given)} of {len(pairs)}; labels: {sum(p.kept for p in pairs)}")
        if arguments.mistakes:
            print("\n".join(mistakes(given, pairs)))
    if len(found) == 2:
        both = agreement(*found.values())
        print(f"\nrules and model: the same verdict on {both.accuracy:.3f} of the pairs, kappa {both.kappa:.2f}")


if __name__ == "__main__":
    main()
