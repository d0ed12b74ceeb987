"""Cutting and joining, on text of every kind."""

import random

import pytest

from synpro.corpus.passages import PassageConfig, cut_passages, passage_spans
from synpro.language.segmentation import count_words
from synpro.records import Document
from synpro.schema import build

ALPHABET = [
    *"abcdeXYZ .,!?\"')\n",
    "\n\n",
    "\r\n\r\n",
    "  ",
    "\t",
    ". ",
    "。",
    "é",
    "e\u0301",
    "漢",
    "😀",
    "\u2028",
    "\xa0",
    "\x00",
    "Dr. ",
    "word ",
]


def random_text(rng: random.Random) -> str:
    return "".join(rng.choices(ALPHABET, k=rng.choice([0, 1, 2, 10, 100, 600])))


@pytest.mark.parametrize("seed", range(200))
def test_join_is_the_inverse_of_cut(seed: int) -> None:
    rng = random.Random(seed)
    text = random_text(rng)
    words = rng.choice([None, 1, 3, 20])
    cfg = PassageConfig(rng.choice([1, 2, 7, 50, 7000]), words, rng.choice([None, max(1, words - 2)]) if words else None)
    found = cut_passages(Document("d", text, "s"), cfg)
    assert "".join(p.text for p in found) == text
    assert [p.index for p in found] == list(range(len(found)))
    for p in found:
        assert p.text == text[p.start : p.end] and p.text and len(p.text) <= cfg.max_characters
        # A word that does not fit is cut, and each of its parts counts as a word on its own.
        assert words is None or count_words(p.text) <= words + (2 if cfg.max_characters < 50 else 1e-9)


def test_passages_end_at_sentences_and_paragraphs() -> None:
    sentence = "Here stands a sentence of just eight words. "
    text = "\n\n".join([(sentence * 5).strip(), (sentence * 4).strip(), (sentence * 6).strip()])
    found = cut_passages(Document("d", text, "s"), PassageConfig(max_words=50, target_words=40))
    assert all(p.text.rstrip().endswith(".") for p in found)
    assert [len(p.text.split()) for p in found] == [40, 32, 48]
    assert found[0].text.endswith("\n\n") and found[1].text.endswith("\n\n")


def test_a_heading_stays_with_what_it_heads() -> None:
    body = " ".join(["word"] * 30) + "."
    found = cut_passages(
        Document("d", f"{body}\n\nEarly life\n\n{body}\n\nLater life\n\n{body}", "s"),
        PassageConfig(max_words=40, target_words=32),
    )
    assert [p.text.split("\n")[0] for p in found][1:] == ["Early life", "Later life"]


def test_abbreviations_do_not_end_sentences() -> None:
    text = "Mr. J. Smith of the U.S. Navy met Dr. Jones, i.e. the doctor. Then he left."
    assert [text[a:b] for a, b in passage_spans(text, PassageConfig(max_words=13))] == [text[:62], text[62:]]


def test_a_sentence_without_end_is_cut_at_white_space_and_a_word_between_characters() -> None:
    text = "word " * 1000
    assert all(
        text[a:b].startswith("word") and text[a:b].endswith(" ")
        for a, b in passage_spans(text, PassageConfig(max_characters=64))
    )
    assert [b - a for a, b in passage_spans("x" * 150, PassageConfig(max_characters=64))] == [64, 64, 22]


def test_long_documents_of_tiny_lines_are_cut_quickly() -> None:
    text = "a\n" * 100_000
    found = passage_spans(text, PassageConfig())
    assert sum(b - a for a, b in found) == len(text) and len(found) < 40


@pytest.mark.parametrize(
    "bad", [{"max_characters": 0}, {"max_words": 0}, {"target_words": 5}, {"max_words": 3, "target_words": 4}]
)
def test_bad_settings(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^(max|target)_\w+: "):
        build(PassageConfig, bad)
