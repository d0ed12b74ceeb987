"""`synpro report`: write the page of a run or comparison again, or serve it while the run goes on."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from synpro.commands.arguments import check_file, write_file
from synpro.commands.compare import NUMBERS
from synpro.commands.configs import is_comparison
from synpro.commands.run_dir import open_run
from synpro.runner.step import StepError


def write_report(root: Path, out: Path | None = None) -> Path:
    """Write `report.html` and the cards of the run's models, or a comparison's `compare.html`: the path of the page. A model
    that cannot have a card is named on stderr. With `out`, the page is written there, and nothing in the run directory.

    Raises NotARun for a folder that is not a run directory, StepError for a comparison without numbers, ArgumentError for an
    `out` that cannot be written.
    """
    from synpro.compare.arms import arm_order
    from synpro.export.model_card import write_model_cards
    from synpro.report import comparison, page

    check_file("--out", out)
    if not is_comparison(root / "config.toml"):
        if out is not None:
            write_file("--out", out, page.render(root))
            return out
        if (root / "config.toml").exists():
            for problem in write_model_cards(root, open_run(root)):
                print(f"WARNING: {problem}", file=sys.stderr)
        return page.write_report(root)
    if not (root / NUMBERS).exists():
        raise StepError(
            f"{root} has no {NUMBERS} yet: it is written when every step is done; `synpro status {root}` shows them"
        )
    numbers = json.loads((root / NUMBERS).read_text(encoding="utf-8"))
    numbers["arms"] = dict(sorted(numbers["arms"].items(), key=lambda item: arm_order(item[0])))  # the file sorts its keys
    if out is not None:
        write_file("--out", out, comparison.render(root, numbers))
        return out
    return comparison.write_page(root, numbers)


def serve(root: Path, port: int, log: Callable[[str], None]) -> None:
    """Serve the page of a run on 127.0.0.1, made anew when the run has written something, until interrupted.

    Raises NotARun for a folder that is no run directory, StepError for a comparison and for a port that is taken.
    """
    from synpro.report.server import ReportServer

    if is_comparison(root / "config.toml"):
        raise StepError(f"{root} is a comparison, with a page at its end; `synpro status {root} --watch` shows its steps")
    try:
        server = ReportServer(root, port)
    except OSError as problem:
        raise StepError(f"--port {port}: cannot be opened ({problem.strerror}); give another, or 0 for any") from problem
    with server, contextlib.suppress(KeyboardInterrupt):
        log(f"serving {root} at {server.url} (Ctrl-C ends it)")
        server.serve_forever()
