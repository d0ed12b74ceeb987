"""The keys of a config, by the dataclasses that it is built of."""

from __future__ import annotations

from synpro.commands.config_docs import keys_of, tables


def key_paths() -> set[str]:
    """Every key with its table: `pretrain.optimizer.learning_rate`, `operations.NAME.steps`. Tables are keys too."""
    inside = {
        f"{path}.{key.name}" if path else key.name for cls, paths in tables().items() for path in paths for key in keys_of(cls)
    }
    return inside | {path for paths in tables().values() for path in paths if path}
