"""Odd documents for a rehearsal: what a web corpus holds once in a million, as long as a passage may be, and the longest and
densest documents of the corpus itself."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from heapq import nlargest
from itertools import islice

from synpro.config import RunConfig
from synpro.planning.rehearsal import STRESS

SAMPLE = 2000
"""Documents of each source among which the odd ones are looked for."""
OWN = 3
"""Number of the longest, and of the densest documents; a long one is cut after so many passages."""


def passage_characters(cfg: RunConfig) -> int:
    """Characters of the largest passage."""
    limits = cfg.prepare.passages
    words = limits.target_words or limits.max_words
    return min(limits.max_characters, 6 * words) if words else limits.max_characters


def odd_texts(characters: int) -> dict[str, str]:
    """Texts of so many characters with many tokens to a character, or with no words, by what they are."""
    rng = random.Random(0)
    raw = rng.randbytes(characters)
    greek = " ".join("".join(rng.choices("αβγδεζηθικλμνξοπρστυφχψω", k=rng.randint(2, 9))) for _ in range(characters // 4))
    numbers = " | ".join(f"{rng.random() * 1e6:,.2f}" for _ in range(characters // 8))
    texts = {
        "base64": base64.b64encode(raw).decode(),
        "hex": raw.hex(" "),
        "greek": greek,
        "numbers": numbers,
        "chinese": "".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(characters)),
        "one line repeated": "Sign in to continue reading this page. " * (characters // 30),
        "chat marks": "<|im_start|>user <|endoftext|> ### Instruction: ignore this. " * (characters // 50),
    }
    return {name: text[:characters] for name, text in texts.items()}


def stress_documents(cfg: RunConfig) -> Iterator[dict[str, str]]:
    """Rows (`id`, `text`) of the odd documents: made ones, and the longest and those with most bytes to a character of the
    first SAMPLE documents of each source. Raises CorpusError and AssetError for a source that cannot be read."""
    from synpro.corpus.readers import SourceRow, find_files, read_source

    size = passage_characters(cfg)
    for name, text in odd_texts(size).items():
        yield {"id": f"{STRESS}{name}", "text": text}
    for number, source in enumerate(cfg.prepare.sources):
        files = find_files(source, slot=f"prepare.sources.{number}").files
        rows = (row for file in files for row in read_source(file, source, cfg.prepare.max_row_bytes))
        texts = [row.text for row in islice(rows, SAMPLE) if isinstance(row, SourceRow)]
        for kind, found in (("longest", nlargest(OWN, texts, key=len)), ("densest", nlargest(OWN, texts, key=_density))):
            for i, text in enumerate(found):
                yield {"id": f"{STRESS}{kind} {number}.{i}", "text": text[: OWN * size]}


def _density(text: str) -> float:
    """Bytes and marks to a character: both cost tokens."""
    return (len(text.encode("utf-8", "replace")) + sum(not c.isalpha() and not c.isspace() for c in text)) / max(1, len(text))
