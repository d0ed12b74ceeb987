"""The engines a config can name: one grammar, and what is wrong with a table or a model is said with the new form."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synpro.assets import AssetError
from synpro.config import ConfigError, load_config
from synpro.engines.base import EngineError, EngineSpec, Sampling, Unanswered
from synpro.engines.local import LocalModel
from synpro.engines.openai import OpenAIConfig
from synpro.engines.registry import ENGINES, EngineTable, check_model
from synpro.engines.server import ServerConfig
from synpro.engines.transformers import TransformersConfig
from synpro.engines.vllm import VLLMConfig, VLLMModel, llm_arguments, sampling_arguments
from synpro.judges.base import DataManConfig
from synpro.records import Generator
from synpro.schema import SchemaError, build, setting

TINY = Path(__file__).parents[2] / "configs" / "tiny.toml"


@dataclass(frozen=True)
class Table:
    """A table of a config with an engine in it."""

    engine: EngineTable = setting(default_factory=TransformersConfig)


def engine_of(**engine: Any) -> EngineSpec:
    return build(Table, {"engine": engine}).engine


def test_a_table_names_its_engine_by_type() -> None:
    assert engine_of() == TransformersConfig(), "transformers needs no type"
    assert engine_of(type="vllm", max_model_len=512) == VLLMConfig(max_model_len=512)
    assert engine_of(type="openai", url="http://h:1/v1") == OpenAIConfig(url="http://h:1/v1")
    assert isinstance(engine_of(type="server"), ServerConfig)
    assert {name: spec.type for name, spec in ENGINES.items()} == {name: name for name in ENGINES}


@pytest.mark.parametrize(
    ("engine", "reported"),
    [
        ("vllm", r"engine: should be a table .* write engine = \{type = \"vllm\"\}"),
        ({"type": "vlm"}, r"engine\.type: 'vlm' is not one of .*; did you mean 'vllm'"),
        ({"type": "openai"}, r"engine\.url: missing"),
        ({"type": "openai", "url": "127.0.0.1:8000"}, r"engine\.url: .* write http://HOST:PORT/v1"),
        ({"type": "openai", "url": "http://h/v1#m"}, r"engine\.url: .* write model = \"m\" beside url"),
        ({"type": "openai", "url": "https://me:secret@h/v1"}, r"engine\.url: 'h' comes with a key .* into \$OPENAI_API_KEY"),
        ({"type": "vllm", "num_speculative_tokens": -1}, r"engine\.num_speculative_tokens: -1 is out of range"),
        ({"type": "vllm", "gpu_memory_utilization": 1.2}, "at most 1"),
        ({"type": "vllm", "max_model_len": 4}, "at least 16"),
        ({"type": "scripted", "answers": []}, "give at least one"),
        ({"type": "vllm", "guess": 4}, "engine.guess: is called 'num_speculative_tokens' now"),
        ({"type": "server", "in_flight": 4}, "engine.in_flight: is called 'max_concurrency' now"),
        ({"type": "server", "adapter": []}, "engine.adapter: is called 'lora_arguments' now"),
    ],
)
def test_a_table_that_cannot_work_is_refused(engine: Any, reported: str) -> None:
    with pytest.raises(SchemaError, match=reported) as error:
        build(Table, {"engine": engine})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("reference", "reported"),
    [
        ("", "names no model"),
        ("vllm:hf:a/b", r'write model = "hf:a/b" and engine = \{type = "vllm"\}'),
        ("http://h:1/v1#a/b", r'write model = "a/b" and engine = \{type = "openai", url = "http://h:1/v1"\}'),
        ("https://me:secret@host/v1#m", r'url = "https?://host/v1"'),
    ],
)
def test_a_model_named_as_in_earlier_versions_is_refused_with_the_new_form(reference: str, reported: str) -> None:
    with pytest.raises(ValueError, match=reported) as error:
        check_model(reference)
    assert "secret" not in str(error.value)
    check_model("hf:RuPeng/DataMan-1.5B-EN")


def test_only_what_decides_a_text_is_in_the_key_of_its_chunk() -> None:
    fast, slow = TransformersConfig(batch_size=64, device="cuda"), TransformersConfig(batch_size=1)
    assert fast.result_settings() == slow.result_settings() == {"type": "transformers", "dtype": "bfloat16"}
    assert TransformersConfig(dtype="float32").result_settings() != fast.result_settings()
    here, there = (OpenAIConfig(url=f"http://{host}/v1", model="m", max_attempts=n) for host, n in (("a", 1), ("b", 9)))
    assert here.result_settings() == there.result_settings()
    assert OpenAIConfig(url="http://a/v1", model="other").result_settings() != here.result_settings()


def test_the_default_opens_a_folder_in_this_process(qwen: Path) -> None:
    model = TransformersConfig(dtype="float32").open(str(qwen), slot="judges.dataman")
    assert isinstance(model, LocalModel)
    model.close()
    with pytest.raises(AssetError, match=r"judges\.dataman"):
        TransformersConfig().open("/no/such/folder", slot="judges.dataman")


def test_a_running_server_does_not_have_the_weights_that_rl_made() -> None:
    trained = Generator("rephrase", "hf:a/b", Path("adapter"), None, 1, "")
    with pytest.raises(EngineError, match=r"synthesize\.engine: the server at http://h/v1 does not have .* trained rephrase"):
        OpenAIConfig(url="http://h/v1").open(trained, slot="synthesize")


def test_a_config_in_which_it_would_have_to_is_refused() -> None:
    engine = 'synthesize.engine={type="openai", url="http://h/v1"}'
    with pytest.raises(ConfigError, match=r"synthesize\.engine: a server that runs already lacks .* rephrase, reformat"):
        load_config(TINY, [engine, "operations.reformat.steps=1"])
    load_config(TINY, [engine, "operations.rephrase.steps=0", "operations.reformat.steps=0"])


def test_a_judge_changes_its_engine_alone() -> None:
    cfg = load_config(TINY, ["judges.dataman.engine.type=vllm"])
    assert cfg.judges.dataman == DataManConfig(engine=VLLMConfig())


def test_a_scripted_engine_gives_the_same_chat_the_same_answer() -> None:
    chats = [({"role": "user", "content": text},) for text in "abcdef"]
    engine = engine_of(type="scripted", answers=["Yes, it is", "No"]).open("", slot="s")
    answers = engine.generate(chats, Sampling(n=2))
    assert engine.generate(chats[::-1], Sampling(n=2)) == answers[::-1] and len({a.text for g in answers for a in g}) == 2
    for (first, _), scores in zip(answers, engine.score_options(chats, ("Yes", "No")), strict=True):
        assert scores == ([1.0, 0.0] if first.text.startswith("Yes") else [0.0, 1.0])
    assert all(isinstance(a, Unanswered) and "none of A, B" in a.reason for a in engine.score_options(chats, ("A", "B")))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_that_is_not_installed_says_what_to_do() -> None:
    own = r'judges\.dataman\.engine: vllm is not installed .*docs/engines\.md.*-c constraints-vllm\.txt vllm.*type = "server"'
    with pytest.raises(EngineError, match=own):
        VLLMConfig().open("hf:a/b", slot="judges.dataman")
    (trained,) = VLLMConfig().missing("train_generator")
    assert "trl vllm-serve" in trained and '"server"' not in trained, "RL refuses it"


def test_what_vllm_is_asked(tmp_path: Path) -> None:
    arguments = llm_arguments(VLLMConfig(), tmp_path, "judge", None, "judges.dataman")
    assert arguments["model"] == str(tmp_path) and arguments["trust_remote_code"] is False and arguments["max_logprobs"] == 20
    assert arguments["gpu_memory_utilization"] == 0.3, "other models need the rest"
    assert sampling_arguments(Sampling(0.0, 0.9, 5, n=3)) == {"temperature": 0.0, "top_p": 1.0, "max_tokens": 5, "n": 1}
    assert "seed" not in sampling_arguments(Sampling(n=3, seed=4)), "with a seed per request vLLM samples row by row"


def test_vllm_is_not_asked_about_a_chat_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    """vLLM itself would raise for the whole call."""

    class LLM:
        llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=100))

        def get_tokenizer(self) -> Any:
            return tokenizer

        def generate(self, prompts: Any, sampling: Any, **more: Any) -> Any:
            assert all(len(p["prompt_token_ids"]) < 100 for p in prompts)
            one = SimpleNamespace(text="<think>\nhm</think>\nfine", token_ids=[1, 2], finish_reason="stop")
            return [SimpleNamespace(outputs=[one] * sampling.n) for _ in prompts]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))
    chats = [({"role": "user", "content": "x" * size},) for size in (3, 300, 4)]
    first, long, last = VLLMModel(LLM()).generate(chats, Sampling(n=2))
    assert [c.text for c in first + last] == ["fine"] * 4 and [c.finish for c in long] == ["error"] * 2
    assert "reads at most 100" in long[0].problem


def test_how_vllm_opens_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def arguments(adapter: Path | None = None, **settings: Any) -> dict[str, Any]:
        return llm_arguments(VLLMConfig(**settings), tmp_path, "generator", adapter, "synthesize")

    plain = arguments()
    assert plain["model"] == str(tmp_path) and plain["gpu_memory_utilization"] == 0.9 and "max_model_len" not in plain
    assert "speculative_config" not in plain and not plain.get("enable_lora")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 12}')
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"synthesize\.engine\.num_speculative_tokens: 4, but on a CPU"):
        arguments(adapter, num_speculative_tokens=4)
    assert arguments()["enable_chunked_prefill"] is False
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    reported = arguments(
        adapter, gpu_memory_utilization=0.5, max_model_len=1024, num_speculative_tokens=4, enforce_eager=True, dtype="float32"
    )
    assert reported["enable_lora"] and reported["max_lora_rank"] == 16, "the next size there is"
    assert reported["max_model_len"] == 1024 and reported["enforce_eager"] and reported["gpu_memory_utilization"] == 0.5
    assert reported["speculative_config"]["method"] == "ngram" and reported["speculative_config"]["num_speculative_tokens"] == 4
    (adapter / "adapter_config.json").write_text('{"r": 600}')
    with pytest.raises(ValueError, match="600"):
        arguments(adapter)
