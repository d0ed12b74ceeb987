"""A model behind an OpenAI-compatible chat server: vLLM, llama.cpp, TGI, SGLang and their like.

    model = ServerModel("http://127.0.0.1:8000/v1", "Qwen/Qwen3-4B", slot="judges.layout_model")

Every answer comes from the server or the call raises ServerError, which names the server; nothing is made up. What may pass
(a refused or lost connection, a time-out, HTTP 408, 429 and 5xx, an answer that is empty, not JSON, or NaN) is tried again a
bounded number of times; what will not (any other HTTP status, a model the server does not have) stops at once.

A server that was started again may hold other weights under the same name. No answer is believed before the server has
vouched for the connection it came over: on opening, and whenever a connection is opened or lost, it is asked who it is
(identity.py), and an identity other than the first one stops the call. With `memory`, a folder of the step, the first identity
outlives the process, so that a step carried on after a kill is judged by the weights it began with.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from synpro.engines.base import EngineError, Sampling
from synpro.engines.choice import check_options, shares
from synpro.engines.identity import Identity, canary_of, difference, listed, recall
from synpro.records import Chat, Completion

T = TypeVar("T")
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may be gone at the next try."""


@dataclass(frozen=True)
class ServerConfig:
    """How servers are asked."""

    connect_seconds: float = 10.0
    """For a connection to be made."""
    answer_seconds: float = 120.0
    """For an answer to begin to arrive; a server that takes longer counts as hanging."""
    tries: int = 4
    """Of one request, the first included."""
    pause_seconds: float = 1.0
    """Before the second try; twice as long before each further one."""
    lists: bool = True
    """Whether `/models` is to name the model; false for a server that lists something else (`transformers serve` lists the
    hub's cache). Who it is then only the canary tells."""
    in_flight: int = 16
    """Requests under way at once, per server."""
    seeds: bool = True
    """Send a seed with every request that samples. false for a server that refuses them (vLLM on a CPU)."""
    top: int = 20
    """Most likely first tokens to ask for when choosing. OpenAI and vLLM give up to 20, TGI 5."""
    template: dict[str, bool] = field(default_factory=lambda: {"enable_thinking": False})
    """Sent as `chat_template_kwargs`: Qwen3 answers without thinking aloud. Empty for a server that refuses the field."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key, where it asks for one; the key itself stands in no file."""
    tolerance: float = 0.1
    """Nats by which the log-probabilities of the canary may differ, on average, and still be the same weights: a GPU rounds
    differently beside other requests."""

    def __post_init__(self) -> None:
        for name in ("connect_seconds", "answer_seconds", "pause_seconds", "tolerance"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is not a positive number")
        for name, most in (("tries", 20), ("in_flight", 1024), ("top", 100)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; use 1 to {most}")


class ServerError(EngineError):
    """A server that failed; the message names its address, the model, what happened, how many tries, and the remedy."""


class _Fault(Exception):
    """One try that failed."""

    def __init__(self, problem: str, *, passing: bool, lost: bool = False, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem, self.passing, self.lost, self.remedy = problem, passing, lost, remedy


class ServerModel:
    """A model behind a server, as an Engine and a Chooser. Safe to call from several threads at once."""

    waits = True

    def __init__(
        self,
        address: str,
        model: str,
        *,
        slot: str,
        cfg: ServerConfig | None = None,
        memory: Path | None = None,
        silence: bool = False,
        progress: Callable[[float, float], None] | None = None,
    ) -> None:
        """Connects, checks that the server has the model, and remembers its identity. `slot` is the config key it fills;
        `silence`: an empty text is an answer too (a generator's may be, a judge's not); `progress(done, total)` is told of
        completions.

        Raises ServerError, also when `memory` holds another identity.
        """
        import httpx

        self.address, self.model, self.slot, self.cfg = address.rstrip("/"), model, slot, cfg or ServerConfig()
        self._silence, self._progress = silence, progress
        local = httpx.URL(self.address).host in ("127.0.0.1", "localhost", "::1")
        key = os.environ.get(self.cfg.key_variable)
        options: dict[str, Any] = {
            "timeout": httpx.Timeout(self.cfg.answer_seconds, connect=self.cfg.connect_seconds, pool=None),
            "limits": httpx.Limits(max_connections=self.cfg.in_flight, max_keepalive_connections=self.cfg.in_flight),
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "trust_env": not local,  # a proxy of the environment does not know this machine
        }
        self._client, self._checker = httpx.Client(**options), httpx.Client(**options)
        self._pool = ThreadPoolExecutor(self.cfg.in_flight, thread_name_prefix="synpro-server")
        self._lock, self._vouching = threading.Lock(), threading.Lock()
        self._opened, self._vouched = 1, 0  # connections of `_client` opened or lost so far, and when the server last vouched
        self._memory = memory / f"{slot}.json" if memory is not None else None
        self._identity: Identity | None = None
        try:
            self._vouch()
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> Identity:
        """Of the model, as the server first gave it."""
        assert self._identity is not None
        return self._identity

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py; completions are asked for one by one, each with a seed of its own. Raises ServerError."""
        bodies = [self._body(chat, sampling, index) for chat in chats for index in range(sampling.n)]
        done = self._all(lambda answer: _completion(answer, self._silence), bodies, self._progress)
        return [done[i * sampling.n : (i + 1) * sampling.n] for i in range(len(chats))]

    def choose(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float]]:
        """As in engines/base.py, from the `top` most likely first tokens: an option that is not among them gets 0. Raises
        ServerError, also when none of the options is among them."""
        check_options(options)
        # Temperature 1 and no cut: some servers report probabilities after sampling settings. What is sampled is not looked at.
        ask = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 1, "logprobs": True, "top_logprobs": self.cfg.top}
        return self._all(lambda answer: _choice(answer, options), [self._request(chat, ask) for chat in chats])

    def count(self, text: str) -> int:
        """Tokens of a text, estimated: the tokenizer is at the server. See `estimate`."""
        return estimate(text)

    def close(self) -> None:
        """Drop the connections. Safe to call twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._checker.close()

    def _request(self, chat: Chat, ask: dict[str, Any]) -> dict[str, Any]:
        template = {"chat_template_kwargs": self.cfg.template} if self.cfg.template else {}
        return {"model": self.model, "messages": list(chat), **ask, **template}

    def _body(self, chat: Chat, sampling: Sampling, index: int) -> dict[str, Any]:
        greedy = sampling.temperature == 0
        ask: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
        }
        if self.cfg.seeds and not greedy:
            # By chat and completion, so that a text does not depend on the chats beside it.
            key = json.dumps([sampling.seed, index, list(chat)], sort_keys=True).encode()
            ask["seed"] = int.from_bytes(sha256(key).digest()[:4], "big") >> 1
        return self._request(chat, ask)

    def _all(
        self,
        read: Callable[[dict[str, Any]], T],
        bodies: Sequence[dict[str, Any]],
        progress: Callable[[float, float], None] | None = None,
    ) -> list[T]:
        """One answer per body, in order; the first failure stops the rest."""
        stop = threading.Event()
        if self._client.is_closed:
            raise ValueError("the engine is closed")
        futures = [self._pool.submit(self._ask, read, body, stop) for body in bodies]
        try:
            waiting = None if progress is None else 1.0
            while True:
                done, left = wait(futures, timeout=waiting, return_when=FIRST_EXCEPTION)
                if progress is not None:
                    progress(len(done), len(futures))
                if not left or any(future.exception() for future in done):
                    break
            failed = [problem for future in futures if future in done and (problem := future.exception()) is not None]
            if failed:
                raise failed[0]
            return [future.result() for future in futures]
        finally:
            stop.set()
            for future in futures:
                future.cancel()

    def _ask(self, read: Callable[[dict[str, Any]], T], body: dict[str, Any], stop: threading.Event) -> T:
        def once() -> T:
            answer = read(self._send(self._client, "POST", "/chat/completions", body))
            self._vouch()
            return answer

        return self._tried(once, stop)

    def _tried(self, once: Callable[[], T], stop: threading.Event | None = None) -> T:
        """What `once` returns, tried a bounded number of times. Raises ServerError."""
        stop = stop or threading.Event()
        for number in range(1, self.cfg.tries + 1):
            try:
                return once()
            except _Fault as problem:
                fault = problem
            if fault.lost:
                with self._lock:
                    self._opened += 1
            if not fault.passing or number == self.cfg.tries or stop.wait(self.cfg.pause_seconds * 2 ** (number - 1)):
                break
        tried = f", after {number} {'try' if number == 1 else 'tries'}"
        remedy = (
            fault.remedy or "Start it again with the same weights, then run the same command: nothing was made up meanwhile"
        )
        raise ServerError(f"{self._name()} {fault.problem}{tried}. {remedy}.")

    def _name(self) -> str:
        return f"{self.slot}: the server {self.address} (model {self.model!r})"

    def _vouch(self) -> None:
        """Make sure that the server is the one it was, unless that is known of every connection so far.

        Every failed answer counts as a connection too: between the client and the server may stand a proxy, whose own
        connection outlives the server.
        """
        with self._vouching:  # the first of several threads asks for all
            with self._lock:
                opened = self._opened
            if self._vouched == opened:
                return
            found = self._tried(self._ask_identity)
            known = self._identity or recall(self._memory, found)
            changed = difference(known, found, self.cfg.tolerance)
            if changed:
                where = (
                    f", or give up what this step has done so far: rm -r {self._memory.parent.parent}" if self._memory else ""
                )
                raise ServerError(
                    f"{self._name()} now answers with other weights than before: {changed}. Start it with the weights it had, "
                    f"then run the same command{where}."
                )
            self._identity, self._vouched = known, opened

    def _ask_identity(self) -> Identity:
        try:
            card = {"id": self.model}
            if self.cfg.lists:
                card = listed(self._send(self._checker, "GET", "/models"), self.model)
        except LookupError as problem:
            raise _Fault(str(problem), passing=False, remedy="Correct the name after #, or start the server with it") from None
        body = self._request(({"role": "user", "content": canary_of("prompt")},), canary_of("ask"))
        try:
            answer = self._send(self._checker, "POST", "/chat/completions", body)
        except _Fault as fault:
            if fault.passing or "logprob" not in fault.problem:
                raise
            for name in ("logprobs", "top_logprobs"):  # a server that gives none: its text alone is the canary
                body.pop(name)
            answer = self._send(self._checker, "POST", "/chat/completions", body)
        try:
            return Identity.read(card, _message(answer), _positions(answer))
        except ValueError as problem:
            raise _Fault(str(problem), passing=True) from None

    def _send(self, client: Any, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request, one JSON object. Raises _Fault."""
        import httpx

        def trace(event: str, info: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.complete" and client is self._client:
                with self._lock:
                    self._opened += 1

        try:
            answer = client.request(method, self.address + path, json=body, extensions={"trace": trace})
        except httpx.ConnectTimeout:
            problem = f"could not be reached within {self.cfg.connect_seconds:g} s (connect_seconds)"
            raise _Fault(problem, passing=True, lost=True) from None
        except httpx.TimeoutException:
            problem = f"did not answer within {self.cfg.answer_seconds:g} s (answer_seconds)"
            raise _Fault(problem, passing=True, lost=True) from None
        except httpx.ConnectError as error:
            raise _Fault(f"refused the connection ({error})", passing=True, lost=True) from None
        except httpx.TransportError as error:
            raise _Fault(f"dropped the connection ({error})", passing=True, lost=True) from None
        if answer.status_code != 200:
            passing, said = answer.status_code in PASSING, " ".join(answer.text.split())[:300]
            remedy = "" if passing else "Correct what it names in the config or on the server, then run the same command"
            problem = f"answered HTTP {answer.status_code}" + (f" ({said})" if said else "")
            raise _Fault(problem, passing=passing, lost=passing, remedy=remedy)
        try:
            value = json.loads(answer.content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            said = " ".join(answer.text.split())[:100]
            raise _Fault(f"answered something that is not a JSON object ({said!r})", passing=True, lost=True)
        return value


def estimate(text: str) -> int:
    """Tokens of a text, roughly as byte-pair tokenizers of today's models count them, on the safe side: on 353 cuts of 7,000
    characters of Wikipedia 12% more than SmolLM2's tokenizer on average, and less for one in twenty (down to 14% less)."""
    pieces = re.findall(r"\d|[^\W\d_]+|[^\w\s]|_|\n+", text)
    return sum(1 if len(piece) == 1 else -(-len(piece.encode("utf-8", "replace")) // 6) for piece in pieces)


def _message(answer: dict[str, Any]) -> dict[str, Any]:
    """The first choice. Raises _Fault."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _Fault("answered without a choice in it", passing=True)
    return choices[0]


def _completion(answer: dict[str, Any], silence: bool) -> Completion:
    choice = _message(answer)
    text = (choice.get("message") or {}).get("content")
    finish, tokens = choice.get("finish_reason"), (answer.get("usage") or {}).get("completion_tokens")
    if text is None and silence:
        text = ""
    if not isinstance(text, str) or not (text.strip() or silence):
        raise _Fault(f"answered with an empty text (finish_reason {finish!r})", passing=True)
    if finish not in ("stop", "length") or not isinstance(tokens, int):
        problem = f"answered with finish_reason {finish!r} and {tokens!r} completion tokens"
        raise _Fault(problem, passing=True, remedy="Use a server that gives both as OpenAI's does")
    return Completion(text, tokens, finish)


def _positions(answer: dict[str, Any]) -> list[list[tuple[str, float]]]:
    """(token, log-probability) of the most likely tokens at each place of the answer. Raises _Fault for what is no number."""
    content = (_message(answer).get("logprobs") or {}).get("content") or []
    out = []
    for place in content:
        tops = []
        for top in place.get("top_logprobs") or []:
            token, logprob = top.get("token"), top.get("logprob")
            if not isinstance(token, str) or not isinstance(logprob, (int, float)) or not logprob <= 1e-3:
                raise _Fault(f"gave {logprob} as the log-probability of {token!r}", passing=True)
            tops.append((token, float(logprob)))
        out.append(tops)
    return out


def _choice(answer: dict[str, Any], options: Sequence[str]) -> list[float]:
    places = _positions(answer)
    if not places or not places[0]:
        remedy = "Start it with log-probabilities (vLLM: --max-logprobs 20), or lower `top`"
        raise _Fault("gave no log-probabilities", passing=False, remedy=remedy)
    share = shares(places[0], options)
    if share is None:
        first = ", ".join(repr(token) for token, _ in places[0][:5])
        problem = f"would begin its answer with none of {', '.join(options)}, rather with {first}"
        raise _Fault(problem, passing=False, remedy="Use a model that follows instructions, or raise `top`")
    return share
