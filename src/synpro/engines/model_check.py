"""What keeps a model folder from being used in its place, from its config, its tokenizer and the headers of its weights. In
about a second; no weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from synpro.assets.cache import first_line
from synpro.assets.models import load_causal_lm, load_encoder
from synpro.assets.tokenizer_loss import SAMPLES, lost_share
from synpro.assets.weights import DamagedModel, json_object, read_shapes, unknown_modules
from synpro.engines.base import EngineError
from synpro.engines.chats import encode_chat, render_chat
from synpro.records import Chat

MAX_LOST = 0.01
"""Most of an English sentence that a tokenizer of a language model may lose."""
ANSWER = "Quite so."


def weight_problems(
    folder: Path, lora_modules: Iterable[str] = (), *, load: Callable[..., Any] = load_causal_lm, exact: bool = False
) -> list[str]:
    """What is wrong with the weights, or with the names of the matrices that LoRA is to change. `load` and `exact`: how they
    will be opened (`assets/models.py`)."""
    try:
        shapes = read_shapes(folder)
    except (ValueError, KeyError, OSError) as problem:
        return [f"its weights cannot be used: {first_line(problem)}"]
    options = {"exact": True} if exact else {}
    try:
        load(folder, device_map="meta", local_files_only=True, **options)
    except DamagedModel as problem:
        return [str(problem).removeprefix(f"{folder}: ")]
    except Exception:  # packed weights, which another engine may open; else the step says what is wrong
        pass
    return [
        f"train_generator.lora_modules: {name!r} is no matrix of it; it has {', '.join(near)}"
        for name, near in unknown_modules(shapes, lora_modules).items()
    ]


def language_model_problems(
    folder: Path,
    chats: Sequence[Chat] = (),
    max_new_tokens: int = 1,
    lora_modules: Iterable[str] = (),
    *,
    exact: bool = False,
) -> list[str]:
    """What keeps a folder from being opened as a model that generates. `chats` are what it will be asked: its tokenizer needs a
    chat template, one that ends turns with a token at which generation stops, and the chats have to fit. `exact`: no layer of
    its files may be left over."""
    config = _config(folder)
    if isinstance(config, str):
        return [config]
    named = config.get("architectures") or []
    kinds = [named] if isinstance(named, str) else list(named)
    if kinds and not any(k.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for k in kinds):
        return [f"is a {kinds[0]}, which does not generate text; name a causal language model"]
    problems = weight_problems(folder, lora_modules, exact=exact)
    tokenizer = _tokenizer(folder, config)
    if isinstance(tokenizer, str):
        return [*problems, tokenizer]
    lost = lost_share(
        [SAMPLES["English"]], lambda text: tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    )
    if lost > MAX_LOST:
        problems.append(f"its tokenizer loses {lost:.0%} of the characters of an English sentence; use its own tokenizer")
    if chats:
        problems += _chat_problems(folder, config, tokenizer, chats, max_new_tokens)
    return problems


def encoder_problems(folder: Path, layer: int | None) -> list[str]:
    """What keeps a folder from being opened as the encoder that compares texts, at `layer`."""
    config = _config(folder)
    if isinstance(config, str):
        return [config]
    problems = weight_problems(folder, load=load_encoder)
    layers = config.get("num_hidden_layers")
    if layer is not None and isinstance(layers, int) and layer > layers:
        problems.append(f"has {layers} layers; set judges.encoder.layer to at most {layers}, not {layer}")
    tokenizer = _tokenizer(folder, config)
    if isinstance(tokenizer, str):
        return [*problems, tokenizer]
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:  # as judges/encoder.py
        problems.append("its tokenizer has no [CLS] and [SEP] tokens; name a bidirectional encoder of BERT's kind")
    return problems


def _chat_problems(
    folder: Path, config: dict[str, Any], tokenizer: Any, chats: Sequence[Chat], max_new_tokens: int
) -> list[str]:
    try:
        longest = max(len(encode_chat(tokenizer, chat)) for chat in chats)
    except EngineError as problem:
        return [str(problem)]
    problems = []
    context = config.get("max_position_embeddings")
    if isinstance(context, int) and longest + max_new_tokens > context:
        problems.append(
            f"reads {context:,} tokens, and the largest English passage makes a prompt of {longest:,}, with "
            f"max_new_tokens = {max_new_tokens:,} after it; lower prepare.passages.max_characters or max_words, or "
            "operations.NAME.max_new_tokens"
        )
    if turn := _turn_problem(folder, config, tokenizer):
        problems.append(turn)
    return problems


def _turn_problem(folder: Path, config: dict[str, Any], tokenizer: Any) -> str:
    """A template that ends a turn with a token at which generation does not stop makes every answer run to the limit; one that
    leaves it to the model to begin its turn puts the words of that beginning into every text."""
    turns = [{"role": "user", "content": "Is it so?"}, {"role": "assistant", "content": ANSWER}]
    try:
        bare, prompt = (render_chat(tokenizer, turns[:1], add_generation_prompt=begins) for begins in (False, True))
        text = render_chat(tokenizer, turns, add_generation_prompt=False)
    except Exception as problem:  # a template is a program of the model's makers
        return f"its chat template refuses a question and its answer ({first_line(problem)})"
    before, _, rest = (part.strip() for part in text.rpartition(ANSWER))
    # Templates of Mistral's kind begin an answer with nothing, so that there is nothing to add to a prompt.
    if bare == prompt and before.startswith(prompt.strip()) and (header := before[len(prompt.strip()) :].strip()):
        return (
            f"its chat template begins an answer with {header!r} and ignores add_generation_prompt, so that every answer would "
            "begin with this; end its chat_template with {% if add_generation_prompt %} and this text"
        )
    generation = folder / "generation_config.json"
    configured = (json_object(generation) if generation.is_file() else config).get("eos_token_id")
    declared = configured if isinstance(configured, list) else [configured]
    known = max(len(tokenizer), int(config.get("vocab_size") or 0))
    if strange := [end for end in declared if end is not None and not (isinstance(end, int) and 0 <= end < known)]:
        return f"it stops at eos_token_id = {strange[0]!r}, and its ids are 0 to {known - 1:,}; correct its {generation.name}"
    ends = {tokenizer.eos_token_id, *declared} - {None}
    if not rest:
        return "its chat template ends an answer with nothing, so generation cannot learn where to stop" if not ends else ""
    first = tokenizer(rest, add_special_tokens=False)["input_ids"][0]
    if first in ends:
        return ""
    stops = ", ".join(repr(tokenizer.convert_ids_to_tokens(i)) for i in sorted(ends)) or "no token"
    return (
        f"its chat template ends a turn with {tokenizer.convert_ids_to_tokens(first)!r}, and generation stops at {stops}; add "
        f"the id {first} to eos_token_id in its generation_config.json, or every answer runs to max_new_tokens"
    )


def _config(folder: Path) -> dict[str, Any] | str:
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        config = json_object(folder / "config.json")
    except (OSError, ValueError) as problem:
        return f"its config.json cannot be read ({first_line(problem)})"
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING and "auto_map" not in config:
        return f"its config.json has model_type = {kind!r}, which the installed transformers does not know; correct it"
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as problem:  # its checks raise what they like; a model with code of its own is another engine's to open
        if "auto_map" not in config:
            return f"its config.json is refused by transformers ({first_line(problem)}); correct it"
    inner = config.get("text_config")  # of models that also see
    return {**config, **inner} if isinstance(inner, dict) else config


def _tokenizer(folder: Path, config: dict[str, Any]) -> Any:
    """The tokenizer, or what is wrong with it."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as problem:  # readers of tokenizers raise whatever the damaged byte leads to
        return f"its tokenizer cannot be opened ({first_line(problem)})"
    ids = tokenizer(SAMPLES["English"], add_special_tokens=False)["input_ids"]
    if not ids:  # what transformers makes of a folder without one
        return "its tokenizer makes no tokens of a sentence: the folder lacks tokenizer.json, or what its kind has instead"
    rows = config.get("vocab_size")
    if isinstance(rows, int) and max(ids) >= rows:
        return f"its tokenizer makes the id {max(ids):,} of a sentence, and its config.json has vocab_size = {rows:,}"
    return tokenizer
