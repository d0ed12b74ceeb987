"""The report as a local web page that renews itself while its run goes on."""

from __future__ import annotations

import html
import http.server
import sys
import threading
from pathlib import Path

from synpro.report.page import render
from synpro.runner.artifacts import steps

POLL_SECONDS = 2
"""How often an open page asks whether there is something new."""
WATCHED = ("result.json", "metrics.jsonl", "timing.json")
"""Files of a step whose change makes the page anew."""
_RELOAD = """<script>
(async () => {
  const known = %r;
  for (;;) {
    await new Promise(done => setTimeout(done, %d));
    try { if (await (await fetch("/version", {cache: "no-store"})).text() !== known) { location.reload(); return; } }
    catch (gone) { /* the server has ended, or starts again */ }
  }
})();
</script></body>"""


class ReportServer(http.server.ThreadingHTTPServer):
    """Serves one run's page on 127.0.0.1: `/` is the page, `/version` what changes when it does.

    Raises NotARun for a folder that is no run directory, OSError for a port that cannot be opened. Port 0 takes any.
    """

    daemon_threads = True

    def __init__(self, run: Path, port: int = 0) -> None:
        steps(run)
        self.run, self._made, self._lock = run, ("", b""), threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a reader that goes away; it ends its own request."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def version(self) -> str:
        """Changes with every file that the page is made of."""
        files = (self.run / step / name for step in steps(self.run) for name in WATCHED)
        stats = [file.stat() for file in files if file.exists()]
        return f"{len(stats)}-{max((s.st_mtime_ns for s in stats), default=0)}-{sum(s.st_size for s in stats)}"

    def page(self) -> bytes:
        """The page as it is now; made once for each version, however many ask."""
        with self._lock:
            version = self.version()
            if self._made[0] != version:
                self._made = version, self._render(version).encode()
            return self._made[1]

    def _render(self, version: str) -> str:
        try:
            body = render(self.run)
        except Exception as problem:  # a file that is being written; the next version shows it
            body = f"<!doctype html><body><p>Not readable just now: {html.escape(str(problem))}</p></body>"
        return (_RELOAD % (version, 1000 * POLL_SECONDS)).join(body.rsplit("</body>", 1))


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        answers = {"/": (self.server.page, "text/html"), "/version": (lambda: self.server.version().encode(), "text/plain")}
        make, kind = answers.get(self.path.partition("?")[0], (None, ""))
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in ("127.0.0.1", "localhost") or make is None:  # a page of another site may not read this one
            self.send_error(404)
            return
        body = make()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page that is open asks every two seconds."""
