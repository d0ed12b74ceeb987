"""Which judge answers for what: opened when first asked for, once, and closed together."""

from __future__ import annotations

from pathlib import Path

from synpro.engines.base import Model
from synpro.judges.base import Encoder, JudgesConfig, Layout, Quality


class Judges:
    """The judges of one run of a stage. Each is loaded on first use and shared by the rewards that need it."""

    def __init__(self, cfg: JudgesConfig, memory: Path | None = None) -> None:
        """`memory` is a folder of the step in which it remembers which weights its servers had."""
        self.cfg, self.memory = cfg, memory
        self._encoder: Encoder | None = None
        self._quality: Quality | None = None
        self._layout: Layout | None = None

    @property
    def encoder(self) -> Encoder:
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
            from synpro.assets import model_folder
            from synpro.judges.fluency import Fluency

            folder = model_folder(self.cfg.fluency, slot="judges.fluency")
            self._quality = Fluency(folder, dtype=self.cfg.dtype, batch_tokens=self.cfg.batch_tokens)
        return self._quality

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
        for judge in (self._encoder, self._quality, self._layout):
            if judge is not None:
                judge.close()
        self._encoder = self._quality = self._layout = None
