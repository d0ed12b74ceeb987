"""Features of a claim and its passage: the numbers that the feature verifier weighs. They are the same alone and in any batch.

Token alignment (`judges/encoder.py`) measures whether the words of a claim have a match, and in which sentences of the passage;
`evidence.py` compares numbers, names, denials and so on with those sentences. Shapes: T tokens of the claim, P tokens and S
sentences of the passage, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from synpro.faithfulness import evidence
from synpro.faithfulness.parsed_text import ParsedText
from synpro.judges.base import Support
from synpro.judges.encoder import BertScoreEncoder
from synpro.language.segmentation import sentence_spans

_FOR = ("precision", "precision_best_sentence", "worst_quartile", "weakest_word", "anchor")
_AGAINST = (
    *("extra_sentences", "unknown_numbers", "wrong_months", "wrong_units", "unknown_names", "unknown_starts"),
    *("unknown_words", "rare_words", "unmatched_words", "denials", "swapped_quantifiers", "hedges", "opposites"),
    *("close_denials", "close_opposites", "close_units", "close_quantifiers", "close_swapped_order"),
    *("close_other_sentence", "close_far_apart", "close_swapped_causes", "word_list"),
)
SIGNS: dict[str, int] = {**dict.fromkeys(_FOR, 1), **dict.fromkeys(_AGAINST, -1)}
"""Feature -> whether a larger value speaks for (1) or against (-1) a claim. No weight may have the other sign
(`logistic.py`), so that a generator cannot gain by adding what should cost it. Features named `close_` are scaled by how much a
claim uses the passage's own words: there a swapped pair of words is a swapped statement, elsewhere it may be the wording."""
MAX_UNKNOWN_FRACTION = 0.3
"""Fraction of unknown content words from which a claim counts as entirely in other words: `close_` features are then 0."""


@dataclass(frozen=True)
class ClaimFeatures:
    """The features of one claim."""

    values: dict[str, float]
    """Value by name, those of `SIGNS`."""
    support: Support | None
    """The sentence that matches best; None for a claim or passage without tokens."""


@dataclass(frozen=True)
class _EmbeddedPassage:
    """A passage, embedded once for all its claims."""

    text: str
    words: ParsedText
    sentences: list[tuple[int, int]]
    tokens_PD: torch.Tensor
    sentence_P: torch.Tensor
    """Index of the sentence of each token."""
    spans: list[tuple[int, int]]
    """(start, end) in characters of each token."""


