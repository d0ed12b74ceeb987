"""Opening what a run will open: each model and data set that a config names, in its place, without loading weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from synpro.assets import AssetError, model_folder, needs_download, resolve
from synpro.assets.file_tree import GLOB, holds_file
from synpro.config import RunConfig
from synpro.engines.base import EngineError, EngineSpec
from synpro.records import Chat, Document
from synpro.runner.rejects import Reject

Row = TypeVar("Row")
Role = Literal["corpus", "tokenizer", "generator", "language model", "chat model", "encoder", "probe data", "program"]
PROSE = "The keeper of the old harbour counted the boats each evening and wrote their names in a long book. "
DATA: tuple[Role, ...] = ("corpus", "probe data")
"""Roles whose paths may be globs and addresses."""
FIRST_FILES, FIRST_ROWS = 20, 1_000
"""Files of a corpus, spread over all, and rows of each, and of probe data, that are read in search of a usable one."""


@dataclass(frozen=True)
class Asset:
    """A model, data set or file that a config names and uses."""

    slot: str
    """The dotted key that names it."""
    reference: str
    role: Role
    engine: EngineSpec | None = None
    """What runs it, where the config says; None: it is opened, or read, in the step's own process."""
    table: str = ""
    """The table of the config that has the engine, where it is not the slot."""

    @property
    def is_served(self) -> bool:
        """Whether a server has it, and this machine does not."""
        return self.engine is not None and not self.engine.reads_weights


def active_assets(cfg: RunConfig) -> Iterator[Asset]:
    """What a run opens: not the judges that the config's choices leave unopened."""
    for key, sources in (("sources", cfg.prepare.sources), ("general", cfg.prepare.general)):
        for number, source in enumerate(sources):
            yield Asset(f"prepare.{key}.{number}.path", source.path, "corpus")
    if cfg.pretrain.start is not None:
        yield Asset("pretrain.start", cfg.pretrain.start, "language model")
    elif cfg.prepare.tokenizer.source != "train":
        yield Asset("prepare.tokenizer.source", cfg.prepare.tokenizer.source, "tokenizer")
    if cfg.probe.data:
        yield Asset("probe.data", cfg.probe.data, "probe data")
    trains = any(operation.steps for operation in cfg.operations.values())
    engine = None if trains else cfg.synthesize.engine
    yield Asset("train_generator.base", cfg.train_generator.base, "generator", engine, "synthesize")
    judges, unused = cfg.judges, cfg.judges.unused()
    yield Asset("judges.encoder", judges.encoder.model, "encoder")
    if "fluency" not in unused:
        yield Asset("judges.fluency", judges.fluency.model, "language model")
    if "dataman" not in unused:
        yield Asset("judges.dataman", judges.dataman.model, "chat model", judges.dataman.engine)
    if "layout_model" not in unused:
        yield Asset("judges.layout_model", judges.layout_model.model, "chat model", judges.layout_model.engine)
    if cfg.train_verifier.kind == "llm":
        yield Asset("train_verifier.base", cfg.train_verifier.base, "chat model", judges.verifier.engine, "judges.verifier")


def missing_path(asset: Asset) -> str | None:
    """What is said of a local path that does not exist or holds no file, and of an address of a kind that nothing opens; None
    for every other, and for what comes from elsewhere."""
    from synpro.corpus.listing import list_files

    text, is_data = asset.reference, asset.role in DATA
    if asset.is_served or needs_download(text):
        return None
    try:
        if is_data and "://" in text:
            return _unknown_scheme(asset)
        if not is_data or not GLOB.search(text):
            resolve(text, slot=asset.slot)
        if is_data and not holds_file(text):
            list_files(text, slot=asset.slot)  # it says what is wrong
    except (AssetError, ValueError) as problem:  # CorpusError is a ValueError
        return str(problem)
    return None


def _unknown_scheme(asset: Asset) -> str | None:
    import fsspec

    try:
        fsspec.get_filesystem_class(asset.reference.partition("://")[0])
    except (ImportError, ValueError) as problem:  # an unknown scheme, or a package that fsspec asks for
        return f"{asset.slot}: {asset.reference}: {problem}; correct the address, or copy the files to this machine"
    return None


def open_asset(cfg: RunConfig, asset: Asset, log: Callable[[str], None]) -> list[str]:
    """Fetch an asset, or ask the server that has it, and open it as its step will; what keeps that from working."""
    name = f"{asset.slot} = {asset.reference}"
    try:
        if asset.is_served:
            assert asset.engine is not None
            model = asset.engine.open(asset.reference, slot=asset.table or asset.slot)
            model.close()
            local = f"engine {asset.engine.type}: {name}: opens; the model is not read"
            log(f"server: {name}: answers" if model.is_remote else local)
            return []
        if asset.role in ("corpus", "tokenizer", "probe data"):
            found, problems = _open_data(cfg, asset, log)
        else:
            folder = model_folder(asset.reference, slot=asset.slot, log=log)
            with _quiet():
                found, problems = str(folder), [f"{name}: {p}" for p in _model_problems(cfg, asset, folder)]
    except (AssetError, EngineError, ValueError, OSError) as problem:  # CorpusError is a ValueError or OSError of a source
        text = str(problem)
        return [text if text.startswith((asset.slot, asset.table or asset.slot)) else f"{name}: {text}"]
    if not problems:
        log(f"asset: {name}: {found}")
    return problems


