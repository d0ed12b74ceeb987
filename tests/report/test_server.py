"""The served report, in a real browser where there is one, and what the server refuses."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from synpro.commands.status import watch
from synpro.report.server import ReportServer
from synpro.runner.artifacts import NotARun
from synpro.runner.step import lock
from tests.report import builder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run whose last step is not done; `finish` does it."""
    run = builder.build(tmp_path / "going")
    (run / "round-02/evaluate/result.json").rename(tmp_path / "result.json")
    return run


def finish(run: Path) -> None:
    (run.parent / "result.json").rename(run / "round-02/evaluate/result.json")


@pytest.fixture
def server(unfinished: Path) -> Iterator[ReportServer]:
    with ReportServer(unfinished) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def until(found: str, port: int, seconds: float = 60) -> str:
    """The title of the browser's page, once it contains `found`."""
    title, end = "", time.monotonic() + seconds
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            title = next((p["title"] for p in json.load(answer) if p["type"] == "page"), "")
        if found in title:
            return title
        time.sleep(0.1)
    raise AssertionError(f"{found!r} is not in {title!r}")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs one")
def test_an_open_page_renews_itself_when_the_run_goes_on(server: ReportServer, tmp_path: Path) -> None:
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    with subprocess.Popen([str(CHROMIUM), *options, server.url], stderr=subprocess.DEVNULL) as browser:
        try:
            port = tmp_path / "profile" / "DevToolsActivePort"
            end = time.monotonic() + 60
            while not (port.exists() and port.read_text()) and time.monotonic() < end:
                time.sleep(0.1)
            number = int(port.read_text().splitlines()[0])
            assert "1 of 2 rounds" in until("going", number)
            finish(server.run)
            until("2 of 2 rounds", number)
        finally:
            browser.terminate()


def test_only_this_machine_reads_the_page_and_only_the_page(server: ReportServer) -> None:
    def status(path: str, host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status

    assert server.server_address[0] == "127.0.0.1"
    assert status("/version", "localhost:9000") == 200  # through a tunnel
    assert status("/config.toml", "127.0.0.1") == status("/version", "elsewhere.example") == 404


def test_a_reader_that_goes_away_says_nothing_in_the_terminal(server: ReportServer, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with socket.create_connection(server.server_address[:2]) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
            gone.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with urllib.request.urlopen(server.url, timeout=60) as answer:  # made after theirs
        assert answer.status == 200
    time.sleep(0.3)
    assert "Traceback" not in capfd.readouterr().err


def test_the_version_follows_the_run_and_a_broken_file_is_said_on_the_page(unfinished: Path) -> None:
    with ReportServer(unfinished) as server:
        before = server.version()
        finish(unfinished)
        assert server.version() != before
        (unfinished / "round-01/evaluate/evaluation.json").write_text("{", encoding="utf-8")
        assert b"Not readable just now" in server.page() and b"location.reload" in server.page()
    with pytest.raises(NotARun):
        ReportServer(unfinished / "nowhere")


def test_watching_prints_what_changed_and_ends_with_the_run(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unfinished / "config.toml").write_text('name = "going"\nrounds = 2\n', encoding="utf-8")
    shutil.copytree(unfinished / "round-00/prepare", unfinished / "round-00/verifier")
    builder.write_lines(unfinished / "round-02/evaluate/metrics.jsonl", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}])
    threading.Timer(0.5, finish, [unfinished]).start()
    watch(unfinished, seconds=0.05)
    said = capsys.readouterr().out
    assert said.count("no process is running it; this waits for one") == 1
    assert said.count("round-02/evaluate: step 2, loss 1.5") == 1 and said.count("finished; report") == 1


def test_watching_goes_on_between_the_jobs_of_a_chain(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unfinished / "config.toml").write_text('name = "going"\nrounds = 2\n', encoding="utf-8")
    shutil.copytree(unfinished / "round-00/prepare", unfinished / "round-00/verifier")
    (unfinished / "slurm").mkdir()
    threading.Timer(0.2, os.close, [lock(unfinished)]).start()  # one job ends, and the next is in the queue
    threading.Timer(0.5, finish, [unfinished]).start()
    watch(unfinished, seconds=0.05)
    assert "finished; report" in capsys.readouterr().out


def test_watching_ends_with_the_process_that_ran_the_steps(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unfinished / "config.toml").write_text('name = "going"\nrounds = 2\n', encoding="utf-8")
    descriptor = lock(unfinished)
    threading.Timer(0.3, os.close, [descriptor]).start()  # it is killed
    watch(unfinished, seconds=0.05)
    builder.write_json(unfinished / "round-02/evaluate/error.json", {"type": "X", "message": "full"})
    watch(unfinished, seconds=0.05)  # nobody runs it, and a step has failed
    assert capsys.readouterr().out.count("no process is running it any more") == 2
