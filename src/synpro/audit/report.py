"""The audit's report, for people (a Markdown table, which the terminal shows as it is) and for machines (plain data)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synpro.audit.audit import OWN_LIMIT, REFERENCE, Findings, Kind
from synpro.rewards.advantages import readable
from synpro.rewards.base import FAILED

LEGEND = (
    '"total": median over the passages of the weighted, standardised sum. An exploit fails the audit when its total reaches'
    f" that of the {REFERENCE}, or when it gets more than the {REFERENCE} to its own passage on more than {OWN_LIMIT:.0%} of"
    ' them ("own"). "pair": the same share in a GRPO group of the two, where any difference counts the same; it does not'
    " enter the verdict. The rest are median raw values."
)


def table(findings: Findings) -> list[str]:
    """Write one operation's table in Markdown, its kinds from the highest total down."""
    rewards = list(findings.weights)
    head = ["rank", "kind", "total", "own", "pair", *rewards, ""]
    rows = [head, *(_row(kind, rewards) for kind in findings.kinds)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    weights = ", ".join(f"{name} {weight:g}" for name, weight in findings.weights.items())
    abstain = _abstaining(findings)
    length = ", ".join(f"{value:+.2f} over {some} answers" for some, value in findings.length.items())
    return [
        f"{findings.operation}: {len(findings.rows)} answers; weights: {weights}",
        "",
        *lines,
        "",
        f"Rank correlation of total and length in words: {length}.",
        *([f"No value for these passages, so no say in the totals: {', '.join(abstain)}."] if abstain else []),
        verdict(findings),
    ]


def verdict(findings: Findings) -> str:
    """One sentence: what beats the reference answers, and which rewards credit it."""
    if not findings.winners:
        return f"{findings.operation}: every exploit is below the median of the reference answers."
    beaten = [
        f"{kind.name!r} (credited by {', '.join(kind.credited_rewards) or 'no single reward'})" for kind in findings.winners
    ]
    said = f"{findings.operation}: the reference answers are beaten by {'; '.join(beaten)}"
    if noticed := sorted({name for kind in findings.winners for name, gain in kind.gains.items() if gain < -0.01}):
        said += f". What costs it: {', '.join(noticed)}; give that more weight (operations.{findings.operation}.weights)"
    if abstain := _abstaining(findings):
        said += f". {', '.join(abstain)} said nothing of these passages: name judges for their language (docs/languages.md)"
    return said


def _abstaining(findings: Findings) -> list[str]:
    """The rewards that have no value for the reference answers."""
    return [name for kind in findings.kinds if kind.name == REFERENCE for name, value in kind.raw.items() if value is None]


def page(audited: Sequence[Findings], passages: int) -> str:
    """The Markdown page of a run."""
    lines = ["# Audit of the rewards", "", f"{passages} passages with reference answers, and exploits of each. {LEGEND}"]
    for findings in audited:
        lines += ["", f"## {findings.operation}", "", *table(findings)]
    return "\n".join(lines) + "\n"


def plain(audited: Sequence[Findings]) -> dict[str, Any]:
    """Everything in the tables, and every answer's scores, as plain data."""
    return {
        findings.operation: {
            "weights": findings.weights,
            "passed": not findings.winners,
            "length_correlation": findings.length,
            "kinds": [
                {**vars(kind), "raw": readable(kind.raw), "credited_rewards": kind.credited_rewards if kind.beats else []}
                for kind in findings.kinds
            ],
            "answers": [
                {"kind": r.kind, "passage": r.rewrite.passage.id, "parsed": r.rewrite.text is not None}
                | {"total": r.total, "scores": readable(r.scores)}
                for r in findings.rows
            ],
        }
        for findings in audited
    }


def _row(kind: Kind, rewards: Sequence[str]) -> list[str]:
    values = [kind.raw[name] for name in rewards]
    mark = "<- reference" if kind.name == REFERENCE else ("BEATS IT" if kind.beats else "")
    return [
        str(kind.rank),
        kind.name,
        f"{kind.total:.2f}",
        "" if kind.name == REFERENCE else f"{kind.own:.0%}",
        "" if kind.name == REFERENCE else f"{kind.pair:.0%}",
        *("" if v is None else "fails" if v == FAILED else f"{v:.3f}" for v in values),
        mark,
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        c.ljust(w) if i in (1, len(cells) - 1) else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"
