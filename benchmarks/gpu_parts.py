"""The parts of benchmarks/gpu.py. Each yields what it has measured so far; the code measured is the project's own."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu_pretraining import pretrain_400m, pretrain_two_steps
from benchmarks.gpu_shapes import (
    DEVICE,
    TINY,
    Row,
    olmo2,
    passage,
    peak_gib,
    published,
    qwen,
    save_model,
    save_tokenizer,
    seconds,
    words,
)
from synpro.lm.model_config import ModelConfig
from synpro.operations.base import OperationConfig
from synpro.operations.rephrase import Rephrase
from synpro.records import Completion, Rewrite
from synpro.rewards.base import Reward
from synpro.runner.context import StepContext


def influence(tiny: bool) -> Iterator[Row]:
    """Influence of passages in float32, TF32 and bfloat16: rate, memory, and rank correlation with float32."""
    from transformers import AutoModelForCausalLM

    from synpro.lm.influence import Influence
    from synpro.measure.agreement import spearman

    texts = [passage(seed, tiny).text for seed in range(12 if tiny else 96)]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        save_model(before, olmo2(TINY if tiny else ModelConfig(), 128 if tiny else 2048), torch.float32)
        model = AutoModelForCausalLM.from_pretrained(before).to(DEVICE)
        with torch.no_grad():  # stands in for a probe
            for weight in model.parameters():
                weight += 0.1 * weight.std().nan_to_num() * torch.randn_like(weight)
        model.save_pretrained(after)
        save_tokenizer(after)
        del model
        exact: list[float] = []
        for name in ("float32", "tf32", "bfloat16"):
            scorer = Influence(before, after, dtype="bfloat16" if name == "bfloat16" else "float32")
            values: list[float] = []
            # Measuring a loss in float32 is in TF32 otherwise.
            with nullcontext() if name == "tf32" else mock.patch("synpro.lm.loss.tf32", nullcontext):
                scorer.score(texts[:2])
                peak_gib()
                taken = seconds(lambda scorer=scorer, values=values: values.extend(scorer.score(texts)))  # type: ignore[misc]
            exact = exact or values
            spread = statistics.stdev(exact)
            yield {
                f"{name}/texts_per_second": len(texts) / taken,
                f"{name}/rank_correlation": spearman(exact, values),
                f"{name}/largest_error_in_deviations": max(abs(a - b) for a, b in zip(exact, values, strict=True)) / spread,
                f"{name}/peak_gib": peak_gib(),
            }
            del scorer


def engine(tiny: bool) -> Iterator[Row]:
    """Our engine at the generator's shape: tokens per second of groups of answers to long passages."""
    from synpro.engines.base import Sampling
    from synpro.engines.transformers import TransformersConfig

    new = 8 if tiny else 128
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), olmo2(TINY if tiny else ModelConfig(16, 2048, 16, 8192), 4096), torch.bfloat16)
        for side_by_side, passages in ((8, 1), (64, 8)):
            spec = TransformersConfig(batch_size=side_by_side)
            engine = spec.open(folder, slot="synthesize", role="generator")
            chats = [Rephrase().prompt(passage(i, tiny)) for i in range(passages)]
            engine.generate(chats[:1], Sampling(1.0, 0.9, 2, n=2))
            peak_gib()
            taken = seconds(lambda o=engine, c=chats: o.generate(c, Sampling(1.0, 0.9, new, n=8)))  # type: ignore[misc]
            yield {
                f"{side_by_side}/tokens_per_second": new * 8 * passages / taken,
                f"{side_by_side}/milliseconds_per_token_of_all": 1000 * taken / new,
                f"{side_by_side}/peak_gib": peak_gib(),
                "prompt_tokens": engine.count(chats[0][-1]["content"]),
            }
            engine.close()


class AsItIs(Rephrase):
    """Takes any answer: random weights keep no form."""

    def parse(self, answer: str) -> str:
        return answer


class Variety(Reward):
    """Distinct characters, which differ from answer to answer."""

    name = "variety"

    def score(self, rewrites: list[Rewrite]) -> list[float | None]:  # type: ignore[override]
        return [float(len(set(r.answer))) for r in rewrites]


def grpo(tiny: bool) -> Iterator[Row]:
    """Steps of GRPO by part: full weights of the generator's shape, with a reward that needs no model."""
    from synpro.engines.transformers import TransformersConfig
    from synpro.grpo.policy import open_policy
    from synpro.grpo.stats import StepStats
    from synpro.grpo.trl import GRPORun
    from synpro.planning.memory import train_generator_bytes
    from synpro.rewards.rubric import Rubric

    cfg, new = published("400m"), 8 if tiny else 128
    settings = replace(cfg.train_generator, prompts_per_step=2 if tiny else 4, engine=TransformersConfig(batch_size=32))
    if tiny:
        settings = replace(settings, num_generations=2, dtype="float32", gradient_checkpointing=False)
    operation = AsItIs(OperationConfig("rephrase", weights={"variety": 1.0}, steps=3, max_new_tokens=new))
    rows: list[StepStats] = []
    ends: list[float] = []

    def report(step: int, stats: StepStats, logs: Any) -> None:
        rows.append(stats)
        ends.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        base, out = Path(folder) / "base", Path(folder) / "out"
        save_model(base, olmo2(TINY if tiny else ModelConfig(16, 2048, 16, 8192), 4096), torch.bfloat16)
        began = time.monotonic()
        run = GRPORun(
            open_policy(base, settings, None),
            operation,
            Rubric([Variety()], {"variety": 1.0}),
            [passage(i, tiny) for i in range(3 * settings.prompts_per_step)],
            settings,
            StepContext.local(out, 7),
            report,
        )
        open_seconds = time.monotonic() - began
        run.train()
    last, total = rows[-1], ends[-1] - ends[-2]
    small = replace(cfg, train_generator=settings, operations={"rephrase": replace(operation.config, weights={"length": 1.0})})
    yield {
        "answers": settings.answers_per_step,
        "new_tokens": new,
        "open_seconds": open_seconds,
        "step_seconds": total,
        "generate_seconds": last.generate_seconds,
        "reward_seconds": last.reward_seconds,
        "learn_seconds": total - last.generate_seconds - last.reward_seconds,
        "peak_gib": peak_gib(),
        "planned_gib": train_generator_bytes(small, "rephrase") / 2**30,
    }