class FeatureExtractor:
    """Computes the features of claims. Each distinct passage is embedded once per call, for all its claims."""

    def __init__(self, encoder: BertScoreEncoder) -> None:
        self.encoder = encoder

    def extract(self, claims: Sequence[str], passages: Sequence[str]) -> list[ClaimFeatures]:
        """The features of each (claim, passage), in order. Equal pairs are computed once."""
        found: dict[tuple[str, str], ClaimFeatures] = {}
        wanted: dict[str, list[str]] = {}
        for claim, passage in dict.fromkeys(zip(claims, passages, strict=True)):
            wanted.setdefault(passage, []).append(claim)
        for passage, ours in wanted.items():
            source = self._embed(passage)
            for claim in ours:
                found[claim, passage] = self._features(claim, source)
        return [found[pair] for pair in zip(claims, passages, strict=True)]

    def _embed(self, passage: str) -> _EmbeddedPassage:
        sentences = sentence_spans(passage)
        (tokens_PD,) = self.encoder.embed([passage])
        spans = self.encoder.spans(passage)
        ends = torch.tensor([end for _, end in sentences])
        starts = torch.tensor([float(start) for start, _ in spans])
        sentence_P = torch.bucketize(starts, ends, right=True).clamp(max=max(0, len(sentences) - 1))
        return _EmbeddedPassage(passage, ParsedText(passage), sentences, tokens_PD, sentence_P, spans)

    def _features(self, text: str, source: _EmbeddedPassage) -> ClaimFeatures:
        claim, passage = ParsedText(text), source.words
        (tokens_TD,) = self.encoder.embed([text])
        if not len(tokens_TD) or not len(source.tokens_PD):
            values = {name: (0.0 if sign > 0 else 1.0) for name, sign in SIGNS.items()}
            return ClaimFeatures(values, None)
        similarity_TP = tokens_TD @ source.tokens_PD.T
        best_T = similarity_TP.amax(dim=1)
        chosen, precision_alone = self._source_sentences(similarity_TP, source)
        sentences = evidence.join_sentences([source.text[slice(*source.sentences[i])] for i in sorted(chosen)])
        spans = self.encoder.spans(text)
        word_scores = self._word_scores(best_T, spans, claim)
        worst = best_T.sort().values[: max(1, len(best_T) // 4)]
        other_sentence, far_apart = evidence.displaced(claim, passage)
        unknown_words = evidence.unknown_words(claim, passage)
        unknown = len(unknown_words) / max(1, sum(w.is_content for w in claim.words))
        close = max(0.0, 1 - unknown / MAX_UNKNOWN_FRACTION)
        denials, opposites = _capped(evidence.denials(claim, sentences)), _capped(evidence.opposites(claim, sentences))
        units = _capped(evidence.wrong_units(claim, passage))
        values = {
            "precision": float(best_T.mean()),
            "precision_best_sentence": precision_alone,
            "worst_quartile": float(worst.mean()),
            "weakest_word": min(word_scores, default=0.0),
            "anchor": self._anchor(similarity_TP, spans, claim, source),
            "extra_sentences": len(chosen) - 1.0,
            "unknown_numbers": _capped(evidence.unknown_numbers(claim, passage)),
            "wrong_months": _capped(evidence.wrong_months(claim, passage)),
            "wrong_units": units,
            "unknown_names": _capped(evidence.unknown_names(claim, passage)),
            "unknown_starts": _capped(evidence.unknown_starts(claim, passage)),
            "unknown_words": unknown,
            "rare_words": min(3.0, sum(self._rareness(w.text) for w in unknown_words)),
            "unmatched_words": sum(max(0.0, 0.6 - s) for s in word_scores) / max(1, len(word_scores)) * 4,
            "denials": denials,
            "swapped_quantifiers": _capped(evidence.swapped_quantifiers(claim, sentences)),
            "hedges": float(evidence.hedges(claim, sentences)),
            "opposites": opposites,
            "close_denials": close * denials,
            "close_opposites": close * opposites,
            "close_units": close * units,
            "close_quantifiers": close * _capped(evidence.new_quantifiers(claim, sentences)),
            "close_swapped_order": close * evidence.swapped_order(claim, sentences),
            "close_other_sentence": close * other_sentence,
            "close_far_apart": close * far_apart,
            "close_swapped_causes": close * evidence.swapped_causes(claim, sentences),
            "word_list": evidence.word_list(claim),
        }
        start, end = source.sentences[chosen[0]]
        return ClaimFeatures(values, Support(source.text[start:end], start, end))

    def _source_sentences(self, similarity_TP: torch.Tensor, source: _EmbeddedPassage) -> tuple[list[int], float]:
        """Indices of the sentences that a claim is based on, best first, and its precision against the best alone. Another
        sentence is added while it raises the precision by 0.03: a claim may join up to three."""
        count = len(source.sentences)
        best_TS = torch.full((len(similarity_TP), count), -1.0)
        for i in range(count):
            own_P = source.sentence_P == i
            if bool(own_P.any()):
                best_TS[:, i] = similarity_TP[:, own_P].amax(dim=1)
        chosen = [int(best_TS.mean(dim=0).argmax())]
        best_T = best_TS[:, chosen[0]]
        alone = float(best_T.mean())
        while len(chosen) < min(3, count):
            joint_S = torch.maximum(best_T[:, None], best_TS).mean(dim=0)
            following = int(joint_S.argmax())
            if float(joint_S[following]) < float(best_T.mean()) + 0.03:
                break
            chosen.append(following)
            best_T = torch.maximum(best_T, best_TS[:, following])
        return chosen, alone

    def _rareness(self, word: str) -> float:
        """0 for a common word to 1 for a rare one, by its id: a WordPiece vocabulary is ordered by frequency, and a rare word
        has several pieces."""
        ids = self.encoder.tokenizer(word, add_special_tokens=False)["input_ids"]
        return 1.0 if len(ids) != 1 else min(1.0, max(0.0, (ids[0] - 2000) / 10000))

    def _word_scores(self, best_T: torch.Tensor, spans: Sequence[tuple[int, int]], claim: ParsedText) -> list[float]:
        """Mean best match of the tokens of each content word."""
        scores = []
        for word in claim.words:
            if word.is_content:
                own = [float(best_T[t]) for t, (a, b) in enumerate(spans) if a < word.end and b > word.start]
                if own:
                    scores.append(sum(own) / len(own))
        return scores

    def _anchor(
        self, similarity_TP: torch.Tensor, spans: Sequence[tuple[int, int]], claim: ParsedText, source: _EmbeddedPassage
    ) -> float:
        """Lowest contextual similarity of a name or number of the claim to the same word of the passage; 1 where they share
        none. It is low where a year of the passage is said of something else."""
        lowest = 1.0
        for word in claim.words:
            same = [source.words.words[i] for i in source.words.positions.get(word.key, ())]
            if not same or not (word.is_name or word.number is not None):
                continue
            own = [t for t, (a, b) in enumerate(spans) if a < word.end and b > word.start]
            theirs = [p for p, (a, b) in enumerate(source.spans) if any(a < w.end and b > w.start for w in same)]
            if own and theirs:
                lowest = min(lowest, float(similarity_TP[own][:, theirs].amax(dim=1).mean()))
        return lowest


def _capped(count: int) -> float:
    return float(min(count, 2))
