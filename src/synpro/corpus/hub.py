"""Data sets of the Hugging Face hub, streamed shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from synpro.assets import Log
from synpro.corpus.files import CorpusError, SourceFile
from synpro.corpus.rows import Row, Rows

_REMEDY = "check the name, `subset` and `split` of this source and the network, or name local files"


@dataclass
class HubShard(SourceFile):
    """A part of a data set of the hub."""

    dataset: Any = field(repr=False, default=None)
    """The whole data set, a `datasets.IterableDataset`."""
    number: int = 0
    count: int = 1
    """Shards of the data set."""


def list_shards(path: str, subset: str | None, split: str, log: Log | None = None) -> list[SourceFile]:
    """The shards of a data set, in order. Raises CorpusError when the hub does not give it."""
    if log:  # its own library only says "Retrying"
        log(f"{path}: asking the Hugging Face hub; without network it gives up after a minute or two")
    import datasets

    name, _, revision = path.removeprefix("hf:").partition("@")
    if not name:
        raise CorpusError(f"{path}: names no data set; write hf:ORG/NAME")
    try:
        whole = datasets.load_dataset(name, subset, split=split, revision=revision or None, streaming=True)
        count = max(1, whole.num_shards)
        if count == 1:
            return [HubShard(path, path, 0, dataset=whole)]
        return [HubShard(f"{path}/{i:05d}", path, 0, dataset=whole, number=i, count=count) for i in range(count)]
    except Exception as problem:
        raise CorpusError(f"{path}: cannot be read from the hub ({problem}); {_REMEDY}") from problem


def read_hub(file: SourceFile, wanted: Sequence[str], limit: int) -> Rows:
    """The rows of a shard. Raises CorpusError when the hub stops giving them: that is no fault of the data."""
    assert isinstance(file, HubShard)
    try:
        rows = file.dataset if file.count == 1 else file.dataset.shard(file.count, file.number)
        for number, row in enumerate(rows, start=1):
            yield Row(f"{file.name}:{number}", row, tuple(row))
    except Exception as problem:
        raise CorpusError(f"{file.name}: cannot be read from the hub ({problem}); {_REMEDY}") from problem
