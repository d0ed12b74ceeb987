"""Prompt/answer rows: what is read, and what is rejected with a reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from synpro.corpus.files import CorpusError
from synpro.corpus.prompt_completion import PromptCompletionText, read_prompt_completions
from synpro.runner.rejects import Reject


def test_rows_without_prompt_or_answer_are_rejected_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "qa.jsonl"
    rows = [
        '{"prompt": "2+2=", "answer": "4"}',
        '{"prompt": "x"}',
        '{"prompt": "\u200b", "answer": "y"}',
        "not json",
        '["list"]',
    ]
    file.write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    found = list(read_prompt_completions(file))
    assert found[0] == PromptCompletionText("qa.jsonl:1", "2+2=", " 4")
    assert [(r.id, r.reason) for r in found[1:] if isinstance(r, Reject)] == [
        ("qa.jsonl:2", "no_answer"),
        ("qa.jsonl:3", "no_prompt"),
        ("qa.jsonl:4", "invalid-json"),
        ("qa.jsonl:5", "invalid-json"),
    ]


def request(doc: int, idx: int, label: int, answer: str) -> dict[str, object]:
    return {"doc_id": doc, "idx": idx, "label": label, "doc": {}, "request": {"context": "Q?\nAnswer:", "continuation": answer}}


def test_request_files_give_the_right_answer_of_each_question(tmp_path: Path) -> None:
    folder = tmp_path / "piqa" / "train_rc_5shot"
    folder.mkdir(parents=True)
    rows = [request(0, 0, 1, " wrong"), request(0, 1, 1, " right"), request(1_000_000, 1, 1, " right")]
    with gzip.open(folder / "requests.jsonl.gz", "wt", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    assert list(read_prompt_completions(tmp_path)) == [
        PromptCompletionText("piqa/train_rc_5shot/requests.jsonl.gz:2", "Q?\nAnswer:", " right")
    ]


def test_a_cut_archive_and_a_missing_file_say_so(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps({"prompt": str(n), "answer": str(n * n)}) + "\n" for n in range(5000))
    whole = (tmp_path / "a.jsonl.gz").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    *good, last = read_prompt_completions(tmp_path / "a.jsonl.gz")
    assert len(good) > 1000 and isinstance(last, Reject) and last.reason == "damaged"
    with pytest.raises(CorpusError, match=r"probe\.data: .*no such file or folder"):
        list(read_prompt_completions(tmp_path / "none"))


def test_a_row_of_a_request_file_that_lacks_a_column_names_it(tmp_path: Path) -> None:
    rows = [
        {"request": {}, "idx": 0, "label": 0},
        {"request": {}, "idx": 0},
        {"request": {}, "doc_id": "a", "idx": 0, "label": 0},
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, third = read_prompt_completions(tmp_path / "r.jsonl")
    assert isinstance(first, Reject) and isinstance(second, Reject) and isinstance(third, Reject)
    assert (first.reason, second.reason, third.reason) == ("no_doc_id", "no_doc_id", "no_doc_id")
    assert first.detail == "a row with `request` needs a number in doc_id; it has request, idx, label"
    assert "a number in doc_id and label; it has" in second.detail


@pytest.mark.parametrize("label", [None, "yes", "0", 1])
def test_an_answer_option_whose_label_names_no_option_or_another_is_skipped(label: object, tmp_path: Path) -> None:
    rows = [request(0, 0, 0, " right"), {**request(1, 0, 0, " other"), "label": label}]
    if label is None:
        rows.append({**request(2, 0, 0, " other"), "label": None, "idx": None})
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_prompt_completions(tmp_path / "r.jsonl")) == [PromptCompletionText("r.jsonl:1", "Q?\nAnswer:", " right")]


def test_a_glob_names_probe_data_as_it_names_a_corpus(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"prompt": "{name}?", "answer": "yes"}}\n')
    assert [p.prompt for p in read_prompt_completions(f"{tmp_path}/a?.jsonl")] == ["a1?", "a2?"]
    with pytest.raises(CorpusError, match=r"probe\.data: .*no file there"):
        list(read_prompt_completions(f"{tmp_path}/c*.jsonl"))
