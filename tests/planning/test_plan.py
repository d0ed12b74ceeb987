"""Plans: hand-worked arithmetic, what is known against what is estimated, and a real measurement of this machine."""

import dataclasses
import itertools
import json
import random

import pytest

from synpro.config import load_config
from synpro.lm.model_config import ModelConfig, flops_per_token
from synpro.planning.gpu_plan import GPUS, GpuPlan
from synpro.planning.model_sizes import lora_parameters, model_size
from synpro.planning.plan import PlanError, corpus_size, estimate_stages, generator_parameters
from synpro.planning.tables import format_plan
from synpro.planning.throughput import Throughput, measure_throughput, training_sample
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"


def row(rows, stage):
    return next(r for r in rows if r.stage == stage)


def test_the_published_run_costs_what_it_costs(tmp_path):
    rows = estimate_stages(load_config(CONFIGS / "400m.toml"), tmp_path, None)
    assert row(rows, "pretrain").tokens == pytest.approx(22.9e9, rel=1e-3)
    assert row(rows, "pretrain").flops == pytest.approx(5.6e19, rel=0.02)
    assert row(rows, "probe").tokens == 3 * 100 * 64 * 2048
    assert all(r.seconds is None for r in rows)


def test_time_follows_from_the_speed(tmp_path):
    cfg = load_config(CONFIGS / "tiny.toml")
    slow, fast = (estimate_stages(cfg, tmp_path, Throughput(r, r, r)) for r in (1e9, 1e12))
    budget = 3 * cfg.pretrain.steps * 8 * 256 * flops_per_token(cfg.pretrain.model, 2048, 256)
    assert row(slow, "pretrain").seconds - row(fast, "pretrain").seconds == pytest.approx(budget / 1e9 - budget / 1e12)


def test_a_prepared_corpus_is_known_and_another_is_estimated(tmp_path):
    cfg = load_config(CONFIGS / "tiny.toml")
    assert not corpus_size(cfg, tmp_path).known and corpus_size(cfg, tmp_path).tokens == round(cfg.prepare.train_words * 1.7)
    result = tmp_path / "round-00/prepare/result.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"record": {"tokens": {"train": 7000}, "passages": 70}}))
    assert corpus_size(cfg, tmp_path) == dataclasses.replace(corpus_size(cfg, tmp_path), tokens=7000, passages=70, known=True)


def test_passages_follow_from_the_length_of_documents(tmp_path):
    def planned(*sets):
        return corpus_size(load_config(CONFIGS / "400m.toml", list(sets)), tmp_path)

    web = planned()
    assert web.documents == pytest.approx(600e6 * 6 / 5600, rel=1e-3) and "5,600 characters on average assumed" in web.about
    assert 850_000 < web.passages < 950_000, "most documents are shorter than a passage may be"
    assert planned("prepare.document_characters=7e6").passages == pytest.approx(600e6 * 6 / 7000, rel=0.01)
    rows = "".join(json.dumps({"text": "a word of this " * n}) + "\n" for n in (100, 1000))
    (tmp_path / "a.jsonl").write_text(rows)
    measured = planned(f"prepare.sources=[{{path='{tmp_path}/a.jsonl'}}]", "prepare.train_words=3850")
    assert (measured.documents, measured.passages) == (3, 6) and "first 2 of the sources" in measured.about


def test_evaluation_versions_and_the_engine_are_counted(tmp_path):
    def planned(stage, *sets):
        return row(estimate_stages(load_config(CONFIGS / "400m.toml", list(sets)), tmp_path, None), stage)

    evaluated = planned("evaluate")
    assert evaluated.tokens > 4 * 5e6 and evaluated.host_seconds > 600e6 / 560e3, (
        "items are looked for in all that is trained on"
    )
    once, four = (planned("synthesize-rephrase", f"operations.rephrase.num_versions={n}") for n in (1, 4))
    assert four.tokens == pytest.approx(4 * once.tokens) and four.flops == pytest.approx(4 * once.flops, rel=0.01)
    slow = planned("synthesize-rephrase", 'synthesize.engine={type="transformers", batch_size=64}')
    steps = [r.work["generating"].decode_steps for r in (once, slow)]
    assert steps == [0, slow.tokens / 64]
    plan = GpuPlan(1, GPUS["h100"])
    assert plan.hours(slow) > 1.5 * plan.hours(once)


