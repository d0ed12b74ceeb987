"""What each part of a comparison adds and costs: tables of its page, and `what-pays.md`. Nothing here that was not measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from synpro.report.html import interval

Numbers = dict[str, Any]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head and rows, formatted."""

CHECK_OF = {"too short": "length", "too long": "length", "near copy": "near-copy"}
"""The check that gives a reason, where it has another name."""


CONTENT = (
    "Content is how much more of its loss an arm saves on other wordings of the passages it was trained on than on such texts "
    "about other passages, in nats per token: what it knows of their language is saved on both. More is better, as with cloze."
)


def verdict(change: Numbers) -> str:
    """A paired change of the loss in words: nothing is never said, only what could have been seen."""
    if change["high"] < 0:
        return f"is better ({interval(change)} nats)"
    if change["low"] > 0:
        return f"is worse ({interval(change)} nats)"
    return f"cannot be told apart below {change['detectable']:.3f} nats ({interval(change)})"


def text_flops(arm: Numbers) -> float:
    """FLOPs of making an arm's text: RL, generating and judging."""
    return sum(arm["cost"]["text"].get(part, {}).get("flops", 0.0) for part in ("RL", "generating", "judging"))


def absorption_table(numbers: Numbers) -> Table:
    """What each arm's models know of the passages they were trained on; no rows where nobody was asked."""
    head = (
        "arm",
        "cloze, own wording [95%]",
        "cloze, other words [95%]",
        "cloze, held-out text",
        "loss of the passages",
        "of another version of them [95%]",
        "against tuned repetition [95%]",
        "of such texts about other passages",
        "content, against tuned repetition [95%]",
    )
    table: list[tuple[str, ...]] = []
    for name, arm in numbers["arms"].items():
        if not (found := arm.get("absorption")):
            continue
        cloze, loss = found["cloze"], found["loss"]
        change = loss.get("rephrased", {}).get("change")
        table.append(
            (
                name,
                *(_share(cloze.get(kind)) for kind in ("train", "rephrased", "heldout")),
                _loss(loss.get("train")),
                _loss(loss.get("rephrased")),
                interval(change) if change else "–",
                _loss(loss.get("unseen")),
                _content(found),
            )
        )
    return head, table


def absorbed_contrasts_table(numbers: Numbers) -> Table:
    """What one arm's models absorbed more than another's: at equal synthetic tokens where those were measured."""
    head = (
        "arm",
        "against",
        "synthetic tokens",
        "cloze, own wording, points [95%]",
        "cloze, other words, points [95%]",
        "loss of another version of the passages [95%]",
        "content [95%]",
    )
    table: list[tuple[str, ...]] = []
    for c in numbers["contrasts"]:
        if not (found := c.get("absorption")):
            continue
        equal = c.get("equal_tokens")
        cloze = (_points(found["cloze"].get(kind)) for kind in ("train", "rephrased"))
        change = found["loss"].get("rephrased")
        tokens = f"{equal['synthetic_tokens']:,} each" if equal else "as they are"
        table.append((c["arm"], c["control"], tokens, *cloze, interval(change) if change else "–", _content(found)))
    return head, table


def _content(found: Numbers) -> str:
    """Nats per token; more is better."""
    return interval(found["content"]) if "content" in found else "–"


def _points(change: Numbers | None) -> str:
    """A change of a share, in percentage points."""
    return "–" if change is None else "{mean:+.1f} [{low:+.1f}, {high:+.1f}]".format(**{k: 100 * v for k, v in change.items()})


def _share(row: Numbers | None) -> str:
    if row is None:
        return "–"
    return f"{row['mean']:.1%} [{row['low']:.1%}, {row['high']:.1%}] (n {row['items']}, chance {row['chance']:.0%})"


def _loss(row: Numbers | None) -> str:
    return "–" if row is None else f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def checks_table(numbers: Numbers) -> Table:
    """What each check of synthesis drops, and what training without it gives, where an arm leaves it out."""
    head = (
        "arm",
        "check",
        "answers dropped",
        "of all answers",
        "tokens spent on them",
        "loss without the check [95%]",
        "at equal synthetic tokens",
    )
    left_out = ((c, re.search(r"-without-(.+?)(?:-\d+-rounds?)?$", c["arm"])) for c in numbers["contrasts"])
    without = {(c["control"], found[1]): c for c, found in left_out if found}
    table: list[tuple[str, ...]] = []
    for name, arm in numbers["arms"].items():
        dropped: dict[str, list[int]] = {}
        for shard in arm["shards"]:
            for reason, count in shard.get("reasons", {}).items():
                total = dropped.setdefault(CHECK_OF.get(reason, reason), [0, 0])
                total[0], total[1] = total[0] + count["answers"], total[1] + count["tokens"]
        answers = sum(s["kept"] + s["dropped"] for s in arm["shards"])
        for check in sorted(dropped, key=lambda c: (-dropped[c][0], c)):
            lost, tokens = dropped[check]
            contrast = without.get((name, check), {})
            given = (f"{lost:,}", f"{lost / answers:.1%}", f"{tokens:,}")
            table.append((name, check, *given, *changes(contrast)))
    return head, table


