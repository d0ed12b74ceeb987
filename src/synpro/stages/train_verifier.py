"""train_verifier: trains what checks every claim of a rewrite against its passage (method.md, step 4: faithfulness).

The paper's verifier is a fine-tune of Qwen3-1.7B that was never released. This one is trained on the user's own train split:
claims made from its passages, true ones in other words and false ones of eleven types (`faithfulness/claims.py`), and some
written by hand. Two kinds: `llm`, the paper's, and `features`, a small calibrated model that needs no GPU.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from synpro.engines.registry import check_model
from synpro.faithfulness.claims import Claim, Split, make_claims, split_claims
from synpro.judges.base import JudgesConfig, Verifier
from synpro.judges.registry import JudgePool
from synpro.records import Corpus, Passage, TrainedVerifier, digest_files, digest_of
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.runner.rejects import Reject
from synpro.schema import setting

if TYPE_CHECKING:
    from synpro.faithfulness.train import TrainingClaims

CALIBRATION, HELDOUT = 0.15, 0.25
"""Fractions of the documents whose claims calibrate the probability, and measure the verifier."""
MIN_PRECISION = 0.6
"""Encoder precision against its sentence below which a paraphrase made by rule is not used."""


@dataclass(frozen=True)
class TrainVerifierConfig:
    """Which verifier, and how it is trained. The default is the paper's model with our recipe."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "batch": "batch_size",
        "micro_batch": "micro_batch_size",
        "claims": "max_claims",
        "written": "handwritten_share",
        **dict.fromkeys(("calibration", "heldout", "min_confirmed", "min_paraphrase_precision", "likelihood"), ""),
    }
    FIXED: ClassVar[Mapping[str, float]] = {
        **{"calibration": CALIBRATION, "heldout": HELDOUT, "likelihood": False},
        **dict.fromkeys(("min_confirmed", "min_paraphrase_precision"), MIN_PRECISION),
    }

    kind: Literal["llm", "features", "none"] = setting("llm", source="paper")
    """`llm`: a fine-tuned language model. `features`: a small calibrated model, minutes without a GPU. `none`: no training,
    claims are checked by rule."""
    base: str = setting("hf:Qwen/Qwen3-1.7B", source="paper")
    """The language model that `llm` starts from (paper value): any causal model with a chat template. With `epochs = 0` it is
    asked as it is, and may also be behind a server (`judges.verifier.engine`)."""
    max_claims: int = setting(3000, unit="claims", source="ours", min=1)
    """Maximum number of claims made from the corpus, for training, calibration and measuring together."""
    handwritten_share: float = setting(0.4, source="ours", min=0, below=1)
    """Fraction of the training weight that claims written by hand have: they teach that other words can mean the same."""
    epochs: int = setting(2, source="ours", min=0)
    """For `llm`, like all keys below. 0: no training, only the probability is calibrated."""
    batch_size: int = setting(32, unit="claims", source="ours", min=1)
    """Claims per optimizer step."""
    micro_batch_size: int = setting(4, unit="claims", source="ours", min=1, execution=True)
    """Claims per forward and backward pass; divides `batch_size`."""
    learning_rate: float = setting(1e-5, source="ours", above=0)
    """Peak learning rate."""
    lora_rank: int = setting(0, source="ours", min=0)
    """0 trains all weights; else adapters of this rank, merged afterwards (take a learning rate of about 2e-4)."""
    dtype: Literal["float32", "bfloat16"] = setting("bfloat16", source="ours")
    """Dtype of the weights and the arithmetic."""

    def __post_init__(self) -> None:
        try:
            check_model(self.base)
        except ValueError as problem:
            raise ValueError(f"base: {problem}") from problem
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size: {self.micro_batch_size} does not divide batch_size ({self.batch_size}); use a divisor"
            )


def train_verifier(cfg: TrainVerifierConfig, *, corpus: Corpus, judges: JudgesConfig, ctx: StepContext) -> TrainedVerifier:
    """Train and measure the verifier. Writes its files, `claims.jsonl`, `report.json` and `report.html`. Starts over when
    killed.

    Raises ValueError when the train split has fewer than three documents with sentences to make claims of, AssetError when a
    model cannot be had.
    """
    for left in ("model", "sft"):
        shutil.rmtree(ctx.out / left, ignore_errors=True)
    ctx.logger.rejects.clear()
    if cfg.kind == "none":
        ctx.logger.log("no verifier is trained: claims are checked by rule")
        return TrainedVerifier(ctx.out, "none", digest_of("none"))
    pool = JudgePool(judges, ctx.out / "scratch")
    try:
        passages = _sample(corpus.dir, cfg.max_claims)
        known = passages if cfg.kind == "llm" else [p for p in passages if pool.encoder.knows(p.text)]
        if len(known) < len(passages) / 2:
            ctx.logger.log(
                f"no verifier is trained: judges.encoder knows too little of {len(passages) - len(known)} of {len(passages)}"
                " passages. Faithfulness does not apply to them, and no text is dropped for it; name one that reads their"
                ' language, or set train_verifier.kind = "llm" (docs/languages.md)'
            )
            return TrainedVerifier(ctx.out, "none", digest_of("none"))
        claims = make_claims(known, ctx.seed, cfg.max_claims)
        claims = _confirmed(claims, pool, ctx.logger)
        split = split_claims(claims, CALIBRATION, HELDOUT)
        return (_train_features if cfg.kind == "features" else _train_llm)(cfg, split, pool, ctx)
    finally:
        pool.close()


