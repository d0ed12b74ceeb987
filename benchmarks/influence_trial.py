"""Does influence predict what training on a text does? A trial on a finished run.

    python -m benchmarks.influence_trial runs/tiny --out docs/results/influence_trial.json

1. The kept texts of a round are scored by its probe, sorted, and cut into groups of equal tokens. From the checkpoint
   that the probe came from, each group is trained on for a few steps, half organic text and half the group's; the same steps on
   organic text alone are the comparison. Spearman's rank correlation of a group's influence with what it took off the reference
   and held-out losses says whether influence predicts anything.
   `--by novelty`, `--by likelihood` and `--by length` sort by the share of words that are not copied from the passage, by the
   likelihood under the checkpoint, or by the number of words instead: what influence has to beat as a predictor. `--within`
   takes the mean of a passage's versions away first, so that only versions of one passage are told apart, which is what GRPO
   compares.
2. The share of texts with positive influence: round 1's texts under round 1's probe; the same texts under later probes (what a
   static generator would still offer); and later rounds' texts under their own probe (what refreshing gives).

Carries on after a kill: every score and training is kept under --work with the settings it belongs to.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from synpro.config import RunConfig, load_config
from synpro.records import Checkpoint, Corpus, Probe, Shard, decode, digest_of
from synpro.runner.artifacts import finished, operation_of, read_json, round_of, steps


@dataclass(frozen=True)
class Run:
    """The records of a finished run that the trial reads."""

    dir: Path
    cfg: RunConfig
    corpus: Corpus
    checkpoints: dict[int, Checkpoint]
    """The end of each round's pretraining."""
    probes: dict[int, Probe]
    shards: dict[int, list[Shard]]


def open_run(folder: Path) -> Run:
    """Raises ValueError when the run has no synthetic text yet."""
    records: dict[tuple[str, int], list[Any]] = {}
    for name in steps(folder):
        if finished(folder / name):
            record = decode(read_json(folder / name / "result.json")["record"], folder)
            records.setdefault((operation_of(name)[0], round_of(name)), []).append(record)
    rounds = sorted(r for kind, r in records if kind == "synthesize" and ("probe", r) in records)
    if not rounds:
        raise ValueError(f"{folder} has no finished round of synthetic text; run it first")
    return Run(
        dir=folder,
        cfg=load_config(folder / "config.toml"),
        corpus=records["prepare", 0][0],
        checkpoints={r: records["pretrain", r - 1][0] for r in rounds},
        probes={r: records["probe", r][0] for r in rounds},
        shards={r: records["synthesize", r] for r in rounds},
    )


class Memory:
    """Results by name, each written last, by rename; one of other settings is not used."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        path = self.folder / f"{name}.json"
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["key"] == self.key:
                return stored["value"]
        value = work()
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps({"key": self.key, "value": value}), encoding="utf-8")
        draft.replace(path)
        print(f"{name}: done", flush=True)
        return value


def kept_texts(run: Run, number: int, most: int | None) -> list[dict[str, str]]:
    """Kept rewrites of a round, all operations, evenly thinned to `most`: `id`, `document`, `text`, `passage`."""
    from synpro.corpus.store import read_rows

    columns = ["id", "document", "text", "passage", "kept"]
    rows = [r for shard in run.shards[number] for r in read_rows(shard.dir / "rewrites.parquet", columns) if r["kept"]]
    every = -(-len(rows) // most) if most and rows else 1
    return rows[:: max(1, every)]


def scored(run: Run, probe: int, texts: Sequence[str]) -> list[float]:
    """Influence of texts under a round's probe, nats per token."""
    from synpro.lm.influence import Influence

    return Influence(run.probes[probe].before, run.probes[probe].after).score(texts)


def predicted(run: Run, number: int, texts: Sequence[dict[str, str]], by: str) -> list[float]:
    """What texts are sorted by: influence (nats per token), novelty (share of words not copied), likelihood (minus nats per
    token under the checkpoint) or length (words)."""
    from synpro.corpus.store import read_passages
    from synpro.judges.text_stats import copied_share
    from synpro.lm.loss import load_model, text_losses

    plain = [text["text"] for text in texts]
    if by == "influence":
        return scored(run, number, plain)
    if by == "length":
        return [float(len(text.split())) for text in plain]
    if by == "likelihood":
        folder = run.probes[number].before
        return [-nats / tokens for nats, tokens in text_losses(load_model(folder), folder, plain)]
    sources = {p.id: p.text for p in read_passages(run.corpus.dir)}
    return [1 - copied_share(text["text"], sources[text["passage"]]) for text in texts]


def within_passages(values: Sequence[float], texts: Sequence[dict[str, str]]) -> tuple[list[float], list[int]]:
    """Values minus the mean over the versions of their passage, and the places of those that have another version."""
    by_passage: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        by_passage.setdefault(text["passage"], []).append(i)
    groups = [places for places in by_passage.values() if len(places) > 1]
    centred = {i: values[i] - sum(values[j] for j in places) / len(places) for places in groups for i in places}
    kept = sorted(centred)
    return [centred[i] for i in kept], kept


