"""The page of a comparison, its table as markdown, and what `--results` publishes: all from `compare.json` alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.report.comparison_figures import TITLES, figures
from synpro.report.figures import to_plotly, to_svg
from synpro.report.html import chart, interval, render_template
from synpro.report.what_pays import (
    CONTENT,
    Table,
    absorbed_contrasts_table,
    absorption_table,
    changes,
    checks_table,
    markdown_table,
    rounds_table,
    text_flops,
    verdict,
    what_pays,
)
from synpro.runner.artifacts import write_text

Numbers = dict[str, Any]
"""`compare.json`, as compare/summary.py makes it."""

HEAD = (
    "arm",
    "held-out loss [95%]",
    "against tuned repetition [95%]",
    "data efficiency [95%]",
    "oracle gap closed [95%]",
    "with repetition's settings [95%]",
    "its data efficiency",
    "tokens generated",
    "synthetic tokens trained on",
    "FLOP of generation and RL",
    "FLOP of texts and one training",
)
"""The columns of the table."""


@dataclass(frozen=True)
class ArmRow:
    """One arm in the table, formatted."""

    arm: str
    about: str
    cells: dict[str, str]
    """The columns of HEAD after the name."""
    notes: tuple[str, ...]


def rows(numbers: Numbers) -> list[ArmRow]:
    """The table: one row per arm, in the order of the arms."""
    table = []
    for name, arm in numbers["arms"].items():
        loss, change = arm["loss"], arm["change"]
        forced = arm if _is_carried(arm) else arm["forced"]
        measures = [arm["data_efficiency"], arm["oracle_gap"]]
        cells = (
            f"{loss['mean']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}]",
            "–" if change is None or name == "tuned-repetition" else interval(change),
            *(_words(measure, numbers) for measure in measures),
            "–" if forced is None or forced["change"] is None else interval(forced["change"]),
            "–" if forced is None else _words(forced["data_efficiency"], numbers),
            f"{arm['generated_tokens']:,.0f}" if arm["shards"] else "–",
            f"{arm['synthetic_tokens']:,.0f}" if arm["shards"] else "–",
            f"{text_flops(arm):.2g}" if arm["shards"] else "–",
            f"{arm['cost']['total']['flops']:.2g}",
        )
        about = tuple(dict.fromkeys(note for m in measures if m for note in m["notes"]))
        table.append(ArmRow(name, arm["about"], dict(zip(HEAD[1:], cells, strict=True)), about))
    return table


def _is_carried(arm: Numbers) -> bool:
    """Whether an arm with synthetic text was trained with repetition's settings, because nothing was searched for it."""
    return bool(arm["shards"]) and not (arm["search"] or {}).get("trials") and not arm.get("settings_from")


def _words(measure: Numbers | None, numbers: Numbers) -> str:
    """A measure with its interval as text; "not stated" where the whole comparison refuses to state one."""
    if measure is None:
        return "–"
    return "not stated" if measure.get("refused") == numbers["refused"] is not None else str(measure["words"])


def headline(numbers: Numbers) -> str:
    """The result in a sentence: a multiplier with its interval, or why there is none."""
    if numbers["refused"]:
        return f"No multiplier is printed: {numbers['refused']}."
    arms = {n: a for n, a in numbers["arms"].items() if a["shards"]}
    if not arms:
        return "No arm with synthetic text was compared."
    named = (
        n for base in ("synpro", "prompt-only") for n in arms if n.startswith(base)
    )  # not the best: that would be a choice
    name = next(named, next(iter(arms)))
    said, forced = arms[name]["data_efficiency"], arms[name]["forced"]
    if not said:
        return f"Data efficiency of {name} over tuned repetition: no curve was measured."
    where = f"in a budget of {numbers['about']['budget_tokens']:,} tokens"
    borrowed = arms[name].get("settings_from")
    if borrowed:
        where += f", with the settings of {borrowed}"
    strict = f" With repetition's settings: {_words(forced['data_efficiency'], numbers)}." if forced else ""
    return f"Data efficiency of {name} over tuned repetition, {where}: {said['words']}.{strict}"


def summary(numbers: Numbers) -> list[str]:
    """The result for a terminal: the headline, a line per arm, and the notes."""
    width = max(len(n) for n in numbers["arms"])
    lines = [headline(numbers), ""]
    for row in rows(numbers):
        loss, efficiency, gap = (
            row.cells[f"{head} [95%]"] for head in ("held-out loss", "data efficiency", "oracle gap closed")
        )
        lines.append(f"{row.arm:<{width}}  loss {loss}  efficiency {efficiency}  oracle gap {gap}")
    return [*lines, *([""] if notes(numbers) else []), *notes(numbers)]


