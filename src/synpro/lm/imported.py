"""Models that were not made here: a Hugging Face folder as a model of OLMo-core, and back in its own architecture.

OLMo-core's converter decides what can be imported: it names the tensors, and refuses those it does not know. The blocks are
built from the names and shapes it gives and from `config.json`, and the logits of both are compared, so a setting that is not
seen here is found, not trained on. Two texts of 64 tokens are compared, or one that is longer than a sliding window where that
has at most 1,024: what only works further back (a larger window) is not seen.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from olmo_core.nn.attention import AttentionBackendName, AttentionConfig, SlidingWindowAttentionConfig
from olmo_core.nn.feed_forward import ActivationFunction, FeedForwardConfig
from olmo_core.nn.hf import convert, convert_state_from_hf, convert_state_to_hf
from olmo_core.nn.layer_norm import LayerNormConfig, LayerNormType
from olmo_core.nn.lm_head import LMHeadConfig
from olmo_core.nn.rope import (
    PIRoPEScalingConfig,
    RoPEConfig,
    RoPEScalingConfig,
    StepwiseRoPEScalingConfig,
    YaRNRoPEScalingConfig,
)
from olmo_core.nn.transformer import TransformerBlockConfig, TransformerBlockType, TransformerConfig
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from synpro.assets.models import ImportRefused
from synpro.assets.weights import DamagedModel, json_object

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TOLERANCE = 1e-4
"""Largest difference of two logits, in float32, between a model and its import or export, as a share of the largest logit where
that is above 1."""
LARGEST_WINDOW = 1024
"""Tokens of the largest sliding window that is exercised when logits are compared."""
_ACTIVATIONS = {"silu": ActivationFunction.silu, "gelu_pytorch_tanh": ActivationFunction.gelu_tanh}


def importable() -> list[str]:
    """The model types that OLMo-core's converter names, and those of the OLMo family, as far as they can be built here."""
    named = {*convert.MODEL_TYPE_SPECIFIC_HF_TO_OLMO_CORE_WEIGHT_MAPPINGS, "olmo2", "olmo3"}
    return sorted(kind for kind in named if not _why_not(kind))


def _why_not(kind: str) -> str:
    try:
        hf = AutoConfig.for_model(kind)
        hf.num_hidden_layers = 2
        if getattr(hf, "layer_types", None):
            hf.layer_types = hf.layer_types[:2]
        _build_config(hf)
    except (ImportRefused, ValueError, AttributeError) as problem:
        return str(problem) or "?"
    return ""


def olmo_config(folder: Path, *, attention: str | None = None) -> TransformerConfig:
    """The model of a Hugging Face folder as OLMo-core's config. `attention` names an OLMo-core backend.

    Raises ImportRefused for a model that OLMo-core does not import.
    """
    hf = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    try:
        return _build_config(hf, attention)
    except ImportRefused as problem:
        raise ImportRefused(
            f"{folder}: a model of type {hf.model_type!r} cannot be trained on: {problem}. OLMo-core imports "
            f"{', '.join(importable())}; `train_generator.base` may be of any type"
        ) from None


def _build_config(hf: PretrainedConfig, attention: str | None = None) -> TransformerConfig:
    names, shapes = _converted_shapes(hf)
    config = _blocks(hf, names, shapes, attention)
    built = {name: tuple(p.shape) for name, p in config.build(init_device="meta").named_parameters()}
    if hf.tie_word_embeddings:
        shapes.pop("lm_head.w_out.weight", None)
    if differing := sorted(n for n in built.keys() | shapes.keys() if built.get(n) != shapes.get(n)):
        name = differing[0]
        raise ImportRefused(f"its {name} has shape {shapes.get(name)}, and OLMo-core's {built.get(name)}")
    return config


def _converted_shapes(hf: PretrainedConfig) -> tuple[set[str], dict[str, tuple[int, ...]]]:
    """The names of the model's own tensors, and the shape of each tensor under OLMo-core's name."""
    try:
        with torch.device("meta"):
            state = AutoModelForCausalLM.from_config(hf).state_dict()
        converted = convert_state_from_hf(hf, state, model_type=hf.model_type)
    except (RuntimeError, ValueError, KeyError, ImportError) as problem:
        raise ImportRefused(str(problem).splitlines()[0][:200]) from None
    return set(state), {name: tuple(t.shape) for name, t in converted.items()}


