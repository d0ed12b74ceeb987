"""Which judges abstain for the languages of a corpus. Opens nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from synpro.language.identification import UNSURE, relatives

FILE = "languages.json"
"""Name of the file of `prepare`: share of the passages by language, of a sample; `unsure` is one."""
DATAMAN_LANGUAGES = ("en",)
"""What DataMan-1.5B-EN was trained on."""


def read_languages(prepared: Path) -> dict[str, float]:
    """The languages of a prepared corpus; empty where they are not known (yet)."""
    path = prepared / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def abstentions(
    judges: Mapping[str, Any], languages: Mapping[str, float], used: Collection[str] = ("quality", "encoder")
) -> list[str]:
    """A sentence for each judge that does not know a language of the corpus. `judges` is the table `[judges]` as plain data: a
    judge without the key `languages`, as in an older run, abstained for none, and an empty list means any. `used`: the judges
    that something is computed with."""
    quality, encoder = (tuple(judges.get(name, {}).get("languages", ())) for name in ("fluency", "encoder"))
    quality = DATAMAN_LANGUAGES if judges.get("quality") == "dataman" else quality
    lines = []
    for name, known, lost in (
        ("quality", quality, "the quality reward does not apply to them"),
        ("encoder", encoder, "similarity and faithfulness by `features` do not apply, influence keeps its other rules"),
    ):
        read = {UNSURE}.union(*map(relatives, known))
        foreign = [f"{code} ({share:.0%})" for code, share in languages.items() if known and code not in read]
        if foreign and name in used:
            who = f"judges.{name} knows {', '.join(known)} and abstains for passages in {', '.join(foreign)}"
            lines.append(f"{who}: {lost}")
    return lines
