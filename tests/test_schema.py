"""Typed building of config dataclasses: what fits is built, what does not is named."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from synpro.schema import SchemaError, build


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
        ({"name": "x", "rows": {"size": 0}}, "rows", "should be a list"),
        ({"name": "x", "rows": [{"size": 0}]}, "rows.0.size", "below 1"),
        ({"name": "x", "inner": 3}, "inner", "should be a table with keys size, kind, limit"),
        ({"name": "x", "weights": {"a": {"b": "much"}}}, "weights.a.b", "should be a number"),
    ],
)
def test_what_does_not_fit_is_named(table, key, problem):
    with pytest.raises(SchemaError) as caught:
        build(Outer, table)
    assert caught.value.key == key and problem in caught.value.problem
