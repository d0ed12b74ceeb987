"""A run directory of two rounds in the formats the stages write, with known numbers, made without any model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REWARDS = {
    "rephrase": ("influence", "quality", "similarity", "structure", "length", "format"),
    "reformat": ("influence", "quality", "faithfulness", "format"),
}
HOSTILE = "<script>alert('from a generator')</script> & <b>bold</b>"
"""Stands in one source passage, one kept rewrite and one rejected row."""
BOUNDS = (0, 40_000, 70_000, 96_000)
WORDS = ["river", "valley", "bridge", "stone", "copper", "engine", "season", "harvest", "market", "museum", "signal"]


def sentence(rng: random.Random, n: int = 12) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n)).capitalize() + "."


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def finish(step: Path, record: dict[str, Any], seconds: float, peak: int) -> None:
    write_json(step / "request.json", {"stage": "made by tests", "config": {}, "inputs": {}, "seed": 1})
    write_json(step / "timing.json", {"seconds": seconds, "cpu_seconds": seconds * 1.7, "peak_rss_bytes": peak, "attempts": 1})
    write_json(step / "result.json", {"request": "0" * 64, "record": record, "files": {}})


def build(run: Path, *, rounds: int = 2, seed: int = 3, gain: float = 0.05) -> Path:
    """Write the run; every held-out document's loss falls by about `gain` nats per token and round."""
    rng = random.Random(seed)
    run.mkdir(parents=True)
    (run / "config.toml").write_text(f'name = "{run.name}"\nrounds = {rounds}\nseed = 7\n\n[pretrain]\nlayers = 4\n', "utf-8")
    write_json(run / "environment.json", {"python": "3.11.9", "commit": "a57ce2f", "cores": 2, "versions": {"torch": "2.13.0"}})
    passages = _prepare(run, rng)
    heldout = [(f"held{i:03d}", rng.randint(60, 400), rng.gauss(5.2, 0.3)) for i in range(40)]
    for number in range(rounds + 1):
        folder = run / f"round-{number:02d}"
        if number:
            write_json(folder / "probe/probe.json", {"reference_loss_before": 4.9, "reference_loss_after": 4.71, "steps": 20})
            write_lines(folder / "probe/metrics.jsonl", [{"step": s, "loss": 4.9 - s / 100} for s in range(20)])
            finish(folder / "probe", {"record": "Probe", "digest": f"p{number}"}, 11.5, 900 << 20)
            for operation in REWARDS:
                _train(folder / f"train-{operation}", rng, operation, number)
                _synthesize(folder / f"synthesize-{operation}", rng, operation, number, passages)
        _pretrain(folder / "pretrain", rng, number)
        rows = [
            {
                "document": d,
                "nll": t * (loss - gain * number + (rng.gauss(0, 0.02) if number else 0.0)),
                "tokens": t,
                "bytes": t * 4,
            }
            for d, t, loss in heldout
        ]
        write_table(folder / "evaluate/heldout.parquet", rows)
        nats, tokens = sum(r["nll"] for r in rows), sum(r["tokens"] for r in rows)
        measured = {"heldout_loss": nats / tokens, "bits_per_byte": nats / tokens / 4 / 0.693147}
        tasks = {"piqa/acc": 0.50 + number / 100, "sciq/acc": 0.27 + number / 50}
        write_json(
            folder / "evaluate/evaluation.json",
            {**measured, "tasks": tasks, "items": {"piqa": 100, "sciq": 100}, "tokens_seen": BOUNDS[number + 1]},
        )
        finish(folder / "evaluate", {"record": "Evaluation", **measured, "tasks": tasks, "digest": "e"}, 14.2, 800 << 20)
    return run


