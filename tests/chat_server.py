"""A small real server that speaks OpenAI's chat protocol: http.server in front of a transformers model, on 127.0.0.1.

A server is a process of its own, so that a test can kill it and start it again. Importing transformers takes most of its time,
so one process, the nursery, imports it once and forks the servers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "tiny/qwen3"


class Nursery:
    """Forks servers; use as a context manager. Those that still live when it ends die with it."""

    def __enter__(self) -> Nursery:
        root = Path(__file__).parents[1]
        path = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chat_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def fork(self, folder: Path, port: int) -> tuple[int, int]:
        """(process id, port) of a server that listens."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{port} {folder}\n")
        self.process.stdin.flush()
        pid, port = map(int, self.process.stdout.readline().split())
        return pid, port

    def __exit__(self, *problem: object) -> None:
        self.process.kill()
        self.process.communicate()


class Server:
    """A server process. Use as `with Server(nursery, folder) as server:`; `kill` it and `start` it again at will."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self.nursery, self.folder, self.port, self.pid = nursery, folder, 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, folder: Path | None = None) -> None:
        """Start it, on the port it had."""
        self.pid, self.port = self.nursery.fork(folder or self.folder, self.port)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            while Path(f"/proc/{self.pid}").exists():  # the nursery reaps it
                time.sleep(0.01)
        self.pid = 0

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.kill()


class Model:
    """Answers requests by transformers' own `generate`, one at a time."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.lock = threading.Lock()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        import torch

        options = ask.get("chat_template_kwargs", {})
        text = self.tokenizer.apply_chat_template(ask["messages"], tokenize=False, add_generation_prompt=True, **options)
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        sampling: dict[str, Any] = {"do_sample": False}
        if ask["temperature"] > 0:
            sampling = {"do_sample": True, "temperature": ask["temperature"], "top_p": ask["top_p"], "top_k": 0}
        with self.lock, torch.no_grad():
            torch.manual_seed(ask.get("seed", 0))
            limit = ask["max_tokens"]
            done = self.model.generate(ids, max_new_tokens=limit, return_dict_in_generate=True, output_logits=True, **sampling)
        new = done.sequences[0, ids.shape[1] :].tolist()
        ended = new[-1] == self.tokenizer.eos_token_id
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": self.tokenizer.decode(new, skip_special_tokens=True)},
            "finish_reason": "stop" if ended else "length",
        }
        if ask.get("logprobs"):
            places = []
            for token, logits in zip(new, done.logits, strict=True):
                logprobs = logits[0].log_softmax(-1)
                best = logprobs.topk(ask["top_logprobs"]).indices.tolist()
                shown = [{"token": self.tokenizer.decode([i]), "logprob": float(logprobs[i])} for i in [token, *best]]
                places.append({**shown[0], "top_logprobs": shown[1:]})
            choice["logprobs"] = {"content": places}
        return {"choices": [choice], "usage": {"prompt_tokens": ids.shape[1], "completion_tokens": len(new)}}


class Handler(BaseHTTPRequestHandler):
    """Subclasses, or a test, set `model`: its `answer(request)` gives a dict, a status with bytes (and headers), or None."""

    protocol_version = "HTTP/1.1"
    model: Any = None

    def do_GET(self) -> None:
        card = {"id": NAME, "object": "model", "created": int(time.time()), "root": NAME}
        self.reply(200, json.dumps({"object": "list", "data": [card]}).encode())

    def do_POST(self) -> None:
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.model.answer(ask)
        if answer is None:  # hang up without a word
            self.close_connection = True
            return
        self.reply(*(answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode())))

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection |= headers["Content-Length"] != str(len(body))

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(folder: str, port: int) -> None:
    """In a forked process: listen, say so, and answer until killed."""
    from synpro.runner.launch import die_with_parent

    die_with_parent()
    Handler.model = Model(folder)
    listener = Listener(("127.0.0.1", port), Handler)
    print(os.getpid(), listener.server_port, flush=True)
    listener.serve_forever()


def main() -> None:
    from transformers import AutoTokenizer, Qwen3ForCausalLM  # noqa: F401 (imported for the servers)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reap them
    for line in sys.stdin:
        port, _, folder = line.strip().partition(" ")
        if os.fork() == 0:
            serve(folder, int(port))


if __name__ == "__main__":
    main()
