"""Which judge answers for what: opened when first asked for, once, and closed together."""

from __future__ import annotations

from synpro.judges.base import Encoder, JudgesConfig, Layout, Quality


class Judges:
    """The judges of one run of a stage. Each is loaded on first use and shared by the rewards that need it."""

    def __init__(self, cfg: JudgesConfig) -> None:
        self.cfg = cfg
        self._encoder: Encoder | None = None
        self._quality: Quality | None = None

    @property
    def encoder(self) -> Encoder:
        if self._encoder is None:
            from synpro.assets import model_folder
            from synpro.judges.encoder import TokenEncoder

            folder = model_folder(self.cfg.encoder, slot="judges.encoder")
            self._encoder = TokenEncoder(folder, layer=self.cfg.encoder_layer, batch_tokens=self.cfg.batch_tokens)
        return self._encoder

    @property
    def quality(self) -> Quality:
        if self._quality is None:
            from synpro.assets import model_folder
            from synpro.judges.fluency import Fluency

            folder = model_folder(self.cfg.fluency, slot="judges.fluency")
            self._quality = Fluency(folder, dtype=self.cfg.dtype, batch_tokens=self.cfg.batch_tokens)
        return self._quality

    @property
    def layout(self) -> Layout:
        from synpro.judges.structure import Fingerprints

        return Fingerprints()

    def close(self) -> None:
        """Give the memory back. Safe to call twice."""
        for judge in (self._encoder, self._quality):
            if judge is not None:
                judge.close()
        self._encoder = self._quality = None
