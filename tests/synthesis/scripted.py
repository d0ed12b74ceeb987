"""The stage synthesize with scripted answers: a small corpus of passages about metals, and an engine that rewrites them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synpro.corpus.store import PASSAGES, write_rows
from synpro.corpus.tokens import TokenizerConfig, save_tokenizer, train_tokenizer
from synpro.engines.base import Sampling
from synpro.engines.scripted import ScriptedEngine
from synpro.engines.transformers import TransformersConfig
from synpro.judges.base import JudgesConfig, Support, Verdict
from synpro.judges.registry import JudgePool
from synpro.operations.base import OperationConfig
from synpro.records import Chat, Completion, Corpus, Generator, Probe, Shard, TrainedVerifier
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig
from synpro.rewards.scoring import Scoring
from synpro.runner.child import RUNNER_FILES
from synpro.runner.context import StepContext
from synpro.stages.synthesize import SynthesizeConfig, synthesize

SOURCE = (
    "Copper is a soft metal with a reddish colour that people have worked for about ten thousand years. It conducts heat and "
    "electricity well, so most electric cables are made of it. Water pipes are another common use."
)
GOOD = (
    "Rephrased:\nFor roughly ten thousand years people have shaped copper, a reddish and rather soft metal. Because heat and "
    "current pass through it easily, it is what the majority of power cables consist of. It also serves for plumbing."
)
RUBRIC = OperationConfig("rephrase", weights={"length": 1.0, "format": 1.0})
GENERATOR = Generator("rephrase", "hf:some/model", None, None, 2, "generator-digest")

NOUNS = "metal cable pipe water heat coin roof bell wire tool ship house city river mine smith fire year land sea".split()  # noqa: SIM905
FORMS = "used bent drawn melted carried led held kept found traded shaped sold seen moved made".split()  # noqa: SIM905


def text(seed: object, sentences: int = 3) -> str:
    """A text of its own for each seed."""
    rng = random.Random(repr(seed))
    noun, form = (lambda: rng.choice(NOUNS)), (lambda: rng.choice(FORMS))
    return " ".join(
        f"The {noun()} of {noun()} was {form()} by a {noun()} and {form()} in the {noun()}." for _ in range(sentences)
    )


def corpus(tmp_path: Path, documents: int = 3, each: int = 4) -> Corpus:
    """Passages about `Metal D.I`, each of its own metal."""
    folder = tmp_path / "prepare"
    folder.mkdir(exist_ok=True)
    rows = []
    for d in range(documents):
        for i in range(each):
            text = SOURCE.replace("Copper", f"Metal {d}.{i}")
            start = i * len(text)
            rows.append(
                {"id": f"d{d}#{i:04d}", "document": f"d{d}", "index": i, "start": start, "end": start + len(text), "text": text}
            )
    write_rows(folder / "passages.parquet", PASSAGES, rows)
    cfg = TokenizerConfig("train", 300)
    save_tokenizer(train_tokenizer([SOURCE], cfg), folder / "tokenizer", cfg)
    return Corpus(folder, 300, 0, 1, "uint16", {"train": documents}, {}, len(rows), "corpus-digest")


def answer(chat: Chat, index: int) -> str:
    """A rewrite that names its metal; the second passage of every document does not parse."""
    asked = chat[-1]["content"]
    metal = asked[asked.rindex("Metal ") :].split(" ")[1]
    return "no heading" if metal.endswith(".1") else GOOD.replace("copper", f"metal {metal}")


class Counting(ScriptedEngine):
    """Stops like a killed process after some calls."""

    def __init__(self, calls: int = 10**6) -> None:
        super().__init__(answer)
        self.calls = calls

    def generate(self, chats: list[Chat], sampling: Sampling) -> list[list[Completion]]:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return super().generate(chats, sampling)


class Sampled(ScriptedEngine):
    """Answers depend on chat, seed and index, as those of a model; a share of them does not parse. Stops after some calls."""

    def __init__(self, parsed: float = 1.0, calls: int = 10**6) -> None:
        super().__init__(lambda chat, index: "")
        self.parsed, self.calls = parsed, calls
        self.counts: list[int] = []

    def generate(self, chats: list[Chat], sampling: Sampling) -> list[list[Completion]]:
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        self.asked += chats
        self.counts += [sampling.n] * len(chats)
        return [[self.answer(chat, sampling.seed, i) for i in range(sampling.n)] for chat in chats]

    def answer(self, chat: Chat, seed: int, index: int) -> Completion:
        own = (chat[-1]["content"], seed, index)
        good = random.Random(repr(own) + "parsed").random() < self.parsed
        return Completion(f"Rephrased:\n{text(own)}" if good else "nothing", 30, "stop")


ANY = FilterConfig(same_language=False, max_repetition=1.0)
"""Random sentences are of no language."""


class Uneven(Sampled):
    """Every fourth answer is longer."""

    def answer(self, chat: Chat, seed: int, index: int) -> Completion:
        return Completion(f"Rephrased:\n{text((chat[-1]['content'], seed, index), 3 + (index == 3))}", 30, "stop")


class Sure:
    """A verifier that believes everything, with the first words of the passage as support."""

    def knows(self, passage: str) -> bool:
        return True

    def check(self, claims: list[str], passages: list[str]) -> list[Verdict]:
        return [Verdict("faithful", 0.75, Support(p[:6], 0, 6)) for p in passages]

    def close(self) -> None: ...


def run(
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    engine: Any,
    operation: OperationConfig = RUBRIC,
    *,
    filters: FilterConfig | None = None,
    verifier: Any = None,
    judges: JudgesConfig | None = None,
    probe: str = "probe-digest",
    **changes: Any,
) -> Shard:
    """Synthesize the corpus in `tmp_path`, which is made where there is none, into the folder `name`."""
    monkeypatch.setattr(TransformersConfig, "open", lambda self, model, **how: engine)
    monkeypatch.setattr(JudgePool, "verifier", verifier or Sure())
    trained = TrainedVerifier(tmp_path, "none", "verifier-digest")
    records = (Probe(tmp_path, tmp_path, probe), trained, filters or FilterConfig())
    return synthesize(
        replace(SynthesizeConfig(chunk_size=5), **changes),
        operation=operation,
        scoring=Scoring(RubricConfig(), judges or JudgesConfig(), *records),
        generator=GENERATOR,
        corpus=corpus(tmp_path),
        round=2,
        ctx=replace(StepContext.local(tmp_path / name / "synthesize-rephrase", 7), root=tmp_path),
    )


def files(out: Path) -> dict[str, bytes]:
    """What a result covers: the runner's own files, which hold times, are left out."""
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and p.name not in RUNNER_FILES}
