"""Contamination: items are found in texts, whole, changed or short; common phrases are not."""

import random

import pytest

from synpro.corpus.contamination import MAX_SHARING_ITEMS, BenchmarkIndex, BenchmarkItem, contamination_table

WORDS = [
    f"{a}{b}" for a in ("ka", "mo", "ri", "se", "tu", "ve", "lo", "pi") for b in ("lan", "der", "fin", "gos", "mur", "tek")
]


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def questions(task: str, count: int, words: int, seed: int) -> list[BenchmarkItem]:
    rng = random.Random(seed)
    return [BenchmarkItem(task, str(i), text(rng, words)) for i in range(count)]


LONG, SHORT = questions("long", 50, 40, 1), questions("short", 50, 9, 2)
KNOWN = BenchmarkIndex([*LONG, *SHORT, BenchmarkItem("tiny", "0", "too few words to be told apart")])


def test_a_planted_item_is_found_in_any_case_and_punctuation_and_nothing_else_is() -> None:
    rng = random.Random(3)
    for item in (LONG[7], SHORT[9]):
        planted = f"{text(rng, 200)} {item.text.upper().replace(' ', ',  ')}! {text(rng, 200)}"
        assert [h.item for h in KNOWN.find(planted)] == [item]
        reason, detail = KNOWN.contaminated(planted) or ("", "")
        assert reason == "contamination" and detail.startswith(f"it contains 100% of {item.task} item {item.id}")
    assert not any(KNOWN.find(text(rng, 400)) for _ in range(50))


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not() -> None:
    rng, words = random.Random(4), LONG[3].text.split()
    for n, found in ((13, 1), (12, 0)):
        hits = KNOWN.find(f"{text(rng, 50)} {' '.join(words[10 : 10 + n])} {text(rng, 50)}")
        assert len(hits) == found
    assert KNOWN.find(" ".join(words[10:23]))[0].words == " ".join(words[10:23])


def test_a_copy_with_a_changed_word_is_found_by_its_shingles() -> None:
    words = LONG[5].text.split()
    for i in (12, 25, 38):
        words[i] = "other"  # no 13 words in a row are left
    assert not KNOWN.find(" ".join(words)), "three changed words break 12 of 36 shingles: under 80%"
    words = LONG[5].text.split()
    words[12] = "other"
    assert [h.item for h in KNOWN.find(" ".join(words))] == [LONG[5]]


def test_what_many_items_of_a_task_share_is_no_hit() -> None:
    rng = random.Random(5)
    prompt = text(rng, 20)
    shots = [BenchmarkItem("shots", str(i), f"{prompt} {text(rng, 20)}") for i in range(MAX_SHARING_ITEMS + 1)]
    few = [BenchmarkItem("few", str(i), f"{prompt} {text(rng, 20)}") for i in range(MAX_SHARING_ITEMS)]
    found = BenchmarkIndex([*shots, *few]).find(f"before {prompt} after")
    assert {h.item.task for h in found} == {"few"}
    assert [h.item for h in BenchmarkIndex(shots).find(shots[4].text)] == [shots[4]]


def test_passages_are_reported_and_drop_nothing() -> None:
    item = BenchmarkItem("boolq", "3", text(random.Random(6), 60), passage=True)
    known = BenchmarkIndex([item])
    assert known.find(item.text) and known.contaminated(item.text) is None
    table, rows = contamination_table(known, [("organic", "d", item.text)])
    assert table[0].group == rows[0]["task"] == "boolq (passages)" and table[0].is_contaminated


def test_the_table_counts_items_by_kind_of_text_and_says_what_could_not_be_tested() -> None:
    rng = random.Random(7)
    texts = [
        ("organic", "a", f"{text(rng, 30)} {LONG[0].text}"),
        ("organic", "b", LONG[0].text + " " + LONG[1].text),
        ("synthetic", "c", text(rng, 300)),
        ("reference", "d", SHORT[2].text),
    ]
    table, rows = contamination_table(KNOWN, texts)
    assert [(r.group, r.items, r.tested, r.hit) for r in table] == [
        ("long", 50, 50, {"organic": 2, "synthetic": 0, "reference": 0}),
        ("short", 50, 50, {"organic": 0, "synthetic": 0, "reference": 1}),
        ("tiny", 1, 0, {"organic": 0, "synthetic": 0, "reference": 0}),
    ]
    assert [(r["task"], r["item"], r["kind"], r["document"]) for r in rows] == [
        ("long", "0", "organic", "a"),
        ("long", "0", "organic", "b"),
        ("long", "1", "organic", "b"),
        ("short", "2", "reference", "d"),
    ]


def test_nothing_to_look_for_or_in() -> None:
    assert BenchmarkIndex([]).find("some text") == [] and KNOWN.find("") == [] and KNOWN.find("one two three") == []
    assert contamination_table(KNOWN, [])[0][0].hit == {}


@pytest.mark.parametrize("task", ["copa", "arc_easy_rc_0shot_bpb", "sciq_rc_0shot_bpb"])
def test_items_of_real_tasks_find_themselves(task: str) -> None:
    from synpro.lm.tasks import benchmark_items

    found = list(BenchmarkIndex.of(benchmark_items([task])).items)
    mine = [i for i in found if not i.passage]
    assert len({i.id for i in mine}) == len(mine) >= 100
    assert not any(i.text.startswith(("Question:", "Answer:")) for i in mine)
    some = [i for i in mine if len(i.text.split()) > 12][:20]
    known = BenchmarkIndex(found)
    assert len(some) == 20 and all(i in [h.item for h in known.find(f"Some say: {i.text} And so on.")] for i in some)
