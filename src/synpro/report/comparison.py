"""The page of a comparison, its table as markdown, and what `--results` publishes: all from `compare.json` alone."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.report.figures import COLOURS, LineFigure, Series, to_plotly, to_svg

Numbers = dict[str, Any]
"""`compare.json`, as compare/summary.py makes it."""

TITLES = {
    "loss": "Held-out loss against training tokens",
    "unique": "Loss against unique organic tokens",
    "compute": "Loss against all compute",
}


@dataclass(frozen=True)
class ArmRow:
    """One arm in the table, formatted."""

    arm: str
    about: str
    loss: str
    change: str
    efficiency: str
    gap: str
    flops: str
    notes: tuple[str, ...]


def rows(numbers: Numbers) -> list[ArmRow]:
    """The table: one row per arm, in the order of the arms."""
    table = []
    for name, arm in numbers["arms"].items():
        loss, change = arm["loss"], arm.get("change")
        measures = [arm.get("data_efficiency"), arm.get("oracle_gap")]
        table.append(
            ArmRow(
                name,
                arm["about"],
                f"{loss['mean']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}]",
                "–" if change is None or name == "tuned-repetition" else interval(change),
                _words(measures[0], numbers),
                _words(measures[1], numbers),
                f"{arm['cost']['total']['flops']:.2g}",
                tuple(dict.fromkeys(note for m in measures if m for note in m["notes"])),
            )
        )
    return table


def _words(measure: Numbers | None, numbers: Numbers) -> str:
    """A measure with its interval as text; "not stated" where the whole comparison refuses to state one."""
    if measure is None:
        return "–"
    return "not stated" if measure.get("refused") == numbers["refused"] is not None else str(measure["words"])


def interval(change: Numbers) -> str:
    """Format a change as `-0.0123 [-0.0200, -0.0046]`."""
    return f"{change['mean']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]"


def headline(numbers: Numbers) -> str:
    """The result in a sentence: a multiplier with its interval, or why there is none."""
    if numbers["refused"]:
        return f"No multiplier is printed: {numbers['refused']}."
    arms = {n: a for n, a in numbers["arms"].items() if a["shards"]}
    if not arms:
        return "No arm with synthetic text was compared."
    name = "synpro" if "synpro" in arms else min(arms, key=lambda n: arms[n]["loss"]["mean"])
    said = arms[name]["data_efficiency"]
    return f"Data efficiency of {name} over tuned repetition: {said['words'] if said else 'no curve was measured'}."


def summary(numbers: Numbers) -> list[str]:
    """The result for a terminal: the headline, a line per arm, and the notes."""
    width = max(len(n) for n in numbers["arms"])
    lines = [headline(numbers), ""]
    lines += [f"{r.arm:<{width}}  loss {r.loss}  efficiency {r.efficiency}  oracle gap {r.gap}" for r in rows(numbers)]
    return [*lines, *([""] if notes(numbers) else []), *notes(numbers)]


def notes(numbers: Numbers) -> list[str]:
    """What a reader must know: contrasts that show no gain, limits of the search and of the intervals."""
    found = []
    for c in numbers["contrasts"]:
        if c["change"]["high"] >= 0:
            verdict = "is worse" if c["change"]["low"] > 0 else "is not clearly better"
            found.append(
                f"{c['arm']} {verdict} than {c['control']} ({interval(c['change'])} nats): {c['about']} shows no gain here."
            )
    about, searches = numbers["about"], numbers["searches"]
    found += [f"Baseline: {note}." for note in numbers["notes"]]
    for name, search in searches.items():
        climbed = sum(not t["draw"] for t in search["trials"])
        if climbed and not search["settled"]:
            found.append(f"The search at {name} ended on its {climbed} trainings: a better setting may be near.")
        if climbed > 1 and climbed == len(search["trials"]):
            found.append(f"The search at {name} trained every setting with one seed: it may have found that seed's best.")
    plain, tuned = (numbers["arms"].get(n, {}).get("loss") for n in ("repetition", "tuned-repetition"))
    if plain and tuned and plain["mean"] < tuned["mean"]:
        found.append(
            f"Repetition with the usual settings ({plain['mean']:.4f}) is better than with those the search found "
            f"({tuned['mean']:.4f}): the search was misled by its few seeds. Read every gain against the lower."
        )
    if len(about["seeds"]) == 1:
        found.append("One seed: intervals are over held-out documents only.")
    if about["texts"] == "once" and any(a["shards"] for a in numbers["arms"].values()):
        found.append("Texts were made once per arm: intervals hold what training varies by, not what generation varies by.")
    for row in rows(numbers):
        own = (note for note in row.notes if note not in numbers["notes"] and not note.startswith("one seed"))  # given above
        found += [f"{row.arm}: {note}." for note in own]
    return list(dict.fromkeys(found))


def figures(numbers: Numbers) -> dict[str, LineFigure]:
    """The figures by name; one that has nothing to show is left out."""
    colour = {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(numbers["arms"])}
    dash = {n: i >= len(COLOURS) for i, n in enumerate(numbers["arms"])}
    curves = {n: _mean_points(a) for n, a in numbers["arms"].items()}
    lines = tuple(
        Series(n, tuple(x for x, _ in p), tuple(y for _, y in p), colour=colour[n], dash=dash[n])
        for n, p in curves.items()
        if p
    )
    found = {}
    if lines:
        begin = max(x for s in lines for x in s.x) * 0.15  # the steep beginning would flatten all else
        seen = [y for s in lines for x, y in zip(s.x, s.y, strict=True) if x >= begin] or [y for s in lines for y in s.y]
        margin = (max(seen) - min(seen)) * 0.06 or 0.1
        span = (min(seen) - margin, max(seen) + margin)
        found["loss"] = LineFigure("training tokens", "held-out loss, nats per token", lines, y_range=span)
    if numbers["anchors"]:
        found["unique"] = _unique(numbers, colour, dash)
    points = tuple(
        Series(n, (a["cost"]["total"]["flops"],), *_at(a["loss"]), kind="points", colour=colour[n])
        for n, a in numbers["arms"].items()
        if a["cost"]["total"]["flops"] > 0
    )
    if points:
        found["compute"] = LineFigure("FLOP, text and training", "held-out loss, nats per token", points, log_x=True)
    return found


def _at(loss: Numbers) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    return (loss["mean"],), (loss["low"],), (loss["high"],)


def _mean_points(arm: Numbers) -> list[tuple[float, float]]:
    """(training tokens, held-out loss), the mean of the seeds where all have one."""
    tables = [dict(map(tuple, s["points"])) for s in arm["seeds"].values()]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    return [(x, sum(t[x] for t in tables) / len(tables)) for x in shared if x > 0]


def _unique(numbers: Numbers, colour: dict[str, str], dash: dict[str, bool]) -> LineFigure:
    """The fitted curve with its anchors; dashes go from each arm's loss to the curve and down to the tokens it is worth."""
    anchors, curve = numbers["anchors"], numbers["curve"]
    scarce = numbers["corpora"]["u1"]["tokens"]["train"]
    series = []
    if curve:
        x = tuple(curve["unique_tokens"])
        series.append(Series("fitted, 95%", x, (), tuple(curve["low"]), tuple(curve["high"]), kind="band"))
        series.append(Series("", x, tuple(curve["loss"])))
    series.append(
        Series(
            "tuned repetition",
            tuple(a["unique_tokens"] for a in anchors),
            tuple(a["loss"]["mean"] for a in anchors),
            tuple(a["loss"]["low"] for a in anchors),
            tuple(a["loss"]["high"] for a in anchors),
            kind="points",
            colour="#333333",
        )
    )
    ends = [v for a in anchors for v in (a["loss"]["low"], a["loss"]["high"])]
    for name, arm in numbers["arms"].items():
        efficiency = arm["data_efficiency"]
        if not arm["shards"] and name != "token-noise":
            continue
        loss = arm["loss"]["mean"]
        ends.append(loss)
        series.append(Series(name, (scarce,), *_at(arm["loss"]), kind="points", colour=colour[name]))
        if curve and efficiency and efficiency.get("value"):
            reached = efficiency["value"] * scarce
            if reached <= 3 * max(curve["unique_tokens"]):
                bottom = min(v for v in (*ends, *(curve["loss"])))
                path = ((scarce, reached, reached), (loss, loss, bottom))
                series.append(Series("", *path, colour=colour[name], dash=True))
    return LineFigure("unique organic tokens", "held-out loss, nats per token", tuple(series), log_x=True)


