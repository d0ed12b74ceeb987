"""Records: what flows between stages, as small frozen dataclasses that can be written to JSON.

A stage takes and returns records. A record of files holds their folder and a `digest`, the sha256 over their contents, so the
request of the next step changes when the data does. Paths are written relative to the run directory: a run can be moved or
copied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Chat = tuple[dict[str, str], ...]
"""A conversation: messages with `role` and `content`, the last one from the user."""
DELIMITER = '"""'
"""Comes before and after a passage in a chat. (Small models repeat XML-like tags at the end of their answers, but not this.)"""


def passage_of(chat: Chat) -> str:
    """The text of the passage that the last message ends with, for an engine that reads it. Raises ValueError without one."""
    parts = chat[-1]["content"].rsplit(DELIMITER, 2)
    if len(parts) < 3:
        raise ValueError("the chat has no passage between delimiters")
    return parts[1].strip()


@dataclass(frozen=True)
class Document:
    """One human-written text of the corpus."""

    id: str
    """Stable: the data's own id where it has one, else a hash of the text. It never depends on the order of files."""
    text: str
    source: str
    """Its file and row, for error messages and lineage."""


@dataclass(frozen=True)
class Passage:
    """A span of a document: the unit that generators read and judges score.

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
    """What an engine generated for one chat."""

    text: str
    tokens: int
    """Tokens generated, the end-of-turn token included."""
    finish: str
    """`stop` (the model ended its turn), `length` (truncated at the limit) or `error` (no answer to this chat)."""
    problem: str = ""
    """Why there is no answer, in words; empty but for `error`."""

    @classmethod
    def failed(cls, problem: str) -> Completion:
        """No answer to one chat, and why."""
        return cls("", 0, "error", problem)


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
    """Why it did not parse, in words; None when it did."""
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
    """Type of the token arrays: `uint16` or `uint32`, little-endian, without a header."""
    documents: dict[str, int]
    """Documents per split."""
    tokens: dict[str, int]
    """Tokens per split, EOS included."""
    passages: int
    """Passages of the train split, the only ones that generators read."""
    digest: str


@dataclass(frozen=True)
class Checkpoint:
    """A language model with its optimizer (stages `pretrain`): `hf/` to open anywhere, `trainer/` to train on."""

    dir: Path
    tokens_seen: int
    """Training tokens of all rounds so far."""
    steps: int
    """Optimizer steps of all rounds so far."""
    plateau: bool
    """True when training ended on a plateau, False when it ended on its token budget."""
    reason: str
    """Why training ended, in words."""
    reference_loss: float
    """Mean cross-entropy per token on the reference split (2M tokens of it at most), nats: of this state, the best of those
    that were measured on a sample. Infinite where training diverged before there was a state to keep: there are no files."""
    digest: str
    last_reference_loss: float | None = None
    """Where training ended; None in older runs, which kept that state."""
    best_tokens: int | None = None
    """Training tokens of all rounds at which this state was measured."""

    @property
    def diverged(self) -> bool:
        """Whether training ended on a loss that is no number; this state is from before."""
        return self.reference_loss == math.inf or (self.best_tokens is not None and self.last_reference_loss is None)


@dataclass(frozen=True)
class Probe:
    """Models before and after a short training on the reference task (stage `probe`), each a Hugging Face folder."""

    before: Path
    after: Path
    digest: str
    replicas: tuple[Path, ...] = ()
    """Models of the same training with the data in other orders, where the config asks for more than one."""

    @property
    def afters(self) -> tuple[Path, ...]:
        """`after` and its replicas; influence is the mean over them."""
        return (self.after, *self.replicas)


@dataclass(frozen=True)
class Generator:
    """A language model that rewrites passages by one operation (stage `train_generator`)."""

    operation: str
    base: str
    """Asset reference or folder of the model it started from."""
    adapter: Path | None
    """LoRA weights on top of `base`, in PEFT's layout."""
    weights: Path | None
    """Full weights that replace `base`: a Hugging Face folder."""
    round: int
    digest: str


@dataclass(frozen=True)
class TrainedVerifier:
    """What checks claims against their passage (stage `train_verifier`)."""

    dir: Path
    kind: str
    """`features` or `llm`: trained on this corpus. `none`: nothing was trained, claims are checked by rule."""
    digest: str


