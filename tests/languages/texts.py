"""Thirty short paragraphs each in German and Chinese, written for these tests; they say the same."""

from pathlib import Path

PARAGRAPHS = {
    code: [p.strip() for p in Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").split("\n\n")]
    for code, name in (("de", "german"), ("zh", "chinese"))
}
ENGLISH_INVENTION = (
    "The old lighthouse keeper sold his boat to a painter from the city, who had never been at sea and did not want to learn "
    "how to sail it."
)
MAORI = "Ko Te Whanganui-a-Tara te tāone matua o Aotearoa. He maha ngā tāngata e noho ana ki reira."
"""A text in a language that is not recognized, and is not English."""
