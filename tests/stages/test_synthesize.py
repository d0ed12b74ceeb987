"""The stage synthesize: filters, lineage, resume. Answers are scripted here; the loop tests run it with a real generator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from synpro.corpus.store import REWRITES
from synpro.corpus.tokens import load_tokenizer, read_tokens, split_documents
from synpro.engines.scripted import ScriptedEngine
from synpro.judges.base import Verdict
from synpro.operations.base import OperationConfig
from synpro.operations.rephrase import Rephrase
from synpro.records import Passage, Rewrite, Shard
from synpro.rewards.filters import BY_SCORE, RULES, FilterConfig, Sample, filter_reasons, rule_failure, score_failure
from synpro.runner.logger import StepLogger
from synpro.schema import SchemaError, build
from synpro.stages.synthesize import SynthesizeConfig
from tests.synthesis.scripted import GOOD, RUBRIC, SOURCE, Counting, Sure, corpus, files, run


def rewrite(answer: str, source: str = SOURCE, finish: str = "stop") -> Rewrite:
    operation = Rephrase()
    text = operation.parse(answer) if answer.startswith("Rephrased:") else None
    passage = Passage("doc#0000", "doc", 0, 0, len(source), source)
    return Rewrite(passage, "rephrase", answer, text, None if text else "no heading", 40, finish)


FAILURES: list[tuple[str, str, dict, str, dict]] = [
    ("no_answer", "", {}, "error", {}),
    ("unparsed", "Copper is a metal.", {}, "stop", {}),
    ("truncated", GOOD, {}, "length", {}),
    ("too short", "Rephrased:\nCopper is a metal.", {}, "stop", {}),
    (
        "too long",
        GOOD + " It serves people well, and that is all there is to say about this red old metal today." * 5,
        {},
        "stop",
        {},
    ),
    ("loop", "Rephrased:\n" + "Copper is used for many cables. " * 8, {}, "stop", {}),
    (
        "language",
        "Rephrased:\nSeit etwa zehntausend Jahren bearbeiten Menschen Kupfer, ein weiches rotes Metall. Es "
        "leitet Wärme und Strom sehr gut, deshalb bestehen die meisten Kabel daraus. "
        "Auch Wasserrohre werden oft aus Kupfer gemacht.",
        {},
        "stop",
        {},
    ),
    ("copy", f"Rephrased:\n{SOURCE}", {}, "stop", {}),
    ("no verdict", GOOD, {"faithfulness": None}, "stop", {}),
    ("support", GOOD, {"similarity": 1.0, "faithfulness": 0.25}, "stop", {}),
    ("support", GOOD, {"faithfulness": 0.75}, "stop", {"min_faithfulness": 0.9}),
]
"""(reason, answer, scores, finish, settings of `[filters]`) of a text that a filter drops, at least one for each filter."""


@pytest.mark.parametrize(("reason", "answer", "scores", "finish", "settings"), FAILURES)
def test_each_filter_names_its_reason_and_says_the_numbers(
    reason: str, answer: str, scores: dict, finish: str, settings: dict
) -> None:
    verdict = failure(rewrite(answer, finish=finish), scores, **settings)
    assert verdict is not None
    assert verdict[0] == reason
    assert verdict[1]


def test_every_filter_is_shown_to_drop_something() -> None:
    assert {reason for reason, *_ in FAILURES} == {*RULES, *BY_SCORE}
    assert [reason for reason, meaning in filter_reasons().items() if not meaning.endswith(".")] == [], "no docstring"
    assert filter_reasons()["copy"] == "The text copies too much of its passage."


def failure(rewrite: Rewrite, scores: dict, **settings) -> tuple[str, str] | None:
    sample, cfg = Sample(rewrite, RUBRIC, scores), FilterConfig(**settings)
    return rule_failure(sample, cfg) or score_failure(sample, cfg)


def test_a_good_rewrite_passes_every_filter() -> None:
    assert failure(rewrite(GOOD), {"faithfulness": 1.0, "length": None}) is None
    assert failure(rewrite(GOOD, finish="length"), {}, keep_truncated=True) is None
    assert failure(rewrite(GOOD), {"faithfulness": 0.0}, min_faithfulness=0) is None


def test_a_shard_is_whole_and_carries_its_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    shard = run(tmp_path, "a", monkeypatch, engine)
    assert engine.closed
    assert (shard.passages, shard.answers, shard.kept, shard.dropped) == (12, 12, 9, 3)
    assert (shard.covered, shard.documents) == (9, 3)
    rows = pq.read_table(shard.dir / "rewrites.parquet").to_pylist()
    assert list(rows[0]) == REWRITES.names
    assert [r["passage"] for r in rows] == [f"d{d}#{i:04d}" for d in range(3) for i in range(4)]
    assert {(r["generator"], r["base"], r["round"], r["operation"]) for r in rows} == {
        ("generator-digest", "hf:some/model", 2, "rephrase")
    }
    assert [r["id"] for r in rows[:2]] == ["d0#0000:rephrase:02:0", "d0#0001:rephrase:02:0"]
    assert len({r["id"] for r in rows}) == 12 and {r["version"] for r in rows} == {0}
    assert len({r["seed"] for r in rows}) == 3  # one per chunk of 5
    assert json.loads(rows[0]["sampling"]) == {"temperature": 1.0, "top_p": 0.9, "max_new_tokens": 2048}
    assert json.loads(rows[0]["scores"])["format"] == json.loads(rows[0]["scores"])["faithfulness"] == 1.0
    claims = json.loads(rows[0]["claims"])
    assert [c["claim"] for c in claims] == Rephrase().claims(rows[0]["text"])
    assert claims[0] | {"claim": ""} == {
        "claim": "", "label": "faithful", "probability": 0.75, "support": "Metal ", "start": 0, "end": 6,
    }  # fmt: skip
    assert json.loads(rows[1]["claims"]) == []
    assert [r["kept"] for r in rows[:4]] == [True, False, True, True]
    assert rows[1]["reason"] == "unparsed"
    assert rows[1]["text"] is None
    rejects = [json.loads(line) for line in (shard.dir / "rejects.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rejects] == [f"d{d}#0001:rephrase:02:0" for d in range(3)]
    assert {(r["reason"], r["text"]) for r in rejects} == {("unparsed", "no heading")}
    documents = pq.read_table(shard.dir / "documents.parquet").to_pylist()
    assert list(documents[0]) == ["id", "document", "operation", "round", "version", "text"]
    assert [r["synthetic"] for r in rows[:2]] == [documents[0]["id"], None]
    encoded = split_documents(read_tokens(shard.dir / "tokens.bin", "uint16"), 0)
    tokenizer = load_tokenizer(tmp_path / "prepare" / "tokenizer")
    assert tokenizer.decode_batch([d.tolist() for d in encoded]) == [d["text"] for d in documents]
    assert shard.text_tokens == len(encoded.tokens)
    assert documents[1]["text"] == "\n\n".join(r["text"] for r in rows[4:8] if r["kept"])


def test_progress_is_a_share_of_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float, str]] = []
    monkeypatch.setattr(StepLogger, "progress", lambda log, done, total, label="", **more: told.append((done, total, label)))
    run(tmp_path, "run", monkeypatch, Counting())
    assert {total for _, total, _ in told} == {100} and [label for *_, label in told if not label.endswith("percent")] == []
    shares = [done for done, *_ in told]
    assert shares == sorted(shares) and shares[0] < 50 and shares[-1] == 100


def test_kept_texts_are_embedded_beside_their_passages_where_the_encoder_is_in_use(tmp_path: Path, monkeypatch) -> None:
    from synpro.measure.collapse import mean_pairwise_distance

    encoded = OperationConfig("rephrase", weights={"similarity": 1.0, "format": 1.0})
    shard = run(tmp_path, "a", monkeypatch, Counting(), encoded, max_embedded=4)
    rows = pq.read_table(shard.dir / "embeddings.parquet").to_pylist()
    kept = [r["passage"] for r in pq.read_table(shard.dir / "rewrites.parquet").to_pylist() if r["kept"]]
    assert [r["id"] for r in rows] == kept[::3] and len(kept) == 9 and len(rows) <= 4
    texts, sources = (np.array([r[side] for r in rows]) for side in ("text", "source"))
    assert texts.shape == sources.shape == (3, 384)
    assert 0 < (mean_pairwise_distance(texts) or 0) < 0.1, "rewrites of nearly the same passage lie close together"
    assert not (run(tmp_path, "b", monkeypatch, Counting()).dir / "embeddings.parquet").exists()


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_killed_step_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    whole = run(tmp_path, "a", monkeypatch, Counting())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "b", monkeypatch, Counting(calls))
    engine = Counting()
    again = run(tmp_path, "b", monkeypatch, engine)
    assert len(engine.asked) == 12 - 5 * calls  # finished chunks are not asked again
    assert files(again.dir) == files(whole.dir)
    assert again.digest == whole.digest
    late = Counting()
    assert run(tmp_path, "b", monkeypatch, late) == again and not late.asked, "killed before `result.json` was there"


def test_a_resumed_step_stops_for_too_few_texts_where_a_calm_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier believes five of six blocks: 83% of all pass, and none of what is left after the kill."""
    from synpro.synthesis import blocks

    class Doubting(Sure):
        is_killed = False

        def check(self, claims: list[str], passages: list[str]) -> list[Verdict]:
            known = ["Metal 5." not in p for p in passages]
            if self.is_killed and not all(known):
                raise KeyboardInterrupt
            return [Verdict("faithful", 0.9, None) if ok else Verdict("unsupported", 0.1, None) for ok in known]

    def go(name: str, verifier: Doubting) -> Shard:
        engine = Counting()
        monkeypatch.setattr(engine, "close", lambda: None)  # it is opened in both passes
        return run(tmp_path, name, monkeypatch, engine, verifier=verifier, chunk_size=40, min_kept=0.5)

    monkeypatch.setattr("tests.synthesis.scripted.corpus", lambda path: corpus(path, 6, 40))
    monkeypatch.setattr(blocks, "BLOCK_PASSAGES", 40)
    killed = Doubting()
    killed.is_killed = True
    with pytest.raises(KeyboardInterrupt):
        go("b", killed)
    assert go("b", Doubting()).digest == go("a", Doubting()).digest


