"""TOML to RunConfig and back; errors name file, line, key and remedy."""

import gzip
from pathlib import Path

import pytest

from synpro.commands.configs import is_comparison
from synpro.config import ConfigError, RunConfig, dumps, line_of, load_config, plain
from synpro.outline import outline

CONFIGS = Path(__file__).parents[1] / "configs"


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["tiny", "400m", "1b"])
def test_shipped_configs_load_and_survive_a_round_trip(name, tmp_path):
    cfg = load_config(CONFIGS / f"{name}.toml")
    assert load_config(written(tmp_path, dumps(cfg))) == cfg


def test_defaults_survive_a_round_trip(tmp_path):
    cfg = RunConfig("x")
    assert load_config(written(tmp_path, dumps(cfg))) == cfg and plain(cfg)["rounds"] == 2


def test_without_retraining_generators_are_trained_once(tmp_path):
    path = written(tmp_path, 'name = "x"\nrounds = 2\n')
    once, again = (outline(load_config(path, [f"retrain_each_round={on}"])) for on in ("false", "true"))
    assert [n for n in again if n not in once] == ["round-02/train-rephrase", "round-02/train-reformat"]
    assert "round-02/synthesize-rephrase" in once


def test_set_overrides_values_of_every_kind(tmp_path):
    path = written(tmp_path, 'name = "x"\n[[prepare.sources]]\npath = "a.txt"\n')
    cfg = load_config(path, ["rounds=1", "name=other", "prepare.sources.0.path=b.txt", "pretrain.optimizer.learning_rate=1e-3"])
    assert (cfg.rounds, cfg.name, cfg.prepare.sources[0].path) == (1, "other", "b.txt")
    assert cfg.pretrain.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nround = 3\n', r"run.toml, line 2: round: unknown key; did you mean 'rounds'\?"),
        (
            'name = "x"\n\n[pretrain.optimizer]\nlearning_rate = 0.1\nwieght_decay = 1\n',
            r"line 5: .*did you mean 'weight_decay'\?",
        ),
        ('name = "x"\n[pretrian]\n', r"line 2: pretrian: unknown key; did you mean 'pretrain'\?"),
        (
            'name = "x"\n[pretrain.optimizer]\nlearning_rate = "much"\n',
            r"line 3: pretrain.optimizer.learning_rate: should be a number",
        ),
        ('name = "a/b"\n', "line 1: name: 'a/b' becomes a folder"),
        ('name = "x"\nrounds = -1\n', "line 2: rounds: -1 is out of range; give at least 0"),
        ('name = "x"\nrounds = 1_000_000\n', "line 2: rounds: 1000000 is out of range; give at least 0 and at most 10000"),
        ('name = "x"\n[pretrain.optimizer]\nlearning_rate = inf\n', "line 3: .*: inf is out of range; give above 0"),
        ('name = "x"\n[judges.fluency]\nlanguages = ["german"]\n', "fluency.languages: 'german' is no code of ISO 639-1"),
        ('name = "x"\n[[operations]]\nname = "rephrase"\n', r"line 2: operations: is a list; write a table for each"),
        ('name = "x"\n[operations.rephrasing]\n', r"line 2: operations.rephrasing: .*did you mean 'rephrase'\?"),
        ("name = \n", "not TOML"),
        ('{"name": "x"}', "is JSON, not TOML"),
        ('name = "C:\\Users\\me"\n', r"Invalid hex value .*line 1.*; a backslash within .* or with /"),
        ('name = "C:\\me"\n', r"a backslash within"),
        ("a = " + 3000 * "[" + 3000 * "]", "nested too deeply"),
        ("rounds = 1\n", "name: missing"),
    ],
)
def test_errors_name_the_place_and_the_remedy(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 11"):
        load_config(tmp_path / "latin.toml")
    (tmp_path / "packed.toml").write_bytes(gzip.compress(b'name = "x"\n'))
    with pytest.raises(ConfigError, match=r"packed\.toml: is compressed by gzip; unpack it first: gunzip .*packed"):
        load_config(tmp_path / "packed.toml")
    (tmp_path / "deep.toml").write_text("a = " + 3000 * "[" + 3000 * "]")
    assert not is_comparison(tmp_path / "deep.toml")
    (tmp_path / "mark.toml").write_text('name = "x"\n[compare]\n', encoding="utf-8-sig")
    assert is_comparison(tmp_path / "mark.toml")


@pytest.mark.parametrize("setting", ["rounds", "=3", "prepare.sources.7.path=x", "name.deeper=1", "rounds=many"])
def test_bad_settings_are_refused(setting, tmp_path):
    path = written(tmp_path, 'name = "x"\n[[prepare.sources]]\npath = "a.txt"\n')
    with pytest.raises(ConfigError, match="--set"):
        load_config(path, [setting])
    for entry in ("-1", "\u00b2", "1"):
        for rest in ("", ".path"):
            with pytest.raises(ConfigError, match=rf"'{entry}' is not one of the 1 entries"):
                load_config(path, [f"prepare.sources.{entry}{rest}=x"])
    with pytest.raises(ConfigError, match="no such list"):
        load_config(written(tmp_path, 'name = "x"\n'), ["prepare.sources.0.path=x"])


def test_line_of_finds_the_key_or_the_table_above_it():
    text = 'name = "x"\n[a.b]\nc = 1\n# c = 2\n[a]\nd = 1\n'
    assert [line_of(text, k) for k in ("name", "a.b.c", "a.d", "a.b.zzz", "q")] == [1, 3, 6, 2, None]


def test_the_outline_is_the_loop():
    names = outline(RunConfig("x", rounds=2))
    assert names[:4] == [f"round-00/{s}" for s in ("prepare", "verifier", "pretrain", "evaluate")]
    written = ["train-rephrase", "synthesize-rephrase", "train-reformat", "synthesize-reformat"]
    assert names[4:11] == [f"round-01/{s}" for s in ("probe", *written, "pretrain", "evaluate")]
    assert len(names) == 18 and len(set(names)) == 18
    assert outline(RunConfig("x", rounds=0)) == ["round-00/prepare", "round-00/pretrain", "round-00/evaluate"]


def test_all_errors_are_told_at_once_each_with_its_line(tmp_path):
    text = (
        'name = "x"\nround = 3\n[pretrain]\nbatch = 8\n[pretrain.optimizer]\nlr = 1e-3\nbeta1 = 1.5\n[probe]\nsteps = "many"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text), ["seed=a"])
    lines = str(caught.value).splitlines()
    assert sorted(line.rpartition("run.toml, ")[2] for line in lines) == [
        "--set seed: should be a whole number, is 'a'",
        "line 2: round: unknown key; did you mean 'rounds'?",
        "line 4: pretrain.batch: is called 'batch_size' now",
        "line 6: pretrain.optimizer.lr: is called 'learning_rate' now",
        "line 7: pretrain.optimizer.beta1: 1.5 is out of range; give at least 0 and below 1",
        "line 9: probe.steps: should be a whole number, is 'many'",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("refresh", "false", "refresh: is called 'retrain_each_round' now"),
        ("probe.optimizer.lr", "1e-4", "probe.optimizer: is now probe.learning_rate"),
        ("pretrain.model.qk_norm", "true", "pretrain.model.qk_norm: is gone; remove it"),
        ("rubric.weights.rephrase", "{}", "rubric.weights: is now operations.NAME.weights"),
        ("train_generator.completions", "4", "train_generator.completions: is called 'num_generations' now"),
        ("synthesize.min_support", "0.5", "synthesize.min_support: is now filters.min_faithfulness"),
    ],
)
def test_an_old_key_is_refused_with_its_new_name(key, value, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, 'name = "x"\n'), [f"{key}={value}"])
