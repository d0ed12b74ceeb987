"""Claims from passages: what a corruption changes, what a paraphrase keeps, and how they are split."""

from __future__ import annotations

import time
from random import Random

import pytest

from synpro.faithfulness.claims import KINDS, make_claims, split_claims
from synpro.faithfulness.corruptions import CORRUPTIONS, CorruptionContext, corrupt, find_names
from synpro.faithfulness.paraphrases import PARAPHRASES, paraphrase
from synpro.language.segmentation import sentence_spans
from synpro.records import Passage
from tests.rewards.reference import SOURCES

PASSAGES = [Passage(f"{name}#0000", name, 0, 0, len(text), text) for name, text in SOURCES.items()]
CONTEXT = CorruptionContext(
    "In 1900 Anna Berg of Oslo met Carl Holm in London. By 1912 all 30 members lived in Bergen, because rents were low.",
    ["The Nile, which floods each year, flows through Egypt and Sudan to Cairo."],
    ["Cairo", "Egypt", "Sudan"],
)
SENTENCES = {
    "number": "All 30 members lived in Bergen.",
    "date": "In 1900 Anna Berg met Carl Holm.",
    "unit": "The walk was 30 kilometres long.",
    "entity": "She met Carl Holm in London.",
    "negation": "The rents were low in Bergen.",
    "role": "In 1900 Anna Berg met Carl Holm.",
    "cause": "All members lived in Bergen because rents were low.",
    "quantifier": "All members lived in Bergen.",
    "opposite": "The rents were low in Bergen.",
    "invented": "The members lived in Bergen.",
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_changes_its_sentence_and_says_none_where_it_does_not_apply(kind: str) -> None:
    for seed in range(20):
        changed = corrupt(kind, SENTENCES[kind], CONTEXT, Random(seed))
        assert changed is not None and changed != SENTENCES[kind]
    bare = "Birds sang and children slept." if kind != "invented" else "Rain fell."
    assert corrupt(kind, bare, CONTEXT, Random(0)) is None


def test_corruptions_do_what_their_name_says() -> None:
    def one(kind: str) -> str:
        return str(corrupt(kind, SENTENCES[kind], CONTEXT, Random(1)))

    assert one("role") == "In 1900 Carl Holm met Anna Berg."
    assert one("cause") == "Rents were low because all members lived in Bergen."
    assert one("quantifier") == "Some members lived in Bergen."
    assert one("opposite") == "The rents were high in Bergen."
    assert "miles" in one("unit")
    assert "not" in one("negation") or "never" in one("negation")
    assert corrupt("negation", "The rents were not low.", CONTEXT, Random(0)) == "The rents were low."
    assert "30" not in one("number") and "1900" not in one("date")
    assert find_names(one("entity")) != find_names(SENTENCES["entity"])


def test_what_a_corruption_leaves_is_not_in_the_passage() -> None:
    context = CorruptionContext("Anna met Carl Holm. Carl Holm met Anna Berg.", [], [])
    assert corrupt("role", "Anna Berg met Carl Holm.", context, Random(0)) is None


def test_paraphrases_keep_names_and_numbers() -> None:
    from synpro.faithfulness.evidence import unknown_names, unknown_numbers
    from synpro.faithfulness.parsed_text import ParsedText

    changed = 0
    for seed in range(5):
        for text in SOURCES.values():
            for start, end in sentence_spans(text):
                other, how = paraphrase(text[start:end], Random(seed))
                changed += bool(how)
                source = ParsedText(text)
                assert unknown_numbers(ParsedText(other), source) == 0, other
                assert unknown_names(ParsedText(other), source) == 0, other
    assert changed > 40


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("shortened", "However, the mill (built of stone) stood by the river.", None),
        ("reordered", "In 1901, the mill burned down.", "The mill burned down in 1901."),
        ("reordered", "The mill burned down because nobody kept watch.", "Because nobody kept watch, the mill burned down."),
        ("voice", "The mill was destroyed by Peter Falk in 1901.", "Peter Falk destroyed the mill in 1901."),
        ("voice", "Peter Falk built the mill in 1901.", "The mill was built by Peter Falk in 1901."),
        ("one_clause", "The old mill burned down, and the owner moved to Bath.", None),
        ("as_definition", "Braille is a script for the blind.", "Braille: a script for the blind."),
        ("number_format", "On 3 May two men came.", None),
    ],
)
def test_paraphrases_by_example(name: str, before: str, after: str | None) -> None:
    other = PARAPHRASES[name](before, Random(0))
    assert other is not None and other != before
    assert after is None or other == after


