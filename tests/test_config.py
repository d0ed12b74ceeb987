"""TOML to RunConfig and back; errors name file, line, key and remedy."""

from pathlib import Path

import pytest

from synpro.config import ConfigError, RunConfig, dumps, line_of, load, plain
from synpro.loop import outline

CONFIGS = Path(__file__).parents[1] / "configs"


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["tiny", "400m", "1b"])
def test_shipped_configs_load_and_survive_a_round_trip(name, tmp_path):
    cfg = load(CONFIGS / f"{name}.toml")
    assert load(written(tmp_path, dumps(cfg))) == cfg


def test_defaults_survive_a_round_trip(tmp_path):
    cfg = RunConfig("x")
    assert load(written(tmp_path, dumps(cfg))) == cfg and plain(cfg)["rounds"] == 2


def test_set_overrides_values_of_every_kind(tmp_path):
    path = written(tmp_path, 'name = "x"\n[[operations]]\nname = "rephrase"\n')
    cfg = load(path, ["rounds=1", "name=other", "operations.0.name=reformat", "pretrain.optimizer.lr=1e-3"])
    assert (cfg.rounds, cfg.name, cfg.operations[0].name, cfg.pretrain.optimizer.lr) == (1, "other", "reformat", 1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nround = 3\n', r"run.toml, line 2: round: unknown key; did you mean 'rounds'\?"),
        ('name = "x"\n\n[pretrain.optimizer]\nlr = 0.1\nwieght_decay = 1\n', r"line 5: .*did you mean 'weight_decay'\?"),
        ('name = "x"\n[pretrian]\n', r"line 2: pretrian: unknown key; did you mean 'pretrain'\?"),
        ('name = "x"\n[pretrain.optimizer]\nlr = "much"\n', r"line 3: pretrain.optimizer.lr: should be a number"),
        ('name = "a/b"\n', "line 1: name: 'a/b' becomes a folder"),
        ('name = "x"\nrounds = -1\n', "line 2: rounds: cannot be negative"),
        ('name = "x"\n[[operations]]\nname = "rephrase"\n[[operations]]\nname = "rephrase"\n', "'rephrase' stands twice"),
        ('name = "x"\n[[operations]]\nname = "rephrasing"\n', "rephrasing"),
        ("name = \n", "not TOML"),
        ("rounds = 1\n", "name: missing"),
    ],
)
def test_errors_name_the_place_and_the_remedy(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 11"):
        load(tmp_path / "latin.toml")


@pytest.mark.parametrize("setting", ["rounds", "=3", "operations.7.name=x", "name.deeper=1", "rounds=many"])
def test_bad_settings_are_refused(setting, tmp_path):
    path = written(tmp_path, 'name = "x"\n[[operations]]\nname = "rephrase"\n')
    with pytest.raises(ConfigError, match="--set"):
        load(path, [setting])


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
