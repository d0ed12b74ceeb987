"""The judges of a stage: each is opened once, when it is first used, and all are closed together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synpro.engines.base import Model
from synpro.judges.base import JudgeConfig, JudgesConfig, LayoutJudge, QualityJudge, Verifier

if TYPE_CHECKING:
    from synpro.judges.encoder import BertScoreEncoder
    from synpro.judges.fluency import FluencyQuality


class JudgePool:
    """The judges of one run of a stage. Each is loaded on first use and shared by the rewards that need it."""

    def __init__(
        self, cfg: JudgesConfig, state_dir: Path | None = None, open_verifier: Callable[[JudgePool], Verifier] | None = None
    ) -> None:
        """`state_dir` is a folder of the step in which the fingerprints and logs of servers are stored; `open_verifier` opens
        what checks claims (`faithfulness/registry.py`)."""
        self.cfg, self.state_dir, self._open_verifier = cfg, state_dir, open_verifier
        self._encoder: BertScoreEncoder | None = None
        self._quality: QualityJudge | None = None
        self._layout: LayoutJudge | None = None
        self._verifier: Verifier | None = None
        self._causal: FluencyQuality | None = None

    @property
    def encoder(self) -> BertScoreEncoder:
        if self._encoder is None:
            from synpro.assets import model_folder
            from synpro.judges.encoder import BertScoreEncoder

            cfg = self.cfg.encoder
            folder = model_folder(cfg.model, slot="judges.encoder")
            self._encoder = BertScoreEncoder(folder, layer=cfg.layer, max_unknown=cfg.max_unknown, languages=cfg.languages)
        return self._encoder

    @property
    def quality(self) -> QualityJudge:
        if self._quality is None and self.cfg.quality == "dataman":
            from synpro.judges.dataman import DataManQuality

            self._quality = DataManQuality(self.open_model("dataman"), max_failed=self.cfg.max_failed)
        elif self._quality is None:
            self._quality = self.causal
        return self._quality

    @property
    def causal(self) -> FluencyQuality:
        """The small causal language model: it rates texts, and lends its likelihoods to the feature verifier."""
        if self._causal is None:
            from synpro.assets import model_folder
            from synpro.judges.fluency import FluencyQuality

            cfg = self.cfg.fluency
            folder = model_folder(cfg.model, slot="judges.fluency")
            self._causal = FluencyQuality(folder, dtype=cfg.dtype, languages=cfg.languages)
        return self._causal

    @property
    def verifier(self) -> Verifier:
        """What checks claims. Raises ValueError for a pool that was given none, and what opening it raises."""
        if self._verifier is None:
            if self._open_verifier is None:
                raise ValueError("this pool of judges has no verifier; open it by faithfulness.registry.open_judges")
            self._verifier = self._open_verifier(self)
        return self._verifier

    @property
    def layout(self) -> LayoutJudge:
        if self._layout is None and self.cfg.layout == "llm":
            from synpro.judges.layout_llm import LLMLayout

            self._layout = LLMLayout(self.open_model("layout_model"), self.cfg.max_failed)
        elif self._layout is None:
            from synpro.judges.layout_rules import RuleLayout

            self._layout = RuleLayout()
        return self._layout

    def open_model(self, name: Literal["dataman", "layout_model"]) -> Model:
        """The language model of `[judges.NAME]`; the caller closes it. Raises as `EngineSpec.open` does."""
        judge: JudgeConfig = getattr(self.cfg, name)
        return judge.engine.open(judge.model, slot=f"judges.{name}", scratch=self.state_dir)

    def open_verifier_model(self, reference: str) -> Model:
        """A language model that checks claims, in the engine of `[judges.verifier]`; the caller closes it. `reference` is
        `train_verifier.base` or the folder of its fine-tuned weights. Raises as `EngineSpec.open` does."""
        from synpro.assets import model_folder

        engine = self.cfg.verifier.engine
        if engine.reads_weights:
            reference = str(model_folder(reference, slot="train_verifier.base"))
        return engine.open(reference, slot="judges.verifier", scratch=self.state_dir)

    def close(self) -> None:
        """Free the memory. Safe to call twice."""
        for judge in (self._verifier, self._encoder, self._quality, self._causal, self._layout):
            if judge is not None:
                judge.close()
        self._verifier = self._encoder = self._quality = self._causal = self._layout = None
