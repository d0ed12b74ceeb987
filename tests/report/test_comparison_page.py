"""What the page of a comparison says of arms without a search of their own, of few articles, and of older files."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from synpro.commands.report import write_report
from synpro.report.comparison import _replace_block, figures, headline, markdown, notes, rows
from synpro.report.figures import to_plotly, to_svg

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "compare" / "compare.json"


def published(**arm: Any) -> dict[str, Any]:
    numbers = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    numbers["arms"]["prompt-only"] |= arm
    return numbers


def test_a_file_of_an_earlier_version_is_shown() -> None:
    numbers = published()
    numbers["about"].pop("effective_units", None)
    assert "held-out documents of 20 articles." in markdown(numbers, "a command")
    numbers["about"]["effective_units"] = 8.3
    assert "which differ in length and count as 8.3 equal ones." in markdown(numbers, "a command")


def test_a_new_page_names_the_command_with_its_argument(tmp_path: Path) -> None:
    page = _replace_block(tmp_path / "README.md", "# Results", "one", "Body.\n")
    assert "`synpro compare CONFIG --results FOLDER`" in page.read_text()
    for shipped in ("results/README.md", "what-pays.md"):
        assert "CONFIG --results`" not in (PUBLISHED.parents[2] / shipped).read_text(encoding="utf-8")


def test_an_arm_without_a_search_stands_under_repetition_s_settings() -> None:
    numbers = published(search={"trials": [], "carried": True}, forced=None)
    row = next(row for row in rows(numbers) if row.arm == "prompt-only")
    change = row.cells["against tuned repetition [95%]"]
    assert row.cells["with repetition's settings [95%]"] == change != "–"
    found = notes(numbers)
    assert "Nothing was searched for prompt-only: repetition's settings with the whole budget." in found
    assert any("generator-text" in note for note in found)
    assert any(note.startswith("Intervals are conditional on the settings chosen") for note in found)


def test_an_arm_with_another_s_settings_is_no_stricter_line() -> None:
    numbers = published()
    numbers["arms"]["synpro"] = numbers["arms"]["prompt-only"] | {"search": {"trials": [], "carried": True}, "forced": None}
    numbers["arms"]["synpro"]["settings_from"] = "prompt-only"
    row = next(row for row in rows(numbers) if row.arm == "synpro")
    assert row.cells["with repetition's settings [95%]"] == "–" != row.cells["against tuned repetition [95%]"]
    assert "Nothing was searched for synpro: the settings of prompt-only, which favours prompt-only." in notes(numbers)


def test_the_headline_names_the_budget_and_gives_the_stricter_line_too() -> None:
    said = {"words": "1.50x [1.20x, 1.80x]", "notes": []}
    strict = {"data_efficiency": {"words": "1.20x [1.10x, 1.30x]", "notes": []}, "change": None}
    text = headline(published(data_efficiency=said, forced=strict))
    assert "in a budget of 2,097,152 tokens: 1.50x [1.20x, 1.80x]. With repetition's settings: 1.20x" in text
    assert "With repetition's settings" not in headline(published(data_efficiency=said, forced=None))


def test_a_whole_budget_is_told_where_less_of_it_was_tried() -> None:
    def search(*shares: float) -> dict[str, Any]:
        trials = [{"settings": {"share": share}, "draw": 0} for share in shares]
        return {"trials": trials, "gains_from_tokens": True, "settled": True, "carried": False, "open_axes": []}

    said = "The whole budget was best for prompt-only: its loss is that of this budget."
    assert said in notes(published(search=search(1.0, 0.7))) and said not in notes(published(search=search(1.0, 1.0)))


def test_an_arm_with_a_single_measurement_has_a_mark_in_the_figure() -> None:
    numbers = published()
    for seed in numbers["arms"]["prompt-only"]["seeds"].values():
        seed["points"] = seed["points"][-1:]
    kinds = {series.name: series.kind for series in figures(numbers)["loss"].series}
    assert kinds["prompt-only"] == "points" != kinds["tuned-repetition"]


def test_every_arm_of_a_figure_stands_at_its_own_cost() -> None:
    """In the published comparisons."""
    for name in ("compare", "compare-small", "compare-news"):
        folder = PUBLISHED.parents[1] / name
        numbers = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        drawn = figures(numbers)
        for figure, cost in (
            ("generated", lambda a: a["generated_tokens"]),
            ("compute", lambda a: a["cost"]["total"]["flops"]),
        ):
            at = {series.name: series.x[0] for series in drawn[figure].series}
            assert at == {n: cost(numbers["arms"][n]) for n in at} and at
            assert len(set(at.values())) > 1 or len(at) == 1


def test_no_two_arms_of_a_figure_look_the_same() -> None:
    """However many they are, up to four times the colours."""
    numbers = published()
    arm = numbers["arms"]["prompt-only"]
    numbers["arms"] |= {f"arm-{i}": arm for i in range(26)}
    drawn = figures(numbers)
    for name in ("loss", "generated", "compute"):
        looks = [(series.colour, series.style) for series in drawn[name].series]
        assert len(looks) >= 26 and len(set(looks)) == len(looks), name
    for kind in ("loss", "compute"):
        one = replace(drawn[kind], series=drawn[kind].series[:1])
        styles = [replace(one, series=(replace(one.series[0], style=style),)) for style in range(4)]
        assert len({to_svg(f) for f in styles}) == len({to_plotly(f).to_json() for f in styles}) == 4, kind


def test_a_figure_of_many_arms_stays_readable() -> None:
    numbers = published()
    few = figures(numbers)
    arm, line = numbers["arms"]["prompt-only"], numbers["arms"]["tuned-repetition"]
    points = [[x, 50.0] for x, _ in next(iter(line["seeds"].values()))["points"]]
    numbers["arms"]["repetition"] = {**line, "seeds": {s: {**v, "points": points} for s, v in line["seeds"].items()}}
    assert figures(numbers)["loss"].y_range == few["loss"].y_range, "what diverges is cut, not squeezed into the range"
    guides = [s for s in few["unique"].series if s.kind == "line" and not s.name]
    assert len(guides) > 1
    numbers["arms"] |= {f"arm-{i}": arm for i in range(30)}
    many = figures(numbers)["unique"]
    assert len([s for s in many.series if s.kind == "line" and not s.name]) == 1, "the curve alone"
    heights = [float(re.findall(r'height="([0-9.]+)pt"', to_svg(f))[0]) for f in (few["unique"], many)]
    assert heights[1] > 1.3 * heights[0], "as high as its legend"


def test_a_page_that_is_written_again_has_the_arms_in_their_order(tmp_path: Path) -> None:
    shutil.copyfile(PUBLISHED, tmp_path / "compare.json")
    shutil.copyfile(PUBLISHED.with_name("config.toml"), tmp_path / "config.toml")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    places = [page.index(f"<b>{name}</b>") for name in ("tuned-repetition", "prompt-only", "oracle-2")]
    assert places == sorted(places)
