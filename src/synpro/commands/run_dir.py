"""A run's directory: whose config it holds, and what it was made with."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from synpro.config import ConfigError, RunConfig, dumps, is_dumped, load_stored
from synpro.records import decode, encode
from synpro.runner.artifacts import finished, read_json, read_record, write_json, write_text
from synpro.runner.child import RUNNER_FILES
from synpro.runner.request import changes

R = TypeVar("R")
LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "ai2-olmo-core",
    "ai2-olmo-eval",
    "tokenizers",
    "peft",
    "accelerate",
    "numpy",
    "pyarrow",
)
MUTABLE_KEYS = {
    "compare": (
        "arms",
        "seeds",
        "text_draws",
        "absorption",
        "anchors",
        "law",
        "settings_from",
        "equal_tokens",
        "equal_contrasts",
        "forced",
    )
}
"""Keys, by table, that may change in an existing run directory although they are no execution settings: they choose which steps
are run and how numbers are made of them. A finished step that would come out otherwise is refused by itself."""
OWN_FILES = (".lock", "environment.json", "config.toml.tmp", "environment.json.tmp", "stress.jsonl")
"""What a start that failed may leave in a directory that is no run directory yet, and what a rehearsal reads."""
NO_WORK_BYTES = 2**16
"""Bytes of a step that failed, such as for a corpus without text, that are not worth more than a corrected config."""


def open_run(root: Path) -> RunConfig:
    """The config of a run directory. Raises ConfigError when it is not one."""
    if not (root / "config.toml").exists():
        raise ConfigError(f"{root} is not a run directory (it has no config.toml); `ls runs/` shows the runs")
    return load_stored(RunConfig, root / "config.toml")


def newest_record(root: Path, step: str, kind: type[R], round: int | None = None) -> R:
    """The record of a finished step of a run (`probe`, `train-rephrase`), of one round or the newest. Raises ConfigError."""
    found = sorted(root.glob(f"{'round-*' if round is None else f'round-{round:02d}'}/{step}/result.json"))
    if not found:
        which = f"no {step} yet" if round is None else f"no {step} of round {round}"
        raise ConfigError(f"{root} has {which}; `synpro status {root}` shows how far it is")
    record = decode(read_record(found[-1].parent), root)
    assert isinstance(record, kind)
    return record


def init_or_verify(cfg: RunConfig, root: Path) -> None:
    """Write the resolved config into a new run directory, or make sure that an existing one has the same result keys.

    Execution settings may differ; the newest are kept. A run whose steps hold no work takes any config: its step was refused,
    or failed early, and the config is corrected (a step of another request begins anew). Raises ConfigError with the
    differences.
    """
    path = root / "config.toml"
    is_begun = any(p.name not in (*OWN_FILES, path.name) for p in root.iterdir())
    if not path.exists() or not is_begun:  # a start that was refused, such as for a damaged model, left no step
        if is_begun:
            raise ConfigError(
                f"{root} holds files but no config.toml, so it is not a run directory; choose another --runs or name"
            )
        if path.exists() and not _is_generated(type(cfg), path):
            raise ConfigError(f"{path} is not one that synpro wrote, and would be overwritten; choose another --runs or name")
        write_text(path, dumps(cfg))
        return
    try:
        old = load_stored(type(cfg), path)
    except ConfigError as problem:
        raise ConfigError(
            f"the config that {root} was started with cannot be read now:\n{problem}\nIf that is not yours to mend, give the "
            "run another name (--set name=...), or use the version of SynPro it was started with"
        ) from problem
    different = changes(_result_keys(old), _result_keys(cfg))
    kept = _kept_work(root) if different else None
    if different and kept is None and _is_generated(type(cfg), path):
        print(f"WARNING: no step of {root} holds work yet: its config is replaced by this one", file=sys.stderr)
    elif different:
        raise ConfigError(
            f"{root} was started with another config; these values differ (there -> now):\n  "
            + "\n  ".join(different)
            + "\nTake the changes back, or give the run another name: --set name=..."
            + (
                f"\nIt is a run of `synpro generate`: name its own config, {path}"
                if old.generate_only > cfg.generate_only
                else ""
            )
            + (f"\nOr remove {kept}, if its unfinished work may be lost" if kept and not finished(kept) else "")
        )
    if path.read_text(encoding="utf-8") != dumps(cfg):
        write_text(path, dumps(cfg))


def _is_generated(kind: type[RunConfig], path: Path) -> bool:
    """Whether a config is as `dumps` of this version or an earlier one writes it, without a person's comments."""
    try:
        load_stored(kind, path)
    except ConfigError:
        return False
    return is_dumped(path.read_text(encoding="utf-8"))


def _kept_work(root: Path) -> Path | None:
    """The first folder of a step with a result, or with work to be resumed from: more than what the runner writes, rejected
    rows, and the few bytes that reading an empty corpus leaves."""
    if found := next(root.rglob("result.json"), None):
        return found.parent
    for step in sorted(p.parent for p in root.rglob("request.json")):
        files = (p for p in step.rglob("*") if p.name not in RUNNER_FILES and p.name != "rejects.jsonl" and p.is_file())
        if sum(p.stat().st_size for p in files) > NO_WORK_BYTES:
            return step
    return None


def note_environment(root: Path) -> None:
    """Write down what the first step of a run is begun with; a later one by another version, or elsewhere, adds what
    is different then."""
    path, now = root / "environment.json", describe_environment()
    if not path.exists():
        write_json(path, now)
        return
    first = read_json(path)
    known = {k: v for part in (first, *first.get("changed", ())) for k, v in part.items()}
    if different := {k: v for k, v in now.items() if k != "started" and known.get(k) != v}:
        write_json(path, {**first, "changed": [*first.get("changed", ()), {"on": now["started"], **different}]})


def _result_keys(cfg: RunConfig) -> dict[str, Any]:
    """A config's keys that decide results, as plain data."""
    table: dict[str, Any] = encode(cfg, Path(), {})
    for part, keys in MUTABLE_KEYS.items():
        for key in keys:
            table.get(part, {}).pop(key, None)
    return table


def describe_environment() -> dict[str, Any]:
    """Versions, commit and hardware, for the report."""
    versions = {}
    for name in (*LIBRARIES, "synpro-lm"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "started": datetime.now(UTC).date().isoformat(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor(),
        "cores": len(models) or None,
        "commit": commit or "not in a git checkout",
        "versions": versions,
    }
