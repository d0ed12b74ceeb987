"""Tokens: a tokenizer trained on the train split or loaded, and the headerless arrays that OLMo-core reads.

Tokens are a cache of the text. Each document is followed by one end-of-text token; the spelling of that token inside a document
stays text, it never becomes the special id. `tokenizer/` is a Hugging Face folder, which `AutoTokenizer` and vLLM can open.
"""

from __future__ import annotations

import contextlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.assets import Log, Progress, resolve
from synpro.assets.tokenizer_loss import SAMPLES, changed_space, lost_share
from synpro.corpus.encoding import RemoteEncoder, TokenEncoder, batches, encode, encode_batches
from synpro.corpus.files import CorpusError
from synpro.schema import setting

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

    from synpro.corpus.documents import TokenizedDocuments

MAX_CHANGED_SPACE = 0.01
"""Share of the white space that a tokenizer may change without a warning."""


@dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer, trained or fetched."""

    source: str = setting("hf:allenai/dolma2-tokenizer", source="paper")
    """`train` (byte-level BPE on the train split), or a tokenizer.json, or a folder that holds one: local, `hf:` or `wheel:`.
    `model`: that of `pretrain.start`, which sets it; with it `vocab_size` is the model's. Paper: dolma2."""
    vocab_size: int = setting(100_352, source="paper", min=258, max=4294967296)
    """Ids the model has room for; a fetched tokenizer may have fewer, a trained one gets at most so many. Paper: 100,278,
    padded to 100,352."""
    eos_token: str = "<|endoftext|>"
    """Token that ends a document."""
    pad_token: str = "<|pad|>"
    """Token that fills a batch; it has no loss."""
    max_lost: float = setting(0.001, source="ours", min=0, max=1, execution=True)
    """Share of a sample's characters that may be gone once encoded and decoded; above it, `prepare` refuses the tokenizer. Of
    changed white space it only warns."""

    def __post_init__(self) -> None:
        if not self.eos_token or not self.pad_token:
            raise ValueError("eos_token: is empty, or pad_token is; name two special tokens")


def token_dtype(vocab_size: int) -> str:
    """`uint16` when every id is below 65,536, else `uint32`."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def train_tokenizer(texts: Iterable[str], cfg: TokenizerConfig) -> Tokenizer:
    """Train byte-level BPE: any text can be encoded and decoded back exactly. The same texts give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab_size,
        min_frequency=2,
        special_tokens=list(dict.fromkeys([cfg.eos_token, cfg.pad_token])),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in _without_long_runs(text)), trainer)
    return _checked(tokenizer, cfg, "the trained tokenizer")


_LONG_RUN = re.compile(r"\S{201,}|\s{201,}")


def _without_long_runs(text: str) -> Iterator[str]:
    """The text, cut inside runs of more than 200 characters: merges are counted in a time that grows with the square of a word,
    and a megabyte of base64 is one word."""
    position = 0
    for run in _LONG_RUN.finditer(text):
        for cut in range(run.start() + 200, run.end(), 200):
            yield text[position:cut]
            position = cut
    yield text[position:]


def fetch_tokenizer(cfg: TokenizerConfig, *, slot: str, log: Log | None = None, progress: Progress | None = None) -> Tokenizer:
    """The tokenizer that `cfg.source` names; `slot` is the key that errors name.

    Raises AssetError when it cannot be fetched, CorpusError when it does not fit the config.
    """
    from tokenizers import Tokenizer

    found = resolve(cfg.source, slot=slot, log=log, progress=progress)
    file = found / "tokenizer.json" if found.is_dir() else found
    if not file.is_file():
        raise CorpusError(f"{slot}: {cfg.source} has no tokenizer.json; name a folder that has one, or the file itself")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as problem:  # `tokenizers` raises plain Exception for a file it cannot read
        raise CorpusError(
            f"{slot}: {cfg.source} is not a tokenizer.json of the `tokenizers` library ({problem}); name another"
        ) from problem
    return _checked(tokenizer, cfg, f"{slot}: {cfg.source}")