def judges(tiny: bool) -> Iterator[Row]:
    """The paper's judges at their shapes: DataMan, layout, claims, alignment; texts of 7,000 characters per second."""
    from transformers import DebertaConfig

    from synpro.engines.transformers import TransformersConfig
    from synpro.faithfulness.llm_verifier import Calibration, LLMVerifier
    from synpro.judges.dataman import CRITERIA, DataManQuality
    from synpro.judges.encoder import BertScoreEncoder
    from synpro.judges.layout_llm import LLMLayout

    count = 2 if tiny else 16
    texts, others = ([passage(seed + i, tiny).text for i in range(count)] for seed in (0, 100))
    readable = "\n".join(["A", *("4" for _ in CRITERIA)])

    class Readable:
        """The model's own time, and an answer in form."""

        is_remote = False

        def __init__(self, model: Any) -> None:
            self.model, self.count, self.close = model, model.count, model.close

        def generate(self, chats: Any, sampling: Any) -> list[list[Completion]]:
            answers = self.model.generate(chats, replace(sampling, max_new_tokens=29))
            return [[Completion(readable, a.tokens, "stop") for a in group] for group in answers]

    def measured(name: str, work: Callable[[], object], items: int) -> Row:
        peak_gib()
        return {f"{name}/per_second": items / seconds(work), f"{name}/peak_gib": peak_gib()}

    with tempfile.TemporaryDirectory() as folder:

        def open_judge(kind: str) -> Any:
            path = save_model(Path(folder) / kind, qwen(kind, tiny), torch.bfloat16)
            model = TransformersConfig(batch_size=16).open(str(path), slot=f"judges.{kind}")
            model.score_options([({"role": "user", "content": "warm"},)], ("A", "B"))
            return model

        dataman = DataManQuality(Readable(open_judge("DataMan")))  # type: ignore[arg-type]
        yield measured("dataman", lambda: dataman.rate(texts), count)
        dataman.close()
        layout = LLMLayout(open_judge("Qwen3-4B"))
        yield measured("layout", lambda: layout.compare(list(zip(texts, others, strict=True))), count)
        layout.close()
        verifier = LLMVerifier(open_judge("Qwen3-1.7B"), Calibration())
        claims = [words(seed, 80) for seed in range(8 * (count // 2))]
        yield measured(
            "claims", lambda: verifier.check(claims, [t for t in texts[: count // 2] for _ in range(8)]), len(claims)
        )
        verifier.close()
        shape = (2, 64, 4, 128) if tiny else (24, 1024, 16, 4096)
        names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
        config = DebertaConfig(
            vocab_size=50_265, relative_attention=True, pos_att_type=["c2p", "p2c"], **dict(zip(names, shape, strict=True))
        )
        path = save_model(Path(folder) / "deberta", config, torch.float32, "AutoModel")
        encoder = BertScoreEncoder(path, layer=1 if tiny else 18)
        encoder.align(texts[:1], others[:1])
        yield measured("alignments", lambda: encoder.align(texts[1:], others[1:]), count - 1)


def sft(tiny: bool) -> Iterator[Row]:
    """Steps of the verifier's fine-tuning, all weights."""
    from synpro.faithfulness.claims import Claim
    from synpro.faithfulness.sft import FineTuneConfig, fine_tune

    v, stamps = published("400m").train_verifier, list[float]()
    batch, steps = v.micro_batch_size * (1 if tiny else 2), 3
    claims = [
        Claim(words(i, 80), passage(i, tiny).text, f"d{i}", "faithful" if i % 2 else "unsupported", "number", "")
        for i in range(batch * steps)
    ]
    settings = FineTuneConfig(1, batch, v.micro_batch_size, v.learning_rate, 0, "float32" if tiny else "bfloat16", 0)
    with tempfile.TemporaryDirectory() as folder:
        base = save_model(Path(folder) / "base", qwen("Qwen3-1.7B", tiny), torch.bfloat16)
        fine_tune(base, claims, settings, Path(folder) / "out", lambda done: stamps.append(time.perf_counter()))
    taken = stamps[-1] - stamps[-2]
    yield {"claims_per_step": batch, "step_seconds": taken, "claims_per_second": batch / taken, "peak_gib": peak_gib()}


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "pretrain-400m": pretrain_400m,
    "influence": influence,
    "grpo": grpo,
    "engine": engine,
    "judges": judges,
    "sft": sft,
    "pretrain-1b": lambda tiny: pretrain_two_steps("1b", tiny),
    "pretrain-2b": lambda tiny: pretrain_two_steps("2b", tiny),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--tiny", action="store_true")
    a = parser.parse_args()
    row: Row = {"device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "torch": torch.__version__}
    for found in PARTS[a.part](a.tiny):
        row |= {name: round(v, 4) if isinstance(v, float) else v for name, v in found.items()}
        print("\n" + json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