def test_processes_of_rl_dispatch_every_step_each(tmp_path):
    """128 answers a step, 64 side by side: two processes have a full batch each, and no more of them save a dispatch."""

    def planned(processes):
        sets = ['train_generator.engine={type="transformers", batch_size=64}', f"machine.rl_processes={processes}"]
        answers = row(estimate_stages(load_config(CONFIGS / "400m.toml", sets), tmp_path, None), "train-rephrase").work
        return answers["RL: answers"].decode_steps / processes

    assert planned(1) == pytest.approx(2 * planned(2)) and planned(2) == pytest.approx(planned(4)) == pytest.approx(planned(8))


def test_compressed_sources_are_planned_as_what_they_hold(tmp_path):
    import bz2
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(3)
    texts = [" ".join(str(rng.randrange(10_000)) for _ in range(rng.randrange(100, 900))) for _ in range(500)]
    plain = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    written = {"a.jsonl": plain, "a.jsonl.gz": gzip.compress(plain), "a.jsonl.bz2": bz2.compress(plain)}
    for name, body in written.items():
        (tmp_path / name).write_bytes(body)
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="zstd")
    tokens = {}
    for name in (*written, "a.parquet"):
        sets = [f"prepare.sources=[{{path='{tmp_path}/{name}'}}]", "prepare.train_words=none"]
        tokens[name] = corpus_size(load_config(CONFIGS / "400m.toml", sets), tmp_path).tokens
    assert all(n == pytest.approx(tokens["a.jsonl"], rel=0.1) for n in tokens.values()), tokens


def test_what_is_held_out_and_searched_is_planned_as_it_is_made(tmp_path):
    """A corpus split 0.55, 0.15 and 0.3, of whose train words a quarter is used: 0.3 / 0.55 of four times those."""

    def planned(*sets):
        cfg = load_config(CONFIGS / "400m.toml", ["prepare.train_words=1000000", "evaluate.max_documents=none", *sets])
        return row(estimate_stages(cfg, tmp_path, None), "evaluate")

    split = ("prepare.reference_share=0.15", "prepare.heldout_share=0.3")
    part, whole = planned(*split, "prepare.sample_words=4000000"), planned(*split)
    assert (part.tokens - whole.tokens) / 4 == pytest.approx(3 * 1e6 * 1.35 * 0.3 / 0.55)
    more = planned(*split, "operations.rephrase.num_versions=4").host_seconds - whole.host_seconds
    assert more == pytest.approx(3 * 3 * 1e6 / 560_000, rel=0.01), "three more texts of each passage in each round"