def test_a_step_killed_while_scoring_does_not_open_the_generator_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synpro.rewards.format import Format

    own = Format.score
    monkeypatch.setattr(Format, "score", lambda self, rewrites: (_ for _ in ()).throw(OSError("judge is down")))
    with pytest.raises(OSError, match="judge is down"):
        run(tmp_path, "a", monkeypatch, Counting())
    monkeypatch.setattr(Format, "score", own)
    engine = Counting()
    shard = run(tmp_path, "a", monkeypatch, engine)
    assert engine.asked == []
    assert shard.kept == 9


def test_chunks_of_another_request_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "a", monkeypatch, Counting(1))
    engine = Counting()
    run(tmp_path, "a", monkeypatch, engine, replace(RUBRIC, temperature=0.5))
    assert len(engine.asked) == 12


def test_a_shard_that_kept_nothing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    shard = run(tmp_path, "a", monkeypatch, ScriptedEngine(lambda chat, index: "nothing"))
    assert (shard.passages, shard.kept, shard.documents) == (12, 0, 0)
    assert "WARNING: no text of rephrase was kept" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("chunk_size", 0, r"^chunk_size: 0 is out of range"),
        ("min_length", 0.5, r"^min_length: .*operations\.NAME\.min_length"),
        ("max_failed", 1.5, r"^max_failed"),
        ("max_new_tokens", {"rephrase": 100}, r"^max_new_tokens: .*operations\.NAME\.max_new_tokens"),
        ("min_support", 0.5, r"^min_support: .*filters\.min_faithfulness"),
        ("batch_size", 8, r"^batch_size: .*synthesize\.engine\.batch_size"),
    ],
)
def test_bad_settings_and_old_keys_are_refused_by_name(key: str, value: object, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        build(SynthesizeConfig, {key: value})
