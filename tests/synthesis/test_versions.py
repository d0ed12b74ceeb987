"""Versions, retries and selection: what is asked, what is kept, and that nothing is lost or done twice."""

import gc
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synpro.engines.failures import TooManyFailures
from synpro.operations.base import OperationConfig
from synpro.records import Chat, Completion, Passage, Rewrite, Shard
from synpro.rewards.base import FAILED
from synpro.rewards.worker import Scored
from synpro.synthesis import blocks
from synpro.synthesis.answers import Answer, TooFewKept
from synpro.synthesis.selection import select, version_overlap
from tests.synthesis import scripted
from tests.synthesis.scripted import ANY, RUBRIC, Sampled, files, run, text


def rows(shard: Shard) -> list[dict]:
    return pq.read_table(shard.dir / "rewrites.parquet").to_pylist()


def small(monkeypatch: pytest.MonkeyPatch, documents: int, each: int) -> None:
    own = scripted.corpus
    monkeypatch.setattr(scripted, "corpus", lambda folder: own(folder, documents, each))


def test_retries_cover_the_corpus_and_only_passages_that_are_short_are_asked_again(tmp_path: Path, monkeypatch) -> None:
    small(monkeypatch, 40, 5)
    once = run(tmp_path, "once", monkeypatch, Sampled(0.45), filters=ANY, chunk_size=64)
    assert once.answers == 200 and once.covered / 200 < 0.6
    engine = Sampled(0.45)
    often = run(tmp_path, "often", monkeypatch, engine, replace(RUBRIC, max_tries=8), filters=ANY, chunk_size=64)
    assert often.covered / often.passages >= 0.96
    assert often.kept == often.covered, "one version is wanted, so no passage is asked again that has one"
    assert often.answers == often.kept + often.dropped == len(engine.asked) == sum(engine.counts)
    tried = {row["passage"]: row["version"] for row in rows(often)}  # the last one
    assert max(tried.values()) <= 7
    assert all(row["kept"] == (row["version"] == tried[row["passage"]]) for row in rows(often) if tried[row["passage"]] < 7)


def test_versions_have_ids_seeds_documents_and_rows_of_their_own(tmp_path: Path, monkeypatch) -> None:
    engine = Sampled(0.6)
    shard = run(tmp_path, "a", monkeypatch, engine, replace(RUBRIC, num_versions=3, max_tries=9), filters=ANY)
    assert engine.counts[:12] == [3] * 12, "the answers to a prompt come from one call"
    assert set(engine.counts[12:]) <= {1, 2, 3} and len(engine.counts) > 12
    assert (shard.passages, shard.covered, shard.kept) == (12, 12, 36)
    found = rows(shard)
    assert len({r["id"] for r in found}) == len(found) == shard.answers
    assert all(r["id"] == f"{r['passage']}:rephrase:02:{r['version']}" for r in found)
    again = [r for r in found if r["version"] > 2]
    assert again and not {r["seed"] for r in again} & {r["seed"] for r in found if r["version"] < 3}
    documents = pq.read_table(shard.dir / "documents.parquet").to_pylist()
    assert [d["id"] for d in documents] == [f"d{d}:rephrase:02:{k}" for d in range(3) for k in range(3)]
    for document in documents:
        assert document["text"] == "\n\n".join(r["text"] for r in found if r["synthetic"] == document["id"])
    rejects = [json.loads(line)["id"] for line in (shard.dir / "rejects.jsonl").read_text().splitlines()]
    assert sorted(rejects) == sorted(r["id"] for r in found if not r["kept"])


@pytest.mark.parametrize("calls", [0, 2, 4, 6])
def test_a_killed_step_with_retries_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch, calls: int) -> None:
    monkeypatch.setattr(blocks, "BLOCK_PASSAGES", 5)
    wanted = replace(RUBRIC, num_versions=2, num_candidates=3, max_tries=5, select_by="least_copied")
    whole = run(tmp_path, "whole", monkeypatch, Sampled(0.5), wanted, filters=ANY)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "killed", monkeypatch, Sampled(0.5, calls), wanted, filters=ANY)
    engine = Sampled(0.5)
    again = run(tmp_path, "killed", monkeypatch, engine, wanted, filters=ANY)
    assert files(again.dir) == files(whole.dir)
    assert sum(engine.counts) < whole.answers or calls == 0


