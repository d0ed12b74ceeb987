"""One vector per text, for the collapse watch: the mean of the encoder's token embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synpro.judges.base import JudgesConfig


def embed(judges: JudgesConfig, texts: Sequence[str]) -> np.ndarray:
    """Mean token embeddings, `(N, D)` float32, of the last layer of `judges.encoder`; a text without tokens gets zeros. Opens
    the encoder and closes it."""
    from synpro.assets import model_folder
    from synpro.judges.encoder import BertScoreEncoder

    cfg = judges.encoder
    encoder = BertScoreEncoder(model_folder(cfg.model, slot="judges.encoder"))
    try:
        return np.stack([e.sum(dim=0).numpy() / max(1, len(e)) for e in encoder.embed(list(texts))]).astype(np.float32)
    finally:
        encoder.close()


def write_embeddings(path: Path, judges: JudgesConfig, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write rows (id, text, source) as a Parquet table of `id` and the vectors of `text` and `source`, by rename."""
    import pyarrow as pa

    from synpro.corpus.store import write_rows

    vector = pa.list_(pa.float32())
    vectors = embed(judges, [t for _, text, source in rows for t in (text, source)]).tolist() if rows else []
    schema = pa.schema([("id", pa.string()), ("text", vector), ("source", vector)])
    write_rows(path, schema, ({"id": r[0], "text": vectors[2 * i], "source": vectors[2 * i + 1]} for i, r in enumerate(rows)))
