"""Which language a text is in, and what is dropped for being in another than its passage."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from synpro.judges.base import JudgesConfig
from synpro.judges.dataman import DataManQuality
from synpro.judges.languages import abstentions
from synpro.language.identification import known_language, languages_of, may_be, other_language
from synpro.language.scripts import main_script
from synpro.operations.base import SAME_LANGUAGE
from synpro.operations.rephrase import Rephrase
from synpro.records import Passage, Rewrite
from synpro.rewards.filters import FilterConfig, Sample, rule_failure
from tests.languages.texts import ENGLISH_INVENTION, MAORI, PARAGRAPHS

GERMAN, CHINESE = PARAGRAPHS["de"], PARAGRAPHS["zh"]


def passage(text: str) -> Passage:
    return Passage("p#0000", "p", 0, 0, len(text), text)


def test_the_languages_of_the_test_corpora_are_known() -> None:
    assert languages_of(GERMAN) == {"de": 1.0} and languages_of(CHINESE) == {"zh": 1.0}
    assert known_language("1907") is None and known_language("") is None


UNSURE_ALONE = {
    "ar": "كان حارس الميناء القديم يعد القوارب كل مساء.",
    "hr": "Zagreb je glavni grad Hrvatske i najveći grad u zemlji. Grad leži između rijeke Save i planine Medvednice.",
    "no": "Oslo er hovedstaden i Norge og landets største by.",
    "es": "Madrid es la capital de España y la ciudad más grande.",
    "gl": "Lisboa é a capital de Portugal e a maior cidade do país.",
    "tl": "Ang Sugbo usa ka dakbayan sa Pilipinas. Daghang mga tawo ang nagpuyo didto.",
}
"""By the code that is found. The relatives of each language are nearly as probable."""
UNSURE = (
    "Äpfel, Birnen, Kirschen, Pflaumen, Quitten, Mispeln",
    MAORI,
)
RARE_SCRIPTS = {
    "dv": "ދިވެހިރާއްޖެއަކީ އިންޑިޔާ ކަނޑުގައި އޮންނަ ޖަޒީރާ ޤައުމެކެވެ.",
    "zgh": "ⵜⴰⵎⴰⵣⵉⵖⵜ ⴷ ⵜⵓⵜⵍⴰⵢⵜ ⵏ ⵉⵎⴰⵣⵉⵖⵏ.",
    "syr": "ܠܫܢܐ ܣܘܪܝܝܐ ܐܝܬܘܗܝ ܠܫܢܐ ܫܡܝܐ.",
    "nqo": "ߒߞߏ ߦߋ߫ ߛߓߍߛߎ߲߫ ߞߊ߲߫ ߓߘߍ.",
    "chr": "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᎠᏂᏴᏫᏯ.",
    "mni": "ꯃꯩꯇꯩ ꯂꯣꯟ ꯑꯁꯤ ꯃꯅꯤꯄꯨꯔꯗꯥ ꯉꯥꯡꯅꯕ ꯂꯣꯟ.",
    "ii": "ꆈꌠꉙꀉꐎꌠꅉꀕꌠꁱꂷꆈꌠꃅ",
    "iu": "ᐃᓄᒃᑎᑐᑦ ᐅᖃᐅᓯᖅ ᐃᓄᐃᑦ.",
}


def test_the_probabilities_of_languages_that_are_not_told_apart_are_summed() -> None:
    for code, text in UNSURE_ALONE.items():
        assert known_language(text) == code and not may_be(text, ("en",)), code
    assert may_be(UNSURE_ALONE["gl"], ("pt",)) and may_be(UNSURE_ALONE["no"], ("nb",))


def test_a_text_of_unsure_language_is_not_english_where_english_is_improbable() -> None:
    for text in UNSURE:
        assert known_language(text) is None and not may_be(text, ("en",)), text
        assert other_language(ENGLISH_INVENTION, text) == "en"
    assert may_be(UNSURE[1], ("mi",)), "py3langid has no Maori, so nobody can say that it is not"
    assert may_be("Мельница", ("ru",)) and not may_be("Мельница", ("en",)), "one word tells the script"
    for text in ("", "1824, 1907", "Claude Monet", "Ada, Ohio, Hardin County", GERMAN[0]):
        assert may_be(text, ()) and may_be(text, ("en",)) == (text != GERMAN[0])


def test_every_script_has_a_name_and_is_not_latin() -> None:
    for code, text in RARE_SCRIPTS.items():
        assert main_script(text) not in (None, "Latin", "Other") and known_language(text) == code
        assert not may_be(text, ("en",)) and (other_language(ENGLISH_INVENTION, text) or "").startswith("en")
    assert main_script("𞤀𞤁𞤂𞤃") == "Adlam" and not may_be("𞤀𞤁𞤂𞤃", ("en",)), "also where no language is named for the script"
    assert main_script("𝐓𝐡𝐞 𝐦𝐢𝐥𝐥") == main_script("Ｔｈｅ") == "Latin"


def test_texts_of_unsure_language_are_counted() -> None:
    assert languages_of([*GERMAN[:6], *UNSURE]) == {"de": 0.75, "unsure": 0.25} and languages_of([]) == {}


@pytest.mark.parametrize(
    ("text", "source", "found"),
    [
        (ENGLISH_INVENTION, GERMAN[0], "en"),
        (GERMAN[1], GERMAN[0], None),
        ("Die Mühle ist alt.", GERMAN[0], None),  # short: unsure
        ("Old mill", CHINESE[0], "Latin"),  # two words are enough where the script is another
        ("Мельница старая.", GERMAN[0], "Cyrillic"),
        (CHINESE[2], CHINESE[0], None),
        ("これは古い水車の話である。", CHINESE[0], "ja"),
        (ENGLISH_INVENTION, "1824, 1907, 1911: 3.5 km.", None),  # nobody knows what language numbers are in
        ("", GERMAN[0], None),
    ],
)
def test_an_answer_in_another_language_is_told(text: str, source: str, found: str | None) -> None:
    code = other_language(text, source)
    assert code is None if found is None else code and found in code


def test_no_paragraph_counts_as_another_language_than_its_neighbours() -> None:
    for paragraphs in (GERMAN, CHINESE):
        assert not [p for p in paragraphs if other_language(p, paragraphs[0])]
    assert all(other_language(z, d) and other_language(d, z) for d, z in zip(GERMAN, CHINESE, strict=True))


def test_an_english_invention_about_a_german_passage_is_dropped_before_any_judge() -> None:
    rephrase = Rephrase()
    for text, reason in ((ENGLISH_INVENTION, "language"), (GERMAN[1], None)):
        answer = Rewrite(passage(GERMAN[0]), "rephrase", f"Rephrased: {text}", text, None, 40, "stop")
        failure = rule_failure(Sample(answer, rephrase.config), FilterConfig())
        assert (failure and failure[0]) == reason


def test_the_prompt_asks_for_the_language_of_the_passage_where_it_is_not_english() -> None:
    asked = [Rephrase().prompt(passage(text))[-1]["content"] for text in (GERMAN[0], CHINESE[0], UNSURE[0], ENGLISH_INVENTION)]
    assert [SAME_LANGUAGE in content for content in asked] == [True, True, True, False]


def test_judges_say_which_languages_they_know() -> None:
    assert DataManQuality.languages == {"en"} and JudgesConfig().fluency.languages == ("en",)


def test_the_judge_that_abstains_for_a_corpus_is_named() -> None:
    default = asdict(JudgesConfig())
    quality, encoder = abstentions(default, {"de": 0.75, "en": 0.25})
    assert "judges.quality knows en" in quality and "de (75%)" in quality and "judges.encoder knows en" in encoder
    known = {"fluency": {"languages": ["en", "de"]}, "encoder": {"languages": []}}
    assert not abstentions(known, {"de": 0.75, "en": 0.25}) and not abstentions(default, {})
    assert abstentions(default, {"de": 1.0}, used=("quality",)) == [quality.replace("75%", "100%")]
    assert not abstentions(default, {"unsure": 1.0}), "some of them may be in English"
    assert not abstentions({"fluency": {"languages": ["hr"]}}, {"hr": 0.6, "bs": 0.4}), "these are not told apart"
    assert not abstentions({"encoder": {}, "fluency": {"languages": []}}, {"de": 1.0}), "older judges abstained for none"
