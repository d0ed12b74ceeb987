"""Texts to token ids, in this process or over several, in the order of the texts and with the same bytes either way.

The threads of `tokenizers` leave the work of Python (lists of ids to arrays) on one core; processes share that too. Each reads
batches of texts from its standard input and answers with an array; a few batches are on their way at a time, so memory does not
grow with the corpus. Run as `python -m synpro.corpus.encoding`, by `encoded` alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import IO, TYPE_CHECKING

from synpro.corpus.files import CorpusError
from synpro.run.launch import die_with_parent

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

BATCH_CHARACTERS = 1_000_000
"""Characters of text encoded at once: `tokenizers` holds about 100 bytes per token of what it encodes, by its fields."""
BATCH_TEXTS = 4096
ALONE = 8_000_000
"""Characters that this process encodes before it starts others, each of which needs half a second of a processor to be ready: a
small corpus starts none."""
MOST = 16
"""Processes that one process can read for, and write what they answer."""

_REQUEST = struct.Struct("<QQ")  # texts, bytes of text; the length of each text and the texts follow
_ANSWER = struct.Struct("<Q")  # bytes; the ids follow


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
    for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        ids += found.ids
        ids.append(eos_id)
        ends.append(len(ids))
    return np.array(ids, dtype=np.dtype(dtype).newbyteorder("<")), np.diff(np.array([0, *ends], dtype=np.int64))


@dataclass(frozen=True)
class Settings:
    """How texts become ids: plain data, for processes elsewhere."""

    tokenizer: str
    """Of `tokenizers`, as JSON."""
    special: bool
    """Whether strings of special tokens in a text are text."""
    eos: int
    dtype: str

    @classmethod
    def of(cls, tokenizer: Tokenizer, eos_id: int, dtype: str) -> Settings:
        """Those of a tokenizer."""
        return cls(tokenizer.to_str(), tokenizer.encode_special_tokens, eos_id, dtype)

    def open(self, progress: Callable[[float], None] = lambda done: None) -> Encoder:
        """What encodes so. Nothing is told of progress within a batch."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.encode_special_tokens = self.special
        return Encoder(tokenizer, self.eos, self.dtype)


@dataclass(frozen=True)
class Encoder:
    """Gives the ids of a batch as bytes."""

    tokenizer: Tokenizer
    eos: int
    dtype: str

    def __call__(self, texts: Sequence[str], /) -> bytes:
        return encode(self.tokenizer, texts, self.eos, self.dtype)[0].tobytes()

    def close(self) -> None:
        """Nothing is held."""


Elsewhere = Callable[[Settings, Iterable[list[str]]], Iterator[bytes]]
"""Encodes batches on other machines, in their order."""


def encoded(
    texts: Iterable[str], tokenizer: Tokenizer, eos_id: int, dtype: str, processes: int, elsewhere: Elsewhere | None = None
) -> Generator[bytes, None, None]:
    """What `encode` gives for all the texts, as bytes, batch by batch.

    The beginning is encoded here; where much text follows, `processes` others do the rest, or what is `elsewhere`. Close the
    iterator to end them early. Raises CorpusError when one of the processes ends before its work is done.
    """
    alone = 0
    rest = batches(texts)
    for batch in rest:
        yield encode(tokenizer, batch, eos_id, dtype)[0].tobytes()
        alone += sum(map(len, batch))
        if (elsewhere or processes > 1) and alone >= ALONE:
            break
    else:
        return
    if elsewhere is not None:
        yield from elsewhere(Settings.of(tokenizer, eos_id, dtype), rest)
        return
    with _Crew(tokenizer, eos_id, dtype, min(processes, MOST)) as crew:
        yield from crew.encoded(rest)


class _Crew:
    """Processes that encode, and a thread for each that hands over a batch and waits for the answer."""

    def __init__(self, tokenizer: Tokenizer, eos_id: int, dtype: str, processes: int) -> None:
        self._settings = json.dumps(asdict(Settings.of(tokenizer, eos_id, dtype))).encode() + b"\n"
        self._size = processes
        self._workers: list[subprocess.Popen[bytes]] = []
        self._greet: dict[int, bytes] = {}  # process id -> what it has to be told before its first batch
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="encode")

    def __enter__(self) -> _Crew:
        env = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}  # each has one core
        argv = [sys.executable, "-m", "synpro.corpus.encoding"]
        try:
            for _ in range(self._size):
                worker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
                self._workers.append(worker)
                self._greet[worker.pid] = self._settings
                self._idle.put(worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        """End them, done or not: they hold nothing. Killed first, so that no thread of ours waits for an answer."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(OSError):  # half a request that was never sent
                    assert pipe is not None
                    pipe.close()

    def encoded(self, todo: Iterable[list[str]]) -> Iterator[bytes]:
        """The answers in the order of the batches. At most two batches per process are on their way."""
        waiting: deque[Future[bytes]] = deque()
        for batch in todo:
            waiting.append(self._threads.submit(self._ask, batch))
            if len(waiting) >= 2 * self._size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _ask(self, batch: list[str]) -> bytes:
        worker = self._idle.get()
        try:
            assert worker.stdin is not None and worker.stdout is not None
            raw = [text.encode() for text in batch]
            worker.stdin.write(self._greet.pop(worker.pid, b""))
            worker.stdin.write(_REQUEST.pack(len(raw), sum(map(len, raw))))
            worker.stdin.write(array("Q", map(len, raw)).tobytes())
            worker.stdin.writelines(raw)
            worker.stdin.flush()
            (size,) = _ANSWER.unpack(_exactly(worker.stdout, _ANSWER.size))
            return _exactly(worker.stdout, size)
        except (OSError, EOFError) as problem:
            code = worker.wait()
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            cause = "; the usual cause is too little memory" if code == -signal.SIGKILL else "; the log says why"
            raise CorpusError(
                f"prepare.tokenizer: a process that tokenizes {how}{cause}. The same command starts this step over; "
                "fewer processes take less memory: lower machine.threads"
            ) from problem
        finally:
            self._idle.put(worker)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    """Raises EOFError when the other side ends before."""
    found = pipe.read(size)
    if len(found) < size:
        raise EOFError
    return found


def main() -> None:
    """One of the processes: the settings, then batches, until there are no more."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    encoder = Settings(**json.loads(asked.readline())).open()
    while head := asked.read(_REQUEST.size):
        count, size = _REQUEST.unpack(head)
        lengths = array("Q", asked.read(8 * count))
        raw = memoryview(asked.read(size))
        ends = list(accumulate(lengths, initial=0))
        texts = [str(raw[a:b], "utf-8") for a, b in pairwise(ends)]
        ids = encoder(texts)
        answers.write(_ANSWER.pack(len(ids)) + ids)
        answers.flush()


if __name__ == "__main__":
    main()
