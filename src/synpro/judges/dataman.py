"""Quality of a text by DataMan-1.5B-EN (arXiv 2502.19363): 14 criteria from 1 to 5 and one of 15 domains of application.

The model was trained on one form of request and answer. Both are its interface and are constants here, as the model's own
repository gives them: system and user turn, the text between `Text: ` and the list of blanks; the answer has 15 lines, the
letter of the domain and the scores in the order of the list. Texts are cleaned and truncated as in its training: a leading
quoted ellipsis and Markdown images are removed, and a text that is too long keeps its head and tail with `...` between them.

Differences: parts of a text that look like the chat template or like the form's own lines are broken up, so that a text cannot
fill the blanks itself; an answer that does not have the form is asked for again and is then an error (the published script
gives it the score 0). The QualityJudge protocol returns the overall score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from synpro.engines.base import Model
from synpro.engines.failures import MAX_FAILED_SHARE
from synpro.judges.languages import DATAMAN_LANGUAGES
from synpro.judges.llm_judge import LLMJudge, Unreadable
from synpro.language.identification import may_be
from synpro.records import Chat

CRITERIA = (
    *("Accuracy", "Coherence", "Language Consistency", "Semantic Density", "Knowledge Novelty", "Topic Focus", "Creativity"),
    *("Professionalism", "Style Consistency", "Grammatical Diversity", "Structural Standardization", "Originality"),
    *("Sensitivity", "Overall Score"),
)
DOMAINS = "ABCDEFGHIJKLMNO"
"""Letters of the domains of application (A is medicine, E technology, O other)."""
SYSTEM = "You are a helpful assistant."
REQUEST = "\n".join(
    (
        "Please score the text on fourteen evaluation criteria and specify its domain:",
        "Text: {text}",
        "Domain:_",
        *(f"[{number}]{name}:_/5" for number, name in enumerate(CRITERIA, start=1)),
    )
)
VERSION = "dataman-all-rating-1"
MAX_TOKENS = 1894
"""Tokens of the text: with the form around it 2,048, the length of the model's training."""
MAX_CHARACTERS = 20_000
ANSWER_TOKENS = 64
"""Limit of the answer, which has 29 tokens with Qwen2's tokenizer."""

_ELLIPSIS = re.compile('^["“”](?:…+|\\.{3,})["“”]')
_IMAGE = re.compile(r"!\[\][(]/?[^)]+[)]\n")
_TURN = re.compile(r"<(?=\|)")
_BLANK = re.compile(rf"(?m)^(?=[ \t]*(?:Domain:|\[\d{{1,2}}\](?:{'|'.join(CRITERIA)}):))")


class DataManQuality:
    """Rates texts by a DataMan model, each distinct text once. A text's rating never depends on its neighbours."""

    languages = frozenset(DATAMAN_LANGUAGES)
    """DataMan-1.5B-EN was trained on English."""

    def __init__(self, model: Model, max_failed: float = MAX_FAILED_SHARE) -> None:
        self.model, self.is_remote = model, model.is_remote
        self.judge = LLMJudge(model, "judges.dataman", VERSION, self._prompt, parse, ANSWER_TOKENS, max_failed)

    def rate(self, texts: Sequence[str], sources: Sequence[str] | None = None) -> list[float | None]:
        """The overall score of each text, 1.0 to 5.0; None for a text without a readable answer. Raises TooManyFailures, and
        what the engine raises."""
        known = [may_be(source, self.languages) for source in sources or texts]
        scores = iter(self.judge.ask([text for text, ok in zip(texts, known, strict=True) if ok]))
        return [float(found["Overall Score"]) if ok and (found := next(scores)) is not None else None for ok in known]

    def close(self) -> None:
        """Close the model."""
        self.model.close()

    def _prompt(self, text: str) -> Chat:
        text = truncate_middle(clean(text), MAX_TOKENS, self.model.count)
        return ({"role": "system", "content": SYSTEM}, {"role": "user", "content": REQUEST.replace("{text}", text)})


def clean(text: str) -> str:
    """The text as DataMan sees it: without what its training data did not have, and without lines that would answer for it."""
    text = _IMAGE.sub("", _ELLIPSIS.sub("", text))
    return _BLANK.sub("> ", _TURN.sub("< ", text)).strip()


def truncate_middle(text: str, limit: int, count: Callable[[str], int]) -> str:
    """Head and tail of a text of more than `limit` tokens, half of the tokens each, with `...` between them."""
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + "..." + text[-MAX_CHARACTERS // 2 :]
    if count(text) <= limit:
        return text

    def longest(part: Callable[[int], str]) -> str:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count(part(middle)) <= limit // 2 else (low, middle - 1)
        return part(low)

    return longest(lambda size: text[:size]) + "..." + longest(lambda size: text[len(text) - size :])


def parse(answer: str) -> dict[str, int]:
    """The score by each criterion, 1 (worst) to 5. Raises Unreadable unless the answer is a domain's letter and fourteen
    scores, one a line."""
    domain, *scores = [line.strip() for line in answer.strip().split("\n")]
    if len(domain) != 1 or domain not in DOMAINS:
        raise Unreadable(f"its first line is {domain[:40]!r}, not one of the letters A to O")
    if len(scores) != len(CRITERIA):
        raise Unreadable(f"it has {len(scores)} scores instead of {len(CRITERIA)}")
    for name, score in zip(CRITERIA, scores, strict=True):
        if score not in ("1", "2", "3", "4", "5"):
            raise Unreadable(f"{name} is {score[:40]!r}, not 1 to 5")
    return dict(zip(CRITERIA, map(int, scores), strict=True))
