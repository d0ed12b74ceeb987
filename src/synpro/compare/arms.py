"""The arms of a comparison, one line each: how each differs from SynPro, and where its text comes from.

An arm with generators is the loop of `loop.py` under a changed config; an arm without them is organic text under changed
training. All arms share corpus, model, token budget, schedule and seeds.

Names take a number: `prompt-only-4` keeps 4 versions of each passage, `oracle-2` has twice the text. `OPERATION-only` has one
operation, by prompt alone. Of any arm with generators, `prompt-only-without-copy` leaves a check of `CHECKS` out, and
`synpro-3-rounds` has text of 3 rounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from synpro.config import RunConfig
from synpro.operations.base import OperationConfig
from synpro.operations.registry import OPERATIONS, operation_config

ChangeConfig = Callable[[RunConfig, int], RunConfig]
"""The config of an arm's generators, from that of SynPro and the number of answers that the best are chosen from."""


@dataclass(frozen=True)
class Arm:
    """One way to spend the tokens."""

    about: str
    """What it is, for the table."""
    generator_config: ChangeConfig | None = None
    """Makes the config of its generators from that of SynPro. None: the arm has no synthetic text."""
    looks: bool = True
    """Its generators or its selection look at the model, through the influence reward. An arm that does not needs no probe, and
    its text can be made while the settings of repetition are searched."""
    tuned: bool = True
    """Trained with the settings found by search, not with the default ones."""
    noise: bool = False
    """A share of the organic input tokens is replaced in each pass."""
    megadocs: bool = False
    """All versions of a source are packed into one training document."""
    rounds: int | None = None
    """Rounds of text; None: those of the config."""
    oracle: int | None = None
    """Trained on so many times the scarce corpus; 0: the largest corpus of the curve."""

    @property
    def repeats(self) -> bool:
        """Organic text alone: it stops at the share of the budget that the search found best."""
        return self.generator_config is None and not self.noise


def _operations(cfg: RunConfig, **changes: Any) -> RunConfig:
    return replace(cfg, operations={name: replace(o, **changes) for name, o in cfg.operations.items()})


def _prompt_only(cfg: RunConfig, best_of: int) -> RunConfig:
    return _operations(cfg, steps=0, num_candidates=None)


def _chosen(select_by: str) -> ChangeConfig:
    def change(cfg: RunConfig, best_of: int) -> RunConfig:
        return _operations(cfg, steps=0, num_candidates=best_of, max_tries=best_of, select_by=select_by)

    return change


def _versions(change: ChangeConfig, k: int) -> ChangeConfig:
    """A change with k versions of each passage; what an operation gathers to choose from stays."""

    def changed(cfg: RunConfig, best_of: int) -> RunConfig:
        own = change(cfg, best_of)
        tries = {n: o.max_tries and max(o.max_tries, k) for n, o in own.operations.items()}
        versions = {n: replace(o, num_versions=k, max_tries=tries[n]) for n, o in own.operations.items()}
        return replace(own, operations=versions)

    return changed


def _one_operation(name: str) -> ChangeConfig:
    def change(cfg: RunConfig, best_of: int) -> RunConfig:
        known = cfg.operations.get(name) or _sampled_like(cfg, name, max(o.num_versions for o in cfg.operations.values()))
        return replace(cfg, operations={name: replace(known, steps=0, num_candidates=None)})

    return change


def _reweighted(**factors: float) -> ChangeConfig:
    """The weights of the rewards times these factors; one that is not named keeps its weight, or loses it with `others=0`."""
    others = factors.pop("others", 1.0)

    def change(cfg: RunConfig, best_of: int) -> RunConfig:
        own = {
            name: replace(o, weights={reward: w * factors.get(reward, others) for reward, w in o.weights.items()})
            for name, o in cfg.operations.items()
        }
        if own == cfg.operations:
            raise ValueError(f"no operation has a weight that this arm changes ({', '.join(factors)}); take the arm out")
        return replace(cfg, operations=own)

    return change