def test_memory_holds_one_block(tmp_path: Path, monkeypatch) -> None:
    small(monkeypatch, 10, 10)
    monkeypatch.setattr(blocks, "BLOCK_PASSAGES", 20)
    alive = []

    def counting(groups, *settings) -> None:
        gc.collect()
        alive.append(sum(isinstance(thing, Answer) for thing in gc.get_objects()))
        select(groups, *settings)

    monkeypatch.setattr(blocks, "select", counting)
    shard = run(tmp_path, "a", monkeypatch, Sampled(), replace(RUBRIC, num_versions=2), filters=ANY)
    assert (shard.answers, alive) == (200, [2 * 20] * 5)


def test_the_generator_is_opened_for_the_first_block_and_once_for_all_others(tmp_path: Path, monkeypatch) -> None:
    """And a step whose texts no judge believes ends after the first block."""
    small(monkeypatch, 10, 10)
    monkeypatch.setattr(blocks, "BLOCK_PASSAGES", 40)
    engine, closed = Sampled(), list[int]()
    monkeypatch.setattr(Sampled, "close", lambda self: closed.append(len(self.asked)))
    assert run(tmp_path, "a", monkeypatch, engine, filters=ANY, chunk_size=20).kept == 100
    assert closed == [40, 100], "prompts asked when it is closed"
    with pytest.raises(TooFewKept, match="support"):
        run(tmp_path, "b", monkeypatch, engine, filters=ANY, verifier=Strict(believed=0), chunk_size=20)
    assert len(engine.asked) == 140


class Strict:
    """Believes half of the texts, or none."""

    def __init__(self, believed: float = 1) -> None:
        self.believed = believed

    def knows(self, passage: str) -> bool:
        return True

    def check(self, claims: list[str], passages: list[str]) -> list:
        from synpro.judges.base import Verdict

        return [Verdict("faithful", self.believed * float(len(c) % 2), None) for c in claims]

    def close(self) -> None: ...


def test_texts_that_only_the_judges_drop_are_asked_for_again(tmp_path: Path, monkeypatch) -> None:
    shard = run(tmp_path, "a", monkeypatch, Sampled(), replace(RUBRIC, max_tries=12), filters=ANY, verifier=Strict())
    assert shard.covered == 12 and {r["reason"] for r in rows(shard)} == {None, "support"}


def test_near_copies_among_the_versions_are_dropped(tmp_path: Path, monkeypatch) -> None:
    class Repeating(Sampled):
        def answer(self, chat: Chat, seed: int, index: int) -> Completion:
            own = text(chat[-1]["content"]).split()
            return Completion("Rephrased:\n" + " ".join([f"word{seed + index}", *own]), 30, "stop")

    shard = run(tmp_path, "a", monkeypatch, Repeating(), replace(RUBRIC, num_versions=2, max_tries=4), filters=ANY)
    assert (shard.kept, shard.answers) == (12, 48)
    assert {r["reason"] for r in rows(shard) if not r["kept"]} == {"near copy"}
    assert "in version 0; at most 60%" in rows(shard)[1]["detail"]


def test_overlap_of_versions_counts_runs_of_five_words() -> None:
    one = "one two three four five six seven eight nine ten"
    assert version_overlap(one, one.upper() + "!") == 1.0
    assert version_overlap(one, "zero one two three four five six") == 2 / 3  # of the shorter text's three runs
    assert version_overlap("a b", "A b.") == 1.0 and version_overlap("a b", "a c") == 0.0


def answers(*texts_and_scores: tuple[str, dict]) -> list[Answer]:
    source = text("source")
    passage = Passage("p#0000", "p", 0, 0, len(source), source)
    return [
        Answer(Rewrite(passage, "rephrase", t, t, None, 30, "stop"), i, 0, None, Scored(scores, []))
        for i, (t, scores) in enumerate(texts_and_scores)
    ]


def best(select_by: str, *groups: list[Answer], k: int = 1, **weights: float) -> list[list[int]]:
    cfg = OperationConfig(
        "rephrase", weights=weights or {"quality": 1.0}, num_versions=k, num_candidates=4, select_by=select_by
    )
    select(groups, cfg, 0.6)
    return [[a.version for a in group if a.failure is None] for group in groups]


