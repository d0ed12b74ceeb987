"""Operations: what a generator is asked to do with a passage. One operation = one file = prompt + parser + default settings.

Training and synthesis both go through an operation's `prompt` and `parse`, so the prompt that was trained is the prompt that is
used. The audit (`synpro.audit`) makes its test answers with `render` and `append`, so it works for every operation.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from synpro.engines.base import Engine, Sampling
from synpro.records import Chat, Completion, Passage, Rewrite
from synpro.schema import setting


class ParseError(ValueError):
    """An answer that does not have the form the operation asked for; the message says what is wrong with it."""


@dataclass(frozen=True)
class Example:
    """A worked example: a passage and a good answer to it."""

    source: str
    """The passage."""
    answer: str
    """The answer in the operation's own form, headings included."""

    def __post_init__(self) -> None:
        for name in ("source", "answer"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: is empty; a worked example needs a passage and its answer")


@dataclass(frozen=True)
class OperationConfig:
    """The table `[operations.NAME]`: how the generator of one operation is trained, and how it generates.

    A key that a config leaves out takes the operation's own default (`Operation.defaults`); `weights` are merged key by key.
    """

    name: str = setting(hidden=True)
    """Name of the operation: that of its table. Filled in when the config is read."""
    weights: dict[str, float] = setting(default_factory=dict, min=0)
    """Weight of each reward. A weight of 0 turns a reward off."""
    steps: int = setting(300, unit="optimizer steps", source="paper: 300 for rephrase, 240 for reformat", min=0)
    """GRPO steps in each round. 0: the generator works by prompt alone, the baseline without RL."""
    max_new_tokens: int = setting(2048, unit="tokens", source="paper", min=1)
    """Longest answer, in training and in synthesis. Truncated answers are not learned from."""
    max_copied: float = setting(0.85, source="ours", min=0, max=1)
    """Largest share of a text's words in runs of 6 that the passage contains too. 1 accepts copies."""
    temperature: float = setting(1.0, source="paper", min=0, max=10)
    """In training and in synthesis. A model of 135M parameters needs 0.3 to 0.7 to stay with its source."""
    top_p: float = setting(0.9, source="paper", above=0, max=1)
    """Nucleus sampling: the smallest set of tokens with this probability."""
    examples: tuple[Example, ...] = ()
    """Worked examples, shown in the chat before the passage. Empty: the operation's own example. Small models need one: a
    model of 135M parameters goes from 3% to about half of its reformats in form. Each answer must parse."""
    files: tuple[str, ...] = setting((), hidden=True)
    """The files of `operation_files`, so that a step's process knows the operation. Filled in when the config is read."""

    def __post_init__(self) -> None:
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights: every weight is 0; give at least one reward a weight")
        if self.steps and self.temperature == 0:
            raise ValueError("temperature: 0 makes all answers to a passage equal, so GRPO learns nothing; use about 1.0")

    def sampling(self, n: int = 1, seed: int = 0) -> Sampling:
        """How `n` answers to each passage are sampled."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, n=n, seed=seed)


class Operation(ABC):
    """A way of saying a passage again.

    Most operations are a `ProseOperation` or an `EntryOperation`, which know how to parse, render and append; they set the
    class attributes and define `instruction`.
    """

    name: ClassVar[str]
    defaults: ClassVar[OperationConfig]
    """The settings of a table `[operations.NAME]` that is empty."""
    default_examples: ClassVar[tuple[Example, ...]]
    headings: ClassVar[tuple[str, ...]]
    """Words that begin the parts of an answer. A line of a passage that starts with one of them is marked as quoted."""
    has_entries: ClassVar[bool] = False
    """Whether an answer is a list of entries (pairs of lines under two headings) instead of prose under one heading."""

    def __init__(self, config: OperationConfig | None = None) -> None:
        """Raises ParseError when the answer of a worked example is not in the operation's form: a generator must not be shown
        a form that is then refused."""
        self.config = config or self.defaults
        self.examples = self.config.examples or self.default_examples
        for example in self.examples:
            self.parse(example.answer)
        self._example_turns: Chat = tuple(
            message
            for example in self.examples
            for message in (
                {"role": "user", "content": self._request(example.source)},
                {"role": "assistant", "content": example.answer},
            )
        )

    @abstractmethod
    def instruction(self) -> str:
        """What is asked of the generator, in front of the passage."""

    @abstractmethod
    def parse(self, answer: str) -> str:
        """The text to train on. Raises ParseError with the reason."""

    def claims(self, text: str) -> list[str]:
        """The statements in a parsed text that its passage must support. Here: its sentences."""
        return split_sentences(text)

    def prompt(self, passage: Passage) -> Chat:
        """The chat that asks for an answer. Worked examples and instruction come before the passage, so that all prompts share
        a prefix, which is computed once. The passage is data between delimiters, see `quote`."""
        return (*self._example_turns, {"role": "user", "content": self._request(passage.text)})

    def _request(self, text: str) -> str:
        return f"{self.instruction()}\n\n{quote(text, self.headings)}"

    # What the audit needs.

    @abstractmethod
    def render(self, text: str, topic: str = "The passage") -> str:
        """An answer in the operation's form that says `text`. `topic` is for forms that have one."""

    @abstractmethod
    def append(self, answer: str, text: str, topic: str = "A further fact") -> str:
        """An answer with one more statement at its end."""

    def reference_answers(self) -> Mapping[str, str]:
        """A careful person's answers to the passages of `audit/reference.toml`, by passage id; empty where there are none, and
        then the operation's rewards cannot be audited. Here: the TOML file beside the operation's Python file."""
        file = Path(inspect.getfile(type(self))).with_suffix(".toml")
        answers = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return {id: answer.strip() for id, answer in answers.items()}


DELIMITER = '"""'
"""Comes before and after a passage. (Small models repeat XML-like tags at the end of their answers, but not this.)"""

# What chat templates and tokenizers use to open and close turns: <|im_start|>, </s>, <start_of_turn>, [INST], <<SYS>>, also
# with the wide angle brackets that some normalizers make narrow. With a space inside, none of these is a token any more, and a
# reader can still see what the text was.
_ANGLE = re.compile(r"([<＜﹤])(?=[^\s<=\d])")
_BRACKET = re.compile(r"\[(?=/?[A-Z][A-Z_]+\])")
_QUOTES = re.compile(r'"{3,}')
_BREAK = r"\n\r\v\f\x85\u2028\u2029"
# Where a line begins: after any line break that a reader sees, and before blanks and invisible characters.
_LINE = rf"(?:(?<=[{_BREAK}])|^)(?=(?:[^\S{_BREAK}]|[\u00ad\u200b-\u200f\u2060\ufeff])*"


def quote(text: str, headings: Sequence[str] = ()) -> str:
    """Passage text as data between delimiters. It can neither close them nor open a turn of the chat, and a line of it that
    starts like one of the operation's headings is marked as quoted, so that a copy of it does not count as an answer.

    Text without such marks comes back unchanged.
    """
    text = _BRACKET.sub("[ ", _ANGLE.sub(r"\1 ", text.strip()))
    text = _QUOTES.sub(lambda found: " ".join(found.group()), text)  # one by one: five in a row must not leave three
    for heading in headings:
        text = re.sub(f"(?i){_LINE}{re.escape(heading)})", "> ", text)
    return f"{DELIMITER}\n{text}\n{DELIMITER}"


_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]”’]*\s+(?=[\"'(\[“‘]*[A-Z0-9À-Þ])|\n+")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, by punctuation and line breaks; good enough to ask which of them a source supports."""
    return [s for s in (part.strip() for part in _SENTENCE.split(text)) if s]


def parse_completion(operation: Operation, passage: Passage, completion: Completion) -> Rewrite:
    """A completion, parsed. When it does not have the operation's form, the record says why."""
    text, reason = None, None
    try:
        text = operation.parse(completion.text)
    except ParseError as problem:
        reason = str(problem)
    return Rewrite(passage, operation.name, completion.text, text, reason, completion.tokens, completion.finish)


def rewrite_passages(
    operation: Operation, passages: Sequence[Passage], engine: Engine, sampling: Sampling
) -> list[list[Rewrite]]:
    """`sampling.n` rewrites of each passage, in the order of `passages`."""
    answers = engine.generate([operation.prompt(p) for p in passages], sampling)
    return [[parse_completion(operation, p, c) for c in group] for p, group in zip(passages, answers, strict=True)]
