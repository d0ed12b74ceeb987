"""The bill of a step, read from what it left behind: request, metrics, timing, result.

Estimates, and the page says so: tokens of prompts (from characters), and what judges read (each answer, and its passage once).
Evaluation is left out: it is the same for every arm.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from synpro.assets import AssetError, model_folder
from synpro.config import RunConfig
from synpro.lm.shapes import flops_per_token
from synpro.measure.cost import Bill, Work, learning, reading, scoring
from synpro.plan import PROMPT_TOKENS
from synpro.run.reading import operation_of, read_json, read_lines, read_table

CHARACTERS_PER_TOKEN = 4.4
"""Of English in a generator's tokenizer (SmolLM2 on the Wikipedia sample)."""
SENTENCES = 3
"""Of a passage, about; a claim is as long as one of them."""
CLAIMS_PER_PASSAGE = 6 * SENTENCES
"""At most: three true and three false ones of each sentence (`corpus/claims.py`)."""


def bill(root: Path, step: str, cfg: RunConfig) -> Bill:
    """What a finished step cost, `cfg` being that of its arm. Raises Damaged for a step whose files are not whole."""
    folder = root / step
    kind, operation = operation_of(step)
    seconds = float(read_json(folder / "timing.json")["seconds"])
    request, record = read_json(folder / "request.json"), read_json(folder / "result.json")["record"]
    inputs = request["inputs"]
    if kind == "verifier":
        return _verifier(request, root, seconds)
    if kind not in ("pretrain", "probe", "train", "synthesize"):
        return {}
    vocab, length = inputs["corpus"]["vocab_size"], cfg.pretrain.sequence_length
    per_token = flops_per_token(cfg.pretrain.model, vocab, length)
    if kind == "pretrain":
        tokens = record["tokens_seen"] - (inputs["start"]["tokens_seen"] if inputs["start"] else 0)
        return {"pretraining": Work(per_token * tokens, seconds, tokens)}
    if kind == "probe":
        asked = request["config"]
        tokens = asked["steps"] * asked["batch"] * length * asked.get("replicas", 1)
        return {"probing": Work(per_token * tokens, seconds, tokens)}
    rows = list(read_lines(folder / "metrics.jsonl", whole=True))
    passages, passage = _passages(root / inputs["corpus"]["dir"]["path"])
    generator = parameters(cfg.train_generator.base)
    assert operation is not None
    judging = _sum(rows, "seconds/reward")
    if kind == "synthesize":
        written, read = record["tokens"], passages * (passage + PROMPT_TOKENS)
        scored = written + passages * passage
        judged = Work(_judged(inputs, operation, per_token, scored), judging, scored)
        return {"generating": Work(reading(generator, written + read), seconds - judging, written + read), "judging": judged}
    return _training(cfg, inputs, operation, per_token, generator, folder, rows, passage, seconds)


def _verifier(request: Mapping[str, Any], root: Path, seconds: float) -> Bill:
    """Making claims and training what checks them: so many claims of a sentence or so, each read beside its passage."""
    asked = request["config"]
    if asked["kind"] == "none":
        return {}
    passages, passage = _passages(root / request["inputs"]["corpus"]["dir"]["path"])
    tokens = min(asked["claims"], CLAIMS_PER_PASSAGE * passages) * passage * (1 + 1 / SENTENCES)
    if asked["kind"] == "llm":
        flops = learning(parameters(asked["base"]), tokens * asked["epochs"], adapters=asked["lora_rank"] > 0)
    else:
        flops = reading(parameters(request["inputs"]["judges"]["encoder"]), tokens)
    return {"judging": Work(flops, seconds, tokens)}


def _training(
    cfg: RunConfig,
    inputs: Mapping[str, Any],
    operation: str,
    per_token: float,
    generator: int,
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    passage: float,
    seconds: float,
) -> Bill:
    """GRPO: answers written, judged and learned from, and two samples of the passages held aside, before and after."""
    t = cfg.train_generator
    answers = t.prompts_per_step * t.completions
    learned_from = sum(float(r["completion_tokens"]) * answers for r in rows if "completion_tokens" in r)
    steps = sum("completion_tokens" in r for r in rows)
    prompts = steps * t.prompts_per_step * (passage + PROMPT_TOKENS)
    validation = read_json(folder / "validation.json")
    samples = [validation["before"], validation["after"]] if steps else [validation["before"]]
    sampled = sum(s["completion_tokens"] * len(s["samples"]) * t.completions for s in samples)
    written = learned_from + sampled
    read = prompts + sum(len(s["samples"]) for s in samples) * (passage + PROMPT_TOKENS)
    # The policy's pass, and that of the frozen reference where a KL penalty asks for one.
    flops = learning(generator, learned_from + prompts, adapters=t.tuning == "lora")
    flops += reading(generator, learned_from + prompts) if t.beta and steps else 0.0
    judging = _sum(rows, "seconds/reward")  # of the steps; judging the two samples counts as RL
    judged = Work(_judged(inputs, operation, per_token, written), judging, written)
    return {"RL": Work(flops + reading(generator, written + read), seconds - judging, written + read), "judging": judged}


def _judged(inputs: Mapping[str, Any], operation: str, per_token: float, tokens: float) -> float:
    """Operations of the judges whose rewards have a weight, over `tokens` of text."""
    paid = {name for name, weight in inputs["rubric"]["weights"][operation].items() if weight > 0}
    judges = inputs["judges"]
    flops = 0.0
    if paid & {"influence", "faithfulness", "similarity"}:
        flops += reading(parameters(judges["encoder"]), tokens)
    if "quality" in paid:
        flops += reading(parameters(judges[judges.get("quality", "fluency")]), tokens)
    if "structure" in paid and judges.get("layout") == "llm":
        flops += reading(parameters(judges["layout_model"]), tokens)
    if "influence" in paid:  # the model before the probe, and after each of its replicas
        flops += (2 + len(inputs["probe"].get("replicas", ()))) * scoring(per_token, tokens)
    return flops


def _sum(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(float(r[key]) for r in rows if r.get(key) is not None)


@cache
def _passages(corpus: Path) -> tuple[int, float]:
    """How many passages a corpus has, and the tokens of one on average."""
    lengths = [len(r["text"]) for r in read_table(corpus / "passages.parquet", ["text"])]
    return len(lengths), sum(lengths) / max(1, len(lengths)) / CHARACTERS_PER_TOKEN


@cache
def parameters(reference: str) -> int:
    """Parameters of a model, from the headers of its weights; 0 when these are not here (a model behind a server)."""
    try:
        folder = model_folder(reference, slot="cost")
    except AssetError:
        return 0
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(size))
        for name, tensor in header.items():
            if name != "__metadata__":
                product = 1
                for n in tensor["shape"]:
                    product *= n
                count += product
    return count
