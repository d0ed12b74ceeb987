"""The nouns that flow between stages: small frozen records, and how they are written to JSON.

Everything a stage takes or returns is one of these. A record that stands for files carries their folder and a `digest`,
the sha256 over the contents (not the names of the machine), so that the fingerprint of the next step follows the data.
Paths are written relative to the run directory: a run can be moved or copied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Chat = tuple[dict[str, str], ...]
"""A conversation: messages with `role` and `content`, the last one from the user."""


@dataclass(frozen=True)
class Document:
    """One text of the corpus, as a person wrote it."""

    id: str
    """Stable: from the data's own id column, else from a hash of the text. Never from the order of files."""
    text: str
    source: str
    """Where it came from: file and row, for error messages and lineage."""


@dataclass(frozen=True)
class Passage:
    """A span of a document: the one unit that generators read and judges score.

    `document.text == "".join(p.text for p in its passages)`; joining is the inverse of cutting.
    """

    id: str
    """`DOCUMENT#INDEX`, index in four digits."""
    document: str
    index: int
    start: int
    """First character in the document's text."""
    end: int
    """One past the last character."""
    text: str


@dataclass(frozen=True)
class Completion:
    """What an engine gave back for one chat."""

    text: str
    tokens: int
    """Tokens generated, the end-of-turn token included."""
    finish: str
    """`stop` (the model ended its turn) or `length` (it was cut at the limit)."""


@dataclass(frozen=True)
class Rewrite:
    """A generator's answer for one passage, parsed."""

    passage: Passage
    operation: str
    answer: str
    """The answer as generated, headings and all."""
    text: str | None
    """The text to train on, or None when the answer did not parse."""
    reason: str | None
    """Why it did not parse, in a person's words; None when it did."""
    tokens: int
    finish: str


@dataclass(frozen=True)
class Corpus:
    """Prepared text and tokens (stage `prepare`).

    Holds `documents.parquet`, `passages.parquet`, `tokenizer/`, `tokens/{train,reference,heldout}.bin`, `rejects.jsonl`.
    """

    dir: Path
    vocab_size: int
    eos_id: int
    pad_id: int
    dtype: str
    """Of the token arrays: `uint16` or `uint32`, little-endian, headerless."""
    documents: dict[str, int]
    """Documents per split."""
    tokens: dict[str, int]
    """Tokens per split, EOS included."""
    passages: int
    """Passages of the train split, the only ones generators may see."""
    digest: str


@dataclass(frozen=True)
class Checkpoint:
    """A language model with its optimizer (stages `pretrain`): `hf/` to open anywhere, `trainer/` to train on."""

    dir: Path
    tokens_seen: int
    """Training tokens since the run began, all rounds together."""
    steps: int
    """Optimizer steps since the run began, all rounds together."""
    plateau: bool
    """True when training ended on a plateau, False when it ended on its token budget."""
    reason: str
    """Why it ended, in a person's words."""
    reference_loss: float
    """Mean cross-entropy per token on the reference split, nats."""
    digest: str


@dataclass(frozen=True)
class Probe:
    """Two models a short training on the reference task apart (stage `probe`), each a Hugging Face folder."""

    before: Path
    after: Path
    digest: str


@dataclass(frozen=True)
class Generator:
    """A language model that rewrites passages by one operation (stage `train_generator`)."""

    operation: str
    base: str
    """Asset reference or folder of the model it started from."""
    adapter: Path | None
    """LoRA weights on top of `base`, in PEFT's layout."""
    weights: Path | None
    """Full weights that replace `base`, a Hugging Face folder."""
    round: int
    digest: str


@dataclass(frozen=True)
class Verifier:
    """What checks claims against their passage (stage `train_verifier`)."""

    dir: Path
    kind: str
    """`features` or `llm`: trained on this corpus. `none`: nothing was trained, claims are checked by rule."""
    digest: str


@dataclass(frozen=True)
class Shard:
    """Synthetic text of one operation in one round (stage `synthesize`).

    Holds `documents.parquet` (what is trained on), `rewrites.parquet` (every passage with its lineage and scores, kept or
    dropped) and `rejects.jsonl`.
    """

    dir: Path
    operation: str
    round: int
    passages: int
    """Passages that went in: `kept + dropped`."""
    kept: int
    dropped: int
    documents: int
    tokens: int
    """Generator tokens spent, dropped answers included."""
    digest: str


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint can do (stage `evaluate`)."""

    dir: Path
    heldout_loss: float
    """Mean cross-entropy per token on the held-out split, nats."""
    bits_per_byte: float
    """Cross-entropy of the held-out text in bits per UTF-8 byte: comparable across tokenizers."""
    tasks: dict[str, float] = field(default_factory=dict)
    """Score of each zero-shot task, named TASK/METRIC."""
    digest: str = ""


RECORDS: dict[str, type] = {
    t.__name__: t
    for t in (Document, Passage, Completion, Rewrite, Corpus, Checkpoint, Probe, Generator, Verifier, Shard, Evaluation)
}


def encode(value: Any, root: Path) -> Any:
    """A JSON value for a record, a config dataclass, a path or plain data. Paths under `root` become relative to it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {f.name: encode(getattr(value, f.name), root) for f in dataclasses.fields(value)}
        return {"record": type(value).__name__, **body} if type(value).__name__ in RECORDS else body
    if isinstance(value, Path):
        resolved = value.resolve()
        inside = resolved.is_relative_to(root.resolve())
        return {"path": resolved.relative_to(root.resolve()).as_posix() if inside else str(resolved)}
    if isinstance(value, dict):
        return {str(k): encode(v, root) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v, root) for v in value]
    return value


def decode(value: Any, root: Path) -> Any:
    """The inverse of `encode` for records, paths and plain data (lists stay lists).

    Raises ValueError for a record this version does not know.
    """
    if isinstance(value, list):
        return [decode(v, root) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"path"}:
        return root / value["path"]
    if "record" in value:
        kind = RECORDS.get(value["record"])
        if kind is None:
            raise ValueError(f"unknown record {value['record']!r}; this file was written by another version of synpro")
        return kind(**{k: decode(v, root) for k, v in value.items() if k != "record"})
    return {k: decode(v, root) for k, v in value.items()}


def digest_of(value: Any) -> str:
    """sha256 (hex) of plain data, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def digest_files(root: Path, *paths: Path) -> str:
    """sha256 (hex) over the names (relative to `root`) and contents of files and folders.

    Raises FileNotFoundError when one of them is missing.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} should have been written by this step and is missing")
        files += [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in sorted(files, key=lambda p: p.relative_to(root).as_posix()):
        total.update(file.relative_to(root).as_posix().encode() + b"\0")
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()
