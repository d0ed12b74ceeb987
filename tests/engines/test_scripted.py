"""The scripted engine keeps the contract of engines."""

import pytest

from synpro.engines.base import Sampling
from synpro.engines.scripted import ScriptedEngine

CHATS = [({"role": "user", "content": "a"},), ({"role": "user", "content": "b"},)]


def test_answers_by_function_and_by_list() -> None:
    engine = ScriptedEngine(lambda chat, index: f"{chat[-1]['content']}{index}")
    groups = engine.generate(CHATS, Sampling(n=2))
    assert [[c.text for c in g] for g in groups] == [["a0", "a1"], ["b0", "b1"]]
    assert engine.asked == CHATS
    assert [g[0].text for g in ScriptedEngine(["x", "y"]).generate(CHATS, Sampling())] == ["x", "y"]


def test_cuts_at_the_limit() -> None:
    (group,) = ScriptedEngine(["one two three"]).generate(CHATS[:1], Sampling(max_new_tokens=2))
    assert (group[0].text, group[0].tokens, group[0].finish) == ("one two", 2, "length")


def test_never_invents_an_answer() -> None:
    with pytest.raises(ValueError, match="no answer left"):
        ScriptedEngine(["x"]).generate(CHATS, Sampling())
    engine = ScriptedEngine(["x"])
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.generate(CHATS, Sampling())
