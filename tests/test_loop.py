"""The whole loop with real models on real text: what it leaves behind, and that an interrupted run leaves the same."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from synpro.config import load_config
from synpro.outline import outline
from synpro.report.lineage import format_lineage, why
from tests.conftest import ROOT, synpro

pytestmark = pytest.mark.loop
CONFIG = ROOT / "tests" / "loop.toml"


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def record(step: Path) -> dict:
    return json.loads((step / "result.json").read_text())["record"]


def shards(run: Path) -> list[Path]:
    return sorted(run.glob("round-*/synthesize-*"))


def test_every_step_is_done_and_the_report_stands(finished_run, record_property):
    if (finished_run.parent / "seconds.txt").exists():
        record_property("measured", f"the whole loop took {(finished_run.parent / 'seconds.txt').read_text()} s")
    for name in outline(load_config(CONFIG)):
        assert (finished_run / name / "result.json").exists(), name
    page = (finished_run / "report.html").read_text()
    assert "<html" in page and "plotly" in page.lower()
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)  # the charts' library names its makers' sites
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=.http", outside + page.partition("<body")[0][:2000])


def test_kept_and_dropped_are_the_passages(finished_run):
    passages = len(rows(finished_run / "round-00/prepare/passages.parquet"))
    assert len(shards(finished_run)) == 4
    for shard in shards(finished_run):
        lineage = rows(shard / "rewrites.parquet")
        kept = [r for r in lineage if r["kept"]]
        assert len(lineage) == passages == record(shard)["passages"]
        assert record(shard)["kept"] == len(kept) and record(shard)["dropped"] == passages - len(kept)
        rejected = [json.loads(line) for line in (shard / "rejects.jsonl").read_text().splitlines()]
        assert len(rejected) == passages - len(kept) and all(r["reason"] and r["detail"] for r in rejected)


def test_no_generator_sees_reference_or_heldout(finished_run):
    documents = {d["id"]: d for d in rows(finished_run / "round-00/prepare/documents.parquet")}
    assert {d["split"] for d in documents.values()} == {"train", "reference", "heldout"}
    shown = {p["document"] for p in rows(finished_run / "round-00/prepare/passages.parquet")}
    for shard in shards(finished_run):
        shown |= {r["document"] for r in rows(shard / "rewrites.parquet")}
    for step in finished_run.glob("round-*/train-*"):
        validation = json.loads((step / "validation.json").read_text())
        shown |= {s["passage"].rsplit("#", 1)[0] for when in ("before", "after") for s in validation[when]["samples"]}
    assert shown and {documents[id]["split"] for id in shown} == {"train"}


def test_the_mixture_is_cumulative_and_tokens_are_counted_across_rounds(finished_run):
    inputs = [json.loads((finished_run / f"round-{n:02d}/pretrain/request.json").read_text())["inputs"] for n in range(3)]
    assert [len(i["shards"]) for i in inputs] == [0, 2, 4]
    seen = [record(finished_run / f"round-{n:02d}/pretrain") for n in range(3)]
    for before, after in itertools.pairwise(seen):
        assert after["tokens_seen"] - before["tokens_seen"] == (after["steps"] - before["steps"]) * 8 * 64 > 0


def test_the_second_round_updates_the_first_rounds_generator(finished_run):
    """One of the two at least: a step whose answers all fail teaches nothing, and leaves the other as it was."""
    changed = []
    for name in ("rephrase", "reformat"):
        first, second = (record(finished_run / f"round-{n:02d}/train-{name}") for n in (1, 2))
        request = json.loads((finished_run / f"round-02/train-{name}/request.json").read_text())
        assert request["inputs"]["start"]["digest"] == first["digest"]
        changed.append(second["digest"] != first["digest"])
    assert any(changed)


def test_why_names_source_prompt_generator_round_and_scores(finished_run):
    for shard in shards(finished_run):
        for row in [r for r in rows(shard / "rewrites.parquet") if r["kept"]][:1]:  # what a rule drops has no scores
            said = "\n".join(format_lineage(why(finished_run, row["id"])))
            for part in (row["passage"], row["prompt_hash"][:12], row["generator"][:12], "influence"):
                assert part in said, (part, said)
    done = synpro("why", finished_run, row["id"])
    assert done.returncode == 0 and done.stdout == said + "\n", done.stderr
    missing = synpro("why", finished_run, "no-such-text")
    assert missing.returncode == 1 and "no-such-text" in missing.stderr and "Traceback" not in missing.stderr


def test_the_same_command_finds_everything_done(finished_run):
    again = synpro("run", CONFIG, "--runs", finished_run.parent)
    assert again.returncode == 0 and again.stdout.count("found done") == 18


def test_a_run_directory_of_another_config_is_refused_with_the_difference(finished_run):
    other = synpro("run", CONFIG, "--runs", finished_run.parent, "--set", "pretrain.optimizer.learning_rate=1e-4")
    assert other.returncode == 1 and "pretrain.optimizer.learning_rate: 0.003 -> 0.0001" in other.stderr


def result_files(run: Path) -> dict[str, bytes]:
    files = {}
    for result in sorted(run.glob("round-*/*/result.json")):
        for name in ["result.json", *json.loads(result.read_text())["files"]]:
            files[f"{result.parent.relative_to(run)}/{name}"] = (result.parent / name).read_bytes()
    return files


def test_killed_in_round_two_and_started_again_it_ends_in_the_same_bytes(finished_run, tmp_path):
    """A copy of the run without its last steps, killed three times while it does them; benchmarks/kill.py does whole runs."""
    run = tmp_path / "loop"
    shutil.copytree(finished_run, run)
    for name in ("synthesize-reformat", "pretrain", "evaluate"):
        shutil.rmtree(run / "round-02" / name)
    chance = random.Random(0)
    argv = [sys.executable, "-m", "synpro.cli", "run", str(CONFIG), "--runs", str(tmp_path)]
    for _ in range(3):
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(2, 8))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert synpro("run", CONFIG, "--runs", tmp_path).returncode == 0
    assert result_files(run) == result_files(finished_run)


def does_a_task(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it ended meanwhile
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::_Actor.run")
    return False


def kill_one_of_two_workers(process: psutil.Process) -> bool:
    """Kill one of Ray's workers below a process while two do a task; False where there are not two."""
    busy = [child for child in process.children(recursive=True) if does_a_task(child)]
    if len(busy) < 2:
        return False
    busy[0].suspend()  # or it could end its last task between the look and the kill
    if does_a_task(busy[0]):
        busy[0].kill()
        return True
    busy[0].resume()
    return False


