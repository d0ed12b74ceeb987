"""Time of the functions that touch one text, over its size: the exponent of seconds in characters, 1 for linear time.

    python -m benchmarks.linear_time [--largest 20000000] [FUNCTION ...]

Each function gets texts of one kind, from 10 kB on doubled until `--largest` or until one call takes `--seconds`. The exponent
is the slope of log seconds (of a processor) in log size over the upper half of the sizes. Ends with a table of the worst of
each function, and exits with 1 where an exponent is above 1.2.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from random import Random

import numpy as np

from synpro.audit.exploits import keywords
from synpro.corpus.contamination import BenchmarkIndex, BenchmarkItem
from synpro.corpus.passages import PassageConfig, passage_spans
from synpro.corpus.tokens import TokenizerConfig, train_tokenizer
from synpro.corpus.wikitext import strip_markup
from synpro.faithfulness import evidence
from synpro.faithfulness.claims import make_claims
from synpro.faithfulness.corruptions import CORRUPTIONS, CorruptionContext, corrupt, find_names
from synpro.faithfulness.parsed_text import ParsedText
from synpro.judges.dataman import clean
from synpro.judges.layout_rules import count_layout
from synpro.judges.text_stats import max_block_lcs, overlap, repetition_ratio, well_formed
from synpro.language.identification import known_language, other_language
from synpro.language.segmentation import count_words, sentence_spans, words
from synpro.measure.collapse import mean_surprisal, variety
from synpro.operations.base import parse_completion, quote
from synpro.operations.registry import OPERATIONS
from synpro.records import Completion, Passage
from synpro.rewards.filters import RULES as FILTERS
from synpro.rewards.filters import FilterConfig, Sample

LIMIT = 1.2
SENTENCE = "The mill by the river ground rye for {} villages until 1911, and then it stood still. "
KINDS: dict[str, Callable[[int], str]] = {
    "prose": lambda size: "".join(SENTENCE.format(i) + ("\n\n" if i % 5 == 0 else "") for i in range(size // 80))[:size],
    "full stops": lambda size: "." * size,
    "one word": lambda size: "a" * size,
    "Chinese": lambda size: ("老磨坊在河边，它为村民磨黑麦。" * (size // 15 + 1))[:size],
    "Thai": lambda size: ("โรงสีเก่าขนข้าวไปยังแม่น้ำ" * (size // 26 + 1))[:size],
    "short lines": lambda size: "a\n" * (size // 2),
    "spaces": lambda size: " " * size,
    "open tags": lambda size: "<ref><b>, " * (size // 10),
    "nested brackets": lambda size: "(" * (size // 2) + ")" * (size // 2),
    "abbreviations": lambda size: ("Mr. A. No. 5 3. Mai " * (size // 20 + 1))[:size],
    "open templates": lambda size: ("{{{a|{{b|" * (size // 9 + 1))[:size],
    "open links": lambda size: ("[[File:a|thumb|[mailto:a " * (size // 25 + 1))[:size],
    "many tags": lambda size: "".join(f"<a{i:05}>" for i in range(size // 8)),
    "digit chain": lambda size: ("7" * 9 + ",") * (size // 10),
    "brackets": lambda size: ('[1]\n{a\n"(' * (size // 9 + 1))[:size],
}
CONFIG = PassageConfig(max_words=80, target_words=60)
INDEX = BenchmarkIndex(
    [BenchmarkItem("task", str(i), SENTENCE.format(i) + "Rye needs cold winters and poor sand.") for i in range(9)]
)
RULES = [rule for name, rule in vars(evidence).items() if name in (
    "unknown_numbers", "unknown_names", "unknown_words", "wrong_units", "denials", "swapped_quantifiers", "hedges", "opposites",
    "swapped_order", "displaced", "swapped_causes",
)]  # fmt: skip
OPERATION = OPERATIONS["rephrase"]()


def passage(text: str) -> Passage:
    return Passage("d#0000", "d", 0, 0, len(text), text)


def compare(text: str) -> None:
    """Every rule of evidence, a text against its second half and what has words of its own."""
    half = len(text) // 2
    one, other = ParsedText(text), ParsedText(text[half:] + text[:half][::-1])
    for rule in RULES:
        rule(one, other)


def judge_by_rules(text: str) -> None:
    """What synthesis looks at in an answer before any judge, and what it asks for."""
    answered = parse_completion(OPERATION, passage(text), Completion(f"Rephrased:\n{text[len(text) // 3 :]}", 9, "stop"))
    for rule in FILTERS.values():
        rule(Sample(answered, OPERATION.config), FilterConfig())
    OPERATION.prompt(passage(text))


def measure(text: str) -> None:
    """Measures of collapse."""
    variety([text], [text[len(text) // 3 :]], keys=["a"], earlier={"a": [text]})
    mean_surprisal([text], {"mill": 3, "the": 9})


def parse_all(text: str) -> None:
    """An answer of every operation."""
    for operation in (kind() for kind in OPERATIONS.values()):
        parse_completion(operation, passage("A mill."), Completion("\n".join((*operation.headings, text)), 9, "stop"))
        parse_completion(operation, passage("A mill."), Completion(operation.render(text), 9, "stop"))


def corrupt_all(text: str) -> None:
    """Every corruption by rule, and the names that they look for."""
    for kind in CORRUPTIONS:
        corrupt(kind, text, CorruptionContext(text, [SENTENCE], find_names(SENTENCE)), Random(1))


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "words": words,
    "count_words": count_words,
    "sentence_spans": sentence_spans,
    "passage_spans": lambda text: passage_spans(text, CONFIG),
    "known_language": known_language,
    "other_language": lambda text: other_language(text, text[: len(text) // 2]),
    "overlap": lambda text: overlap(text, text[len(text) // 3 :]),
    "max_block_lcs": lambda text: max_block_lcs(text, text[len(text) // 3 :]),
    "repetition_ratio": repetition_ratio,
    "well_formed": lambda text: well_formed.__wrapped__(text, "en"),
    "ParsedText": lambda text: ParsedText(text).sentence_of_word,
    "count_layout": count_layout,
    "contaminated": INDEX.contaminated,
    "evidence": compare,
    "make_claims": lambda text: make_claims([passage(text), passage(SENTENCE.format(7))], 0, 60),
    "filters": judge_by_rules,
    "collapse": measure,
    "parse": parse_all,
    "clean": clean,
    "corruptions": corrupt_all,
    "keywords": keywords,
    "strip_markup": strip_markup,
    "train_tokenizer": lambda text: train_tokenizer([text], TokenizerConfig("train", 2048)),
    "quote": lambda text: quote(text, ("Rephrased:",)),
}
"""One line per function that reads a person's text as a whole."""


