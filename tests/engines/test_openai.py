"""Models behind servers: a real one that is killed and started again, and one that fails in every way servers fail."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synpro.engines.base import Sampling, Unanswered
from synpro.engines.fingerprint import ServerFingerprint, difference
from synpro.engines.local import LocalModel
from synpro.engines.openai import OpenAIConfig, ServerError, ServerModel
from synpro.judges.layout_llm import prompt
from synpro.records import Chat, Completion
from tests.chat_server import NAME, Handler, Listener, Nursery, Server

URL = "http://127.0.0.1:9/v1"
CFG = OpenAIConfig(url=URL, answer_seconds=30, max_attempts=3, pause_seconds=0.02, max_concurrency=4, top_logprobs=100)
CHATS: list[Chat] = [prompt(f"Bees carry nectar {i} times.", "- A storm\n- A tower") for i in range(3)]
GREEDY = Sampling(0.0, 1.0, 12)


@pytest.fixture(scope="module")
def server(nursery: Nursery, qwen: Path) -> Iterator[Server]:
    with Server(nursery, qwen) as running:
        yield running


@pytest.fixture(scope="module")
def here(qwen: Path) -> LocalModel:
    return LocalModel.load(str(qwen), "float32", slot="judge")


def there(server: Server, **more: Any) -> ServerModel:
    return ServerModel(server.url, NAME, slot="judges.dataman", cfg=CFG, **more)


def test_a_server_answers_as_the_same_model_in_process(server: Server, here: LocalModel) -> None:
    model = there(server)
    assert model.generate(CHATS, GREEDY) == here.generate(CHATS, GREEDY)
    for ours, theirs in zip(here.score_options(CHATS, ("Yes", "No")), model.score_options(CHATS, ("Yes", "No")), strict=True):
        assert sum(theirs) == pytest.approx(1) and theirs == pytest.approx(ours, abs=1e-3)  # it shows 100 tokens of 900
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.generate(CHATS, GREEDY)


def test_a_sampled_text_depends_on_its_chat_and_seed_alone(server: Server) -> None:
    model = there(server)
    wild = Sampling(3.0, 1.0, 12, n=2, seed=5)
    texts = model.generate(CHATS, wild)
    assert model.generate(CHATS[::-1], wild) == texts[::-1] and len({c.text for group in texts for c in group}) > 3
    assert model.generate(CHATS[:1], replace(wild, seed=6)) != texts[:1]
    model.close()


def test_killed_and_started_again_with_the_same_weights_it_goes_on(server: Server, tmp_path: Path) -> None:
    model = there(server, scratch=tmp_path)
    first = model.generate(CHATS, GREEDY)
    server.kill()
    with pytest.raises(
        ServerError, match=rf"judges.dataman: the server http://127.0.0.1:{server.port}/v1 .*refused.*3 attempts"
    ):
        model.generate(CHATS, GREEDY)
    server.start()
    assert model.generate(CHATS, GREEDY) == first
    model.close()


def test_killed_in_the_middle_of_a_call_and_started_again_it_loses_nothing(server: Server, here: LocalModel) -> None:
    model = ServerModel(server.url, NAME, slot="judge", cfg=replace(CFG, max_attempts=8, pause_seconds=0.1))
    server.kill()
    again = threading.Timer(0.3, server.start)
    again.start()
    assert model.generate(CHATS, GREEDY) == here.generate(CHATS, GREEDY)
    again.join()
    model.close()


def test_started_again_with_other_weights_it_is_refused(server: Server, other_qwen: Path, tmp_path: Path) -> None:
    model = there(server, scratch=tmp_path / "scratch")
    model.generate(CHATS[:1], GREEDY)
    server.kill()
    server.start(other_qwen)
    try:
        with pytest.raises(ServerError, match=r"now answers with other weights than before: .* nats on average"):
            model.generate(CHATS, GREEDY)
        with pytest.raises(ServerError, match="other weights"):
            model.score_options(CHATS, ("Yes", "No"))
        model.close()
        # A step that carries on in another process remembers; one that begins does not.
        with pytest.raises(ServerError, match=rf"other weights.*rm -r {tmp_path}\."):
            there(server, scratch=tmp_path / "scratch")
        there(server, scratch=tmp_path / "new").close()
    finally:
        server.kill()
        server.start()
    there(server, scratch=tmp_path / "scratch").close()


class Failing:
    """Answers the canary, fails the first `times` requests, and answers the rest."""

    def __init__(self, fault: str, times: float) -> None:
        self.fault, self.left, self.asked = fault, times, 0
        self.now = self.most = 0
        self.over = threading.Event()

    def answer(self, ask: dict[str, Any]) -> Any:
        message, top = {"content": "fine"}, [{"token": "Yes", "logprob": -0.5}, {"token": " No", "logprob": -1.0}]
        if ask["max_tokens"] != 8:
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
            time.sleep(0.02)
            self.now -= 1
            if self.left > 0:
                self.left -= 1
                if self.fault == "hang":
                    self.over.wait(20)
                if self.fault in FAULTS:
                    return FAULTS[self.fault]
                message = TEXTS.get(self.fault, message)
                top = [{"token": "Yes", "logprob": float("nan")}] if self.fault == "NaN" else top
                top = [{"token": "Perhaps", "logprob": -0.1}] if self.fault == "unsure" else top
        choice = {"message": message, "finish_reason": "stop", "logprobs": {"content": [{"top_logprobs": top}]}}
        return {"choices": [choice], "usage": {"completion_tokens": 2}}


FAULTS: dict[str, Any] = {
    "hang": None,
    "drop": None,
    "500": (500, b'{"error": "out of memory"}'),
    "html": (200, b"<html>not json</html>"),
    "nothing": (200, b'{"choices": []}'),
    "400": (400, b'{"error": "chat is too long"}'),
    "401": (401, b"no such key"),
}
TEXTS: dict[str, Any] = {
    "empty": {"content": ""},
    "null": {"content": None},
    "thoughts": {"content": None, "reasoning_content": "Let me think"},
}


@contextmanager
def failing(fault: str, times: float) -> Iterator[tuple[Failing, ServerModel]]:
    model = Failing(fault, times)
    listener = Listener(("127.0.0.1", 0), type("Bound", (Handler,), {"model": model}))
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{listener.server_port}/v1"
    cfg = replace(CFG, answer_seconds=0.6 if fault == "hang" else 30)
    try:
        with closing(ServerModel(address, NAME, slot="judges.layout_model", cfg=cfg)) as engine:
            yield model, engine
    finally:
        model.over.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("fault", "said", "attempts"),
    [
        ("hang", r"did not answer within 0\.6 s \(answer_seconds\), after 3 attempts", 3),
        ("drop", r"dropped the connection .*, after 3 attempts", 3),
        ("html", r"not a JSON object \('<html>not json</html>'\), after 3 attempts", 3),
        ("401", r"HTTP 401 \(no such key\), after 1 attempt", 1),
    ],
)
def test_what_fails_stops_with_an_error_that_names_the_server(fault: str, said: str, attempts: int) -> None:
    with failing(fault, float("inf")) as (model, engine):
        with pytest.raises(ServerError, match=said) as error:
            _ask(engine, fault)
        assert f"judges.layout_model: the server {engine.address} (model '{NAME}')" in str(error.value)
        assert model.asked == attempts


@pytest.mark.parametrize(
    ("fault", "said", "attempts"),
    [
        ("500", r'HTTP 500 \(\{"error": "out of memory"\}\), after 3 attempts', 3),
        ("400", r'HTTP 400 \(\{"error": "chat is too long"\}\), after 1 attempt', 1),
        ("nothing", r"without a choice in it, after 3 attempts", 3),
        ("empty", r"with an empty text .*, after 3 attempts", 3),
        ("null", r"with content null .*, after 3 attempts", 3),
        ("thoughts", r"its thoughts and no answer .*after 1 attempt.*enable_thinking = false", 1),
        ("NaN", r"gave nan as the log-probability of 'Yes', after 3 attempts", 3),
        ("unsure", r"none of Yes, No, but with 'Perhaps', after 1 attempt", 1),
    ],
)
def test_what_fails_for_one_chat_leaves_it_without_an_answer(fault: str, said: str, attempts: int) -> None:
    with failing(fault, attempts) as (model, engine):
        (first,) = _ask(engine, fault)
        reason = first.reason if isinstance(first, Unanswered) else first[0].problem
        assert re.search(said, reason) and model.asked == attempts
        (second,) = _ask(engine, fault)
        assert not isinstance(second, Unanswered) and (not isinstance(second[0], Completion) or second[0].text == "fine")


def answered(message: Any = None, usage: Any = None, logprobs: Any = None) -> dict[str, Any]:
    choice = {"message": message or {"content": "fine"}, "finish_reason": "stop", "logprobs": logprobs}
    return {"choices": [choice], "usage": usage or {"completion_tokens": 2}}


UNREADABLE: dict[str, tuple[Any, str]] = {
    "html": ((200, b"<html>bad gateway</html>"), "not a JSON object"),
    "array": ((200, b"[1]"), "not a JSON object"),
    "not UTF-8": ((200, b'{"choices": "\xff\xfe"}'), "not a JSON object"),
    "deep": ((200, b'{"choices":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "not a JSON object"),
    "digits": ((200, b'{"usage": ' + b"9" * 5000 + b"}"), "not a JSON object"),
    "gzip": ((200, b"no gzip at all", {"Content-Encoding": "gzip"}), "bytes that cannot be unpacked"),
    "cut": ((200, json.dumps(answered()).encode(), {"Content-Length": "9999"}), "dropped the connection"),
    "redirect": ((302, b"", {"Location": "/v1/elsewhere"}), "HTTP 302"),
    "nothing": ((204, b""), "HTTP 204"),
    "message is text": (answered(message="text"), "another form than OpenAI's"),
    "message is a list": (answered(message=[1]), "another form than OpenAI's"),
    "usage is a list": (answered(usage=[5]), "another form than OpenAI's"),
    "usage is text": (answered(usage="5"), "another form than OpenAI's"),
    "tokens are true": (answered(usage={"completion_tokens": True}), "True completion tokens"),
    "tokens below 0": (answered(usage={"completion_tokens": -5}), "-5 completion tokens"),
    "tokens beyond counting": (answered(usage={"completion_tokens": 10**30}), "completion tokens"),
    "half a character": (answered(message={"content": "good \ud800 end"}), r"with '\ud800', which is half a character"),
    "logprobs are a list": (answered(logprobs=[1]), "another form than OpenAI's"),
    "logprobs are text": (answered(logprobs="x"), "another form than OpenAI's"),
    "positions are text": (answered(logprobs={"content": "abc"}), "another form than OpenAI's"),
    "a position is text": (answered(logprobs={"content": ["abc"]}), "another form than OpenAI's"),
    "tops are a table": (answered(logprobs={"content": [{"top_logprobs": {"A": -1}}]}), "another form than OpenAI's"),
    "a top is text": (answered(logprobs={"content": [{"top_logprobs": ["A"]}]}), "another form than OpenAI's"),
    "true for a number": (
        answered(logprobs={"content": [{"top_logprobs": [{"token": "Yes", "logprob": False}]}]}),
        "gave False as the log-probability",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_reply_that_cannot_be_read_costs_one_chat_its_answer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    reply, said = UNREADABLE[name]
    monkeypatch.setitem(FAULTS, "unreadable", reply)
    scored = "log" in name or "position" in name or "top" in name or "number" in name
    with failing("", 0) as (model, engine):
        assert engine.generate(CHATS[:1], GREEDY)[0][0].text == "fine"
        model.fault, model.left = "unreadable", float("inf")
        (lost,) = engine.score_options(CHATS[:1], ("Yes", "No")) if scored else engine.generate(CHATS[:1], GREEDY)
        reason = lost.reason if isinstance(lost, Unanswered) else lost[0].problem  # type: ignore[union-attr]
        assert said in reason and reason.encode()
        model.left = 0
        assert engine.generate(CHATS[:1], GREEDY)[0][0].text == "fine"


@pytest.mark.parametrize("name", ["html", "gzip", "cut", "redirect", "message is text"])
def test_a_server_of_which_nothing_can_be_read_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    reply, said = UNREADABLE[name]
    monkeypatch.setitem(FAULTS, "unreadable", reply)
    with failing("unreadable", float("inf")) as (_, engine), pytest.raises(ServerError, match=said) as error:
        engine.generate(CHATS[:1], GREEDY)
    assert "judges.layout_model: the server http://127.0.0.1" in str(error.value)


def test_a_canary_that_cannot_be_read_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("message is text", "logprobs are a list", "tops are a table"):
        monkeypatch.setattr(Failing, "answer", lambda self, ask, reply=UNREADABLE[name][0]: reply)
        with pytest.raises(ServerError, match="another form than OpenAI's"), failing("", 0):
            pass


def test_a_canary_with_half_a_character_is_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    top = [{"token": "\ud800", "logprob": -0.5}]
    reply = answered(message={"content": "\ud800"}, logprobs={"content": [{"top_logprobs": top}]})
    with failing("", 0) as (_, engine):
        monkeypatch.setattr(Failing, "answer", lambda self, ask: reply)
        for _ in range(2):
            ServerModel(engine.address, NAME, slot="judge", cfg=CFG, scratch=tmp_path).close()


@pytest.mark.parametrize("fault", ["hang", "drop", "500", "html", "nothing", "empty", "NaN"])
def test_what_passes_is_tried_again(fault: str) -> None:
    with failing(fault, 2) as (model, engine):
        share = _ask(engine, fault)
        assert model.asked == 3
        assert share == [[pytest.approx(0.622459, abs=1e-5), pytest.approx(0.377541, abs=1e-5)]] or fault == "empty"


def _ask(engine: ServerModel, fault: str) -> Any:
    return engine.generate(CHATS[:1], GREEDY) if fault in TEXTS else engine.score_options(CHATS[:1], ("Yes", "No"))


def test_concurrent_requests_are_bounded_and_a_server_that_refuses_all_is_at_fault() -> None:
    with failing("", 0) as (model, engine):
        assert len(engine.generate(CHATS * 4, GREEDY)) == 12
        assert 2 <= model.most <= CFG.max_concurrency
    with failing("400", float("inf")) as (model, engine):
        with pytest.raises(ServerError, match="400"):
            engine.generate(CHATS * 10, GREEDY)
        assert model.asked < 30


def test_a_server_that_is_not_there_or_lacks_the_model(server: Server) -> None:
    with pytest.raises(ServerError, match=r"refused the connection .*, after 3 attempts\. Start it again"):
        ServerModel(URL, NAME, slot="judge", cfg=CFG)
    with pytest.raises(ServerError, match=rf"does not have this model; it has '{NAME}'.*Correct judge\.engine\.model"):
        replace(CFG, url=server.url).open("hf:other", slot="judge")
    replace(CFG, url=server.url, model=NAME).open("hf:other", slot="judge").close()


def test_the_same_weights_but_for_rounding_are_the_same() -> None:
    positions = ((("a", -0.5), ("b", -1.5)), (("c", -0.1), ("d", -3.0)))
    known = ServerFingerprint("m", "/x", "ac", positions)
    rounded = tuple(tuple((token, logprob + 0.03) for token, logprob in place) for place in positions)
    assert difference(known, replace(known, positions=rounded), 0.1) == ""
    assert "nats" in difference(known, replace(known, positions=((("b", -0.5), ("a", -1.5)),)), 0.1)
    blind = replace(known, positions=())
    assert "text" in difference(blind, replace(blind, text="other"), 0.1) and difference(blind, blind, 0.1) == ""
    assert "root" in difference(known, replace(known, root="/y"), 0.1)


def test_the_key_is_in_no_file_and_goes_with_every_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    seen = []

    class Asked(Handler):
        model = Failing("", 0)

        def do_POST(self) -> None:
            seen.append(self.headers["Authorization"])
            super().do_POST()

    listener = Listener(("127.0.0.1", 0), Asked)
    threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
    engine = ServerModel(f"http://127.0.0.1:{listener.server_port}/v1", NAME, slot="judge", cfg=CFG, scratch=tmp_path)
    engine.generate(CHATS[:1], GREEDY)
    engine.close()
    listener.shutdown()
    listener.server_close()
    assert len(seen) > 1 and set(seen) == {"Bearer secret"}
    kept = (tmp_path / "judge.json").read_text()
    assert "secret" not in kept and json.loads(kept)["model"] == NAME