def test_the_best_are_chosen_by_score_and_the_others_say_their_rank() -> None:
    group = answers(*((text(i), {"quality": q}) for i, q in enumerate([0.1, 0.9, 0.5, None])))
    assert best("quality", group, k=2) == [[1, 2]]
    assert [a.rank for a in group] == [3, 1, 2, 4]
    assert group[0].failure == ("not selected", "quality 0.1, rank 3 of 4; 2 are kept")


def test_the_weighted_sum_compares_within_a_passage() -> None:
    # Quality differs between passages, not within; the small differences of influence are what can be chosen by.
    first = answers(*((text(i), {"quality": 3.0, "influence": v}) for i, v in enumerate([0.01, 0.03, 0.02])))
    second = answers(*((text(i), {"quality": 1.0, "influence": v}) for i, v in enumerate([0.05, 0.01, 0.02])))
    assert best("reward", first, second, quality=9.0, influence=1.0) == [[1], [0]]


def test_a_text_that_fails_a_reward_is_not_the_best() -> None:
    group = answers(*((text(i), {"quality": 3.0, "influence": v}) for i, v in enumerate([FAILED, -0.9, 0.1, None])))
    assert best("influence", group, influence=1.0) == [[2]] and [a.rank for a in group] == [3, 2, 1, 4]
    group = answers(*((text(i), {"influence": v}) for i, v in enumerate([FAILED, -0.9, 0.1])))
    assert best("reward", group, k=2, influence=1.0) == [[1, 2]]


def test_least_copied_and_variety() -> None:
    source = text("source")
    copied = " ".join(source.split()[:24]) + " " + text("end", 1)
    group = answers((copied, {}), (text(1), {}), (source, {}))
    assert best("least_copied", group, k=2) == [[0, 1]] and [a.rank for a in group] == [2, 1, 3]
    alike = text("twice")
    group = answers((alike, {}), (alike.replace(alike.split()[0], "first"), {}), (text(3), {}))
    assert best("variety", group, k=3) == [[0, 2]]
    assert group[1].failure is not None and group[1].failure[0] == "near copy"


def test_the_whole_step_keeps_the_best_of_n(tmp_path: Path, monkeypatch) -> None:
    from synpro.rewards.length import Length

    monkeypatch.setattr(Length, "score", lambda self, some: [float(len(r.text)) for r in some])
    cfg = replace(RUBRIC, num_candidates=4, max_tries=4, select_by="length")
    shard = run(tmp_path, "a", monkeypatch, Sampled(), cfg, filters=ANY)
    assert (shard.answers, shard.kept, shard.covered) == (48, 12, 12)
    for passage in {r["passage"] for r in rows(shard)}:
        of = [r for r in rows(shard) if r["passage"] == passage]
        assert [r["kept"] for r in of] == [r["rank"] == 1 for r in of]
        assert max(r["selection"] for r in of) == next(r["selection"] for r in of if r["kept"])
        assert {r["reason"] for r in of} == {None, "not selected"}


def test_a_step_that_keeps_almost_nothing_stops_after_its_first_chunk(tmp_path: Path, monkeypatch) -> None:
    small(monkeypatch, 20, 4)
    engine = Sampled(0.0)
    with pytest.raises(TooFewKept, match=r"0 of the first 40 answers.*min_kept = 0.01.*unparsed \(40.*heading"):
        run(tmp_path, "a", monkeypatch, engine, filters=ANY, chunk_size=40)
    assert len(engine.asked) == 40
    assert run(tmp_path, "b", monkeypatch, Sampled(0.0), filters=ANY, min_kept=0.0).kept == 0


