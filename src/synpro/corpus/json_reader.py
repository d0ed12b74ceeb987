"""Rows of JSON: one object per line, an array of objects, or objects one after the other over several lines."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from synpro.corpus.files import CorruptFileError, SourceFile, split_lines
from synpro.corpus.rows import Row, Rows, decode, show, too_large
from synpro.runner.rejects import Reject

_BOM = b"\xef\xbb\xbf"
_LENIENT = json.JSONDecoder(parse_int=lambda digits: int(digits) if len(digits) < 4000 else float(digits))
"""Reads a whole number of thousands of digits, for which Python refuses `int`, as infinity."""
_BETWEEN = re.compile(r"[\s,\[\]]*")


def read_json(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
    """Read JSON of any layout; rows are numbered by line, or by their place in an array."""
    chunks = file.chunks()
    first = b""
    for chunk in chunks:
        first += chunk
        if first.removeprefix(_BOM).strip() and len(first) > 1:
            break
    rest = itertools.chain([first], chunks)
    if _is_per_line(first.removeprefix(_BOM)):
        yield from _read_lines(file, rest, limit)
    else:
        yield from _read_values(file, rest, limit)


def _is_per_line(first: bytes) -> bool:
    """Whether the beginning of a file looks like one object per line."""
    start = first.lstrip()
    if start.startswith(b"["):
        return False
    line, newline, after = start.partition(b"\n")
    if not newline or not start.startswith(b"{"):
        return True
    try:
        json.loads(line)
    except ValueError:
        try:  # an object over several lines?
            _LENIENT.raw_decode(start.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            # an object that is longer than what was read so far; one that goes on with an object is a broken row
            return line.strip() != b"{" or after.lstrip().startswith(b"{")
        return False
    except RecursionError:
        pass
    return True


def _read_lines(file: SourceFile, chunks: Iterator[bytes], limit: int) -> Rows:
    for number, offset, line, length in split_lines(chunks, limit):
        source = f"{file.name}:{number}"
        if line is None:
            yield too_large(source, length, limit)
            continue
        text = decode(line.removeprefix(_BOM), source, offset)  # of each of the files that `cat` put together
        if isinstance(text, Reject):
            yield text
        elif text.strip():
            yield _row(text, source)


def _row(text: str, source: str) -> Row | Reject:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as problem:
        what = f"it is not JSON: {problem.msg} at character {problem.pos + 1}"
        if not text.lstrip().startswith("{"):
            what = "the line is not a JSON object"
        elif problem.pos == 1 and problem.doc[problem.pos :].startswith("'"):
            what = "JSON needs double quotes; this looks like Python's repr (write it by json.dumps)"
        return Reject(source, "invalid-json", f"{what}; it begins with {show(text.strip(), 40)}", source, text)
    except RecursionError:
        return Reject(source, "invalid-json", "brackets are nested too deeply", source, text)
    except ValueError:  # a number of more digits than Python reads; if nobody asked for its column, it does not matter
        value = _LENIENT.decode(text)
    return _object(value, source, text)


def _object(value: Any, source: str, text: str) -> Row | Reject:
    if not isinstance(value, dict):
        kind = "null" if value is None else f"a {type(value).__name__}"
        return Reject(source, "invalid-json", f"the row is {kind}, not an object", source, text)
    return Row(source, value, tuple(value))


def _read_values(file: SourceFile, chunks: Iterator[bytes], limit: int) -> Rows:
    """Values one after the other, of one or several arrays or of none. What cannot be read ends the file."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")  # bad bytes are found in the row that has them
    text, number, wanted, ended = "", 0, 1, False
    position = 0
    while True:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # matches anywhere
        try:
            value, end = _LENIENT.raw_decode(text, position)
            # a number at the end of what was read may go on
            complete = ended or end < len(text)
        except (ValueError, RecursionError) as problem:
            complete, value, end = False, problem, position
        if complete:
            number, wanted = number + 1, 1
            source = f"{file.name}:{number}"
            yield _object(value, source, text[position:end])
            position = end
            continue
        if ended:
            if position < len(text):
                yield Reject(
                    f"{file.name}:{number + 1}", "invalid-json",
                    f"{value}; the {number:,} rows before it are used, the rest of the file cannot be read", file.name,
                    text[position : position + 1000],
                )  # fmt: skip
            return
        if len(text) - position > 2 * limit:
            raise CorruptFileError(f"has something longer than max_row_bytes after row {number:,} that does not end")
        text, position = text[position:], 0
        more = list(itertools.islice(chunks, wanted))
        ended, wanted = not more, 2 * wanted  # twice as much each time: linear time in the length of a row
        text += decoder.decode(b"".join(more), final=ended)
