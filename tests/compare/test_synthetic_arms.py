"""A whole comparison with synthetic text: scripted answers, tiny real models, steps in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from synpro.commands.configs import load_comparison
from synpro.compare.comparison import compare
from synpro.compare.summary import summarize
from synpro.report.comparison import markdown, notes, rows, write_page
from synpro.report.what_pays import absorbed_contrasts_table
from synpro.runner.launch import MachineConfig
from synpro.runner.progress import NullProgress
from tests.conftest import ROOT
from tests.in_process import Here
from tests.lm.conftest import sentences

pytestmark = pytest.mark.loop

OPERATION = """
[operations.rephrase]
weights = {influence = 0.0, quality = 0.0, similarity = 0.0, structure = 0.0, length = 0.0, format = 1.0}
steps = 0
num_versions = 2
max_new_tokens = 200
min_length = 0.01
max_length = 100.0
"""


def base(folder: Path) -> Path:
    """A chat model of random weights: it is opened, and what it says does not matter."""
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, bos_token_id=None, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_arms_with_text_have_a_search_of_their_own_and_are_compared_at_equal_tokens(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": t}) + "\n" for t in sentences(5, 300)))
    brief = [" ".join(t.split()[:12]) for t in sentences(9, 40)]  # every claim of an answer is compared with its passage
    answers = [f"{heading}\n{t}" for heading in ("Rephrased:", "Passage:") for t in brief]
    config = (ROOT / "tests" / "compare.toml").read_text().replace("rounds = 0", "rounds = 1")
    file = tmp_path / "compare.toml"
    file.write_text(config.partition("[compare]")[0] + OPERATION + "[compare]" + config.partition("[compare]")[2])
    sets = {
        "prepare.sources.0.path": str(texts),
        "train_generator.base": str(base(tmp_path / "base")),
        "train_generator.validation_passages": 1,
        "train_generator.prompts_per_step": 1,
        "train_generator.num_generations": 2,
        "train_generator.micro_batch_size": 2,
        "synthesize.engine": {"type": "scripted", "answers": answers},
        "train_verifier.kind": "none",
        "filters.min_faithfulness": 0.0,
        "filters.same_language": False,
        "probe.steps": 2,
        "probe.batch_size": 2,
        "probe.hardware.micro_batch_size": 2,
        "compare.arms": ["tuned-repetition", "generator-text", "prompt-only", "prompt-only-2", "best-of-n", "oracle"],
        "compare.anchors": [2],
        "compare.absorption": True,
        "compare.budget_tokens": 3_072,
        "compare.best_of": 3,
        "compare.seeds": [0, 1],
        "compare.text_draws": 2,
        "compare.tune.trials": 2,
        "compare.tune.finalists": 0,
    }
    cfg = load_comparison(file, [f"{k}={toml(v)}" for k, v in sets.items()])
    root = tmp_path / "runs" / "compare"
    root.mkdir(parents=True)
    steps = Here(root, seed=cfg.seed, machine=MachineConfig(threads=1), listener=NullProgress())
    done = compare(cfg, steps)
    numbers = json.loads(json.dumps(summarize(cfg, done, root), allow_nan=False))
    synthetic = [n for n, a in numbers["arms"].items() if a["shards"]]
    assert synthetic == ["generator-text", "prompt-only", "prompt-only-2", "best-of-n"]
    assert numbers["arms"]["prompt-only"]["search"] == numbers["arms"]["prompt-only-2"]["search"], (
        "the same text, searched once"
    )
    for name in synthetic:
        arm = numbers["arms"][name]
        assert arm["search"]["settings_tried"] == numbers["searches"]["u1"]["settings_tried"] == 2
        assert arm["forced"]["change"] and arm["forced"]["settings"]["organic_share"] is None
        assert arm["synthetic_tokens"] > 0 and arm["generated_tokens"] > 0 and len(arm["shards"]) == 2, "two draws"
    equal = {f"{c['arm']}~{c['control']}": c["equal_tokens"] for c in numbers["contrasts"] if "equal_tokens" in c}
    assert equal["best-of-n~prompt-only"]["change"]["detectable"] > 0
    tokens = [
        sum(s.text_tokens for s in m.text.shards)
        for a in ("generator-text", "prompt-only")
        for m in done.arms[a].models.values()
    ]
    assert equal["prompt-only~generator-text"]["synthetic_tokens"] == min(tokens)
    cut = [json.loads(f.read_text()) for f in (root / "equal").glob("prompt-only~generator-text/**/pretrain/request.json")]
    assert cut and {r["config"]["mixture"]["synthetic_tokens"] for r in cut} == {min(tokens)}
    probe = json.loads((root / "text/shared/round-01/probe/request.json").read_text())
    assert probe["inputs"]["model"]["dir"]["path"] == done.searches["u1"].steps[done.searches["u1"].best], (
        "the winner of the search is probed"
    )
    stored = list((root / "text/held-back").rglob("synthesize-rephrase/result.json"))
    assert len(stored) == 1 and len(list(root.glob("arms/*/**/absorb/result.json"))) == 2 * (len(numbers["arms"]) - 1)
    assert all(a["absorption"]["loss"]["rephrased"]["mean"] > 0 for a in numbers["arms"].values())
    for contrast in numbers["contrasts"]:
        found = contrast["absorption"]
        assert found["content"].keys() == {"mean", "low", "high"} and found["loss"].keys() == {"train", "rephrased", "unseen"}
    assert any(c["absorption"]["content"]["low"] < c["absorption"]["content"]["high"] for c in numbers["contrasts"])
    assert "content" not in numbers["arms"]["oracle"]["absorption"], "it was trained on what others have not seen"
    assert "content" in numbers["arms"]["prompt-only"]["absorption"]
    pairs = absorbed_contrasts_table(numbers)[1]
    assert len(pairs) == len(numbers["contrasts"]) and any(row[2].endswith(" each") for row in pairs)
    page = write_page(root, numbers).read_text()
    assert all(f"<b>{row.arm}</b>" in page for row in rows(numbers)) and "sampled 2 times" in " ".join(notes(numbers))
    assert "at equal synthetic tokens" in markdown(numbers, "synpro compare")


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)
