"""`type = "scripted"`: answers that were written in advance. For tests and for dry runs without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Literal

from synpro.engines.base import EngineSpec, Model, Sampling, Unanswered, Use
from synpro.engines.options import check_options
from synpro.records import Chat, Completion, Generator


@dataclass(frozen=True, kw_only=True)
class ScriptedConfig(EngineSpec):
    """Answers every chat with one of `answers`, picked by the hash of the chat: the same chat always gets the same answer."""

    type: Literal["scripted"] = "scripted"
    answers: tuple[str, ...]
    """The answers to pick from."""

    reads_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.answers:
            raise ValueError("answers: is empty; give at least one")

    def open_model(self, model: Generator | str, use: Use) -> Model:
        """The model is not looked at."""
        return ScriptedEngine(lambda chat, index: self.answers[(_number(chat) + index) % len(self.answers)])


class ScriptedEngine:
    """Answers each chat by `script`: a function (chat, completion index) -> answer, or answers given out in order.

    Tokens are counted as words; an answer of more than `max_new_tokens` words is truncated there and finishes by `length`. The
    chats it has seen are in `asked`.
    """

    is_remote = False

    def __init__(self, script: Callable[[Chat, int], str] | Sequence[str]) -> None:
        self._answer: Callable[[Chat, int], str]
        if callable(script):
            self._answer = script
        else:
            answers: Iterator[str] = iter(script)
            self._answer = lambda chat, index: next(answers)
        self.asked: list[Chat] = []
        self.closed = False

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py. Raises ValueError when a list of answers has run out, or after `close`."""
        if self.closed:
            raise ValueError("the engine is closed")
        self.asked += chats
        return [[self._complete(chat, index, sampling) for index in range(sampling.n)] for chat in chats]

    def score_options(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float] | Unanswered]:
        """1 for the option that the scripted answer begins with; Unanswered where it begins with none."""
        check_options(options)
        out: list[list[float] | Unanswered] = []
        for (completion,) in self.generate(chats, Sampling(0.0, 1.0)):
            scores = [float(completion.text.strip().startswith(option)) for option in options]
            none = f"the scripted answer {completion.text[:40]!r} begins with none of {', '.join(options)}"
            out.append(scores if any(scores) else Unanswered(none))
        return out

    def count(self, text: str) -> int:
        """Number of words."""
        return len(text.split(" "))

    def close(self) -> None:
        """No more answers."""
        self.closed = True

    def _complete(self, chat: Chat, index: int, sampling: Sampling) -> Completion:
        try:
            answer = self._answer(chat, index)
        except StopIteration:
            raise ValueError(f"the script has no answer left for chat {len(self.asked)}; give it more") from None
        words = answer.split(" ")
        if len(words) > sampling.max_new_tokens:
            return Completion(" ".join(words[: sampling.max_new_tokens]), sampling.max_new_tokens, "length")
        return Completion(answer, len(words) + 1, "stop")


def _number(chat: Chat) -> int:
    return int.from_bytes(sha256(json.dumps(list(chat), sort_keys=True).encode()).digest()[:8], "big")