def notes(numbers: Numbers) -> list[str]:
    """What a reader must know: contrasts that show no gain, limits of the search and of the intervals."""
    found = []
    for c in numbers["contrasts"]:
        equal = c.get("equal_tokens")
        for change, at in ((c["change"], ""), (equal["change"] if equal else None, " at equal synthetic tokens")):
            if change is not None and change["high"] >= 0:
                found.append(f"{c['arm']} against {c['control']}{at} {verdict(change)}: {c['about']}.")
    about, searches = numbers["about"], numbers["searches"]
    found += [f"Baseline: {note}." for note in numbers["notes"]]
    searched = {**{f"repetition at {n}": s for n, s in searches.items()}, **_own_searches(numbers)}
    for name, search in searched.items():
        climbed = sum(not t["draw"] for t in search["trials"])
        if climbed and not search["settled"]:
            axes = ", ".join(a.replace("_", " ") for a in search["open_axes"])
            found.append(
                f"The search for {name} did not settle in {climbed} settings: a better neighbour may be near in {axes}."
            )
        if climbed > 1 and climbed == len(search["trials"]):
            found.append(f"The search for {name} trained every setting with one seed: it may have found that seed's best.")
    for name, search in list(searched.items())[1:]:  # repetition at the scarce corpus is refused where it gains
        if search["gains_from_tokens"] and len({t["settings"]["share"] for t in search["trials"]}) > 1:
            found.append(f"The whole budget was best for {name}: its loss is that of this budget.")
    if any(s["trials"] for s in searched.values()):
        found.append("Intervals are conditional on the settings chosen: most neighbours that lost did so with one seed.")
    if carried := [name for name, arm in numbers["arms"].items() if _is_carried(arm)]:
        found.append(f"Nothing was searched for {', '.join(carried)}: repetition's settings with the whole budget.")
    if led := {name: arm["settings_from"] for name, arm in numbers["arms"].items() if arm.get("settings_from")}:
        lead = next(iter(led.values()))
        found.append(f"Nothing was searched for {', '.join(led)}: the settings of {lead}, which favours {lead}.")
    if any(a["shards"] for a in numbers["arms"].values()) and not {"generator-text", "generator-news"} & set(numbers["arms"]):
        found.append("What the generator knew before is in every gain: generator-text, which shows how much, was not measured.")
    plain, tuned = (numbers["arms"].get(n, {}).get("loss") for n in ("repetition", "tuned-repetition"))
    if plain and tuned and plain["mean"] < tuned["mean"]:
        found.append(
            f"Repetition with the usual settings ({plain['mean']:.4f}) is better than with those the search found "
            f"({tuned['mean']:.4f}): the search was misled by its few seeds. Read every gain against the lower."
        )
    measured = [*numbers["arms"].items()]
    measured += [(f"{name} with repetition's settings", arm["forced"]) for name, arm in measured if arm["forced"]]
    measured += [(f"the curve at {m['corpus']}", m) for m in numbers["anchors"]]
    measured += [(f"the single pass over {m['corpus']}", m) for m in numbers["passes"]]
    for c in numbers["contrasts"]:
        for name, seeds in c.get("equal_tokens", {}).get("seeds", {}).items():
            measured.append((f"{name} at equal tokens ({c['arm']} against {c['control']})", {"seeds": seeds}))
    for name, models in measured:
        for seed, one in models.get("seeds", {}).items():
            if "diverged" in one:
                found.append(f"{name}, seed {seed}: {one['diverged']}. Its best state is measured, its rate still above 0.")
    seeds = {name: list(arm.get("seeds", {}).values()) for name, arm in numbers["arms"].items()}
    if general := {
        n: [s["general_loss"] for s in models] for n, models in seeds.items() if "general_loss" in (models or [{}])[0]
    }:
        means = ", ".join(f"{name} {sum(losses) / len(losses):.4f}" for name, losses in general.items())
        untouched = next((s["start"] for models in seeds.values() for s in models if "start" in s), None)
        said = "the model they started from {general_loss:.4f} (and {heldout_loss:.4f} on held-out text)"
        before = f"; {said.format(**untouched)}" if untouched else ""
        found.append(f"Loss on general text, mean over seeds: {means}{before}. A rise is what was forgotten.")
    if len(commits := about.get("commits", ())) > 1:
        found.append(f"It was started by {len(commits)} versions of the code: {', '.join(commits)}.")
    if len(about["seeds"]) == 1:
        found.append("One seed: intervals are over held-out documents only.")
    if any(a["shards"] for a in numbers["arms"].values()):
        if about["text_draws"] == 1:
            found.append("Texts were sampled once: intervals hold what training varies by, not what generation varies by.")
        else:
            found.append(
                f"Texts were sampled {about['text_draws']} times and seeds take turns with them; generators were trained once."
            )
    if not about["groups"]:
        found.append("Held-out documents have no group (article): where they are parts of one, intervals are too narrow.")
    for row in rows(numbers):
        own = (note for note in row.notes if note not in numbers["notes"] and not note.startswith("one seed"))  # given above
        found += [f"{row.arm}: {note}." for note in own]
    return list(dict.fromkeys(found))


