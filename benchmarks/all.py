"""Every speed benchmark on a finished run, each in a process of its own; a table in docs/benchmarks.md and the numbers as JSON.

    python -m benchmarks.all runs/tiny --out docs/benchmarks.json

What is in the JSON already is not measured again (`--again` does), so an interrupted call carries on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measuring import Measurement, as_json, machine, table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: python -m benchmarks.all -->", "<!-- end -->"


PARTS = ("pretraining", "influence", "generation", "grpo", "overhead")
"""Modules of this package, each with `measure(run, pairs) -> list[Measurement]`."""


def page(text: str, body: dict[str, Any]) -> str:
    """The page with the table between its markers replaced. Raises ValueError when it has none."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    rows = [Measurement(**row) for name in PARTS for row in body["parts"].get(name, [])]
    m = body["machine"]
    gpus = ", ".join(m["gpus"]) or "no GPU"
    where = f"{m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, {gpus}; PyTorch {m['torch']}, Python {m['python']}"
    caption = f"{where}; {body['date']}, commit {m['commit']}, `{body['run']}`"
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n{caption}\n\n{table(rows)}\n{END}{text.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run, for example runs/tiny")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.json")
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="this part (as often as needed); default all")
    parser.add_argument("--pairs", type=int, default=3, help="how often each pair is measured")
    parser.add_argument("--again", action="store_true", help="measure also what is in the JSON")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose table is written")
    a = parser.parse_args()
    if a.part:
        print(json.dumps(as_json(import_module(f"benchmarks.{a.part}").measure(a.run, a.pairs))))
        return
    if not (a.run / "config.toml").exists():
        parser.error(f"{a.run} is no run; `make demo` makes runs/tiny")
    earlier = json.loads(a.out.read_text(encoding="utf-8")) if a.out.exists() else {}
    same = earlier.get("machine", {}).get("commit") == machine()["commit"]
    body: dict[str, Any] = earlier if same and not a.again else {"parts": {}}
    body |= {"machine": machine(), "date": date.today().isoformat(), "run": str(a.run)}
    for name in a.only or PARTS:
        if name in body["parts"]:
            continue
        print(f"{name} ...", flush=True)
        argv = [sys.executable, "-m", "benchmarks.all", str(a.run), "--part", name, "--pairs", str(a.pairs)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        if done.returncode:
            sys.exit(f"{name} ended with exit code {done.returncode}; what was measured before is in {a.out}")
        body["parts"][name] = json.loads(done.stdout.splitlines()[-1])
        a.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        print(table([Measurement(**row) for row in body["parts"][name]]), flush=True)
    a.page.write_text(page(a.page.read_text(encoding="utf-8"), body), encoding="utf-8")


if __name__ == "__main__":
    main()
