import random

from synpro.measure.absorption import cloze_items, rank_of_right, value_pool, values
from tests.measure.facts import NAMES, fact


def test_names_numbers_and_years_of_a_sentence() -> None:
    found = values("Later the King of Spain gave Juan Garcia 1,250 ships in 1588, said Pope Sixtus.")
    assert [(v.kind, v.text) for v in found] == [
        ("name", "King"),
        ("name", "Spain"),
        ("name", "Juan Garcia"),
        ("number", "1,250"),
        ("year", "1588"),
        ("name", "Pope Sixtus"),
    ]
    assert values("Madrid is a city") == [] and values("") == [], "a capital at the beginning says nothing"
    assert [v.text for v in values("这座桥建于1588年")] == ["1588"], "scripts without capitals have numbers"


def test_items_ask_for_a_value_of_the_source_among_others_of_its_kind() -> None:
    texts = [fact(i) for i in range(60)]
    pool = value_pool(texts)
    items = cloze_items([(str(i), t, t) for i, t in enumerate(texts)], pool, most=40, distractors=5)
    assert len(items) == 40 and {i.kind for i in items} == {"name", "number", "year"}
    assert items == cloze_items([(str(i), t, t) for i, t in enumerate(texts)], pool, most=40, distractors=5)
    for item in items:
        assert item.sentences[0] == texts[int(item.document)], "the right value first"
        assert len(set(item.options)) == 6 and not any(o in item.sentences[0] for o in item.options[1:])
    other = "In other words the builder Velstein had 999 helpers at the end."
    assert cloze_items([("0", other, "a text about Velstein")], pool)[0].options[0] == "Velstein", "999 is not in the source"
    assert cloze_items([("0", other, "a text about somebody else")], pool) == []


def test_a_model_that_knows_frequencies_alone_is_at_chance() -> None:
    rng = random.Random(3)
    names = rng.choices(NAMES, weights=[2.0 ** -(i / 2) for i in range(len(NAMES))], k=3000)
    texts = [f"On that day the old engineer {name} went over the bridge again." for name in names]
    items = cloze_items([(str(i), t, t) for i, t in enumerate(texts)], value_pool(texts), most=3000, distractors=3)
    ranks = [rank_of_right([-names.count(o) for o in item.options]) for item in items]
    assert abs(sum(r == 1 for r in ranks) / len(ranks) - 0.25) < 0.12, "distractors are drawn as often as they occur"
    flat = cloze_items([(str(i), t, t) for i, t in enumerate(texts)], {("name", 1): NAMES}, most=3000, distractors=3)
    easy = [rank_of_right([-names.count(o) for o in item.options]) for item in flat]
    assert sum(r == 1 for r in easy) / len(easy) > 0.4, "drawn evenly, the frequent value would be the right one"


def test_equal_losses_share_a_rank() -> None:
    assert rank_of_right([1.0, 2.0, 3.0]) == 1 and rank_of_right([3.0, 2.0, 1.0]) == 3 and rank_of_right([1.0, 1.0, 1.0]) == 2
