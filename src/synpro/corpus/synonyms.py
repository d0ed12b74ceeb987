"""English words that can stand for each other, and words that can not: what rewordings use and corruptions abuse.

Small on purpose and written for encyclopedic prose: each line (`a|b` both ways, `a>b` one way) was chosen so that swapping
leaves a sentence true. In another language nothing here is found, and nothing is reworded.
"""

from __future__ import annotations

import re

_INTERCHANGEABLE = """
approximately|roughly
nearly|almost
began|started
begin|start
begins|starts
beginning|starting
large|big
larger|bigger
small|little
famous|well-known|renowned
important|significant
main|principal|chief
near>close to
often|frequently
usually|generally|normally
sometimes|at times
mostly|mainly|largely
many|numerous
several|a number of
however|nevertheless
although|though|even though
because>since
therefore|thus|for this reason
whereas>while
for example|for instance
within|inside
across|throughout
built|constructed|erected
build|construct
made|produced
make|produce
makes|produces
created|established
founded|set up
used|employed
uses|employs
use|employ
called|named
wrote|authored
received|got
obtained|acquired
showed|demonstrated
shows|demonstrates
show|demonstrate
said|stated
says|states
argued>maintained
argues>maintains
claimed|asserted
described|portrayed
included|comprised
includes|comprises
include|comprise
became|turned into
remained|stayed
remains|stays
changed|altered
helped|assisted
allowed|permitted
allows|permits
allow|permit
required|needed
requires|needs
require|need
led to|brought about
caused|gave rise to
ended|finished|concluded
ends|finishes
destroyed|ruined
slain>killed
attacked|assaulted
captured|seized
controlled|dominated
ruled|governed
lived|resided
lives|resides
live|reside
died|passed away
moved|relocated
travelled|journeyed
returned|came back
grew|expanded
invented|devised
developed|worked out
published|brought out
appeared|came out
reached|arrived at
occurred|happened|took place
occurs|happens|takes place
occur|happen|take place
supported|backed
supports|backs
rejected|turned down
accepted|agreed to
chosen|selected
elected|voted in
gained|won
sent|dispatched
given|handed
gave|handed
tried|attempted
trying|attempting
believed|thought
believe|think
believes|thinks
considered|regarded as
seen|viewed
people|persons
inhabitants|residents
country|nation
countries|nations
city|town
cities|towns
area|region
areas|regions
part|portion
parts|portions
works|writings
book|volume
books|volumes
idea|notion
ideas|notions
way|manner
method|technique
methods|techniques
kind|type|sort
kinds|types|sorts
start|beginning
century|hundred years
war|conflict
battle|fight
soldiers|troops
army|military force
government|administration
law|statute
laws|statutes
king|monarch
children|youngsters
child|youngster
house|home
sea|ocean
ship|vessel
ships|vessels
rock|stone
rocks|stones
illness|disease
physician|doctor
physicians|doctors
scientist|researcher
scientists|researchers
scholar|academic
scholars|academics
author|writer
authors|writers
movie|film
languages|tongues
language|tongue
reason|cause
result|outcome
results|outcomes
effect|impact
effects|impacts
difficult|hard
quick|fast
quickly|rapidly|swiftly
slowly|gradually
entire|whole
complete|full
different|distinct
various|diverse
widespread>common
rare|uncommon
ancient|age-old
modern|present-day
new|novel
whole|entire
powerful|strong
wealthy|rich
poor|impoverished
violent|brutal
dangerous|hazardous
additional|further
later|afterwards
first of all|to begin with
currently|at present|today
previously|formerly|earlier
originally|at first
eventually|in the end|finally
together with|along with
in order to>to
as well as>and also
due to|owing to|because of
in spite of|despite
according to|in the view of
during|in the course of
per cent|percent
"""

_OPPOSITE = """
increased|decreased
increase|decrease
increases|decreases
increasing|decreasing
rose|fell
rises|falls
higher|lower
high|low
highest|lowest
larger|smaller
large|small
largest|smallest
longer|shorter
long|short
longest|shortest
older|younger
oldest|youngest
early|late
earlier|later
earliest|latest
before|after
north|south
northern|southern
northeast|southwest
northwest|southeast
east|west
eastern|western
above|below
upper|lower
inside|outside
within|outside
won|lost
victory|defeat
supported|opposed
supports|opposes
accepted|rejected
allowed|forbade
allows|forbids
permitted|prohibited
began|ended
begins|ends
beginning|end
first|last
common|rare
easy|difficult
strong|weak
stronger|weaker
rich|poor
success|failure
successful|unsuccessful
successfully|unsuccessfully
positive|negative
male|female
men|women
birth|death
born|killed
public|private
legal|illegal
ancient|modern
hot|cold
warm|cool
wet|dry
light|dark
heavy|light
cheap|expensive
open|close
opens|closes
opened|closed
warm|cold
warmer|colder
dead|alive
black|white
few|many
left|right
bottom|top
slow|fast
slowly|quickly
raised|lowered
rise|fall
risen|fallen
young|old
empty|full
hard|soft
always|never
true|false
possible|impossible
similar|different
necessary|unnecessary
gained|lost
built|demolished
founded|dissolved
joined|left
arrived|departed
expanded|shrank
improved|worsened
advantage|disadvantage
agreed|disagreed
friend|enemy
friendly|hostile
peace|war
war|peace
major|minor
majority|minority
maximum|minimum
best|worst
better|worse
good|bad
older|newer
more|less
most|least
"""

_PAIRS = [tuple(line.split("|")) for line in _OPPOSITE.split("\n") if line]

SYNONYMS: dict[str, tuple[str, ...]] = {}
"""Word or phrase (small letters) -> those that can stand for it."""
for _line in _INTERCHANGEABLE.split("\n"):
    _one_way = ">" in _line
    _group = re.split(r"[|>]", _line) if _line else []
    for _word in _group[:1] if _one_way else _group:
        SYNONYMS[_word] = tuple(dict.fromkeys([*SYNONYMS.get(_word, ()), *(w for w in _group if w != _word)]))

OPPOSITES: dict[str, tuple[str, ...]] = {}
"""Word -> its opposites."""
for _left, _right in _PAIRS:
    OPPOSITES[_left] = (*OPPOSITES.get(_left, ()), _right)
    OPPOSITES[_right] = (*OPPOSITES.get(_right, ()), _left)


def _whole(words: list[str]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])", re.IGNORECASE)


SYNONYM = _whole(list(SYNONYMS))
"""Finds a word of `SYNONYMS`."""
OPPOSITE = _whole(list(OPPOSITES))
"""Finds a word of `OPPOSITES`."""


def like(word: str, replacement: str) -> str:
    """The replacement with a capital where the word has one."""
    return replacement[0].upper() + replacement[1:] if word[:1].isupper() else replacement
