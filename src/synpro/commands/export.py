"""`synpro export`: the texts of a run in the forms people train on, or its model, with a card and their lineage."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import cast, get_args
from uuid import uuid4

import pyarrow as pa

from synpro.commands.run_dir import open_run
from synpro.disk import disk_error, explain
from synpro.export.card import write_card
from synpro.export.model_card import model_card
from synpro.export.selection import Content, Counts, ExportError, Selection, select_rows
from synpro.export.text_formats import write_dolma, write_parquet
from synpro.export.token_formats import TOKEN_FORMATS, TokenExport
from synpro.records import Corpus, decode
from synpro.report.run_data import load_run
from synpro.runner.artifacts import finished, read_json, read_record
from synpro.runner.step import REHEARSAL

MODEL = "model"
FORMATS = ("parquet", "dolma", *TOKEN_FORMATS, MODEL)


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    files: tuple[Path, ...]
    card: Path
    counts: Counts
    tokens: int | None
    """Tokens in the files; None for a text format."""
    round: int | None = None
    """The round of a model; None for texts."""


def export(run: Path, out: Path, format: str = "parquet", selection: Selection | None = None) -> Exported:
    """Write the chosen texts of a run, or the model of a round, to `out`, which must not exist or be empty, and a card beside
    them. The folder appears whole, or not at all.

    Raises ExportError for an unknown format, a folder that holds something, or a selection the run cannot serve; NotARun for
    a folder that is no run.
    """
    selection = selection or Selection()
    if format not in FORMATS:
        raise ExportError(f"--format {format}: there is no such format; use one of {', '.join(FORMATS)}")
    if run.name.endswith(REHEARSAL):
        raise ExportError(f"{run} is a rehearsal, with models of a dozen steps: its texts are no result; export the run itself")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ExportError(f"{out} holds something already; give the path of a new folder")
        whole = out.resolve()  # `.` has no name
        if whole == Path.cwd():
            raise ExportError(f"--to {out}: is the folder that you are in; give the path of a new one")
        partial = whole.with_name(f"{whole.name}.partial-{uuid4().hex[:8]}")  # no other export's, and nobody's folder
        partial.mkdir(parents=True)
    except (OSError, RuntimeError) as problem:  # RuntimeError: a loop of links
        why = explain(OSError(problem.errno, problem.strerror), out) if isinstance(problem, OSError) else problem
        raise ExportError(f"--to {out}: cannot be made ({why}); give the path of a new folder") from problem
    try:
        done = _write_model(run, selection, partial) if format == MODEL else _write_texts(run, partial, format, selection)
        try:
            partial.rename(whole)  # over an empty folder, if it is still empty
        except OSError as problem:
            why = explain(OSError(problem.errno, problem.strerror), out)
            raise ExportError(f"--to {out}: cannot be written ({why}); give the path of a new folder") from problem
    except (OSError, pa.ArrowException) as problem:
        if (broken := disk_error(problem)) is None or not str(broken.filename or partial).startswith(str(partial)):
            raise  # no fault of this folder's
        raise ExportError(f"--to {explain(broken, out)}") from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = tuple(out / file.relative_to(partial) for file in done.files)
    return replace(done, files=files, card=out / done.card.name)


def _write_texts(run: Path, out: Path, format: str, selection: Selection) -> Exported:
    cfg, counts = open_run(run), Counts()
    rows = select_rows(run, selection, counts)
    written: TokenExport | None = None
    if format == "parquet":
        files: Iterable[Path] = write_parquet(rows, out)
    elif format == "dolma":
        files = write_dolma(rows, out, added=_started(run))
    else:
        written = TOKEN_FORMATS[format](rows, _corpus(run), out)
        files = written.files
    if not counts.rows:
        raise ExportError("the selection holds no text; loosen --min-score or --content")
    card = write_card(run, cfg, selection, counts, out, tuple(files), written)
    return Exported(tuple(files), card, counts, written.tokens if written else None)


def _write_model(run: Path, selection: Selection, out: Path) -> Exported:
    """Copy the checkpoint of the round that is asked for, or of the newest, with its card."""
    if selection != Selection(rounds=selection.rounds) or len(selection.rounds) > 1:
        raise ExportError(f"--format {MODEL}: takes one --round at most, and no other choice of texts")
    done = sorted(step for step in run.glob("round-*/pretrain") if finished(step))
    known = {int(step.parent.name.removeprefix("round-")): step for step in done}
    number = selection.rounds[0] if selection.rounds else max(known, default=0)
    whole = [n for n, step in known.items() if any((step / "hf").glob("*.safetensors"))]
    if number not in whole:
        missing = f"the weights of round {number} are not in {known[number] / 'hf'}" if number in known else ""
        raise ExportError(
            f"--format {MODEL}: {missing or f'{run} has no model of round {number}'}; it has "
            f"{', '.join(map(str, whole)) or 'none'}{' (--round)' if missing and whole else ''}"
        )
    shutil.copytree(known[number] / "hf", out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))
    files = tuple(sorted(p for p in out.rglob("*") if p.is_file()))
    card = out / "README.md"
    card.write_text(model_card(load_run(run), open_run(run), number), encoding="utf-8")
    return Exported(files, card, Counts(), None, number)


def parse_selection(content: str, rounds: Sequence[int], operations: Sequence[str], min_scores: Sequence[str]) -> Selection:
    """A selection from what a person typed. Raises ExportError."""
    if content not in get_args(Content):
        raise ExportError(f"--content {content}: use one of {', '.join(get_args(Content))}")
    minimum: dict[str, float] = {}
    for setting in min_scores:
        name, _, value = setting.partition("=")
        try:
            minimum[name.strip()] = least = float(value)
        except ValueError:
            least = nan
        if not name.strip() or not isfinite(least):
            raise ExportError(f"--min-score {setting}: write REWARD=NUMBER, for example faithfulness=0.8")
    if content == "organic" and (rounds or operations or minimum):
        raise ExportError("--content organic: takes no --round, --operation or --min-score, which choose synthetic texts")
    return Selection(cast(Content, content), tuple(rounds), tuple(operations), minimum)


def _corpus(run: Path) -> Corpus:
    corpus = decode(read_record(run / "round-00/prepare"), run)
    assert isinstance(corpus, Corpus)
    return corpus


def _started(run: Path) -> str | None:
    """The day the run was begun, ISO 8601, as it says itself; None for a run of an earlier version."""
    environment = run / "environment.json"
    return read_json(environment).get("started") if environment.exists() else None


def export_lines(done: Exported) -> list[str]:
    """What an export wrote, for a terminal."""
    if done.round is not None:
        about = [f"model: of round {done.round}"]
    else:
        parts = ", ".join(f"{name} {number}" for name, number in done.counts.rows.items())
        tokens = "" if done.tokens is None else f"; {done.tokens:,} tokens"
        left_out = f"; {done.counts.below_minimum} texts below a minimum" if done.counts.below_minimum else ""
        about = [f"documents: {parts}{tokens}{left_out}"]
        if list(done.counts.rows) == ["organic"]:
            about.append("synthetic text: none, as far as the run has got and the options choose")
    return [*about, *(f"file: {file}" for file in done.files), f"card: {done.card}"]


def check_push(repository: str | None, dry_run: bool) -> None:
    """Raise ExportError for a name that is no ORG/NAME, and for a dry run of nothing. To be asked before the export."""
    if repository is None and dry_run:
        raise ExportError("--dry-run: lists what --push ORG/NAME would upload; give that too")
    if repository is not None and (repository.count("/") != 1 or not all(repository.split("/"))):
        raise ExportError(f"--push {repository}: write ORG/NAME")


def push(folder: Path, repository: str, kind: str = "dataset", *, dry_run: bool = False) -> list[str]:
    """Upload an export to a repository of the Hugging Face hub, of kind `dataset` or `model`; with `dry_run` only name what
    would be uploaded.

    Raises ExportError for a name that is no ORG/NAME, and when the hub refuses: the export stays, and can be uploaded by
    `hf upload`.
    """
    check_push(repository, dry_run)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if dry_run:
        return names
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        api.create_repo(repository, repo_type=kind, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, repo_type=kind, commit_message="Export of a SynPro run")
    except (HfHubHTTPError, OSError) as problem:
        raise ExportError(
            f"--push {repository}: the hub refused ({problem}); log in with `hf auth login`, or set HF_TOKEN. The export is "
            f"there: `hf upload {repository} {folder} --repo-type {kind}` uploads it"
        ) from problem
    return names