def _own_searches(numbers: Numbers) -> dict[str, Numbers]:
    return {n: a["search"] for n, a in numbers["arms"].items() if a["search"] and a["search"]["trials"]}


def markdown(numbers: Numbers, command: str) -> str:
    """Format the table with its notes and the command, for a page in `docs/results`."""
    about, corpora = numbers["about"], numbers["corpora"]
    lines = [
        headline(numbers),
        "",
        f"{corpora['u1']['tokens']['train']:,} unique organic tokens, {about['budget_tokens']:,} training tokens, "
        f"{about['parameters']:,} parameters, seeds {', '.join(map(str, about['seeds']))}, "
        f"{corpora['u1']['documents']['heldout']:,} held-out documents{_articles(about)}.",
    ]
    arms: Table = (HEAD, [(r.arm, *r.cells.values()) for r in rows(numbers)])
    for table in (arms, _contrast_table(numbers), absorption_table(numbers), checks_table(numbers), rounds_table(numbers)):
        lines += ["", *shown] if (shown := markdown_table(table)) else []
    lines += ["", *(f"- {note}" for note in notes(numbers)), "", "```bash", command, "```", ""]
    return "\n".join(lines)


def _articles(about: Numbers) -> str:
    """How many articles the held-out documents come from, and how many equal ones those count as; empty without groups."""
    if not about["groups"]:
        return ""
    equal = f", which differ in length and count as {n:.1f} equal ones" if (n := about.get("effective_units")) else ""
    return f" of {about['groups']} articles{equal}"


def _contrast_table(numbers: Numbers) -> Table:
    head = ("arm", "against", "change of loss [95%]", "at equal synthetic tokens", "detectable", "what it says")
    return head, [
        (c["arm"], c["control"], *changes(c), f"{c['change']['detectable']:.3f}", c["about"]) for c in numbers["contrasts"]
    ]


def write_page(root: Path, numbers: Numbers) -> Path:
    """Write ROOT/compare.html, by rename, and return its path."""
    page = root / "compare.html"
    write_text(page, render(root, numbers))
    return page


def render(root: Path, numbers: Numbers) -> str:
    """The page of a comparison."""
    settings = root / "config.toml"
    return render_template(
        "comparison.html.jinja",
        n=numbers,
        headline=headline(numbers),
        rows=rows(numbers),
        head=HEAD,
        own_searches=_own_searches(numbers),
        articles=_articles(numbers["about"]),
        absorbed=absorption_table(numbers),
        absorbed_contrasts=absorbed_contrasts_table(numbers),
        content=CONTENT,
        checks=checks_table(numbers),
        rounds=rounds_table(numbers),
        notes=notes(numbers),
        charts={name: chart(name, to_plotly(figure)) for name, figure in figures(numbers).items()},
        titles=TITLES,
        settings=settings.read_text(encoding="utf-8") if settings.exists() else "",
    )


def publish(root: Path, numbers: Numbers, folder: Path) -> Path:
    """Copy settings, environment, numbers and pictures to FOLDER/NAME, and put the table into FOLDER/README.md and what each
    part adds and costs into `what-pays.md`: beside a folder called `results`, else in it.

    An older section of that name is replaced. The interactive page stays in the run directory: it contains plotly, which is
    too large to commit.
    """
    name = numbers["name"]
    here = folder / name
    here.mkdir(parents=True, exist_ok=True)
    for file in ("config.toml", "environment.json"):
        shutil.copyfile(root / file, here / file)
    write_text(here / "compare.json", json.dumps(numbers, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    pictures = figures(numbers)
    for old in here.glob("*.svg"):
        old.unlink()
    for picture, figure in pictures.items():
        write_text(here / f"{picture}.svg", to_svg(figure))
    at = folder.absolute()
    at = at.relative_to(Path.cwd()) if at.is_relative_to(Path.cwd()) else folder  # a command others can give too
    command = f"synpro compare {at.as_posix()}/{name}/config.toml --results {at.as_posix()}"
    table = markdown(numbers, command)
    shown = "\n".join(f"![{TITLES[p]}]({name}/{p}.svg)\n" for p in pictures)
    home = folder.parent if folder.name == "results" else folder
    _replace_block(home / "what-pays.md", "# What pays", name, what_pays(numbers, command))
    return _replace_block(folder / "README.md", "# Results", name, f"{table}\n{shown}")


def _replace_block(page: Path, title: str, name: str, body: str) -> Path:
    """Put a comparison's section into a page of several, in the place of an older one."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = f"{begin}\n## {name}\n\n{body}{end}\n"
    text = (
        page.read_text(encoding="utf-8")
        if page.exists()
        else f"{title}\n\nWritten by `synpro compare CONFIG --results FOLDER`.\n\n"
    )
    if begin in text and end in text:
        before, _, rest = text.partition(begin)
        text = before + block + rest.partition(end)[2].removeprefix("\n")
    else:
        text = text.rstrip("\n") + "\n\n" + block
    write_text(page, text)
    return page
