"""Servers that a step starts for itself: a real one, and programs that fail in the ways servers fail to start."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from synpro.engines.base import EngineError, Sampling
from synpro.engines.batch_generator import BatchGeneratorFactory
from synpro.engines.export import export_merged, locate
from synpro.engines.hf import HFEngine
from synpro.engines.openai import OpenAIConfig, ServerModel
from synpro.engines.server import ServerConfig
from synpro.engines.server_process import ServerProcess
from synpro.records import Chat, Generator
from tests.chat_server import NAME, Nursery, Server

SERVE = ServerConfig(
    command=(
        *(str(Path(sys.executable).with_name("transformers")), "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
        *("--dtype", "{dtype}", "--device", "cpu"),
    ),
    dtype="float32",
    lora_arguments=(),
    served_model_name="{model}",
    start_seconds=300,
    check_model_list=False,
    answer_seconds=60,
    max_attempts=2,
    max_concurrency=1,  # its seed is that of the whole process
)
LISTEN = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(%d)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
CHATS: list[Chat] = [({"role": "user", "content": f"Bees carry nectar {i} times."},) for i in range(4)]


def start(code: str, tmp_path: Path, **more: Any) -> ServerProcess:
    log = tmp_path / "logs" / "server.log"
    words = [sys.executable, "-c", code]
    return ServerProcess(lambda port: [*words, str(port), str(tmp_path)], slot="synthesize.engine", log=log, **more)


def test_a_generator_behind_a_server_of_its_own_generates_what_it_generates_here(
    folder: Path, llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    adapted: Any = get_peft_model(
        LlamaForCausalLM.from_pretrained(folder), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    torch.manual_seed(1)
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    generator = Generator("rephrase", str(folder), tmp_path / "adapter", None, 1, "")
    greedy = Sampling(0.0, 1.0, 12)
    here = HFEngine.load(generator, "float32").generate(CHATS, greedy)
    assert here != HFEngine.load(str(folder), "float32").generate(CHATS, greedy), "the adapter has to matter"

    generate = BatchGeneratorFactory(generator, SERVE, tmp_path / "scratch").open(lambda done: None)
    try:
        assert generate.engine.generate(CHATS, greedy) == here
        rows = generate((CHATS, Sampling(0.8, 1.0, 12, seed=3)))
        assert rows == generate((CHATS, Sampling(0.8, 1.0, 12, seed=3))) != generate((CHATS, Sampling(0.8, 1.0, 12, seed=4)))
        engine: Any = generate.engine
        process = engine._process._process
    finally:
        generate.close()
    generate.close()
    assert process.poll() is not None
    left = [p.name for p in (tmp_path / "scratch").iterdir()]
    assert left == ["synthesize-server.log"], "merged weights are gone, the log is not"


def test_a_folder_for_servers_has_the_weights_and_none_of_the_sampling_that_models_ship(folder: Path, tmp_path: Path) -> None:
    GenerationConfig(do_sample=True, top_k=7, repetition_penalty=1.3, eos_token_id=[5, 9]).save_pretrained(folder)
    shipped = (folder / "generation_config.json").read_bytes()
    for number, generator in enumerate(
        (Generator("rephrase", "hf:nobody/nothing", None, folder, 1, ""), Generator("rephrase", str(folder), None, None, 1, ""))
    ):
        made = export_merged(*locate(generator, "synthesize"), "bfloat16", tmp_path / f"made-{number}")
        assert (made / "model.safetensors").resolve() == folder / "model.safetensors", "a link, not a copy"
        settings = GenerationConfig.from_pretrained(made)
        assert settings.do_sample and settings.eos_token_id == [5, 9]
        assert not settings.top_k and settings.repetition_penalty in (None, 1.0)
    assert (folder / "generation_config.json").read_bytes() == shipped


def test_a_server_that_does_not_sample_is_refused(nursery: Nursery, qwen: Path) -> None:
    class Greedy(ServerModel):
        def _body(self, chat: Chat, sampling: Sampling, index: int) -> dict[str, Any]:
            return super()._body(chat, replace(sampling, temperature=0.0), index)

    with Server(nursery, qwen) as server:
        served = Greedy(server.url, NAME, slot="s", cfg=OpenAIConfig(url=server.url, max_attempts=1), role="generator")
        with pytest.raises(EngineError, match=r"same text with three seeds at temperature 1\.5, so it does not sample: '"):
            served.generate(CHATS, Sampling(0.7, 1.0, 12))
        assert served.generate(CHATS, Sampling(0.0, 1.0, 12)), "greedy is what was asked"


def test_a_server_listens_here_until_it_is_closed(tmp_path: Path) -> None:
    code = "import time; time.sleep(1)\n" + LISTEN % 200
    running = start(code, tmp_path, environment={"SOME": "thing"})
    assert running.address == f"http://127.0.0.1:{running.port}/v1"
    process = running._process
    assert process is not None and b"SOME=thing" in Path(f"/proc/{process.pid}/environ").read_bytes()
    running.close()
    running.close()
    assert process.returncode == -signal.SIGTERM


def test_a_server_that_does_not_listen_to_the_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synpro.engines.server_process.STOP_SECONDS", 0.3)
    running = start("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTEN % 200, tmp_path)
    process = running._process
    running.close()
    assert process is not None and process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_and_what_it_started_end_with_the_step_that_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    engine = f"import subprocess; print(subprocess.Popen(['sleep', '600']).pid, file=open({str(tmp_path / 'engine')!r}, 'w'))\n"
    code = (
        "import sys, time; from pathlib import Path; from synpro.engines.server_process import ServerProcess\n"
        f"words = [sys.executable, '-c', {engine + LISTEN % 200!r}]\n"
        f"s = ServerProcess(lambda port: [*words, str(port)], slot='s', log=Path({str(tmp_path / 'log')!r}))\n"
        "print(s._process.pid, s._keeper.pid, flush=True); time.sleep(60)"
    )
    step = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert step.stdout is not None
    pids = [*step.stdout.readline().split(), (tmp_path / "engine").read_text().strip()]
    processes = [Path(f"/proc/{pid}") for pid in pids]
    assert len(processes) == 3 and all(map(_lives, processes))
    step.send_signal(how)
    step.communicate()
    deadline = time.monotonic() + 10
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, processes))


def _lives(process: Path) -> bool:
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_keeps_a_server_from_starting_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"synthesize\.engine: no-such-server cannot be started \(No such file .*command"):
        ServerProcess(lambda port: ["no-such-server"], slot="synthesize.engine", log=tmp_path / "log")
    with pytest.raises(EngineError, match=r"(?s)ended with exit code 3; its log, .*server\.log, ends with:\nno room"):
        start("import sys; print('no room'); sys.exit(3)", tmp_path)
    with pytest.raises(EngineError, match=r"(?s)not healthy after \d+ s \(start_seconds\); its log"):
        start(LISTEN % 503, tmp_path, start_seconds=2.0)
    listening = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout.split()
    assert not [pid for pid in listening if int(pid) != os.getpid()], "what did not become healthy is not left running"


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"command": ()}, "names no program"),
        ({"command": ("serve", "{model}")}, r"has to contain \{model\} and \{port\}"),
        ({"command": ("serve", "{model}", "{port}", "{host}")}, r"'\{host\}' contains 'host'; known: model, name, port, dtype"),
        ({"command": ("serve", "{model}", "{port}", '{"a": 1}')}, r"contains '\"a\"'; .*write \{\{ for a literal brace"),
        ({"lora_arguments": ("{lora}",)}, r"lora_arguments: '\{lora\}' contains 'lora'; .*adapter, adapter_name, rank"),
        ({"health_path": "health"}, "it begins with /"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        ServerConfig(**given)


def test_an_adapter_stays_one_where_the_server_takes_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 12}')
    generator = Generator("rephrase", str(folder), tmp_path / "adapter", None, 1, "")
    code = "import sys; print(sys.argv[1:]); sys.exit(1)"
    cfg = ServerConfig(command=(sys.executable, "-c", code, "{model}", "{port}", "{name}"))
    with pytest.raises(EngineError) as reported:
        BatchGeneratorFactory(generator, cfg, tmp_path / "scratch").open(lambda done: None)
    *_, name, lora, room, sixteen, modules, adapter = ast.literal_eval(str(reported.value).splitlines()[-1])
    assert (name, lora, room, sixteen, modules) == ("generator", "--enable-lora", "--max-lora-rank", "16", "--lora-modules")
    assert adapter == f"generator-adapter={tmp_path / 'adapter'}"


def test_braces_of_json_are_doubled(folder: Path, tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[3]); sys.exit(1)"
    cfg = ServerConfig(command=(sys.executable, "-c", code, "{model}", "{port}", '{{"method": "ngram"}}'))
    with pytest.raises(EngineError, match=r'judges\.dataman\.engine: (?s:.*)\n\{"method": "ngram"\}'):
        cfg.open(str(folder), slot="judges.dataman", scratch=tmp_path / "scratch")
