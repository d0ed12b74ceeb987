"""`synpro check`: what keeps a config from running, which models it looks at, and what it asks of servers."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from synpro.commands import execution
from synpro.commands.check import check, preconditions, rounds_problem
from synpro.commands.check_assets import Asset, active_assets, open_asset
from synpro.commands.configs import load_comparison
from synpro.config import ConfigError, RunConfig, load_config
from synpro.corpus import listing
from synpro.engines.scripted import ScriptedConfig
from synpro.outline import outline
from synpro.runner.progress import NullProgress
from tests.chat_server import NAME, Nursery, Server

CONFIGS = Path(__file__).parents[1] / "configs"
URL = "http://127.0.0.1:8000/v1"


def with_server_judge(url: str, file: Path, *more: str) -> RunConfig:
    """A config whose only model that is far away is a judge behind a server."""
    (file / "corpus.jsonl").write_text('{"text": "A mill."}\n')
    judge = f'judges.dataman={{model="{file}", engine={{type="openai", url="{url}", model="{NAME}", max_attempts=1}}}}'
    sets = [
        f"prepare.sources=[{{path = '{file}'}}]",
        "prepare.tokenizer.source=train",
        f"train_generator.base={file}",
        f"judges.encoder.model={file}",
        "judges.quality=dataman",
        judge,
        *more,
    ]
    return load_config(CONFIGS / "tiny.toml", sets)


def test_a_judge_behind_a_server_is_a_valid_config(tmp_path: Path) -> None:
    cfg, lines = with_server_judge(URL, tmp_path), list[str]()
    check(cfg, fetch=False, log=lines.append)
    assert lines[0].startswith("config: valid; 18 steps, 2 rounds, operations rephrase, reformat")
    assert [(a.slot, a.reference) for a in active_assets(cfg) if a.is_served] == [("judges.dataman", str(tmp_path))]


def test_a_bad_engine_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"judges\.dataman\.engine\.url: 'nowhere' is no address"):
        with_server_judge("nowhere", tmp_path)
    with pytest.raises(ConfigError, match=r"judges\.dataman\.engine\.max_attempts"):
        with_server_judge(URL, tmp_path, "judges.dataman.engine.max_attempts=0")


def test_with_assets_it_asks_the_server(nursery: Nursery, qwen: Path, tmp_path: Path) -> None:
    with Server(nursery, qwen) as server:
        cfg, lines = with_server_judge(server.url, tmp_path), list[str]()
        with pytest.raises(ConfigError, match="this config cannot run here"):  # the other models are no model
            check(cfg, fetch=True, log=lines.append)
        assert f"server: judges.dataman = {tmp_path}: answers" in lines
        server.kill()
        with pytest.raises(ConfigError, match=rf"judges\.dataman: the server http://127\.0\.0\.1:{server.port}/v1 .*refused"):
            check(cfg, fetch=True, log=lines.append)


def test_with_assets_an_engine_without_weights_is_no_server(tmp_path: Path) -> None:
    scripted = Asset("train_generator.base", "hf:a/b", "generator", ScriptedConfig(answers=("x",)))
    lines: list[str] = []
    assert open_asset(with_server_judge(URL, tmp_path), scripted, lines.append) == []
    assert lines == ["engine scripted: train_generator.base = hf:a/b: opens; the model is not read"]


def test_a_cap_on_words_refuses_no_rounds_and_a_counted_corpus_does(tmp_path: Path) -> None:
    cap = "prepare.train_words=6_000_000_000"
    cfg = load_config(CONFIGS / "400m.toml", [cap])
    assert not rounds_problem(cfg, tmp_path) and "holds 2 at" in rounds_problem(cfg, tmp_path, estimate=True)[0]
    lines: list[str] = []
    small = replace(with_server_judge(URL, tmp_path, cap), rounds=3, pretrain=cfg.pretrain)
    check(small, fetch=False, log=lines.append)
    assert "WARNING: if there are as many words as prepare.train_words allows: rounds = 3, but" in lines[1]

    def done(step: str, tokens: int) -> None:
        (tmp_path / step).mkdir(parents=True, exist_ok=True)
        (tmp_path / step / "result.json").write_text(json.dumps({"record": {"tokens": {"train": tokens}}}))

    done("round-00/prepare", 70_000_000)
    assert not rounds_problem(cfg, tmp_path, estimate=True)
    done("round-00/prepare", 8_000_000_000)
    assert rounds_problem(cfg, tmp_path) and not rounds_problem(replace(cfg, generate_only=True), tmp_path)
    compared = load_comparison(CONFIGS / "compare.toml", ["rounds=9", "pretrain.total_tokens=20_480"])
    assert not rounds_problem(compared) and rounds_problem(load_config(CONFIGS / "tiny.toml", ["pretrain.total_tokens=20_480"]))
    (tmp_path / "round-00/pretrain").mkdir()
    assert not rounds_problem(cfg, tmp_path), "its rounds cannot be changed any more, also where training was killed"


def test_a_run_whose_corpus_is_too_large_for_its_rounds_stops_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, asked = load_config(CONFIGS / "400m.toml"), []

    class Stages:
        redo, listener = None, NullProgress()

        def __call__(self, name: str, *rest: object, **inputs: object) -> None:
            asked.append(name)
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "result.json").write_text('{"record": {"tokens": {"train": 8000000000}}}')

    monkeypatch.setattr(execution, "shown_steps", lambda *given: contextlib.nullcontext(Stages()))
    monkeypatch.setattr(execution, "loop", lambda cfg, step: [step(name, None, None) for name in outline(cfg)])
    with pytest.raises(ConfigError, match=r"holds . at the most(.|\n)*8,000,000,000 tokens, so begin a run of another name"):
        execution.execute_steps(cfg, tmp_path)
    assert asked == ["round-00/prepare"]
    shutil.rmtree(tmp_path / "round-00")
    execution.execute_steps(cfg, tmp_path, before="round-00/pretrain")
    assert asked[1:] == ["round-00/prepare", "round-00/verifier"], "what trains no model needs no rounds"


def test_only_the_models_of_the_judges_in_use_are_fetched() -> None:
    cfg = load_config(CONFIGS / "tiny.toml")
    assert {a.slot for a in active_assets(cfg)} >= {"prepare.sources.0.path", "train_generator.base"}
    assert judges_of(cfg) == {"judges.encoder", "judges.fluency"}
    paper = replace(cfg, judges=load_config(CONFIGS / "400m.toml").judges)
    assert judges_of(paper) == {"judges.encoder", "judges.dataman", "judges.layout_model"}
    assert "train_verifier.base" not in {a.slot for a in active_assets(cfg)}
    trained = replace(cfg, train_verifier=replace(cfg.train_verifier, kind="llm"))
    assert "train_verifier.base" in {a.slot for a in active_assets(trained)}


def judges_of(cfg: RunConfig) -> set[str]:
    return {a.slot for a in active_assets(cfg) if a.slot.startswith("judges.")}


def test_what_generates_is_looked_for_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("vllm", "ray") else found(name))

    def problems(*sets: str) -> str:
        return "\n".join(preconditions(load_config(CONFIGS / "tiny.toml", sets)))

    assert "vllm" not in problems() and "ray" not in problems() and "server" not in problems()
    assert "synthesize.engine: vllm is not installed" in problems('synthesize.engine={type="vllm"}')
    assert "ray is not installed" in problems("machine.launcher=ray", "machine.workers=2")
    served = """synthesize.engine={type="server", command=["no-such-server", "{model}", "{port}"]}"""
    assert "no-such-server" in problems(served)
    unused = """judges.dataman={model="hf:a/b", engine={type="vllm"}}"""
    assert "vllm" not in problems(unused), "a judge that is not used needs nothing"
    assert "judges.dataman.engine: vllm is not installed" in problems(unused, "judges.quality=dataman")


def test_tasks_and_devices_are_looked_up_before_anything_runs() -> None:
    def problems(*sets: str) -> list[str]:
        return [p for p in preconditions(load_config(CONFIGS / "tiny.toml", sets)) if "task" in p or "device" in p]

    assert problems() == problems("evaluate.tasks=['arc_easy']", "prepare.exclude_tasks=['piqa']") == []
    wrong = problems("evaluate.tasks=['arc_eazy']", "prepare.exclude_tasks=['copaa', 'piqa']")
    assert wrong[0].startswith("evaluate.tasks: there is no task 'arc_eazy'; did you mean arc_easy")
    assert wrong[1].startswith("prepare.exclude_tasks: there is no task 'copaa'; did you mean copa")
    for device, said in (("cuda:99", "'cuda:99' is not on this machine"), ("gpu7", "'gpu7' is no device")):
        on = f'engine={{type="transformers", device="{device}"}}'
        judge = f'judges.dataman={{model="hf:a/b", {on}}}'
        told = problems(f"synthesize.{on}", f"train_generator.{on}", judge, "judges.quality=dataman")
        tables = ("train_generator", "synthesize", "judges.dataman")
        assert sorted(p.partition(": ")[0] for p in told) == sorted(f"{table}.engine.device" for table in tables)
        assert all(said in p for p in told)
        assert problems(f"synthesize.{on}", "machine.launcher=ray", "machine.workers=2") == []
        cfg = load_config(CONFIGS / "tiny.toml", [f"synthesize.{on}"])
        assert preconditions(cfg, elsewhere=True) == []
        with pytest.MonkeyPatch.context() as in_a_job:  # of a chain of Slurm jobs not every one has a GPU
            in_a_job.setenv("SLURM_JOB_ID", "7")
            assert preconditions(cfg) == []
    assert problems('synthesize.engine={type="transformers", device="cpu"}') == []


SLOTS = (
    "prepare.sources=[{path = '%s'}]",
    "prepare.general=[{path = '%s'}]",
    "prepare.tokenizer.source=%s",
    "probe.data=%s",
    "train_generator.base=%s",
    "judges.encoder.model=%s",
    "judges.fluency.model=%s",
)


def test_a_local_path_that_does_not_exist_is_told_at_once_with_its_key(tmp_path: Path) -> None:
    cfg = load_config(CONFIGS / "tiny.toml", [s % (tmp_path / "gone") for s in SLOTS])
    reported = preconditions(cfg)
    keys = ("prepare.sources.0.path", "prepare.tokenizer.source", "probe.data", "train_generator.base", "judges.encoder")
    for key in (*keys, "judges.fluency", "prepare.general.0.path"):
        assert any(line.startswith(f"{key}: {tmp_path}/gone: no such file or folder") for line in reported), key


def test_a_path_of_data_is_looked_at_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(path: str, *more: str) -> list[str]:
        sets = [f"prepare.sources=[{{path = '{path}'}}]", f"probe.data={path}", *more]
        return [p for p in preconditions(load_config(CONFIGS / "tiny.toml", sets)) if path in p]

    for name in ("g1.jsonl", "g2.jsonl", "k[1]/a.jsonl", "empty/.keep"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "A mill."}\n')
    (tmp_path / "empty/.keep").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(listing, "list_files", lambda *a, **k: pytest.fail("all files were listed, not the first alone"))
        for good in ("g?.jsonl", "g[12].jsonl", "*.jsonl", "k[1]", "g1.jsonl", ""):
            assert problems(f"{tmp_path}/{good}") == [], good
    assert problems("memory://folder/*.jsonl") == problems("wheel:some==1/folder/*") == []
    for bad, said in (
        (f"{tmp_path}/h?.jsonl", "no file there"),
        (f"{tmp_path}/none/*.jsonl", "no file there"),
        (f"{tmp_path}/empty", "no file there"),
        ("foo://bar/x.jsonl", "Protocol not known: foo"),
    ):
        told = problems(bad)
        assert [p.partition(": ")[0] for p in told] == ["prepare.sources.0.path", "probe.data"]
        assert all(said in p for p in told)
    base = f"{tmp_path}/*"
    (line,) = problems(base, f"train_generator.base={base}")
    assert line.startswith(f"train_generator.base: {base}: no such file or folder")


def said_of(slot: str, folder: Path, *sets: str) -> str:
    """What `check --assets` says of one asset."""
    cfg = load_config(CONFIGS / "tiny.toml", ["prepare.passages.max_characters=200", *sets])
    role = {a.slot: a.role for a in active_assets(cfg)}[slot]
    return "\n".join(open_asset(cfg, Asset(slot, str(folder), role), lambda line: None))


SHORT = ("operations.rephrase.max_new_tokens=8", "operations.reformat.max_new_tokens=8")


@pytest.fixture
def base(qwen: Path, tmp_path: Path) -> Path:
    """A copy of a model that may be damaged."""
    return Path(shutil.copytree(qwen, tmp_path / "base"))


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **values}))


def test_a_base_is_opened_as_its_steps_will(base: Path) -> None:
    edit(base / "config.json", max_position_embeddings=4096)
    generator = partial(said_of, "train_generator.base", base, *SHORT)
    assert generator() == ""
    assert "lora_modules: 'qproj' is no matrix of it; it has q_proj" in generator("train_generator.lora_modules=['qproj']")
    edit(base / "config.json", max_position_embeddings=300)
    assert "reads 300 tokens, and the largest English passage makes a prompt of" in generator()
    edit(base / "config.json", max_position_embeddings=4096)
    edit(base / "generation_config.json", eos_token_id=0)
    edit(base / "tokenizer_config.json", eos_token="<|endoftext|>")
    assert "ends a turn with '<|im_end|>', and generation stops at '<|endoftext|>'" in generator()
    edit(base / "config.json", architectures=["BertModel"])
    assert "is a BertModel, which does not generate text" in generator()


def test_a_template_that_leaves_its_turn_to_the_model_is_refused(base: Path) -> None:
    template = base / "chat_template.jinja"
    kept = template.read_text()
    for text, said in (
        (kept.replace("if add_generation_prompt", "if false", 1), "begins an answer with '<|im_start|>assistant' and ignores"),
        ("{% for m in messages %}[{{ m['content'] }}]<|im_end|>{% endfor %}", "begins an answer with '[' and ignores"),
        ("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}", ""),  # nothing of it is missing
        ("{{ strftime_now('%d %b %Y') }}" + kept, ""),
    ):
        template.write_text(text)
        told = said_of("train_generator.base", base, *SHORT)
        assert said in told if said else not told


def test_a_config_that_contradicts_its_files_or_itself_is_told(base: Path) -> None:
    edit(base / "config.json", num_hidden_layers=1, layer_types=None)
    assert "its files hold" in said_of("train_generator.base", base, *SHORT)
    assert "its files hold" in said_of("judges.fluency", base)
    edit(base / "config.json", num_hidden_layers="many")
    told = said_of("judges.fluency", base)
    assert "its config.json is refused by transformers" in told and not re.search(r":\W*$", told)


def test_what_transformers_prints_of_a_model_is_not_between_the_lines(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(base / "config.json", num_hidden_layers=1, layer_types=None)
    capfd.readouterr()
    assert said_of("judges.fluency", base)
    assert "".join(capfd.readouterr()) == ""


def test_a_dead_server_is_named_by_the_table_that_has_its_address(tmp_path: Path) -> None:
    engine = 'engine={type="openai", url="http://127.0.0.1:9/v1", max_attempts=1}'
    untrained = [f"operations.{name}.steps=0" for name in ("rephrase", "reformat")]
    verifier = ["train_verifier.kind=llm", "train_verifier.epochs=0", f"judges.verifier.{engine}"]
    cfg = with_server_judge(URL, tmp_path, *untrained, f"synthesize.{engine}", *verifier)
    served = {a.slot: a for a in active_assets(cfg) if a.is_served}
    for slot, table in (("train_generator.base", "synthesize"), ("train_verifier.base", "judges.verifier")):
        (line,) = open_asset(cfg, served[slot], lambda line: None)
        assert line.startswith(f"{table}: the server http://127.0.0.1:9/v1")


def test_damaged_weights_and_a_missing_chat_template_are_seen_without_loading(base: Path) -> None:
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors has" in said_of("judges.fluency", base) and "fetch it again" in said_of("judges.encoder", base)
    assert "no [CLS] and [SEP] tokens" in said_of("judges.encoder", base)
    assert "has 2 layers; set judges.encoder.layer to at most 2" in said_of("judges.encoder", base, "judges.encoder.layer=18")
    (base / "chat_template.jinja").unlink()
    assert "has no chat template" in said_of("train_generator.base", base)
    shutil.rmtree(base)
    assert "no such file or folder" in said_of("judges.encoder", base)


def test_probe_data_without_a_usable_row(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "a", "reply": "b"}\n')
    sets = f"probe.data={rows}"
    assert "none of its first 1 rows can be used: the row has no text in prompt and answer" in said_of("probe.data", rows, sets)


DAMAGE = {
    "model.safetensors": [
        (b"\x02" + bytes(7) + b"[]", "holds no JSON object"),
        (b"\x08" + bytes(7) + b'{"a": 3}', "says no shapes"),
    ],
    "model.safetensors.index.json": [(b"[]", "holds no JSON object"), (b"{}", "has no weight_map")],
    "config.json": [
        (b"[1]", "holds no JSON object"),
        (b"\xff\xfe", "is damaged"),
        (b'{"model_type": "zwonk"}', "model_type = 'zwonk'"),
    ],
    "generation_config.json": [
        (b"{", "generation_config.json is damaged"),
        (b"[]", "holds no JSON object"),
        (b'{"eos_token_id": [99999]}', "it stops at eos_token_id = 99999, and its ids are 0 to"),
        (b'{"eos_token_id": "<|im_end|>"}', "it stops at eos_token_id = '<|im_end|>'"),
    ],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_every_small_file_of_a_model_may_be_damaged(base: Path, name: str) -> None:
    for content, said in DAMAGE[name]:
        (base / name).write_bytes(content)
        assert said in said_of("train_generator.base", base, *SHORT)


def test_a_tokenizer_that_is_missing_or_of_another_model_is_told(base: Path) -> None:
    edit(base / "config.json", vocab_size=100)
    assert "and its config.json has vocab_size = 100" in said_of("judges.fluency", base)
    for file in base.glob("token*"):
        file.unlink()
    for slot in ("judges.encoder", "judges.fluency"):
        assert "makes no tokens of a sentence" in said_of(slot, base)


def test_a_corpus_whose_rows_lack_the_column_is_told(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"txt": "A mill."}\n' * 3)
    sets = f"prepare.sources=[{{path = '{rows}'}}]"
    said = said_of("prepare.sources.0.path", rows, sets)
    assert "none of its first 3 rows can be used: no column 'text'; the row has" in said
    rows.write_text('{"text": "A mill."}\n')
    assert said_of("prepare.sources.0.path", rows, sets) == ""
    rows.write_bytes("{}".encode("utf-16"))
    assert "none of its first 1 rows and files can be used: is UTF-16" in said_of("prepare.sources.0.path", rows, sets)


def test_the_first_rows_of_several_files_are_tried(tmp_path: Path) -> None:
    lacking, good = '{"txt": "A mill."}\n', '{"text": "A mill.", "prompt": "1+1=", "answer": "2"}\n'
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text(lacking * 30)
    sources, probe = f"prepare.sources=[{{path = '{folder}'}}]", f"probe.data={folder}"
    assert "can be used: no column 'text'" in said_of("prepare.sources.0.path", folder, sources)
    assert "none of its first 30 rows can be used" in said_of("probe.data", folder, probe)
    for text in (good, lacking * 30 + good):
        (folder / "b.jsonl").write_text(text)
        assert said_of("prepare.sources.0.path", folder, sources) == said_of("probe.data", folder, probe) == ""
    (folder / "b.jsonl").unlink()
    (folder / "a.jsonl").write_text(lacking * 30 + good)
    assert said_of("prepare.sources.0.path", folder, sources) == ""
    assert said_of("prepare.sources.0.path", Path(f"{folder}/?.jsonl"), sources.replace("/rows", "/rows/?.jsonl")) == ""
    for number in range(50):
        (folder / f"c{number:02}.jsonl").write_text(lacking)
    (folder / "a.jsonl").write_text(lacking)
    assert "rows can be used: no column 'text'" in said_of("prepare.sources.0.path", folder, sources)
