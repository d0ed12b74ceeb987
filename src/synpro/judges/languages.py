"""Which judges abstain for the languages of a corpus. Opens nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "languages.json"
"""Name of the file of `prepare`: share of the passages by language, of a sample."""
DATAMAN_LANGUAGES = ("en",)
"""What DataMan-1.5B-EN was trained on."""


def read_languages(prepared: Path) -> dict[str, float]:
    """The languages of a prepared corpus; empty where they are not known (yet)."""
    path = prepared / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def abstentions(judges: Mapping[str, Any], languages: Mapping[str, float]) -> list[str]:
    """A sentence for each judge that does not know a language of the corpus. `judges` is the table `[judges]` as plain data."""
    fluency = judges.get("fluency", {}).get("languages", ("en",))
    known = DATAMAN_LANGUAGES if judges.get("quality") == "dataman" else tuple(fluency)
    foreign = {code: share for code, share in languages.items() if code not in known}
    if not foreign:
        return []
    shares = ", ".join(f"{code} ({share:.0%})" for code, share in foreign.items())
    who = f"judges.quality knows {', '.join(known)} and abstains for passages in {shares}"
    return [f"{who}: the quality reward does not apply to them"]