def _prepare(run: Path, rng: random.Random) -> list[dict[str, Any]]:
    out = run / "round-00/prepare"
    documents, passages = [], []
    for i in range(16):
        split = "train" if i < 12 else ("reference" if i < 14 else "heldout")
        parts = [" ".join(sentence(rng) for _ in range(4)) + "\n\n" for _ in range(3)]
        if i == 0:
            parts[0] = HOSTILE + " " + parts[0]
        text, place = "".join(parts), 0
        documents.append(
            {"id": f"wiki{i:02d}", "split": split, "text": text, "source": f"wiki.jsonl:{i + 1}", "words": len(text.split())}
        )
        for j, part in enumerate(parts if split == "train" else []):
            span = {"start": place, "end": place + len(part), "text": part}
            passages.append({"id": f"wiki{i:02d}#{j:04d}", "document": f"wiki{i:02d}", "index": j, **span})
            place += len(part)
    write_table(out / "documents.parquet", documents)
    write_table(out / "passages.parquet", passages)
    reject = {"source": "wiki.jsonl:20", "detail": "same text as wiki03", "text": HOSTILE}
    write_lines(out / "rejects.jsonl", [{"id": "wiki20", "reason": "duplicate", **reject}])
    splits = {"train": 12, "reference": 2, "heldout": 2}
    record = {"record": "Corpus", "dir": {"path": "round-00/prepare"}, "vocab_size": 4096, "documents": splits, "passages": 36}
    finish(out, {**record, "tokens": {k: v * 210 for k, v in splits.items()}, "digest": "c"}, 12.0, 500 << 20)
    return passages


