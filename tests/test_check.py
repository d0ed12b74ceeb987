"""`synpro check` and models behind servers: what it accepts, what it asks, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synpro.config import ConfigError, RunConfig, load
from synpro.session import check, preconditions, references, used
from tests.chat_server import Nursery, Server

CONFIGS = Path(__file__).parents[1] / "configs"
SERVER = "http://127.0.0.1:8000/v1#RuPeng/DataMan-1.5B-EN"


def judged(reference: str, file: Path, *more: str) -> RunConfig:
    """A config whose only reference to something far away is a judge."""
    sets = [
        f"prepare.sources=[{{path = '{file}'}}]",
        "prepare.tokenizer.source=train",
        f"train_generator.base={file}",
        f"judges.encoder={file}",
        "judges.quality=dataman",
        f"judges.dataman={reference}",
        "judges.server.tries=1",
        *more,
    ]
    return load(CONFIGS / "tiny.toml", sets)


def test_a_judge_behind_a_server_is_a_config_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = judged(SERVER, tmp_path)
    check(cfg, fetch=False)
    assert "config: fits" in capsys.readouterr().out
    assert references(used(cfg)) == [("judges.dataman", SERVER)]


def test_a_reference_without_a_model_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set judges\.dataman: 'http://127\.0\.0\.1:8000/v1' names no model"):
        judged("http://127.0.0.1:8000/v1", tmp_path)
    with pytest.raises(ConfigError, match=r"--set judges\.server\.tries: 0 is out of range"):
        judged(SERVER, tmp_path, "judges.server.tries=0")


def test_with_assets_it_asks_the_server(
    nursery: Nursery, qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(nursery, qwen) as server:
        check(judged(server.reference, tmp_path), fetch=True)
        assert f"server: judges.dataman = {server.reference}: answers" in capsys.readouterr().out
        server.kill()
        with pytest.raises(ConfigError, match=rf"judges\.dataman: the server http://127\.0\.0\.1:{server.port}/v1 .*refused"):
            check(judged(server.reference, tmp_path), fetch=True)


def test_only_the_models_of_the_judges_in_use_are_fetched() -> None:
    cfg = load(CONFIGS / "tiny.toml")
    assert {slot for slot, _ in references(used(cfg)) if slot.startswith("judges.")} == {"judges.encoder", "judges.fluency"}
    paper = replace(cfg, judges=load(CONFIGS / "400m.toml").judges)
    slots = {slot for slot, _ in references(used(paper)) if slot.startswith("judges.")}
    assert slots == {"judges.encoder", "judges.dataman", "judges.layout_model"}


def test_what_writes_is_looked_for_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("vllm", "ray") else there(name))

    def told(*sets: str) -> str:
        return "\n".join(preconditions(load(CONFIGS / "tiny.toml", sets)))

    assert "vllm" not in told() and "ray" not in told() and "serve" not in told()
    assert "vllm is not installed" in told("synthesize.engine=vllm")
    assert "ray is not installed" in told("machine.launcher=ray", "machine.workers=2")
    served = ["synthesize.engine=server", "synthesize.serve.command=['no-such-server', '{model}', '{port}']"]
    assert "synthesize.serve.command: there is no program 'no-such-server'" in told(*served)
