"""Exports as token ids by the run's tokenizer, an EOS after each document: arrays for OLMo-core, Megatron-LM and nanotron.

Layouts, all little-endian:
- `olmo`: `tokens.npy`, a headerless array (uint16 below 65,536 ids, else uint32), as OLMo-core's datasets read it.
- `megatron`: `tokens.bin` (uint16, or int32 for 65,500 ids and more) and `tokens.idx`: magic, version, dtype code, numbers of
  sequences and of document bounds, then lengths (int32), byte offsets (int64) and document bounds (int64).
- `nanotron`: `tokens.ds` (uint16 or uint32), `tokens.ds.index` (uint64, the end of each document in tokens) and
  `tokens.ds.metadata` (tokenizer and bytes per token, then the number of tokens), as datatrove writes them.
"""

from __future__ import annotations

import json
import shutil
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from synpro.records import Corpus
from synpro.runner.artifacts import CorruptRun

MEGATRON_UINT16 = 65_500
"""Megatron-LM takes uint16 for smaller vocabularies only."""
MEGATRON_CODES = {"uint16": 8, "int32": 4}
IDS, TOKENIZER = "ids.jsonl", "tokenizer"
"""Ids of the documents, a JSON string in each line, and the folder of the tokenizer."""
MAGIC = b"MMIDIDX\x00\x00"


@dataclass(frozen=True)
class TokenExport:
    """Token files of an export."""

    files: tuple[Path, ...]
    documents: int
    tokens: int
    dtype: str
    vocab_size: int
    eos_id: int
    """The token after each document."""


def _write_array(rows: Iterable[pa.RecordBatch], corpus: Corpus, path: Path, dtype: str) -> tuple[array[int], int]:
    """Write the token ids of all rows to `path`, and those of the documents to IDS: the length of each document in tokens, and
    their sum. Raises CorruptRun for a tokenizer that cannot be read."""
    import numpy as np

    from synpro.corpus.tokens import encode_documents, load_tokenizer

    try:
        tokenizer, lengths = load_tokenizer(corpus.dir / TOKENIZER), array("q")
    except Exception as problem:  # `tokenizers` raises plain Exception for a file it cannot read
        raise CorruptRun(f"{corpus.dir / TOKENIZER / 'tokenizer.json'}: cannot be read ({problem})") from problem
    little = np.dtype(dtype).newbyteorder("<")
    with path.open("wb") as handle, path.with_name(IDS).open("w", encoding="utf-8") as ids:
        for batch in rows:
            encoded = encode_documents(tokenizer, batch["text"].to_pylist(), corpus.eos_id, corpus.dtype)
            handle.write(encoded.tokens.astype(little).tobytes())
            lengths.extend(int(length) for length in encoded.lengths)
            ids.writelines(f"{json.dumps(id, ensure_ascii=False)}\n" for id in batch["id"].to_pylist())
    shutil.copytree(corpus.dir / TOKENIZER, path.with_name(TOKENIZER))
    return lengths, sum(lengths)


def _exported(files: Sequence[Path], documents: int, tokens: int, dtype: str, corpus: Corpus) -> TokenExport:
    """`files`, and those that every format has beside them."""
    out = files[0].parent
    beside = (out / IDS, *sorted(path for path in (out / TOKENIZER).rglob("*") if path.is_file()))
    return TokenExport((*files, *beside), documents, tokens, dtype, corpus.vocab_size, corpus.eos_id)


def write_olmo(rows: Iterable[pa.RecordBatch], corpus: Corpus, out: Path) -> TokenExport:
    """Write `tokens.npy`."""
    file = out / "tokens.npy"
    lengths, total = _write_array(rows, corpus, file, corpus.dtype)
    return _exported([file], len(lengths), total, corpus.dtype, corpus)


def write_megatron(rows: Iterable[pa.RecordBatch], corpus: Corpus, out: Path) -> TokenExport:
    """Write `tokens.bin` and `tokens.idx`, one sequence per document."""
    import numpy as np

    dtype = "uint16" if corpus.vocab_size < MEGATRON_UINT16 else "int32"
    data, index = out / "tokens.bin", out / "tokens.idx"
    counted, total = _write_array(rows, corpus, data, dtype)
    lengths = np.frombuffer(counted, np.int64) if len(counted) else np.empty(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype("<i8")[: len(lengths)] * np.dtype(dtype).itemsize
    with index.open("wb") as handle:
        header = struct.pack("<QBQQ", 1, MEGATRON_CODES[dtype], len(lengths), len(lengths) + 1)
        bounds = np.arange(len(lengths) + 1, dtype="<i8")
        handle.write(MAGIC + header + lengths.astype("<i4").tobytes() + offsets.tobytes() + bounds.tobytes())
    return _exported([data, index], len(lengths), total, dtype, corpus)


def write_nanotron(rows: Iterable[pa.RecordBatch], corpus: Corpus, out: Path) -> TokenExport:
    """Write `tokens.ds` with its index and metadata."""
    import numpy as np

    file = out / "tokens.ds"
    counted, total = _write_array(rows, corpus, file, corpus.dtype)
    lengths = np.frombuffer(counted, np.int64) if len(counted) else np.empty(0, np.int64)
    index, about = Path(f"{file}.index"), Path(f"{file}.metadata")
    index.write_bytes(np.cumsum(lengths).astype("<u8").tobytes())
    width = 2 if corpus.dtype == "uint16" else 4
    about.write_text(f"{TOKENIZER}|{width}\n{total}\n", encoding="utf-8")  # beside it; its makers write a name of the hub
    return _exported([file, index, about], len(lengths), total, corpus.dtype, corpus)


TOKEN_FORMATS: dict[str, Callable[[Iterable[pa.RecordBatch], Corpus, Path], TokenExport]] = {
    "olmo": write_olmo,
    "megatron": write_megatron,
    "nanotron": write_nanotron,
}
"""A new token format is a function here and its line in this table."""
