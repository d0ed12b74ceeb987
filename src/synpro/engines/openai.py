"""`type = "openai"`: a model behind an OpenAI-compatible server that runs already (vLLM, llama.cpp, TGI, SGLang).

    model = ServerModel("http://127.0.0.1:8000/v1", "Qwen/Qwen3-4B", slot="judges.layout_model")

Every answer comes from the server; nothing is made up. What may pass (a refused or lost connection, a time-out, HTTP 408, 429
and 5xx, an answer that is empty, not JSON, or NaN) is tried again a bounded number of times. What then still fails is either
the server (no connection, no model): the call raises ServerError, which names it; or this chat alone (HTTP 400, 413, 422, 500,
an empty or unreadable answer): it has no answer and the others go on, unless the first chats are all refused.

A server that was started again may hold other weights under the same name. Its fingerprint (fingerprint.py) is taken when it is
opened and compared after every call: no answer is used before. With `scratch`, a folder of the step, the fingerprint outlives
the process, so that a step carried on after a kill gets its answers from the weights it began with.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from synpro.engines.base import EngineError, EngineSpec, Model, Progress, Role, Sampling, Unanswered, Use
from synpro.engines.fingerprint import ASK, PROMPT, ServerFingerprint, difference, find_model, load_or_store
from synpro.engines.openai_answers import Fault, first_choice, read_completion, read_options, read_positions, read_reply
from synpro.engines.options import check_options
from synpro.records import Chat, Completion, Generator
from synpro.schema import setting

T = TypeVar("T")
CANARY: Chat = ({"role": "user", "content": PROMPT},)
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may be gone at the next attempt."""
CHAT_STATUSES = frozenset({400, 413, 422, 500})
"""HTTP statuses that speak of one request, where others are answered."""
TOLERANCE = 0.1
"""By how many nats per token the log-probabilities of the canary may differ, on average, and still be the same weights: a GPU
rounds differently beside other requests."""
CONNECT_SECONDS = 10.0
"""For a connection to be made."""
FIRST_REFUSED = 10
"""Chats without an answer after which a server that has answered none is at fault."""


@dataclass(frozen=True, kw_only=True)
class RequestConfig(EngineSpec):
    """How a server is asked; what `type = "openai"` and `type = "server"` share."""

    answer_seconds: float = setting(120.0, above=0, unit="seconds", execution=True)
    """For an answer to begin to arrive; a server that takes longer counts as hanging."""
    max_attempts: int = setting(4, min=1, max=20, execution=True)
    """Attempts per request, the first included."""
    pause_seconds: float = setting(1.0, above=0, unit="seconds", execution=True)
    """Before the second attempt; twice as long before each further one."""
    check_model_list: bool = setting(True, execution=True)
    """Whether `/models` has to name the model; false for a server that lists something else (`transformers serve` lists the
    hub's cache). Then only the canary tells which weights it has."""
    max_concurrency: int = setting(16, min=1, max=1024, unit="requests", execution=True)
    """Requests under way at once, per server."""
    send_seed: bool = setting(True)
    """Send a seed with every request that samples; false for a server that refuses them (vLLM on a CPU)."""
    top_logprobs: int = setting(20, min=1, max=100, unit="tokens")
    """Most likely first tokens to ask for when options are scored. OpenAI and vLLM give up to 20, TGI 5."""
    chat_template_kwargs: dict[str, bool] = setting(default_factory=lambda: {"enable_thinking": False})
    """Sent with every request: Qwen3 answers without thinking aloud. Empty for a server that refuses the field."""
    api_key_env: str = setting("OPENAI_API_KEY", execution=True)
    """Environment variable that holds the server's key, where it asks for one; the key itself is stored in no file."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **{"lists": "check_model_list", "seeds": "send_seed", "top": "top_logprobs", "template": "chat_template_kwargs"},
        **{"key_variable": "api_key_env", "tries": "max_attempts", "in_flight": "max_concurrency"},
        **dict.fromkeys(("connect_seconds", "tolerance", "fingerprint_tolerance"), ""),
    }


@dataclass(frozen=True, kw_only=True)
class OpenAIConfig(RequestConfig):
    """A server that runs already. SynPro neither starts nor ends it."""

    type: Literal["openai"] = "openai"
    url: str = setting(execution=True)
    """Base URL of its API, `http://HOST:PORT/v1`; in RL the address of a `trl vllm-serve`, `http://HOST:PORT`."""
    model: str = setting("")
    """What the server calls the model; empty = the model's reference without `hf:`."""

    reads_weights: ClassVar[bool] = False
    follows_training: ClassVar[bool] = True

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username or parts.password or parts.query:
            raise ValueError(f"url: {parts.hostname!r} comes with a key or a query; put the key into ${self.api_key_env}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: {self.url!r} is no address; write http://HOST:PORT/v1")
        if parts.fragment:
            raise ValueError(f'url: {self.url!r} ends with a model; write model = "{parts.fragment}" beside url')

    def open_model(self, model: Generator | str, use: Use) -> Model:
        """Raises EngineError for a generator that RL has trained: the server lacks its weights."""
        if isinstance(model, Generator):
            if model.adapter or model.weights:
                raise EngineError(
                    f"{use.slot}.engine: the server at {self.url} does not have the weights of the trained {model.operation} "
                    f'generator; use {use.slot}.engine.type = "server", which starts one on them, or train with steps = 0'
                )
            model = model.base
        name = self.model or model.removeprefix("hf:")
        return ServerModel(self.url, name, cfg=self, **vars(use))


