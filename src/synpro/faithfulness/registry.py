"""Which verifier checks claims: one function per kind. A pool of judges from `open_judges` opens its verifier here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from synpro.judges.base import JudgesConfig, Verifier
from synpro.judges.registry import JudgePool
from synpro.records import TrainedVerifier


def open_judges(cfg: JudgesConfig, state_dir: Path | None = None, trained: TrainedVerifier | None = None) -> JudgePool:
    """The judges of a step. `trained` is the verifier of the run; without one, claims are checked by rule. `state_dir`: see
    JudgePool."""
    return JudgePool(cfg, state_dir, partial(open_verifier, trained))


def open_verifier(trained: TrainedVerifier | None, judges: JudgePool) -> Verifier:
    """Open a verifier that uses the models of `judges`. Raises FileNotFoundError when its files are gone."""
    if trained is None:
        return _open_rule_verifier(Path(), judges)
    return VERIFIERS[trained.kind](trained.dir, judges)


def _open_feature_verifier(folder: Path, judges: JudgePool) -> Verifier:
    from synpro.faithfulness.feature_verifier import FeatureModel, FeatureVerifier
    from synpro.faithfulness.features import FeatureExtractor

    return FeatureVerifier(FeatureModel.load(folder), FeatureExtractor(judges.encoder))


def _open_llm_verifier(folder: Path, judges: JudgePool) -> Verifier:
    from synpro.faithfulness.llm_verifier import Calibration, LLMVerifier

    calibration = Calibration.load(folder)
    model = judges.open_verifier_model(calibration.model or str(folder / "model"))
    return LLMVerifier(model, calibration, judges.cfg.max_failed)


def _open_rule_verifier(folder: Path, judges: JudgePool) -> Verifier:
    from synpro.faithfulness.rule_verifier import RuleVerifier

    return RuleVerifier(judges.encoder)


VERIFIERS: dict[str, Callable[[Path, JudgePool], Verifier]] = {
    "features": _open_feature_verifier,
    "llm": _open_llm_verifier,
    "none": _open_rule_verifier,
}
"""`train_verifier.kind` -> what opens the verifier in a folder. Adding one: a file, and a function and a line here."""