def test_every_part_of_the_published_run_by_hand(tmp_path):
    """900,997 passages of 899 tokens, three rounds, answers 1.3 times as long; 40% of 989 TFLOP/s, 5% while generating."""
    cfg = load_config(CONFIGS / "400m.toml", ["synthesize.scored_share=1.0"])
    rows = estimate_stages(cfg, tmp_path, None)
    plan, texts, passage = GpuPlan(1, GPUS["h100"]), 3 * 900_997, 600e6 * 1.35 / 900_997
    work = row(rows, "synthesize-rephrase").work
    read = texts * (1.3 + 1) * passage

    def hours(flops, mfu=0.4):
        return pytest.approx(flops / mfu / 989e12 / 3600, rel=1e-3)

    assert passage == pytest.approx(899, abs=0.1)
    generated = hours(2 * 1_484_916_736 * texts * 1.3 * passage, 0.05)
    prompts = hours(2 * 1_484_916_736 * texts * (passage + 60))
    assert plan.part_hours(work["generating"]) == pytest.approx(generated.expected + prompts.expected, rel=1e-3)
    assert plan.part_hours(work["quality"]) == hours(2 * 1_543_714_304 * read)
    assert plan.part_hours(work["layout"]) == hours(2 * 4_022_468_096 * read)
    assert plan.part_hours(work["encoder"]) == hours(2 * 353_000_000 * read, 0.2), "float32 as TF32"
    assert plan.part_hours(work["verifier"]) == hours(2 * 1_720_574_976 * texts * (passage + 8 * 190)), "8 claims, one passage"
    once = flops_per_token(cfg.pretrain.model, 100_352, 2048) / 3
    assert plan.part_hours(work["influence of the corpus"]) == hours(2 * once * texts * passage, 0.2), (
        "before and after the probe"
    )
    assert plan.part_hours(work["influence of texts"]) == hours(2 * once * texts * 1.3 * passage, 0.2)
    assert work["tokenizing"].host_seconds == pytest.approx(texts * 1.3 * passage * 4.4 / 4.65e6 / 8)
    assert row(rows, "prepare").host_seconds == pytest.approx(810e6 * 4.4 / 4.65e6 / 8)
    rl = row(rows, "train-rephrase").work
    prompted = 3 * (300 * 16 + 7 * 16)  # validation before, five times on the way and after
    assert plan.part_hours(rl["RL: answers"]) == hours(2 * 1_484_916_736 * prompted * 8 * 1.3 * passage, 0.05)
    learned = 3 * 300 * 128 * (2.3 * passage + 280)
    assert plan.part_hours(rl["RL: learning"]) == hours(1_484_916_736 * (8 * learned + 2 * prompted * (passage + 280)))
    assert row(rows, "pretrain").tokens == 21_840 * 512 * 2048


def test_a_sample_of_texts_is_scored_and_the_verifier_reads_all(tmp_path):
    def parts(share, *sets):
        cfg = load_config(CONFIGS / "400m.toml", [f"synthesize.scored_share={share}", *sets])
        return row(estimate_stages(cfg, tmp_path, None), "synthesize-reformat").work

    whole, tenth = parts(1.0), parts(0.1)
    for name in ("quality", "encoder", "influence of texts", "influence of the corpus"):
        assert tenth[name].flops == pytest.approx(whole[name].flops / 10)
    assert tenth["verifier"] == whole["verifier"] and tenth["generating"] == whole["generating"]
    selected = parts(0.1, "operations.reformat.num_candidates=2")
    assert selected["quality"].flops == pytest.approx(2 * whole["quality"].flops), "all are scored to choose the best"


def test_checkpoints_of_a_step_are_on_the_disk_until_it_ends(tmp_path):
    def scratch(stage, *sets):
        return row(estimate_stages(load_config(CONFIGS / "400m.toml", list(sets)), tmp_path, None), stage).scratch

    generator = 1_484_916_736
    assert scratch("train-rephrase") == 2 * 16 * generator, "weights, two moments, the best state; and another being written"
    assert scratch("train-rephrase", "train_generator.keep=last") == 2 * 12 * generator
    adapters = lora_parameters(model_size("OLMo-2-0425-1B"), load_config(CONFIGS / "400m.toml").train_generator.lora_rank)
    assert scratch("train-reformat", "train_generator.tuning=lora", "train_generator.dtype=float32") == 2 * 16 * adapters
    smollm = model_size("SmolLM2-135M")
    assert lora_parameters(smollm, 4) * 4 == pytest.approx(4824 * 1024, rel=0.02), "the adapter that tests/loop.toml saves"
    assert lora_parameters(smollm, 4, ["q_proj", "model.v_proj"]) == 4 * 30 * (2 * 576 + 576 + 192)
    state = 12 * 474_022_912
    assert scratch("pretrain") == 2 * 2 * state, "each checkpoint has the best state beside its own"
    assert scratch("pretrain", "pretrain.checkpoint_every=none") == state
    last = ("pretrain.keep=last", "pretrain.checkpoint_every=none")
    assert [scratch("pretrain", *last[:n]) for n in (1, 2)] == [2 * state, 0]
    assert scratch("evaluate") == 0
    text = "\n".join(format_plan(load_config(CONFIGS / "400m.toml"), tmp_path, calibrate=False))
    assert f"train-rephrase takes {2 * 16 * generator / 2**30:.1f} GiB more until it ends" in text


