import json
import random
import re
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest

from synpro.report.charts import loss
from synpro.report.headline import changes, forgotten, headline, since_start
from synpro.report.page import render, summary
from synpro.report.run_data import GeneratorTraining, Validation, load_run
from synpro.report.samples import samples
from synpro.report.warnings import _generator, find_warnings, influence_change
from synpro.runner.artifacts import CorruptRun, NotARun
from tests.report.builder import build, write_table


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "demo"))


def test_a_finished_run_is_read_whole(finished_run: Path) -> None:
    found = load_run(finished_run)
    assert found.missing == ()
    assert [s.name for s in found.steps[:5]] == [
        "round-00/prepare",
        "round-00/pretrain",
        "round-00/evaluate",
        "round-01/probe",
        "round-01/train-rephrase",
    ]
    assert [t.tokens for t in found.trainings] == [40_000, 70_000, 96_000]
    assert [s.tokens for s in found.steps if s.name.endswith("/pretrain")] == [40_000, 30_000, 26_000]
    assert [g.name for g in found.generators] == [
        f"{operation}, round {number}" for number in (1, 2) for operation in ("rephrase", "reformat")
    ]
    assert found.rejects == {"duplicate": 1}
    assert found.environment["versions.torch"] == "2.13.0"
    for shard in found.syntheses:
        assert shard.kept + sum(shard.reasons.values()) == shard.passages == 36
        assert [e.reason for e in shard.examples] == list(shard.reasons) == ["unparsed", "copy", "length"]


def test_reading_changes_nothing_and_needs_no_place(run: Path) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    load_run(run), samples(load_run(run))
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    moved = run.rename(run.parent / "elsewhere")
    assert load_run(moved).trainings == load_run(moved).trainings


def test_a_run_that_continues_a_model_shows_what_it_gained_and_forgot(run: Path) -> None:
    for name, times in {"start_heldout": 1.1, "start_general": 1.0, "general": 1.05}.items():
        for folder in (run / f"round-{r:02d}/evaluate" for r in (range(1) if name.startswith("start") else range(3))):
            rows = pq.read_table(folder / "heldout.parquet").to_pylist()
            names = {} if "heldout" in name else {"document": "1"}  # general text of two sources that both count from 1
            write_table(folder / f"{name}.parquet", [{**row, "nll": times * 2 * row["tokens"], **names} for row in rows])
    file = run / "round-00/evaluate/evaluation.json"
    start = {"heldout_loss": 2.2, "bits_per_byte": 0.8, "general_loss": 2.0}
    file.write_text(json.dumps({**json.loads(file.read_text()), "general_loss": 2.1, "start": start}))
    metrics = run / "round-00/pretrain/metrics.jsonl"
    before = {"step": 0, "tokens": 0, "reference_loss": 9.0, "heldout_loss": 9.0, "general_loss": 5.0}
    metrics.write_text(json.dumps(before) + "\n" + metrics.read_text())
    figure = loss(load_run(run))
    assert [line.y[0] for line in figure.data if line.name == "general text"] == [5.0] and figure.layout.yaxis.range[1] > 9
    found = since_start(load_run(run))
    assert found["general"].mean == pytest.approx(0.1) and found["general"].clear
    assert found["held-out"].mean == pytest.approx(load_run(run).evaluated[-1].heldout_loss - 2.2)
    page = render(run)
    assert "general text +0.1000" in re.sub("<[^>]+>", "", page) and "<td>before</td>" in page
    for folder, name in ((f"round-{r:02d}/evaluate", n) for r in range(3) for n in ("start_general", "general")):
        if (one := run / folder / f"{name}.parquet").exists():
            write_table(one, pq.read_table(one).to_pylist()[:1])
        last = run / folder / "evaluation.json"
        last.write_text(json.dumps({**json.loads(last.read_text()), "general_loss": 2.1}))
    assert "general" not in since_start(load_run(run))
    assert forgotten(load_run(run)).startswith("General text: 2.0000 before, 2.1000 after, too few documents")
    assert "General text: 2.0000 before" in render(run)


def test_the_headline_is_the_change_over_the_same_documents(finished_run: Path) -> None:
    found = headline(load_run(finished_run))
    assert found.change is not None and found.first is not None and found.last is not None
    assert found.change.round == 2
    assert found.change.loss.mean == pytest.approx(found.last.heldout_loss - found.first.heldout_loss)
    assert found.change.bits_per_byte.mean == pytest.approx(found.last.bits_per_byte - found.first.bits_per_byte, rel=1e-5)
    assert found.change.loss.low < -0.1 < found.change.loss.high  # the builder lowers the loss by 0.05 a round
    assert "fell by" in found.sentence and "95% interval" in found.sentence
    assert "no multiplier" in found.caution and "56,000 more tokens" in found.caution