def _open_data(cfg: RunConfig, asset: Asset, log: Callable[[str], None]) -> tuple[str, list[str]]:
    if asset.role == "tokenizer":
        from synpro.corpus.tokens import fetch_tokenizer, tokenizer_loss

        tokenizer = fetch_tokenizer(cfg.prepare.tokenizer, slot=asset.slot, log=log)
        losses = tokenizer_loss(tokenizer)
        lossy = ", ".join(f"{name} {share:.0%}" for name, share in losses.items() if share >= 0.005)
        if lossy:
            log(f"WARNING: {asset.slot} = {asset.reference} loses characters of these samples: {lossy}")
        return f"{tokenizer.get_vocab_size():,} ids", []
    if asset.role == "corpus":
        from synpro.corpus.hub import HubShard
        from synpro.corpus.readers import find_files, read_source

        _, key, number, _ = asset.slot.split(".")
        source = getattr(cfg.prepare, key)[int(number)]
        listing = find_files(source, slot=asset.slot, log=log)
        for line in listing.lines():
            log(f"{asset.slot}: {line}")
        found = f"{len(listing.files):,} files, {sum(f.size for f in listing.files) / 1e6:,.1f} MB"
        local = [file for file in listing.files if not isinstance(file, HubShard)]
        bad, is_all = list[Reject](), len(local) <= FIRST_FILES
        for file in local[:: max(1, -(-len(local) // FIRST_FILES))]:
            rejects, usable = _rejects_before(read_source(file, source, cfg.prepare.max_row_bytes))
            if usable:
                return found, []
            bad += rejects
            is_all &= len(rejects) < FIRST_ROWS
        no_text = all(r.reason in ("no-column", "not-text-column") for r in bad)  # else later rows may be better
        if not bad or not (no_text or is_all):
            return found, []
        what = "rows" if no_text else "rows and files"
        return "", [f"{asset.slot} = {asset.reference}: none of its first {len(bad)} {what} can be used: {bad[0].detail}"]
    from synpro.corpus.prompt_completion import read_prompt_completions

    bad, example = _rejects_before(read_prompt_completions(asset.reference, log))
    if example:
        return f"usable from {example.id} on", []
    why = f": {bad[0].detail}" if bad else ""
    return "", [f"{asset.slot} = {asset.reference}: none of its first {len(bad)} rows can be used{why}"]


def _rejects_before(rows: Iterable[Row | Reject]) -> tuple[list[Reject], Row | None]:
    """The rejects before the first usable row, and that row; None where there is none among the first."""
    rejects = list[Reject]()
    for row in islice(rows, FIRST_ROWS):
        if not isinstance(row, Reject):
            return rejects, row
        rejects.append(row)
    return rejects, None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and tables that transformers prints of each model: what is wrong with one is said in a line of ours."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def _model_problems(cfg: RunConfig, asset: Asset, folder: Path) -> list[str]:
    from synpro.engines.model_check import encoder_problems, language_model_problems

    if asset.role == "encoder":
        return encoder_problems(folder, cfg.judges.encoder.layer)
    if asset.slot == "pretrain.start":
        from synpro.assets.models import ImportRefused
        from synpro.lm.imported import olmo_config

        try:
            olmo_config(folder)
        except ImportRefused as problem:
            return [str(problem)]
    if asset.role == "language model":
        return language_model_problems(folder, exact=asset.slot == "pretrain.start")
    if asset.role == "chat model":
        chat: Chat = ({"role": "system", "content": "Rate."}, {"role": "user", "content": PROSE})
        return language_model_problems(folder, [chat[1:] if asset.slot != "judges.dataman" else chat])
    trains = cfg.train_generator.tuning == "lora" and any(o.steps for o in cfg.operations.values())
    modules = cfg.train_generator.lora_modules if trains else ()
    limit = max(operation.max_new_tokens for operation in cfg.operations.values())
    return language_model_problems(folder, _prompts(cfg), limit, modules)


def _prompts(cfg: RunConfig) -> list[Chat]:
    """Each operation's prompt about the largest English passage that the config allows."""
    from synpro.corpus.passages import cut_passages
    from synpro.operations.registry import build_operation

    limits = cfg.prepare.passages
    text = PROSE * (2 + 2 * limits.max_characters // len(PROSE))
    passage = max(cut_passages(Document("sample", text, ""), limits), key=lambda p: len(p.text))
    return [build_operation(operation).prompt(passage) for operation in cfg.operations.values()]