def test_a_generator_that_is_not_trained_takes_no_disk(tmp_path):
    rows = estimate_stages(load_config(CONFIGS / "1b.toml", ["operations.rephrase.steps=0"]), tmp_path, None)
    assert [row(rows, "train-rephrase").disk, row(rows, "train-rephrase").scratch] == [0, 0]
    assert row(rows, "train-reformat").disk and row(rows, "train-reformat").scratch


def test_what_cannot_be_known_is_said(tmp_path):
    cfg = load_config(CONFIGS / "tiny.toml")
    unknown = dataclasses.replace(cfg, prepare=dataclasses.replace(cfg.prepare, train_words=None))
    with pytest.raises(PlanError, match=r"set prepare\.train_words"):
        corpus_size(unknown, tmp_path)
    strange = dataclasses.replace(cfg, train_generator=dataclasses.replace(cfg.train_generator, base=str(tmp_path)))
    with pytest.raises(PlanError, match=r"train_generator\.base"):
        generator_parameters(strange)


def test_a_generators_size_is_read_from_its_config(tmp_path):
    shape = {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152, "num_attention_heads": 9}
    shape |= {"num_key_value_heads": 3, "intermediate_size": 1536, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    cfg = load_config(CONFIGS / "tiny.toml")
    here = dataclasses.replace(cfg, train_generator=dataclasses.replace(cfg.train_generator, base=str(tmp_path)))
    assert generator_parameters(here) == pytest.approx(generator_parameters(cfg), rel=1e-3)


def test_this_machine_is_measured(monkeypatch):
    """The clock is ours: each call of the work takes half a second, so the rates are the FLOPs of the work, doubled."""
    clock = itertools.count(0.0, 0.5)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    model = ModelConfig(2, 64, 2, 128)
    found = measure_throughput(model, 512, 64, seconds=3.0)
    assert found.training == 4096 * flops_per_token(model, 512, 64) / 0.5
    weights, head = 6 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536), 49152 * 576
    assert found.prefill == 2 * weights * 8 * 256 / 0.5 and found.decode == (weights + head) * 32 / 0.5
    assert found.decode_at(8) == found.decode / 2 and found.decode_at(1000) == found.decode_at(64)


def test_the_memory_of_a_continued_model_counts_the_copies_of_its_state(tmp_path):
    cfg = load_config(CONFIGS / "continue.toml")
    planned = next(row.memory for row in estimate_stages(cfg, tmp_path, None) if row.stage == "pretrain")
    assert planned == pytest.approx(7.47 * 2**30, rel=0.1)  # measured (docs/LOG.md)


def test_a_plan_that_cannot_be_made_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("synpro.planning.tables.measure_throughput", lambda *args, **more: pytest.fail("measured"))
    with pytest.raises(PlanError, match=r"set prepare\.train_words"):
        format_plan(load_config(CONFIGS / "continue.toml", ["prepare.train_words=none"]), tmp_path, calibrate=True)


@pytest.mark.parametrize("load", [0.3, 2.4])
def test_a_machine_that_is_busy_is_said_to_be_measured_so(load, tmp_path, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("synpro.planning.tables.measure_throughput", lambda *args, **more: Throughput(1e11, 1e11, 1e10))
    said = "\n".join(format_plan(load_config(CONFIGS / "tiny.toml"), tmp_path, calibrate=True))
    assert ("measured while busy (load 2.4)" in said) == (load > 1)


def test_training_is_measured_with_little_whatever_the_model():
    for model, vocab in ((ModelConfig(30, 576, 9, 1536), 49_152), (ModelConfig(), 100_352)):
        layers, rows, length = training_sample(model, vocab, 2048, "cpu")
        cut = dataclasses.replace(model, n_layers=layers)
        assert flops_per_token(cut, vocab, length) * rows * length < 6e11 and rows * length * vocab <= 1 << 25
        assert training_sample(model, vocab, 2048, "cuda")[1:] == (2, 2048)


def test_the_plan_of_the_1b_run_is_a_table(tmp_path):
    text = "\n".join(format_plan(load_config(CONFIGS / "1b.toml"), tmp_path, calibrate=False))
    assert "45.8B" in text and "3.7e+20" in text
