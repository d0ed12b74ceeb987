"""A run's directory: whose config it holds, and what it was made with."""

from __future__ import annotations

import platform
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from synpro.config import ConfigError, RunConfig, dumps, load_as, plain
from synpro.run.child import write_json
from synpro.run.step import changes

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
FREE = {"compare": ("arms", "seeds"), "machine": ("launcher", "workers", "address")}
"""Keys by table that may change in a run directory: which steps are done, and who does them; no step changes by it."""


def claim(cfg: RunConfig, root: Path) -> None:
    """Write the resolved config into a new run directory, or make sure that it is the one already there.

    Raises ConfigError with the differences.
    """
    path = root / "config.toml"
    if path.exists():
        try:  # keys that are new since then have their defaults
            old = plain(load_as(type(cfg), path))
        except ConfigError:
            old = tomllib.loads(path.read_text(encoding="utf-8"))
        now = plain(cfg)
        same = old == now
        for table in (old, now):
            for part, keys in FREE.items():
                for key in keys:
                    table.get(part, {}).pop(key, None)
        different = changes(old, now)
        if different:
            raise ConfigError(
                f"{root} was started with another config; these values differ (there -> now):\n  "
                + "\n  ".join(different)
                + "\nTake the changes back, or give the run another name: --set name=..."
            )
        if not same:
            _write_config(cfg, path)
        return
    if any(p.name != ".lock" for p in root.iterdir()):
        raise ConfigError(f"{root} holds files but no config.toml, so it is not a run directory; choose another --runs or name")
    write_json(root / "environment.json", environment())
    _write_config(cfg, path)


def _write_config(cfg: RunConfig, path: Path) -> None:
    temporary = path.with_suffix(".toml.tmp")
    temporary.write_text(dumps(cfg), encoding="utf-8")
    temporary.replace(path)


def environment() -> dict[str, Any]:
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
    cpu = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        if cpu.exists()
        else []
    )
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor(),
        "cores": len(models) or None,
        "commit": commit or "not in a git checkout",
        "versions": versions,
    }
