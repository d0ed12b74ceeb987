"""An engine that answers from a function or a list. For tests of callers and for dry runs without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from synpro.engines.base import Sampling
from synpro.records import Chat, Completion


class ScriptedEngine:
    """Answers each chat by `script`: a function (chat, completion index) -> answer, or answers given out in order.

    Tokens are counted as words; an answer of more than `max_new_tokens` words is cut there and finishes by `length`. Keeps the
    chats it was asked in `asked`.
    """

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
