"""Words, sentences and sizes in languages with and without spaces."""

from __future__ import annotations

import time
from typing import Any

import pytest

from synpro.corpus.passages import PassageConfig, passage_spans
from synpro.judges.text_stats import lcs_length, longest_run, overlap, well_formed
from synpro.language.segmentation import count_words, ends_statement, is_blank, sentence_ends, sentences, words
from tests.languages.texts import PARAGRAPHS


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Mr. Smith left the U.S. in 1907. Why? No. 5 was J. Doe's idea…  Then he left.\n\nNew", 5),
        ("Am 3. Mai kam Dr. Müller z.B. nach Bonn. Im 19. Jahrhundert war es so. »Ja«, sagte er.", 3),
        ("老磨坊在河边。那是1907年的事！他说：“是吗？”没有人回答。", 4),
        ("それは1907年のことである。「本当か。」", 2),
        ("โรงสีเก่าขนข้าวไปยังแม่น้ำ เหตุการณ์นี้เกิดขึ้นในปี", 2),
        ("نقلت الطاحونة الحبوب إلى النهر. حدث ذلك في عام 1907؟ نعم.", 3),
        ("पुरानी चक्की ने अनाज पहुँचाया। यह 1907 में हुआ था।", 2),
        ("Երևանը Հայաստանի մայրաքաղաքն է։ Քաղաքը շատ հին է։", 2),
        ("თბილისი საქართველოს დედაქალაქია. ქალაქი ძველია.", 2),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, parts: int) -> None:
    assert len(sentences(text)) == parts
    assert not any(s[-1] in "「“" for s in sentences(text))  # an opening mark belongs to what follows


def test_a_statement_ends_with_a_mark_of_its_script_and_in_thai_with_any_clause() -> None:
    for mark in ".!?…。！？।॥؟۔።។။།༎։｡．‼⁇᱾꯫᠃":
        assert ends_statement(f"Ab ab{mark}") and ends_statement(f"Ab ab{mark}”"), mark
    for text in ("", "Early life", "Ab ab,", "Ab ab:", "Ab ab\n", "Ab ab\ud800", "ปี 1907 and the mill by the river"):
        assert not ends_statement(text), text
    assert ends_statement("โรงสีเก่าขนข้าวไปยังแม่น้ำ") and ends_statement("ໂຮງສີເກົ່າຂົນເຂົ້າໄປຫາແມ່ນ້ຳ")


def test_short_paragraphs_of_scripts_with_other_marks_or_none_are_no_headings() -> None:
    """After a heading no passage ends, so these passages would be larger than their target."""
    for paragraph in ("Նավապահը ամեն երեկո հաշվում էր նավակները։", "โรงสีเก่าขนข้าวไปยังแม่น้ำ"):
        spans = passage_spans("\n\n".join([paragraph] * 4), PassageConfig(max_words=30, target_words=5))
        assert len(spans) == 4


def test_what_no_reader_sees_is_blank() -> None:
    for text in ("", " \n", "\u200b\u200b", "\ufeff", "\x00", "\u3164 \u2060\ufe0f"):
        assert is_blank(text), ascii(text)
    assert not any(map(is_blank, ("\u200b.", "a", "\U0001f44d\ufe0f", "\ud800")))


def test_words_are_those_of_a_dictionary_where_there_are_no_spaces() -> None:
    assert words("Die Mühle steht's nicht, 3,5 km.") == ["die", "mühle", "steht's", "nicht", "3,5", "km"]
    assert words("蜜蜂采集花蜜。") == ["蜜蜂", "采集", "花蜜"]
    assert 4 <= len(words("โรงสีเก่าขนข้าวไปยังแม่น้ำ")) <= 10


def test_odd_texts_lose_nothing() -> None:
    for text in ("", " \n ", "a\ud800b. C", "👩‍👩‍👧 x. Y", "\x00", "  lead. Two."):
        ends = sentence_ends(text)
        assert ends == sorted(set(ends)) and (not text or ends[-1] == len(text))


def test_the_same_text_counts_as_many_words_in_every_language() -> None:
    """The German and the Chinese paragraphs say the same."""
    german, chinese = (sum(map(count_words, PARAGRAPHS[code])) for code in ("de", "zh"))
    assert 0.8 < chinese / german < 1.25
    spans = {
        code: passage_spans("\n\n".join(PARAGRAPHS[code]), PassageConfig(max_words=60, target_words=45))
        for code in ("de", "zh")
    }
    assert 0.8 < len(spans["zh"]) / len(spans["de"]) < 1.25


def test_a_passage_has_no_more_tokens_than_bytes_of_its_words() -> None:
    for text in ("ก" * 7000, "x" * 7000, "." * 7000, "漢" * 7000, "👩‍👩‍👧" * 2000, "a_b_" * 2000):
        spans = passage_spans(text, PassageConfig(max_words=80))
        assert "".join(text[a:b] for a, b in spans) == text
        assert max(len(text[a:b].encode()) for a, b in spans) <= 24 * 80 + 3


@pytest.mark.parametrize("unit", [".", "a", ". ", "a\n", "磨", "ก", " ", "word, "])
def test_time_grows_with_the_text_not_with_its_square(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        start = time.perf_counter()
        passage_spans(text, PassageConfig(max_words=80, target_words=60))
        return time.perf_counter() - start

    small = min(seconds(8_000) for _ in range(3))
    assert seconds(128_000) < 16 * 6 * max(small, 1e-3)  # the square would be 256 times


def test_overlap_is_that_of_the_plain_definition_and_fast_on_long_texts() -> None:
    source, output = list("abcdefgh"), list("xcdefyab")
    assert longest_run(output, source) == 4 and longest_run([], source) == 0
    long = [str(i * i % 977) for i in range(20_000)]
    assert longest_run(long, long) == len(long)
    assert lcs_length(long, long) == len(long)  # in parts
    text = " ".join(long)
    assert overlap(text, text).share == 1.0


def test_prose_is_told_from_lists_in_the_languages_whose_function_words_are_known() -> None:
    for code, paragraphs in PARAGRAPHS.items():
        assert min(well_formed(p, code) for p in paragraphs) > 0.7, code
    assert well_formed("Mühle Korn Flügel Verein Balken Käfer Besucher Kappe Sonntag Monat Moor Rand Regen.", "de") == 0.0
    assert well_formed("Mühle Korn Flügel Verein Balken Käfer Besucher Kappe Sonntag Monat Moor Rand Regen.", None) == 1.0


class Counted(str):
    """A text that counts the characters which are taken from it."""

    taken = 0

    def __getitem__(self, key: Any) -> str:
        piece = super().__getitem__(key)
        Counted.taken += len(piece)
        return piece


@pytest.mark.parametrize("unit", ["Mr. ", "A. B. C. Smith, ", "No. 5 ", "3. Mai ", "a.\u2028", "\u2028"])
def test_what_ends_no_sentence_is_not_read_again(unit: str) -> None:
    text = Counted("a" + unit * 2000 + "b")
    Counted.taken = 0
    sentence_ends(text)
    assert Counted.taken < 20 * len(text)