def model_tokenizer(folder: Path, cfg: TokenizerConfig) -> TokenizerConfig:
    """The config of the tokenizer in a model's folder: as many ids as it has embeddings, and its own end-of-text and pad tokens
    where it lacks those of `cfg`. Raises CorpusError for a folder without a tokenizer.json or without such tokens."""
    from tokenizers import Tokenizer

    if not (folder / "tokenizer.json").is_file():
        raise CorpusError(f"pretrain.start: {folder} has no tokenizer.json; name a model with a fast tokenizer")
    tokenizer, bodies = Tokenizer.from_file(str(folder / "tokenizer.json")), []
    for name in ("tokenizer_config.json", "config.json"):
        file = folder / name
        bodies.append(json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {})

    def own(key: str, wanted: str) -> str | None:
        if tokenizer.token_to_id(wanted) is not None:
            return wanted
        token, ids = bodies[0].get(key), bodies[1].get(f"{key}_id")
        token = token.get("content") if isinstance(token, dict) else token
        ids = ids if isinstance(ids, list) else [ids]
        return token or next((tokenizer.id_to_token(i) for i in ids if i is not None), None)

    eos = own("eos_token", cfg.eos_token)
    if eos is None:
        raise CorpusError(f"pretrain.start: {folder} names no end-of-text token; set prepare.tokenizer.eos_token to one it has")
    rows = int(bodies[1]["vocab_size"])
    pad = own("pad_token", cfg.pad_token) or eos
    return replace(cfg, source=str(folder), vocab_size=rows, eos_token=eos, pad_token=pad)


def _checked(tokenizer: Tokenizer, cfg: TokenizerConfig, name: str) -> Tokenizer:
    """The tokenizer, set to read the spelling of special tokens as text, after a check that its ids and special tokens fit."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= cfg.vocab_size:
        fitting = -(-(highest + 1) // 128) * 128
        raise CorpusError(
            f"{name} has ids up to {highest:,}, more than vocab_size = {cfg.vocab_size:,}; set vocab_size = {fitting} in "
            "[prepare.tokenizer]"
        )
    for key, token, id in zip(
        ("eos_token", "pad_token"), (cfg.eos_token, cfg.pad_token), special_ids(tokenizer, cfg, name), strict=True
    ):
        if id in tokenizer.encode(f"a {token} b{token}", add_special_tokens=False).ids:
            raise CorpusError(f"{name} reads {token!r} inside a text as its {key}; use a tokenizer that marks it as special")
    return tokenizer


def tokenizer_loss(tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]] | None = None) -> dict[str, float]:
    """The share of characters that encoding and decoding lose, by the name of a sample; by default of a sentence in each of a
    few scripts."""
    named = texts or {name: [text] for name, text in SAMPLES.items()}
    return {name: lost_share(some, partial(_roundtrip, tokenizer)) for name, some in named.items()}


def _roundtrip(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)


def check_lossless(tokenizer: Tokenizer, texts: Sequence[str], cfg: TokenizerConfig, key: str, log: Log) -> None:
    """Say what share of the characters of a sample of texts the tokenizer loses, and warn where it changes white space.

    `key` is where the config names the texts. Raises CorpusError above `cfg.max_lost`.
    """
    decoded = {text: _roundtrip(tokenizer, text) for text in texts}
    lost, changed = (measure(texts, decoded.__getitem__) for measure in (lost_share, changed_space))
    if lost > cfg.max_lost:
        raise CorpusError(
            f"prepare.tokenizer.source: {cfg.source} loses {lost:.1%} of the characters of {len(texts)} documents of {key} "
            f"when encoded and decoded (at most {cfg.max_lost:.1%}: prepare.tokenizer.max_lost). Use a tokenizer that "
            'knows these characters, or source = "train"'
        )
    log(f"tokenizer: {lost:.2%} of the characters of {len(texts)} documents of {key} are lost when encoded and decoded")
    if changed > MAX_CHANGED_SPACE:
        log(
            f"WARNING: prepare.tokenizer.source: {cfg.source} loses or adds white space: {changed:.0%} of the spaces, indents "
            f"and line ends of {key} come back otherwise, so the model cannot learn them (paragraphs, verse, code). Use "
            'another tokenizer if they matter, or source = "train"'
        )


def special_ids(tokenizer: Tokenizer, cfg: TokenizerConfig, name: str = "the tokenizer") -> tuple[int, int]:
    """Ids of EOS and padding; `name` is what errors call the tokenizer. Raises CorpusError when it has no such token."""
    found = []
    for key, token in (("eos_token", cfg.eos_token), ("pad_token", cfg.pad_token)):
        id = tokenizer.token_to_id(token)
        if id is None:
            special = sorted(t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special)
            raise CorpusError(
                f"{name} has no token {token!r}; set prepare.tokenizer.{key} to one of its special tokens: {', '.join(special)}"
            )
        found.append(id)
    return found[0], found[1]


def save_tokenizer(tokenizer: Tokenizer, folder: Path, cfg: TokenizerConfig) -> None:
    """Write a Hugging Face tokenizer folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": cfg.eos_token,
        "pad_token": cfg.pad_token,
        "unk_token": None,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # special-token strings in text stay text, here too
        "model_max_length": 1 << 30,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a corpus (`corpus.dir / "tokenizer"`), with special-token strings read as text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str], eos_id: int, dtype: str) -> TokenizedDocuments:
    """Ids of each text in `dtype`, with its EOS at the end."""
    import numpy as np

    from synpro.corpus.documents import TokenizedDocuments

    tokens, lengths = bytearray(), array("q")
    for batch in batches(texts):
        ids, each = encode(tokenizer, batch, eos_id, dtype)
        tokens += ids.tobytes()
        lengths.frombytes(each.tobytes())
    return TokenizedDocuments(np.frombuffer(tokens, np.dtype(dtype).newbyteorder("<")), np.array(lengths, dtype=np.int64))


