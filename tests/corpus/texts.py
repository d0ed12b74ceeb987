"""Texts with what tokenizers stumble over, and the settings of a small tokenizer for them."""

from synpro.corpus.tokens import TokenizerConfig

TEXTS = [
    f"The {a} {b} jumps over the lazy dog number {i}." for i in range(40) for a in ("quick", "slow") for b in ("fox", "cat")
]
TRICKY = [
    "a <|endoftext|> b",
    "<|pad|><|endoftext|>",
    "naïve 漢字 😀 \x00\r\n\ttabs",
    " leading",
    "",
    "<|endoftext",
    "ﬁ e\u0301 é",
]
CFG = TokenizerConfig("train", 400)
