"""Settings of the stage `synthesize`. Importing this opens no model library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from synpro.engines.failures import MAX_FAILED_SHARE
from synpro.engines.registry import EngineTable
from synpro.engines.transformers import TransformersConfig
from synpro.schema import setting

_FILTERS = ("keep_truncated", "same_language", "max_repetition", "min_faithfulness")


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """How texts are generated. How they are sampled, how many and how long is in `[operations.NAME]`, what they must satisfy in
    `[filters]`."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **{key: f"operations.NAME.{key}" for key in ("temperature", "top_p", "max_new_tokens", "max_copied")},
        **{key: f"operations.NAME.{key}" for key in ("min_length", "max_length")},
        **{key: f"filters.{key}" for key in _FILTERS},
        **{"clipped": "filters.keep_truncated", "max_looped": "filters.max_repetition"},
        **{"min_support": "filters.min_faithfulness", "chunk": "chunk_size"},
        **{"contaminated": "keep_contaminated", "embedded": "max_embedded"},
        **{key: f"synthesize.engine.{key}" for key in ("dtype", "device", "batch_size")},
        **dict.fromkeys(("vllm", "serve", "server"), "synthesize.engine"),
    }

    engine: EngineTable = field(default_factory=TransformersConfig)
    """What generates the texts (docs/engines.md)."""
    chunk_size: int = setting(1024, unit="passages", min=1)
    """Passages between two save points: one call of the engine, which one worker does. A call ends with its slowest answer, so
    a GPU should have many; more workers than chunks find no work."""
    keep_contaminated: bool = False
    """Keep texts with an evaluation item (13 of its words in a row, or 80% of its 5-word runs; corpus/contamination.py)."""
    scored_share: float = setting(1.0, source="ours", min=0, max=1)
    """Share of the texts, drawn by what they say, that all rewards are computed of, for the report; the rest are only checked
    for faithfulness, which decides what is kept. All are scored where the best of several are selected."""
    max_embedded: int = setting(256, unit="texts", min=0)
    """Kept texts that are embedded, with their passages, to watch the distribution for collapse."""
    min_kept: float = setting(0.01, source="ours", min=0, max=1, execution=True)
    """Share of answers that must pass the filters, from the first chunk on; below it the step stops and says why they are
    dropped. 0 goes on whatever is dropped."""
    keep_answers: bool = setting(False, execution=True)
    """Keep answers and their scores in the run directory (`answers/`, `scores/`), for other steps that ask the same of the same
    generator (not of a server that runs already) and judges (scores not where one is a language model). A comparison always
    does: what differs between arms is which of the answers they keep."""
    max_failed: float = setting(MAX_FAILED_SHARE, source="ours", min=0, max=1, execution=True)
    """Share of answers that may be missing (a prompt that does not fit the generator) or that no judge can read; above it the
    step stops. Below it each of them is a row in the log of rejects."""
