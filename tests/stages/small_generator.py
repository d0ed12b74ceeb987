"""A tiny chat model that has learned the form of `rephrase`, eight passages, and a whole generator training on them."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.operations.rephrase import Rephrase
from synpro.records import Corpus, Generator, Probe, TrainedVerifier
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.runner.logger import StepLogger
from synpro.stages.train_generator import TrainGeneratorConfig, train_generator
from tests.rewards.reference import SOURCES, passage

WORDS = ("bees", "honey", "tower", "storm", "paper", "snow", "valley", "water", "stone", "letters")
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_base(folder: Path) -> Path:
    """Save a chat model of 0.2M parameters, trained for seconds to answer `Rephrased:` and some words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<eos>", "<user>", "<assistant>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([*SOURCES.values(), "Rephrased:\n", " ".join(WORDS) * 20], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=500,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=2048,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    prompt = tokenizer.apply_chat_template(
        list(Rephrase().prompt(passage("honey"))), tokenize=False, add_generation_prompt=True
    )
    for step in range(60):
        some = [WORDS[(step + i * 3) % 10] for i in range(4 + step % 5)]
        ids = torch.tensor([tokenizer(f"{prompt[-80:]}Rephrased:\n{' '.join(some)}.<eos>")["input_ids"]])
        at = torch.arange(ids.shape[1])[None] + (700 if step % 2 else 0)  # as far behind as after a long prompt
        model(input_ids=ids, position_ids=at, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_corpus(folder: Path) -> Corpus:
    """Write eight passages; only `passages.parquet` is read by this stage."""
    from synpro.corpus import store

    rows = [
        {**vars(passage(name)), "id": f"{name}{copy}#0000", "document": f"{name}{copy}"}
        for name in SOURCES
        for copy in range(2)
    ]
    store.write_rows(folder / "passages.parquet", store.PASSAGES, rows)
    return Corpus(folder, 0, 0, 0, "uint16", {}, {}, len(rows), "corpus")


NO_VERIFIER = TrainedVerifier(Path("unused"), "none", "unused")
NO_PROBE = Probe(Path("unused"), Path("unused"), "unused")
OPERATION = OperationConfig(
    "rephrase", weights={"structure": 1.0, "length": 1.0, "format": 1.0}, steps=2, max_new_tokens=40, min_length=0.0
)
"""With the rewards that need no model, and for a model that says a few words: this is a test of training."""
FILTERS = FilterConfig(keep_truncated=True, same_language=False, max_repetition=1.0)


def config(base: Path, **changes: object) -> TrainGeneratorConfig:
    plain = TrainGeneratorConfig(
        base=str(base),
        tuning="lora",
        lora_rank=4,
        prompts_per_step=2,
        num_generations=4,
        micro_batch_size=8,
        learning_rate=1e-3,
        beta=0.01,
        dtype="float32",
        validation_passages=2,
        keep="last",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def train(
    cfg: TrainGeneratorConfig,
    corpus: Corpus,
    out: Path,
    start: Generator | None = None,
    operation: OperationConfig = OPERATION,
    judges: JudgesConfig | None = None,
    logger: StepLogger | None = None,
) -> Generator:
    return train_generator(
        cfg,
        operation=operation,
        scoring=Scoring(RubricConfig(), judges or JudgesConfig(), NO_PROBE, NO_VERIFIER, FILTERS),
        corpus=corpus,
        start=start,
        round=1 if start is None else 2,
        ctx=StepContext.local(out, 7, logger),
    )


def contents(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