def write_tokens(
    path: Path,
    texts: Iterable[str],
    tokenizer: Tokenizer,
    eos_id: int,
    dtype: str,
    processes: int = 1,
    remote: RemoteEncoder | None = None,
) -> int:
    """Encode texts into a headerless little-endian array, EOS after each, and return the number of tokens.

    The file appears whole, by rename. Where there is much text, several `processes` or `remote` encode it; the bytes are the
    same for any. Raises CorpusError when one of the processes crashes.
    """
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    encoder = TokenEncoder(tokenizer, eos_id, dtype)
    with partial.open("wb") as handle, contextlib.closing(encode_batches(texts, encoder, processes, remote)) as encoded:
        for ids in encoded:
            handle.write(ids)
        total = handle.tell() // np.dtype(dtype).itemsize
    partial.replace(path)
    return total


def read_tokens(path: Path, dtype: str) -> np.ndarray:
    """The tokens of a file, `(T,)`, memory-mapped. Raises CorpusError when it is missing or cut short."""
    import numpy as np

    width = np.dtype(dtype).itemsize
    size = path.stat().st_size if path.exists() else -1
    if size < 0 or size % width:
        problem = "is missing" if size < 0 else f"has {size} bytes, not a multiple of {width}"
        raise CorpusError(f"{path} {problem}; remove the folder of its step and run the same command again")
    if size == 0:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")


def split_documents(tokens: np.ndarray, eos_id: int) -> TokenizedDocuments:
    """Views of the documents in an array, each with its EOS: the inverse of concatenation.

    What follows the last EOS is a document too.
    """
    import numpy as np

    from synpro.corpus.documents import TokenizedDocuments

    ends = np.flatnonzero(tokens == eos_id) + 1
    if len(tokens) and (not len(ends) or ends[-1] < len(tokens)):
        ends = np.append(ends, len(tokens))
    return TokenizedDocuments(tokens, np.diff(ends, prepend=0))
