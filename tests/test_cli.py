"""What the command line prints of its rows."""

import json
from pathlib import Path

import pytest

from synpro.commands.arguments import write_rows


def test_half_a_character_in_one_row_does_not_keep_the_others_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "a \ud800 mill"}, {"text": "ein Müller"}]
    for out in (None, tmp_path / "rows.jsonl"):
        write_rows(rows, out, "rows")
        text = out.read_text(encoding="utf-8") if out else capsys.readouterr().out
        assert "Müller" in text and [json.loads(line) for line in text.splitlines()] == rows
