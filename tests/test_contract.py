"""Nothing stops a step for one item, and nothing disappears (docs/data.md): generated garbage goes into every stage that is no
reader (those are in corpus/test_garbage.py), and what comes out is counted with what was rejected."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synpro.commands import rewrite as rewriting
from synpro.commands import score as scoring
from synpro.commands.texts import documents_of
from synpro.corpus.passages import PassageConfig, cut_passages
from synpro.engines.scripted import ScriptedConfig, ScriptedEngine
from synpro.faithfulness.claims import make_claims
from synpro.faithfulness.llm_verifier import Calibration, LLMVerifier
from synpro.judges.base import Alignment
from synpro.judges.dataman import DataManQuality
from synpro.judges.layout_llm import LLMLayout
from synpro.operations.base import parse_completion
from synpro.operations.registry import OPERATIONS
from synpro.records import Chat, Completion, Document, Passage, Rewrite
from synpro.rewards.advantages import is_value, normalized_totals
from synpro.rewards.base import FAILED, Reward
from synpro.rewards.rubric import Rubric
from synpro.runner.context import StepContext
from synpro.runner.launch import MachineConfig
from synpro.runner.rejects import RejectLog
from synpro.stages.probe import ProbeConfig, _prompt_batches
from synpro.stages.train_verifier import _confirmed
from tests.garbage import LINE, TEXT, VALUE
from tests.synthesis.scripted import GOOD, SOURCE, Sure, corpus, run


def measured_counts(stage: str, count: Counter[str]) -> str:
    return f"contract, {stage}: " + ", ".join(f"{n:,} {name}" for name, n in count.items())


FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
TEXTS = st.lists(TEXT, min_size=1, max_size=12)


def garbled(texts: Sequence[str]) -> ScriptedEngine:
    """An engine that answers with these, over and over."""
    return ScriptedEngine(lambda chat, index: texts[(len(str(chat)) + index) % len(texts)])


def passage(text: str, id: str = "d#0000") -> Passage:
    return Passage(id, id.partition("#")[0], 0, 0, len(text), text)


def file_of(tmp_path: Path, lines: Sequence[bytes]) -> Path:
    """A file of one good row and these lines."""
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"text": "The mill by the river.", "prompt": "Rye?", "answer": "Yes."}\n' + b"\n".join(lines) + b"\n")
    return path


def test_rewrite_and_score_answer_for_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property) -> None:
    count = Counter[str]()
    losses = [0.5, math.nan, math.inf, -1.0]

    class Scorer:
        def __init__(self, *folders: Path, dtype: str = "") -> None: ...

        def score(self, texts: Sequence[str]) -> list[float]:
            return [losses[len(text) % 4] for text in texts]

    monkeypatch.setattr("synpro.lm.influence.Influence", Scorer)
    probe = SimpleNamespace(before=tmp_path, afters=[tmp_path])
    for module in (rewriting, scoring):
        monkeypatch.setattr(module, "newest_record", lambda *_: probe)

    @FEW
    @given(lines=st.lists(LINE, min_size=1, max_size=10), answers=TEXTS)
    def check(lines: list[bytes], answers: list[str]) -> None:
        prepare = SimpleNamespace(passages=PassageConfig(max_words=40))
        synthesize = SimpleNamespace(engine=ScriptedConfig(answers=tuple(answers)))
        operations = {"rephrase": OPERATIONS["rephrase"].defaults}
        cfg = SimpleNamespace(operations=operations, prepare=prepare, synthesize=synthesize, seed=1, machine=MachineConfig())
        for module in (rewriting, scoring):
            monkeypatch.setattr(module, "open_run", lambda root: cfg)
        file = file_of(tmp_path, lines)
        scored = scoring.score_influence(tmp_path, file) or []
        assert len(scored) == 1 + len(lines)
        assert all((s.influence is not None and math.isfinite(s.influence)) or s.reason for s in scored)
        json.dumps([scoring.score_row(s) for s in scored], allow_nan=False).encode()
        rewrites = rewriting.rewrite(tmp_path, file)
        unread = [r for r in rewrites if r.finish == "error"]
        read = [item for item in documents_of(file) if isinstance(item, Document)]
        assert len(unread) + len(read) == 1 + len(lines) and all(r.text or r.reason for r in rewrites)
        assert len(rewrites) == len(unread) + sum(len(cut_passages(item, prepare.passages)) for item in read)
        values = sum(s.influence is not None for s in scored)
        count.update(rows=1 + len(lines), scored=values, without_number=len(scored) - values - len(unread), unread=len(unread))

    check()
    record_property("measured", measured_counts("rewrite and score", count))


def test_probe_data_is_learned_or_rejected(tmp_path: Path, record_property) -> None:
    count, prepared = Counter[str](), corpus(tmp_path)

    @FEW
    @given(lines=st.lists(LINE, min_size=1, max_size=10))
    def check(lines: list[bytes]) -> None:
        ctx = StepContext.local(tmp_path / "probe")
        ctx.logger.rejects.clear()
        cfg = ProbeConfig(data=str(file_of(tmp_path, lines)), max_rejected=1.0)
        learned = len(_prompt_batches(cfg, prepared, 64, 0, ctx.logger)._examples)
        rejected = len(list(RejectLog(tmp_path / "probe/rejects.jsonl").rows()))
        assert learned + rejected == 1 + len(lines)
        count.update(rows=1 + len(lines), learned=learned, rejected=rejected)

    check()
    record_property("measured", measured_counts("probe data", count))


def test_every_answer_of_synthesis_is_kept_or_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property
) -> None:
    count = Counter[str]()

    class Odd(Sure):
        def check(self, claims: list[str], passages: list[str]) -> list[Any]:
            if any("Rephrased" in claim or len(claim) % 5 == 1 for claim in claims):
                raise ValueError("this claim is odd")
            return super().check(claims, passages)

    def answer(chat: Chat, texts: Sequence[str]) -> str:
        asked = chat[-1]["content"]
        metal = asked[asked.rindex("Metal ") :].split(" ")[1]
        return GOOD.replace("copper", f"metal {metal}") if metal.endswith("0") else texts[sum(map(ord, metal)) % len(texts)]

    @settings(FEW, max_examples=6)
    @given(answers=st.lists(st.one_of(TEXT, TEXT.map(lambda text: GOOD + " " + text)), min_size=1, max_size=8))
    def check(answers: list[str]) -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        engine = ScriptedEngine(lambda chat, index: answer(chat, answers))
        shard = run(tmp_path, "out", monkeypatch, engine, verifier=Odd(), min_kept=0, max_failed=1)
        rejects = list(RejectLog(shard.dir / "rejects.jsonl").rows())
        assert shard.answers == shard.kept + len(rejects) == 12
        assert all(r.reason and r.detail for r in rejects)
        count.update(answers=12, kept=shard.kept, rejected=len(rejects))

    check()
    record_property("measured", measured_counts("synthesize", count))


def test_every_answer_of_training_is_worth_a_number_or_counted(record_property) -> None:
    count = Counter[str]()

    @FEW
    @given(answers=TEXTS, values=st.lists(VALUE, min_size=1, max_size=5))
    def check(answers: list[str], values: list[Any]) -> None:
        class Odd(Reward):
            name = "odd"

            def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
                found = [values[len(r.answer) % len(values)] for r in rewrites]
                if "raise" in found:
                    raise ValueError("this text is odd")
                return found

        rubric = Rubric([Odd()], {"odd": 2.0})
        rubric.failures.max_share = 1.0
        for operation in (kind() for kind in OPERATIONS.values()):
            given = [operation.render(text) if i % 2 else text for i, text in enumerate(answers)]
            rewrites = [parse_completion(operation, passage(SOURCE), Completion(a, 9, "stop")) for a in given]
            assert all((r.text is None) == bool(r.reason) for r in rewrites)
            before = rubric.failures.reasons.total()
            scores = rubric.score(rewrites)
            assert len(scores) == len(answers)
            assert all(math.isfinite(total) for total in normalized_totals(scores, rubric.weights))
            kinds = Counter("failed" if s["odd"] == FAILED else "number" if is_value(s["odd"]) else "none" for s in scores)
            assert kinds["failed"] >= rubric.failures.reasons.total() - before
            count.update(kinds, answers=len(answers))

    check()
    record_property("measured", measured_counts("train_generator", count))


def test_every_claim_of_a_verifier_is_used_or_rejected(tmp_path: Path, record_property) -> None:
    count = Counter[str]()

    class Encoder:
        def align(self, texts: Sequence[str], others: Sequence[str]) -> list[Alignment | None]:
            return [None if len(t) % 3 == 0 else Alignment(len(t) % 5 / 4, 1.0) for t in texts]

    @FEW
    @given(texts=TEXTS)
    def check(texts: list[str]) -> None:
        ctx = StepContext.local(tmp_path)
        ctx.logger.rejects.clear()
        some = [passage(text + " " + SOURCE if i % 3 else text, f"d{i}#0000") for i, text in enumerate([*texts, "", ""])]
        claims = make_claims(some, 0, 60)
        used = _confirmed(claims, SimpleNamespace(encoder=Encoder()), ctx.logger)
        rejects = {(r.text, r.source) for r in RejectLog(tmp_path / "rejects.jsonl").rows()}
        left_out = [c for c in claims if c not in used]
        assert rejects == {(c.text, c.base) for c in left_out}
        count.update(claims=len(claims), used=len(used), rejected=len(left_out))

    check()
    record_property("measured", measured_counts("train_verifier", count))


def test_every_text_that_a_judge_is_given_has_a_value_or_a_reason(record_property) -> None:
    count = Counter[str]()

    @FEW
    @given(texts=st.lists(TEXT, min_size=1, max_size=9, unique=True), replies=TEXTS)
    def check(texts: list[str], replies: list[str]) -> None:
        quality = DataManQuality(garbled(replies), max_failed=1.0)
        layout = LLMLayout(garbled(replies), max_failed=1.0)
        verifier = LLMVerifier(garbled(replies), Calibration(), max_failed=1.0)
        for judge, values in (
            (quality.judge, quality.judge.ask(texts)),
            (layout, layout.compare([(text, SOURCE) for text in texts])),
            (verifier, verifier.check(texts, [SOURCE] * len(texts))),
        ):
            missing = sum(value is None for value in values)
            assert len(values) == len(texts) and judge.failures.reasons.total() == missing
            count.update(texts=len(texts), judged=len(texts) - missing, counted=missing)

    check()
    record_property("measured", measured_counts("judges' replies", count))


def test_every_item_of_a_task_is_scored_or_too_long(tmp_path: Path, record_property) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from synpro.lm.tasks import score_task

    tokenizer = corpus(tmp_path).dir / "tokenizer" / "tokenizer.json"
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=300, **sizes)).eval()
    count = Counter[str]()
    for context in (8, 30, 60, 512):
        found = score_task(model, tokenizer, "copa", eos=0, pad=1, context=context, max_items=20)
        assert found.items + len(found.too_long) == 20 and (found.items == 0) == (not found.scores)
        count.update(items=20, scored=found.items, too_long=len(found.too_long))
    assert count["scored"] and count["too_long"]
    record_property("measured", measured_counts("evaluate", count))
