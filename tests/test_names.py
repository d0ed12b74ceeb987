"""Names are those of PyTorch, transformers, TRL, vLLM and Ray: words of the dialect that this code was once written in stay
out, and config keys are called what those libraries call them. Exceptions are listed here, each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.config_keys import key_paths
from tests.conftest import ROOT

DIALECT = frozenset(
    """crew work_off at_once ledger Ledger Journal say rewind Screen Watcher Silent Damaged Ranks ALONE Doer Maker streamed
    LOSSES author Writing Author Served one_folder spawn Spawned Identity owner Chooser waits nucleus cascade Unusual
    Watch Answered Crew Elsewhere MOST Items survey Around raised lowered framed asking Asker short_of Text looped held
    common_in_order Judges Bench Limits Judging Judge told Tally tally Bill Once Compared try_out usual drawn writes
    Honest honest followed let_by spent paid opened FREE remedies NODE rarity Contents cautions drawing microbatch
    micro_batch anneal final_rate checkpointing refresh clipped min_support max_looped guess eager memory_share
    vllm_memory key_variable in_flight utilisation stands""".split()  # noqa: SIM905
)
"""Never a name of anything."""
ORDINARY = frozenset(
    """screen reading covered enter leave spread identity listed shares choose cascade table watch shapes answers measured
    raised half entry figures written weights fitting counts totals memory added judge bill Work learning trial
    following follows show carry do write walk used claim named kept changed paired lr batch precision warmup clip
    completions context lists seeds top template tries""".split()  # noqa: SIM905
)
"""Words of that dialect that are ordinary ones too: not the name of a class, a function or a module."""
ALLOWED = {
    "answers": "synthesis/answers.py holds answers; judges and records have properties of that name",
    "changed": "compare/arms.py: a config with a change",
    "claim": "what is checked",
    "context": "runner/context.py; tokens that a model was made for",
    "counts": "the numbers of things",
    "covered": "a shard's passages that have a text",
    "figures": "report/figures.py draws figures",
    "kept": "report/charts.py draws what is kept",
    "watch": "`synpro status --watch`",
    "identity": "corpus/rows.py: a row's id as text",
    "measured": "the training of measured models",
    "memory": "planning/memory.py plans memory",
    "shapes": "commands/shapes.py; shapes of tensors",
    "show": "corpus/rows.py: a value for a message",
    "table": "audit/report.py prints a table",
    "tries": "answers to a passage at most, as `operations.NAME.max_tries`",
    "walk": "commands/check.py goes through nested values, as os.walk does",
    "weights": "assets/weights.py reads files of weights",
    "write": "lm/checkpoint.py writes a file",
}
"""Classes, functions and modules with an ordinary word for a name, and what they are."""
OLD_KEYS = frozenset(
    """lr microbatch micro_batch batch precision warmup clip anneal final_rate checkpointing completions refresh clipped
    min_support max_looped guess eager context memory_share vllm_memory lists top template key_variable tries
    in_flight""".split()  # noqa: SIM905
)
"""Keys that configs once had, where a library has a name for the same."""


def names(file: Path) -> Iterator[tuple[str, bool]]:
    """Every name that a file gives to something, and whether it is a class, a function or the module itself."""
    yield file.stem, True
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, True
        elif isinstance(node, ast.arg):
            yield node.arg, False
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, False
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, False


def test_names_are_the_fields() -> None:
    found = set()
    for file in (ROOT / "src").rglob("*.py"):
        for name, is_definition in names(file):
            if name.strip("_") in DIALECT or (is_definition and name in ORDINARY - ALLOWED.keys()):
                found.add(f"{file.relative_to(ROOT)}: {name}")
    assert found == set()


def test_tests_and_benchmarks_have_left_their_dialect_too() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [f"{file.name}: {name}" for file in files for name, _ in names(file) if name in ("opened", "waits", "raised")] == []


def test_config_keys_are_those_of_the_libraries() -> None:
    keys = {path.rpartition(".")[2] for path in key_paths()}
    assert len(keys) > 100 and keys & OLD_KEYS == set()
