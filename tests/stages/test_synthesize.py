"""The stage synthesize: checks, lineage, resume. Answers are scripted here; the loop tests run it with a real generator."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synpro.corpus.store import PASSAGES, write_rows
from synpro.engines.base import Sampling
from synpro.engines.scripted import ScriptedEngine
from synpro.judges.base import JudgesConfig, Support, Verdict
from synpro.judges.table import Judges
from synpro.operations.base import OperationConfig
from synpro.operations.table import build
from synpro.records import Chat, Completion, Corpus, Generator, Passage, Probe, Rewrite, Verifier
from synpro.rewards.checks import CHECKS, judge
from synpro.rewards.rubric import RubricConfig
from synpro.run.journal import Journal
from synpro.run.lineage import REWRITE_COLUMNS
from synpro.stages.synthesize import SynthesizeConfig, synthesize

SOURCE = (
    "Copper is a soft metal with a reddish colour that people have worked for about ten thousand years. It conducts heat and "
    "electricity well, so most electric cables are made of it. Water pipes are another common use."
)
GOOD = (
    "Rephrased:\nFor roughly ten thousand years people have shaped copper, a reddish and rather soft metal. Because heat and "
    "current pass through it easily, it is what the majority of power cables consist of. It also serves for plumbing."
)
RULES = RubricConfig(weights={"rephrase": {"length": 1.0, "format": 1.0}, "reformat": {"format": 1.0}})
GENERATOR = Generator("rephrase", "hf:some/model", None, None, 2, "generator-digest")


def rewrite(answer: str, source: str = SOURCE, finish: str = "stop") -> Rewrite:
    operation = build(OperationConfig("rephrase"))
    text = operation.parse(answer) if answer.startswith("Rephrased:") else None
    passage = Passage("doc#0000", "doc", 0, 0, len(source), source)
    return Rewrite(passage, "rephrase", answer, text, None if text else "no heading", 40, finish)


@pytest.mark.parametrize(
    ("reason", "answer", "scores", "finish"),
    [
        ("unparsed", "Copper is a metal.", {}, "stop"),
        ("clipped", GOOD, {}, "length"),
        ("too short", "Rephrased:\nCopper is a metal.", {}, "stop"),
        (
            "too long",
            GOOD + " It serves people well, and that is all there is to say about this red old metal today." * 5,
            {},
            "stop",
        ),
        ("loop", "Rephrased:\n" + "Copper is used for many cables. " * 8, {}, "stop"),
        (
            "language",
            "Rephrased:\nSeit etwa zehntausend Jahren bearbeiten Menschen Kupfer, ein weiches rotes Metall. Es "
            "leitet Wärme und Strom sehr gut, deshalb bestehen die meisten Kabel daraus. "
            "Auch Wasserrohre werden oft aus Kupfer gemacht.",
            {},
            "stop",
        ),
        ("copy", f"Rephrased:\n{SOURCE}", {}, "stop"),
        ("support", GOOD, {"similarity": 1.0, "faithfulness": 0.25}, "stop"),
    ],
)
def test_each_check_names_its_reason_and_says_the_numbers(reason: str, answer: str, scores: dict, finish: str) -> None:
    verdict = judge(rewrite(answer, finish=finish), scores, SynthesizeConfig())
    assert verdict is not None
    assert verdict[0] == reason
    assert verdict[1]


def test_a_good_rewrite_passes_every_check() -> None:
    assert judge(rewrite(GOOD), {"faithfulness": 1.0, "length": None}, SynthesizeConfig()) is None
    assert judge(rewrite(GOOD, finish="length"), {}, SynthesizeConfig(clipped=True)) is None
    assert judge(rewrite(GOOD), {"faithfulness": 0.0}, SynthesizeConfig(min_support=0)) is None


def test_every_reason_is_reachable() -> None:
    assert list(CHECKS) == ["unparsed", "clipped", "too short", "too long", "loop", "language", "copy", "support"]


def corpus(tmp_path: Path, documents: int = 3, each: int = 4) -> Corpus:
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


class Sure:
    """A verifier that believes everything, with the first words of the passage as support."""

    def check(self, claims: list[str], passages: list[str]) -> list[Verdict]:
        return [Verdict("faithful", 0.75, Support(p[:6], 0, 6)) for p in passages]

    def close(self) -> None: ...


def run(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine, **changes):
    from synpro.engines.hf import HFEngine

    monkeypatch.setattr(HFEngine, "load", classmethod(lambda cls, *args, **kwargs: engine))
    monkeypatch.setattr(Judges, "verifier", Sure())
    out = tmp_path / name / "synthesize-rephrase"
    return synthesize(
        replace(SynthesizeConfig(chunk=5), **changes),
        operation=OperationConfig("rephrase"),
        rubric=RULES,
        judges=JudgesConfig(),
        generator=GENERATOR,
        corpus=corpus(tmp_path),
        probe=Probe(tmp_path, tmp_path, "probe-digest"),
        verifier=Verifier(tmp_path, "none", "verifier-digest"),
        round=2,
        out=out,
        journal=Journal(out),
        seed=7,
    )


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


def test_a_shard_is_whole_and_carries_its_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    shard = run(tmp_path, "a", monkeypatch, engine)
    assert engine.closed
    assert (shard.passages, shard.kept, shard.dropped, shard.documents) == (12, 9, 3, 3)
    assert not (shard.dir / "chunks").exists()
    rows = pq.read_table(shard.dir / "rewrites.parquet").to_pylist()
    assert list(rows[0]) == REWRITE_COLUMNS
    assert [r["passage"] for r in rows] == [f"d{d}#{i:04d}" for d in range(3) for i in range(4)]
    assert {(r["generator"], r["base"], r["round"], r["operation"]) for r in rows} == {
        ("generator-digest", "hf:some/model", 2, "rephrase")
    }
    assert len({r["id"] for r in rows}) == 12
    assert len({r["seed"] for r in rows}) == 3  # one per chunk of 5
    assert json.loads(rows[0]["sampling"]) == {"temperature": 1.0, "top_p": 0.9, "max_new_tokens": 2048}
    assert json.loads(rows[0]["scores"])["format"] == json.loads(rows[0]["scores"])["faithfulness"] == 1.0
    claims = json.loads(rows[0]["claims"])
    assert [c["claim"] for c in claims] == build(OperationConfig("rephrase")).claims(rows[0]["text"])
    assert claims[0] | {"claim": ""} == {
        "claim": "", "label": "faithful", "probability": 0.75, "support": "Metal ", "start": 0, "end": 6,
    }  # fmt: skip
    assert json.loads(rows[1]["claims"]) == []
    assert [r["kept"] for r in rows[:4]] == [True, False, True, True]
    assert rows[1]["reason"] == "unparsed"
    assert rows[1]["text"] is None
    rejects = [json.loads(line) for line in (shard.dir / "rejects.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rejects] == ["d0#0001", "d1#0001", "d2#0001"]
    assert {(r["reason"], r["text"]) for r in rejects} == {("unparsed", "no heading")}
    documents = pq.read_table(shard.dir / "documents.parquet").to_pylist()
    assert list(documents[0]) == ["id", "document", "operation", "round", "text"]
    assert documents[1]["text"] == "\n\n".join(r["text"] for r in rows[4:8] if r["kept"])


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_killed_step_carries_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    whole = run(tmp_path, "a", monkeypatch, Counting())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "b", monkeypatch, Counting(calls))
    engine = Counting()
    again = run(tmp_path, "b", monkeypatch, engine)
    assert len(engine.asked) == 12 - 5 * calls  # finished chunks are not asked again
    assert files(again.dir) == files(whole.dir)
    assert again.digest == whole.digest


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
    run(tmp_path, "a", monkeypatch, engine, temperature=0.5)
    assert len(engine.asked) == 12


def test_a_shard_that_kept_nothing_is_said_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    shard = run(tmp_path, "a", monkeypatch, ScriptedEngine(lambda chat, index: "nothing"))
    assert (shard.passages, shard.kept, shard.documents) == (12, 0, 0)
    assert "WARNING: nothing of rephrase was kept" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -1),
        ("top_p", 0),
        ("max_new_tokens", {"rephrase": 0}),
        ("chunk", 0),
        ("min_length", 3.0),
        ("max_copied", {"rephrase": 2.0}),
        ("min_support", 1.5),
    ],
)
def test_bad_settings_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}"):
        SynthesizeConfig(**{key: value})