@dataclass(frozen=True)
class Shard:
    """Synthetic text of one operation in one round (stage `synthesize`).

    Holds `documents.parquet` (what is trained on), `tokens.bin` (the same as token ids), `rewrites.parquet` (every answer with
    its lineage and scores, kept or dropped) and `rejects.jsonl`.
    """

    dir: Path
    operation: str
    round: int
    passages: int
    """Passages that were to be rewritten."""
    kept: int
    dropped: int
    documents: int
    tokens: int
    """Tokens the generator generated, dropped answers included."""
    digest: str
    answers: int = 0
    """Answers to the passages: `kept + dropped`."""
    covered: int = 0
    """Passages with at least one kept text."""
    text_tokens: int = 0
    """Tokens of the kept texts by the corpus' tokenizer, EOS included: the length of `tokens.bin`."""
    tokenizer: str = ""
    """sha256 of that tokenizer; empty for a shard of an earlier version, which has no `tokens.bin`."""


@dataclass(frozen=True)
class Evaluation:
    """Measurements of a checkpoint (stage `evaluate`)."""

    dir: Path
    heldout_loss: float
    """Mean cross-entropy per token on the held-out split, nats."""
    bits_per_byte: float
    """Cross-entropy of the held-out text in bits per UTF-8 byte: comparable across tokenizers."""
    tasks: dict[str, float] = field(default_factory=dict)
    """Score of each zero-shot task, by `TASK/METRIC`."""
    digest: str = ""


@dataclass(frozen=True)
class Absorption:
    """What a checkpoint knows of its training text (stage `absorb`): `cloze.parquet` and `losses.parquet`."""

    dir: Path
    digest: str


RECORDS: dict[str, type] = {
    t.__name__: t
    for t in (
        *(Document, Passage, Completion, Rewrite, Corpus, Checkpoint, Probe, Generator, TrainedVerifier, Shard, Evaluation),
        Absorption,
    )
}


def encode(value: Any, root: Path, execution: dict[str, Any] | None = None, place: str = "") -> Any:
    """A JSON value for a record, a config dataclass, a path or plain data. Paths under `root` become relative to it.

    With `execution`, config fields that only say how the work is done are left out, and put there by their dotted place below
    `place`.
    """

    def inner(part: Any, name: object) -> Any:
        return encode(part, root, execution, f"{place}.{name}" if place else str(name))

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {}
        for f in dataclasses.fields(value):
            if execution is not None and f.metadata.get("execution"):
                execution[f"{place}.{f.name}"] = encode(getattr(value, f.name), root)
            else:
                body[f.name] = inner(getattr(value, f.name), f.name)
        return {"record": type(value).__name__, **body} if type(value).__name__ in RECORDS else body
    if isinstance(value, Path):
        resolved = value.resolve()
        inside = resolved.is_relative_to(root.resolve())
        return {"path": resolved.relative_to(root.resolve()).as_posix() if inside else str(resolved)}
    if isinstance(value, dict):
        return {str(k): inner(v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [inner(v, i) for i, v in enumerate(value)]
    return value


class OtherVersion(ValueError):
    """A record that this version does not know, or that lacks what it needs."""


def decode(value: Any, root: Path) -> Any:
    """The inverse of `encode` for records, paths and plain data; lists stay lists.

    Fields that an earlier version did not have take their defaults, and fields it had are left out. Raises OtherVersion for
    a record this version does not know, or that lacks a field without a default.
    """
    if isinstance(value, list):
        return [decode(v, root) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"path"}:
        return root / value["path"]
    if "record" in value:
        kind = RECORDS.get(value["record"])
        known = {f.name for f in dataclasses.fields(kind)} if kind else set()
        try:
            return kind(**{k: decode(v, root) for k, v in value.items() if k in known})  # type: ignore[misc]
        except TypeError as problem:
            raise OtherVersion(
                f"the record {value['record']!r} of a finished step was written by another version of synpro ({problem}); "
                "carry the run on with that version, or give it another name: --set name=..."
            ) from problem
    return {k: decode(v, root) for k, v in value.items()}


def digest_of(value: Any) -> str:
    """sha256 (hex) of plain data; the order of keys does not matter."""
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
