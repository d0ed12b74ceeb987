"""What a command is to write is looked at before its work, and is not lost after it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from synpro import cli
from synpro.commands import arguments, score
from synpro.commands.arguments import ArgumentError, check_file, check_filled, check_folder, write_file, write_rows
from synpro.commands.export import export
from synpro.config import ConfigError
from synpro.export.selection import ExportError
from synpro.records import Document


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: str) -> str:
    """What a command that fails says on stderr."""
    monkeypatch.setattr(sys, "argv", ["synpro", *argv])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "score_influence", lambda *a, **k: pytest.fail("the work was begun"))
    asked = ["score", "influence", str(tmp_path), str(tmp_path / "u.jsonl"), "--out"]
    (tmp_path / "u.jsonl").write_text('{"text": "A bird."}\n')
    (tmp_path / "link").symlink_to(tmp_path / "u.jsonl")
    (tmp_path / "hard").hardlink_to(tmp_path / "u.jsonl")
    assert f"--out {tmp_path}: is a folder; give the path of a file" in said(capsys, monkeypatch, *asked, str(tmp_path))
    for same in ("u.jsonl", "link", "hard", "sub/../u.jsonl"):
        assert "is among what is read" in said(capsys, monkeypatch, *asked, str(tmp_path / same))
    (tmp_path / "file").touch()
    assert "is a file where a folder is needed" in said(capsys, monkeypatch, *asked, str(tmp_path / "file/x"))
    assert (tmp_path / "u.jsonl").read_text() == '{"text": "A bird."}\n'


def test_what_a_folder_or_a_glob_reads_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere.jsonl").touch()
    (tmp_path / "in/a.jsonl").touch()
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere.jsonl")
    home = (Path("~/in"), Path("~/in/*"), Path("~/**/a.jsonl"))
    for reads in (tmp_path / "in", tmp_path / "in/*.jsonl", tmp_path / "**/a.jsonl", *home):
        with pytest.raises(ArgumentError, match=r"is among what is read \("):
            check_file("--out", tmp_path / "in/a.jsonl", reads)
    with pytest.raises(ArgumentError, match="is among what is read"):
        check_file("--out", tmp_path / "elsewhere.jsonl", tmp_path / "in")
    check_file("--out", tmp_path / "in/b.jsonl", tmp_path / "in/a.jsonl")
    check_file("--out", tmp_path / "in/b.jsonl", tmp_path / "in")  # a new file is none that is read
    assert not (tmp_path / "in/b.jsonl").exists()


def test_a_file_of_a_run_is_not_overwritten_but_for_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "x/round-00/pretrain/hf"
    model.mkdir(parents=True)
    for file in (tmp_path / "x/config.toml", tmp_path / "x/report.html", model / "config.json"):
        file.touch()
    told = said(capsys, monkeypatch, "report", f"{tmp_path}/x", "--out", f"{tmp_path}/x/config.toml")
    assert f"config.toml: is a file of the run {tmp_path}/x, and may cost it; give another file" in told
    assert "is a file of the run" in said(capsys, monkeypatch, "evaluate", f"{model}", "--out", f"{model}/config.json")
    check_file("--out", tmp_path / "x/report.html")
    check_file("--out", tmp_path / "x/new.json")
    (tmp_path / "x/config.toml").unlink()
    assert "is among what is read" in said(capsys, monkeypatch, "evaluate", f"{model}", "--out", f"{model}/config.json")


def test_an_output_takes_no_name_beside_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_text("mine")
    for name in ("a", "n" * 255):
        check_file("--out", tmp_path / name)
        write_file("--out", tmp_path / name, "rows")
        assert (tmp_path / name).read_text() == "rows"
    assert (tmp_path / "a.tmp").read_text() == "mine" and len(list(tmp_path.iterdir())) == 3


def test_folders_above_an_output_are_made_and_it_is_written_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new/folder/x.jsonl"
    scored = [score.ScoredText(Document("a\ud800", "A bird.", "u:1"), 0.5)]
    monkeypatch.setattr(score, "score_influence", lambda *a, **k: scored)
    monkeypatch.setattr(sys, "argv", ["synpro", "score", "influence", "run", "u.jsonl", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and out.read_text() == '{"id": "a\\ud800", "influence": 0.5}\n'
    assert [p.name for p in out.parent.iterdir()] == ["x.jsonl"]
    (tmp_path / "link").symlink_to(out)
    write_file("--out", tmp_path / "link", "b")
    assert (tmp_path / "link").is_symlink() and out.read_text() == "b"
    check_folder("--results", tmp_path / "r/s")
    assert (tmp_path / "r/s").is_dir() and not list((tmp_path / "r/s").iterdir())
    with pytest.raises(ArgumentError, match=r"--results .*/x\.jsonl: .* is a file where a folder is needed"):
        check_folder("--results", out)


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_file("--out", pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file("--out", pipe, "rows")
    assert os.read(reader, 99) == b"rows" and pipe.is_fifo()
    os.close(reader)


def test_rows_that_cannot_be_written_any_more_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(arguments, "write_text", full)
    with pytest.raises(ArgumentError, match=r"--out .*/x: the disk is full .*\nThe rows are on the terminal"):
        write_rows([{"id": 1}], tmp_path / "x", "one")
    assert capsys.readouterr().out == '{"id": 1}\n'


@pytest.mark.parametrize("argv", [["score", "influence", "runs/x", ""], ["report", " "], ["run", "c.toml", "--runs="]])
def test_an_empty_argument_is_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"argument {len(argv)} (after {argv[-2]}): is empty" in said(capsys, monkeypatch, *argv)
    check_filled(["run", "c.toml", "--set", "prepare.tokenizer.source=", "--jobs=1"])


def test_an_export_without_rights_says_whose_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, **options: bool) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(ExportError, match=r"--to .*/x: cannot be made \(.*permission denied: .* belongs to") as caught:
        export(tmp_path / "run", tmp_path / "x")
    assert "Errno" not in str(caught.value) and "partial" not in str(caught.value)


def test_an_empty_path_of_texts_is_refused_in_python_too() -> None:
    from synpro.commands.texts import documents_of

    with pytest.raises(ConfigError, match="the path of the texts: is empty"):
        documents_of("")


def test_a_full_disk_that_nobody_names_is_not_said_to_be_the_current_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cli, "app", full)
    found = said(capsys, monkeypatch, "config")
    assert found == "error: No space left on device; the system does not say of which file or folder\n"
