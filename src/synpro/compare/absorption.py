"""What every arm has absorbed of the scarce corpus: the same questions to all, and texts that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from synpro.compare.config import SCARCE, CompareConfig
from synpro.compare.steps import DedupSteps
from synpro.compare.texts import first_verifier
from synpro.loop import synthesize_round
from synpro.measure.losses import Losses, difference, gap_change, loss_interval
from synpro.records import Absorption, Checkpoint, Corpus, Shard
from synpro.rewards.scoring import Scoring
from synpro.runner.artifacts import read_table
from synpro.stages.absorption import AbsorptionConfig, absorb

DRAW = 99
"""The held-back texts are sampled under seeds of their own, which no arm's texts have."""


@dataclass(frozen=True)
class HeldBack:
    """What arms are asked about."""

    corpus: Corpus
    texts: Shard | None
    """One version of each passage of `written_from`; None where the comparison generates nothing."""
    written_from: Corpus
    """The next larger corpus, so that some of the texts are about passages that arms of the scarce corpus have not seen."""


def held_back_texts(cfg: CompareConfig, steps: DedupSteps, corpora: Mapping[str, Corpus]) -> HeldBack:
    """Generate the held-back texts: by prompt alone, with the settings of the first operation and the rules as checks."""
    scarce, wide = corpora[SCARCE], list(corpora.values())[:2][-1]
    if not cfg.synthetic:
        return HeldBack(scarce, None, scarce)
    own = cfg.of_arm("prompt-only-1")
    operation = own.operations.get("rephrase") or next(iter(own.operations.values()))
    own = replace(own, operations={operation.name: operation}, filters=replace(own.filters, min_faithfulness=0.0))
    scoring = Scoring(own.rubric, own.judges, None, first_verifier(cfg, steps, scarce)[0], own.filters)
    shards, _ = synthesize_round(own, steps.within("text/held-back", DRAW), 1, wide, scoring, {})
    return HeldBack(scarce, shards[0], wide)


def absorbed(cfg: CompareConfig, steps: DedupSteps, step: str, model: Checkpoint, asked: HeldBack) -> Absorption:
    """What a measured model knows."""
    settings = AbsorptionConfig(batch_tokens=cfg.evaluate.batch_tokens)
    given = {"held_back": asked.texts, "written_from": asked.written_from}
    return steps(step, absorb, settings, seed_key="absorb", corpus=asked.corpus, model=model, **given)


def absorption_numbers(found: Mapping[int, Absorption], tuned: Mapping[int, Absorption] | None = None) -> dict[str, Any]:
    """Cloze accuracy and loss by kind of text, over the seeds of one arm, with intervals over articles and seeds; and their
    changes against tuned repetition."""
    body: dict[str, Any] = {"cloze": {}, "loss": {}}
    changes = absorption_change(tuned, found) if tuned else None
    for (what, kind), losses in _tables(found).items():
        row = _interval(loss_interval(losses))
        if what == "cloze":  # a share
            row |= {"low": max(0.0, row["low"]), "high": min(1.0, row["high"])}
        if changes and kind in changes[what]:
            row["change"] = changes[what][kind]
        body[what][kind] = row
    if changes and "content" in changes:
        body["content"] = changes["content"]
    rows = [row for one in found.values() for row in read_table(one.dir / "cloze.parquet", ["text", "kind", "rank", "options"])]
    for kind, row in body["cloze"].items():
        some = [r for r in rows if r["text"] == kind]
        by_value: dict[str, list[float]] = {}
        for r in some:
            by_value.setdefault(r["kind"], []).append(float(r["rank"] == 1))
        row["items"], row["chance"] = len(some) // len(found), 1 / some[0]["options"]
        row["mean_rank"] = sum(r["rank"] for r in some) / len(some)
        row["kinds"] = {name: sum(right) / len(right) for name, right in sorted(by_value.items())}
    return body


def absorption_change(control: Mapping[int, Absorption], arm: Mapping[int, Absorption]) -> dict[str, Any]:
    """What the models of an arm absorbed more than those of another, with intervals: changes of cloze accuracy and of loss by
    kind of text, and `content`, in nats per token: how much more of its loss an arm saves on other wordings of the passages it
    was trained on than on such texts about other passages. What it knows of their language is saved on both."""
    before, after = _tables(control), _tables(arm)
    body: dict[str, Any] = {"cloze": {}, "loss": {}}
    for what, kind in after:
        if (what, kind) in before:
            body[what][kind] = _interval(difference(before[what, kind], after[what, kind]))
    if {"rephrased", "unseen"} <= body["loss"].keys():
        first, second = ((t["loss", "rephrased"], t["loss", "unseen"]) for t in (before, after))
        body["content"] = _interval(gap_change(first, second))
    return body


def _interval(found: tuple[float, float, float]) -> dict[str, Any]:
    return dict(zip(("mean", "low", "high"), found, strict=True))


def _tables(found: Mapping[int, Absorption]) -> dict[tuple[str, str], Losses]:
    """Right answers per item as ("cloze", kind of text), and nats per token as ("loss", kind of text), by article."""
    tables: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = {}
    for seed, one in found.items():
        for row in read_table(one.dir / "cloze.parquet", ["text", "group", "rank"]):
            _add(tables.setdefault(("cloze", row["text"]), {}), seed, row["group"], row["rank"] == 1, 1)
        for row in read_table(one.dir / "losses.parquet", ["text", "group", "nll", "tokens"]):
            _add(tables.setdefault(("loss", row["text"]), {}), seed, row["group"], row["nll"], row["tokens"])
    made = {}
    for key, seeds in tables.items():
        rows = {s: [{"document": g, "nll": n, "tokens": t} for g, (n, t) in groups.items()] for s, groups in seeds.items()}
        if all(len(some) > 1 for some in rows.values()):
            made[key] = Losses.from_rows(rows)
    return made


def _add(seeds: dict[int, dict[str, list[float]]], seed: int, group: str, value: float, units: float) -> None:
    total = seeds.setdefault(seed, {}).setdefault(group, [0.0, 0.0])
    total[0] += value
    total[1] += units
