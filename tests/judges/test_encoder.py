"""Token similarity with the real encoder."""

from __future__ import annotations

import pytest

from synpro.assets import model_folder
from synpro.judges.base import Alignment, JudgesConfig
from synpro.judges.encoder import BertScoreEncoder
from tests.languages.texts import MAORI

TEXT = "The first tower was built of wood and lit in 1698. It was destroyed in the great storm of November 1703."


@pytest.fixture(scope="module")
def encoder() -> BertScoreEncoder:
    return BertScoreEncoder(model_folder(JudgesConfig().encoder.model, slot="judges.encoder"))


def test_it_does_not_know_a_text_that_cannot_be_in_its_language(
    encoder: BertScoreEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "languages", ("en",))
    monkeypatch.setattr(encoder, "max_unknown", 1.0)
    assert encoder.knows(TEXT) and not encoder.knows(MAORI)


def test_a_text_aligns_with_itself_and_not_with_another(encoder: BertScoreEncoder) -> None:
    same, other = encoder.align([TEXT, TEXT], [TEXT, "Honey bees make honey from the nectar of flowers."])
    assert same.precision == pytest.approx(1.0, abs=1e-5)
    assert same.f1 == pytest.approx(1.0, abs=1e-5)
    assert other.f1 < 0.4


def test_part_of_a_text_has_precision_without_recall(encoder: BertScoreEncoder) -> None:
    (part,) = encoder.align([TEXT.split(". ")[0] + "."], [TEXT])
    assert part.precision > 0.9
    assert part.recall < part.precision - 0.1


def test_empty_texts_align_with_nothing(encoder: BertScoreEncoder) -> None:
    assert encoder.align(["", TEXT], [TEXT, ""]) == [Alignment(0.0, 0.0)] * 2
    assert Alignment(0.0, 0.0).f1 == 0.0


def test_long_texts_are_read_in_windows_not_cut(encoder: BertScoreEncoder) -> None:
    filler = " ".join(f"Entry {i} of the list says nothing at all." for i in range(90))
    ids = encoder._ids(filler + " " + TEXT)
    assert len(ids) > encoder.window
    (embedding,) = encoder.embed([filler + " " + TEXT])
    assert len(embedding) == len(ids)
    (found,) = encoder.align([TEXT], [filler + " " + TEXT])
    (missed,) = encoder.align([TEXT], [filler])
    assert found.precision > missed.precision + 0.15


def test_special_tokens_in_a_text_stay_text(encoder: BertScoreEncoder) -> None:
    ids = encoder._ids("a [SEP] b")
    assert encoder.tokenizer.sep_token_id not in ids


def test_each_distinct_text_is_embedded_once(encoder: BertScoreEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = encoder._forward
    monkeypatch.setattr(encoder, "_forward", lambda rows: (seen.append(len(rows)), forward(rows))[1])
    encoder.align(["one new text", "one new text"], ["another new text"] * 2)
    encoder.align(["one new text"], ["another new text"])
    assert sum(seen) == 2