class ServerError(EngineError):
    """A server that failed; the message names its address, the model, what happened, how many attempts, and the remedy."""


class ServerModel:
    """A model behind a server. Safe to call from several threads at once."""

    is_remote = True

    def __init__(
        self,
        address: str,
        model: str,
        *,
        slot: str,
        cfg: RequestConfig | None = None,
        role: Role = "judge",
        scratch: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Connect, check that the server has the model, and compare its fingerprint with the one the step has stored. `slot` is
        the table of the config that names the model. Raises ServerError."""
        import httpx

        self.cfg: RequestConfig = cfg or OpenAIConfig(url=address)
        self.address, self.model, self.slot = address.rstrip("/"), model, slot
        self._role, self._progress, self._samples = role, progress, role == "judge"
        local = httpx.URL(self.address).host in ("127.0.0.1", "localhost", "::1")
        key, most = os.environ.get(self.cfg.api_key_env), self.cfg.max_concurrency
        self._client = httpx.Client(
            timeout=httpx.Timeout(self.cfg.answer_seconds, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=not local,  # a proxy of the environment does not know this machine
        )
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="synpro-server")
        self._answered = self._refused = 0
        self._garbled: Fault | None = None
        self._store = scratch / f"{slot}.json" if scratch is not None else None
        self.fingerprint: ServerFingerprint | None = None
        try:
            self._check_fingerprint()
        except BaseException:
            ServerModel.close(self)
            raise

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py; completions are asked for one by one, each with a seed of its own. Raises ServerError, and
        EngineError for a generator's server that does not sample."""
        if chats and sampling.temperature > 0 and not self._samples:
            self._check_sampling(sampling)
        done = self._generate(chats, sampling, self._progress)
        return [done[i * sampling.n : (i + 1) * sampling.n] for i in range(len(chats))]

    def score_options(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float] | Unanswered]:
        """As in engines/base.py, from the `top_logprobs` most likely first tokens: an option that is not among them gets 0, a
        chat where none is has no answer. Raises ServerError."""
        check_options(options)
        # Temperature 1 and no cut: some servers report probabilities after sampling settings. What is sampled is not looked at.
        ask = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 1, "logprobs": True, "top_logprobs": self.cfg.top_logprobs}
        return self._all(lambda answer: read_options(answer, options), [self._request(chat, ask) for chat in chats])

    def count(self, text: str) -> int:
        """Number of tokens of a text, estimated: the tokenizer is at the server. See `estimate`."""
        return estimate(text)

    def close(self) -> None:
        """Drop the connections. Safe to call twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _request(self, chat: Chat, ask: dict[str, Any]) -> dict[str, Any]:
        kwargs = self.cfg.chat_template_kwargs
        template = {"chat_template_kwargs": kwargs} if kwargs else {}
        return {"model": self.model, "messages": list(chat), **ask, **template}

    def _body(self, chat: Chat, sampling: Sampling, index: int) -> dict[str, Any]:
        greedy = sampling.temperature == 0
        ask: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
        }
        if self.cfg.send_seed and not greedy:
            # By chat and completion, so that a text does not depend on the chats beside it.
            key = json.dumps([sampling.seed, index, list(chat)], sort_keys=True).encode()
            ask["seed"] = int.from_bytes(sha256(key).digest()[:4], "big") >> 1
        return self._request(chat, ask)

    def _generate(self, chats: Sequence[Chat], sampling: Sampling, progress: Progress | None = None) -> list[Completion]:
        bodies = [self._body(chat, sampling, index) for chat in chats for index in range(sampling.n)]
        answers = self._all(lambda answer: read_completion(answer, self._role), bodies, progress)
        return [Completion.failed(a.reason) if isinstance(a, Unanswered) else a for a in answers]

    def _check_sampling(self, sampling: Sampling) -> None:
        """A server may read temperature and seed and ignore them; then every passage gets its greedy text."""
        hot = replace(
            sampling, n=1, temperature=max(1.5, sampling.temperature), max_new_tokens=min(48, sampling.max_new_tokens)
        )
        texts = {self._generate([CANARY], replace(hot, seed=seed))[0].text for seed in (1, 2, 3)}
        if len(texts) == 1:
            raise EngineError(
                f"{self.slot}.engine: the server generates the same text with three seeds at temperature {hot.temperature}, so "
                f"it does not sample: {texts.pop()[:80]!r}. Look for an option of it that turns sampling on, or use another one"
            )
        self._samples = True

    def _all(
        self, read: Callable[[dict[str, Any]], T], bodies: Sequence[dict[str, Any]], progress: Progress | None = None
    ) -> list[T | Unanswered]:
        """One answer per body, in order; the first failure of the server stops the rest."""
        if self._client.is_closed:
            raise ValueError("the engine is closed")
        stop = threading.Event()
        futures = [self._pool.submit(self._ask, read, body, stop) for body in bodies]
        try:
            while True:
                done, left = wait(futures, timeout=None if progress is None else 1.0, return_when=FIRST_EXCEPTION)
                if progress is not None:
                    progress(len(done), len(futures))
                if not left or any(future.exception() for future in done):
                    break
            failed = [problem for future in futures if future in done and (problem := future.exception()) is not None]
            if failed:
                raise failed[0]
            if self._garbled is not None and not self._answered:
                raise self._error(self._garbled)
            answers = [future.result() for future in futures]
        finally:
            stop.set()
            for future in futures:
                future.cancel()
        self._check_fingerprint()
        return answers

    def _ask(self, read: Callable[[dict[str, Any]], T], body: dict[str, Any], stop: threading.Event) -> T | Unanswered:
        """The answer to one request. Raises ServerError."""
        try:
            answer = self._retry(lambda: read_reply(read, self._send("POST", "/chat/completions", body)), stop)
        except Fault as fault:
            self._refused += 1
            self._garbled = fault if fault.garbled else self._garbled
            if not fault.alone or (self._refused >= FIRST_REFUSED and not self._answered):
                raise self._error(fault) from None
            return Unanswered(f"the server {fault.problem}" + (f". {fault.remedy}" if fault.remedy else ""))
        self._answered += 1
        return answer

    def _retry(self, attempt: Callable[[], T], stop: threading.Event | None = None) -> T:
        """What `attempt` returns, tried a bounded number of times. Raises the last Fault."""
        stop = stop or threading.Event()
        for number in range(1, self.cfg.max_attempts + 1):
            try:
                return attempt()
            except Fault as problem:
                fault = problem
            last = number == self.cfg.max_attempts
            if not fault.retry or last or stop.wait(self.cfg.pause_seconds * 2 ** (number - 1)):
                break
        fault.problem += f", after {number} attempt{'' if number == 1 else 's'}"
        raise fault

    def _error(self, fault: Fault) -> ServerError:
        remedy = (
            fault.remedy or "Start it again with the same weights, then run the same command: nothing was made up meanwhile"
        )
        return ServerError(f"{self._name()} {fault.problem}. {remedy}.")

    def _name(self) -> str:
        return f"{self.slot}: the server {self.address} (model {self.model!r})"

    def _check_fingerprint(self) -> None:
        """Raises ServerError for a server whose weights are not those that this step began with."""
        try:
            found = self._retry(self._take_fingerprint)
        except Fault as fault:
            raise self._error(fault) from None
        self.fingerprint = known = self.fingerprint or load_or_store(self._store, found)
        changed = difference(known, found, TOLERANCE)
        if changed:
            where = f", or give up what this step has done so far: rm -r {self._store.parent.parent}" if self._store else ""
            raise ServerError(
                f"{self._name()} now answers with other weights than before: {changed}. Start it with the weights it had, "
                f"then run the same command{where}."
            )

    def _take_fingerprint(self) -> ServerFingerprint:
        try:
            card = {"id": self.model}
            if self.cfg.check_model_list:
                card = find_model(self._send("GET", "/models"), self.model)
        except LookupError as problem:
            remedy = f"Correct {self.slot}.engine.model, or start the server with it"
            raise Fault(str(problem), retry=False, remedy=remedy) from None
        body = self._request(CANARY, dict(ASK))
        try:
            answer = self._send("POST", "/chat/completions", body)
        except Fault as fault:
            if fault.retry or "logprob" not in fault.problem:
                raise
            for name in ("logprobs", "top_logprobs"):  # a server that gives none: its text alone is the canary
                body.pop(name)
            answer = self._send("POST", "/chat/completions", body)
        return read_reply(lambda: ServerFingerprint.from_answer(card, first_choice(answer), read_positions(answer)))

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request, one JSON object. Raises Fault."""
        import httpx

        try:
            answer = self._client.request(method, self.address + path, json=body)
        except httpx.ConnectTimeout:
            problem = f"could not be reached within {CONNECT_SECONDS:g} s"
            raise Fault(problem, retry=True) from None
        except httpx.TimeoutException:
            raise Fault(f"did not answer within {self.cfg.answer_seconds:g} s (answer_seconds)", retry=True) from None
        except httpx.ConnectError as error:
            raise Fault(f"refused the connection ({error})", retry=True) from None
        except httpx.DecodingError as error:
            raise Fault(f"answered with bytes that cannot be unpacked ({error})", retry=True, garbled=True) from None
        except httpx.TransportError as error:
            # An answer cut short may be this chat's; a server that is gone refuses the next connection.
            cut = isinstance(error, httpx.RemoteProtocolError)
            raise Fault(f"dropped the connection ({error})", retry=True, garbled=cut) from None
        if answer.status_code != 200:
            retry, said = answer.status_code in RETRIED, " ".join(answer.text.split())[:300]
            remedy = "" if retry else "Correct what it names in the config or on the server, then run the same command"
            problem = f"answered HTTP {answer.status_code}" + (f" ({said})" if said else "")
            alone, garbled = answer.status_code in CHAT_STATUSES, answer.status_code < 400
            raise Fault(problem, retry=retry, remedy=remedy, alone=alone, garbled=garbled)
        try:
            value = json.loads(answer.content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            said = " ".join(answer.text.split())[:100]
            raise Fault(f"answered something that is not a JSON object ({said!r})", retry=True, garbled=True)
        return value


def estimate(text: str) -> int:
    """Number of tokens of a text, roughly as byte-pair tokenizers of today's models count them, on the safe side: on 353 cuts
    of 7,000 characters of Wikipedia 12% more than SmolLM2's tokenizer on average, less for one in twenty (down to 14% less)."""
    pieces = re.findall(r"\d|[^\W\d_]+|[^\w\s]|_|\n+", text)
    return sum(1 if len(piece) == 1 else -(-len(piece.encode("utf-8", "replace")) // 6) for piece in pieces)
