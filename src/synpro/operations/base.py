"""Operations: what a generator is asked to do with a passage. One operation = one file = prompt + parser.

`rewrite()` is the only door: training and synthesis both go through it, or through its two halves `prompt` and `read`, so the
prompt that was trained is the prompt that is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from synpro.engines.base import Engine, Sampling
from synpro.records import Chat, Completion, Passage, Rewrite


class Unparsable(ValueError):
    """An answer that does not have the form the operation asked for; the message says what is wrong with it."""


@dataclass(frozen=True)
class Example:
    """A worked example: what a good answer to a passage looks like."""

    source: str
    """The passage."""
    answer: str
    """The answer in the operation's own form, headings and all."""

    def __post_init__(self) -> None:
        for name in ("source", "answer"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: is empty; a worked example needs a passage and its answer")


@dataclass(frozen=True)
class OperationConfig:
    """Which operation, and the worked examples it shows the generator."""

    name: str
    """`rephrase` or `reformat`; see operations/table.py."""
    examples: tuple[Example, ...] = ()
    """Shown in the chat before the passage. Empty: the operation's own example, which small models need (one of 135M
    parameters goes from 3% to about half of its reformats in form with one). Each answer must parse."""


class Operation(Protocol):
    """A way of saying a passage again."""

    name: str

    def prompt(self, passage: Passage) -> Chat:
        """The chat that asks for it. The worked example and the instruction stand before the passage (a shared prefix is
        computed once); the passage is delimited data whose own markers are escaped."""
        ...

    def parse(self, answer: str) -> str:
        """The text to train on. Raises Unparsable with the reason."""
        ...

    def claims(self, text: str) -> list[str]:
        """The statements in a parsed text that its source must support: entries for reformat, sentences for rephrase."""
        ...


MARK = '"""'
"""Stands before and after a passage. (Small models echo XML-like marks at the end of their answers; these they do not.)"""

# What chat templates and tokenizers use to open and close turns: <|im_start|>, </s>, <start_of_turn>, [INST], <<SYS>>, also
# with the wide angle that some normalizers make narrow. None of these is a token any more once a space stands inside it, and a
# reader still sees what was written.
_ANGLE = re.compile(r"([<＜﹤])(?=[^\s<=\d])")
_BRACKET = re.compile(r"\[(?=/?[A-Z][A-Z_]+\])")
_QUOTES = re.compile(r'"{3,}')
_BREAK = r"\n\r\v\f\x85\u2028\u2029"
# Where a line begins: after any break that a reader sees, and before blanks and what no reader sees.
_LINE = rf"(?:(?<=[{_BREAK}])|^)(?=(?:[^\S{_BREAK}]|[\u00ad\u200b-\u200f\u2060\ufeff])*"


def quote(text: str, headings: Sequence[str] = ()) -> str:
    """Passage text as data between marks: it can neither close them nor open a turn, and a line of it that starts like one of
    the operation's headings is marked as quoted, so that copying it does not count as answering.

    Text without such marks comes back unchanged.
    """
    text = _BRACKET.sub("[ ", _ANGLE.sub(r"\1 ", text.strip()))
    text = _QUOTES.sub(lambda found: " ".join(found.group()), text)  # one by one: five in a row must not leave three
    for heading in headings:
        text = re.sub(f"(?i){_LINE}{re.escape(heading)})", "> ", text)
    return f"{MARK}\n{text}\n{MARK}"


def worked(examples: Sequence[Example], ask: Callable[[str], str]) -> Chat:
    """Worked examples as earlier turns of the chat: `ask` says how a passage is put to the generator."""
    return tuple(
        message
        for example in examples
        for message in (
            {"role": "user", "content": ask(example.source)},
            {"role": "assistant", "content": example.answer},
        )
    )


_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]”’]*\s+(?=[\"'(\[“‘]*[A-Z0-9À-Þ])|\n+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, by punctuation and line breaks; good enough to ask which of them a source supports."""
    return [s for s in (part.strip() for part in _SENTENCE.split(text)) if s]


def read(operation: Operation, passage: Passage, completion: Completion) -> Rewrite:
    """A completion, parsed."""
    text, reason = None, None
    try:
        text = operation.parse(completion.text)
    except Unparsable as problem:
        reason = str(problem)
    return Rewrite(passage, operation.name, completion.text, text, reason, completion.tokens, completion.finish)


def rewrite(operation: Operation, passages: Sequence[Passage], engine: Engine, sampling: Sampling) -> list[list[Rewrite]]:
    """`sampling.n` rewrites of each passage, in the order of `passages`."""
    answers = engine.generate([operation.prompt(p) for p in passages], sampling)
    return [[read(operation, p, c) for c in group] for p, group in zip(passages, answers, strict=True)]
