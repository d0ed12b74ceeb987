"""Plain text from wiki markup: what a person reads in the article, without tables, templates, references, files, categories and
the lists of links at its end. Headings are kept as lines of their own."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from synpro.corpus.open_markup import without_open_markup

# Sections of links and notes instead of prose: dropped up to the next heading of the same or a higher level.
_SKIPPED_SECTIONS = {
    "see also", "references", "external links", "further reading", "notes", "bibliography", "footnotes", "sources", "citations",
    "notes and references", "references and notes", "gallery", "works cited", "literature", "discography", "filmography",
}  # fmt: skip
# Tags whose content is not prose.
_SKIPPED_TAGS = {
    "ref", "references", "table", "gallery", "timeline", "score", "imagemap", "source", "syntaxhighlight", "pre", "graph",
    "mapframe", "hiero", "chem",
}  # fmt: skip
_HIDDEN = re.compile(r"<!--|<ref(?:\s[^<>]*)?>", re.IGNORECASE)
_END_OF_REF = re.compile(r"</ref\s*>", re.IGNORECASE)
_MOST_NESTED = 20
"""Gaps within each other that are closed; closing all would take a time that grows with the square of the text."""
# Links whose target is not an article: dropped whole.
_SKIPPED_LINKS = re.compile(
    r"^\s*(?::\s*)?(file|image|category|media|template|wikt|s|commons|[a-z]{2,3}(-[a-z]+)?)\s*:", re.IGNORECASE
)


def _argument(number: int) -> Callable[[list[str]], str]:
    return lambda arguments: arguments[number] if len(arguments) > number else ""


# Templates that are words of a sentence: name -> text from its positional arguments. All others are dropped.
_FIRST = ("nowrap", "nobr", "small", "abbr", "quote", "blockquote", "quotation", "cquote", "val", "math", "sup", "sub", "ipa")
_TEMPLATE_TEXT: dict[str, Callable[[list[str]], str]] = {
    **dict.fromkeys(_FIRST, _argument(0)),
    "lang": _argument(1),
    "transl": lambda a: a[-1] if a else "",
    **dict.fromkeys(("convert", "cvt"), lambda a: " ".join(a[:2])),
    "frac": lambda a: "/".join(a),
    "chem": lambda a: "".join(a),
    "as of": lambda a: "As of " + " ".join(a[:1]),
    **dict.fromkeys(("circa", "c."), lambda a: "c. " + " ".join(a[:1])),
    "ndash": lambda a: "–",
    **dict.fromkeys(("spaced ndash", "snd"), lambda a: " – "),
    "mdash": lambda a: "—",
    "'": lambda a: "'",
    "-": lambda a: "",
}


def strip_markup(wikitext: str) -> str:
    """The text of an article: paragraphs, headings and list items, separated by an empty line or a line end.

    Empty when nothing readable is left.
    """
    import mwparserfromhell

    text = _without_tables(_without_hidden(wikitext))
    closed = without_open_markup(text)
    if closed != text:  # a table may begin its line now
        closed = _without_tables(closed)
    code = mwparserfromhell.parse(closed, skip_style_tags=True)
    return _tidy(_without_sections(_text(code)))


def _without_hidden(text: str) -> str:
    """Drop references and comments: they are half of an article's markup, and parsing takes half the time without them."""
    parts: list[str] = []
    at = kept = 0
    endless: set[bool] = set()  # comments, references: no end of one comes any more
    while mark := _HIDDEN.search(text, at):
        is_comment, at = mark.group() == "<!--", mark.end()
        if mark.group().endswith("/>"):
            end = at
        elif is_comment in endless:
            continue
        elif is_comment:
            end = text.find("-->", at) + 3
        else:
            close = _END_OF_REF.search(text, at)
            end = close.end() if close else 0
        if end < at:
            endless.add(is_comment)
            continue
        parts.append(text[kept : mark.start()])
        kept = at = end
    return "".join(parts) + text[kept:]


def _without_tables(text: str) -> str:
    """Drop `{| ... |}`, nested ones too, before parsing: one table that is not closed would swallow the article. Such a one
    ends at the next blank line that no row follows."""
    unclosed, spans = list[int](), list[tuple[int, int]]()
    for mark in re.finditer(r"^[ \t:]*\{\||^[ \t]*\|\}(?!\})", text, re.MULTILINE):
        if "{" in mark.group():
            unclosed.append(mark.start())
        elif unclosed:
            spans.append((unclosed.pop(), mark.end()))
    end = 0
    for start in unclosed:
        if end <= start:
            blanks = re.compile(r"\n[ \t]*\n\s*").finditer(text, start)
            end = next((b.start() for b in blanks if text[b.end() : b.end() + 1] not in ("|", "!")), len(text))
        spans.append((start, end))
    parts, position = list[str](), 0
    for start, end in sorted(spans):
        parts.append(text[position : max(position, start)])
        position = max(position, end)
    return "".join(parts) + text[position:]


