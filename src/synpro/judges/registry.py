"""The judges of a stage: each is opened once, when it is first used, and all are closed together."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synpro.engines.base import Model
from synpro.judges.base import JudgeConfig, JudgesConfig, LayoutJudge, QualityJudge, Verifier

if TYPE_CHECKING:
    from synpro.judges.encoder import BertScoreEncoder


class JudgePool:
    """The judges of one run of a stage. Each is loaded on first use and shared by the rewards that need it."""

    def __init__(
        self, cfg: JudgesConfig, state_dir: Path | None = None, open_verifier: Callable[[JudgePool], Verifier] | None = None
    ) -> None:
        """`state_dir` is a folder of the step in which the fingerprints and logs of servers are stored; `open_verifier` opens
        what checks claims (`faithfulness/registry.py`)."""
        self.cfg, self.state_dir, self._open_verifier = cfg, state_dir, open_verifier

    @cached_property
    def encoder(self) -> BertScoreEncoder:
        from synpro.assets import model_folder
        from synpro.judges.encoder import BertScoreEncoder

        cfg = self.cfg.encoder
        folder = model_folder(cfg.model, slot="judges.encoder")
        return BertScoreEncoder(folder, layer=cfg.layer, max_unknown=cfg.max_unknown, languages=cfg.languages)

    @cached_property
    def quality(self) -> QualityJudge:
        if self.cfg.quality == "dataman":
            from synpro.judges.dataman import DataManQuality

            return DataManQuality(self.open_model("dataman"), max_failed=self.cfg.max_failed)
        from synpro.assets import model_folder
        from synpro.judges.fluency import FluencyQuality

        cfg = self.cfg.fluency
        folder = model_folder(cfg.model, slot="judges.fluency")
        return FluencyQuality(folder, dtype=cfg.dtype, languages=cfg.languages)

    @cached_property
    def verifier(self) -> Verifier:
        """What checks claims. Raises ValueError for a pool that was given none, and what opening it raises."""
        if self._open_verifier is None:
            raise ValueError("this pool of judges has no verifier; open it by faithfulness.registry.open_judges")
        return self._open_verifier(self)

    @cached_property
    def layout(self) -> LayoutJudge:
        if self.cfg.layout == "llm":
            from synpro.judges.layout_llm import LLMLayout

            return LLMLayout(self.open_model("layout_model"), self.cfg.max_failed)
        from synpro.judges.layout_rules import RuleLayout

        return RuleLayout()

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
        for name in ("verifier", "encoder", "quality", "layout"):
            if name in vars(self):
                vars(self).pop(name).close()