def _chosen_after_rl(cfg: RunConfig, best_of: int) -> RunConfig:
    if any(o.num_candidates for o in cfg.operations.values()):
        raise ValueError("the config chooses among answers already (operations.NAME.num_candidates); take the arm out")
    return _operations(cfg, num_candidates=best_of, max_tries=best_of, select_by="reward")


def _influence(values: Literal["shuffled", "none"]) -> ChangeConfig:
    """The gate of the influence reward stays; what a text that passes it gets is changed."""

    def change(cfg: RunConfig, best_of: int) -> RunConfig:
        return replace(cfg, rubric=replace(cfg.rubric, influence=replace(cfg.rubric.influence, values=values)))

    return change


CHECKS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "truncated": lambda cfg: _filters(cfg, keep_truncated=True),
    "length": lambda cfg: _operations(cfg, min_length=0.0, max_length=1000.0),
    "loop": lambda cfg: _filters(cfg, max_repetition=1.0),
    "language": lambda cfg: _filters(cfg, same_language=False),
    "copy": lambda cfg: _operations(cfg, max_copied=1.0),
    "support": lambda cfg: _filters(cfg, min_faithfulness=0.0),
    "near-copy": lambda cfg: _filters(cfg, max_version_overlap=1.0),
}
"""Checks of synthesis that an arm can leave out, and how; form alone cannot be left out."""


def _filters(cfg: RunConfig, **changes: Any) -> RunConfig:
    return replace(cfg, filters=replace(cfg.filters, **changes))


def _without(change: ChangeConfig, check: str) -> ChangeConfig:
    """A change without one check. Raises ValueError, when it is applied, where the config has that check off."""

    def changed(cfg: RunConfig, best_of: int) -> RunConfig:
        own = change(cfg, best_of)
        without = CHECKS[check](own)
        if without == own:
            raise ValueError(f"the check {check} is off in this config, so there is nothing to leave out")
        return without

    return changed


def _static(cfg: RunConfig, best_of: int) -> RunConfig:
    return replace(cfg, retrain_each_round=False)


def _without_sources(control: str) -> ChangeConfig:
    """As many answers as all operations of the config ask for, by a control operation that sees no text of the corpus. What
    checks a text against its passage does not apply."""

    def changed(cfg: RunConfig, best_of: int) -> RunConfig:
        operation = _sampled_like(cfg, control, sum(o.num_versions for o in cfg.operations.values()))
        filters = replace(cfg.filters, min_faithfulness=0.0, same_language=False, max_version_overlap=1.0)
        return replace(cfg, operations={control: operation}, filters=filters)

    return changed


def _sampled_like(cfg: RunConfig, name: str, num_versions: int) -> OperationConfig:
    """An operation that the config does not have, sampled as its first one, so that arms differ in what is asked alone."""
    like = next(iter(cfg.operations.values()))
    sampling = {key: getattr(like, key) for key in ("max_new_tokens", "temperature", "top_p")}
    return operation_config(name, num_versions=num_versions, **sampling)


def _unchanged(cfg: RunConfig, best_of: int) -> RunConfig:
    return cfg


