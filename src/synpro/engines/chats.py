"""What every engine that tokenizes does with a chat before, and with an answer after: the prompt's ids, and the text alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from synpro.engines.base import EngineError
from synpro.records import Chat, Completion

TODAY = date(2026, 1, 1)
"""What a chat template that prints today's date is told, so that prompts are the same every day."""
_DIRECTIVES = [sign + letter for letter in "aAbBcdDeFgGhHIjklmMpPrRSTuUVwWxXyYzZ" for sign in ("%", "%-")]
_FROZEN_DATE = (
    "{% macro strftime_now(format) -%}{{ format"
    + "".join(f"|replace({directive!r}, {TODAY.strftime(directive)!r})" for directive in _DIRECTIVES)
    + " }}{%- endmacro %}\n"
)
"""Put before a template, it hides transformers' own `strftime_now`. A function among the template's arguments would not do:
transformers 5.23 turns it into text."""
THINKING = ("<think>", "</think>")


def encode_chat(tokenizer: Any, chat: Chat) -> list[int]:
    """The token ids of a chat up to where the answer begins. Raises EngineError for a tokenizer without a chat template, and
    for a template that refuses the chat."""
    if not tokenizer.chat_template:
        name = tokenizer.name_or_path
        raise EngineError(f"the tokenizer of {name!r} has no chat template; use an instruction-tuned model")
    try:
        text = render_chat(tokenizer, chat, add_generation_prompt=True)
    except Exception as problem:  # a template is a program of the model's makers
        raise EngineError(f"the chat template of {tokenizer.name_or_path!r} refuses the chat: {problem}") from problem
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def render_chat(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
    """A chat as its template writes it. Raises whatever a template, which is a program of the model's makers, raises."""
    # Qwen3 and its kin think aloud before they answer unless told not to; other templates do not know the word.
    text: str = tokenizer.apply_chat_template(
        list(turns),
        chat_template=_FROZEN_DATE + tokenizer.get_chat_template(),
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        enable_thinking=False,
        date_string=TODAY.strftime("%d %b %Y"),
    )
    return text


def refusal(prompt: list[int], context: int | None) -> str:
    """Why a prompt leaves no room for an answer; empty when it does."""
    if not prompt:
        return "the prompt is empty"
    if context is not None and len(prompt) >= context:
        return f"the prompt has {len(prompt)} tokens and the model reads at most {context}"
    return ""


def complete(text: str, tokens: int, finish: str) -> Completion:
    """A completion without what the model thought aloud before its answer."""
    begin, end = THINKING
    if text.lstrip().startswith(begin):
        _, closed, answer = text.partition(end)
        if not closed:
            return Completion.failed("the model thought aloud up to max_new_tokens and gave no answer; turn its thinking off")
        text = answer.lstrip()
    return Completion(text, tokens, finish)
