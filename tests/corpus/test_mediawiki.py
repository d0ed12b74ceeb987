"""Wikipedia dumps and their markup."""

import bz2
from pathlib import Path

import pytest

from synpro.corpus.readers import SourceConfig, SourceRow, find_files, read_source
from synpro.corpus.wikitext import strip_markup
from synpro.runner.rejects import Reject

SAMPLE = "wheel:gensim==4.4.0/gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def page(id: int, title: str, text: str, ns: int = 0, extra: str = "") -> str:
    head = f"<title>{title}</title><ns>{ns}</ns><id>{id}</id>{extra}"
    return f"<page>{head}<revision><id>9{id}</id><text>{text}</text></revision></page>\n"


DUMP = (
    "<mediawiki>\n"
    + page(1, "One", "The '''first''' [[page|article]].")
    + page(2, "Two", "#REDIRECT [[One]]", extra='<redirect title="One"/>')
)
DUMP += (
    page(3, "Talk:One", "chat", ns=1)
    + page(4, "Four", "&lt;ref&gt;only&lt;/ref&gt;")
    + page(5, "Five", "x" * 5000)
    + page(6, "Six", "Last.")
)


def items(path: Path | str, limit: int = 1000) -> list[SourceRow | Reject]:
    cfg = SourceConfig(str(path))
    return [item for file in find_files(cfg, slot="s").files for item in read_source(file, cfg, limit)]


def test_pages_of_a_dump(tmp_path: Path) -> None:
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress((DUMP + "</mediawiki>").encode()))
    found = items(tmp_path)
    assert found[0] == SourceRow("1", "The first article.", "wiki.xml.bz2:One", group="1")
    assert [(i.id, i.reason) for i in found if isinstance(i, Reject)] == [
        ("2", "redirect"), ("3", "namespace"), ("4", "empty"), ("wiki.xml.bz2:Five", "too-large"),
    ]  # fmt: skip
    assert isinstance(found[-1], SourceRow) and found[-1].text == "Last."


def test_a_dump_cut_short_ends_with_a_reject(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(DUMP[: DUMP.index("Last.") + 2])
    last = items(tmp_path)[-1]
    assert isinstance(last, Reject) and (last.id, last.reason, last.text) == ("6", "damaged", "La")
    assert "the dump is cut short or not XML at line 7" in last.detail
    packed = bz2.compress(DUMP.encode())
    (tmp_path / "a.xml").unlink()
    (tmp_path / "b.xml.bz2").write_bytes(packed[:-30])
    assert [i.reason for i in items(tmp_path) if isinstance(i, Reject)][-1] == "damaged"


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]><mediawiki>' + page(1, "One", "&a;") + "</mediawiki>")
    (only,) = items(tmp_path)
    assert isinstance(only, Reject) and "entity 'a'" in only.detail


@pytest.mark.parametrize("root", ["TEI", "rss", "html"])
def test_other_xml_is_no_dump(tmp_path: Path, root: str) -> None:
    head = "<!DOCTYPE html>\n" if root == "html" else '<?xml version="1.0"?>\n'
    (tmp_path / "a.xml").write_text(f"{head}<{root} a='b'><p>Text.<br></p></{root}>")  # as a web page, not well-formed
    (only,) = items(tmp_path)
    assert isinstance(only, Reject) and only.reason == "mislabelled"
    what = "is an HTML page, not mediawiki" if root == "html" else f"is XML whose root is <{root}>, not a MediaWiki dump"
    assert what in only.detail


def test_a_page_that_was_cut_out_of_a_dump_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(page(1, "One", "Text."))
    (only,) = items(tmp_path)
    assert isinstance(only, SourceRow) and only.text == "Text."


@pytest.mark.parametrize(
    ("wiki", "text"),
    [
        ("'''Bold''' and ''italic'' [[link]]s", "Bold and italic links"),
        ("[[target|shown]] [http://x.org site] [http://x.org]", "shown site"),
        ("A.<ref>note</ref> B.<ref name=x /> C.<ref name=y>{{cite|a=b}}</ref> <!-- gone -->D.", "A. B. C. D."),
        ("{| class=x\n| cell\n{| \n| inner\n|}\n|}\nAfter.", "After."),
        ("Intro.\n{| class=x\n| never closed\n\nAfter the table.", "Intro.\n\nAfter the table."),
        ("A.\n\n{| never closed\n| a\n\n\n | b\n\nB.\n\n{| ok\n|}\n\nC.", "A.\n\nB.\n\nC."),
        ("[[File:A.jpg|thumb|A [[linked]] caption]][[Category:X]][[:Category:X]]Text[[de:Text]].", "Text."),
        ("He ({{IPAc-en|x}}; born 1900) left ( ) it {{unknown|x}}.", "He (born 1900) left it."),
        ("Walk {{convert|10|km|mi}} in {{lang|fr|Paris}} {{circa|1900}}.", "Walk 10 km in Paris c. 1900."),
        ("One&nbsp;km &amp; 10<sup>18</sup> m, H<sub>2</sub>O", "One km & 10^18 m, H2O"),
        ("* item one\n* item two\n# third\n: indented", "item one\nitem two\nthird\nindented"),
        (
            "Intro.\n== History ==\nOld.\n=== Early ===\n\n== See also ==\n* [[X]]\n=== More ===\n* y\n== Legacy ==\nNew.",
            "Intro.\n\nHistory\n\nOld.\n\nLegacy\n\nNew.",
        ),
        ("<gallery>a.jpg|x</gallery><blockquote>Said.</blockquote>__NOTOC__", "Said."),
        ("{{unclosed and [[broken", "{{unclosed and [[broken"),
        ("", ""),
    ],
)
def test_markup(wiki: str, text: str) -> None:
    assert strip_markup(wiki) == text


@pytest.mark.hub
def test_the_wikipedia_sample_is_clean_text() -> None:
    import re

    found = items(SAMPLE, limit=20_000_000)
    good = [i for i in found if isinstance(i, SourceRow)]
    assert len(good) == 106 and 430_000 < sum(len(r.text.split()) for r in good) < 460_000
    assert {i.reason for i in found if isinstance(i, Reject)} == {"redirect", "namespace"}
    text = "\n".join(r.text for r in good)
    for glitch in (
        r"\[\[",
        r"\]\]",
        r"'''",
        r"</?(ref|br|div|span|table)",
        r"\bthumb\|",
        r"&nbsp;",
        r"\(\s*\)",
        r"\w ,\s",
        r"^=+",
        r"\|\s*align",
    ):
        assert not re.search(glitch, text, re.MULTILINE), glitch
    assert good[0].id == "12" and good[0].text.startswith("Anarchism is a political philosophy")
