"""Models made elsewhere: what OLMo-core imports, how they go on, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from synpro.corpus.epochs import MixtureEpochs
from synpro.corpus.tokens import read_tokens, split_documents
from synpro.engines.model_check import weight_problems
from synpro.lm.training_config import HardwareConfig
from synpro.records import Corpus
from synpro.runner.artifacts import read_table
from synpro.runner.context import StepContext
from synpro.schema import SchemaError
from synpro.stages.evaluate import EvaluateConfig, evaluate
from synpro.stages.pretrain import pretrain
from synpro.stages.probe import ProbeConfig, fit_probe
from tests.lm.conftest import LENGTH, sentences
from tests.stages.small_model import CFG

SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
LLAMA3: dict[str, Any] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 8.0}
SCALED: dict[str, Any] = {"rope_theta": 1e4, "original_max_position_embeddings": 16}
WINDOW: dict[str, Any] = {"sliding_window": 16}
GEMMA: dict[str, Any] = WINDOW | {"head_dim": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 6}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama 3": ("llama", {"rope_parameters": LLAMA3 | SCALED}),
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", WINDOW),
    "olmo3, long": ("olmo3", WINDOW | {"rope_parameters": YARN | SCALED}),
    "gemma3": ("gemma3_text", GEMMA),
}


def make_model(folder: Path, kind: str, tokenizer: Path | None = None, **changes: Any) -> Path:
    """A random model of a type of transformers, with a tokenizer where one is given."""
    import shutil

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE | changes)).save_pretrained(folder)
    for file in tokenizer.iterdir() if tokenizer else ():
        shutil.copyfile(file, folder / file.name)
    return folder


def logits(folder: Path) -> Any:
    import torch

    from synpro.lm.imported import sample_ids
    from synpro.lm.loss import load_model

    with torch.inference_mode():
        return load_model(folder)(sample_ids(320, 128)).logits


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_logits_imported_and_written_back(name: str, tmp_path: Path) -> None:
    from synpro.lm.imported import TOLERANCE, read_weights, write_folder
    from synpro.lm.model_config import imported_model, num_parameters

    kind, changes = MODELS[name]
    folder = make_model(tmp_path / "model", kind, **changes)
    weights, difference = read_weights(folder, 320)
    assert difference <= TOLERANCE
    write_folder(tmp_path / "out", folder, weights, eos=3)
    body, generation = (json.loads((tmp_path / "out" / f).read_text()) for f in ("config.json", "generation_config.json"))
    assert body["eos_token_id"] == generation["eos_token_id"] == 3, "what generates stops between documents too"
    assert body["architectures"] == json.loads((folder / "config.json").read_text())["architectures"]
    assert float((logits(folder) - logits(tmp_path / "out")).abs().max()) <= TOLERANCE
    shape = imported_model(folder)
    assert num_parameters(shape, 0) == sum(t.numel() for n, t in weights.items() if not (shape.tied and "lm_head.w_out" in n))


def test_what_olmo_core_does_not_import_is_refused_with_what_it_does(tmp_path: Path) -> None:
    from synpro.assets.models import ImportRefused
    from synpro.lm.imported import importable, olmo_config
    from synpro.lm.model_config import imported_model

    assert {"llama", "olmo2", "olmo3", "qwen3"} <= set(importable())
    folder = make_model(tmp_path / "qwen2", "qwen2")  # its attention has biases
    with pytest.raises(
        ImportRefused, match=r"type 'qwen2' cannot be trained on: .*bias.*OLMo-core imports .*llama, olmo2, olmo3"
    ):
        olmo_config(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2}))
    with pytest.raises(ValueError, match=r"pretrain.start: .*type 'gpt2', without 'num_hidden_layers'"):
        imported_model(folder)


def test_a_setting_without_a_counterpart_is_found_by_its_logits(tmp_path: Path) -> None:
    from synpro.assets.models import ImportRefused
    from synpro.lm.imported import olmo_config, read_weights

    folder = make_model(tmp_path / "model", "gemma3_text", **GEMMA, final_logit_softcapping=0.1)
    with pytest.raises(ImportRefused, match="other logits"):
        read_weights(folder, 320)
    folder = make_model(tmp_path / "scaled", "gemma3_text", **GEMMA | {"query_pre_attn_scalar": 4})
    with pytest.raises(ImportRefused, match="its query_pre_attn_scalar is 4 and its heads are 16 wide"):
        olmo_config(folder)


DAMAGES: dict[str, tuple[Any, str]] = {
    "no head": (lambda w: w.pop("lm_head.weight"), "its files lack lm_head.weight, which its config.json asks for"),
    "no layer": (
        lambda w: [w.pop(name) for name in list(w) if ".layers.1." in name],
        r"its files lack 9 tensors, such as model\.layers\.1\.",
    ),
    "another layer": (
        lambda w: w.update({n.replace("s.1.", "s.9."): t.clone() for n, t in w.items() if ".layers.1." in n}),
        r"its files hold 9 tensors, such as model\.layers\.9\..*does not ask for",
    ),
    "another shape": (
        lambda w: w.update({"model.norm.weight": w["model.norm.weight"][:5].clone()}),
        r"model\.norm\.weight has shape \(5,\) in its files",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_files_that_are_not_what_the_config_says_are_refused_and_not_filled_with_random_numbers(
    name: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    from synpro.assets.models import load_causal_lm
    from synpro.assets.weights import DamagedModel
    from synpro.lm.imported import read_weights

    folder = make_model(tmp_path / "model", "llama")
    weights = load_file(folder / "model.safetensors")
    change, said = DAMAGES[name]
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for opens in (lambda: read_weights(folder, 320), lambda: load_causal_lm(folder, exact=True)):
        with pytest.raises(DamagedModel, match=rf"{re.escape(str(folder))}: {said}"):
            opens()
    assert re.match(said, " ".join(weight_problems(folder, exact=True)))


SOUND: dict[str, tuple[dict[str, Any], Any]] = {
    "one file of tied weights": (
        {"tie_word_embeddings": True},
        lambda w: _renamed(w, "model.embed_tokens.weight", "lm_head.weight"),
    ),
    "tables of the rotary embedding": ({}, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": _some(4)}),
    "a value head": ({}, lambda w: w | {"v_head.summary.weight": _some(32)}),
    "other files beside it": ({}, lambda w: w),
}


def _some(size: int) -> Any:
    import torch

    return torch.ones(size)


def _renamed(weights: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("name", SOUND)
def test_files_that_transformers_opens_whole_are_no_damaged_model(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from synpro.lm.imported import TOLERANCE, read_weights
    from synpro.lm.model_config import imported_model

    changes, rewrite = SOUND[name]
    folder = make_model(tmp_path / "model", "llama", **changes)
    before = imported_model(folder)
    save_file(rewrite(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    save_file({"tok_embeddings.weight": _some(9)}, folder / "consolidated.safetensors")  # of its makers' own format
    assert read_weights(folder, 320)[1] <= TOLERANCE and weight_problems(folder, exact=True) == []
    assert name == "a value head" or "rotary" in name or imported_model(folder).parameters == before.parameters


def test_weights_that_are_no_numbers_and_a_head_that_is_said_to_be_tied(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from synpro.assets.weights import DamagedModel
    from synpro.lm.imported import read_weights

    folder = make_model(tmp_path / "nan", "llama")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DamagedModel, match=r"model\.norm\.weight holds NaN or infinity"):
        read_weights(folder, 320)
    tied = make_model(tmp_path / "tied", "llama")
    body = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps({**body, "tie_word_embeddings": True}))
    with pytest.raises(DamagedModel, match="tie_word_embeddings = true, and its files hold a head that differs"):
        read_weights(tied, 320)


def test_whether_a_head_is_tied_is_asked_of_the_type_and_a_stored_copy_counts_once(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from synpro.lm.model_config import imported_model

    for kind, tied in (("llama", False), ("gemma3_text", True)):
        folder = make_model(tmp_path / kind, kind, head_dim=16, tie_word_embeddings=tied)
        before = imported_model(folder)
        body = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({k: v for k, v in body.items() if k != "tie_word_embeddings"}))
        if tied:
            weights = load_file(folder / "model.safetensors")
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        assert imported_model(folder) == before and before.tied == tied


def test_logits_are_compared_over_a_sliding_window_and_by_their_size() -> None:
    import torch

    from synpro.lm.imported import logit_difference, sample_ids

    assert [tuple(sample_ids(9, 4096, window).shape) for window in (None, 512, 4096)] == [(2, 64), (1, 576), (2, 64)]
    logits = torch.tensor([50.0, 1.0])
    assert logit_difference(logits + 0.5, logits) == pytest.approx(0.01)
    assert logit_difference(logits / 100 + 0.5, logits / 100) == pytest.approx(0.5)


def domain(folder: Path, start: Path) -> Corpus:
    from synpro.corpus.passages import PassageConfig
    from synpro.corpus.readers import SourceConfig
    from synpro.corpus.tokens import TokenizerConfig
    from synpro.stages.prepare import PrepareConfig, prepare

    for name, seed in (("domain", 1), ("general", 2)):
        rows = (json.dumps({"text": text}) for text in sentences(seed, 300, 20, 40))
        (folder / f"{name}.jsonl").write_text("\n".join(["{broken", *rows]))
    cfg = PrepareConfig(
        sources=(SourceConfig(str(folder / "domain.jsonl")),),
        general=(SourceConfig(str(folder / "general.jsonl")),),
        general_words=2000,
        reference_share=0.2,
        heldout_share=0.2,
        passages=PassageConfig(),
        tokenizer=TokenizerConfig(source="model"),
    )
    return prepare(cfg, model=str(start), ctx=StepContext.local(folder / "prepare"))


def test_a_run_goes_on_from_a_model_and_says_what_it_forgets(tokenizer_folder: Path, tmp_path: Path) -> None:
    start = make_model(tmp_path / "start", "llama", tokenizer_folder, tie_word_embeddings=True)
    corpus = domain(tmp_path, start)
    assert corpus.vocab_size == 320 and corpus.tokens["general"] and corpus.tokens["replay"]
    rejected = [json.loads(line)["id"] for line in (corpus.dir / "rejects.jsonl").read_text().splitlines()]
    assert rejected == ["domain.jsonl:1", "general.jsonl:1"]
    cfg = replace(CFG, start=str(start), mixture=replace(CFG.mixture, replay_share=0.3))
    epochs = MixtureEpochs(cfg.mixture, corpus, [], 0)
    assert len(epochs(0)) == epochs.length(0) == round(corpus.tokens["train"] / 0.7) and (epochs(0) != epochs(1)).any()
    replay = read_tokens(corpus.dir / "tokens" / "replay.bin", corpus.dtype).tolist()
    ended = [d.tolist() for d in split_documents(epochs(1), corpus.eos_id)]
    assert all(d[-1] == corpus.eos_id for d in ended), "no document runs into the next one"
    assert replay[: replay.index(corpus.eos_id)] in [d[:-1] for d in ended], "it begins with the first"
    first = pretrain(cfg, corpus=corpus, shards=[], start=None, ctx=StepContext.local(tmp_path / "first", 7))
    rows = [json.loads(line) for line in (tmp_path / "first" / "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "general_loss" in row]
    assert losses[0]["step"] == 0 and first.reference_loss < losses[0]["reference_loss"]
    body = json.loads((first.dir / "hf" / "config.json").read_text())
    assert body["architectures"] == ["LlamaForCausalLM"] and body["max_position_embeddings"] == 128
    before = json.loads((first.dir / "training.json").read_text())["imported"]["before"]
    assert before["general"] == losses[0]["general_loss"]

    evaluate(EvaluateConfig(tasks=()), corpus=corpus, model=first, ctx=StepContext.local(tmp_path / "round-00" / "evaluate"))
    measured = json.loads((tmp_path / "round-00" / "evaluate" / "evaluation.json").read_text())
    untouched = read_table(tmp_path / "round-00" / "evaluate" / "start_general.parquet", ["nll", "tokens"])
    nats, tokens = (sum(row[column] for row in untouched) for column in ("nll", "tokens"))
    assert nats / tokens == pytest.approx(measured["start"]["general_loss"])
    assert measured["start"]["general_loss"] == pytest.approx(before["general"], abs=0.05)
    assert measured["start"]["heldout_loss"] > measured["heldout_loss"]

    hardware = HardwareConfig(micro_batch_size=8)
    probing = ProbeConfig(steps=4, batch_size=8, hardware=hardware, learning_rate=1e-3, evaluate_tokens=2000)
    probe = fit_probe(probing, corpus=corpus, model=first, ctx=StepContext.local(tmp_path / "probe", 3))
    assert json.loads((probe.after / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]

    second = pretrain(cfg, corpus=corpus, shards=[], start=first, ctx=StepContext.local(tmp_path / "second", 7))
    assert second.tokens_seen == 2 * 12 * 8 * LENGTH and second.reference_loss < first.reference_loss
    evaluate(EvaluateConfig(tasks=()), corpus=corpus, model=second, ctx=StepContext.local(tmp_path / "evaluate"))
    measured = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text())
    assert 0 < measured["general_loss"] < 10 and measured["heldout_loss"] < losses[0]["heldout_loss"]
    harm = replace(cfg, optimizer=replace(cfg.optimizer, learning_rate=3.0), max_tokens=4 * 8 * LENGTH, checkpoint_every=None)
    same = pretrain(harm, corpus=corpus, shards=[], start=None, ctx=StepContext.local(tmp_path / "same", 7))
    assert same.best_tokens == 0 and same.reference_loss == pytest.approx(before["reference"], abs=1e-4)
    moments = load_file(same.dir / "trainer" / "optim.safetensors").values()
    assert moments and not any(tensor.any() for tensor in moments), "those of a new optimizer"
    with pytest.raises(ValueError, match=r"sequence_length: 256 tokens are more than the 128"):
        long = replace(cfg, sequence_length=256, max_tokens=10_000)
        pretrain(long, corpus=corpus, shards=[], start=None, ctx=StepContext.local(tmp_path / "long", 7))


def test_a_start_brings_its_own_tokenizer(tmp_path: Path) -> None:
    from synpro.config import RunConfig
    from synpro.schema import build

    table = {"name": "x", "pretrain": {"start": "hf:ORG/NAME"}}
    assert build(RunConfig, table).prepare.tokenizer.source == "model"
    with pytest.raises(SchemaError, match=r"leave prepare\.tokenizer out"):
        build(RunConfig, table | {"prepare": {"tokenizer": {"source": "train", "vocab_size": 2048}}})
    with pytest.raises(SchemaError, match=r"set it, or another source"):
        build(RunConfig, {"name": "x", "prepare": {"tokenizer": {"source": "model"}}})
    with pytest.raises(SchemaError, match=r"pretrain\.mixture\.replay_share: there is no general text"):
        build(RunConfig, {"name": "x", "pretrain": {"mixture": {"replay_share": 0.1}}})
