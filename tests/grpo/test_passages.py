"""Which passages a training is shown, and which it is validated on."""

from __future__ import annotations

from pathlib import Path

import pytest

from synpro.corpus import store
from synpro.grpo import passages
from synpro.grpo.passages import draw_passages
from synpro.records import Passage
from tests.rewards.reference import passage


def test_passages_are_drawn_by_id_and_only_those_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(passages, "Passage", lambda **row: made.append(row["id"]) or Passage(**row))

    def corpus_of(count: int) -> Path:
        rows = [{**vars(passage("honey")), "id": f"{i}#0000"} for i in range(count)]
        (tmp_path / f"{count}").mkdir()
        store.write_rows(tmp_path / f"{count}" / "passages.parquet", store.PASSAGES, rows)
        return tmp_path / f"{count}"

    shown, validation = draw_passages(corpus_of(400), 12, 8, seed=1)
    assert len(shown) == 12 and len(validation) == 8 and not {p.id for p in shown} & {p.id for p in validation}
    assert len(made) == 20, "of 400"
    others, again = draw_passages(tmp_path / "400", 12, 8, seed=2)
    assert again == validation and others != shown
    assert [len(part) for part in draw_passages(corpus_of(4), 12, 8, seed=1)] == [3, 1]
    with pytest.raises(ValueError, match="at least 2"):
        draw_passages(corpus_of(1), 12, 8, seed=1)
