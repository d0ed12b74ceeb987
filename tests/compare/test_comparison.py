"""A whole comparison of organic arms on a tiny real model, its steps in this process instead of one each."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpro.commands.compare import default_parallel, run_comparison
from synpro.commands.configs import load_comparison
from synpro.compare.arms import ARMS
from synpro.compare.comparison import ComparisonResult, EqualContrast, MeasuredModel, MeasuredModels, compare
from synpro.compare.config import CompareConfig
from synpro.compare.contrasts import find_contrasts
from synpro.compare.search import SearchResult, default_settings
from synpro.compare.summary import _contrasts, _generator, _influence, _measured, summarize
from synpro.compare.texts import SyntheticText
from synpro.compare.tuning import TrainingSettings
from synpro.config import ConfigError
from synpro.lm.model_config import flops_per_token
from synpro.loop import loop
from synpro.measure.losses import Losses
from synpro.outline import NotRun
from synpro.records import Checkpoint, Evaluation, Generator, Shard, digest_of, encode
from synpro.report.comparison import HEAD, figures, headline, notes, publish, rows, summary, write_page
from synpro.report.comparison_figures import TITLES
from synpro.report.what_pays import checks_table, rounds_table
from synpro.runner.launch import MachineConfig
from synpro.runner.progress import NullProgress
from synpro.runner.step import StepError
from synpro.stages.pretrain import pretrain
from tests.conftest import ROOT
from tests.in_process import Here
from tests.lm.conftest import sentences


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[CompareConfig, ComparisonResult, Path, list[list[str]]]:
    """A finished comparison that was killed once on its way, and the steps done before and after."""
    folder = tmp_path_factory.mktemp("comparison")
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": t}) + "\n" for t in sentences(5, 300)))
    cfg = load_comparison(ROOT / "tests" / "compare.toml", [f'prepare.sources.0.path="{texts}"'])
    root = folder / "runs" / "compare"
    root.mkdir(parents=True)

    def steps(most: int | None = None) -> Here:
        made = Here(root, seed=cfg.seed, machine=MachineConfig(threads=1), listener=NullProgress())
        made.most = most
        return made

    killed, carried = steps(9), steps()
    with pytest.raises(KeyboardInterrupt):
        compare(cfg, killed)
    return cfg, compare(cfg, carried), root, [killed.done[:9], carried.done]


@pytest.fixture(scope="module")
def numbers(world) -> dict[str, Any]:
    cfg, done, root, _ = world
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root.parent.parent)  # the command names its directory from where it is called
        return json.loads(json.dumps(summarize(cfg, done, Path("runs/compare")), allow_nan=False))


def request(root: Path, step: str) -> dict[str, Any]:
    return json.loads((root / step / "request.json").read_text())


def test_it_carries_on_after_a_kill_and_does_nothing_twice(world) -> None:
    _, _, _, (before, after) = world
    assert len(before) == 9 and not set(before) & set(after)
    assert not any(s.startswith(("curve/u1", "curve/u4")) for s in after), "tuned repetition and the oracle are on the curve"
    assert any(s.startswith("curve/u2") for s in after)


def test_corpora_nest_and_are_measured_alike(world, numbers) -> None:
    _, done, _, _ = world
    sizes = [c.tokens["train"] for c in done.corpora.values()]
    assert sizes == sorted(set(sizes)) and [a["unique_tokens"] for a in numbers["anchors"]] == sizes
    assert len({(c.tokens["heldout"], c.tokens["reference"], c.vocab_size) for c in done.corpora.values()}) == 1


def test_arms_are_paired_and_have_the_same_tokens_and_schedule(world) -> None:
    cfg, done, root, _ = world
    asked = {a: request(root, f"arms/{a}/seed-0/pretrain") for a in cfg.compare.arms}
    assert len({r["seed"] for r in asked.values()}) == 1
    for name, arm in done.arms.items():
        training = asked[name]["config"]
        assert (training["decay_fraction"], training["plateau"]) == (0.2, None)
        assert training["max_tokens"] == round(cfg.budget * arm.settings.share)
    assert asked["token-noise"]["config"]["mixture"]["token_noise"] == 0.1
    assert asked["repetition"]["config"]["optimizer"]["weight_decay"] == 0.1
    assert done.arms["token-noise"].settings.share == 1.0


def test_the_search_reads_the_reference_split_and_its_budget_is_recorded(world, numbers) -> None:
    _, done, root, _ = world
    search, found = done.searches["u1"], numbers["searches"]["u1"]
    assert [t.draw for t in search.trials] == [0, 0, 0, 0, 1, 1], "four settings, the best two again with another seed"
    best = sorted(search.trials[:4], key=lambda t: t.loss)[:2]
    assert [t.settings for t in search.trials[4:]] == [t.settings for t in best]
    means = [a.loss + b.loss for a, b in zip(best, search.trials[4:], strict=True)]
    assert search.chosen == best[means.index(min(means))].settings
    drawn = [request(root, f"tune/u1/trial-{i:02d}/pretrain")["seed"] for i in range(6)]
    assert len(set(drawn[:4])) == 1 and len(set(drawn)) == 2 and drawn[4] == drawn[5]
    assert {t["reference_loss"] for t in found["trials"]} == {t.loss for t in search.trials}
    assert found["cost"]["flops"] > 0 and found["cost"]["tokens"] == sum(t.tokens for t in search.trials)
    assert numbers["searches"]["u2"]["carried"] and any("at all of them" in n for n in notes(numbers))


def test_losses_and_cost_are_those_of_the_steps(world, numbers) -> None:
    cfg, done, root, _ = world
    for name, arm in numbers["arms"].items():
        seed = arm["seeds"]["0"]
        body = json.loads((root / seed["step"].replace("pretrain", "evaluate") / "evaluation.json").read_text())
        assert seed["heldout_loss"] == body["heldout_loss"] == pytest.approx(arm["loss"]["mean"])
        assert arm["loss"]["low"] < arm["loss"]["mean"] < arm["loss"]["high"]
        per_token = flops_per_token(cfg.pretrain.model, done.corpora["u1"].vocab_size, cfg.pretrain.sequence_length)
        assert arm["cost"]["total"]["flops"] == pytest.approx(per_token * seed["tokens_seen"])
        assert name == "tuned-repetition" or arm["change"]["mean"] == pytest.approx(
            arm["loss"]["mean"] - numbers["arms"]["tuned-repetition"]["loss"]["mean"]
        )


def halved(search: SearchResult, **changes: Any) -> SearchResult:
    """A search that found every share of the budget to be half of what it was."""

    def half(settings: TrainingSettings) -> TrainingSettings:
        return dataclasses.replace(settings, share=settings.share / 2)

    trials = tuple(dataclasses.replace(t, settings=half(t.settings)) for t in search.trials)
    return dataclasses.replace(search, chosen=half(search.chosen), trials=trials, **changes)


def test_repetition_that_gains_from_tokens_is_refused_and_an_unsettled_search_gives_bounds(world, numbers) -> None:
    cfg, done, root, _ = world
    full = summarize(
        cfg,
        dataclasses.replace(done, searches={n: halved(s, open_axes=(), carried=False) for n, s in done.searches.items()}),
        root,
    )
    assert full["refused"] is None and full["bound"] is None and full["curve"]
    noise = full["arms"]["token-noise"]["data_efficiency"]
    assert not noise["bound"] and {"power", "repetition", "interpolation", "reciprocal"} == set(noise["laws"])
    open_ = {n: halved(s, open_axes=("weight_decay",)) for n, s in done.searches.items()}
    bounded = summarize(cfg, dataclasses.replace(done, searches=open_), root)
    assert bounded["refused"] is None and "did not settle" in bounded["bound"] and "weight decay" in " ".join(notes(bounded))
    assert bounded["arms"]["token-noise"]["data_efficiency"]["words"].startswith(("at most", "not reached"))
    for changes, said in (({"open_axes": ("dropout",), "carried": False}, "dropout at u2"), ({}, "used at all of them")):
        curve = {n: halved(s, **({"open_axes": ()} | (changes if n == "u2" else {}))) for n, s in done.searches.items()}
        assert said in summarize(cfg, dataclasses.replace(done, searches=curve), root)["bound"], (
            "a point of the curve lies too high"
        )
    if done.searches["u1"].gains_from_tokens:
        assert "not data-bound" in numbers["refused"] and "No multiplier is printed: the comparison is not" in headline(numbers)


def test_a_whole_budget_that_was_not_used_to_its_end_does_not_ask_for_more(world) -> None:
    search = world[1].searches["u1"]
    whole = dataclasses.replace(search, chosen=dataclasses.replace(search.chosen, share=1.0))
    whole = dataclasses.replace(whole, trials=tuple(dataclasses.replace(t, settings=whole.chosen) for t in search.trials))
    seen = search.models[0].tokens_seen

    def stopped(best: int) -> SearchResult:
        return dataclasses.replace(whole, models=tuple(dataclasses.replace(m, best_tokens=best) for m in search.models))

    assert stopped(seen).gains_from_tokens and not stopped(seen // 2).gains_from_tokens


def test_an_untuned_baseline_gives_the_reason_why_there_is_no_number(world, tmp_path: Path) -> None:
    cfg, done, root, _ = world
    untuned = dataclasses.replace(done, searches={n: SearchResult(default_settings(cfg)) for n in done.searches})
    found = summarize(cfg, untuned, root)
    assert "was not tuned" in found["refused"] and found["curve"] is None
    assert "No multiplier is printed: the repetition baseline was not tuned" in headline(found)
    assert {r.cells["data efficiency [95%]"] for r in rows(found)} <= {"not stated", "–"} and not re.search(
        r"\d\.\d+x", "\n".join(summary(found))
    )
    assert "was not tuned" in write_page(tmp_path, found).read_text()


def test_a_search_that_was_misled_is_told(numbers) -> None:
    better, worse = (json.loads(json.dumps(numbers)) for _ in range(2))
    for found, mean in ((better, 9.0), (worse, 1.0)):
        found["arms"]["repetition"]["loss"]["mean"] = mean
    assert not any("was misled" in note for note in notes(better))
    assert any("usual settings (1.0000)" in note and "was misled" in note for note in notes(worse))
    for seed in worse["arms"]["tuned-repetition"]["seeds"].values():
        seed |= {"general_loss": 3.2, "start": {"heldout_loss": 4.7, "general_loss": 3.1}}
    assert any("tuned-repetition 3.2000; the model they started from 3.1000 (and 4.7000" in note for note in notes(worse))


def test_a_measured_model_that_diverged_is_told_and_so_are_versions_of_the_code(tmp_path: Path) -> None:
    model = Checkpoint(tmp_path / "a/pretrain", 512, 8, False, "training has diverged: it is nan", 5.0, "", best_tokens=256)
    evaluation = Evaluation(tmp_path / "a/evaluate", 5.1, 2.0)
    for folder in (model.dir, evaluation.dir):
        folder.mkdir(parents=True)
    lines = [f'{{"tokens": {tokens}, "heldout_loss": {loss}}}\n' for tokens, loss in ((0, 6.0), (256, 5.1), (512, "NaN"))]
    (model.dir / "metrics.jsonl").write_text("".join([*lines, '{"tokens": 512, "train_loss": NaN}\n']))
    (evaluation.dir / "result.json").write_text('{"files": {"heldout.parquet": {"sha256": ""}}}')
    (evaluation.dir / "evaluation.json").write_text('{"items": {}}')
    documents = [{"document": d, "nll": 5.0, "tokens": 1} for d in "ab"]
    pq.write_table(pa.Table.from_pylist(documents), evaluation.dir / "heldout.parquet")
    losses = Losses.from_rows(dict.fromkeys((0, 1), documents))

    def told(model: Checkpoint) -> list[str]:
        one = MeasuredModel(model, evaluation, SyntheticText())
        found = _measured(tmp_path, MeasuredModels("u1", TrainingSettings(0.1, 1e-3), {0: one}), losses)
        json.dumps(found, allow_nan=False)
        assert found["seeds"]["0"]["points"] == [[0, 6.0], [256, 5.1]]
        arm = {**found, **dict.fromkeys(("change", "data_efficiency", "oracle_gap", "search", "forced", "about")), "shards": []}
        arm |= {"forced": arm, "cost": {"total": {"flops": 1.0}}}
        about = {"seeds": [0, 1], "groups": 2, "commits": ["a1", "b2"]}
        models = MeasuredModels("u1", TrainingSettings(0.1, 1e-3), {0: one})
        fine = dataclasses.replace(one, model=dataclasses.replace(model, last_reference_loss=5.2))
        sound = dataclasses.replace(models, models={0: fine})
        names = {"best-of-n": losses, "prompt-only": losses}
        equal = EqualContrast(find_contrasts(names)[0], sound, models, 64)
        contrasts = _contrasts(SimpleNamespace(equal=(equal,)), names, {})  # type: ignore[arg-type]
        assert set(contrasts[0]["equal_tokens"]["seeds"]) == {"best-of-n", "prompt-only"}
        for part in (contrasts[0], contrasts[0]["equal_tokens"]):
            part["change"] = {"mean": -0.2, "low": -0.3, "high": -0.1}
        lists = {"contrasts": contrasts, "notes": [], "searches": {}, "anchors": [found], "passes": [found]}
        return notes({"about": about, "arms": {"noise": arm}, "refused": None, **lists})

    started = "It was started by 2 versions of the code: a1, b2."
    assert told(dataclasses.replace(model, last_reference_loss=5.2)) == [started]
    said = ", seed 0: training has diverged: it is nan. Its best state is measured, its rate still above 0."
    equal = "prompt-only at equal tokens (best-of-n against prompt-only)"
    places = ("noise", "noise with repetition's settings", "the curve at u1", "the single pass over u1", equal)
    assert told(model) == [*(place + said for place in places), started]


@pytest.mark.parametrize("place", ["round-00", "text/shared/round-00", "text/shared/round-01", "text/synpro", "arms/synpro"])
def test_a_model_that_there_is_not_stops_what_needs_it(place: str) -> None:
    sets = ["rounds=2", "compare.protocol=continued"]
    if place.endswith("round-01"):  # nothing is searched: the probe has a training of its own
        sets += ["compare.tune.trials=0", 'compare.arms=["repetition", "synpro"]']
    cfg = load_comparison(ROOT / "configs" / "compare-tiny.toml", sets)

    def run_step(name: str, stage: Any, step_cfg: Any, **inputs: Any) -> Any:
        if stage is pretrain and name.startswith(place):
            return Checkpoint(Path(name), 64, 1, False, "training has diverged", math.inf, "")
        return NotRun(name, -float(len(name)), text_tokens=len(name))

    with pytest.raises(StepError, match=rf"^{place}\S*/pretrain: training has diverged; lower pretrain\.optimizer"):
        if place == "round-00":
            loop(cfg, run_step)
        else:
            compare(cfg, run_step)


def test_the_page_holds_everything_and_the_pictures_are_pictures(world, numbers, tmp_path: Path) -> None:
    _, _, root, _ = world
    page = write_page(root, numbers).read_text()
    for name, arm in numbers["arms"].items():
        assert f"<b>{name}</b>" in page and f"{arm['loss']['mean']:.4f}" in page
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=.http", outside)
    assert {"loss", "unique"} <= set(figures(numbers)) <= set(TITLES)


def test_results_are_published_and_published_again_in_their_place(world, numbers, tmp_path: Path) -> None:
    _, _, root, _ = world
    (root / "config.toml").write_text("name = 'compare'\n")
    (root / "environment.json").write_text("{}\n")
    readme = publish(root, numbers, tmp_path)
    first = readme.read_text()
    assert sum(line.startswith("| ") for line in first.splitlines()) == 1 + len(numbers["arms"])
    assert all(column in first for column in HEAD)
    pays = (tmp_path / "what-pays.md").read_text()
    assert "| oracle | tuned repetition |" in pays and "No text was generated." in pays
    readme.write_text("# Results\n\nBefore.\n\n" + first.removeprefix("# Results\n\n") + "\nAfter.\n")
    changed = json.loads(json.dumps(numbers))
    changed["arms"]["oracle"]["loss"] = {"mean": 1.2345, "low": 1.2, "high": 1.3}
    (tmp_path / "compare" / "of-an-older-one.svg").touch()
    again = publish(root, changed, tmp_path).read_text()
    assert not (tmp_path / "compare" / "of-an-older-one.svg").exists()
    assert "unique" not in figures({**numbers, "anchors": numbers["anchors"][:1]}), "one corpus makes no curve"
    assert "Before." in again and "After." in again and "1.2345" in again and again.count("## compare") == 1
    for name in ("loss", "unique"):
        picture = ET.parse(tmp_path / "compare" / f"{name}.svg").getroot()
        assert len(picture.findall(".//{*}g[@id]")) > len(numbers["arms"])
    assert json.loads((tmp_path / "compare" / "compare.json").read_text()) == changed


@pytest.mark.parametrize("more", ["", "compare.protocol=continued", "compare.text_draws=2", "compare.absorption=true"])
def test_steps_side_by_side_are_the_same_steps(more: str) -> None:
    sets = ["rounds=2", "compare.seeds=[0, 1]", "compare.passes=true", "compare.tune.anchor_trials=2"]
    sets += [f"compare.arms={list(ARMS)}".replace("'", '"'), *([more] if more else [])]
    cfg = load_comparison(ROOT / "configs" / "compare-tiny.toml", sets)

    def walk(max_parallel: int) -> tuple[dict[str, str], ComparisonResult]:
        asked, meet = dict[str, str](), threading.Barrier(2)

        def note(name: str, stage: Any, step_cfg: Any, *, seed_key: str | None = None, **inputs: Any) -> Any:
            assert name not in asked, "a step runs once"
            asked[name] = digest_of(encode([stage.__qualname__, step_cfg, seed_key, inputs], Path("/")))
            if max_parallel > 1 and name in ("tune/u1/trial-02/pretrain", "text/prompt-only/round-01/synthesize-rephrase"):
                meet.wait(20)  # repetition is searched while texts are made that do not need its model, or this fails
            number = int(digest_of(name)[:8], 16)
            return NotRun(name, reference_loss=-float(number), text_tokens=number % 97)

        return asked, compare(cfg, note, max_parallel)

    (one, alone), (three, together) = walk(1), walk(3)
    assert one == three and len(one) > 60
    assert [list(m.models) for m in together.arms.values()] == [[0, 1]] * len(ARMS)
    assert together == alone


def test_jobs_need_a_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_comparison(ROOT / "tests" / "compare.toml", ["machine.threads=0"])
    with pytest.raises(ConfigError, match=r"--set machine.threads=\d"):
        run_comparison(cfg, tmp_path, jobs=2)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("synpro.commands.compare.usable_cores", lambda: 6)
    monkeypatch.setattr("shutil.which", lambda name: None)
    one, two = (load_comparison(ROOT / "tests" / "compare.toml", [f"machine.threads={n}"]) for n in (1, 2))
    assert [default_parallel(c) for c in (cfg, one, two)] == [1, 4, 3]
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert default_parallel(two) == 1, "steps would share the GPU"


def test_the_checks_table_finds_the_arm_without_a_check_also_with_rounds() -> None:
    shards = [{"kept": 1, "dropped": 1, "reasons": {"copy": {"answers": 1, "tokens": 9}}}]
    arms = {f"prompt-only{end}": {"shards": shards} for end in ("", "-2-rounds")}
    change = {"mean": -0.1, "low": -0.2, "high": 0.1}
    contrasts = [
        {"arm": f"prompt-only-without-copy{end}", "control": f"prompt-only{end}", "change": change} for end in ("", "-2-rounds")
    ]
    table = checks_table(
        {"arms": arms, "contrasts": [*contrasts, {"arm": "synpro", "control": "prompt-only", "change": change}]}
    )
    assert [row[5] for row in table[1]] == ["-0.1000 [-0.2000, +0.1000]"] * 2


def test_rounds_tell_the_share_of_kept_texts_with_positive_influence_over_all_draws(tmp_path: Path) -> None:
    def shard(draw: int, number: int, values: list[float | None]) -> Shard:
        folder = tmp_path / f"{draw}-{number}"
        folder.mkdir()
        rows = [{"document": f"d{i}", "scores": json.dumps({"influence": v}), "kept": True} for i, v in enumerate(values)]
        rows.append({"document": "d9", "scores": json.dumps({"influence": -5.0}), "kept": False})
        pq.write_table(pa.Table.from_pylist(rows), folder / "rewrites.parquet")
        return Shard(folder, "rephrase", number, 4, len(values), 1, 1, 1, f"{draw}-{number}")

    draws = [SyntheticText((shard(d, 1, [0.2, 0.1, 0.3, None]), shard(d, 2, [0.1, -0.1, -0.2])), (), d) for d in (0, 1)]
    models = {seed: SimpleNamespace(text=draws[seed % 2]) for seed in range(3)}
    found = _influence(MeasuredModels("u1", TrainingSettings(0.1, 1e-3), models))  # type: ignore[arg-type]
    assert [(r["round"], r["positive"]["n"], round(r["positive"]["value"], 3)) for r in found] == [(1, 6, 1.0), (2, 6, 0.333)]
    assert [round(r["mean"], 3) for r in found] == [0.2, -0.067], "two draws, though three seeds read them; no dropped text"
    assert found[0]["positive"]["low"] < 1 and found[1]["positive"]["low"] < 0.333 < found[1]["positive"]["high"]
    shards = [{"operation": "rephrase", "round": n, "kept": 7 - n, "dropped": 1} for n in (1, 2)]
    state = {"round": 1, "kept": 20, "steps": 40}
    trained = [{**s, "generator": state} for s in shards]
    arms = {"static": {"shards": trained, "influence": found}, "prompt-only": {"shards": shards}, "one": {"shards": shards[:1]}}
    table = rounds_table({"arms": arms})[1]
    assert [row[:5] for row in table] == [
        ("static", "1", "step 20 of 40 in round 1", "6 of 7", "6"),
        ("static", "2", "step 20 of 40 in round 1", "5 of 6", "6"),
        ("prompt-only", "1", "prompt alone", "6 of 7", "–"),
        ("prompt-only", "2", "prompt alone", "5 of 6", "–"),
    ]
    assert table[1][5].startswith("33% [") and table[1][6:] == ("33%, 33%", "-0.0667")
    both = [*trained, {"operation": "reformat", "round": 1, "kept": 1, "dropped": 1}]
    first = rounds_table({"arms": {"two": {"shards": [*both, trained[1]]}}})[1][0]
    assert first[2] == "rephrase: step 20 of 40 in round 1; reformat: prompt alone"


def test_a_shard_tells_which_state_of_rl_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "validation.json").write_text(json.dumps({"kept": 0, "steps": 40, "measured": []}))
    by_prompt = Generator("rephrase", "base", None, None, 1, "a")
    trained = dataclasses.replace(by_prompt, adapter=tmp_path / "adapter", round=2)
    shards = [Shard(tmp_path, "rephrase", n, 4, 4, 1, 1, 1, str(n)) for n in (1, 2, 3)]
    text = SyntheticText(tuple(shards), generators=({"rephrase": by_prompt}, {"rephrase": trained}, {"rephrase": trained}))
    state = {"round": 2, "kept": 0, "steps": 40}
    assert [_generator(text, s) for s in shards] == [None, state, state]
    assert _generator(SyntheticText(tuple(shards)), shards[0]) is None, "an arm of organic text"
