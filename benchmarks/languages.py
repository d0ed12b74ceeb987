"""What the fluency judge says of good and bad text in English, German and Chinese, side by side.

    python -m benchmarks.languages [en] [de] [zh]

Good: paragraphs of `tests/languages` (German, Chinese: translations of each other) and the prose of `audit/reference.toml`
(English). Bad: their words in random order, and their longer words alone. For each kind: quartiles of nats per token of the
default fluency model; the rating from 1 to 5 if the judge is told that it knows the language
(`judges.fluency.languages = ["de"]`), and by default; the share of pairs in which the good text is rated above the bad one.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from typing import ClassVar

from synpro.assets import model_folder
from synpro.audit.exploits import keywords
from synpro.audit.reference import reference_answers
from synpro.judges.base import JudgesConfig
from synpro.judges.fluency import FluencyQuality
from synpro.language.segmentation import words
from tests.languages.texts import PARAGRAPHS

NAMES = {"en": "English", "de": "German", "zh": "Chinese"}


class ReadOnce(FluencyQuality):
    """Reads each text once, whoever asks."""

    NATS: ClassVar[dict[str, float]] = {}

    def losses(self, texts: Sequence[str]) -> list[float]:
        """Mean nats per token of each text."""
        new = [t for t in dict.fromkeys(texts) if t not in self.NATS]
        self.NATS.update(zip(new, super().losses(new), strict=True))
        return [self.NATS[t] for t in texts]


def texts(code: str) -> dict[str, list[str]]:
    """Good texts of a language, and what is made of them."""
    good = PARAGRAPHS.get(code) or [s.source for s in reference_answers() if "\n" not in s.source]
    space, stop = ("", "。") if code == "zh" else (" ", ".")
    rng = random.Random(0)
    shuffled = [space.join(rng.sample(ws, len(ws))) + stop for ws in map(words, good)]
    content = [space.join(keywords(t) if code != "zh" else [w for w in words(t) if len(w) > 1]) + stop for t in good]
    return {"good": good, "shuffled": shuffled, "content words": content}


def quartiles(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.2f}" for v in statistics.quantiles(values, n=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="*", metavar="LANGUAGE", help=f"any of {', '.join(NAMES)}; all where none is named")
    codes = parser.parse_args().codes or list(NAMES)
    if unknown := [code for code in codes if code not in NAMES]:
        parser.error(f"no texts in {', '.join(unknown)}")
    cfg = JudgesConfig().fluency
    folder = model_folder(cfg.model, slot="judges.fluency.model")
    print("| language | text | texts | nats per token | rating if known | by default | good above it |\n" + "|---" * 7 + "|")
    for code in codes:
        judge, own = ReadOnce(folder, languages=cfg.languages), ReadOnce(folder, languages=(code,))
        good: list[float] = []
        for kind, some in texts(code).items():
            sources = texts(code)["good"]
            rated = [r for r in own.rate(some, sources) if r is not None]
            by_default = [r for r in judge.rate(some, sources) if r is not None]
            good = good or rated
            above = statistics.mean(a > b for a, b in zip(good, rated, strict=True))
            shown = f"{statistics.median(by_default):.2f}" if by_default else "None"
            cells = (
                NAMES[code],
                kind,
                len(some),
                quartiles(own.losses(some)),
                quartiles(rated),
                shown,
                "" if kind == "good" else f"{above:.0%}",
            )
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
