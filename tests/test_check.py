"""`synpro check`: what keeps a config from running, which models it looks at, and what it asks of servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synpro.commands.check import active_models, check, preconditions
from synpro.config import ConfigError, RunConfig, load_config
from tests.chat_server import NAME, Nursery, Server

CONFIGS = Path(__file__).parents[1] / "configs"
URL = "http://127.0.0.1:8000/v1"


def with_server_judge(url: str, file: Path, *more: str) -> RunConfig:
    """A config whose only model that is far away is a judge behind a server."""
    judge = f'judges.dataman={{model="{file}", engine={{type="openai", url="{url}", model="{NAME}", max_attempts=1}}}}'
    sets = [
        f"prepare.sources=[{{path = '{file}'}}]",
        "prepare.tokenizer.source=train",
        f"train_generator.base={file}",
        f"judges.encoder.model={file}",
        "judges.quality=dataman",
        judge,
        *more,
    ]
    return load_config(CONFIGS / "tiny.toml", sets)


def test_a_judge_behind_a_server_is_a_valid_config(tmp_path: Path) -> None:
    cfg, lines = with_server_judge(URL, tmp_path), list[str]()
    check(cfg, fetch=False, log=lines.append)
    assert lines[0].startswith("config: valid; 18 steps, 2 rounds, operations rephrase, reformat")
    assert [(m.slot, m.reference) for m in active_models(cfg)] == [("judges.dataman", str(tmp_path))]


def test_a_bad_engine_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"judges\.dataman\.engine\.url: 'nowhere' is no address"):
        with_server_judge("nowhere", tmp_path)
    with pytest.raises(ConfigError, match=r"judges\.dataman\.engine\.max_attempts"):
        with_server_judge(URL, tmp_path, "judges.dataman.engine.max_attempts=0")


def test_with_assets_it_asks_the_server(nursery: Nursery, qwen: Path, tmp_path: Path) -> None:
    with Server(nursery, qwen) as server:
        cfg, lines = with_server_judge(server.url, tmp_path), list[str]()
        check(cfg, fetch=True, log=lines.append)
        assert f"server: judges.dataman = {tmp_path}: answers" in lines
        server.kill()
        with pytest.raises(ConfigError, match=rf"judges\.dataman: the server http://127\.0\.0\.1:{server.port}/v1 .*refused"):
            check(cfg, fetch=True, log=lines.append)


def test_only_the_models_of_the_judges_in_use_are_fetched() -> None:
    cfg = load_config(CONFIGS / "tiny.toml")
    assert {m.slot for m in active_models(cfg)} >= {"prepare.sources.0.path", "train_generator.base"}
    assert judges_of(cfg) == {"judges.encoder", "judges.fluency"}
    paper = replace(cfg, judges=load_config(CONFIGS / "400m.toml").judges)
    assert judges_of(paper) == {"judges.encoder", "judges.dataman", "judges.layout_model"}
    assert "train_verifier.base" not in {m.slot for m in active_models(cfg)}
    trained = replace(cfg, train_verifier=replace(cfg.train_verifier, kind="llm"))
    assert "train_verifier.base" in {m.slot for m in active_models(trained)}


def judges_of(cfg: RunConfig) -> set[str]:
    return {m.slot for m in active_models(cfg) if m.slot.startswith("judges.")}


def test_what_generates_is_looked_for_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("vllm", "ray") else found(name))

    def problems(*sets: str) -> str:
        return "\n".join(preconditions(load_config(CONFIGS / "tiny.toml", sets)))

    assert "vllm" not in problems() and "ray" not in problems() and "server" not in problems()
    assert "synthesize.engine: vllm is not installed" in problems('synthesize.engine={type="vllm"}')
    assert "ray is not installed" in problems("machine.launcher=ray", "machine.workers=2")
    served = """synthesize.engine={type="server", command=["no-such-server", "{model}", "{port}"]}"""
    assert "no-such-server" in problems(served)
    unused = """judges.dataman={model="hf:a/b", engine={type="vllm"}}"""
    assert "vllm" not in problems(unused), "a judge that is not used needs nothing"
    assert "judges.dataman.engine: vllm is not installed" in problems(unused, "judges.quality=dataman")
