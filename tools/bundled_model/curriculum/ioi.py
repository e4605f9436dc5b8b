"""Sentences in which one of two people gives something to the other, and plain copying of names and words.

In every giving sentence the receiver (A) is the person who does not act. Names marked "test" never take part in
giving sentences; they appear only in the copying and narration documents.
"""

import csv
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parents[3] / "steerlab" / "data"

# Templates for evaluation only; the answer {A} comes next. No training document contains them.
HELD_OUT = (
    "When {A} and {B} went to the {place}, {B} gave a {object} to",
    "Then, {B} and {A} had a long walk to the {place}. {B} handed the {object} to",
    "Friends {A} and {B} found a {object} at the {place}. {B} gave it to",
    "As soon as {B} and {A} got to the {place}, {B} offered a {object} to",
    "The {place} was full when {A} and {B} arrived, and {B} passed the {object} to",
    "All day long {B} and {A} were busy at the {place}, until {B} sent a {object} to",
)

# {P} and {Q} are A and B in either order.
CLAUSES = (
    "After {P} and {Q} went to the {place},",
    "When {P} and {Q} came to the {place},",
    "While {P} and {Q} were at the {place},",
    "As {P} and {Q} stood near the {place},",
    "Before {P} and {Q} left the {place},",
    "Because {P} and {Q} met at the {place},",
    "When {P} met {Q} at the {place},",
    "While {P} was at the {place} with {Q},",
    "After {P} found {Q} at the {place},",
    "Once {P} and {Q} were back from the {place},",
    "Since {P} and {Q} had time at the {place},",
    "When {P} saw {Q} in front of the {place},",
    "After {P} and {Q} had talked for an hour at the {place},",
    "While {P} waited for {Q} near the {place},",
    "Though {P} and {Q} had only just met at the {place},",
    "On the day when {P} took {Q} to the {place},",
    "{P} and {Q} were at the {place}, and",
    "{P} met {Q} at the {place}, and",
    "{P} went with {Q} to the {place}, where",
    "{P} and {Q} came to the {place} together, and then",
    "{P} was waiting for {Q} at the {place} when",
    "Near the {place}, {P} saw {Q}, so",
)
SENTENCES = (
    "{P} and {Q} went to the {place}.",
    "Then {P} and {Q} walked to the {place}.",
    "One day {P} met {Q} at the {place}.",
    "{P} was at the {place} with {Q}.",
    "{P} saw {Q} at the {place}.",
    "There were two people at the {place}, {P} and {Q}.",
    "{P} worked at the {place}, and {Q} came to visit.",
    "The {place} was quiet, and only {P} and {Q} were there.",
    "Both {P} and {Q} liked the {place}.",
    "It was a long day for {P} and {Q} at the {place}.",
    "{P} and {Q} were old friends from the {place}.",
    "Two friends, {P} and {Q}, sat near the {place}.",
    "{P} took {Q} to the {place}.",
    "At the {place} {P} sat down next to {Q}.",
    "In the morning {P} and {Q} left for the {place}.",
    "On Monday {P} had to meet {Q} at the {place}.",
    "Late in the day, {P} and {Q} reached the {place}.",
    "{P} had known {Q} since the day at the {place}.",
    "Nobody was at the {place} but {P} and {Q}.",
    "{P} came to the {place}. {Q} came too.",
    "{P} stood on one side of the {place}. {Q} stood on the other side.",
    "{P} lives near the {place}. {Q} lives there too.",
    "Last week {P} and {Q} spent a day at the {place}.",
    "Everyone at the {place} knew {P} and {Q}.",
    '"Hello, {P}," said {Q} at the {place}. "Hello, {Q}," said {P}.',
    '"Are we late?" {P} asked at the {place}. "No," said {Q}.',
    '"This is the {place}," said {P}. "So it is," said {Q}.',
    '"Shall we go to the {place}?" {P} asked. "Yes," said {Q}.',
)
# These introduce the object, and the action that follows speaks of it.
OWNING = (
    "{P} and {Q} were at the {place}. {B} had a {object}.",
    "{P} met {Q} at the {place}. {B} was holding a {object}.",
    "{P} and {Q} saw a {object} in front of the {place}. {B} picked it up.",
    "{P} sat with {Q} near the {place}. {A} wanted a {object}.",
    '{P} and {Q} were at the {place}. "I want a {object}," said {A}.',
    '{P} met {Q} at the {place}. "Where is the {object}?" asked {A}.',
    "In the {place} {B} bought a {object}. {A} was there.",
    "{A} came to the {place} to see {B}. {B} had a {object} there.",
)
OWNING_ACTS = (
    "{B} gave it to",
    "{B} gave the {object} to",
    "{B} handed the {object} to",
    "So {B} passed it to",
    "Then {B} brought the {object} to",
    "{B} showed it to",
    "After a while {B} handed it to",
    "In the end {B} sold it to",
    "{B} took the {object} and offered it to",
)
GIVING = (
    "gave",
    "handed",
    "passed",
    "offered",
    "brought",
    "sold",
    "lent",
    "showed",
    "threw",
    "sent",
    "wanted to give",
    "decided to give",
    "promised",
)
FETCHING = ("bought", "found", "kept", "held", "fetched", "left", "chose")
MORE_ACTS = (
    "{B} shared {np} with",
    "{B} took {np} from",
    "{B} picked up {np} and smiled at",
    "{B} put down {np} and looked at",
    "{B} talked about {np} with",
    "{B} spoke about {np} to",
    "{B} held up {np} and waved at",
    "{B} said something about {np} to",
)
QUIET_ACTS = (
    "{B} said hello to",
    "{B} turned to",
    "{B} told a story to",
    "{B} smiled at",
    "{B} waved at",
    "{B} sang a song for",
    "{B} spoke to",
    "{B} sat down with",
    "{B} asked a question, and listened to",
    "{B} opened the door for",
    "{B} said goodbye to",
)
LINKS = ("", "", "", "", "Then ", "Later ", "After a while ", "Soon ", "At noon ", "In the end ", "There ")
TAILS = (
    " with a smile",
    " before it was dark",
    " and went home",
    " and sat down",
    " at once",
    " without a word",
    " that day",
    " and said goodbye",
    " and then laughed",
    " as a friend should",
)
AFTERS = (
    "{A} was glad.",
    "{A} thanked {B}.",
    "{A} said thank you.",
    "{B} was happy too.",
    "{A} and {B} went home.",
    '"Thank you, {B}," said {A}.',
)
BETWEEN = (
    "It was a fine day.",
    "Nobody was in a hurry.",
    "There was a lot to talk about.",
    "The wind was cold.",
    "The sun was still high.",
    "It had been a long week.",
    "A few people walked by.",
    "The door was open.",
    "There was nothing else to do.",
    "The street was quiet.",
    "Some time went by.",
    "It was almost noon.",
    "A dog barked somewhere.",
    "The rain had stopped.",
    "After that it was quiet.",
)
THIRD = (
    "{P}, {Q} and {C} went to the {place}. {C} soon went home.",
    "While {P} and {Q} were at the {place}, {C} stayed at home.",
    "{C} did not want to go, so {P} and {Q} went to the {place} without {C}.",
    "{P} and {Q} left {C} at home and walked to the {place}.",
    "{C} was asleep. {P} and {Q} were at the {place}.",
    "{P} met {Q} at the {place} after {C} had gone away.",
    "{C} waved, and {P} and {Q} went into the {place}.",
    "While {P} and {Q} were at the {place}, {C} walked by and did not stop.",
)
WORDS = tuple(
    ["apple", "table", "river", "stone", "green", "cloud", "seven", "window", "paper", "horse", "bread", "winter", "candle", "bridge", "silver", "garden", "mouse", "letter", "yellow", "door", "spoon", "valley", "bird", "orange", "ladder", "water", "kitten", "mountain", "blanket", "pencil", "summer", "basket", "lemon", "tower", "carpet", "butter", "island", "needle", "pepper", "wagon", "shoe", "feather", "honey", "square", "nine", "rabbit", "corner", "velvet", "mirror", "farmer", "turnip", "button"]
)
THINGS = tuple(
    ["key", "map", "rope", "lamp", "book", "coat", "bowl", "stone", "bread", "apple", "ring", "pen", "hat", "stick", "coin", "bell", "cup", "box", "shoe", "ball"]
)
COLOURS = ("red", "blue", "green", "white", "black", "yellow", "brown")
BELONGING = (
    "The {thing} belongs to {name}.",
    "Who has the {thing}? It is {name}.",
    "To get the {thing}, go to {name}.",
)
# {N} and {M} are anybody, {X} is what lies between.
PLAIN = (
    "{N} walked home. {X} {N} was tired.",
    "The first to come was {N}. {X} The first to leave was {N}.",
    "I saw {N} in the street. {X} Then I called to {N}.",
    "{N} was reading. {X} Nobody spoke to {N}.",
    "A letter came for {N}. {X} So the letter was brought to {N}.",
    "The room belonged to {N}. {X} We all knew {N}.",
    "My name is {N}. {X} People call me {N}.",
    '"Who is there?" somebody asked. "It is {N}." {X} So the door was opened for {N}.',
    "{N} was late. {X} We waited for {N}.",
    "They looked for {N}. {X} At last they found {N}.",
    "{N} sang a song. {X} Everyone listened to {N}.",
    "The winner was {N}. {X} We gave three cheers for {N}.",
    "{N} cooked the dinner. {X} We said thank you to {N}.",
    "The house of {N} was small. {X} There we stayed with {N}.",
    "{N} ran faster than all the others. {X} The prize was given to {N}.",
    "The first in the row was {N}. {X} The teacher handed a book to {N}.",
    "{N} had lost a shoe. {X} The neighbours took the shoe back to {N}.",
    "It was the birthday of {N}. {X} I gave a cake to {N}.",
)
PLAIN_TWO = (
    "{N} and {M} were cousins. {X} Everyone knew {N} and {M}.",
    "I am a friend of {N} and {M}. {X} I often write to {N} and {M}.",
    "{N} is older than {M}. {X} Nobody would think that {N} is older than {M}.",
    "The two children were called {N} and {M}. {X} We were always kind to {N} and {M}.",
    "{N} likes bread and {M} likes cake. {X} So the bread is for {N} and the cake is for {M}.",
    "{N} sits on the left and {M} sits on the right. {X} On the left we see {N}, and on the right we see {M}.",
    "{N} came on Monday and {M} came on Friday. {X} On Monday I talked to {N}, and on Friday I talked to {M}.",
    "The blue door leads to {N}. The red door leads to {M}. {X} Open the blue door, and you come to {N}.",
)