def _sample(corpus: Path, claims: int) -> list[Passage]:
    """Enough passages for `claims` claims, by hash of id, in the order of the corpus: a large corpus is not held whole."""
    from synpro.corpus.store import read_passages, read_rows

    ids = (str(row["id"]) for row in read_rows(corpus / "passages.parquet", ["id"]))
    chosen = nsmallest(max(3, claims // 4), ids, key=lambda id: sha256(id.encode()).digest())
    return read_passages(corpus, frozenset(chosen))


def _confirmed(claims: Sequence[Claim], judges: JudgePool, logger: StepLogger) -> list[Claim]:
    """Remove paraphrases whose meaning the encoder does not find in their sentence; they go to the reject log."""
    reworded = [c for c in claims if c.kind == "reworded"]
    found = judges.encoder.align([c.text for c in reworded], [c.base for c in reworded])
    doubtful = {c: a.precision for c, a in zip(reworded, found, strict=True) if a and a.precision < MIN_PRECISION}
    for claim, precision in doubtful.items():
        detail = f"encoder precision {precision:.2f} against its sentence is below {MIN_PRECISION}"
        logger.rejects.append(Reject(claim.document, "not confirmed", detail, source=claim.base, text=claim.text))
    return [c for c in claims if c not in doubtful]


def _training_claims(cfg: TrainVerifierConfig, split: Split) -> tuple[TrainingClaims, TrainingClaims]:
    """(those to train on, those to calibrate on)."""
    from synpro.faithfulness.handwritten_claims import handwritten_claims
    from synpro.faithfulness.train import TrainingClaims

    share = cfg.handwritten_share
    train = TrainingClaims(split.train, handwritten_claims("train") if share else [], share)
    return train, TrainingClaims(split.calibration, handwritten_claims("calibration") if share else [], share)


def _train_features(cfg: TrainVerifierConfig, split: Split, judges: JudgePool, ctx: StepContext) -> TrainedVerifier:
    from synpro.faithfulness.feature_verifier import FILE, FeatureVerifier
    from synpro.faithfulness.features import FeatureExtractor
    from synpro.faithfulness.train import train_features

    train, calibration = _training_claims(cfg, split)
    test = _test_claims()
    total, done = sum(map(len, (train.claims, calibration.claims, split.heldout, test))), 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        ctx.logger.progress(done, total, "claims")

    features = FeatureExtractor(judges.encoder)
    model = train_features(train, calibration, features, progress)
    model.save(ctx.out)
    weights = dict(zip(model.faithful.names, model.faithful.weights, strict=True))
    _report(cfg, split, FeatureVerifier(model, features), {"weights": weights}, ctx, progress)
    return TrainedVerifier(ctx.out, "features", digest_files(ctx.out, ctx.out / FILE))


def _train_llm(cfg: TrainVerifierConfig, split: Split, judges: JudgePool, ctx: StepContext) -> TrainedVerifier:
    from synpro.faithfulness.llm_verifier import FILE, LLMVerifier
    from synpro.faithfulness.train import calibrate

    train, calibration = _training_claims(cfg, split)
    folder = ctx.out / "model"
    if cfg.epochs:
        _fine_tune(cfg, train, folder, ctx)
    model = judges.open_verifier_model(str(folder) if cfg.epochs else cfg.base)
    try:
        fitted = calibrate(model, calibration, None if cfg.epochs else cfg.base)
        fitted.save(ctx.out)
        _report(cfg, split, LLMVerifier(model, fitted), {"base": cfg.base}, ctx, lambda _: None)
    finally:
        model.close()
    files = [folder] if cfg.epochs else []
    return TrainedVerifier(ctx.out, "llm", digest_files(ctx.out, *files, ctx.out / FILE))


def _fine_tune(cfg: TrainVerifierConfig, train: TrainingClaims, folder: Path, ctx: StepContext) -> None:
    from synpro.assets import model_folder
    from synpro.faithfulness.sft import FineTuneConfig, fine_tune

    base = model_folder(cfg.base, slot="train_verifier.base", log=ctx.logger.log)
    settings = FineTuneConfig(
        cfg.epochs, cfg.batch_size, cfg.micro_batch_size, cfg.learning_rate, cfg.lora_rank, cfg.dtype, ctx.seed
    )
    fine_tune(base, train.oversampled(), settings, folder, lambda done: ctx.logger.progress(done, 1.3, "training"))


def _test_claims() -> list[Claim]:
    from synpro.faithfulness.handwritten_claims import handwritten_claims

    return handwritten_claims("test", corrupted=False)


def _report(
    cfg: TrainVerifierConfig,
    split: Split,
    verifier: Verifier,
    more: dict[str, Any],
    ctx: StepContext,
    progress: Callable[[int], None],
) -> None:
    """Measure the verifier on the held-out claims and on those written by hand, and write the results."""
    from synpro.faithfulness.report import below_target, table_lines, verifier_metrics, write_page
    from synpro.faithfulness.train import check_claims

    claims, verdicts = check_claims(verifier, split.heldout, progress)
    heldout = verifier_metrics(claims, verdicts)
    parts = {"train": split.train, "calibration": split.calibration, "heldout": split.heldout}
    report = {
        "kind": cfg.kind,
        "claims": {name: len(part) for name, part in parts.items()},
        "documents": {name: len({c.document for c in part}) for name, part in parts.items()},
        "heldout": heldout,
        "written": verifier_metrics(*check_claims(verifier, _test_claims(), progress)),
        "missed": below_target(heldout),
        **more,
    }
    (ctx.out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_page(report, ctx.out / "report.html")
    with (ctx.out / "claims.jsonl").open("w", encoding="utf-8") as handle:
        for claim, verdict in zip(claims, verdicts, strict=True):
            row: dict[str, Any] = {"claim": claim.text, "kind": claim.kind, "true": claim.label, "said": verdict.label}
            row |= {"probability": verdict.probability, "document": claim.document, "base": claim.base}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    for line in table_lines(report):
        ctx.logger.log(line)
