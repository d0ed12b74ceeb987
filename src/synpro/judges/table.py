"""Which judge answers for what: opened when first asked for, once, and closed together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synpro.engines.base import Model
from synpro.judges.base import JudgesConfig, Layout, Quality, Verifier
from synpro.records import Verifier as Trained

if TYPE_CHECKING:
    from synpro.judges.encoder import TokenEncoder
    from synpro.judges.features import Features
    from synpro.judges.fluency import Fluency


class Judges:
    """The judges of one run of a stage. Each is loaded on first use and shared by the rewards that need it."""

    def __init__(self, cfg: JudgesConfig, memory: Path | None = None, trained: Trained | None = None) -> None:
        """`memory` is a folder of the step in which it remembers which weights its servers had; `trained` the verifier of the
        run, None to check claims by rule."""
        self.cfg, self.memory, self.trained = cfg, memory, trained
        self._encoder: TokenEncoder | None = None
        self._quality: Quality | None = None
        self._layout: Layout | None = None
        self._verifier: Verifier | None = None
        self._causal: Fluency | None = None
        self._checking: Model | None = None

    @property
    def encoder(self) -> TokenEncoder:
        if self._encoder is None:
            from synpro.assets import model_folder
            from synpro.judges.encoder import TokenEncoder

            folder = model_folder(self.cfg.encoder, slot="judges.encoder")
            self._encoder = TokenEncoder(folder, batch_tokens=self.cfg.batch_tokens)
        return self._encoder

    @property
    def quality(self) -> Quality:
        if self._quality is None and self.cfg.quality == "dataman":
            from synpro.judges.dataman import DataMan

            self._quality = DataMan(self.model(self.cfg.dataman, "judges.dataman"))
        elif self._quality is None:
            self._quality = self.causal
        return self._quality

    @property
    def causal(self) -> Fluency:
        """The small causal language model: it rates texts, and lends its likelihoods to the feature verifier."""
        if self._causal is None:
            from synpro.assets import model_folder
            from synpro.judges.fluency import Fluency

            folder = model_folder(self.cfg.fluency, slot="judges.fluency")
            self._causal = Fluency(folder, dtype=self.cfg.dtype, batch_tokens=self.cfg.batch_tokens)
        return self._causal

    @property
    def verifier(self) -> Verifier:
        """Raises FileNotFoundError when the trained verifier's files are gone."""
        if self._verifier is None:
            self._verifier = self._open_verifier()
        return self._verifier

    def _open_verifier(self) -> Verifier:
        kind = self.trained.kind if self.trained else "none"
        if self.trained is not None and kind == "features":
            from synpro.judges.verifier import FeatureVerifier
            from synpro.judges.verifier import Model as Weighed

            return FeatureVerifier(Weighed.load(self.trained.dir), self.features)
        if self.trained is not None and kind == "llm":
            from synpro.judges.llm_verifier import Calibration, LLMVerifier

            calibration = Calibration.load(self.trained.dir)
            reference = calibration.model or str(self.trained.dir / "model")
            self._checking = self.model(reference, "train_verifier.base")
            return LLMVerifier(self._checking, calibration)
        from synpro.judges.rule_verifier import RuleVerifier

        return RuleVerifier(self.encoder)

    def features(self, likelihood: bool) -> Features:
        """What finds the evidence of claims, with the causal language model or without."""
        from synpro.judges.features import Features
        from synpro.judges.likelihood import Likelihood

        causal = self.causal if likelihood else None
        return Features(self.encoder, Likelihood(causal.model, causal.tokenizer, causal.window) if causal else None)

    @property
    def layout(self) -> Layout:
        if self._layout is None and self.cfg.layout == "llm":
            from synpro.judges.layout import LayoutModel

            self._layout = LayoutModel(self.model(self.cfg.layout_model, "judges.layout_model"))
        elif self._layout is None:
            from synpro.judges.structure import Fingerprints

            self._layout = Fingerprints()
        return self._layout

    def model(self, reference: str, slot: str) -> Model:
        """A language model for a judge; the caller closes it. `slot` is its config key. Raises as engines/table.py says."""
        from synpro.engines.table import open_model

        cfg = self.cfg
        return open_model(
            reference, slot=slot, server=cfg.server, dtype=cfg.dtype, batch_size=cfg.batch_size, memory=self.memory
        )  # fmt: skip

    def close(self) -> None:
        """Give the memory back. Safe to call twice."""
        for judge in (self._verifier, self._checking, self._encoder, self._quality, self._causal, self._layout):
            if judge is not None:
                judge.close()
        self._verifier = self._checking = self._encoder = self._quality = self._causal = self._layout = None
