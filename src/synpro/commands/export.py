"""`synpro export`: the texts of a run in the forms people train on, with a card and their lineage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

from synpro.commands.run_dir import open_run
from synpro.export.card import write_card
from synpro.export.selection import Content, Counts, ExportError, Selection, select_rows
from synpro.export.text_formats import write_dolma, write_parquet
from synpro.export.token_formats import TOKEN_FORMATS
from synpro.records import Corpus, decode

FORMATS = ("parquet", "dolma", *TOKEN_FORMATS)


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    files: tuple[Path, ...]
    card: Path
    counts: Counts
    tokens: int | None
    """Tokens in the files; None for a text format."""


def export(run: Path, out: Path, format: str = "parquet", selection: Selection | None = None) -> Exported:
    """Write the chosen texts of a run to `out`, which must not exist or be empty, and a card beside them.

    Raises ExportError for an unknown format, a folder that holds something, or a selection the run cannot serve; NotARun for
    a folder that is no run.
    """
    selection = selection or Selection()
    if format not in FORMATS:
        raise ExportError(f"--format {format}: there is no such format; use one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} holds something already; give the path of a new folder")
    cfg, counts = open_run(run), Counts()
    rows = select_rows(run, selection, counts)
    tokens: int | None = None
    if format == "parquet":
        files: Iterable[Path] = write_parquet(rows, out)
    elif format == "dolma":
        files = write_dolma(rows, out, added=_finished_on(run))
    else:
        written = TOKEN_FORMATS[format](rows, _corpus(run), out)
        files, tokens = written.files, written.tokens
        _write_ids(run, selection, out)
    files = tuple(files)
    if not counts.rows:
        raise ExportError("the selection holds no text; loosen --min-score or --content")
    return Exported(files, write_card(run, cfg, selection, counts, out, files), counts, tokens)


def parse_selection(content: str, rounds: Sequence[int], operations: Sequence[str], min_scores: Sequence[str]) -> Selection:
    """A selection from what a person typed. Raises ExportError."""
    if content not in get_args(Content):
        raise ExportError(f"--content {content}: use one of {', '.join(get_args(Content))}")
    minimum: dict[str, float] = {}
    for setting in min_scores:
        name, _, value = setting.partition("=")
        try:
            minimum[name.strip()] = float(value)
        except ValueError:
            raise ExportError(f"--min-score {setting}: write REWARD=NUMBER, for example faithfulness=0.8") from None
    return Selection(cast(Content, content), tuple(rounds), tuple(operations), minimum)


def _corpus(run: Path) -> Corpus:
    record = json.loads((run / "round-00" / "prepare" / "result.json").read_text(encoding="utf-8"))["record"]
    corpus = decode(record, run)
    assert isinstance(corpus, Corpus)
    return corpus


def _finished_on(run: Path) -> str:
    """The day the corpus was prepared, ISO 8601: an export made twice has the same bytes."""
    stamp = (run / "round-00" / "prepare" / "result.json").stat().st_mtime
    return datetime.fromtimestamp(stamp, UTC).date().isoformat()


def _write_ids(run: Path, selection: Selection, out: Path) -> None:
    """`ids.txt`: the id of each document of a token file, in its order, since tokens alone cannot carry them."""

    with (out / "ids.txt").open("w", encoding="utf-8") as handle:
        handle.writelines(f"{row.id}\n" for row in select_rows(run, selection, Counts()))


def push(folder: Path, repository: str, *, dry_run: bool = False) -> list[str]:
    """Upload an export to a dataset repository of the Hugging Face hub; with `dry_run` only name what would be uploaded.

    Raises ExportError for a name that is no ORG/NAME, and when the hub refuses.
    """
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ExportError(f"--push {repository}: write ORG/NAME")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if dry_run:
        return names
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, repo_type="dataset", commit_message="Export of a SynPro run")
    except (HfHubHTTPError, OSError) as problem:
        raise ExportError(
            f"--push {repository}: the hub refused ({problem}); log in with `hf auth login`, or set HF_TOKEN, and try again"
        ) from problem
    return names