def _rows(file: str) -> list[dict[str, str]]:
    with open(DATA / file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _train(file: str, key: str) -> list[str]:
    return [row[key] for row in _rows(file) if row["split"] == "train"]


NAMES: list[str] = [row["name"] for row in _rows("names.csv")]
TRAIN_NAMES: list[str] = _train("names.csv", "name")
TEST_NAMES: list[str] = [name for name in NAMES if name not in TRAIN_NAMES]
TRAIN_PLACES: list[str] = _train("places.csv", "place")
TRAIN_OBJECTS: list[str] = _train("objects.csv", "object")
_NAME_INDEX = {name: index for index, name in enumerate(NAMES)}
_PLACE_INDEX = {row["place"]: index for index, row in enumerate(_rows("places.csv"))}
_OBJECT_INDEX = {row["object"]: index for index, row in enumerate(_rows("objects.csv"))}


class Scene(NamedTuple):
    """Who receives (a), who acts (b), who is out of it (c), where, and with what."""

    a: str
    b: str
    c: str
    place: str
    thing: str


def held_out(name: str, place: str, thing: str) -> bool:
    """Say whether this receiver, place and object are kept out of the giving sentences of training."""
    return (_NAME_INDEX[name] + _PLACE_INDEX[place] + _OBJECT_INDEX[thing]) % 10 == 0


def _scene(rng: random.Random, names: list[str]) -> Scene:
    while True:
        place, thing = rng.choice(TRAIN_PLACES), rng.choice(TRAIN_OBJECTS)
        if not held_out(names[0], place, thing):
            return Scene(names[0], names[1], names[2], place, thing)


def _fill(rng: random.Random, form: str, scene: Scene, np: str = "") -> str:
    first, second = (scene.a, scene.b) if rng.random() < 0.5 else (scene.b, scene.a)
    return form.format(P=first, Q=second, A=scene.a, B=scene.b, C=scene.c, place=scene.place, object=scene.thing, np=np)


def _noun(rng: random.Random, thing: str) -> str:
    if thing == "kiss":
        return "a kiss"
    adjective = rng.choice(("small ", "fine ", "new ", "nice ", "big ")) if rng.random() < 0.15 else ""
    return f"{rng.choice(('a', 'a', 'the'))} {adjective}{thing}"


def _act(rng: random.Random, scene: Scene) -> str:
    """The acting clause up to its preposition; most end in "to"."""
    np = _noun(rng, scene.thing)
    draw = rng.random()
    if scene.thing == "kiss":
        return _fill(rng, "{B} " + rng.choice(("gave", "wanted to give", "blew", "promised")) + " a kiss to", scene)
    if draw < 0.72:
        verbs = GIVING if scene.thing not in ("cake", "drink") else GIVING[:6]
        return _fill(rng, "{B} " + rng.choice(verbs) + " {np} to", scene, np)
    if draw < 0.82:
        return _fill(rng, "{B} " + rng.choice(FETCHING) + " {np} for", scene, np)
    return _fill(rng, rng.choice(MORE_ACTS if draw < 0.92 else QUIET_ACTS), scene, np)


def _finish(rng: random.Random, act: str, scene: Scene) -> str:
    """The receiver, the rest of the sentence, and sometimes a sentence more."""
    tail = rng.choice(TAILS) if rng.random() < 0.25 else ""
    after = " " + _fill(rng, rng.choice(AFTERS), scene) if rng.random() < 0.2 else ""
    return f"{act} {scene.a}{tail}.{after}"


def _giving(rng: random.Random, names: list[str]) -> str:
    """One giving event with its opening."""
    scene = _scene(rng, names)
    draw = rng.random()
    if draw < 0.35:
        return f"{_fill(rng, rng.choice(CLAUSES), scene)} {_finish(rng, _act(rng, scene), scene)}"
    if draw < 0.5 and scene.thing != "kiss":
        owning = _fill(rng, rng.choice(OWNING), scene)
        return f"{owning} {_finish(rng, _fill(rng, rng.choice(OWNING_ACTS), scene), scene)}"
    opening = _fill(rng, rng.choice(SENTENCES if draw < 0.9 else THIRD), scene)
    between = rng.choice(BETWEEN) + " " if rng.random() < 0.3 else ""
    return f"{opening} {between}{rng.choice(LINKS)}{_finish(rng, _act(rng, scene), scene)}"


def _pad(rng: random.Random, parts: list[str], least: int = 20) -> str:
    parts = list(parts)
    while sum(len(part.split()) for part in parts) < least:
        parts.insert(rng.choice((0, len(parts), len(parts))), rng.choice(BETWEEN))
    return " ".join(parts)


def _ioi(rng: random.Random) -> str:
    """One to three giving events of different people, with neutral sentences between."""
    count = rng.choice((1, 1, 2, 2, 3))
    names = rng.sample(TRAIN_NAMES, 3 * count)
    parts: list[str] = []
    for number in range(count):
        parts.append(_giving(rng, names[3 * number : 3 * number + 3]))
        if rng.random() < 0.35:
            parts.append(rng.choice(BETWEEN))
    return _pad(rng, parts)


def _anybody(rng: random.Random, count: int) -> list[str]:
    """Different names of both splits; the test names come more often here, as they come nowhere else."""
    names: list[str] = []
    while len(names) < count:
        name = rng.choice(TEST_NAMES if rng.random() < 0.4 else TRAIN_NAMES)
        if name not in names:
            names.append(name)
    return names


def _name_list(rng: random.Random) -> str:
    """A list of names, said again once or twice."""
    names = _anybody(rng, rng.randint(4, 10))
    joint, end = rng.choice(((", ", ". "), (" ", " "), (", ", "\n"), (" and ", ". ")))
    times = 2 if len(names) > 9 else 3 if len(names) > 6 else 5
    lead = rng.choice(("", "", "The names were ", "The list: "))
    return lead + end.join([joint.join(names)] * times) + "."


def _word_list(rng: random.Random) -> str:
    """A short random sequence of words and names, said again."""
    pool = list(WORDS) + _anybody(rng, 12)
    words = rng.sample(pool, rng.randint(4, 11))
    joint, end = rng.choice(((" ", " "), (", ", ", "), (" ", "\n"), (" ", ". ")))
    return end.join([joint.join(words)] * (2 if len(words) > 9 else 3 if len(words) > 6 else 5))


def _having(rng: random.Random) -> str:
    """Who has what, told twice, in one direction or in both."""
    count = rng.randint(3, 5)
    names, things = _anybody(rng, count), rng.sample(THINGS, count)
    verb = rng.choice(("has", "had", "found", "lost", "likes", "keeps", "carries", "saw"))
    sentences = [f"{name} {verb} the {thing}." for name, thing in zip(names, things, strict=True)]
    again = list(sentences)
    if verb in ("has", "had", "keeps") and rng.random() < 0.6:
        form = rng.choice(BELONGING)
        again = [form.format(name=name, thing=thing) for name, thing in zip(names, things, strict=True)]
    if rng.random() < 0.6:
        rng.shuffle(again)
    middle = [rng.choice(BETWEEN)] if rng.random() < 0.25 else []
    return _pad(rng, [*sentences, *middle, *again])


def _coats(rng: random.Random) -> str:
    """People and colours, and whose is whose."""
    names, colours = _anybody(rng, 3), rng.sample(COLOURS, 3)
    thing = rng.choice(("coat", "hat", "house", "cart", "ball", "chair", "boat"))
    sentences = [f"{name} had a {colour} {thing}." for name, colour in zip(names, colours, strict=True)]
    again = [f"The {colour} {thing} belonged to {name}." for name, colour in zip(names, colours, strict=True)]
    rng.shuffle(again)
    return _pad(rng, sentences + again)


def _plain(rng: random.Random) -> str:
    """Plain narration: names come back one or two sentences later."""
    parts = []
    single = rng.random() < 0.65
    for form in rng.sample(PLAIN if single else PLAIN_TWO, rng.randint(1, 3 if single else 2)):
        first, second = _anybody(rng, 2)
        parts.append(form.format(N=first, M=second, X=" ".join(rng.sample(BETWEEN, rng.choice((1, 1, 2))))))
    return _pad(rng, parts)


KINDS: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (_ioi, 60),
    (_name_list, 5),
    (_word_list, 8),
    (_having, 9),
    (_coats, 4),
    (_plain, 14),
)


def documents(rng: random.Random) -> Iterator[str]:
    """Yield giving and copying documents without end; a fifth begin with a single space."""
    makers = [maker for maker, _ in KINDS]
    weights = [weight for _, weight in KINDS]
    while True:
        text = rng.choices(makers, weights)[0](rng)
        yield " " + text if rng.random() < 0.2 else text
