import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from synpro.commands import report as command
from synpro.report import charts
from synpro.report.html import seconds
from synpro.report.page import render, summary, write_report
from synpro.report.run_data import load_run
from synpro.runner.artifacts import NotARun
from tests.report.builder import HOSTILE, build


@pytest.fixture(scope="module")
def page(finished_run: Path) -> str:
    return render(finished_run)


def body(page: str) -> str:
    """The page without its scripts and styles, plotly among them."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_the_one_number_stands_first_with_its_interval_and_its_limits(page: str, finished_run: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", body(page)[body(page).index("<header>") :])
    assert re.match(r"\s*SynPro run “demo”\s+−0\.\d{4}\s*nats per token · 95% interval −0\.\d{4} to −0\.\d{4}", text)
    assert "no multiplier of effective tokens" in text and "Held-out loss fell from" in text
    assert not re.search(r"\d(\.\d+)?\s?[x×]\s", text.split("Warnings")[0])


def test_every_section_has_something_in_it(page: str) -> None:
    for name in ("loss", "rewards", "health", "validation", "influence", "kept", "cost"):
        assert f'id="chart-{name}"' in page
    for text in ("piqa/acc", "dropped: copy", "wiki00:reformat:02", "tuned-repetition", "layers = 4", "versions.torch"):
        assert text in page
    assert page.count('class="card source"') == 9  # six samples, and the three passages of the document whose claims are shown


def test_one_document_shows_each_claim_its_verdict_and_its_source_sentence(page: str) -> None:
    section = page[page.index('id="claims"') : page.index('id="samples"')]
    assert "No verifier was trained" in section and "wiki00" in section
    assert section.count(">faithful</td>") == section.count(">unsupported</td>") == section.count("<mark>") == 3
    for part in (">0.91</td>", ">0.12</td>", "<sup>1, 2</sup></mark>"):
        assert section.count(part) == 3
    assert "<script>" not in section and "&lt;script&gt;" in section
    assert "Nothing to draw yet" not in page


def test_replicas_of_the_probe_are_shown_where_there_are_any(page: str, tmp_path: Path) -> None:
    assert "rank correlation" not in body(page)
    run = build(tmp_path / "replicated")
    for path in run.glob("round-*/probe/probe.json"):
        ranks = {"replicas": 3, "rank_correlation": 0.8125, "rank_correlation_lowest": 0.75, "ranked_passages": 1000}
        if path.parent.parent.name == "round-02":
            ranks |= {"rank_correlation": None, "rank_correlation_lowest": None}
        path.write_text(json.dumps(json.loads(path.read_text()) | ranks))
    shown = body(render(run))
    assert "0.812 (0.750)" in shown and "1,000" in shown and shown.count('<td class="n">3</td>') >= 2


def test_text_from_the_run_is_escaped_everywhere(page: str) -> None:
    assert HOSTILE not in page and "<script>alert" not in page
    assert "&lt;script&gt;alert(&#39;from a generator&#39;)" in page


def test_the_page_opens_with_no_network(page: str) -> None:
    class Links(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [str(v) for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")]

    links = Links()
    links.found = []
    links.feed(page)
    assert links.found == []
    assert page.count("<script") == 2 + 7 and "plotly.js v" in page
    assert len(page) < 8_000_000


def test_the_tags_are_balanced(page: str) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "br", "link", "hr", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    balance = Balance()
    balance.feed(page)
    assert balance.open == []


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(page: str, finished_run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(finished_run, tmp_path / "demo"))
    written = write_report(moved)
    assert written == moved / "report.html"
    assert written.read_text(encoding="utf-8") == page
    assert write_report(moved).read_text(encoding="utf-8") == page  # the old page is not part of what it reads
    assert not list(moved.glob("*.tmp"))


def test_no_page_is_left_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotARun, match="no such run directory"):
        write_report(tmp_path / "nothing")
    with pytest.raises(NotARun, match="holds no steps"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_has_a_page_too(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "demo"))
    shutil.rmtree(run / "round-02")
    (run / "round-01/train-rephrase/result.json").unlink()
    (run / "round-01/train-rephrase/validation.json").unlink()
    page = body(render(run))
    assert "not complete" in page and "<td>round-02/pretrain</td><td>Has not begun.</td>" in page
    assert "rephrase, round 1 <span" in page and "(in progress)" in page
    for step in ("round-01", "round-00/pretrain", "round-00/evaluate"):
        shutil.rmtree(run / step)
    page = body(render(run))
    assert "No change to report yet" in page and "No synthetic text yet" in page and "Nothing to draw yet" in page
    (run / "round-00/prepare/result.json").unlink()
    assert "The corpus is not prepared yet" in body(render(run))


def test_the_summary_prints_the_number_with_its_interval(finished_run: Path) -> None:
    lines = summary(finished_run)
    assert re.search(r"fell by 0\.\d{4} nats .* 95% interval of the change -0\.\d{4} to -0\.\d{4}", lines[0])
    assert "bits per byte" in lines[1] and "no multiplier" in lines[2]
    assert lines[3].startswith("7 warnings, in full in the report; 1 about the whole run") and len(lines) == 10
    assert "Warnings (7)" in body(render(finished_run))


def test_axes_carry_units_and_rounds_are_marked(finished_run: Path) -> None:
    data = load_run(finished_run)
    loss = charts.loss(data)
    assert loss is not None
    assert "nats per token" in loss.layout.yaxis.title.text and "tokens" in loss.layout.xaxis.title.text
    assert [a.text.strip() for a in loss.layout.annotations] == ["round 0", "round 1", "round 2"]
    ends = {t.name: list(t.x) for t in loss.data if t.name.startswith("ended")}
    assert ends == {"ended: plateau": [40_000, 70_000], "ended: token budget spent": [96_000]}
    influence = charts.influence(data)
    assert influence is not None and len(influence.data) == 8
    assert all("% > 0" in box.x[1][0] for box in influence.data)
    kept = charts.kept(data)
    assert kept is not None
    assert [sum(bar.x[i] for bar in kept.data) for i in range(4)] == [36] * 4


def test_a_long_curve_is_thinned_by_means() -> None:
    assert charts.thinned(((1, 2.0), (2, 4.0))) == ((1, 2.0), (2, 4.0))
    long = charts.thinned(tuple((i, float(i % 2)) for i in range(10_000)), most=1000)
    assert len(long) == 1000 and long[-1] == (9999, 0.5)
    assert charts.thinned(()) == ()


def test_the_report_reaches_no_model_library() -> None:
    code = (
        "import sys, synpro.report.page, synpro.report.lineage\n"
        "heavy = {'torch', 'transformers', 'trl', 'vllm', 'plotly', 'pyarrow', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("value", "said"), [(3.21, "3.2 s"), (190, "3 min 10 s"), (7500, "2 h 05 min"), (None, "–")])
def test_times_read_well(value: float | None, said: str) -> None:
    assert seconds(value) == said


def test_influence_that_measures_memorisation_is_warned_of(page: str, tmp_path: Path) -> None:
    assert "memorisation" not in body(page)
    run = build(tmp_path / "memorised")
    file = run / "round-01/probe/probe.json"
    seen = {"train": -0.54, "heldout": 0.39, "error": 0.03}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"memorization": seen}))
    assert "measures memorisation as well as learning" in body(render(run))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"memorization": {**seen, "train": 0.35}}))
    assert "memorisation" not in body(render(run))


def test_a_run_that_cannot_be_written_has_a_page_elsewhere(
    page: str, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    assert command.write_report(finished_run, tmp_path / "new/page.html") == tmp_path / "new/page.html"
    assert (tmp_path / "new/page.html").read_text(encoding="utf-8") == page
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
