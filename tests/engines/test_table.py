"""References of models: which engine each asks for, and what is wrong with those that ask for none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from synpro.assets import AssetError
from synpro.engines.base import EngineError, Sampling
from synpro.engines.local import LocalModel
from synpro.engines.table import asset_of, check_reference, is_server, open_model
from synpro.engines.vllm import VLLMConfig, generator_arguments, llm_arguments, sampling_arguments


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


def test_how_vllm_opens_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = generator_arguments(tmp_path, "bfloat16", VLLMConfig(), None)
    assert plain["model"] == str(tmp_path) and plain["gpu_memory_utilization"] == 0.9 and "max_model_len" not in plain
    assert "speculative_config" not in plain and not plain.get("enable_lora")
    cfg = VLLMConfig(memory_share=0.5, context=1024, guess=4, eager=True)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 12}')
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"synthesize\.vllm\.guess: 4 tokens ahead, but on a CPU"):
        generator_arguments(tmp_path, "float32", cfg, adapter)
    assert generator_arguments(tmp_path, "float32", VLLMConfig(), None)["enable_chunked_prefill"] is False
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    told = generator_arguments(tmp_path, "float32", cfg, adapter)
    assert told["enable_lora"] and told["max_lora_rank"] == 16, "the next size there is"
    assert told["max_model_len"] == 1024 and told["enforce_eager"] and told["gpu_memory_utilization"] == 0.5
    assert told["speculative_config"]["method"] == "ngram" and told["speculative_config"]["num_speculative_tokens"] == 4
    (adapter / "adapter_config.json").write_text('{"r": 600}')
    with pytest.raises(ValueError, match="600"):
        generator_arguments(tmp_path, "float32", cfg, adapter)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"memory_share": 1.2}, "is not a share"), ({"context": 4}, "hold no prompt"), ({"guess": -1}, "0 .off.")],
)
def test_settings_of_vllm_that_cannot_work_are_refused(given: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        VLLMConfig(**given)
