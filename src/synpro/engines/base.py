"""Engines: text, or the probability of a few options, from chats. The caller does not know whether the model runs in this
process, on a GPU or behind a server.

An *engine* (`Engine`, `Model`) is open and answers. Its *spec* (`EngineSpec`) is the table of the config that
opens it; `registry.py` lists them.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from synpro.records import Chat, Completion, Generator

Role = Literal["generator", "judge"]
"""What a model is opened for. A generator fills a whole device with large batches, and an empty text is an answer; a judge has
to leave room for other models, its answers must not depend on the texts beside it, and an empty text is a failure."""
Progress = Callable[[float, float], None]
"""Called with (completions done, completions in all); started completions count in part."""


@dataclass(frozen=True)
class Sampling:
    """How to sample. The paper generates at temperature 1.0, top-p 0.9, at most 2,048 new tokens."""

    temperature: float = 1.0
    """0 means greedy."""
    top_p: float = 0.9
    max_new_tokens: int = 2048
    n: int = 1
    """Completions per chat."""
    seed: int = 0
    """The same chats in the same call with the same seed give the same text on the same machine."""


class EngineError(RuntimeError):
    """A model that cannot be opened or did not answer; the message says which, what happened and what to do."""


@dataclass(frozen=True)
class Unanswered:
    """A chat, or a text given to a judge, that has no answer: whoever asked has no value for this item."""

    reason: str


class Engine(Protocol):
    """Anything that answers chats."""

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each chat, in the order of `chats`.

        One chat that has no answer (longer than the context, refused by the server, logits that are NaN) never stops the rest:
        its completions have `finish == "error"`, no text, and the reason in `problem`. Whoever asks counts them
        (`failures.py`). Raises EngineError when the model itself fails (a server that is gone, a tokenizer without a chat
        template). Never returns an invented text.
        """
        ...

    def close(self) -> None:
        """Free memory and connections. Safe to call twice."""
        ...


class Model(Engine, Protocol):
    """A model that generates text and scores options; what an `EngineSpec` opens."""

    is_remote: bool
    """Whether a call waits for another process. Such a model may be called from several threads at once."""

    def count(self, text: str) -> int:
        """Number of tokens of a text; an estimate where the tokenizer is not on this machine."""
        ...

    def score_options(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float] | Unanswered]:
        """For each chat, the probability that the answer begins with each option, normalised over the options (sums to 1);
        for a chat that has no answer, why not (`isinstance(x, Unanswered)`).

        `options` are two or more short texts that differ in their first token ("Yes" and "No", "A", "B" and "C"); a space
        before an option is the same option. A chat's probabilities do not depend on the chats beside it (to 1e-6 on a CPU).
        Raises ValueError for options that cannot be told apart, and EngineError as `generate` does: never returns an invented
        number.
        """
        ...


@dataclass(frozen=True)
class Use:
    """What a model is opened for, and where."""

    slot: str
    """The table of the config that names model and engine (`synthesize`, `judges.dataman`), for messages."""
    role: Role = "judge"
    scratch: Path | None = None
    """A folder of the step that no result covers, for logs and for the fingerprint of a server; None = a temporary folder, and
    no fingerprint outlives the process."""
    progress: Progress | None = None
    """Called during `generate`."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec(ABC):
    """An engine as a config names it: `engine = {type = "vllm", max_model_len = 4096}`.

    A subclass is a frozen dataclass. Its `type` is its name in `registry.ENGINES`; its other fields are the keys of the table.
    A field declared with `setting(..., execution=True)` says how the work is done (memory, devices, waiting times); every other
    field decides what text comes out, and belongs to the key under which finished chunks are stored.
    """

    type: str = ""

    reads_weights: ClassVar[bool] = True
    """Whether the weights are opened on this machine: they are fetched by `synpro check --assets` and planned for."""
    follows_training: ClassVar[bool] = False
    """Whether RL can hand it the weights of every step (`train_generator.engine`)."""

    @property
    def batch_size(self) -> int:
        """Completions generated side by side; what `synpro plan` assumes where the table has no such key."""
        return 64

    def open(self, model: Generator | str, **use: Any) -> Model:
        """Open a generator record, a model folder or an asset reference (`hf:ORG/NAME`, `wheel:...`). `use`: fields of `Use`,
        `slot` at least.

        Raises AssetError for a model that cannot be found, EngineError for one that does not open, ValueError for settings
        that do not go together.
        """
        return self.open_model(model, Use(**use))

    @abstractmethod
    def open_model(self, model: Generator | str, use: Use) -> Model:
        """What `open` does, for this engine."""

    def missing(self, slot: str) -> list[str]:
        """What this machine lacks for the engine, each with its remedy. Opens nothing."""
        return []

    def result_settings(self) -> dict[str, Any]:
        """The settings that decide what text comes out, as plain data."""
        fields = dataclasses.fields(self)
        kept = {f.name for f in fields if not f.metadata.get("execution")}
        return {name: value for name, value in dataclasses.asdict(self).items() if name in kept}
