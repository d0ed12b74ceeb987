"""Tables of a run directory are read by column and filter; its small files, by one reader that says what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpro.records import OtherVersion, decode
from synpro.runner.artifacts import CorruptRun, one_of, read_lines, read_record, read_table
from synpro.runner.inputs import changed_files


@pytest.mark.parametrize(("wanted", "found"), [(["b", "c"], ["b"]), ([], [])])
def test_rows_whose_value_is_among_some_are_read_also_where_there_are_none(
    tmp_path: Path, wanted: list[str], found: list[str]
) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["A bird.", "A tree."]}), tmp_path / "t.parquet")
    assert [row["id"] for row in read_table(tmp_path / "t.parquet", ["id"], one_of("id", wanted))] == found


@pytest.mark.parametrize(
    ("content", "said"), [("", "not valid JSON"), ("[]", "no JSON object"), ("{}", "no record"), (None, "is a folder")]
)
def test_what_is_wrong_with_a_small_file_of_a_finished_step_is_told(tmp_path: Path, content: str | None, said: str) -> None:
    for name in ("result.json", "inputs.json"):
        file = tmp_path / "round-00/prepare" / name
        if content is None:
            file.mkdir(parents=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    with pytest.raises(CorruptRun, match=rf"result\.json .*{said}.*; remove .*round-00/prepare and give the command that"):
        read_record(tmp_path / "round-00/prepare")
    if content != "{}":
        with pytest.raises(CorruptRun, match=rf"inputs\.json .*{said}"):
            changed_files(tmp_path / "round-00/prepare")


def test_a_damaged_step_of_a_comparison_is_to_be_done_again_too(tmp_path: Path) -> None:
    step = tmp_path / "tune/u1/trial-03/pretrain"
    step.mkdir(parents=True)
    (step / "request.json").write_text("{}")
    with pytest.raises(CorruptRun, match=r"remove .*tune/u1/trial-03/pretrain and give the command that began it again"):
        read_record(step)


def test_a_record_that_lacks_what_this_version_needs_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OtherVersion, match=r"'Shard' .* another version of synpro .*; carry the run on with that version"):
        decode({"record": "Shard"}, tmp_path)


def test_a_last_row_that_is_cut_short_costs_no_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "metrics.jsonl"
    for cut in (b'{"step": 2, "lo', '{"a": "\u00e9'.encode()[:-1], b"\0\0\0", b"12"):
        file.write_bytes(b'{"step": 1}\n' + cut)
        assert list(read_lines(file, whole=False)) == [{"step": 1}] and not capsys.readouterr().err
        assert list(read_lines(file, whole=True)) == [{"step": 1}]
        assert f"WARNING: {file}, line 2: is cut short, and is left out" in capsys.readouterr().err
        file.write_bytes(cut + b'\n{"step": 1}\n')
        with pytest.raises(CorruptRun, match="line 1: not a JSON object"):
            list(read_lines(file, whole=True))
