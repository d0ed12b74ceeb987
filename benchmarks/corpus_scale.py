"""A corpus of N documents through `prepare` and into a mixture: memory, seconds and disk; and tokens per core.

    python -m benchmarks.corpus_scale --out docs/results/corpus_scale.json

1. Makes a corpus of N rows by rule (10^4, 10^5 and 10^6; about 80 words each, in Zipf's proportions over a million word types,
   with copies and rows that cannot be used) and a synthetic text for each.
2. Runs the stage `prepare` on it in a process of its own, as a step would: copies, splits, passages, a trained tokenizer and
   tokens; then one pass over a mixture, half organic and half synthetic tokens, read as `pretrain` reads it. Memory is the
   largest sum over the process and its children; what it grows by is given in bytes per row.
3. Encodes the same texts by `tokenizers` alone, with one thread and with its own threads, and by `write_tokens` with one
   process and with several, and compares the ids to the last.

A processor second is what a core needs whatever else runs beside it; wall seconds are only worth something on a free machine.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from synpro.runner.launch import environment

WORD_TYPES = 1_000_000
COPIES, BAD = 0.02, 0.001
"""Shares of rows that repeat an earlier text, and that hold none."""
EOS = "<|endoftext|>"


def texts(count: int, seed: int) -> Iterator[str]:
    """Documents by rule: lengths are log-normal (median 60 words), words have Zipf's frequencies, sentences end."""
    import numpy as np

    rng = np.random.default_rng(seed)
    syllables = [a + b for a in (*"bcdfgklmnprstvw", "ch", "sh", "th", "tr", "st") for b in "aeiou"]  # 100

    @cache
    def word(rank: int) -> str:
        return syllables[rank % 100] + (word(rank // 100) if rank >= 100 else "")

    for first in range(0, count, 1000):
        lengths = np.clip(60 * np.exp(rng.normal(0, 0.7, min(1000, count - first))), 5, 2000).astype(int)
        for length in lengths.tolist():
            ranks = (WORD_TYPES ** rng.random(length)).astype(int) - 1  # log-uniform: the r-th word has a share of 1/r
            stops = np.cumsum(rng.integers(6, 20, length // 6 + 1)).tolist()
            pieces, start = [], 0
            for number, stop in enumerate(stops, start=1):
                sentence = " ".join(map(word, ranks[start:stop].tolist()))
                if not sentence:
                    break
                pieces.append(sentence.capitalize() + (".\n\n" if number % 4 == 0 else ". "))
                start = stop
            yield "".join(pieces).strip()


def write_corpus(path: Path, count: int, seed: int) -> dict[str, Any]:
    """A `.jsonl.gz` of `count` rows, the same bytes for the same seed. Returns what is in it."""
    import numpy as np

    rng = np.random.default_rng([seed, 1])
    bad = [b'{"text": ""}', b'{"text": 5}', b'{"text": "cut', b'{"text": "\xff\xfe"}', b'{"other": "no text"}']
    recent: list[str] = []
    size = copies = damaged = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
        for number, text in enumerate(texts(count, seed)):
            chance = rng.random()
            if chance < BAD:
                damaged += 1
                file.write(bad[number % len(bad)] + b"\n")
                continue
            if chance < BAD + COPIES and recent:
                copies += 1
                text = recent[number % len(recent)]
            elif len(recent) < 500:
                recent.append(text)
            else:
                recent[number % 500] = text
            size += len(text.encode())
            file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
    return {"rows": count, "copies": copies, "bad": damaged, "text_bytes": size, "file_bytes": path.stat().st_size}


def do_generate(work: Path, count: int, seed: int) -> dict[str, Any]:
    """The corpus."""
    return write_corpus(work / "corpus.jsonl.gz", count, seed)


def do_prepare(work: Path, vocabulary: int) -> dict[str, Any]:
    """The stage itself. Largest memory of its process by the time each part of it begins, too."""
    from synpro.corpus.readers import SourceConfig
    from synpro.corpus.tokens import TokenizerConfig
    from synpro.records import encode
    from synpro.runner.context import StepContext
    from synpro.runner.logger import StepLogger
    from synpro.stages.prepare import PrepareConfig, prepare

    by: dict[str, int] = {}

    class Watched(StepLogger):
        def progress(self, done: float, total: float, label: str = "") -> None:
            by.setdefault(label, largest())

    out = work / "prepare"
    logger = Watched(out)
    cfg = PrepareConfig(
        sources=(SourceConfig(str(work / "corpus.jsonl.gz")),),
        tokenizer=TokenizerConfig("train", vocabulary),
    )
    corpus = prepare(cfg, ctx=StepContext.local(out, logger=logger))
    (work / "corpus.json").write_text(json.dumps(encode(corpus, work)), encoding="utf-8")
    return {
        "documents": sum(corpus.documents.values()),
        "passages": corpus.passages,
        "tokens": sum(corpus.tokens.values()),
        "rejects": logger.rejects.reasons(),
        "digest": corpus.digest,
        "largest_at": {**by, "end": largest()},
        "disk_bytes": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
    }


def do_shard(work: Path, count: int, seed: int) -> dict[str, Any]:
    """A shard with one synthetic text for each row."""
    from synpro.corpus.synthetic import shard_of_texts
    from synpro.records import decode

    corpus = decode(json.loads((work / "corpus.json").read_text(encoding="utf-8")), work)
    made = ((str(i), text) for i, text in enumerate(texts(count, seed + 1)))
    shard = shard_of_texts(work / "shard", made, corpus, "rule")
    (work / "shard.json").write_text(json.dumps({**vars(shard), "dir": ""}), encoding="utf-8")
    return {"tokens": shard.text_tokens}


def do_mixture(work: Path) -> dict[str, Any]:
    """One pass over half organic, half synthetic tokens, as the batches of pretraining."""
    from synpro.corpus.epochs import MixtureEpochs
    from synpro.corpus.mixture import MixtureConfig
    from synpro.lm.batches import TokenStream
    from synpro.records import Shard, decode

    corpus = decode(json.loads((work / "corpus.json").read_text(encoding="utf-8")), work)
    about = json.loads((work / "shard.json").read_text(encoding="utf-8"))
    shard = Shard(**{**about, "dir": work / "shard"})
    epochs = MixtureEpochs(MixtureConfig(organic_share=0.5), corpus, [shard], 0)
    built = largest()
    stream = TokenStream(epochs, folder=work / "mixture", sequence_length=1024, batch_size=64, dtype=corpus.dtype)
    total, step = hashlib.sha256(), 0
    while (rows := stream(step)) and stream.epochs < 2:
        total.update(rows.input_B_T.tobytes())
        step += 1
    return {
        "tokens": step * stream.tokens_per_batch,
        "sha256": total.hexdigest(),
        "largest_at": {"built": built, "end": largest()},
    }


def do_texts(work: Path, megabytes: float, seed: int) -> dict[str, Any]:
    """Texts that are encoded in each way; some hold a special token's string."""
    size = 0
    with (work / "texts.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts(10**9, seed + 2)):
            if size >= megabytes * 1e6:
                return {"bytes": size, "texts": number}
            text += f" {EOS}" * (number % 1000 == 0)
            size += len(text.encode())
            file.write(json.dumps(text) + "\n")
    raise AssertionError("texts have no end")


def do_encode(work: Path, how: str) -> dict[str, Any]:
    """The texts to ids: by `tokenizers`, or, where `how` is a number, by `write_tokens` with so many processes."""
    import numpy as np

    from synpro.corpus.tokens import load_tokenizer, write_tokens

    with (work / "texts.jsonl").open(encoding="utf-8") as file:
        some = [json.loads(line) for line in file]
    tokenizer = load_tokenizer(work / "prepare" / "tokenizer")
    eos = tokenizer.token_to_id(EOS)
    out = work / f"encoded-{how}.bin"
    began, used = time.perf_counter(), processor()
    if how.isdecimal():
        write_tokens(out, some, tokenizer, eos, "uint16", int(how))
    else:
        encode = partial(tokenizer.encode_batch, add_special_tokens=False)
        ids = [e.ids for first in range(0, len(some), 2000) for e in encode(some[first : first + 2000])]
    seconds, cpu = time.perf_counter() - began, processor() - used
    if not how.isdecimal():
        with out.open("wb") as file:
            for document in ids:
                file.write(np.array([*document, eos], "<u2").tobytes())
    sha = hashlib.sha256(out.read_bytes()).hexdigest()
    return {
        "how": how,
        "bytes": sum(len(t.encode()) for t in some),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "tokens": out.stat().st_size // 2,
        "sha256": sha,
    }


def largest() -> int:
    """Bytes of this process at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def processor() -> float:
    """Processor seconds of this process and of its children that have ended."""
    kinds = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(k.ru_utime + k.ru_stime for k in kinds)


def child(arguments: list[str], env: dict[str, str]) -> dict[str, Any]:
    """What one part of the work, done in a process of its own, reports, with its seconds and the largest memory of its tree."""
    import psutil

    began, used, peak = time.perf_counter(), processor(), 0
    with subprocess.Popen([sys.executable, __file__, *arguments], env=env, stdout=subprocess.PIPE, text=True) as process:
        top = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, sum(p.memory_info().rss for p in [top, *top.children(recursive=True)]))
            except psutil.Error:  # one of them has just ended
                continue
            time.sleep(0.2)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode != 0:
        raise SystemExit(f"{arguments[1]} failed with exit code {process.returncode}\n{said}")
    seconds, cpu = time.perf_counter() - began, processor() - used
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, **json.loads(said.splitlines()[-1])}


def scale(work: Path, count: int, env: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """A corpus of `count` rows, prepared and mixed; `work` then holds it."""
    found = {"generate": child(["do", "generate", str(work), str(count), str(arguments.seed)], env)}
    made = [str(count), str(arguments.seed)]
    for part, more in (("prepare", [str(arguments.vocabulary)]), ("shard", made), ("mixture", [])):
        found[part] = child(["do", part, str(work), *more], env)
    size = found["generate"]["text_bytes"]
    p, m = found["prepare"], found["mixture"]
    print(
        f"{count:>9,} rows, {size / 1e6:,.1f} MB: prepare {p['seconds']:,.0f} s ({p['cpu_seconds']:,.0f} of a processor, "
        f"{size / 1e6 / p['cpu_seconds']:.2f} MB each), {p['peak_bytes'] / 2**20:,.0f} MiB, "
        f"{p['disk_bytes'] / 1e6:,.1f} MB on disk; one pass of {m['tokens']:,} tokens {m['seconds']:,.0f} s "
        f"({m['cpu_seconds']:,.0f}), {m['peak_bytes'] / 2**20:,.0f} MiB",
        flush=True,
    )
    return {"rows": count, **found}


def slopes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What memory grows by, in bytes per row, from each corpus to the next larger one."""
    found = []
    for a, b in pairwise(rows):
        each = {p: (b[p]["peak_bytes"] - a[p]["peak_bytes"]) / (b["rows"] - a["rows"]) for p in ("prepare", "mixture")}
        found.append({"from": a["rows"], "to": b["rows"], **each})
        print(f"from {a['rows']:,} to {b['rows']:,} rows, bytes each: " + ", ".join(f"{p} {v:,.0f}" for p, v in each.items()))
    return found


def encoding(work: Path, env: dict[str, str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The fastest of `--repeats` measurements of each way, in turn. Raises SystemExit when two ways differ in an id."""
    many = str(arguments.threads)
    alone = env | {"TOKENIZERS_PARALLELISM": "false"}
    threads = env | {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": many}
    ways = {"tokenizers, 1 thread": ("bare", alone, 1), f"tokenizers, {many} threads": ("threads", threads, int(many))}
    ways |= {f"synpro, {n} process{'es' * (n > 1)}": (str(n), alone, n) for n in sorted({1, int(many)})}
    best: dict[str, dict[str, Any]] = {}
    child(["do", "texts", str(work), str(arguments.megabytes), str(arguments.seed)], env)
    for _ in range(arguments.repeats):
        for name, (how, environ, cores) in ways.items():
            row = child(["do", "encode", str(work), how], environ)
            row = {"name": name, "cores": cores, **row}
            best[name] = min(row, best.get(name, row), key=lambda r: r["seconds"])
    for row in best.values():
        megabytes = row["bytes"] / 1e6
        row["mb_per_second_and_core"] = megabytes / row["seconds"] / row["cores"]
        row["mb_per_cpu_second"] = megabytes / row["cpu_seconds"]
        print(
            f"{row['name']:<24} {megabytes / row['seconds']:7.2f} MB/s, {row['mb_per_second_and_core']:6.2f} per core; "
            f"{row['mb_per_cpu_second']:6.2f} MB per processor second; {row['peak_bytes'] / 2**20:,.0f} MiB"
        )
    if len({row["sha256"] for row in best.values()}) > 1:
        raise SystemExit("the ids differ between the ways: " + ", ".join(f"{n} {r['sha256'][:12]}" for n, r in best.items()))
    print(f"ids equal to the last of {row['tokens']:,}")
    return list(best.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write, after every corpus")
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2, help="processes that tokenize")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--megabytes", type=float, default=100, help="of text that is encoded in each way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where corpora are made (default: a temporary folder)")
    arguments = parser.parse_args()
    env = environment(arguments.threads)
    body: dict[str, Any] = {"settings": {k: v for k, v in vars(arguments).items() if k not in ("out", "work")}, "corpora": []}

    def written(**more: Any) -> None:
        body.update(more)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    for count in sorted(arguments.documents):
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            body["corpora"].append(scale(Path(folder), count, env, arguments))
            written()
            if count == min(arguments.documents) and arguments.repeats:
                written(encoding=encoding(Path(folder), env, arguments))
    written(bytes_per_row=slopes(body["corpora"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["do"]:
        part, folder, *more = sys.argv[2:]
        does = {
            "generate": lambda n, seed: do_generate(Path(folder), int(n), int(seed)),
            "prepare": lambda n: do_prepare(Path(folder), int(n)),
            "shard": lambda n, seed: do_shard(Path(folder), int(n), int(seed)),
            "mixture": lambda: do_mixture(Path(folder)),
            "texts": lambda size, seed: do_texts(Path(folder), float(size), int(seed)),
            "encode": lambda how: do_encode(Path(folder), how),
        }
        print(json.dumps(does[part](*more)))
    else:
        main()