def markdown(numbers: Numbers, command: str) -> str:
    """Format the table with its notes and the command, for a page in `docs/results`."""
    about, corpora = numbers["about"], numbers["corpora"]
    head = [
        "arm",
        "held-out loss [95%]",
        "against tuned repetition [95%]",
        "data efficiency [95%]",
        "oracle gap closed",
        "FLOP",
    ]
    lines = [
        headline(numbers),
        "",
        f"{corpora['u1']['tokens']['train']:,} unique organic tokens, {about['budget_tokens']:,} training tokens, "
        f"{about['parameters']:,} parameters, seeds {', '.join(map(str, about['seeds']))}, "
        f"{corpora['u1']['documents']['heldout']:,} held-out documents.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    lines += [f"| {r.arm} | {r.loss} | {r.change} | {r.efficiency} | {r.gap} | {r.flops} |" for r in rows(numbers)]
    lines += ["", *(f"- {note}" for note in notes(numbers)), "", "```bash", command, "```", ""]
    return "\n".join(lines)


def write_page(root: Path, numbers: Numbers) -> Path:
    """Write ROOT/compare.html, by rename, and return its path."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from synpro.report.page import count, number, seconds

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synpro.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds, "count": count, "number": number, "interval": interval}
    shown = {
        name: Markup(to_plotly(figure).to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}"))
        for name, figure in figures(numbers).items()
    }
    settings = root / "config.toml"
    page = environment.get_template("comparison.html.jinja").render(
        n=numbers,
        headline=headline(numbers),
        rows=rows(numbers),
        notes=notes(numbers),
        charts=shown,
        titles=TITLES,
        plotly=get_plotlyjs(),
        settings=settings.read_text(encoding="utf-8") if settings.exists() else "",
    )
    return _written(root / "compare.html", page)


def publish(root: Path, numbers: Numbers, folder: Path) -> Path:
    """Copy settings, environment, numbers and pictures to FOLDER/NAME, and put the table into FOLDER/README.md.

    An older table of that name is replaced. The interactive page stays in the run directory: it contains
    plotly, which is too large to commit.
    """
    name = numbers["name"]
    here = folder / name
    here.mkdir(parents=True, exist_ok=True)
    for file in ("config.toml", "environment.json"):
        shutil.copyfile(root / file, here / file)
    _written(here / "compare.json", json.dumps(numbers, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    pictures = figures(numbers)
    for picture, figure in pictures.items():
        _written(here / f"{picture}.svg", to_svg(figure))
    at = folder.absolute()
    at = at.relative_to(Path.cwd()) if at.is_relative_to(Path.cwd()) else folder  # a command others can give too
    table = markdown(numbers, f"synpro compare {at.as_posix()}/{name}/config.toml --results {at.as_posix()}")
    shown = "\n".join(f"![{TITLES[p]}]({name}/{p}.svg)\n" for p in pictures)
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = f"{begin}\n## {name}\n\n{table}\n{shown}{end}\n"
    readme = folder / "README.md"
    text = (
        readme.read_text(encoding="utf-8")
        if readme.exists()
        else "# Results\n\nWritten by `synpro compare CONFIG --results`.\n\n"
    )
    if begin in text and end in text:
        before, _, rest = text.partition(begin)
        text = before + block + rest.partition(end)[2].removeprefix("\n")
    else:
        text = text.rstrip("\n") + "\n\n" + block
    return _written(readme, text)


def _written(path: Path, text: str) -> Path:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    return path