def _pretrain(out: Path, rng: random.Random, number: int) -> None:
    start, end = BOUNDS[number], BOUNDS[number + 1]
    rows: list[dict[str, Any]] = []
    for step in range(1, 41):
        tokens = start + (end - start) * step // 40
        loss = 4.6 + 3.6 * (1 + tokens / 4000) ** -0.7 - 0.05 * number
        rows.append({"step": tokens // 500, "tokens": tokens, "train_loss": loss + rng.gauss(0, 0.08), "lr": 1e-3})
        if step % 5 == 0:
            rows.append({"step": tokens // 500, "tokens": tokens, "reference_loss": loss + 0.08, "heldout_loss": loss + 0.12})
    write_lines(out / "metrics.jsonl", rows)
    plateau = number < 2
    reason = "the slope is within its noise for 3 evaluations" if plateau else "the token budget was spent"
    record = {"record": "Checkpoint", "dir": {"path": f"round-{number:02d}/pretrain"}, "tokens_seen": end, "steps": end // 500}
    finish(
        out, {**record, "plateau": plateau, "reason": reason, "reference_loss": 5.1, "digest": f"m{number}"}, 24.0, 1400 << 20
    )


def _train(out: Path, rng: random.Random, operation: str, number: int) -> None:
    rows = []
    for step in range(1, 13):
        row: dict[str, Any] = {"step": step, "reward": rng.gauss(0, 0.1)}
        for name in REWARDS[operation]:
            row[f"reward/{name}"] = (
                rng.gauss(0.002, 0.003) if name == "influence" else min(1, rng.gauss(0.45 + step / 30, 0.06))
            )
        truncated = 0.35 if operation == "reformat" and number == 1 else 0.05
        health = {"parsed": 0.6 + step / 40, "truncated": truncated, "zero_std": 0.1, "kl": step / 4000}
        rows.append({**row, **health, "completion_tokens": rng.gauss(90, 8), "seconds": 7.0})
    write_lines(out / "metrics.jsonl", rows)
    better = operation == "rephrase"
    before = [rng.gauss(-0.01, 0.02) for _ in range(24)]
    after = [b + rng.gauss(0.015 if better else -0.001, 0.01) for b in before]
    sides: dict[str, Any] = {}
    for key, values, base in (("before", before, 0.5), ("after", after, 0.62)):
        means = {f"reward/{n}": base for n in REWARDS[operation]} | {"reward/influence": sum(values) / len(values)}
        shown = [{"passage": f"wiki00#{i:04d}", "text": "x", "scores": {"influence": v}} for i, v in enumerate(values)]
        total = 0.0 if key == "before" else (0.8 if better else -0.1)
        parsed = values[: 22 if key == "before" else 24]  # two answers did not parse before training
        sides[key] = {**means, "reward": total, "parsed": base + 0.2, "influence": parsed, "samples": shown}
    write_json(out / "validation.json", sides)
    where = {"path": f"round-{number:02d}/train-{operation}/adapter"}
    record = {"record": "Generator", "operation": operation, "base": "wheel:smol", "adapter": where, "weights": None}
    finish(out, {**record, "round": number, "digest": f"g-{operation}-{number}"}, 96.0, 2500 << 20)


def _claims(source: str, text: str | None) -> list[dict[str, Any]]:
    """One faithful claim with its sentence and one that is not."""
    if text is None:
        return []
    support = {"support": source[:20], "start": 0, "end": 20}
    first = {"claim": text[:60], "label": "faithful", "probability": 0.91, **support}
    return [first, {"claim": HOSTILE, "label": "unsupported", "probability": 0.12, **support}]


def _synthesize(out: Path, rng: random.Random, operation: str, number: int, passages: list[dict[str, Any]]) -> None:
    rows: list[dict[str, Any]] = []
    rejects, joined = [], {}
    for i, p in enumerate(passages):
        reason = {3: "unparsed", 7: "unparsed", 11: "copy", 19: "length"}.get(i)
        text = None if reason == "unparsed" else (HOSTILE if i == 0 else " ".join(sentence(rng) for _ in range(4)))
        scores = {n: (None if text is None else rng.gauss(0.0, 0.02) if n == "influence" else 0.7) for n in REWARDS[operation]}
        detail = f"{reason}: seen in passage {i}" if reason else None
        lineage = {"id": f"{p['id']}:{operation}:{number:02d}:0", "passage": p["id"], "document": p["document"]}
        document = None if reason else f"{p['document']}:{operation}:{number:02d}:0"
        made = {"operation": operation, "round": number, "version": 0, "synthetic": document, "rank": None, "selection": None}
        made |= {"generator": f"g-{operation}-{number}", "base": "wheel:smol"}
        how = {"prompt_hash": "ab" * 32, "seed": 100 + i, "sampling": json.dumps({"temperature": 1.0, "top_p": 0.9})}
        said = {"answer": f"Rephrased:\n{text}", "text": text, "kept": reason is None, "reason": reason, "detail": detail}
        claims = _claims(p["text"], text)
        cost = {"scores": json.dumps(scores), "claims": json.dumps(claims), "tokens": 90, "finish": "stop"}
        rows.append({**lineage, "start": p["start"], "end": p["end"], **made, **how, **said, **cost})
        if reason:
            rejects.append(
                {"id": lineage["id"], "reason": reason, "detail": detail, "source": p["id"], "text": text or HOSTILE}
            )
        else:
            joined.setdefault(p["document"], []).append(str(text))
    write_table(out / "rewrites.parquet", rows)
    write_table(
        out / "documents.parquet",
        [
            {
                "id": f"{d}:{operation}:{number:02d}:0",
                "document": d,
                "operation": operation,
                "round": number,
                "version": 0,
                "text": text,
            }
            for d, text in ((d, "\n\n".join(texts)) for d, texts in joined.items())
        ],
    )
    write_lines(out / "rejects.jsonl", rejects)
    kept = len(rows) - len(rejects)
    counts = {
        "passages": len(rows),
        "answers": len(rows),
        "covered": kept,
        "text_tokens": 0,
        "tokenizer": "",
        "kept": kept,
        "dropped": len(rejects),
        "documents": len(joined),
        "tokens": 90 * len(rows),
    }
    record = {"record": "Shard", "dir": {"path": f"round-{number:02d}/synthesize-{operation}"}, "operation": operation}
    finish(out, {**record, "round": number, **counts, "digest": "s"}, 51.0, 1900 << 20)