def test_two_workers_of_which_one_is_killed_write_the_bytes_of_one_process(finished_run, tmp_path):
    run = tmp_path / "loop"
    shutil.copytree(finished_run, run)
    argv = [sys.executable, "-m", "synpro.cli", "step", str(CONFIG), "round-01/synthesize-rephrase", "--runs", str(tmp_path)]
    argv += ["--set", "machine.launcher=ray", "--set", "machine.workers=2"]
    process = psutil.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True)
    while not kill_one_of_two_workers(process):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    output = process.communicate()[0]
    assert process.returncode == 0 and "a worker was lost" in output and "the same to the byte" in output, output
    assert result_files(run) == result_files(finished_run)


def test_texts_of_ones_own_are_scored_by_the_runs_probe(finished_run, tmp_path):
    from synpro.commands.score import score_influence, score_row
    from synpro.lm.influence import Influence

    mine = ["The river rises in the hills.", "", "Anarchism is a political philosophy.", "The river rises in the hills."]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"id": f"t{i}", "text": t}) + "\n" for i, t in enumerate(mine)))
    done = synpro("score", "influence", finished_run, tmp_path / "mine.jsonl", "--round", 2, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d of 3 texts have positive influence, 1 have none", done.stdout)
    by_command = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    by_function = [score_row(s) for s in score_influence(finished_run, tmp_path / "mine.jsonl", 1) or ()]
    for number, found in ((1, by_function), (2, by_command)):
        before = finished_run / f"round-{number - 1:02d}/pretrain/hf"
        direct = Influence(before, finished_run / f"round-{number:02d}/probe/hf").score([mine[0], mine[2]])
        assert [r["id"] for r in found] == ["t0", "t1", "t2", "t3"] and found[1]["reason"] == "empty: no text but white space"
        assert [found[0]["influence"], found[2]["influence"]] == pytest.approx(direct, abs=1e-6)
        assert found[3]["influence"] == found[0]["influence"]
    refused = synpro("score", "influence", finished_run, tmp_path / "mine.jsonl", "--round", 7)
    assert refused.returncode == 1 and "no probe of round 7" in refused.stderr


def test_one_step_again_by_hand_gives_the_same_bytes(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "loop")  # others read the run meanwhile
    done = synpro("step", CONFIG, "round-01/probe", "--runs", tmp_path)
    assert done.returncode == 0 and "the same to the byte" in done.stdout, done.stdout + done.stderr
