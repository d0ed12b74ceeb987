"""How much of a LoRA adapter survives a merge into 16-bit weights, and what a generator then generates.

    python -m benchmarks.merge RUN [--passages 16]

For every trained generator of a run: how many weights a merge changes, what is left of the update along itself, how large the
error is beside it, and how many greedy answers to the run's passages stay those of the live adapter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from synpro.assets import model_folder
from synpro.config import load_config
from synpro.corpus.store import read_passages
from synpro.engines.base import Sampling
from synpro.engines.hf import HFEngine
from synpro.operations.registry import build_operation
from synpro.records import Corpus, Generator, decode


def kept(weight: torch.Tensor, update: torch.Tensor) -> tuple[float, float, float]:
    """What is left of an update that is added to a bfloat16 weight and rounded.

    Returns (share of entries that change at all, what is left along the update itself, norm of the error over that of the
    update).
    """
    before = weight.to(torch.bfloat16)
    after = (before.float() + update.float()).to(torch.bfloat16)
    wanted, made = update.double(), after.double() - before.double()
    size = float((wanted**2).sum()) or 1.0
    changed = float((after != before).double().mean())
    return changed, float((made * wanted).sum()) / size, float((made - wanted).norm()) / size**0.5


def updates(model: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, update) of every layer that the adapter changes."""
    found = []
    for module in model.modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            found.append((module.base_layer.weight.detach(), module.get_delta_weight("default").detach()))
    return found


def measure(run: Path, generator: Generator, count: int) -> dict[str, Any]:
    """What a merge costs one generator."""
    cfg = load_config(run / "config.toml")
    folder = model_folder(generator.base, slot="train_generator.base")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapted: Any = PeftModel.from_pretrained(model, str(generator.adapter))
    layers = [kept(weight, update) for weight, update in updates(adapted)]
    changed, left, wrong = (sum(column) / len(layers) for column in zip(*layers, strict=True))
    corpus = decode(json.loads((run / "round-00/prepare/result.json").read_text())["record"], run)
    assert isinstance(corpus, Corpus)
    operation = build_operation(cfg.operations[generator.operation])
    chats = [operation.prompt(p) for p in read_passages(corpus.dir)[:count]]
    greedy = Sampling(0.0, 1.0, 96)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    live = HFEngine.load(generator, "bfloat16").generate(chats, greedy)
    plain = HFEngine.load(generator.base, "bfloat16").generate(chats, greedy)
    merged: Any = adapted.merge_and_unload().to(torch.bfloat16).eval()
    once = HFEngine(merged, tokenizer).generate(chats, greedy)

    def same(other: list[Any]) -> int:
        return sum(a[0].text == b[0].text for a, b in zip(live, other, strict=True))

    return {
        "generator": generator.operation,
        "changed": changed,
        "left": left,
        "wrong": wrong,
        "passages": len(chats),
        "same_merged": same(once),
        "same_without": same(plain),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--passages", type=int, default=16)
    arguments = parser.parse_args()
    found = sorted(arguments.run.rglob("round-*/train-re*/result.json"))
    if not found:
        parser.error(f"{arguments.run} has no trained generator; finish a run first")
    for result in found:
        generator = decode(json.loads(result.read_text())["record"], arguments.run)
        assert isinstance(generator, Generator)
        m = measure(arguments.run, generator, arguments.passages)
        print(
            f"{result.parent.parent.name}/{m['generator']}, merged into bfloat16: {m['changed']:.0%} of the weights change, ",
            end="",
        )
        print(f"{m['left']:.0%} of the update is left, the error is {m['wrong']:.0%} of its size; of {m['passages']} ", end="")
        print(f"greedy answers {m['same_merged']} are those of the live adapter ({m['same_without']} without any)", flush=True)


if __name__ == "__main__":
    main()