def test_a_rise_is_called_a_rise_and_no_change_is_called_none(tmp_path: Path) -> None:
    assert "rose by" in headline(load_run(build(tmp_path / "worse", gain=-0.05))).sentence
    assert "no clear change" in headline(load_run(build(tmp_path / "same", gain=0.0))).sentence


def test_documents_that_differ_between_rounds_are_not_compared(run: Path) -> None:
    import pyarrow.parquet as pq

    file = run / "round-02/evaluate/heldout.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(CorruptRun, match="different held-out documents"):
        changes(load_run(run))


def test_an_unfinished_run_says_what_is_missing_and_invents_nothing(run: Path) -> None:
    for step in ("evaluate", "pretrain"):
        (run / "round-02" / step / "result.json").unlink()
    with (run / "round-02/pretrain/metrics.jsonl").open("a") as handle:
        handle.write('{"step": 99, "tok')  # killed in the middle of a line
    shutil.rmtree(run / "round-02/evaluate")
    found = load_run(run)
    assert found.missing == ("round-02/pretrain was begun and is not done", "round-02/evaluate has not begun")
    assert found.trainings[-1].train and found.trainings[-1].plateau is None and found.trainings[-1].tokens is None
    assert headline(found).change.round == 1  # type: ignore[union-attr]
    shutil.rmtree(run / "round-01")
    shutil.rmtree(run / "round-02")
    found = load_run(run)
    assert headline(found).change is None
    assert "No change to report yet" in headline(found).sentence
    assert samples(found) == ()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("round-01/evaluate/evaluation.json", "{", "not valid JSON"),
        ("round-01/evaluate/evaluation.json", None, "is missing although its step is done"),
        ("round-01/evaluate/heldout.parquet", "PAR1 not", "not a readable Parquet file"),
        ("round-01/pretrain/metrics.jsonl", '{"st\n{"step": 1}\n', "line 1"),
        ("round-01/synthesize-rephrase/rewrites.parquet", None, "is missing although its step is done"),
        ("round-01/train-reformat/validation.json", "[", "not valid JSON"),
        ("round-00/prepare/result.json", "{}", "holds no record"),
        ("config.toml", "rounds = = 2", "not valid TOML"),
    ],
)
def test_a_corrupt_file_of_a_finished_step_is_an_error_with_its_name(
    run: Path, file: str, content: str | None, said: str
) -> None:
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    with pytest.raises(CorruptRun, match=said) as problem:
        load_run(run)
    assert Path(file).name in str(problem.value)


def test_a_shard_that_lost_rows_is_an_error(run: Path) -> None:
    import pyarrow.parquet as pq

    file = run / "round-01/synthesize-rephrase/rewrites.parquet"
    pq.write_table(pq.read_table(file).slice(2), file)
    with pytest.raises(CorruptRun, match=r"34 rows, 30 of them kept, but the step's result says 36 and 32"):
        load_run(run)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotARun, match="no such run directory"):
        load_run(tmp_path / "nothing")
    with pytest.raises(NotARun, match="holds no steps"):
        load_run(tmp_path)


def put_rewards(body: dict[str, Any], rewards: dict[str, list[float]]) -> None:
    """Two rewards by side, taking turns over its passages."""
    for side, pair in rewards.items():
        for i, sample in enumerate(body[side]["samples"]):
            sample["mean_reward"] = pair[i % 2]


