"""train_verifier: what checks every claim of a rewrite against its passage (method.md, step 4: faithfulness).

The paper's verifier is a fine-tune of Qwen3-1.7B that was never released. This one is trained on the user's own train split:
claims made from its passages, true ones in other words and false ones of eleven types (`corpus/claims.py`), and some written
by hand. Two kinds: `llm`, the paper's, and `features`, a small calibrated model that needs no GPU.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from heapq import nsmallest
from pathlib import Path
from typing import Any, Literal

from synpro.corpus.claims import Claim, Split, make_claims, split_claims
from synpro.engines.table import check_reference, is_server
from synpro.judges.base import JudgesConfig, Verdict
from synpro.judges.table import Judges
from synpro.records import Corpus, Passage, Verifier, digest_files, digest_of
from synpro.run.journal import Journal
from synpro.run.ledger import Reject


@dataclass(frozen=True)
class TrainVerifierConfig:
    """Which verifier, and how it is trained. The default is the paper's model, by a recipe of ours."""

    kind: Literal["llm", "features", "none"] = "llm"
    """`llm`: a language model, fine-tuned. `features`: no GPU, minutes. `none`: nothing is trained, claims are checked by
    rule."""
    base: str = "hf:Qwen/Qwen3-1.7B"
    """The language model that `llm` starts from (paper value): any causal model with a chat template. With `epochs = 0` it is
    asked as it stands, and may also be a model behind a server (engines/table.py)."""
    claims: int = 3000
    """At most so many claims are made from the corpus, for training, calibration and measuring together."""
    calibration: float = 0.15
    """Share of the documents whose claims fit the probability."""
    heldout: float = 0.25
    """Share of the documents whose claims measure the verifier."""
    written: float = 0.4
    """Share of the weight that claims written by hand have in training: they teach that other words may be the same content."""
    min_confirmed: float = 0.6
    """Encoder precision of a reworded claim against its sentence from which it is believed to say the same."""
    likelihood: bool = False
    """`features`: also ask the fluency model how likely a claim is with its passage and without (the cost is in
    docs/LOG.md)."""
    epochs: int = 2
    """For `llm`, as all that follows. 0: no training, only the probability is fitted."""
    batch: int = 32
    micro_batch: int = 4
    """Claims per forward and backward pass; divides `batch`."""
    learning_rate: float = 1e-5
    lora_rank: int = 0
    """0 trains all weights; else adapters of this rank, merged afterwards (take a learning rate of about 2e-4)."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        for name in ("claims", "batch", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is below 1")
        for name in ("calibration", "heldout", "written", "min_confirmed"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a share below 1; use about 0.2")
        try:
            check_reference(self.base)
        except ValueError as problem:
            raise ValueError(f"base: {problem}") from problem
        if self.calibration + self.heldout > 0.8:
            raise ValueError(f"heldout: with calibration it leaves {1 - self.calibration - self.heldout:.0%} to learn from")
        if self.batch % self.micro_batch:
            raise ValueError(
                f"micro_batch: {self.micro_batch} does not divide the {self.batch} claims of a batch; use a divisor"
            )
        if self.epochs < 0 or (self.epochs and is_server(self.base)):
            raise ValueError(f"epochs: {self.epochs} of {self.base!r} cannot be trained; use 0 to ask a model as it stands")
        if self.learning_rate <= 0 or self.lora_rank < 0:
            raise ValueError(
                f"learning_rate: {self.learning_rate} must be above 0, and lora_rank ({self.lora_rank}) not below 0"
            )


def train_verifier(
    cfg: TrainVerifierConfig, *, corpus: Corpus, judges: JudgesConfig, out: Path, journal: Journal, seed: int
) -> Verifier:
    """Train and measure the verifier; writes its files, `claims.jsonl`, `report.json` and `report.html`. Starts over when
    killed.

    Raises ValueError when the train split has fewer than three documents with sentences to make claims of, AssetError when a
    model cannot be had.
    """
    for left in ("model", "sft"):
        shutil.rmtree(out / left, ignore_errors=True)
    journal.rejects.start()
    if cfg.kind == "none":
        journal.say("no verifier is trained: claims are checked by rule")
        return Verifier(out, "none", digest_of("none"))
    from synpro.corpus.store import passages

    opened = Judges(judges, out / "scratch")
    try:
        made = make_claims(_sample(passages(corpus), cfg.claims), seed, cfg.claims)
        claims = _confirmed(made, opened, cfg.min_confirmed, journal)
        split = split_claims(claims, cfg.calibration, cfg.heldout)
        work = _Work(cfg, split, opened, out, journal, seed)
        return work.features() if cfg.kind == "features" else work.llm()
    finally:
        opened.close()


def _sample(passages: Sequence[Passage], claims: int) -> list[Passage]:
    """As many passages as claims can come from, by hash of id, in the order of the corpus: a large corpus is not read whole."""
    count = max(3, claims // 4)
    chosen = {p.id for p in nsmallest(count, passages, key=lambda p: sha256(p.id.encode()).digest())}
    return [p for p in passages if p.id in chosen]


def _confirmed(claims: Sequence[Claim], judges: Judges, least: float, journal: Journal) -> list[Claim]:
    """Without the rewordings that the encoder does not find in their sentence; they go to the reject ledger."""
    reworded = [c for c in claims if c.kind == "reworded"]
    found = judges.encoder.align([c.text for c in reworded], [c.base for c in reworded])
    doubtful = {c: a.precision for c, a in zip(reworded, found, strict=True) if a.precision < least}
    for claim, precision in doubtful.items():
        detail = f"encoder precision {precision:.2f} against its sentence; at least {least} is asked"
        journal.rejects.append(Reject(claim.document, "not confirmed", detail, source=claim.base, text=claim.text))
    return [c for c in claims if c not in doubtful]


class _Work:
    """One training, from claims to a verifier's files."""

    def __init__(self, cfg: TrainVerifierConfig, split: Split, judges: Judges, out: Path, journal: Journal, seed: int) -> None:
        from synpro.judges.written import written_claims

        self.cfg, self.split, self.judges, self.out, self.journal, self.seed = cfg, split, judges, out, journal, seed
        self.hand = {"train": written_claims("train"), "calibration": written_claims("calibration")} if cfg.written else {}
        self.test = written_claims("test", corrupted=False)

    def features(self) -> Verifier:
        """Kind `features`."""
        from synpro.judges.fitting import train
        from synpro.judges.verifier import FILE, FeatureVerifier

        total = sum(map(len, (*self.hand.values(), self.split.train, self.split.calibration, self.split.heldout, self.test)))
        done = 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            self.journal.progress(done, total, "claims")

        model = train(self.split, self.judges.features(self.cfg.likelihood), self.cfg.written, tell)
        model.save(self.out)
        weights = dict(zip(model.faithful.names, model.faithful.weights, strict=True))
        verifier = FeatureVerifier(model, self.judges.features)
        self._report(lambda claims: _check(verifier, claims, tell), {"weights": weights})
        return Verifier(self.out, "features", digest_files(self.out, self.out / FILE))

    def llm(self) -> Verifier:
        """Kind `llm`."""
        from synpro.judges.fitting import counts
        from synpro.judges.llm_verifier import FILE, LETTERS, Calibration, LLMVerifier, log_odds, prompt
        from synpro.judges.weights import platt

        folder = self.out / "model"
        if self.cfg.epochs:
            self._fine_tune(folder)
        model = self.judges.model(str(folder) if self.cfg.epochs else self.cfg.base, "train_verifier.base")
        try:
            own, hand = self.split.calibration, self.hand.get("calibration", [])
            claims = [*own, *hand]
            shares = model.choose([prompt(c.text, c.passage) for c in claims], LETTERS)
            truth = [c.label == "faithful" for c in claims]
            slope, shift = platt([log_odds(s) for s in shares], truth, counts(own, hand, self.cfg.written))
            calibration = Calibration(slope, shift, None if self.cfg.epochs else self.cfg.base)
            calibration.save(self.out)
            verifier = LLMVerifier(model, calibration)
            self._report(lambda claims: _check(verifier, claims, lambda _: None), {"base": self.cfg.base})
        finally:
            model.close()
        files = [folder] if self.cfg.epochs else []
        return Verifier(self.out, "llm", digest_files(self.out, *files, self.out / FILE))

    def _fine_tune(self, folder: Path) -> None:
        from synpro.assets import model_folder
        from synpro.judges.sft import Training, train

        cfg = self.cfg
        base = model_folder(cfg.base, slot="train_verifier.base", say=self.journal.say)
        rank = cfg.lora_rank
        how = Training(cfg.epochs, cfg.batch, cfg.micro_batch, cfg.learning_rate, rank, cfg.dtype, self.seed)
        learned = _repeated(self.split.train, self.hand.get("train", []), cfg.written)
        train(base, learned, how, folder, lambda share: self.journal.progress(share, 1.3, "training"))

    def _report(self, check: Any, more: dict[str, Any]) -> None:
        from synpro.judges.fitting import measured, short_of
        from synpro.judges.measured import lines, write_page

        verdicts = check(self.split.heldout)
        heldout = measured(self.split.heldout, verdicts)
        parts = {"train": self.split.train, "calibration": self.split.calibration, "heldout": self.split.heldout}
        report = {
            "kind": self.cfg.kind,
            "claims": {name: len(part) for name, part in parts.items()},
            "documents": {name: len({c.document for c in part}) for name, part in parts.items()},
            "heldout": heldout,
            "written": measured(self.test, check(self.test)),
            "missed": short_of(heldout),
            **more,
        }
        (self.out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_page(report, self.out / "report.html")
        with (self.out / "claims.jsonl").open("w", encoding="utf-8") as handle:
            for claim, verdict in zip(self.split.heldout, verdicts, strict=True):
                row = {"claim": claim.text, "kind": claim.kind, "true": claim.label, "said": verdict.label}
                row |= {"probability": verdict.probability, "document": claim.document, "base": claim.base}
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        for line in lines(report):
            self.journal.say(line)


def _check(verifier: Any, claims: Sequence[Claim], tell: Any) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for start in range(0, len(claims), 50):
        some = claims[start : start + 50]
        verdicts += verifier.check([c.text for c in some], [c.passage for c in some])
        tell(len(some))
    return verdicts


def _repeated(own: Sequence[Claim], hand: Sequence[Claim], written: float) -> list[Claim]:
    """The training claims with those written by hand repeated, whole, until they have about their share."""
    if not hand:
        return list(own)
    times = max(1, round(written / (1 - written) * len(own) / len(hand)))
    return [*own, *(c for _ in range(times) for c in hand)]
