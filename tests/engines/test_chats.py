"""Prompts as chat templates write them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from synpro.engines.base import EngineError
from synpro.engines.chats import encode_chat
from synpro.records import Chat

CHAT: Chat = ({"role": "user", "content": "Is it so?"},)
ASKED = "<|im_start|>user\nIs it so?<|im_end|>\n<|im_start|>assistant\n"


def rendered(tokenizer: Any, before: str) -> str:
    """The prompt of a template with `before` in front of it."""
    own = deepcopy(tokenizer)
    own.chat_template = before + tokenizer.chat_template
    return str(own.decode(encode_chat(own, CHAT)))


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", ""),
        ("\n {% if true %}x{% endif %}\n", "\nx"),
        ("{{ strftime_now('%d %b %Y') }}. ", "01 Jan 2026. "),
        ("{{ 'On ' + strftime_now(\"%A, %-d %B %Y\") + '. ' }}", "On Thursday, 1 January 2026. "),
        ("{%- macro date() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}{{ date() }}", "2026-01-01"),
        ("{%- if strftime_now is defined %}{%- set today = strftime_now('%d %b %Y') %}{%- endif %}{{ today }}", "01 Jan 2026"),
        (
            "{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{{ date_string }}",
            "01 Jan 2026",
        ),
    ],
)
def test_a_template_that_prints_the_date_prints_the_same_every_day(tokenizer: Any, before: str, said: str) -> None:
    assert rendered(tokenizer, before) == said + ASKED


def test_a_template_that_refuses_a_chat_is_named(tokenizer: Any) -> None:
    with pytest.raises(EngineError, match="refuses the chat: no such role"):
        rendered(tokenizer, "{{ raise_exception('no such role') }}")
