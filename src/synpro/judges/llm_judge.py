"""A language model as a judge of texts: texts in batches, answers parsed strictly, each distinct text asked about once.

An answer that cannot be parsed is asked for once more, sampled, with a seed of its own. A text that has no answer then has no
score (None); too many of them stop the step. No score is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Generic, TypeVar

from synpro.engines.base import Engine, Sampling, Unanswered
from synpro.engines.failures import MAX_FAILED_SHARE, FailureCount
from synpro.records import Chat

T = TypeVar("T")
MAX_ATTEMPTS = 2
"""Attempts per question, the greedy one included."""
RETRY_TEMPERATURE = 0.5
"""Temperature from the second attempt on."""


class Unreadable(ValueError):
    """An answer that does not have the form that was asked for; the message says what is wrong with it."""


def key_of(version: str, *texts: str) -> bytes:
    """Key under which an answer about some texts is stored: sha256 over the version of the question and each text."""
    parts = [version.encode(), *(sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)]
    return sha256(b"/".join(parts)).digest()


class LLMJudge(Generic[T]):
    """Asks a model one kind of question about texts."""

    def __init__(
        self,
        model: Engine,
        slot: str,
        version: str,
        prompt: Callable[[str], Chat],
        parse: Callable[[str], T],
        max_new_tokens: int,
        max_failed: float = MAX_FAILED_SHARE,
    ) -> None:
        """`slot` is the config key of the model, for messages; `version` names the question, and changes when `prompt` does;
        `parse` turns an answer into a value, or raises Unreadable."""
        self.model, self.slot, self.version = model, slot, version
        self.prompt, self.parse, self.max_new_tokens = prompt, parse, max_new_tokens
        self.failures = FailureCount(f"{slot}: texts", max_failed, "judges.max_failed")
        self._answers: dict[bytes, T | Unanswered] = {}

    def ask(self, texts: Sequence[str]) -> list[T | None]:
        """The parsed answer about each text, in order; None for a text without one (`failures` has the reasons). Raises
        TooManyFailures, and what the engine raises."""
        keys = [key_of(self.version, text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._answers}
        new = list(missing)
        for number in range(MAX_ATTEMPTS):
            if not missing:
                break
            sampling = Sampling(RETRY_TEMPERATURE if number else 0.0, 1.0, self.max_new_tokens, seed=number)
            answers = self.model.generate([self.prompt(text) for text in missing.values()], sampling)
            for key, (answer,) in zip(list(missing), answers, strict=True):
                try:
                    self._answers[key] = Unanswered(answer.problem) if answer.finish == "error" else self.parse(answer.text)
                    del missing[key]
                except Unreadable as error:
                    self._answers[key] = Unanswered(f"its answer {answer.text[:100]!r} cannot be read: {error}")
        self.failures.add(self._answers[key] for key in new)
        return [None if isinstance(found := self._answers[key], Unanswered) else found for key in keys]