class Unreadable(Sampled):
    """Has no answer to some passages."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def answer(self, chat: Chat, seed: int, index: int) -> Completion:
        if any(name in chat[-1]["content"] for name in self.names):
            return Completion.failed("the prompt has 9000 tokens and the model reads at most 8192")
        return super().answer(chat, seed, index)


def test_a_prompt_without_an_answer_is_a_row_and_is_not_asked_again(tmp_path: Path, monkeypatch) -> None:
    shard = run(tmp_path, "a", monkeypatch, Unreadable("Metal 1.2"), replace(RUBRIC, max_tries=5), filters=ANY)
    (lost,) = [r for r in rows(shard) if not r["kept"]]
    assert (lost["id"], lost["reason"]) == ("d1#0002:rephrase:02:0", "no_answer") and "9000 tokens" in lost["detail"]
    assert shard.covered == 11
    small(monkeypatch, 10, 4)
    with pytest.raises(TooManyFailures, match="9000 tokens"):
        run(tmp_path, "b", monkeypatch, Unreadable("Metal"), filters=ANY, max_failed=0.1)


def test_the_rules_look_at_each_answer_once(tmp_path: Path, monkeypatch) -> None:
    from synpro.rewards.filters import RULES

    seen, own = [], RULES["loop"]
    monkeypatch.setitem(RULES, "loop", lambda sample, cfg: seen.append(sample.text) or own(sample, cfg))
    shard = run(tmp_path, "a", monkeypatch, Sampled(), filters=ANY)
    assert shard.kept == shard.answers == len(seen) == len(set(seen))


def test_a_text_that_breaks_a_judge_is_a_row_and_the_others_are_scored(tmp_path: Path, monkeypatch) -> None:
    from synpro.rewards.format import Format

    def score(self: Format, some: list[Rewrite]) -> list[float]:
        if any("Metal 2.1" in r.passage.text for r in some):
            raise ValueError("no words")
        return [1.0] * len(some)

    monkeypatch.setattr(Format, "score", score)
    shard = run(tmp_path, "a", monkeypatch, Sampled(), filters=ANY)
    (lost,) = [r for r in rows(shard) if not r["kept"]]
    assert (lost["passage"], lost["reason"], lost["detail"]) == ("d2#0001", "unjudged", "ValueError: no words")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_candidates": 1, "num_versions": 2}, "num_candidates: 1 is below num_versions"),
        ({"num_versions": 3, "max_tries": 2}, "max_tries: 2 is below the 3"),
        ({"num_candidates": 2, "select_by": "influence"}, "select_by: 'influence' is neither a reward with a weight"),
        ({"num_versions": 2, "temperature": 0, "steps": 0}, "temperature: 0 makes all answers"),
        ({"min_length": 3.0}, "min_length: 3.0 must be below max_length"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OperationConfig("rephrase", **{"weights": {"format": 1.0}, **settings})


def test_lineage_tells_the_versions_of_a_passage_apart(tmp_path: Path, monkeypatch) -> None:
    from synpro.corpus.store import DOCUMENTS, write_rows
    from synpro.report.lineage import format_lineage, why

    prepare = tmp_path / "round-00" / "prepare"
    prepare.parent.mkdir()
    cfg = replace(RUBRIC, num_versions=2, num_candidates=3, select_by="least_copied")
    shard = run(tmp_path, "round-02", monkeypatch, Sampled(), cfg, filters=ANY)
    (tmp_path / "prepare").rename(prepare)
    words = {"split": "train", "text": "text", "source": "file:1", "words": 1}
    write_rows(prepare / "documents.parquet", DOCUMENTS, [{"id": f"d{d}", **words} for d in range(3)])
    for step in (prepare, shard.dir):
        (step / "result.json").write_text("{}")
        (step / "request.json").write_text("{}")
    versions = [why(tmp_path, f"d1:rephrase:02:{k}") for k in range(2)]
    assert all(len(v.rewrites) == 4 and {o.span.id for o in v.rewrites} == {s.id for s in v.passages} for v in versions)
    assert not {o.id for o in versions[0].rewrites} & {o.id for o in versions[1].rewrites}
    passage = why(tmp_path, "d1#0002")
    assert len(passage.rewrites) == 3 and passage.synthetic == ("d1:rephrase:02:0", "d1:rephrase:02:1")
    (lost,) = [o for o in passage.rewrites if not o.kept]
    assert "not selected" in "\n".join(format_lineage(why(tmp_path, lost.id)))
    kept = format_lineage(versions[0])
    assert any("kept (rank" in line for line in kept) and any("by the passage's sentence" in line for line in kept)
