"""Who a model behind a server is: its name, where its weights lie, and what they answer to a canary.

`created` of `/v1/models` says nothing (vLLM and llama.cpp give the time of the request), and `root` not every server gives. So
the weights themselves are asked: a fixed prompt, answered greedily, and the log-probabilities of the most likely tokens at each
place. Other weights give others; the same weights give the same but for rounding. A fine-tune of a few small steps is not told
apart from rounding in 16 bits (docs/LOG.md has the numbers). A server without log-probabilities is known by the text of the
answer, which sees less.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synpro.run.child import write_json

PROMPT = "Continue in any way you like: the first thing I noticed about the old harbour was"
"""Open, so that many words are likely and small changes of the weights show."""
ASK = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "logprobs": True, "top_logprobs": 5}


@dataclass(frozen=True)
class Identity:
    """What is compared."""

    model: str
    root: str
    """Where the server says the weights lie; empty where it does not say."""
    text: str
    """The answer to the canary."""
    places: tuple[tuple[tuple[str, float], ...], ...]
    """(token, log-probability) of the most likely tokens at each place of the answer; empty where the server gives none."""

    @classmethod
    def read(cls, card: dict[str, Any], choice: dict[str, Any], places: Sequence[Sequence[tuple[str, float]]]) -> Identity:
        """Of an entry of `/v1/models` and the canary's answer. Raises ValueError for an answer with nothing in it."""
        text = (choice.get("message") or {}).get("content") or ""
        if not text and not any(places):
            raise ValueError("answered the canary with an empty text and no log-probabilities")
        return cls(str(card["id"]), str(card.get("root") or ""), text, tuple(tuple(place) for place in places if place))


def canary_of(part: str) -> Any:
    """`prompt` or `ask` of the canary; a copy, for the caller to change."""
    return {"prompt": PROMPT, "ask": dict(ASK)}[part]


def listed(models: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry of a model in an answer of `/v1/models`. Raises LookupError with the names there are."""
    cards = [card for card in models.get("data") or [] if isinstance(card, dict) and "id" in card]
    for card in cards:
        if card["id"] == name:
            return card
    raise LookupError(f"does not have this model; it has {', '.join(repr(card['id']) for card in cards) or 'none'}")


def recall(file: Path | None, found: Identity) -> Identity:
    """The identity a step began with; at its first use `found`, which is written down."""
    if file is None:
        return found
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        places = tuple(tuple((token, float(logprob)) for token, logprob in place) for place in kept["places"])
        return Identity(kept["model"], kept["root"], kept["text"], places)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(found))
    return found


def difference(known: Identity, found: Identity, tolerance: float) -> str:
    """What is different, for people; empty when nothing is."""
    blind = bool(known.places) != bool(found.places) or not known.places
    for name in ("model", "root", "text") if blind else ("model", "root"):
        if getattr(known, name) != getattr(found, name):
            return f"{name} {getattr(known, name)!r} -> {getattr(found, name)!r}"
    if blind:
        return ""
    gaps: list[float] = []
    for a, b in zip(known.places, found.places, strict=False):
        before, after = dict(a), dict(b)
        # A token that fell out of the list is at most as likely as the last one in it.
        gaps += [abs(logprob - after.get(token, min(after.values()))) for token, logprob in before.items()]
        gaps += [abs(logprob - min(before.values())) for token, logprob in after.items() if token not in before]
        if max(before, key=before.__getitem__) != max(after, key=after.__getitem__):
            break  # from here on they read different texts
    mean = sum(gaps) / len(gaps)
    return f"its canary's log-probabilities differ by {mean:.2g} nats on average" if mean > tolerance else ""
