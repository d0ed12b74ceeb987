"""Which arms are compared with which, and what a difference between them says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from synpro.compare.arms import ARMS, split_rounds

CONTRASTS = (
    ("synpro", "prompt-only", "RL against the same generators by prompt alone"),
    ("synpro", "best-of-n", "RL against choosing among the answers of the same generators by the same rewards"),
    ("synpro", "least-copied", "RL against choosing the answers that copy least"),
    ("synpro", "no-influence", "influence among the rewards against its gate alone"),
    ("synpro", "placebo", "influence against the same values dealt out at random"),
    ("influence-only", "prompt-only", "RL on influence alone against prompt alone"),
    ("faithful", "prompt-only", "RL with three times the weight on faithfulness against prompt alone"),
    ("synpro-best", "best-of-n", "RL, where answers are chosen among in both"),
    ("synpro", "static", "generators refreshed in every round against those of round 1"),
    ("prompt-only", "generator-text", "what the corpus adds to the generator's own language"),
    ("prompt-only", "generator-news", "what the corpus adds to news that the generator makes up"),
    ("generator-news", "generator-text", "news about invented events against encyclopedic text"),
    ("best-of-n", "prompt-only", "choosing answers by the rewards against taking all that pass"),
    ("most-influential", "prompt-only", "choosing the answers of highest influence against taking all that pass"),
    ("most-faithful", "prompt-only", "choosing the answers of highest faithfulness against taking all that pass"),
    ("megadocs", "synpro", "versions of a source in one training document against one each"),
    ("influence-only", "synpro", "influence as the only reward against it among others"),
    ("faithful", "synpro", "three times the weight on faithfulness against the config's"),
    ("synpro-best", "synpro", "choosing among the answers after RL against taking all that pass"),
    ("synpro", "generator-text", "what the corpus adds to the generator's own language"),
    ("synpro", "generator-news", "what the corpus adds to news that the generator makes up"),
    ("best-of-n", "least-copied", "choosing answers by the rewards against choosing what copies least"),
    ("most-influential", "least-copied", "choosing answers by influence against choosing what copies least"),
)
"""(arm, its control, what the difference says). Adding a contrast: one line here."""


@dataclass(frozen=True)
class Contrast:
    """Two arms, of which one is the control of the other."""

    arm: str
    control: str
    about: str
    equal: bool = True
    """Whether it is measured at equal synthetic tokens too."""

    @property
    def name(self) -> str:
        """For folders and keys."""
        return f"{self.arm}~{self.control}"


def find_contrasts(arms: Iterable[str], rounds: int = 1) -> list[Contrast]:
    """The contrasts of these arms, `rounds` being those of the config. An arm with a number has the control with the same
    number; else that without, else the one with the highest. An arm with rounds of its own has controls with as many, and
    itself with fewer."""
    by_rounds: dict[int, dict[str, str]] = {}
    for name in arms:
        whole, own = split_rounds(name)
        by_rounds.setdefault(own or rounds, {})[whole] = name
    found = []
    for names in by_rounds.values():
        found += [replace(c, arm=names[c.arm], control=names[c.control]) for c in _of_as_many_rounds(list(names))]
    return found + _between_rounds(by_rounds)


def _of_as_many_rounds(names: Sequence[str]) -> list[Contrast]:
    found = []
    for base, control_base, about in CONTRASTS:
        for arm in (n for n in names if _split(n)[0] == base):
            controls = {_split(n)[1]: n for n in names if _split(n)[0] == control_base}
            if controls:
                number = _split(arm)[1]
                key = number if number in controls else 0 if 0 in controls else max(controls)
                found.append(Contrast(arm, controls[key], about))
    numbered: dict[str, list[int]] = {}
    for name in names:
        base, number = _split(name)
        if number and base != "oracle":
            numbered.setdefault(base, []).append(number)
        checked, _, check = name.partition("-without-")
        if check and checked in names:
            found.append(Contrast(name, checked, f"without the check {check} against with it"))
        if name.endswith("-only") and name not in ARMS:
            whole = next((n for n in names if _split(n)[0] == "prompt-only"), None)
            if whole:
                found.append(Contrast(name, whole, f"{name.removesuffix('-only')} alone against the operations of the config"))
    for base, numbers in numbered.items():
        ordered = sorted(numbers)
        if base in names:
            about = f"as many versions of each passage as the config has against {ordered[-1]}"
            found.append(Contrast(base, f"{base}-{ordered[-1]}", about, equal=False))
        for less, more in pairwise(ordered):
            about = f"{more} versions of each passage against {less}"
            found.append(Contrast(f"{base}-{more}", f"{base}-{less}", about, equal=False))
    return found


def _between_rounds(by_rounds: Mapping[int, Mapping[str, str]]) -> list[Contrast]:
    """Each arm with more rounds against itself with fewer; the first round of static is that of synpro."""
    found = []
    for whole in dict.fromkeys(name for names in by_rounds.values() for name in names):
        having = {number: names[whole] for number, names in by_rounds.items() if whole in names}
        if whole == "static" and "synpro" in by_rounds.get(1, ()):
            having[1] = by_rounds[1]["synpro"]
        for fewer, more in pairwise(sorted(having)):
            found.append(Contrast(having[more], having[fewer], f"{more} rounds against {fewer}"))
    return found


def _split(name: str) -> tuple[str, int]:
    """`prompt-only-4` -> ("prompt-only", 4); a name without a number has 0."""
    found = re.fullmatch(r"(.+)-(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 0)
