"""Typed building of config dataclasses: what fits is built, what does not is named."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import pytest

from synpro.schema import SchemaError, SchemaErrors, Tagged, build, setting


@dataclass(frozen=True)
class Inner:
    size: int = 3
    kind: Literal["train", "file"] = "train"
    limit: float | None = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: {self.size} is below 1; use at least 1")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    rows: tuple[Inner, ...] = ()
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    flag: bool = False


def test_nested_values_are_built_and_whole_numbers_serve_as_numbers():
    built = build(Outer, {"name": "x", "inner": {"limit": 2}, "rows": [{"size": 4}], "weights": {"a": {"b": 1}}})
    assert built == Outer("x", Inner(limit=2.0), (Inner(4),), {"a": {"b": 1.0}})
    assert isinstance(built.inner.limit, float)


def test_none_is_written_as_a_word():
    assert build(Outer, {"name": "x", "inner": {"limit": "none"}}).inner.limit is None


@pytest.mark.parametrize(
    ("table", "key", "problem"),
    [
        ({"name": "x", "iner": {}}, "iner", "did you mean 'inner'"),
        ({"name": "x", "inner": {"sise": 1}}, "inner.sise", "did you mean 'size'"),
        ({}, "name", "missing"),
        ({"name": 3}, "name", "should be a text in quotes, is 3"),
        ({"name": "x", "inner": {"size": 1.5}}, "inner.size", "should be a whole number"),
        ({"name": "x", "inner": {"size": True}}, "inner.size", "should be a whole number"),
        ({"name": "x", "flag": 1}, "flag", "true or false"),
        ({"name": "x", "inner": {"kind": "trian"}}, "inner.kind", "did you mean 'train'"),
        ({"name": "x", "inner": {"size": 0}}, "inner.size", "0 is below 1; use at least 1"),
        ({"name": "x", "rows": {"size": 0}}, "rows", "should be a list, is {'size': 0}; write [[rows]] above the keys of each"),
        ({"name": "x", "rows": "a"}, "rows", "should be a list, is 'a'; write [[rows]] above the keys of each"),
        ({"name": "x", "rows": [{"size": 0}]}, "rows.0.size", "below 1"),
        ({"name": "x", "inner": 3}, "inner", "should be a table with keys size, kind, limit"),
        ({"name": "x", "weights": {"a": {"b": "much"}}}, "weights.a.b", "should be a number"),
    ],
)
def test_what_does_not_fit_is_named(table, key, problem):
    with pytest.raises(SchemaError) as caught:
        build(Outer, table)
    assert caught.value.key == key and problem in caught.value.problem


@dataclass(frozen=True)
class Fast:
    type: Literal["fast"] = "fast"
    speed: float = setting(1.0, above=0, unit="tokens/second", execution=True)


@dataclass(frozen=True)
class Slow:
    type: Literal["slow"] = "slow"
    patience: int = setting(3, min=1, max=9)


@dataclass(frozen=True)
class Chooser:
    RENAMED: ClassVar[Mapping[str, str]] = {"motor": "engine", "steps": "operations.NAME.steps", "eps": ""}

    engine: Annotated[Fast | Slow, Tagged({"fast": Fast, "slow": Slow})] = Fast()
    shares: tuple[float, ...] = setting((0.5,), min=0, below=1)
    named: dict[str, Annotated[Fast | Slow, Tagged(lambda: {"fast": Fast})]] = field(default_factory=dict)


def test_a_tagged_table_is_built_by_its_type():
    built = build(Chooser, {"engine": {"type": "slow", "patience": 4}, "named": {"a": {"type": "fast"}}})
    assert built.engine == Slow(patience=4) and built.named == {"a": Fast()}


@pytest.mark.parametrize(
    ("table", "key", "problem"),
    [
        ({"engine": "vllm:x"}, "engine", "should be a table whose key 'type' is one of 'fast', 'slow', is 'vllm:x'"),
        ({"engine": {"patience": 4}}, "engine.type", "missing; one of 'fast', 'slow' is needed"),
        ({"engine": {"type": "slo"}}, "engine.type", "did you mean 'slow'"),
        ({"engine": {"type": "slow", "patience": 0}}, "engine.patience", "0 is out of range; give at least 1 and at most 9"),
        ({"engine": {"type": "fast", "speed": 0}}, "engine.speed", "give above 0"),
        ({"named": {"a": {"type": "slow"}}}, "named.a.type", "'slow' is not one of 'fast'"),
        ({"shares": [0.5, 1]}, "shares.1", "1.0 is out of range; give at least 0 and below 1"),
        ({"motor": {}}, "motor", "is called 'engine' now"),
        ({"steps": 4}, "steps", "is now operations.NAME.steps"),
        ({"eps": 4}, "eps", "is gone; remove it"),
    ],
)
def test_tags_ranges_and_old_names(table, key, problem):
    with pytest.raises(SchemaError) as caught:
        build(Chooser, table)
    assert caught.value.key == key and problem in caught.value.problem


def test_all_errors_are_told_at_once():
    with pytest.raises(SchemaErrors) as caught:
        build(Outer, {"inner": {"sise": 1, "kind": "x"}, "rows": [{"size": 0}, {"limit": "a"}], "flag": 3})
    assert [e.key for e in caught.value.errors] == ["name", "inner.sise", "inner.kind", "rows.0.size", "rows.1.limit", "flag"]
    assert len(str(caught.value).splitlines()) == 6
