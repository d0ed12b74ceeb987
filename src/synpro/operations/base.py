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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from synpro.engines.base import Engine, Sampling
from synpro.language.identification import may_be
from synpro.language.segmentation import sentences
from synpro.records import DELIMITER, Chat, Completion, Passage, Rewrite, digest_of
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


def read_examples(file: str, key: str = "examples") -> tuple[Example, ...]:
    """The worked examples under `key` in the TOML file beside an operation's Python file. Raises ValueError for none."""
    beside = _read_beside(file)
    if key not in beside:
        problem = f"has no [[{key}]]" if beside else "is missing or empty"
        raise ValueError(f"{Path(file).with_suffix('.toml')} {problem}; it must hold [[{key}]], each with source and answer")
    return tuple(Example(**example) for example in beside[key])


def _read_beside(file: str) -> dict[str, Any]:
    data = Path(file).with_suffix(".toml")
    return tomllib.loads(data.read_text(encoding="utf-8")) if data.exists() else {}


SELECTIONS = ("reward", "least_copied", "variety")
"""Values of `select_by` that are not the name of a reward."""
LONG_PASSAGE = 1500
"""Characters from which a passage is long: it has another worked example, and more is asked about it. (The paper's have up to
7,000, the demo's about 350.)"""


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
    """Longest answer, in training and in synthesis. RL learns from truncated answers too."""
    max_copied: float = setting(0.85, source="ours", min=0, max=1)
    """Largest share of a text's words in runs of 6 that the passage contains too. Where more than 85% of the passage's words
    are in the text in their order (or the text's in the passage), that share counts, but for a text of more than twice those
    words that keeps whole phrases of the passage. 1 accepts copies."""
    min_length: float = setting(0.3, source="ours", min=0)
    """Fewest words of a text, over the words of its passage."""
    enough_words: int | None = setting(None, unit="words", source="ours", min=1)
    """A text of so many words is not too short, however long its passage; none = `min_length` alone decides. (At most 8 entries
    cannot be a third of a passage of 7,000 characters.)"""
    max_length: float = setting(2.0, source="ours", above=0)
    """Most words of a text, over the words of its passage. (The paper rewards rephrasings of at most 1.25.)"""
    min_recall: float = setting(0.6, source="ours", min=0, max=1)
    """Smallest encoder recall of the passage by a text, below which it carries too little of the passage to earn influence.
    (By MiniLM: reference answers 0.63 to 0.95, two short notes 0.55 to 0.91, eight entries about 7,000 characters 0.50 to 0.60,
    answers to other passages 0.12 to 0.31.)"""
    min_precision: float = setting(0.68, source="ours", min=0, max=1)
    """Smallest encoder precision of a text against the passage to earn influence. (By MiniLM: reference answers 0.71 to 0.90,
    questions 0.59 to 0.86.)"""
    num_versions: int = setting(1, unit="texts", source="paper", min=1)
    """Texts of each passage that a round keeps at most. Exact and near copies among them are dropped."""
    num_candidates: int | None = setting(None, unit="texts", source="ours", min=1)
    """Texts that pass the filters and are gathered for each passage, of which the best `num_versions` are kept; none =
    `num_versions`, so that all that pass are kept."""
    max_tries: int | None = setting(None, unit="answers", source="ours", min=1)
    """Answers to each passage at most. A passage that lacks candidates is asked again until it has them or its tries are spent;
    none = `num_candidates`: no passage is asked again."""
    select_by: str = setting("reward", source="ours")
    """Which candidates are the best, where there are more than `num_versions`: by `reward` (the weighted sum of all rewards,
    each in deviations within a passage), one reward by its name, `least_copied` (the smallest share of words copied from the
    passage) or `variety` (the smallest overlap with the passage and with the versions already chosen)."""
    temperature: float = setting(1.0, source="paper", min=0, max=10)
    """In training and in synthesis. A model of 135M parameters needs 0.3 to 0.7 to stay with its source."""
    top_p: float = setting(0.9, source="paper", above=0, max=1)
    """Nucleus sampling: the smallest set of tokens with this probability."""
    examples: tuple[Example, ...] = ()
    """Worked examples, shown in the chat before the passage. Empty: the operation's own for passages of this length. Small
    models need one: a model of 135M parameters goes from 3% to about half of its reformats in form. Each answer must parse."""
    files: tuple[str, ...] = setting((), hidden=True)
    """The files of `operation_files`, so that a step's process knows the operation. Filled in when the config is read."""

    def __post_init__(self) -> None:
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights: every weight is 0; give at least one reward a weight")
        if self.steps and self.temperature == 0:
            raise ValueError("temperature: 0 makes all answers to a passage equal, so GRPO learns nothing; use about 1.0")
        if self.temperature == 0 and self.tries > 1:
            raise ValueError("temperature: 0 makes all answers to a passage equal; use num_versions = 1 and max_tries = 1")
        if self.min_length >= self.max_length:
            raise ValueError(f"min_length: {self.min_length} must be below max_length = {self.max_length}")
        if self.candidates < self.num_versions:
            raise ValueError(f"num_candidates: {self.candidates} is below num_versions = {self.num_versions}")
        if self.tries < self.candidates:
            raise ValueError(f"max_tries: {self.tries} is below the {self.candidates} texts wanted of each passage")
        if self.selects and self.select_by not in (*SELECTIONS, *(name for name, weight in self.weights.items() if weight)):
            raise ValueError(
                f"select_by: {self.select_by!r} is neither a reward with a weight here nor one of {', '.join(SELECTIONS)}"
            )

    def for_training(self) -> OperationConfig:
        """What training reads: not how answers are chosen afterwards, so that arms that differ in that alone share a generator.
        One that is not trained keeps all of it."""
        return replace(self, num_candidates=None, max_tries=None, select_by="reward") if self.steps else self

    def for_scoring(self) -> OperationConfig:
        """What scoring an answer may read: neither how many are kept of a passage nor how they are chosen, so that arms that
        differ in that alone share scores."""
        return replace(self, num_versions=1, num_candidates=None, max_tries=None, select_by="reward")

    @property
    def candidates(self) -> int:
        """Texts wanted of each passage before the best are chosen."""
        return self.num_candidates or self.num_versions

    @property
    def tries(self) -> int:
        """Answers to each passage at most."""
        return self.max_tries or self.candidates

    @property
    def selects(self) -> bool:
        """Whether fewer texts are kept than are wanted as candidates."""
        return self.candidates > self.num_versions

    def length_limits(self, source: float) -> tuple[float, float]:
        """Fewest and most words of a text whose passage has `source` words."""
        least = self.min_length * source
        return (least if self.enough_words is None else min(least, self.enough_words)), self.max_length * source

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
    long_examples: ClassVar[tuple[Example, ...]] = ()
    """Worked examples for passages of LONG_PASSAGE characters or more; empty: `default_examples`."""
    headings: ClassVar[tuple[str, ...]]
    """Words that begin the parts of an answer. A line of a passage that starts with one of them is marked as quoted."""
    has_entries: ClassVar[bool] = False
    """Whether an answer is a list of entries (pairs of lines under two headings) instead of prose under one heading."""

    def __init__(self, config: OperationConfig | None = None) -> None:
        """Raises ParseError when the answer of a worked example is not in the operation's form: a generator must not be shown
        a form that is then refused."""
        self.config = config or self.defaults
        for example in (*self.examples_for(""), *self.examples_for("a" * LONG_PASSAGE)):
            self.parse(example.answer)

    def examples_for(self, text: str) -> tuple[Example, ...]:
        """The worked examples that are shown before a passage."""
        own = self.long_examples if len(text) >= LONG_PASSAGE else ()
        return self.config.examples or own or self.default_examples

    @abstractmethod
    def instruction(self, text: str) -> str:
        """What is asked of the generator about a passage of this text, which follows it. It may depend on the passage's length;
        passages that are asked alike share what is computed for the prompt's beginning."""

    @abstractmethod
    def parse(self, answer: str) -> str:
        """The text to train on. Raises ParseError with the reason."""

    def claims(self, text: str) -> list[str]:
        """The statements in a parsed text that its passage must support. Here: its sentences."""
        return sentences(text)

    def prompt(self, passage: Passage) -> Chat:
        """The chat that asks for an answer. Worked examples and instruction come before the passage, so that all prompts share
        a prefix, which is computed once. The passage is data between delimiters, see `quote`."""
        turns = []
        instruction = self.instruction(passage.text)
        if not may_be(passage.text, ("en",)):
            instruction += " " + SAME_LANGUAGE
        for example in self.examples_for(passage.text):
            turns.append({"role": "user", "content": self._request(self.instruction(example.source), example.source)})
            turns.append({"role": "assistant", "content": example.answer})
        return (*turns, {"role": "user", "content": self._request(instruction, passage.text)})

    def prompt_hash(self, passage: Passage) -> str:
        """Digest of what is asked about a passage, the passage itself left out."""
        *turns, _ = self.prompt(passage)
        return digest_of([turns, self.instruction(passage.text)])

    def _request(self, instruction: str, text: str) -> str:
        return f"{instruction}\n\n{quote(text, self.headings)}"

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
        beside = _read_beside(inspect.getfile(type(self)))
        return {id: answer.strip() for id, answer in beside.items() if isinstance(answer, str)}


SAME_LANGUAGE = "Write the new text in the language of the passage."
"""Asked where the passage is surely not English; the rest of the request stays English, whose words the parser looks for."""

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


def parse_completion(operation: Operation, passage: Passage, completion: Completion) -> Rewrite:
    """A completion, parsed. Without an answer, or without the operation's form, the record says why."""
    text, reason = None, completion.problem or None
    if completion.finish != "error":
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
