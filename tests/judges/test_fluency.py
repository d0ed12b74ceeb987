"""The quality stand-in with its real language model."""

from __future__ import annotations

import random

import pytest

from synpro.assets import model_folder
from synpro.judges.base import JudgesConfig
from synpro.judges.fluency import FluencyQuality
from tests.languages.texts import ENGLISH_INVENTION, MAORI, PARAGRAPHS
from tests.rewards.reference import REFORMATTED, REPHRASED, SOURCES


@pytest.fixture(scope="module")
def judge() -> FluencyQuality:
    return FluencyQuality(model_folder(JudgesConfig().fluency.model, slot="judges.fluency"))


def test_prose_is_good_and_what_games_it_is_not(judge: FluencyQuality) -> None:
    source = SOURCES["honey"]
    shuffled = source.split()
    random.Random(0).shuffle(shuffled)
    letters = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz     ", k=300))
    bad = {
        "gibberish": letters,
        "shuffled words": " ".join(shuffled) + ".",
        "a loop": (source.split(". ")[0] + ". ") * 6,
        "the most likely words": "the " * 60,
        "shouting": source.upper(),
        "symbols": source.replace(" ", " ## "),
        "two words": "Honey keeps.",
        "nothing": "",
    }
    good = judge.rate([*SOURCES.values(), *REPHRASED.values(), *REFORMATTED.values()])
    assert min(good) > 4.0
    for name, rating in zip(bad, judge.rate(list(bad.values()), [source] * len(bad)), strict=True):
        assert 1.0 <= rating < 2.5, name


def test_more_predictable_than_prose_earns_nothing(judge: FluencyQuality) -> None:
    plain = "The house is big. The garden of the house is also big. There are many trees in the garden, and there is a pond."
    rating, source = judge.rate([plain, SOURCES["glacier"]])
    assert rating < source + 0.3


def test_a_rating_does_not_depend_on_its_neighbours(judge: FluencyQuality) -> None:
    texts = [SOURCES["honey"], "Short text with few words in it.", SOURCES["printing"]]
    alone = [judge.losses([t])[0] for t in texts]
    assert judge.losses(texts) == alone
    assert judge.losses(texts[::-1]) == alone[::-1]


def test_it_abstains_by_the_language_of_the_source(judge: FluencyQuality) -> None:
    german, chinese = PARAGRAPHS["de"][0], PARAGRAPHS["zh"][0]
    assert judge.rate([german, chinese]) == [None, None]
    rated, foreign = judge.rate([german, ENGLISH_INVENTION], [SOURCES["honey"], german])
    assert judge.rate([MAORI, ENGLISH_INVENTION], [MAORI, MAORI]) == [None, None], "which language it is in does not matter"
    assert rated is not None and foreign is None  # nothing gains by looking foreign, nor by leaving the passage's language