def _blocks(
    hf: PretrainedConfig, names: set[str], shapes: Mapping[str, tuple[int, ...]], attention: str | None
) -> TransformerConfig:
    """OLMo-core's config of what the tensors and `config.json` say; what neither says is found by comparing logits."""
    layer = "model.layers.0."
    before, after = (f"{layer}{name}.weight" in names for name in ("input_layernorm", "post_feedforward_layernorm"))
    if not (before or after) or "blocks.0.feed_forward.w1.weight" not in shapes:
        raise ImportRefused("it has no blocks of attention and a gated feed-forward, each with a norm")
    act = str(getattr(hf, "hidden_act", None) or getattr(hf, "hidden_activation", None))
    if (activation := _ACTIVATIONS.get(act)) is None:
        raise ImportRefused(f"its activation is {act!r}; OLMo-core has {', '.join(_ACTIVATIONS)}")
    heads, width = hf.num_attention_heads, hf.hidden_size
    head_dim = getattr(hf, "head_dim", None) or width // heads
    scale = getattr(hf, "query_pre_attn_scalar", None) or head_dim
    if scale != head_dim:
        raise ImportRefused(
            f"its query_pre_attn_scalar is {scale:g} and its heads are {head_dim} wide; OLMo-core scales by the width"
        )
    norm = LayerNormConfig(name=LayerNormType.rms, eps=hf.rms_norm_eps, bias=False)
    qk_norm = shapes.get("blocks.0.attention.q_norm.weight")

    def block(kind: str) -> TransformerBlockConfig:
        window = hf.sliding_window if kind == "sliding_attention" else None
        theta, scaling = _rope(hf, kind)
        return TransformerBlockConfig(
            name=TransformerBlockType("peri_norm" if before and after else "default" if before else "reordered_norm"),
            sequence_mixer=AttentionConfig(
                n_heads=heads,
                n_kv_heads=shapes["blocks.0.attention.w_k.weight"][0] // head_dim,
                head_dim=head_dim,
                bias=False,
                rope=RoPEConfig(theta=theta, scaling=scaling),
                qk_norm=norm if qk_norm else None,
                use_head_qk_norm=qk_norm == (head_dim,) if qk_norm else None,
                backend=None if attention is None else AttentionBackendName(attention),
                sliding_window=window
                and SlidingWindowAttentionConfig(
                    pattern=[window],
                    force_full_attention_on_first_layer=False,
                    force_full_attention_on_last_layer=False,
                ),
            ),
            feed_forward=FeedForwardConfig(hidden_size=hf.intermediate_size, bias=False, activation=activation),
            layer_norm=norm,
        )

    kinds = list(getattr(hf, "layer_types", None) or ["full_attention"] * hf.num_hidden_layers)
    several = len(set(kinds)) > 1
    return TransformerConfig(
        d_model=width,
        vocab_size=hf.vocab_size,
        n_layers=hf.num_hidden_layers,
        block={kind: block(kind) for kind in sorted(set(kinds))} if several else block(kinds[0]),
        block_pattern=kinds if several else None,
        lm_head=LMHeadConfig(layer_norm=norm, bias=False),
        embed_scale=math.sqrt(width) if hf.model_type.startswith("gemma") else None,
        tie_word_embeddings=hf.tie_word_embeddings,
    )


def _rope(hf: PretrainedConfig, kind: str) -> tuple[int, RoPEScalingConfig | None]:
    """Base and scaling of the rotary embedding in layers of a kind."""
    rope: dict[str, Any] = hf.rope_parameters
    rope = rope.get(kind, rope)
    theta, scaling = int(rope["rope_theta"]), rope.get("rope_type", "default")
    if scaling == "default" or (kind == "sliding_attention" and hf.model_type == "olmo3"):
        return theta, None
    if scaling == "linear":
        return theta, PIRoPEScalingConfig(factor=rope["factor"])
    if scaling == "llama3":
        return theta, StepwiseRoPEScalingConfig(
            factor=rope["factor"],
            low_freq_proportion=1 - 1 / rope["low_freq_factor"],
            high_freq_proportion=1 / rope["high_freq_factor"],
            old_context_len=rope["original_max_position_embeddings"],
        )
    if scaling == "yarn":
        return theta, YaRNRoPEScalingConfig(
            factor=rope["factor"],
            beta_fast=int(rope.get("beta_fast") or 32),
            beta_slow=int(rope.get("beta_slow") or 1),
            old_context_len=rope["original_max_position_embeddings"],
        )
    raise ImportRefused(f"its positions are scaled by {scaling!r}; OLMo-core has linear, llama3 and yarn")


