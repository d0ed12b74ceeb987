"""What a person's rows, a model's answers and a judge's values may be, for hypothesis."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from synpro.rewards.base import FAILED

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ROW = st.dictionaries(st.sampled_from(["text", "id", "doc", "prompt", "answer", "request", "é\ud800"]), ANYTHING, max_size=4)
LINE = st.one_of(
    ROW.map(lambda row: json.dumps(row).encode()),
    ANYTHING.map(lambda value: json.dumps(value).encode()),
    st.binary(min_size=1, max_size=30).map(lambda raw: b"x" + raw.replace(b"\n", b"").replace(b"\r", b"")),
    st.just(b'{"text": "' + b"long " * 300 + b'"}'),
    st.just(b'{"text": ' + b"7" * 5000 + b"}"),
    st.just(b'{"text": "fine", "n": ' + b"7" * 5000 + b"}"),
    st.just(b"[" * 3000),
    st.just(b'{"text": "Rye grows here.", "prompt": "What grows?", "answer": "Rye."}'),
)
TEXT = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["", " ", "\0", "Rephrased:", "A", "Yes", "5\n" * 14, "null", '"""', "中" * 90, "<|im_end|>", "\u2028x"]),
    st.just("D\n" + "4\n" * 14),
).map(lambda text: text.encode("utf-8", "replace").decode())
VALUE = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.just(FAILED), st.just("raise"))
"""What a reward gives, or that it raises."""
