"""The [compare] table, and which steps a comparison is made of."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synpro.commands import run_dir
from synpro.commands.configs import load_comparison
from synpro.commands.run_dir import init_or_verify
from synpro.compare.arms import ARMS, CHECKS, arm_order, find_arm
from synpro.compare.comparison import Comparison, compare, comparison_outline
from synpro.compare.config import CompareConfig
from synpro.compare.contrasts import find_contrasts
from synpro.compare.steps import DedupSteps
from synpro.compare.texts import first_to_ask
from synpro.config import ConfigError, dumps, load_config_as
from synpro.config import load_config as load_run
from synpro.operations.base import ParseError
from synpro.operations.registry import build_operation
from synpro.outline import NotRun
from synpro.records import Passage
from tests.conftest import ROOT

ALL = f"compare.arms={list(ARMS)}"
SMALL = ROOT / "configs" / "compare-tiny.toml"


@pytest.mark.parametrize("name", ["compare", "compare-tiny"])
def test_shipped_configs_load_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    cfg = load_comparison(ROOT / "configs" / f"{name}.toml")
    (tmp_path / "c.toml").write_text(dumps(cfg))
    assert load_config_as(CompareConfig, tmp_path / "c.toml") == cfg
    assert {"tuned-repetition", "prompt-only", "synpro", "oracle"} <= set(cfg.compare.arms) and cfg.compare.tune.trials


def test_arms_share_what_is_equal_and_seeds_share_the_texts() -> None:
    names = comparison_outline(load_comparison(SMALL, [ALL, "rounds=2", "compare.seeds=[0, 1]"]))
    assert len(set(names)) == len(names)
    kinds = Counter(n.partition("/")[0] + "/" + n.rsplit("/", 1)[1] for n in names if n.startswith("text/"))
    assert kinds["text/probe"] == 10, "one for all first rounds, one for the second of each arm that looks (static as synpro)"
    static = [n for n in names if n.startswith("text/static")]
    assert static == ["text/static/round-02/synthesize-rephrase", "text/static/round-02/synthesize-reformat"]
    assert not any(n.startswith("text/megadocs") for n in names)
    assert any(n.startswith("tune/megadocs/") for n in names), "packed otherwise, it has a search of its own"
    for arm in ARMS:
        assert [n for n in names if n.startswith(f"arms/{arm}/") and n.endswith("pretrain")] == [
            f"arms/{arm}/seed-{seed}/pretrain" for seed in (0, 1)
        ]


def test_texts_are_sampled_anew_and_seeds_take_turns() -> None:
    cfg = load_comparison(SMALL, ["compare.arms=['synpro']", "compare.seeds=[0, 1, 2]", "compare.text_draws=2"])
    names = comparison_outline(cfg)
    assert [n for n in names if n.startswith("text/synpro")] == [
        *(f"text/synpro/round-01/{kind}-{op}" for op in ("rephrase", "reformat") for kind in ("train", "synthesize")),
        *(f"text/synpro/draw-1/round-01/synthesize-{op}" for op in ("rephrase", "reformat")),
    ], "generators are trained once"
    measured = [n for n in names if n.startswith("arms/synpro") and n.endswith("pretrain")]
    assert measured == [f"arms/synpro/{part}/pretrain" for part in ("seed-0", "draw-1/seed-1", "seed-2")]


def test_an_arm_with_rounds_of_its_own_continues_the_one_without() -> None:
    arms = "compare.arms=['static-2-rounds', 'synpro', 'synpro-2-rounds', 'prompt-only', 'prompt-only-2-rounds']"
    cfg = load_comparison(SMALL, [arms, "compare.seeds=[0, 1]", "compare.text_draws=2", "compare.tune.own_search=false"])
    names = [n for n in comparison_outline(cfg) if n.startswith("text/")]
    made = [n.removesuffix("-rephrase") for n in names if "2-rounds" in n and not n.endswith("reformat")]
    more = ("round-01/pretrain", "round-02/probe")
    assert made == [
        *(f"text/synpro-2-rounds/{step}" for step in (*more, "round-02/train", "round-02/synthesize")),
        *(f"text/synpro-2-rounds/draw-1/{step}" for step in (*more, "round-02/synthesize")),
        *(f"text/static-2-rounds/{draw}round-02/synthesize" for draw in ("", "draw-1/")),
        *(f"text/prompt-only-2-rounds/{step}" for step in ("round-02/train", "round-02/synthesize")),
        "text/prompt-only-2-rounds/draw-1/round-02/synthesize",
    ], "round 1 is that of the arm without rounds, and generators are trained once: draw 1 has no training"
    assert [c.name for c in find_contrasts(cfg.arms)] == [
        "synpro~prompt-only",
        "synpro-2-rounds~prompt-only-2-rounds",
        "synpro-2-rounds~static-2-rounds",
        *("prompt-only-2-rounds~prompt-only", "synpro-2-rounds~synpro", "static-2-rounds~synpro"),
    ]
    read = dict[str, dict[str, Any]]()

    def note(name: str, stage: object, cfg: object, *, seed_key: str | None = None, **inputs: Any) -> Any:
        read[name] = inputs
        return NotRun(name, -float(len(read)), text_tokens=len(read))

    compare(cfg, note)
    for draw in ("", "draw-1/"):
        made = read[f"text/synpro-2-rounds/{draw}round-02/synthesize-rephrase"]
        assert made["generator"].step == "text/synpro-2-rounds/round-02/train-rephrase"
        assert made["scoring"].probe.step == f"text/synpro-2-rounds/{draw}round-02/probe"
        kept = read[f"text/static-2-rounds/{draw}round-02/synthesize-rephrase"]
        assert kept["generator"].step == "text/synpro/round-01/train-rephrase"
    assert find_contrasts(["synpro-1-round", "synpro"], 2)[0].name == "synpro~synpro-1-round"
    assert find_arm("prompt-only-without-copy-10-rounds").rounds == 10


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("compare.arms=['sinpro']", "no arm 'sinpro'"),
        ("compare.arms=['synpro-1-rounds']", "no arm 'synpro-1-rounds'"),
        ("compare.arms=['static']", "static differs from synpro from round 2 on only"),
        ("compare.arms=['synpro-2-rounds-3-rounds']", "no arm 'synpro-2-rounds-3-rounds'"),
        ("compare.arms=['prompt-only-2-rounds-without-copy']", "no arm 'prompt-only-2-rounds-without-copy'"),
        ("compare.equal_contrasts=['synpro~synpro-2-rounds']", "is no contrast of two arms"),
        ("compare.arms=['oracle-2-rounds']", "no arm 'oracle-2-rounds'"),
        ("compare.arms=['static-1-round']", "static-1-round is static, since rounds = 1"),
        ("compare.arms=['synpro-1-round']", "synpro-1-round is synpro, since rounds = 1"),
        ("compare.arms=['oracle-8']", "oracle-8 needs 8 among them"),
        ("compare.text_draws=3", "3 draws need as many seeds"),
        ("compare.settings_from=placebo", "'placebo' is not one of the arms"),
        ("compare.settings_from=tuned-repetition", "tuned-repetition has no synthetic text"),
        ("compare.arms=['best-of-n-9']", "best-of-n-9: num_candidates: 2 is below num_versions = 9"),
        ("compare.texts=once", "is gone"),
        ("compare.seeds=[1, 1]", "listed twice"),
        ("compare.anchors=[1]", r"compare\.anchors.*2"),
        ("compare.tune.trials=0", "tuned-repetition needs a search"),
        ("rounds=0", "needs at least one"),
        ("prepare.train_words=none", "the anchors are multiples of it"),
        ("compare.budget=5", "did you mean 'budget_tokens'"),
    ],
)
def test_what_cannot_be_compared_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison(SMALL, [setting])


def test_a_smaller_batch_is_evaluated_and_saved_as_often_by_tokens() -> None:
    default, small = load_comparison(SMALL), load_comparison(SMALL, ["compare.batch_size=2"])
    assert default.measured == default.pretrain and small.pretrain == default.pretrain, "what texts are made with stays"
    found = small.measured
    assert (found.batch_size, found.hardware.micro_batch_size) == (2, 2)
    for name in ("evaluate_every", "checkpoint_every"):
        assert getattr(found, name) * found.batch_size == getattr(default.pretrain, name) * default.pretrain.batch_size
    with pytest.raises(ConfigError, match=r"compare\.batch_size.*0"):
        load_comparison(SMALL, ["compare.batch_size=-1"])


def test_the_order_is_search_then_probe_then_texts_then_each_arms_own_search() -> None:
    names = comparison_outline(load_comparison(SMALL))
    first = {
        kind: next(i for i, n in enumerate(names) if n.startswith(kind)) for kind in ("tune/u1", "text/shared/round-01/probe")
    }
    places = [
        *first.values(),
        *(next(i for i, n in enumerate(names) if n.startswith(p)) for p in ("text/synpro", "tune/synpro")),
    ]
    assert places == sorted(places)
    assert not any(n.startswith("text/shared/round-00/pretrain") for n in names), "the probe's model is the search's winner"


def test_an_arm_is_searched_with_as_many_settings_as_repetition() -> None:
    names = comparison_outline(load_comparison(SMALL))
    counts = Counter(n.split("/")[1] for n in names if n.startswith("tune/"))
    assert counts["u1"] == counts["synpro"] == counts["prompt-only"] == counts["best-of-n"]
    assert {"arms/synpro/seed-0/pretrain", "forced/synpro/seed-0/pretrain"} <= set(names)
    none = comparison_outline(load_comparison(SMALL, ["compare.tune.own_search=false"]))
    assert not any(n.startswith(("tune/synpro", "forced/")) for n in none)


def test_the_search_of_one_arm_serves_all() -> None:
    cfg = load_comparison(SMALL, ["compare.settings_from=prompt-only"])
    names = comparison_outline(cfg)
    searched = {n.split("/")[1] for n in names if n.startswith("tune/")}
    assert searched & set(cfg.synthetic) == {"prompt-only"}
    assert {n.split("/")[1] for n in names if n.startswith("forced/")} == {"prompt-only"}, "its own line is the stricter one"
    asked = dict[str, Any]()

    def steps(name: str, stage: object, config: object, **inputs: object) -> NotRun:
        asked[name] = config
        return NotRun(name, -float(len(asked)), text_tokens=len(asked))

    compare(cfg, steps)  # type: ignore[arg-type]
    own, theirs, strict = (
        asked[f"{name}/seed-0/pretrain"] for name in ("arms/prompt-only", "arms/synpro", "forced/prompt-only")
    )
    assert own.optimizer == theirs.optimizer != strict.optimizer


def test_under_the_continued_protocol_the_search_continues_the_plateau_too() -> None:
    names = comparison_outline(load_comparison(SMALL, ["compare.protocol=continued"]))
    assert names.index("text/shared/round-00/pretrain") < names.index("tune/u1/trial-00/pretrain")


def test_arms_with_a_number_and_of_one_operation() -> None:
    sets = ["compare.arms=['synpro', 'prompt-only-4', 'prompt-only-1', 'questions-only', 'best-of-n-2', 'generator-text']"]
    cfg = load_comparison(SMALL, [*sets, "compare.best_of=6"])
    names = ["generator-text", "prompt-only-1", "prompt-only-4", "questions-only", "best-of-n-2", "synpro"]
    assert list(cfg.arms) == names == sorted(names, key=arm_order)
    for name, versions in (("prompt-only-4", 4), ("prompt-only-1", 1)):
        assert {(o.num_versions, o.steps) for o in cfg.of_arm(name).operations.values()} == {(versions, 0)}
    assert {(o.num_versions, o.tries, o.select_by) for o in cfg.of_arm("best-of-n-2").operations.values()} == {(2, 6, "reward")}
    assert list(cfg.of_arm("questions-only").operations) == ["questions"]
    assert not find_arm("prompt-only-4").looks and find_arm("best-of-n-2").looks and find_arm("oracle-2").oracle == 2


def test_an_arm_waits_for_the_one_that_generates_its_answers() -> None:
    arms = ["prompt-only", "prompt-only-3", "rephrase-only", "prompt-only-without-copy", "least-copied", "best-of-n", "synpro"]
    arms += ["most-influential-1"]
    cfg = load_comparison(SMALL, [f"compare.arms={arms}", "compare.best_of=4"])
    assert first_to_ask(cfg, list(cfg.synthetic)) == {
        "prompt-only": set(),
        "prompt-only-without-copy": {"prompt-only"},
        "prompt-only-3": set(),
        "rephrase-only": {"prompt-only"},
        "least-copied": set(),
        "most-influential-1": {"least-copied"},
        "best-of-n": {"least-copied", "most-influential-1"},  # and the scores, which least-copied has without influence
        "synpro": set(),
    }
    comparison = Comparison(cfg, DedupSteps(lambda *args, **inputs: None), {"u1": None})
    before = {name: job.wait for name, job in comparison.jobs().items() if name.startswith("texts/")}
    assert (
        before["texts/best-of-n/0"] == ("texts/least-copied/0", "texts/most-influential-1/0")
        and before["texts/least-copied/0"] == ()
    )
    assert next(iter(before)) == "texts/synpro/0" and list(before)[-1] == "texts/best-of-n/0"
    assert before["texts/rephrase-only/0"] == ("texts/prompt-only/0",) and before["texts/synpro/0"] == ()


def test_arms_that_leave_a_check_out() -> None:
    arms = ["prompt-only", *(f"prompt-only-without-{check}" for check in CHECKS), "synpro-without-copy"]
    cfg = load_comparison(SMALL, [f"compare.arms={arms}"])
    whole = cfg.of_arm("prompt-only")
    assert whole.synthesize.keep_answers, "an arm without a check differs in what it keeps, not in what is generated"
    assert not find_arm("prompt-only-without-copy").looks and find_arm("synpro-without-copy").looks
    for check in CHECKS:
        own = cfg.of_arm(f"prompt-only-without-{check}")
        assert (own.filters, own.operations) != (whole.filters, whole.operations), check
    controls = {(c.arm, c.control) for c in find_contrasts(cfg.arms)}
    assert {(f"prompt-only-without-{check}", "prompt-only") for check in CHECKS} <= controls
    with pytest.raises(ConfigError, match="the check support is off"):
        load_comparison(SMALL, ["compare.arms=['prompt-only-without-support']", "filters.min_faithfulness=0"])
    with pytest.raises(ConfigError, match="without-CHECK"):
        load_comparison(SMALL, ["compare.arms=['prompt-only-without-taste']"])


def test_placebo_and_no_influence_keep_the_gate() -> None:
    cfg = load_comparison(SMALL)
    values = {name: cfg.of_arm(name).rubric.influence.values for name in ("synpro", "placebo", "no-influence")}
    assert values == {"synpro": "measured", "placebo": "shuffled", "no-influence": "none"}
    assert all(cfg.of_arm(n).operations["rephrase"].weights["influence"] > 0 for n in values)


def test_arms_that_choose() -> None:
    cfg = load_comparison(SMALL)
    chosen = {name: cfg.of_arm(name).operations["rephrase"] for name in ("most-influential", "most-faithful", "best-of-n")}
    assert {n: o.select_by for n, o in chosen.items()} == {
        "most-influential": "influence",
        "most-faithful": "faithfulness",
        "best-of-n": "reward",
    }
    assert {(o.steps, o.num_candidates, o.max_tries) for o in chosen.values()} == {
        (0, cfg.compare.best_of, cfg.compare.best_of)
    }
    sharp = cfg.of_arm("most-influential-1").operations["rephrase"]
    assert (sharp.num_versions, sharp.num_candidates, sharp.select_by) == (1, cfg.compare.best_of, "influence")
    unpaid = "operations.rephrase.weights.faithfulness=0"
    with pytest.raises(ConfigError, match="select_by: 'faithfulness' is neither a reward with a weight here"):
        load_comparison(SMALL, ["compare.arms=['most-faithful']", unpaid])


def test_arms_that_change_what_rl_is_paid_for() -> None:
    cfg = load_comparison(SMALL, ["operations.rephrase.weights.faithfulness=2"])
    whole = cfg.of_arm("synpro").operations["rephrase"]
    alone, faithful, chosen = (
        cfg.of_arm(name).operations["rephrase"] for name in ("influence-only", "faithful", "synpro-best")
    )
    assert {name for name, weight in alone.weights.items() if weight} == {"influence"}
    assert faithful.weights == {**whole.weights, "faithfulness": 6.0}
    assert (chosen.steps, chosen.weights) == (whole.steps, whole.weights) and chosen.steps > 0
    assert (chosen.num_candidates, chosen.select_by) == (cfg.compare.best_of, "reward")
    found = {c.name for c in find_contrasts(["synpro", "best-of-n", "influence-only", "faithful", "synpro-best"])}
    assert {"influence-only~synpro", "faithful~synpro", "synpro-best~synpro", "synpro-best~best-of-n"} <= found
    of = find_contrasts(["prompt-only", "synpro", "influence-only", "faithful", "questions-only"])
    alone_of = {c.arm: c.about for c in of if "alone against the operations of the config" in c.about}
    assert list(alone_of) == ["questions-only"], "influence-only is no operation alone"
    sampled = load_comparison(SMALL, ["operations.rephrase.max_new_tokens=99", "operations.rephrase.temperature=0.6"])
    asked = sampled.of_arm("questions-only").operations["questions"]
    assert (asked.max_new_tokens, asked.temperature, asked.steps) == (99, 0.6, 0), "as the first operation of the config"
    names = {c.name for c in of}
    assert {f"{arm}~{control}" for arm in ("influence-only", "faithful") for control in ("prompt-only", "synpro")} <= names
    made = comparison_outline(load_comparison(SMALL, ["compare.arms=['synpro', 'synpro-best']"]))
    assert [n for n in made if n.startswith("text/synpro-best")] == [
        f"text/synpro-best/round-01/synthesize-{operation}" for operation in ("rephrase", "reformat")
    ], "the generators are those of synpro"
    chooses = ["compare.arms=['synpro-best']", "operations.rephrase.num_candidates=9", "operations.rephrase.max_tries=9"]
    unpaid = [f"operations.{name}.weights.faithfulness=0" for name in ("rephrase", "reformat")]
    for changed, said in (
        (["compare.arms=['faithful']", *unpaid], "faithful: no operation has a weight that this arm changes"),
        (chooses, "synpro-best: the config chooses among answers already"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_comparison(SMALL, changed)


def test_contrasts_have_the_control_of_the_same_number() -> None:
    found = {
        c.name: c.equal for c in find_contrasts(["prompt-only-1", "prompt-only-4", "synpro-4", "best-of-n", "rephrase-only"])
    }
    assert found == {
        "synpro-4~prompt-only-4": True,
        "synpro-4~best-of-n": True,
        "best-of-n~prompt-only-4": True,
        "rephrase-only~prompt-only-1": True,
        "prompt-only-4~prompt-only-1": False,
    }
    assert [c.name for c in find_contrasts(["prompt-only-1", "prompt-only"])] == ["prompt-only~prompt-only-1"]


def test_contrasts_at_equal_tokens_are_chosen() -> None:
    arms = ["compare.arms=['prompt-only', 'best-of-n', 'synpro']"]

    def trainings(*sets: str) -> set[str]:
        names = comparison_outline(load_comparison(SMALL, [*arms, *sets]))
        return {n.split("/")[1] for n in names if n.startswith("equal/")}

    assert trainings() == {"synpro~prompt-only", "synpro~best-of-n", "best-of-n~prompt-only"}
    one = "compare.equal_contrasts=['synpro~prompt-only', 'most-faithful~prompt-only']"
    assert trainings(one) == {"synpro~prompt-only"}, "an arm may be left out of a sitting"
    assert trainings(one, "compare.equal_tokens=false") == set()
    for name in ("synpro~oracle", "synpro", "prompt-only-8~prompt-only-1", "prompt-only~synpro"):
        with pytest.raises(ConfigError, match=f"equal_contrasts: '{name}' is no contrast of two arms with different texts"):
            load_comparison(SMALL, [*arms, f"compare.equal_contrasts=['{name}']"])


@pytest.mark.parametrize(("arm", "control"), [("generator-text", "topic"), ("generator-news", "news")])
def test_text_without_sources_is_about_topics_that_the_passage_only_chooses(arm: str, control: str) -> None:
    own = load_comparison(SMALL).of_arm(arm)
    operation = build_operation(own.operations[control])
    asked = [operation.prompt(Passage(f"d#{i}", "d", i, 0, 9, "The secret text.")) for i in range(40)]
    assert not any("secret" in m["content"] for chat in asked for m in chat)
    first = {"topic": "espresso machines", "news": "a storm that cuts the power of several towns"}[control]
    ids = (Passage(f"e#{i}", "e", i, 0, 9, "The secret text.") for i in range(3000))
    assert any(f"about {first}: {operation.aspects[0]}" in operation.prompt(p)[-1]["content"] for p in ids)
    assert len({chat[-1]["content"] for chat in asked}) > 30 and asked[0] == operation.prompt(
        Passage("d#0", "d", 0, 0, 4, "Else")
    )
    said = "Umbrellas keep off rain."
    assert operation.parse(f"{operation.headings[0]}\n{said}") == operation.parse(said) == said, "the heading may be missing"
    with pytest.raises(ParseError, match="nothing follows"):
        operation.parse(" ")
    assert own.filters.min_faithfulness == 0 and not own.operations[control].steps


def test_run_names_the_right_command_for_a_comparison() -> None:
    with pytest.raises(ConfigError, match="synpro compare"):
        load_run(SMALL)


def test_a_comparison_may_get_other_arms_and_seeds_later_and_nothing_else(tmp_path: Path) -> None:
    file = ROOT / "configs" / "compare-tiny.toml"
    init_or_verify(load_comparison(file, ["compare.budget_tokens=70000"]), tmp_path)
    init_or_verify(load_comparison(file), tmp_path)  # it had not begun
    written = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(f"# chosen with care\n{written}")
    with pytest.raises(ConfigError, match="is not one that synpro wrote"):
        init_or_verify(load_comparison(file), tmp_path)
    (tmp_path / "config.toml").write_text(written)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/request.json").touch()
    init_or_verify(load_comparison(file, ["compare.budget_tokens=70000"]), tmp_path)  # no step has a result
    init_or_verify(load_comparison(file), tmp_path)
    (tmp_path / "corpus/spool-0").mkdir()
    (tmp_path / "corpus/spool-0/00000.parquet").write_bytes(bytes(100_000))
    with pytest.raises(ConfigError, match=r"compare\.budget_tokens: 65536 -> 70000\nTake .*\nOr remove .*/corpus, if"):
        init_or_verify(load_comparison(file, ["compare.budget_tokens=70000"]), tmp_path)
    (tmp_path / "corpus/spool-0/00000.parquet").unlink()
    (tmp_path / "config.toml").write_text(f"# chosen with care\n{written}")
    with pytest.raises(ConfigError, match=r"was started with another config; .*\n  compare\.budget_tokens"):
        init_or_verify(load_comparison(file, ["compare.budget_tokens=70000"]), tmp_path)
    (tmp_path / "config.toml").write_text(written)
    (tmp_path / "corpus/result.json").touch()
    changed = ['compare.arms=["tuned-repetition", "oracle"]', "compare.seeds=[0, 1]", "compare.equal_tokens=false"]
    changed.append("compare.equal_contrasts=['synpro~prompt-only']")
    fewer = load_comparison(file, changed)
    init_or_verify(fewer, tmp_path)
    assert load_comparison(tmp_path / "config.toml") == fewer
    with pytest.raises(ConfigError, match=r"compare\.budget_tokens: 65536 -> 70000"):
        init_or_verify(load_comparison(file, ["compare.budget_tokens=70000"]), tmp_path)
    assert load_comparison(tmp_path / "config.toml") == fewer, "a refusal changes nothing"


def test_another_version_that_carries_on_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_comparison(SMALL)
    for day, commit in (("2026-11-01", "a"), ("2026-11-02", "a"), ("2026-11-03", "b"), ("2026-11-04", "b")):
        monkeypatch.setattr(run_dir, "describe_environment", lambda d=day, c=commit: {"started": d, "commit": c, "cores": 2})
        init_or_verify(cfg, tmp_path)
        assert day > "2026-11-01" or not (tmp_path / "environment.json").exists(), "a start without a step is none"
        run_dir.note_environment(tmp_path)
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found == {"started": "2026-11-01", "commit": "a", "cores": 2, "changed": [{"on": "2026-11-03", "commit": "b"}]}
