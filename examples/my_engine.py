"""An engine of your own, around any function: each passage with its sentences in reverse order, a control that needs no model.

rubric.files = ["examples/my_engine.py"]
operations.rephrase.steps = 0

[synthesize.engine]
type = "reversed"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from synpro.engines.base import EngineSpec, Model, Use
from synpro.engines.registry import ENGINES
from synpro.engines.scripted import ScriptedEngine
from synpro.language.segmentation import sentences
from synpro.records import Chat, Generator, passage_of


@dataclass(frozen=True, kw_only=True)
class ReversedConfig(EngineSpec):
    """Answers under `heading` with the sentences of the passage, the last one first."""

    type: Literal["reversed"] = "reversed"
    heading: str = "Rephrased:"
    """The heading that the operation asks for."""

    reads_weights: ClassVar[bool] = False

    def open_model(self, model: Generator | str, use: Use) -> Model:
        return ScriptedEngine(self.answer)

    def answer(self, chat: Chat, index: int) -> str:
        """The answer to a chat about a passage."""
        return f"{self.heading}\n{' '.join(reversed(sentences(passage_of(chat))))}"


ENGINES["reversed"] = ReversedConfig
