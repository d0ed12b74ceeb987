"""A corpus of passages for tests of the verifier: those that were written by hand to train it, each a document."""

from __future__ import annotations

import json
from pathlib import Path

from synpro.records import Corpus


def passage_corpus(folder: Path) -> Corpus:
    """As `prepare` writes it, as far as the verifier reads it."""
    from synpro.corpus.store import PASSAGES, write_rows
    from synpro.faithfulness.handwritten_claims import FILE

    texts = [t["passage"] for t in json.loads(FILE.read_text(encoding="utf-8")) if t["use"] != "test"]
    rows = [
        {"id": f"d{i}#0000", "document": f"d{i}", "index": 0, "start": 0, "end": len(t), "text": t} for i, t in enumerate(texts)
    ]
    write_rows(folder / "passages.parquet", PASSAGES, rows)
    return Corpus(folder, 300, 0, 1, "uint16", {"train": len(rows)}, {}, len(rows), "passages")
