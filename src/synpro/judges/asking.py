"""What judges that are language models share: texts in batches, answers read strictly, each distinct text asked about once.

An answer that cannot be read is asked for again a bounded number of times (greedily first, then sampled, with a seed per try);
after that the judge fails and shows the answer. No score is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Generic, TypeVar

from synpro.engines.base import Engine, Sampling
from synpro.records import Chat

T = TypeVar("T")
TRIES = 3
"""Of one question, the greedy one included."""
AGAIN = 0.5
"""Temperature of the further ones."""


class Unreadable(ValueError):
    """An answer that does not have the form that was asked for; the message says what is wrong with it."""


class JudgeError(RuntimeError):
    """A judge whose answers cannot be read; the message shows one and says what to do."""


def key_of(version: str, *texts: str) -> bytes:
    """Under which an answer about some texts is kept: sha256 of the version of the question and of each text."""
    parts = [version.encode(), *(sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)]
    return sha256(b"/".join(parts)).digest()


class Asker(Generic[T]):
    """Asks a model one kind of question about texts."""

    def __init__(
        self,
        model: Engine,
        *,
        slot: str,
        version: str,
        prompt: Callable[[str], Chat],
        parse: Callable[[str], T],
        max_new_tokens: int,
    ) -> None:
        """`slot` is the config key of the model, for messages; `version` names the question, and changes when `prompt` does;
        `parse` reads an answer or raises Unreadable."""
        self.model, self.slot, self.version = model, slot, version
        self.prompt, self.parse, self.max_new_tokens = prompt, parse, max_new_tokens
        self._known: dict[bytes, T] = {}

    def ask(self, texts: Sequence[str]) -> list[T]:
        """What the model says of each text, in order. Raises JudgeError, and what the engine raises."""
        keys = [key_of(self.version, text) for text in texts]
        open_ = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        said, problem = "", ""
        for number in range(TRIES):
            if not open_:
                break
            sampling = Sampling(AGAIN if number else 0.0, 1.0, self.max_new_tokens, seed=number)
            answers = self.model.generate([self.prompt(text) for text in open_.values()], sampling)
            for key, (answer,) in zip(list(open_), answers, strict=True):
                try:
                    self._known[key] = self.parse(answer.text)
                    del open_[key]
                except Unreadable as error:
                    said, problem = answer.text, str(error)
        if open_:
            raise JudgeError(
                f"{self.slot}: {len(open_)} of {len(set(keys))} answers cannot be read after {TRIES} tries ({problem}). "
                f"One answer: {said[:300]!r}. Is this the model that was trained to answer in this form?"
            )
        return [self._known[key] for key in keys]