def exponent(
    function: Callable[[str], object], kind: Callable[[int], str], largest: int, limit: float
) -> tuple[float | None, int, float]:
    """(slope of log seconds in log bytes, bytes of the largest text, its seconds of a processor); no slope where even the
    largest texts take no time to speak of."""
    sizes, seconds = [], []
    size, bytes_each = 10_000, len(kind(999).encode()) / 999
    while True:
        text = kind(round(size / bytes_each))
        start = time.process_time()  # other processes must not look like an exponent
        function(text)
        sizes.append(size)
        seconds.append(time.process_time() - start)
        if seconds[-1] > limit or size >= largest:
            break
        size = min(2 * size, largest)
    pairs = [(math.log(n), math.log(max(s, 1e-6))) for n, s in zip(sizes, seconds, strict=True)]
    told = pairs[next((i for i, s in enumerate(seconds) if s > 0.03), len(pairs)) :]  # shorter calls are all overhead
    if len(told) < 3 and seconds[-1] <= limit:
        return None, sizes[-1], seconds[-1]
    if len(pairs) < 3:
        return math.inf, sizes[-1], seconds[-1]
    told = told[len(told) // 2 :] if len(told) > 5 else told if len(told) > 2 else pairs[-3:]
    return float(np.polyfit(*zip(*told, strict=True), 1)[0]), sizes[-1], seconds[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("functions", nargs="*", default=[])
    parser.add_argument("--largest", type=int, default=20_000_000, help="bytes of the largest text")
    parser.add_argument("--seconds", type=float, default=20.0, help="a call that takes longer ends its row")
    chosen = parser.parse_args()
    worst: dict[str, tuple[float, str, int, str, float]] = {}
    print(f"{'function':<18}{'text':<16}{'exponent':>9}{'bytes':>12}{'seconds':>9}")
    for name, function in FUNCTIONS.items():
        if chosen.functions and name not in chosen.functions:
            continue
        rows = []
        for kind, make in KINDS.items():
            slope, size, took = exponent(function, make, chosen.largest, chosen.seconds)
            rows.append((slope or 0.0, kind, size, took))
            shown = "-" if slope is None else f"{slope:.2f}"
            print(f"{name:<18}{kind:<16}{shown:>9}{size:>12}{took:>9.2f}", flush=True)
        slow = max(rows, key=lambda row: row[3] / row[2])
        worst[name] = (*max(rows)[:2], min(rows, key=lambda row: row[2])[2], slow[1], slow[3] / slow[2] * 1e6)
    head = ("function", "exponent", "text", "every text to, MB", "slowest text", "seconds per MB")
    print("", f"| {' | '.join(head)} |", "|---|--:|---|--:|---|--:|", sep="\n")
    for name, (slope, kind, size, slowest, each) in worst.items():
        print(f"| `{name}` | {slope:.2f} | {kind} | {size / 1e6:.1f} | {slowest} | {each:.1f} |")
    largest = max(row[0] for row in worst.values())
    print(f"largest exponent {largest:.2f}; at most {LIMIT} is asked")
    return int(largest > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