def test_every_warning_that_is_due_and_no_other(finished_run: Path, run: Path) -> None:
    found = {(c.where, c.what.split(":")[0].split(",")[0]) for c in find_warnings(load_run(finished_run))}
    assert found == {
        ("whole run", "There is no tuned-repetition arm"),
        ("round-02/pretrain", "Ended on its budget"),
        ("round-01/train-reformat", "35% of the answers were truncated."),
        ("round-01/train-reformat", "RL did not beat its start"),
        ("round-02/train-reformat", "RL did not beat its start"),
        ("round-01/train-reformat", "Influence on the validation passages did not clearly rise (-0.0005 nats per token"),
        ("round-02/train-reformat", "Influence on the validation passages did not clearly rise (-0.0020 nats per token"),
    }
    file = run / "round-01/train-rephrase/metrics.jsonl"
    health = {"zero_std": 0.9, "share/influence": 0.02, "share/failing": 0.9}
    rows = [json.loads(line) | health for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    validation = run / "round-01/train-rephrase/validation.json"
    body = json.loads(validation.read_text())
    body["after"]["reward/structure"] = 0.2
    body["before"]["passed"], body["after"]["passed"] = 0.8, 0.5
    body |= {"kept": 0, "measured": [{"step": 0, "reward": 0.0, "passed": 0.8}, {"step": 12, "reward": -1.25, "passed": 0.4}]}
    validation.write_text(json.dumps(body))
    assert "1.25 deviations (no interval), with 40%" in "".join(summary(run)), "a run of an earlier version"
    put_rewards(body, {"before": [0.0, 0.0], "after": [1.1, -1.2]})
    validation.write_text(json.dumps(body))
    assert "Training made" not in "".join(summary(run)), "a fall that chance can make is no headline"
    put_rewards(body, {"before": [0.0, 0.1], "after": [-1.2, -1.2]})
    validation.write_text(json.dumps(body))
    said = [c.what for c in find_warnings(load_run(run)) if c.where == "round-01/train-rephrase"]
    fall = (
        "Training made this generator worse: after 12 steps its reward on the validation passages had fallen by 1.25 "
        "deviations (95% interval 1.23 to 1.27, 24 passages), with 40% of the answers passing. The run goes on with the "
        "generator as it was before."
    )
    assert summary(run)[1] == f"round-01/train-rephrase: {fall}" and fall in render(run).partition("</header>")[0]
    other = run / "round-02/train-rephrase/validation.json"
    other.write_text(json.dumps({**body, "kept": 0}))
    two = "Training made 2 generators worse on their validation passages (round-01/train-rephrase, round-02/train-rephrase)"
    assert summary(run)[1].startswith(two) and fall not in render(run).partition("</header>")[0]
    assert said == [
        fall,
        "In 90% of the groups every answer earned the same: no gradient came from them.",
        "Influence is 2% of the variance of what was learned from; failing is 90%.",
        "Fewer answers pass on validation after training than before: 80% to 50%.",
        "Lower on validation after training than before: structure (0.500 to 0.200).",
    ]


def test_the_best_of_noise_is_not_said_to_be_an_improvement() -> None:
    """Seven states that are all the same generator, measured on 16 passages: what goes on is the luckiest."""
    rng, improved = random.Random(5), 0

    def measure() -> Validation:
        scores = {f"d{i}#0000": {"influence": rng.gauss(0, 0.02)} for i in range(16)}
        mean = fmean(s["influence"] for s in scores.values())
        return Validation({"total": mean, "influence": mean}, 1.0, (), scores, 1.0)

    for _ in range(100):
        states = [measure() for _ in range(7)]
        best = max(states, key=lambda v: v.means["total"])
        g = GeneratorTraining("rephrase", 1, True, (), states[0], best, states[-1], states.index(best))
        change = influence_change(g)
        improved += change is not None and change.low > 0
    assert improved <= 7, "of the best states it would be 13"
    start, lucky, last = (Validation({"total": total}, 1.0, (), {}) for total in (0.0, 0.3, -0.1))
    (warning,) = _generator(GeneratorTraining("rephrase", 1, True, (), start, lucky, last))
    assert (
        "RL did not beat its start: weighted reward on validation is -0.100 deviations at its end (no interval)."
        in warning.what
    )


def test_samples_show_the_same_passage_in_every_round_by_rule(finished_run: Path) -> None:
    found = samples(load_run(finished_run))
    assert [s.operation for s in found] == ["rephrase"] * 3 + ["reformat"] * 3
    for sample in found:
        assert [v.round for v in sample.versions] == [1, 2]
        assert sample.source and all(v.text for v in sample.versions)
    first, middle, last = (s.versions[-1].scores["influence"] for s in found[:3])
    assert first > middle > last  # type: ignore[operator]


def test_a_shard_of_which_nothing_was_kept_is_shown_as_that(run: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for step in ("round-01/synthesize-rephrase", "round-02/synthesize-rephrase"):
        file = run / step / "rewrites.parquet"
        rows = [r | {"kept": False, "text": None, "reason": "unparsed"} for r in pq.read_table(file).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(file)), file)
        result = json.loads((run / step / "result.json").read_text())
        result["record"] |= {"kept": 0, "covered": 0, "dropped": 36}
        (run / step / "result.json").write_text(json.dumps(result))
    found = load_run(run)
    assert [s.operation for s in samples(found)] == ["reformat"] * 3
    said = [c.what for c in find_warnings(found) if c.where == "round-02/synthesize-rephrase"]
    assert said == ["Only 0 of 36 passages have a text; most often dropped as 'unparsed' (36)."]
