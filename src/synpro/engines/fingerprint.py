"""The fingerprint of a model behind a server: what the server says its model is, and one canary answer.

It is stored once per step and compared whenever the step opens the server again, so that a step carried on after a kill does
not mix the answers of two models. `created` of `/v1/models` says nothing (vLLM and llama.cpp give the time of the request), and
not every server gives `root`. So the weights themselves are asked: a fixed prompt, completed greedily, with the
log-probabilities of the most likely tokens at each position. Other weights give others; the same weights give the same but for
rounding. A fine-tune of a few small steps cannot be told from rounding in 16 bits (docs/LOG.md has the numbers). A server
without log-probabilities is known by the text of the answer, which is less sensitive.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synpro.engines.openai_answers import Fault, printable
from synpro.runner.artifacts import write_json

PROMPT = "Continue in any way you like: the first thing I noticed about the old harbour was"
"""Open, so that many words are likely and small changes of the weights show."""
ASK = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "logprobs": True, "top_logprobs": 5}


@dataclass(frozen=True)
class ServerFingerprint:
    """What is compared."""

    model: str
    root: str
    """Path of the weights as the server gives it; empty where it gives none."""
    text: str
    """The answer to the canary."""
    positions: tuple[tuple[tuple[str, float], ...], ...]
    """(token, log-probability) of the most likely tokens at each position of the answer; empty where the server gives none."""

    @classmethod
    def from_answer(
        cls, card: dict[str, Any], choice: dict[str, Any], positions: Sequence[Sequence[tuple[str, float]]]
    ) -> ServerFingerprint:
        """From an entry of `/v1/models` and the answer to the canary. Raises Fault for an answer with nothing in it."""
        text = (choice.get("message") or {}).get("content") or ""
        if not text and not any(positions):
            raise Fault("answered the canary with an empty text and no log-probabilities", retry=True)
        tops = tuple(tuple((printable(token), logprob) for token, logprob in p) for p in positions if p)
        return cls(str(card["id"]), printable(str(card.get("root") or "")), printable(text), tops)


def find_model(models: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry of a model in an answer of `/v1/models`. Raises LookupError with the names that are there."""
    data = models.get("data")
    cards = [card for card in (data if isinstance(data, list) else []) if isinstance(card, dict) and "id" in card]
    for card in cards:
        if card["id"] == name:
            return card
    raise LookupError(f"does not have this model; it has {', '.join(repr(card['id']) for card in cards) or 'none'}")


def load_or_store(file: Path | None, found: ServerFingerprint) -> ServerFingerprint:
    """The fingerprint that is stored in `file`; `found`, after storing it, when there is none yet."""
    if file is None:
        return found
    if file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        positions = tuple(tuple((token, float(logprob)) for token, logprob in p) for p in stored["positions"])
        return ServerFingerprint(stored["model"], stored["root"], stored["text"], positions)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(found))
    return found


def difference(known: ServerFingerprint, found: ServerFingerprint, tolerance: float) -> str:
    """What is different, for people; empty when nothing is. `tolerance` is in nats per token."""
    text_only = bool(known.positions) != bool(found.positions) or not known.positions
    for name in ("model", "root", "text") if text_only else ("model", "root"):
        if getattr(known, name) != getattr(found, name):
            return f"{name} {getattr(known, name)!r} -> {getattr(found, name)!r}"
    if text_only:
        return ""
    gaps: list[float] = []
    for a, b in zip(known.positions, found.positions, strict=False):
        before, after = dict(a), dict(b)
        # A token that fell out of the list is at most as likely as the last one in it.
        gaps += [abs(logprob - after.get(token, min(after.values()))) for token, logprob in before.items()]
        gaps += [abs(logprob - min(before.values())) for token, logprob in after.items() if token not in before]
        if max(before, key=before.__getitem__) != max(after, key=after.__getitem__):
            break  # from here on they read different texts
    mean = sum(gaps) / len(gaps)
    return f"its canary's log-probabilities differ by {mean:.2g} nats on average" if mean > tolerance else ""
