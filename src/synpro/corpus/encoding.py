"""Texts to token ids, in this process or in several, in the order of the texts and with the same bytes either way.

The threads of `tokenizers` leave Python's part (lists of ids to arrays) on one core; processes share that too. A few batches
are in flight at a time, so memory does not grow with the corpus.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from synpro.corpus.files import CorpusError
from synpro.runner.launch import die_with_parent

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

BATCH_CHARACTERS = 1_000_000
"""Characters of text encoded at once: `tokenizers` holds about 100 bytes per token of what it encodes, by its fields."""
BATCH_TEXTS = 4096
MIN_POOL_CHARS = 8_000_000
"""Characters that this process encodes before it starts others: a small corpus starts none. Each process needs half a second of
a core to be ready."""
MAX_PROCESSES = 16
"""Processes that one process can read for, and write their answers."""


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in groups that are encoded at once."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS or len(batch) >= BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode(tokenizer: Tokenizer, texts: Sequence[str], eos_id: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the texts end to end, `(T,)` in `dtype` and little-endian, an EOS after each; and the length of each, `(N,)`."""
    import numpy as np

    ids: list[int] = []
    ends = []
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        ids += encoding.ids
        ids.append(eos_id)
        ends.append(len(ids))
    return np.array(ids, dtype=np.dtype(dtype).newbyteorder("<")), np.diff(np.array([0, *ends], dtype=np.int64))


@dataclass(frozen=True)
class EncoderSettings:
    """How texts become ids: plain data that travels to other processes and machines."""

    tokenizer: str
    """A `tokenizers.Tokenizer` as JSON."""
    encode_special_tokens: bool
    """Whether the spelling of a special token inside a text is read as text."""
    eos_id: int
    dtype: str

    def open(self, progress: Callable[[float], None] = lambda done: None) -> TokenEncoder:
        """An encoder with these settings. `progress` is not called: a batch has no parts."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.encode_special_tokens = self.encode_special_tokens
        return TokenEncoder(tokenizer, self.eos_id, self.dtype)


@dataclass(frozen=True)
class TokenEncoder:
    """Encodes batches of texts to bytes."""

    tokenizer: Tokenizer
    eos_id: int
    dtype: str

    def __call__(self, texts: Sequence[str], /) -> bytes:
        return encode(self.tokenizer, texts, self.eos_id, self.dtype)[0].tobytes()

    @property
    def settings(self) -> EncoderSettings:
        """What opens an equal encoder elsewhere."""
        return EncoderSettings(self.tokenizer.to_str(), self.tokenizer.encode_special_tokens, self.eos_id, self.dtype)

    def close(self) -> None:
        """Do nothing: an encoder holds no resources."""


RemoteEncoder = Callable[[EncoderSettings, Iterable[list[str]]], Iterator[bytes]]
"""Encodes batches on other machines and gives the answers in the order of the batches."""


def encode_batches(
    texts: Iterable[str], encoder: TokenEncoder, processes: int = 1, remote: RemoteEncoder | None = None
) -> Generator[bytes, None, None]:
    """Ids of all the texts as bytes, batch by batch.

    This process encodes the first MIN_POOL_CHARS; where more text follows, `processes` others or `remote` encode the rest.
    Close the iterator to stop early. Raises CorpusError when a process ends before its work is done.
    """
    encoded = 0
    rest = batches(texts)
    for batch in rest:
        yield encoder(batch)
        encoded += sum(map(len, batch))
        if (remote or processes > 1) and encoded >= MIN_POOL_CHARS:
            break
    else:
        return
    if remote is not None:
        yield from remote(encoder.settings, rest)
    else:
        yield from _encode_in_pool(rest, encoder.settings, min(processes, MAX_PROCESSES))


def _encode_in_pool(todo: Iterable[list[str]], settings: EncoderSettings, processes: int) -> Iterator[bytes]:
    """The answers in the order of the batches, from a pool of processes with at most two batches each in flight."""
    # `spawn`: a fork would copy the locks of the tokenizer's threads.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, (settings, os.getpid()))
    pending: deque[Future[bytes]] = deque()
    try:
        for batch in todo:
            pending.append(pool.submit(_encode_in_worker, batch))
            if len(pending) >= 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as problem:
        raise CorpusError(
            "prepare.tokenizer: a process that tokenizes ended before its work was done; the usual cause is too little memory, "
            "else the log says why. The same command starts this step over; fewer processes take less memory: lower "
            "machine.threads"
        ) from problem
    finally:
        pool.shutdown(cancel_futures=True)


_encoder: TokenEncoder | None = None  # of a process of the pool


def _start_worker(settings: EncoderSettings, parent: int) -> None:
    global _encoder
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}  # each process has one core
    _encoder = settings.open()


def _encode_in_worker(texts: list[str]) -> bytes:
    assert _encoder is not None
    return _encoder(texts)