def trained(run: Run, number: int, texts: Sequence[dict[str, str]], steps: int, seed: int) -> dict[str, float]:
    """Reference and held-out loss after `steps` steps from the round's plateau checkpoint; no texts: organic alone."""
    from synpro.lm.plateau import PlateauConfig
    from synpro.runner.context import StepContext
    from synpro.stages.pretrain import pretrain

    cfg = run.cfg.pretrain
    organic_share = 0.5 if texts else None
    cfg = dataclasses.replace(
        cfg,
        mixture=dataclasses.replace(cfg.mixture, organic_share=organic_share, packing="documents"),
        plateau=PlateauConfig(min_points=10**6),  # the trial ends on its budget
        max_tokens=steps * cfg.batch_size * cfg.sequence_length,
        total_tokens=None,
        min_tokens=0,
        decay_fraction=0.0,
        evaluate_every=steps,
        evaluate_tokens=10**9,
        checkpoint_every=None,
        keep="last",  # the best state may be that which training began with, and then every group has gained nothing
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        shards = [group_shard(out / "shard", number, texts, run.corpus)] if texts else []
        pretrain(
            cfg,
            corpus=run.corpus,
            shards=shards,
            start=run.checkpoints[number],
            ctx=StepContext.local(out / "model", seed),
        )
        body = json.loads((out / "model/training.json").read_text(encoding="utf-8"))
        shutil.rmtree(out / "model")
    return {"reference": body["reference_loss"], "heldout": body["heldout_loss"]}


def group_shard(folder: Path, number: int, texts: Sequence[dict[str, str]], corpus: Corpus) -> Shard:
    """A group as the synthetic text of a round."""
    from synpro.corpus.synthetic import shard_of_texts

    return shard_of_texts(folder, ((row["document"], row["text"]) for row in texts), corpus, "group", number)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over groups."""

    rho: float
    low: float
    high: float
    """95% percentile bootstrap over groups. With 16 groups it is rough: read it beside `p`."""
    p: float
    """Two-sided, by permutation: how often groups in random order agree at least as well."""
    groups: int


def spearman_with_interval(influence: Sequence[float], gain: Sequence[float], *, resamples: int = 10_000) -> Correlation:
    """Spearman's rho of two values per group, paired by position; ties share their mean rank.

    Every permutation is tried where there are at most `resamples` of them (up to 7 groups), random ones otherwise.
    Raises ValueError for fewer than four groups, lengths that differ, and values that are all equal or not finite.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap, permutation_test, rankdata

    x, y = np.asarray(influence, np.float64), np.asarray(gain, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 4:
        raise ValueError(
            f"a rank correlation needs two equally long lists of at least four groups, got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("a rank correlation needs finite values that are not all equal")

    def rho(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        """Pearson's correlation of the ranks; NaN where a resample drew one value alone."""
        a, b = (r - r.mean(axis=axis, keepdims=True) for r in (rankdata(x, axis=axis), rankdata(y, axis=axis)))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (a * b).sum(axis=axis) / np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))

    rng = np.random.default_rng(20_260_519)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # NaNs of constant resamples are left out of the quantiles
        resampled = bootstrap(
            (x, y), rho, paired=True, n_resamples=resamples, method="percentile", rng=rng
        ).bootstrap_distribution
    low, high = np.nanquantile(resampled, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    permuted = permutation_test(
        (y,),
        lambda shuffled, axis=-1: np.abs(rho(np.broadcast_to(x, shuffled.shape), shuffled, axis)),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=resamples,
        vectorized=True,
        rng=rng,
    )
    return Correlation(float(rho(x, y)), float(low), float(high), float(permuted.pvalue), len(x))


def influence_groups(influence: Sequence[float], tokens: Sequence[int], count: int) -> list[list[int]]:
    """Cut texts into `count` groups of rising influence with about the same number of tokens; indices, each in one group.

    Raises ValueError for fewer texts than groups, and for no groups.
    """
    if not 1 <= count <= len(influence):
        raise ValueError(f"{len(influence)} texts do not make {count} groups")
    ties = np.random.default_rng(0).permutation(len(influence))  # not by place: neighbours are of the same passages
    order = sorted(range(len(influence)), key=lambda i: (influence[i], ties[i]))
    groups: list[list[int]] = [[]]
    done, total = 0, sum(tokens)
    for place, i in enumerate(order):
        left = len(order) - place
        full = done >= total * len(groups) / count or left <= count - len(groups)
        if groups[-1] and full and len(groups) < count:
            groups.append([])
        groups[-1].append(i)
        done += tokens[i]
    return groups


def trial(run: Run, memory: Memory, arguments: argparse.Namespace) -> dict[str, Any]:
    """Leave-in retrains of one round's groups."""
    from synpro.corpus.tokens import load_tokenizer

    number, by = arguments.round, arguments.by
    texts = kept_texts(run, number, arguments.texts)
    # The influence of all texts has the name that `shares` asks for too.
    name = f"influence-{number}-{number}" if by == "influence" else f"{by}-{number}"
    influence = memory.once(name, partial(predicted, run, number, texts, by))
    if arguments.within:
        influence, places = within_passages(influence, texts)
        texts = [texts[i] for i in places]
        if len(texts) < arguments.groups:
            raise SystemExit(f"--within: {len(texts)} texts have another version of their passage; raise num_versions")
    encoded = load_tokenizer(run.corpus.dir / "tokenizer").encode_batch([t["text"] for t in texts], add_special_tokens=False)
    tokens = [len(e.ids) for e in encoded]
    groups = influence_groups(influence, tokens, arguments.groups)
    seeds = range(arguments.seeds)

    def after(name: str, some: Sequence[dict[str, str]]) -> list[dict[str, float]]:
        """Losses after training on some texts, by seed."""
        return [memory.once(f"{name}-seed-{s}", partial(trained, run, number, some, arguments.steps, 1000 + s)) for s in seeds]

    alone = after("organic", [])
    rows = []
    for g, places in enumerate(groups):
        gone = after(f"group-{g:02d}", [texts[i] for i in places])
        size = sum(tokens[i] for i in places)
        gains = {
            f"{split}_gain": sum(a[split] - b[split] for a, b in zip(alone, gone, strict=True)) / len(seeds)
            for split in ("reference", "heldout")
        }
        mean = sum(influence[i] * tokens[i] for i in places) / size
        rows.append({"texts": len(places), "tokens": size, "influence": mean, **gains})
    correlations = {
        split: asdict(spearman_with_interval([r["influence"] for r in rows], [r[f"{split}_gain"] for r in rows]))
        for split in ("reference", "heldout")
    }
    given = {"round": number, "by": by, "within": arguments.within}
    return {**given, "organic_alone": alone, "groups": rows, "spearman": correlations}


def shares(run: Run, memory: Memory, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Texts with positive influence, by round of the texts and of the probe."""
    from synpro.corpus.store import read_passages
    from synpro.measure.influence_validation import positive_share

    sources = {p.id: p.text for p in read_passages(run.corpus.dir)}
    first = min(run.shards)
    found = []
    for made in sorted(run.shards):
        texts = kept_texts(run, made, arguments.texts)
        for judged in [r for r in sorted(run.probes) if r == made or (made == first and r > made)]:
            ours = memory.once(f"influence-{made}-{judged}", partial(scored, run, judged, [r["text"] for r in texts]))
            read = [sources[r["passage"]] for r in texts]
            theirs = memory.once(f"sources-{made}-{judged}", partial(scored, run, judged, read))
            over = [a - b for a, b in zip(ours, theirs, strict=True)]
            row = {"texts_of_round": made, "probe_of_round": judged, "mean": sum(ours) / len(ours)}
            found.append({**row, "positive": asdict(positive_share(ours)), "above_source": asdict(positive_share(over))})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--work", type=Path, help="what is kept to carry on from (default: OUT with .work)")
    parser.add_argument("--round", type=int, default=1, help="whose texts are trained on")
    names = ("influence", "novelty", "likelihood", "length")
    parser.add_argument("--by", choices=names, default=names[0], help="what texts are sorted by")
    parser.add_argument("--within", action="store_true", help="differences between versions of one passage alone")
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps per group")
    parser.add_argument("--seeds", type=int, default=1, help="data orders per group; gains are their mean, paired")
    parser.add_argument("--texts", type=int, help="at most so many texts of a round (default: all)")
    arguments = parser.parse_args()
    run = open_run(arguments.run.resolve())
    if arguments.round not in run.shards:
        raise SystemExit(f"round {arguments.round} has no synthetic text; there are rounds {', '.join(map(str, run.shards))}")
    settings = {k: v for k, v in vars(arguments).items() if k not in ("run", "out", "work")}
    digests = [run.corpus.digest, *(c.digest for c in run.checkpoints.values()), *(p.digest for p in run.probes.values())]
    digests += [s.digest for r in run.shards.values() for s in r]
    digests.append("last state")  # what is kept of the time when the best state was measured is not used
    memory = Memory(arguments.work or arguments.out.with_suffix(".work"), digest_of([settings, digests]))
    body = {
        "run": run.cfg.name,
        "settings": settings,
        "trial": trial(run, memory, arguments),
        "shares": shares(run, memory, arguments) if arguments.by == "influence" else [],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draft = arguments.out.with_suffix(".tmp")
    draft.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    draft.replace(arguments.out)
    for split, found in body["trial"]["spearman"].items():
        print(
            f"{split}: rank correlation {found['rho']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}], p {found['p']:.3f}, "
            f"{found['groups']} groups"
        )
    for row in body["shares"]:
        p = row["positive"]
        print(
            f"texts of round {row['texts_of_round']}, probe of round {row['probe_of_round']}: {p['value']:.0%} "
            f"[{p['low']:.0%}, {p['high']:.0%}] of {p['n']} positive"
        )


if __name__ == "__main__":
    main()
