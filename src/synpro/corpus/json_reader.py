"""Rows of JSON: one object per line, an array of objects, or objects one after the other over several lines."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from synpro.corpus.files import CorruptFileError, SourceFile, split_lines
from synpro.corpus.rows import Row, Rows, decode, show, too_large
from synpro.runner.rejects import Reject

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n\v\f\x1e"
"""White space, and the record separator of JSON text sequences (RFC 7464)."""
_ENOUGH = 1 << 20
"""Bytes of a file without a line end that are looked at to see its layout."""
_BETWEEN = re.compile(r"[\s,\[\]]*")


class _Repeating(dict[str, Any]):
    """An object that has a key more than once; as a `dict` it holds the last value of each."""

    repeated: frozenset[str] = frozenset()


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        values = _Repeating(values)
        values.repeated = frozenset(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return values


_STRICT = json.JSONDecoder(object_pairs_hook=_object_of)
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_object_of, parse_int=lambda digits: int(digits) if len(digits) < 4000 else float(digits)
)
"""Reads a whole number of thousands of digits, for which Python refuses `int`, as infinity."""


def read_json(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
    """Read JSON of any layout; rows are numbered by line, or by their place in an array."""
    chunks = file.chunks()
    first = start = b""
    for chunk in chunks:
        first += chunk
        start = first.removeprefix(_BOM).lstrip(_BLANK)
        if len(first) > len(_BOM) and (start[:1] not in (b"", b"{") or b"\n" in start or len(start) >= _ENOUGH):
            break
    rest = itertools.chain([first], chunks)
    if _is_per_line(start.decode("utf-8", "replace")):
        yield from _read_lines(file, rest, wanted, limit)
    else:
        yield from _read_values(file, rest, wanted, limit)


def _is_per_line(start: str) -> bool:
    """Whether the beginning of a file looks like one object per line."""
    if not start.startswith("{"):
        return not start.startswith("[")
    try:
        end = _LENIENT.raw_decode(start)[1]
    except (ValueError, RecursionError):
        # an object that is longer than what was read so far; one that goes on with an object is a broken row
        line, newline, after = start.partition("\n")
        return not newline or line.strip() != "{" or after.lstrip().startswith("{")
    after = start[end:].partition("\n")[0].strip()
    return "\n" not in start[:end] and not after.startswith(("{", "[", ",", "]"))  # anything else makes it a broken row


def _read_lines(file: SourceFile, chunks: Iterator[bytes], wanted: Sequence[str], limit: int) -> Rows:
    for number, offset, line, length in split_lines(chunks, limit):
        source = f"{file.name}:{number}"
        if line is None:
            yield too_large(source, length, limit)
            continue
        text = decode(line.removeprefix(_BOM), source, offset)  # of each of the files that `cat` put together
        if isinstance(text, Reject):
            yield text
        elif text.strip():
            yield from _read_line(text.lstrip("\x1e"), source, wanted)


def _read_line(text: str, source: str, wanted: Sequence[str]) -> Rows:
    """The row of a line, or its rows where a writer has left line ends out."""
    try:
        value = _decoded(text)
    except json.JSONDecodeError as problem:
        several = _objects(text) if problem.msg == "Extra data" else []
        if several:
            for number, (value, part) in enumerate(several, 1):
                yield _row(value, source if len(several) == 1 else f"{source}.{number}", part, wanted)
            return
        what = f"it is not JSON: {problem.msg} at character {problem.pos + 1}"
        if not text.lstrip().startswith("{"):
            what = "the line is not a JSON object"
        elif problem.pos == 1 and problem.doc[problem.pos :].startswith("'"):
            what = "JSON needs double quotes; this looks like Python's repr (write it by json.dumps)"
        yield Reject(source, "invalid-json", f"{what}; it begins with {show(text.strip(), 40)}", source, text)
        return
    except RecursionError:
        yield Reject(source, "invalid-json", "brackets are nested too deeply", source, text)
        return
    yield _row(value, source, text, wanted)


def _decoded(text: str) -> Any:
    """The value of a JSON text. Raises JSONDecodeError, and RecursionError for one that is nested too deeply."""
    try:
        return _STRICT.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python reads; if nobody asked for its column, it does not matter
        return _LENIENT.decode(text)


def _objects(text: str) -> list[tuple[dict[str, Any], str]]:
    """The objects of a line, one after the other, each with its text; none where there is anything else in the line."""
    found, position = [], 0
    while position < len(text):
        try:
            value, end = _LENIENT.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict):
            return []
        found.append((value, text[position:end]))
        position = _after_separator(text, end)
    return found


def _after_separator(text: str, position: int) -> int:
    return _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # matches anywhere


def _row(value: Any, source: str, text: str, wanted: Sequence[str]) -> Row | Reject:
    if not isinstance(value, dict):
        kind = "null" if value is None else f"a {type(value).__name__}"
        return Reject(source, "invalid-json", f"the row is {kind}, not an object", source, text)
    for path in wanted:
        if key := _repeated(value, path):
            detail = f"the row has {key!r} more than once; rename one, to say which is meant"
            return Reject(source, "two-columns", detail, source, text)
    return Row(source, value, tuple(value))


def _repeated(value: dict[str, Any], path: str) -> str:
    """The key on the way to a column that an object has more than once, or empty."""
    here: Any = value
    for key in [path] if path in value else path.split("."):
        if not isinstance(here, dict):
            return ""
        if isinstance(here, _Repeating) and key in here.repeated:
            return key
        here = here.get(key)
    return ""


def _read_values(file: SourceFile, chunks: Iterator[bytes], wanted: Sequence[str], limit: int) -> Rows:
    """Values one after the other, of one or several arrays or of none. After one that cannot be read, reading goes on at the
    next line that begins as it does and follows the end of an object."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")  # bad bytes are found in the row that has them
    text, number, read, batch, ended = "", 0, 0, 1, False
    position = 0
    broken: tuple[str, re.Pattern[str], str] | None = None
    """What is wrong with the row that is passed over, what the next one is found by, and the row."""
    while True:
        if broken is None:
            position = _after_separator(text, position)
            try:
                value, end = _LENIENT.raw_decode(text, position)
                # a number at the end of what was read may go on
                if ended or end < len(text):
                    number, batch = number + 1, 1
                    row = _row(value, f"{file.name}:{number}", text[position:end], wanted)
                    read += isinstance(row, Row)
                    yield row
                    position = end
                    continue
            except (ValueError, RecursionError) as problem:
                if position < len(text) and (ended or _is_wrong(problem, len(text))):
                    what = problem.msg if isinstance(problem, json.JSONDecodeError) else "brackets are nested too deeply"
                    broken = what, _next_row(text, position), text[position : position + 1000]
                    position, batch = position + 1, 1
        if broken is not None:
            what, begin, shown = broken
            found = begin.search(text, position)
            if found or ended:
                number += 1
                rest = "reading goes on at the next line that begins as it does"
                if not found:
                    rest = f"the rows read before it ({read:,}) are used, the rest of the file cannot be read"
                yield Reject(f"{file.name}:{number}", "invalid-json", f"{what}; {rest}", file.name, shown)
            if found:
                position, broken = found.end() - 1, None
                continue
            position = max(position, len(text) - _MOST_BETWEEN)
            batch = 1
        if ended:
            return
        if broken is None and len(text) - position > 2 * limit:
            raise CorruptFileError(f"has something longer than max_row_bytes after row {number:,} that does not end")
        line = position if broken else max(text.rfind("\n", 0, position), 0)  # how the line of a row begins is kept
        text, position = text[line:], position - line
        more = list(itertools.islice(chunks, batch))
        ended, batch = not more, 2 * batch  # twice as much each time: linear time in the length of a row
        text += decoder.decode(b"".join(more), final=ended)


_MOST_BETWEEN = 1000
"""Characters between the end of an object and the next line with one, at most."""


def _is_wrong(problem: ValueError | RecursionError, read: int) -> bool:
    """Whether more text would not make a value of it: what is wrong is not at the end of what was read."""
    if not isinstance(problem, json.JSONDecodeError):
        return isinstance(problem, RecursionError)
    return problem.pos < read - len("-Infinity") and not problem.msg.startswith("Unterminated")


def _next_row(text: str, position: int) -> re.Pattern[str]:
    """What finds the row after a broken one: the end of an object, and a line that begins as that of the broken row does."""
    before = text[text.rfind("\n", 0, position) + 1 : position]
    indent = before if not before.strip() else ""
    return re.compile(rf"}}[ \t\r]*,?[ \t\r]*\n{re.escape(indent)}{re.escape(text[position])}")
