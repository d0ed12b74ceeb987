"""Opening what a run will open: each model and data set that a config names, in its place, without loading weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from synpro.assets import AssetError, model_folder, needs_download, resolve
from synpro.config import RunConfig
from synpro.engines.base import EngineError, EngineSpec
from synpro.records import Chat, Document
from synpro.runner.rejects import Reject

Role = Literal["corpus", "tokenizer", "generator", "language model", "chat model", "encoder", "probe data", "program"]
PROSE = "The keeper of the old harbour counted the boats each evening and wrote their names in a long book. "
FIRST_ROWS = 20
"""Rows of a corpus, and of probe data, that are read."""


@dataclass(frozen=True)
class Asset:
    """A model, data set or file that a config names and uses."""

    slot: str
    """The dotted key that names it."""
    reference: str
    role: Role
    engine: EngineSpec | None = None
    """What runs it, where the config says; None: it is opened, or read, in the step's own process."""

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
    yield Asset("train_generator.base", cfg.train_generator.base, "generator", engine)
    judges, unused = cfg.judges, cfg.judges.unused()
    yield Asset("judges.encoder", judges.encoder.model, "encoder")
    if "fluency" not in unused:
        yield Asset("judges.fluency", judges.fluency.model, "language model")
    if "dataman" not in unused:
        yield Asset("judges.dataman", judges.dataman.model, "chat model", judges.dataman.engine)
    if "layout_model" not in unused:
        yield Asset("judges.layout_model", judges.layout_model.model, "chat model", judges.layout_model.engine)
    if cfg.train_verifier.kind == "llm":
        yield Asset("train_verifier.base", cfg.train_verifier.base, "chat model", judges.verifier.engine)


def missing_path(asset: Asset) -> str | None:
    """What is said of a local path that does not exist; None where it does, or where the asset comes from elsewhere."""
    if asset.is_served or needs_download(asset.reference) or "://" in asset.reference or "*" in asset.reference:
        return None
    try:
        resolve(asset.reference, slot=asset.slot)
    except AssetError as problem:
        return str(problem)
    return None


def open_asset(cfg: RunConfig, asset: Asset, log: Callable[[str], None]) -> list[str]:
    """Fetch an asset, or ask the server that has it, and open it as its step will; what keeps that from working."""
    name = f"{asset.slot} = {asset.reference}"
    try:
        if asset.is_served:
            assert asset.engine is not None
            model = asset.engine.open(asset.reference, slot=asset.slot)
            model.close()
            local = f"engine {asset.engine.type}: {name}: opens; the model is not read"
            log(f"server: {name}: answers" if model.is_remote else local)
            return []
        if asset.role in ("corpus", "tokenizer", "probe data"):
            found, problems = _open_data(cfg, asset, log)
        else:
            folder = model_folder(asset.reference, slot=asset.slot, log=log)
            found, problems = str(folder), [f"{name}: {p}" for p in _model_problems(cfg, asset, folder)]
    except (AssetError, EngineError, ValueError, OSError) as problem:  # CorpusError is a ValueError or OSError of a source
        text = str(problem)
        return [text if text.startswith(asset.slot) else f"{name}: {text}"]
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
        local = [file for file in listing.files if not isinstance(file, HubShard)][:FIRST_ROWS]
        first = list(islice((r for f in local for r in read_source(f, source, cfg.prepare.max_row_bytes)), FIRST_ROWS))
        bad = [r for r in first if isinstance(r, Reject)]
        no_text = all(r.reason in ("no-column", "not-text-column") for r in bad)  # else later rows may be better
        if bad and len(bad) == len(first) and (no_text or len(first) < FIRST_ROWS):
            what = "rows" if no_text else "rows and files"
            return "", [f"{asset.slot} = {asset.reference}: none of its first {len(first)} {what} can be used: {bad[0].detail}"]
        return f"{len(listing.files):,} files, {sum(f.size for f in listing.files) / 1e6:,.1f} MB", []
    from synpro.corpus.prompt_completion import PromptCompletionText, read_prompt_completions

    path = resolve(asset.reference, slot=asset.slot, log=log)
    rows = list(islice(read_prompt_completions(path), FIRST_ROWS))
    if not any(isinstance(row, PromptCompletionText) for row in rows):
        why = f": {rows[0].detail}" if rows and not isinstance(rows[0], PromptCompletionText) else ""
        return str(path), [f"{asset.slot} = {asset.reference}: none of its first {len(rows)} rows can be used{why}"]
    return str(path), []


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