def test_an_adjunct_of_a_denial_is_kept() -> None:
    assert PARAPHRASES["shortened"]("It was not built in Rome, the capital, in 1900.", Random(0)) is None


def test_claims_are_of_every_kind_and_the_same_every_time() -> None:
    claims = make_claims(PASSAGES, seed=3, limit=200)
    assert claims == make_claims(PASSAGES, seed=3, limit=200) != make_claims(PASSAGES, seed=4, limit=200)
    kinds = {c.kind for c in claims}
    assert {"verbatim", "reworded"} <= kinds and len(kinds & set(KINDS)) >= 8
    faithful = [c for c in claims if c.label == "faithful"]
    assert 0.35 < len(faithful) / len(claims) < 0.65
    assert all(c.label == ("absent" if c.kind == "other" else "unsupported") for c in claims if c not in faithful)
    assert all(
        c.text in " ".join(c.passage.split()) or "; " in c.text or ", and" in c.text for c in claims if c.kind == "verbatim"
    )


def test_no_document_is_in_two_parts() -> None:
    claims = make_claims(PASSAGES, seed=0, limit=200)
    split = split_claims(claims, calibration=0.15, heldout=0.25)
    parts = [{c.document for c in part} for part in (split.train, split.calibration, split.heldout)]
    assert all(parts) and not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
    assert set.union(*parts) == set(SOURCES)
    with pytest.raises(ValueError, match="2 documents"):
        split_claims([c for c in claims if c.document in ("honey", "glacier")], 0.15, 0.25)


def test_languages_with_another_full_stop_or_none_give_claims() -> None:
    texts = {
        "th": "โรงสีเก่าขนข้าวไปยังแม่น้ำเจ้าพระยา แม่น้ำเจ้าพระยาไหลผ่านกลางเมืองหลวงเก่า",
        "hy": "Գետը հոսում է քաղաքի միջով դեպի հարավ։ Մարդիկ ամեն օր գնում են շուկա հաց գնելու։",
        "ka": "ქალაქი მდებარეობს დიდი მდინარის ნაპირზე. ძველი ბაზარი ქალაქის შუაგულში მდებარეობს.",
    }
    for code, text in texts.items():
        passages = [Passage(f"{d}#0", d, 0, 0, len(text), text) for d in "abc"]
        claims = make_claims(passages, seed=0, limit=20)
        assert {c.document for c in claims} == set("abc") and {c.kind for c in claims} == {"verbatim", "other"}, code


def test_without_sentences_it_is_said_what_a_claim_is() -> None:
    with pytest.raises(ValueError, match=r"0 documents.* ends with a mark .*train_verifier\.kind = \"none\""):
        split_claims([], 0.15, 0.25)


def test_the_limit_holds_and_one_document_gives_no_claims_of_another() -> None:
    assert len(make_claims(PASSAGES, seed=0, limit=10)) == 10
    assert all(c.kind != "other" for c in make_claims(PASSAGES[:1], seed=0, limit=100))


@pytest.mark.parametrize("unit", ["7", "7,", "3. Mai ", "12 km, ", "in Oslo, ", "((Oslo "])
@pytest.mark.parametrize("kind", ["number", "unit", "entity"])
def test_time_of_a_corruption_grows_with_the_sentence_not_with_its_square(kind: str, unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        start = time.process_time()
        corrupt(kind, text, CorruptionContext(text, [text], []), Random(1))
        return time.process_time() - start

    small = min(seconds(4_000) for _ in range(3))
    assert min(seconds(64_000) for _ in range(3)) < 16 * 6 * max(small, 1e-3)  # the square would be 256 times