def rounds_table(numbers: Numbers) -> Table:
    """Texts and their influence in each round, of the arms that have several; no rows where none has."""
    head = (
        "arm",
        "round",
        "generators: state kept of RL",
        "kept of answers",
        "texts with influence",
        "positive, of its round's model [95%]",
        "by draw",
        "mean influence, nats per token",
    )
    table: list[tuple[str, ...]] = []
    for name, arm in numbers["arms"].items():
        rounds = sorted({s["round"] for s in arm["shards"]})
        scored = {row["round"]: row for row in arm.get("influence", ())}
        for number in rounds if len(rounds) > 1 else ():
            shards = [s for s in arm["shards"] if s["round"] == number]
            kept, dropped = (sum(s[key] for s in shards) for key in ("kept", "dropped"))
            cells = ("–", "–", "–", "–")
            if row := scored.get(number):
                share = row["positive"]
                positive = f"{share['value']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"
                by_draw = ", ".join(f"{value:.0%}" for value in row["by_draw"])
                cells = (f"{share['n']:,}", positive, by_draw, f"{row['mean']:+.4f}")
            table.append((name, str(number), _states(shards), f"{kept:,} of {kept + dropped:,}", *cells))
    return head, table


def _states(shards: Sequence[Numbers]) -> str:
    """Which state of RL wrote these shards: a generator may go on as it began, where no later state was better."""
    found = {s["operation"]: s.get("generator") for s in shards}
    said = {
        name: f"step {g['kept']} of {g['steps']} in round {g['round']}" if g else "prompt alone" for name, g in found.items()
    }
    return next(iter(said.values())) if len(said) == 1 else "; ".join(f"{name}: {words}" for name, words in said.items())


def changes(contrast: Numbers) -> tuple[str, str]:
    """The change of a contrast, and that at equal synthetic tokens; a dash for one that was not measured."""
    equal = contrast.get("equal_tokens")
    return interval(contrast["change"]) if contrast else "–", interval(equal["change"]) if equal else "–"


def parts_table(numbers: Numbers) -> Table:
    """Each arm against tuned repetition, and each part against the arm without it: what it adds in nats and in x, and costs."""
    head = (
        "part",
        "against",
        "adds, nats [95%]",
        "at equal synthetic tokens [95%]",
        "data efficiency",
        "FLOP of generation and RL",
        "so it",
    )
    arms = numbers["arms"]
    table: list[tuple[str, ...]] = []
    for name, arm in arms.items():
        if name != "tuned-repetition" and arm["change"]:
            flops = f"{text_flops(arm):.2g}" if arm["shards"] else "–"
            change = arm["change"]
            table.append((name, "tuned repetition", interval(change), "–", _efficiency(arm), flops, verdict(change)))
    for c in numbers["contrasts"]:
        one, other = arms[c["arm"]], arms[c["control"]]
        equal = c.get("equal_tokens")
        efficiency = f"{_efficiency(one)} against {_efficiency(other)}"
        flops = f"{text_flops(one):.2g} against {text_flops(other):.2g}"
        judged = equal["change"] if equal else c["change"]
        table.append((f"{c['arm']}: {c['about']}", c["control"], *changes(c), efficiency, flops, verdict(judged)))
    return head, table


def _efficiency(arm: Numbers) -> str:
    found = arm["data_efficiency"]
    return "not stated" if found is None or "refused" in found else str(found["words"])


def what_pays(numbers: Numbers, command: str) -> str:
    """One page: each part, what it adds, its interval and its cost; what checks drop; what is absorbed."""
    about = numbers["about"]
    lines = [
        f"{about['budget_tokens']:,} training tokens, {about['parameters']:,} parameters, {len(about['seeds'])} seeds. "
        "Less loss is better: what a part adds is negative where it pays.",
    ]
    if numbers["refused"]:
        lines.append(f"Multipliers are not stated: {numbers['refused']}.")
    sections = {
        "Parts": (parts_table(numbers), "No part was compared."),
        "Checks": (checks_table(numbers), "No text was generated."),
        "What is absorbed": (absorption_table(numbers), "Not measured (`compare.absorption`)."),
    }
    if (rounds := rounds_table(numbers))[1]:
        sections["Rounds"] = rounds, ""
    for title, (table, empty) in sections.items():
        lines += ["", f"### {title}", "", *(markdown_table(table) or [empty])]
    if absorption_table(numbers)[1]:
        lines += ["", CONTENT, *(["", *pairs] if (pairs := markdown_table(absorbed_contrasts_table(numbers))) else [])]
    return "\n".join([*lines, "", "```bash", command, "```"]) + "\n"


def markdown_table(table: Table) -> list[str]:
    """A table as lines of markdown; none for a table without rows."""
    head, found = table
    if not found:
        return []
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in found)]