def _text(code: Any) -> str:
    """The text of parsed markup."""
    from mwparserfromhell import nodes

    parts: list[str] = []
    for node in code.nodes if code is not None else []:
        if isinstance(node, nodes.Text):
            parts.append(str(node.value))
        elif isinstance(node, nodes.HTMLEntity):
            parts.append(html.unescape(str(node)))
        elif isinstance(node, nodes.Heading):
            parts.append(f"\n\n{'=' * node.level} {_text(node.title).strip()} {'=' * node.level}\n\n")
        elif isinstance(node, nodes.Wikilink):
            if not _SKIPPED_LINKS.match(str(node.title)):
                parts.append(_text(node.text if node.text is not None else node.title))
        elif isinstance(node, nodes.ExternalLink):
            parts.append(_text(node.title) if node.title is not None else "")
        elif isinstance(node, nodes.Template):
            parts.append(_template_text(node))
        elif isinstance(node, nodes.Tag):
            is_superscript = str(node.tag).strip().lower() == "sup" and parts and parts[-1][-1:].isdigit()
            parts.append(("^" if is_superscript and str(node.contents)[:1] in "0123456789-–−" else "") + _tag(node))
    return "".join(parts)


def _template_text(template: Any) -> str:
    render = _TEMPLATE_TEXT.get(str(template.name).strip().lower().replace("_", " "))
    if render is None:
        return ""
    return render([_text(p.value).strip() for p in template.params if not p.showkey])


def _tag(tag: Any) -> str:
    name = str(tag.tag).strip().lower()
    if name in _SKIPPED_TAGS:
        return ""
    if name in {"br", "hr"}:
        return "\n"
    if name in {"li", "dt", "dd"} and tag.wiki_markup:  # the `*`, `#`, `;` or `:` at the start of a line
        return ""
    inner = _text(tag.contents)
    return f"\n\n{inner}\n\n" if name in {"p", "div", "blockquote", "center", "poem"} else inner


def _without_sections(text: str) -> str:
    """Drop the sections named in `_SKIPPED_SECTIONS` and headings with nothing below them; turn the others into plain lines."""
    pieces = re.split(r"^(={1,6}) (.*?) =+$", text, flags=re.MULTILINE)
    kept = [pieces[0]]
    waiting: list[tuple[int, str]] = []  # headings whose text has not come yet
    skipping = 0
    for marks, title, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        level = len(marks)
        if skipping and level > skipping:
            continue
        skipping = level if title.strip().lower() in _SKIPPED_SECTIONS else 0
        if skipping:
            continue
        waiting = [(above, name) for above, name in waiting if above < level] + [(level, title.strip())]
        if body.strip():
            kept += [f"\n\n{name}\n\n" for _, name in waiting if name] + [body]
            waiting = []
    return "".join(kept)


def _tidy(text: str) -> str:
    """Close the gaps that dropped markup leaves."""
    text = re.sub(r"__[A-Z]{3,}__|'{2,}", "", text)
    text = text.replace("\xa0", " ").replace("\u2009", " ").replace("\u200e", "").replace("\u00ad", "")
    text = re.sub(r"[ \t]+", " ", text)
    for _ in range(_MOST_NESTED):  # "( (; ) )"
        previous = text
        text = re.sub(r"[ ]?\((?:[\s,;:–—/]|\bor\b)*\)", "", text)
        text = re.sub(r"\((?:\s*[,;:])+\s*", "(", text)
        text = re.sub(r"(?:\s{0,9}[,;:–—]){0,20}[ ]{1,20}\)", ")", text)
        text = re.sub(r"\([ ]+", "(", text)
        text = re.sub(r"(?<! )[ ]+([,.;:!?](?=[\s)]|$))", r"\1", text)
        text = re.sub(r",[ ]*,", ",", text)
        text = re.sub(r"“[ ]*”|\"[ ]*\"(?=[ .,])", "", text)
        if text == previous:
            break
    lines = [re.sub(r"^[*#:;]+ *", "", line).strip() for line in text.split("\n")]
    # A line of punctuation alone is what remains of a template or picture.
    lines = [line if re.search(r"\w", line) else "" for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