def read_weights(folder: Path, vocab: int) -> tuple[dict[str, torch.Tensor], float]:
    """The weights of a Hugging Face folder in float32 under OLMo-core's names, and the largest difference of logits
    (`logit_difference`).

    Raises DamagedModel when they are not whole or hold NaN or infinity, ImportRefused when the logits are not those of the
    folder's own model.
    """
    from synpro.lm.loss import load_model

    plain = olmo_config(folder).build(init_device="cpu")  # first: it says why a model cannot be imported
    network = load_model(folder, device="cpu", exact=True)
    if broken := next((name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()), None):
        raise DamagedModel(f"{folder}: {broken} holds NaN or infinity; fetch the model again")
    head, embeddings = network.get_output_embeddings().state_dict(), network.get_input_embeddings().state_dict()
    if network.config.tie_word_embeddings and not torch.equal(head["weight"], embeddings["weight"]):
        raise DamagedModel(
            f"{folder}: its config.json has tie_word_embeddings = true, and its files hold a head that differs from the "
            "embeddings; set it to false"
        )
    weights = convert_state_from_hf(network.config, network.state_dict(), model_type=network.config.model_type)
    plain.load_state_dict(weights)
    ids_B_T = sample_ids(vocab, network.config.max_position_embeddings, getattr(network.config, "sliding_window", None))
    with torch.inference_mode():
        difference = logit_difference(plain.eval()(ids_B_T), network(ids_B_T).logits)
    if not difference <= TOLERANCE:
        raise ImportRefused(
            f"{folder}: as a model of OLMo-core it gives other logits (largest difference {difference:.3g}, at most "
            f"{TOLERANCE:g}): something in its config.json has no counterpart; OLMo-core imports {', '.join(importable())}"
        )
    return weights, difference


def logit_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two models' logits, divided by the largest logit where that is above 1."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


def sample_ids(vocab: int, context: int, window: int | None = None) -> torch.Tensor:
    """Ids to compare logits on: `(2, 64)`, or `(1, window + 64)` for a sliding window of at most `LARGEST_WINDOW`."""
    rows, length = (1, window + 64) if window and window <= LARGEST_WINDOW else (2, 64)
    return torch.randint(0, vocab, (rows, min(context, length)), generator=torch.Generator().manual_seed(0))


def write_folder(folder: Path, source: Path, weights: Mapping[str, torch.Tensor], *, eos: int) -> None:
    """Write `weights`, under OLMo-core's names, as a model in the architecture of `source`, with its tokenizer and the rest.

    `eos`: the token between documents in training, which texts begin with when their loss is measured.
    """
    hf = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    state = convert_state_to_hf(hf, {n: t for n, t in weights.items() if not (hf.tie_word_embeddings and "lm_head.w_out" in n)})
    folder.mkdir(parents=True)
    for file in sorted(p for p in source.iterdir() if p.is_file()):
        if "safetensors" not in file.name and file.suffix in (".json", ".txt", ".model", ".jinja"):
            shutil.copyfile(file, folder / file.name)
    save_file({n: t.contiguous() for n, t in sorted(state.items())}, folder / "model.safetensors", metadata={"format": "pt"})
    config, generation = folder / "config.json", folder / "generation_config.json"
    body = {k: v for k, v in json_object(config).items() if k != "torch_dtype"}
    _write(config, body | {"dtype": "float32", "eos_token_id": eos})
    if generation.exists():  # what generates stops at the token named here
        _write(generation, json_object(generation) | {"eos_token_id": eos})


def _write(file: Path, body: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