ARMS: dict[str, Arm] = {
    "repetition": Arm("organic text repeated, usual weight decay", tuned=False),
    "tuned-repetition": Arm("organic text repeated, settings found by search on the reference split"),
    "token-noise": Arm("organic text repeated, a share of input tokens replaced in each pass", noise=True),
    "generator-text": Arm(
        "text of the same generator about other topics, without the corpus", _without_sources("topic"), looks=False
    ),
    "generator-news": Arm(
        "news of the same generator about events it makes up, without the corpus", _without_sources("news"), looks=False
    ),
    "prompt-only": Arm("generators before RL, by prompt alone", _prompt_only, looks=False),
    "least-copied": Arm("prompt alone; of the answers, those that copy least are kept", _chosen("least_copied"), looks=False),
    "most-influential": Arm("prompt alone; of the answers, those of highest influence are kept", _chosen("influence")),
    "most-faithful": Arm("prompt alone; of the answers, those of highest faithfulness are kept", _chosen("faithfulness")),
    "best-of-n": Arm("prompt alone; of the answers, those with the best rewards are kept", _chosen("reward")),
    "no-influence": Arm("generators trained with the gate of the influence reward, not its values", _influence("none")),
    "placebo": Arm("influence rewards dealt out at random among the texts that pass the gate", _influence("shuffled")),
    "influence-only": Arm(
        "generators trained on influence alone; what fails still fails", _reweighted(influence=1.0, others=0.0)
    ),
    "faithful": Arm("generators trained with three times the weight on faithfulness", _reweighted(faithfulness=3.0)),
    "synpro": Arm("generators trained on influence and refreshed in every round", _unchanged),
    "synpro-best": Arm("of the answers of synpro's generators, those with the best rewards are kept", _chosen_after_rl),
    "static": Arm("generators of round 1 in every round", _static),
    "megadocs": Arm("the texts of synpro, all versions of a source in one training document", _unchanged, megadocs=True),
    "oracle": Arm("unique organic text instead of synthetic text", oracle=0),
}
"""Adding an arm: one line here. They run in this order, whatever the order in the config."""
_ROUNDS = re.compile(r"(.+)-([1-9]\d*)-(?:(?<=-1-)round|(?<!-1-)rounds)")
_NUMBERED = ("prompt-only", "least-copied", "most-influential", "most-faithful", "best-of-n", "synpro", "oracle")


def split_rounds(name: str) -> tuple[str, int | None]:
    """`synpro-3-rounds` -> ("synpro", 3); a name without rounds has None."""
    found = _ROUNDS.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def find_arm(name: str) -> Arm:
    """An arm by its name, with a number or an operation in it. Raises ValueError for one that does not exist."""
    if name in ARMS:
        return ARMS[name]
    if found := re.fullmatch(r"(.+)-([1-9]\d*)", name):
        base, number = found[1], int(found[2])
        if base == "oracle" and number > 1:
            return replace(ARMS[base], about=f"{number} times the unique organic text", oracle=number)
        if base in _NUMBERED and base != "oracle":
            arm = ARMS[base]
            assert arm.generator_config is not None
            about = f"{arm.about}; {number} version{'s' * (number > 1)} of each passage"
            return replace(arm, about=about, generator_config=_versions(arm.generator_config, number))
    base, rounds = split_rounds(name)
    if rounds and (arm := find_arm(base)).generator_config and arm.rounds is None:
        return replace(arm, about=f"{arm.about}; {rounds} round{'s' * (rounds > 1)}", rounds=rounds)
    base, _, check = name.partition("-without-")
    if check in CHECKS and (change := (arm := find_arm(base)).generator_config) and arm.rounds is None:
        return replace(arm, about=f"{arm.about}; without the check {check}", generator_config=_without(change, check))
    if name.endswith("-only") and (operation := name.removesuffix("-only")) in OPERATIONS:
        return Arm(f"the operation {operation} alone, by prompt", _one_operation(operation), looks=False)
    more = f"{', '.join(f'{n}-K' for n in _NUMBERED)}, {', '.join(f'{o}-only' for o in OPERATIONS)}"
    more += f", ARM-without-CHECK ({', '.join(CHECKS)}), and last ARM-1-round, ARM-K-rounds"
    raise ValueError(f"there is no arm {name!r}; known: {', '.join(ARMS)}; and {more}")


def arm_order(name: str) -> tuple[int, str, int]:
    """Where an arm comes in the order of `ARMS`: numbered ones beside their base, in the order of their numbers; then those
    with rounds of their own or without a check."""
    names = list(ARMS)
    base, _, number = name.rpartition("-")
    if name in ARMS:
        return names.index(name), "", 0
    if base in ARMS and number.isdigit():
        return names.index(base), "", int(number)
    whole, rounds = split_rounds(name)
    if rounds:
        return arm_order(whole)[0], whole, rounds
    if "-without-" in name:
        return arm_order(name.partition("-without-")[0])[0], name, 0
    return names.index("prompt-only"), name, 0
