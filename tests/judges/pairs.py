"""Fifty pairs of texts, written by hand: from one word to 503 tokens, equal and unrelated, with numbers, accents and code."""

from __future__ import annotations

from tests.rewards.reference import REFORMATTED, REPHRASED, SOURCES

SHORT = [
    ("The cat sat on the mat.", "On the mat sat a cat."),
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("The cat did not sit on the mat.", "The cat sat on the mat."),
    ("Rain", "Snow"),
    ("It costs 1,200 euros a year.", "The yearly price is €1,200."),
    ("The bridge was opened in 1889.", "The bridge was opened in 1898."),
    ("A dog chased the postman.", "The postman chased a dog."),
    ("Her brother repairs clocks in Basel.", "In Basel, clocks are repaired by her brother."),
    ("Why does ice float?", "Ice floats because it is less dense than water."),
    ("Über allen Gipfeln ist Ruh.", "Over all the hilltops is quiet."),
    ("L'été, la rivière est à sec.", "In summer the river runs dry."),
    ("def area(r): return 3.14159 * r ** 2", "The area of a circle is pi times the square of its radius."),
    ("1. Wash the rice.\n2. Add two cups of water.\n3. Simmer.", "Wash the rice, add two cups of water, and simmer it."),
    ("| metal | melts at |\n|---|---|\n| tin | 232 |\n| lead | 327 |", "Tin melts at 232 degrees and lead at 327 degrees."),
    ("   spaces   and\ttabs around   \n", "spaces and tabs around"),
    ("Fish! Fish! Fish!", "He sold fish at the market, and shouted about it all morning."),
    ("PhotosynthesisConvertsLight", "Photosynthesis converts light into chemical energy."),
    ("The committee rejected the plan.", "The plan was turned down by the committee after a long debate on its cost."),
    ('{"name": "Ada", "born": 1815}', "Ada was born in 1815."),
    ("Most beetles fly.", "Few beetles fly."),
    ("日本の首都は東京です。", "The capital of Japan is Tokyo."),
    ("She asked, “Who left the door open?”", "'Who has left the door open?' she asked."),
    ("Visit https://example.org/a?b=c for the tables.", "The tables are on the web site of the project."),
    ("Sodium chloride (NaCl) dissolves at 359 g/L.", "Table salt dissolves in water, up to 359 grams in a litre."),
    ("A proof by induction has a base case and a step.", "Tides follow the moon, and twice a month they are highest."),
    ("the the the the the the the the", "The lighthouse keeper wrote one line a day for thirty years."),
]

ALL, ALL_REPHRASED, ALL_REFORMATTED = ("\n\n".join(texts.values()) for texts in (SOURCES, REPHRASED, REFORMATTED))
LONG = [(ALL_REPHRASED, ALL), (ALL_REFORMATTED, ALL), (f"{ALL_REPHRASED}\n\n{ALL_REFORMATTED}"[:2300], ALL)]

PAIRS = [
    *SHORT,
    *LONG,
    *((REPHRASED[a], SOURCES[b]) for a in REPHRASED for b in SOURCES),
    *((REFORMATTED[a], SOURCES[b]) for a in REFORMATTED for b in REPHRASED),
]
"""(candidate, reference)."""
