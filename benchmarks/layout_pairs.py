"""200 labelled pairs of layouts: contents written by hand, laid out by rule, so that labels are sure.

Each of the 25 contents of `layout_contents.toml` gives four pairs whose output has the layout of the source in other words (and
often in another markup, or wrapped at another width), and four whose output has lost it. Nothing is drawn at random.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTENTS = Path(__file__).with_name("layout_contents.toml")
Pairs = Iterator[tuple[str, str, str, bool]]
"""(what was done, source, output, kept)."""


@dataclass(frozen=True)
class LayoutPair:
    """A source and an output, labelled: is the layout kept?"""

    id: str
    """KIND/CONTENT/NUMBER."""
    kind: str
    """Kind of the source's layout."""
    change: str
    """What was done to the layout."""
    kept: bool
    source: str
    output: str


def joined(*blocks: str) -> str:
    """Blocks with an empty line between them."""
    return "\n\n".join(b for b in blocks if b)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Each line of a text broken at a width, as mail and old books do."""
    return "\n".join(textwrap.fill(line, width, subsequent_indent=indent) for line in text.split("\n"))


def sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def items(texts: Sequence[str], mark: str, gap: str = "\n") -> str:
    """A list; a mark with `{}` takes the number."""
    return gap.join(f"{mark.format(i)} {t}" for i, t in enumerate(texts, 1))


def grid(rows: Sequence[Sequence[str]], style: str) -> str:
    """A table whose first row is its header."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    padded = [[c.ljust(w) for c, w in zip(r, widths, strict=True)] for r in rows]
    if style == "tabs":
        return "\n".join("\t".join(r) for r in rows)
    if style == "columns":
        return "\n".join("   ".join(r).rstrip() for r in padded)
    if style == "bare pipes":
        return "\n".join([" | ".join(rows[0]), " | ".join("-" * w for w in widths), *(" | ".join(r) for r in rows[1:])])
    body = ["| " + " | ".join(r) + " |" for r in padded]
    return "\n".join([body[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *body[1:]])


def titled(sections: Sequence[Sequence[str]], style: str) -> str:
    marks = {
        "hashes": "## {}",
        "one hash": "# {}",
        "bold": "**{}**",
        "wiki": "== {} ==",
        "underlined": "{}\n---------------",
        "bare": "{}",
    }
    gap = "\n" if style in ("hashes", "wiki") else "\n\n"
    return joined(*(marks[style].format(title) + gap + body for title, body in sections))


def spoken(turns: Sequence[Sequence[str]], style: str) -> str:
    marks = {
        "names": "{}: {}",
        "bold names": "**{}:** {}",
        "capitals": "{}: {}",
        "quotes": '"{1}" said {0}.',
        "dashes": "– {1}",
    }
    named = [(n.upper() if style == "capitals" else n, t) for n, t in turns]
    return ("\n\n" if style == "quotes" else "\n").join(marks[style].format(n, t) for n, t in named)


def paragraphs(c: dict[str, Any], n: int) -> Pairs:
    before, after = c["source"], c["output"]
    plain, reworded = joined(*before), joined(*after)
    yield "paragraphs in other words", plain, reworded, True
    yield "source wrapped at 64", wrapped(plain, 64), reworded, True
    yield "output wrapped at 79", plain, wrapped(reworded, 79), True
    if n % 2:
        yield "both wrapped, at 55 and at 72", wrapped(plain, 55), wrapped(reworded, 72), True
    else:
        yield "paragraphs without an empty line between them", plain, "\n".join(after), True
    yield "run together", plain, " ".join(after), False
    yield "run together, both wrapped", wrapped(plain, 70), wrapped(" ".join(after), 70), False
    yield "turned into bullets", plain, items(after, "-"), False
    if n % 2:
        yield "given a heading each", plain, titled([(f"Part {i}", t) for i, t in enumerate(after, 1)], "hashes"), False
    else:
        yield "numbered", plain, items(after, "{}."), False


def lists(c: dict[str, Any], n: int, marks: Sequence[tuple[str, str]]) -> Pairs:
    (intro, intro2), (outro, outro2) = c["intro"], c["outro"]
    before, after = c["source"], c["output"]

    def source(mark: str, gap: str = "\n") -> str:
        return joined(intro, items(before, mark, gap), outro)

    for was, now in marks:
        yield f"{was} to {now}", source(was), joined(intro2, items(after, now), outro2), True
    was = marks[0][0]
    if n % 2:
        broken = joined(intro, wrapped(items(before, was), 44, "   "), outro)
        yield "long items wrapped in the source", broken, joined(intro2, items(after, was), outro2), True
    else:
        loose = joined(intro2, items(after, was, "\n\n"), outro2)
        yield "empty lines between the items of the output", source(was), loose, True
    prose = " ".join([intro2.rstrip(":.") + ":", "; ".join(t.rstrip(".") for t in after) + ".", outro2])
    yield "turned into prose", source(was), prose, False
    yield "shrunk to two items", source(was), joined(intro2, items(c["merged"], was), outro2), False
    yield "turned into paragraphs", source(was), joined(intro2, *map(sentence, after), outro2), False
    rows = [["no.", "what"], *([str(i), t] for i, t in enumerate(after, 1))]
    yield "turned into a table", source(was), joined(intro2, grid(rows, "pipes"), outro2), False


def tables(c: dict[str, Any], n: int) -> Pairs:
    intro, intro2 = c["intro"]
    head, head2 = c["header"]
    for style in ("pipes", "bare pipes", "tabs", "columns"):
        was, now = joined(intro, grid([head, *c["source"]], style)), joined(intro2, grid([head2, *c["output"]], style))
        yield f"table of {style}", was, now, True
    source = joined(intro, grid([head, *c["source"]], ("pipes", "tabs", "bare pipes")[n % 3]))
    reported = [
        sentence(f"{r[0]}: " + ", ".join(f"{h} {v}" for h, v in zip(head2[1:], r[1:], strict=True))) for r in c["output"]
    ]
    yield "turned into prose", source, joined(intro2, " ".join(reported)), False
    yield "turned into bullets", source, joined(intro2, items([t.rstrip(".") for t in reported], "-")), False
    records = [dict(zip(head2, r, strict=True)) for r in c["output"]]
    yield "turned into JSON", source, joined(intro2, json.dumps(records, indent=2, ensure_ascii=False)), False
    sections = [(r[0].capitalize(), sentence(t.split(": ", 1)[1])) for r, t in zip(c["output"], reported, strict=True)]
    yield "turned into headings", source, joined(intro2, titled(sections, "hashes")), False


def code(c: dict[str, Any], n: int) -> Pairs:
    (intro, intro2), (outro, outro2) = c["intro"], c["outro"]
    before, after, language = c["source"].strip("\n"), c["output"].strip("\n"), c["language"]

    def fenced(body: str, name: str, fence: str = "```") -> str:
        return f"{fence}{name}\n{body}\n{fence}"

    source = joined(intro, fenced(before, language), outro)
    yield "fenced", source, joined(intro2, fenced(after, language), outro2), True
    yield "language left out", source, joined(intro2, fenced(after, ""), outro2), True
    yield "other fence", source, joined(intro2, fenced(after, language, "~~~"), outro2), True
    indented = [textwrap.indent(body, "    ") for body in (before, after)]
    yield "indented", joined(intro, indented[0], outro), joined(intro2, indented[1], outro2), True
    lines = [line.strip() for line in after.splitlines()]
    yield "told in prose", source, joined(intro2, c["prose"], outro2), False
    yield "turned into steps", source, joined(intro2, items(c["steps"], "{}."), outro2), False
    yield "run into the paragraph", source, " ".join([intro2, *lines, outro2]), False
    bullets = joined(intro2, items([f"`{line}`" for line in lines], "*"), outro2)
    yield "turned into bullets", joined(intro, indented[0], outro), bullets, False


def headings(c: dict[str, Any], n: int) -> Pairs:
    before, after = c["source"], c["output"]
    shared = ("bold", "wiki", "underlined")[n % 3]
    for was, now in (("hashes", "hashes"), (shared, shared), ("bare", "bare"), ("one hash", "underlined")):
        yield f"headings: {was} to {now}", titled(before, was), titled(after, now), True
    source = titled(before, "hashes")
    bodies = [body for _, body in after]
    yield "headings left out", source, joined(*bodies), False
    yield "run together", titled(before, shared), " ".join(bodies), False
    yield "headings turned into bullets", source, items([f"{title}: {body}" for title, body in after], "-"), False
    yield "one heading for all", source, titled([(after[0][0], joined(*bodies))], "hashes"), False


def records(c: dict[str, Any], n: int) -> Pairs:
    intro, intro2 = c["intro"]
    before, after = c["source"], c["output"]

    def spread(value: Any) -> str:
        return json.dumps(value, indent=2 + 2 * (n % 2), ensure_ascii=False)

    def dense(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    source = joined(intro, spread(before))
    fence = "```json\n{}\n```"
    yield "JSON, spread out", source, joined(intro2, spread(after)), True
    yield "JSON, spread out to dense", source, joined(intro2, dense(after)), True
    yield "JSON in a fence", joined(intro, fence.format(spread(before))), joined(intro2, fence.format(spread(after))), True
    yield "JSON alone, dense to spread out", dense(before), spread(after), True
    reported = [
        f"{k}: {', '.join(v) if isinstance(v, list) else str(v).lower() if v in (True, False) else v}" for k, v in after.items()
    ]
    yield "told in prose", source, f"{intro2} In it stand " + ", ".join(t.replace(": ", " ", 1) for t in reported) + ".", False
    yield "turned into bullets", source, joined(intro2, items(reported, "-")), False
    rows = [["field", "value"], *(t.split(": ", 1) for t in reported)]
    yield "turned into a table", source, joined(intro2, grid(rows, "pipes")), False
    yield "turned into numbered points", dense(before), items(reported, "{})"), False


def dialogue(c: dict[str, Any], n: int) -> Pairs:
    intro, intro2 = c["intro"]
    before, after = c["source"], c["output"]
    shared = ("bold names", "capitals", "bold names")[n % 3]
    for was, now in (("names", "names"), (shared, shared), ("quotes", "quotes"), ("dashes", "dashes")):
        yield f"dialogue: {was} to {now}", joined(intro, spoken(before, was)), joined(intro2, spoken(after, now)), True
    source = joined(intro, spoken(before, "names"))
    yield "told in prose", source, joined(intro2, c["prose"]), False
    quoted = joined(intro, spoken(before, "quotes"))
    yield "told in one paragraph", quoted, f"{intro2} {c['prose']}", False
    yield "turned into bullets", source, joined(intro2, items([t for _, t in after], "-")), False
    yield "given a heading each", source, joined(intro2, titled(after, "hashes")), False


def layout_pairs() -> Iterator[LayoutPair]:
    """All pairs, content by content."""
    contents = tomllib.loads(CONTENTS.read_text(encoding="utf-8"))
    layouts = {
        "paragraphs": paragraphs,
        "list": lambda c, n: lists(c, n, [("-", "-"), ("*", "-"), ("•", "*")]),
        "steps": lambda c, n: lists(c, n, [("{}.", "{}."), ("{})", "{}."), ("({})", "{})")]),
        "table": tables,
        "code": code,
        "headings": headings,
        "json": records,
        "dialogue": dialogue,
    }
    for kind, layout in layouts.items():
        for n, content in enumerate(contents[kind]):
            for i, (change, source, output, kept) in enumerate(layout(content, n)):
                yield LayoutPair(f"{kind}/{content['name']}/{i}", kind, change, kept, source, output)
