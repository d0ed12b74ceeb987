"""A claim and its passage as numbers: the evidence that the feature verifier weighs. The same alone and in any batch.

Token alignment (`encoder.py`) says whether a claim's words find their match, and which sentences of the passage they come from;
against those `evidence.py` compares numbers, names, denials and so on; a language model (`likelihood.py`) says whether the
passage makes the claim more likely. Notation: T tokens of the claim, P tokens of the passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from synpro.corpus.passages import sentence_spans
from synpro.judges import evidence
from synpro.judges.base import Support
from synpro.judges.encoder import TokenEncoder
from synpro.judges.likelihood import Likelihood
from synpro.judges.text import Text

SIGNS: dict[str, int] = {
    "precision": 1,
    "precision_source": 1,
    "lowest": 1,
    "weakest_word": 1,
    "anchor": 1,
    "sources": -1,
    "unknown_numbers": -1,
    "wrong_months": -1,
    "wrong_units": -1,
    "unknown_names": -1,
    "unknown_starts": -1,
    "unknown_words": -1,
    "rare_words": -1,
    "unmatched_words": -1,
    "denials": -1,
    "swapped_quantifiers": -1,
    "hedges": -1,
    "opposites": -1,
    "close_denials": -1,
    "close_opposites": -1,
    "close_units": -1,
    "close_quantifiers": -1,
    "close_turned": -1,
    "close_displaced": -1,
    "close_strayed": -1,
    "close_causes": -1,
    "listing": -1,
}
"""Feature -> whether more of it speaks for (1) or against (-1) a claim. No weight may have the other sign, so that a generator
cannot earn by adding what ought to cost it. Those named `close_` count as far as a claim uses the passage's own words
(`CLOSE`): there a turned pair of words is a turned statement, in other words it may be the wording."""
CLOSE = 0.3
"""Share of unknown content words from which a claim is altogether in other words."""
LIKELIHOOD_SIGNS: dict[str, int] = {
    "nats": -1,
    "gain": 1,
    "gain_share": 1,
    "worst_nats": -1,
    "worst_gain": 1,
}
"""The same, of the language model."""


@dataclass(frozen=True)
class Evidence:
    """What was found for one claim."""

    values: dict[str, float]
    """By the names of `SIGNS` (and `LIKELIHOOD_SIGNS`)."""
    support: Support | None
    """The sentence that matches best."""


@dataclass(frozen=True)
class _Source:
    """A passage, looked at once for all its claims."""

    text: str
    words: Text
    sentences: list[tuple[int, int]]
    tokens_PD: torch.Tensor
    sentence_P: torch.Tensor
    """Index of the sentence of each token."""
    spans: list[tuple[int, int]]
    """Characters of each token."""


class Features:
    """Finds the evidence of claims. Each distinct passage is embedded once for all its claims of a call."""

    def __init__(self, encoder: TokenEncoder, likelihood: Likelihood | None = None) -> None:
        self.encoder, self.likelihood = encoder, likelihood

    @property
    def signs(self) -> dict[str, int]:
        """The features in use, in order."""
        return SIGNS | (LIKELIHOOD_SIGNS if self.likelihood else {})

    def find(self, claims: Sequence[str], passages: Sequence[str]) -> list[Evidence]:
        """The evidence of each pair, in order; an equal pair is looked at once."""
        found: dict[tuple[str, str], Evidence] = {}
        wanted: dict[str, list[str]] = {}
        for claim, passage in dict.fromkeys(zip(claims, passages, strict=True)):
            wanted.setdefault(passage, []).append(claim)
        for passage, ours in wanted.items():
            source = self._source(passage)
            nats = self.likelihood.nats(ours, passage) if self.likelihood else [None] * len(ours)
            for claim, pair in zip(ours, nats, strict=True):
                found[claim, passage] = self._one(claim, source, pair)
        return [found[pair] for pair in zip(claims, passages, strict=True)]

    def _source(self, passage: str) -> _Source:
        sentences = sentence_spans(passage)
        (tokens_PD,) = self.encoder.embed([passage])
        spans = self.encoder.spans(passage)
        ends = torch.tensor([end for _, end in sentences])
        starts = torch.tensor([float(start) for start, _ in spans])
        sentence_P = torch.bucketize(starts, ends, right=True).clamp(max=max(0, len(sentences) - 1))
        return _Source(passage, Text(passage), sentences, tokens_PD, sentence_P, spans)

    def _one(self, claim: str, source: _Source, nats: tuple[torch.Tensor, torch.Tensor] | None) -> Evidence:
        words = Text(claim)
        (tokens_TD,) = self.encoder.embed([claim])
        if not len(tokens_TD) or not len(source.tokens_PD):
            values = {name: (0.0 if sign > 0 else 1.0) for name, sign in self.signs.items()}
            return Evidence(values, None)
        similarity_TP = tokens_TD @ source.tokens_PD.T
        best_T = similarity_TP.amax(dim=1)
        chosen, by_sentence = self._chosen(similarity_TP, source)
        related = evidence.joined([source.text[slice(*source.sentences[i])] for i in sorted(chosen)])
        spans = self.encoder.spans(claim)
        scores = self._by_word(best_T, spans, words)
        low = best_T.sort().values[: max(1, len(best_T) // 4)]
        known = source.words
        elsewhere, far = evidence.displaced(words, known)
        foreign = evidence.unknown(words, known)
        unknown = len(foreign) / max(1, sum(w.content for w in words.words))
        close = max(0.0, 1 - unknown / CLOSE)
        denials, opposites = _capped(evidence.denials(words, related)), _capped(evidence.opposites(words, related))
        units = _capped(evidence.wrong_units(words, known))
        values = {
            "precision": float(best_T.mean()),
            "precision_source": by_sentence,
            "lowest": float(low.mean()),
            "weakest_word": min(scores, default=0.0),
            "anchor": self._anchor(similarity_TP, spans, words, source),
            "sources": len(chosen) - 1.0,
            "unknown_numbers": _capped(evidence.unknown_numbers(words, known)),
            "wrong_months": _capped(evidence.wrong_months(words, known)),
            "wrong_units": units,
            "unknown_names": _capped(evidence.unknown_names(words, known)),
            "unknown_starts": _capped(evidence.unknown_starts(words, known)),
            "unknown_words": unknown,
            "rare_words": min(3.0, sum(self._rarity(w.text) for w in foreign)),
            "unmatched_words": sum(max(0.0, 0.6 - s) for s in scores) / max(1, len(scores)) * 4,
            "denials": denials,
            "swapped_quantifiers": _capped(evidence.swapped_quantifiers(words, related)),
            "hedges": float(evidence.hedges(words, related)),
            "opposites": opposites,
            "close_denials": close * denials,
            "close_opposites": close * opposites,
            "close_units": close * units,
            "close_quantifiers": close * _capped(evidence.new_quantifiers(words, related)),
            "close_turned": close * evidence.turned(words, related),
            "close_displaced": close * elsewhere,
            "close_strayed": close * far,
            "close_causes": close * evidence.causes(words, related),
            "listing": evidence.listing(words),
        }
        if nats is not None:
            values |= _likelihood(*nats)
        start, end = source.sentences[chosen[0]]
        return Evidence(values, Support(source.text[start:end], start, end))

    def _chosen(self, similarity_TP: torch.Tensor, source: _Source) -> tuple[list[int], float]:
        """The sentences a claim comes from, best first, and its precision against the best alone. Another sentence is added
        while it raises the precision by 0.03: a claim may join up to three."""
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

    def _rarity(self, word: str) -> float:
        """0 for a common word to 1 for a rare one: a WordPiece vocabulary is in the order of frequency, rare words are in
        pieces."""
        ids = self.encoder.tokenizer(word, add_special_tokens=False)["input_ids"]
        return 1.0 if len(ids) != 1 else min(1.0, max(0.0, (ids[0] - 2000) / 10000))

    def _by_word(self, best_T: torch.Tensor, spans: Sequence[tuple[int, int]], words: Text) -> list[float]:
        """Mean match of each content word's tokens."""
        scores = []
        for word in words.words:
            if word.content:
                own = [float(best_T[t]) for t, (a, b) in enumerate(spans) if a < word.end and b > word.start]
                if own:
                    scores.append(sum(own) / len(own))
        return scores

    def _anchor(self, similarity_TP: torch.Tensor, spans: Sequence[tuple[int, int]], words: Text, source: _Source) -> float:
        """Least similarity, in context, of a name or number of the claim to the same word of the passage; 1 where none is
        shared. The same year in another sentence's place is not the same statement."""
        least = 1.0
        at: dict[str, list[tuple[int, int]]] = {}
        for word in source.words.words:
            at.setdefault(word.number or word.stem, []).append((word.start, word.end))
        for word in words.words:
            places = at.get(word.number or word.stem, ())
            if not places or not (word.name or word.number is not None):
                continue
            own = [t for t, (a, b) in enumerate(spans) if a < word.end and b > word.start]
            theirs = [p for p, (a, b) in enumerate(source.spans) if any(a < end and b > start for start, end in places)]
            if own and theirs:
                least = min(least, float(similarity_TP[own][:, theirs].amax(dim=1).mean()))
        return least


def _capped(count: int) -> float:
    return float(min(count, 2))


def _likelihood(with_T: torch.Tensor, without_T: torch.Tensor) -> dict[str, float]:
    gain_T = without_T - with_T
    k = max(1, len(with_T) // 6)
    return {
        "nats": float(with_T.mean()),
        "gain": float(gain_T.mean()),
        "gain_share": float(gain_T.sum() / without_T.sum().clamp(min=1e-3)),
        "worst_nats": float(with_T.sort(descending=True).values[:k].mean()),
        "worst_gain": float(gain_T.sort().values[:k].mean()),
    }
