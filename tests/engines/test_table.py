"""References of models: which engine each asks for, and what is wrong with those that ask for none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from synpro.assets import AssetError
from synpro.engines.base import EngineError, Sampling
from synpro.engines.local import LocalModel
from synpro.engines.table import asset_of, check_reference, is_server, open_model
from synpro.engines.vllm import llm_arguments, sampling_arguments


def test_a_folder_opens_in_this_process(qwen: Path) -> None:
    model = open_model(str(qwen), slot="judges.dataman", dtype="float32")
    assert isinstance(model, LocalModel)
    model.close()
    with pytest.raises(AssetError, match=r"judges\.dataman"):
        open_model("/no/such/folder", slot="judges.dataman")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("", "names no model"),
        ("vllm:", "names no model"),
        ("http://127.0.0.1:8000/v1", r"names no model; write http://HOST:PORT/v1#MODEL"),
        ("http://#m", "names no host"),
        ("https://me:secret@host/v1#m", "put the key into the environment"),
    ],
)
def test_a_reference_that_names_no_model_is_refused(reference: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        check_reference(reference)
    assert "secret" not in str(raised.value)


def test_kinds_of_references() -> None:
    for reference in (
        "hf:RuPeng/DataMan-1.5B-EN",
        "http://127.0.0.1:8000/v1#Qwen/Qwen3-4B",
        "vllm:hf:Qwen/Qwen3-4B",
        "some/folder",
    ):
        check_reference(reference)
    assert is_server("https://host/v1#m") and not is_server("hf:a/b")
    assert (asset_of("vllm:hf:a/b"), asset_of("hf:a/b"), asset_of("http://host/v1#m")) == ("hf:a/b", "hf:a/b", None)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_that_is_not_installed_says_what_to_do() -> None:
    with pytest.raises(EngineError, match=r"judges\.dataman: 'vllm:hf:a/b' needs vLLM, .*pip install vllm.*vllm serve"):
        open_model("vllm:hf:a/b", slot="judges.dataman")


def test_what_vllm_is_asked(tmp_path: Path) -> None:
    arguments = llm_arguments(tmp_path, "bfloat16")
    assert arguments["model"] == str(tmp_path) and arguments["trust_remote_code"] is False and arguments["max_logprobs"] == 20
    chat, other = ({"role": "user", "content": "a"},), ({"role": "user", "content": "b"},)
    greedy = sampling_arguments(Sampling(0.0, 0.9, 5), chat, 0)
    assert greedy == {"temperature": 0.0, "top_p": 1.0, "max_tokens": 5}
    seeds = {sampling_arguments(Sampling(seed=s), c, i)["seed"] for s in (0, 1) for c in (chat, other) for i in (0, 1)}
    assert len(seeds) == 8 and all(0 <= seed < 2**31 for seed in seeds)
