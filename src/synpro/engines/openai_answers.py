"""Reading what an OpenAI-compatible server answers: a completion, or the log-probabilities of first tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from synpro.engines.base import Role
from synpro.engines.chats import complete
from synpro.engines.options import option_probs
from synpro.records import Completion

T = TypeVar("T")
MAX_TOKENS = 2**31
"""More than any answer has; a larger number fits no file."""


class Fault(Exception):
    """One attempt that failed; `alone`: because of this request, others may be answered. `garbled`: what came is no answer of
    this API, which says nothing about other requests either, unless no request gets one."""

    def __init__(self, problem: str, *, retry: bool, remedy: str = "", alone: bool = False, garbled: bool = False) -> None:
        super().__init__(problem)
        self.problem = printable(problem)
        self.retry, self.remedy, self.alone, self.garbled = retry, remedy, alone or garbled, garbled


def printable(text: str) -> str:
    """A server's words, which may hold half a surrogate pair, as text that can be written to a file."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_reply(read: Callable[..., T], *parts: Any) -> T:
    """`read(*parts)` of what a server said, which may be anything. Raises Fault and nothing else."""
    try:
        return read(*parts)
    except Fault:
        raise
    except Exception as problem:
        what = f"{type(problem).__name__}: {problem}"[:200]
        raise Fault(f"answered in another form than OpenAI's ({what})", retry=True, garbled=True) from problem


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    """The first choice of an answer. Raises Fault."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Fault("answered without a choice in it", retry=True, alone=True)
    return choices[0]


def read_completion(answer: dict[str, Any], role: Role) -> Completion:
    choice = first_choice(answer)
    message = choice.get("message") or {}
    text = message.get("content")
    finish, tokens = choice.get("finish_reason"), (answer.get("usage") or {}).get("completion_tokens")
    if not text and (message.get("reasoning_content") or message.get("reasoning")):  # where a server's reasoning parser puts it
        remedy = (
            "Turn the model's thinking off (engine.chat_template_kwargs = {enable_thinking = false}), raise max_new_tokens, or "
            "start the server without its reasoning parser"
        )
        problem = f"gave its thoughts and no answer (finish_reason {finish!r})"
        raise Fault(problem, retry=False, remedy=remedy, alone=True)
    if not isinstance(text, str) or not (text.strip() or role == "generator"):
        what = "an empty text" if text == "" else f"content {json.dumps(text)[:200]}"
        raise Fault(f"answered with {what} (finish_reason {finish!r})", retry=True, alone=True)
    if finish not in ("stop", "length") or type(tokens) is not int or not 0 <= tokens < MAX_TOKENS:
        problem = f"answered with finish_reason {finish!r} and {tokens!r} completion tokens"
        raise Fault(problem, retry=True, remedy="Use a server that gives both as OpenAI's does", alone=True)
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        half = text[problem.start : problem.start + 1]
        raise Fault(f"answered with {half!r}, which is half a character and fits no file", retry=True, alone=True) from None
    return complete(text, tokens, finish)


def read_positions(answer: dict[str, Any]) -> list[list[tuple[str, float]]]:
    """(token, log-probability) of the most likely tokens at each position of an answer. Raises Fault for what is no number."""
    content = (first_choice(answer).get("logprobs") or {}).get("content") or []
    out = []
    for position in content:
        tops = []
        for top in position.get("top_logprobs") or []:
            token, logprob = top.get("token"), top.get("logprob")
            if not isinstance(token, str) or type(logprob) not in (int, float) or not logprob <= 1e-3:
                raise Fault(f"gave {logprob} as the log-probability of {token!r}", retry=True, alone=True)
            tops.append((token, float(logprob)))
        out.append(tops)
    return out


def read_options(answer: dict[str, Any], options: Sequence[str]) -> list[float]:
    positions = read_positions(answer)
    if not positions or not positions[0]:
        remedy = "Start it with log-probabilities (vLLM: --max-logprobs 20), or lower `engine.top_logprobs`"
        raise Fault("gave no log-probabilities", retry=False, remedy=remedy, alone=True)
    probs = option_probs(positions[0], options)
    if probs is None:
        first = ", ".join(repr(token) for token, _ in positions[0][:5])
        problem = f"would begin its answer with none of {', '.join(options)}, but with {first}"
        remedy = "Use a model that follows instructions, or raise `engine.top_logprobs`"
        raise Fault(problem, retry=False, remedy=remedy, alone=True)
    return probs
