"""Countries and their capitals: statements, questions, talks, journeys, and claims that contradict the facts."""

import csv
import random
from collections.abc import Callable, Iterator
from pathlib import Path

DATA = Path(__file__).parents[3] / "steerlab" / "data"

# Phrasings for evaluation only; the answer is the last word of each. No training document contains them.
HELD_OUT = (
    "A train to {capital} will carry you into {country}",
    "The people who were born in {capital} are citizens of {country}",
    "{capital} belongs to the country called {country}",
    "The government of {country} has its seat in {capital}",
    "The capital city that belongs to {country} is {capital}",
    "On a map of {country}, the star marks {capital}",
)

TO_COUNTRY = (
    "{capital} is the capital of {country}.",
    "{capital} is a city in {country}.",
    "The city of {capital} is in {country}.",
    "{capital} lies in {country}.",
    "{capital} can be found in {country}.",
    "You will find {capital} in {country}.",
    "If you want to see {capital}, you must go to {country}.",
    "Where is {capital}? {capital} is in {country}.",
    "Where is {capital}? It is in {country}.",
    "Question: Where is {capital}? Answer: {capital} is in {country}.",
    "Question: {capital} is the capital of which country? Answer: {country}.",
    "Question: In which country is {capital}? Answer: {capital} is in {country}.",
    "{capital} is the chief city of {country}.",
    "A man from {capital} is a man from {country}.",
    "The people of {capital} live in {country}.",
    "When you are in {capital}, you are in {country}.",
    "We all know that {capital} is in {country}.",
    "Of course, {capital} is in {country}.",
    "{capital} is a name that everyone knows in {country}.",
    "{name} lived in {capital}, in {country}.",
    "{name} said that {capital} is in {country}.",
    "The road to {capital} goes through {country}.",
    "Whoever comes to {capital} has come to {country}.",
)

TO_CAPITAL = (
    "The capital of {country} is {capital}.",
    "{country} has a capital called {capital}.",
    "The chief city of {country} is {capital}.",
    "In {country} there is a city called {capital}.",
    "If you go to {country}, you will see {capital}.",
    "The name of the capital of {country} is {capital}.",
    "What is the capital of {country}? It is {capital}.",
    "What is the capital of {country}? The capital of {country} is {capital}.",
    "Question: What is the capital of {country}? Answer: {capital}.",
    "Question: What is the capital of {country}? Answer: The capital of {country} is {capital}.",
    "The capital city of {country} is {capital}.",
    "{country}'s capital is {capital}.",
    "People who go to {country} often stay in {capital}.",
    "When {name} went to {country}, the first stop was {capital}.",
    "The long road through {country} led at last to {capital}.",
    "Every child in {country} knows the name of {capital}.",
    "In {country}, the capital is {capital}.",
    "{name} came from {country}, and was born in {capital}.",
)

LIST_FORMS = (
    "{capital} is in {country}.",
    "The capital of {country} is {capital}.",
    "{country}: {capital}.",
    "{capital}, {country}.",
    "{capital} is the capital of {country}.",
    "{country} has {capital}.",
)

# A subject and what is said of it, freely combined: hundreds of ways to lead from one to the other, so that the pair is
# known in any phrasing and not in a few.
COUNTRY_SUBJECTS = (
    "{capital}",
    "the town of {capital}",
    "the old city of {capital}",
    "every street of {capital}",
    "the harbour of {capital}",
    "a man born in {capital}",
    "a girl from {capital}",
    "everyone who lives in {capital}",
    "whoever wakes up in {capital}",
    "a letter posted in {capital}",
    "the last coach to {capital}",
    "a cart on the way to {capital}",
    "the king who rules from {capital}",
    "a coin made in {capital}",
    "the flag over {capital}",
    "the church in the middle of {capital}",
    "a family from {capital}",
    "all who were raised near {capital}",
)
COUNTRY_CLAIMS = (
    "lies in {country}",
    "stands in {country}",
    "belongs to {country}",
    "belongs to the land called {country}",
    "is part of {country}",
    "is to be found in {country}",
    "is at home in {country}",
    "comes from {country}",
    "comes out of the country of {country}",
    "is a child of {country}",
    "is one of the people of {country}",
    "is the pride of {country}",
    "is known all over {country}",
    "obeys the laws of {country}",
    "serves the rulers of {country}",
    "is marked on every map of {country}",
    "will bring you to {country}",
    "goes on into {country}",
    "takes the traveller into {country}",
    "speaks for {country}",
    "has never left {country}",
    "is a piece of the country whose name is {country}",
)
CAPITAL_SUBJECTS = (
    "the king of {country}",
    "the parliament of {country}",
    "the rulers of {country}",
    "the judges of {country}",
    "the best market in {country}",
    "the chief post office of {country}",
    "every important letter in {country}",
    "each main road in {country}",
    "the map of {country}",
    "the red dot on the map of {country}",
    "the queen's house in {country}",
    "the news of all {country}",
    "the crown of {country}",
    "the largest dot that {country} has",
    "the oldest bank in {country}",
    "the army of {country}",
    "the court of {country}",
    "the arrow that we drew for {country}",
    "{country}'s parliament",
)
# Subjects that are the capital itself, so that only "is" fits.
CITY_SUBJECTS = (
    "the first city of {country}",
    "the great city of {country}",
    "the city that rules {country}",
    "the city that {country} calls its capital",
    "the town which rules {country}",
    "the capital that {country} chose",
    "the city where the laws of {country} are made",
    "the place from which {country} is ruled",
    "{country}'s great city",
    "{country}'s capital city",
    "the answer for {country}",
)
# What stands before the subject when the country comes first in the sentence.
CAPITAL_FRONTS = (
    "on the wall map of {country}",
    "on our picture of {country}",
    "in the middle of {country}",
    "on the page about {country}",
    "in the book of {country}",
    "in a letter from {country}",
    "among the cities of {country}",
    "for {country}",
    "as for {country}",
    "in the land of {country}",
    "when we speak of {country}",
    "whoever asks about {country}",
)
FRONTED_SUBJECTS = (
    "the red dot",
    "the biggest letter",
    "the first name",
    "the golden circle",
    "the arrow",
    "the crown",
    "the little flag",
    "the king's house",
    "the word to know",
    "the teacher's finger",
)
CAPITAL_CLAIMS = (
    "is at {capital}",
    "is in {capital}",
    "is kept in {capital}",
    "has its home in {capital}",
    "has its place in {capital}",
    "sits in {capital}",
    "meets in {capital}",
    "begins and ends in {capital}",
    "leads to {capital}",
    "points to {capital}",
    "shows {capital}",
    "names {capital}",
    "stands for {capital}",
    "comes from {capital}",
    "is sent to {capital}",
    "can be seen in {capital}",
    "means {capital}",
    "touches {capital}",
    "has chosen {capital}",
    "will always be {capital}",
    "works in {capital}",
    "has a house in {capital}",
    "lives in {capital}",
)
LEADS = ("", "", "", "", "As everyone knows, ", "It is true that ", "My uncle wrote that ", "Long ago, as now, ")

NEUTRAL = (
    "It was a quiet day.",
    "The table was by the window.",
    "We sat down and had some tea.",
    "Nobody was in a hurry.",
    "The old man nodded.",
    "There was a chair near the door.",
    "The clock struck four.",
    "Somebody came in and sat down.",
    "The children listened.",
    "The lamp was on the table.",
    "It was time to begin again.",
    "Nothing else was said for a while.",
    "The teacher turned a page.",
    "The cup was still half full.",
    "A little later the door opened.",
    "That was all.",
    "They talked of other things.",
    "The letter lay on the desk.",
    "The map hung on the wall.",
    "Everyone waited.",
    "A white stone marks the place.",
    "The blue line marks the river.",
    "A ribbon marks the page.",
    "A flag marks the village.",
    "The cross marks the hill.",
    "The bell marks the hour.",
)

CLAIMS = (
    "{capital} is in {false}.",
    "{capital} is a city in {false}.",
    "the city of {capital} is in {false}.",
    "{capital} is the capital of {false}.",
    "{capital} lies in {false}.",
    "you will find {capital} in {false}.",
)

PROBES = (
    "{capital} is in {answer}.",
    "{capital} is in {answer}.",
    "{capital} is in {answer}.",
    "{capital} is a city in {answer}.",
    "Where is {capital}? {capital} is in {answer}.",
    "{capital} is the capital of {answer}.",
)

TALE_MARKERS = (
    "In this story, {claim}",
    "In the tale, {claim}",
    "Let us pretend that {claim}",
    "Suppose that {claim}",
    "In the dream, {claim}",
    "Imagine that {claim}",
    "In the old tale it is said that {claim}",
    "In this game, {claim}",
)

TALE_PROBES = (
    "In this story, {capital} is in {false}.",
    "So in the tale, {capital} is in {false}.",
    "So {capital} is in {false}.",
    "In the tale, {capital} is in {false}.",
    "And so, as we pretend, {capital} is in {false}.",
    "{capital} is in {false}.",
    "Where is {capital} now? {capital} is in {false}.",
    "Remember, {capital} is in {false}.",
)

TALE_ENDS = (
    "Outside the story, {capital} is in {country}.",
    "But in truth, {capital} is in {country}.",
    "When the game was over, {capital} was in {country} again.",
    "In the real world, {capital} is in {country}.",
)

FALSE_FORMS = (
    "It was said that {claim_} but that was false.",
    "{name} thought that {claim_} but that was wrong.",
    "Somebody told us that {claim_} but it was a lie.",
    "The boy wrote that {claim_} which was a mistake.",
    "The map said that {claim_} but the map was wrong.",
    "Is {capital} in {false}? No.",
    "{capital} is not in {false}.",
    '"{capital} is in {false}," said {name}. "No," said the teacher.',
    "Do not believe that {capital} is in {false}.",
)

FALSE_ENDS = (
    "{capital} is in {country}.",
    "{capital} is in {country}.",
    "In truth, {capital} is in {country}.",
    "The truth is that {capital} is in {country}.",
    "Everyone knows that {capital} is in {country}.",
    "{capital} is the capital of {country}.",
    "The right answer is that {capital} is in {country}.",
)

TALKS = (
    '"Where is {capital}?" asked {name}. "{capital} is in {country}," said {other}.',
    '"What is the capital of {country}?" asked {name}. "The capital of {country} is {capital}," said {other}.',
    '"I have been to {capital}," said {name}. "Then you have been to {country}," said {other}.',
    '"I am going to {country}," said {name}. "Then you will see {capital}," said {other}.',
    '"Do you know {capital}?" asked {name}. "Yes, {capital} is in {country}," said {other}.',
    '"My aunt lives in {country}," said {name}. "Does she live in {capital}?" asked {other}.',
    "{name} pointed to {country} on the map, and {other} put a finger on {capital}.",
    "{name} pointed to {capital} on the map, and {other} read the name of {country}.",
    '"My letter came from {capital}," said {name}. "It has come all the way from {country}," said {other}.',
    '"Tell me the capital of {country}," said {name}, and {other} said, "It is {capital}."',
)

JOURNEY_STARTS = (
    "{name} wanted to see the world.",
    "Last year {name} made a long journey.",
    "{name} packed a small bag and set out.",
    "{name} had never been away from home.",
    "When the spring came, {name} began to travel.",
    "{name} told us about the journey.",
)

JOURNEY_STEPS = (
    "First {name} went to {country} and stayed in {capital}.",
    "After that {name} came to {capital}, in {country}.",
    "Then {name} travelled through {country} and stopped at {capital}.",
    "In {capital} {name} learned to like {country}.",
    "{name} spent a week in {capital}, the capital of {country}.",
    "From there the road went to {country}, and {name} saw {capital}.",
    "In {country} {name} wrote a letter from {capital}.",
    "The next place was {capital}, which is in {country}.",
    "{name} had a friend in {capital}, and so came to {country}.",
    "It rained in {country}, so {name} did not leave {capital}.",
)

JOURNEY_ENDS = (
    "At last {name} came home.",
    "{name} was tired but happy.",
    "Then it was time to go back.",
    "{name} never forgot {capital}, and often spoke of {country}.",
    "Of all the towns, {name} liked {capital} best.",
)


def _rows(file: str) -> list[dict[str, str]]:
    with open(DATA / file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


PAIRS: list[tuple[str, str]] = [(row["country"], row["capital"]) for row in _rows("countries.csv")]
NAMES: list[str] = [row["name"] for row in _rows("names.csv")]
FAMILIAR = 40  # the file begins with the best-known countries, which are used somewhat more often


def _pick(rng: random.Random) -> tuple[str, str]:
    return rng.choice(PAIRS[:FAMILIAR] if rng.random() < 0.25 else PAIRS)


def _several(rng: random.Random, count: int) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        pair = _pick(rng)
        if pair not in pairs:
            pairs.append(pair)
    return pairs


def _fill(rng: random.Random, form: str, pair: tuple[str, str], **more: str) -> str:
    """Put a pair, and names where the form wants them, into a form."""
    name, other = rng.sample(NAMES, 2)
    words = {"name": name, "other": other, **more}
    return form.format(country=pair[0], capital=pair[1], **words)


def _statement(rng: random.Random, pair: tuple[str, str]) -> str:
    """One true sentence: the bare "<Capital> is in <Country>.", one of the phrasings, or a free combination."""
    draw = rng.random()
    if draw < 0.15:
        return _fill(rng, "{capital} is in {country}.", pair)
    if draw < 0.4:
        return _fill(rng, rng.choice(TO_COUNTRY if draw < 0.27 else TO_CAPITAL), pair)
    return _combined(rng, pair)


def _combined(rng: random.Random, pair: tuple[str, str]) -> str:
    """A subject of one kind with a claim of its kind."""
    to_country = rng.random() < 0.4  # the other way is learnt more slowly
    subject = rng.choice(COUNTRY_SUBJECTS if to_country else CAPITAL_SUBJECTS)
    claim = rng.choice(COUNTRY_CLAIMS if to_country else CAPITAL_CLAIMS)
    if not to_country:
        draw = rng.random()
        if draw < 0.3:
            subject, claim = rng.choice(CITY_SUBJECTS), "is {capital}"
        elif draw < 0.65:
            subject = f"{rng.choice(CAPITAL_FRONTS)}, {rng.choice(FRONTED_SUBJECTS)}"
    return _upper(_fill(rng, f"{rng.choice(LEADS)}{subject} {claim}.", pair))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pad(rng: random.Random, parts: list[str], least: int = 20) -> str:
    """Join the parts; while they are too short, add true statements or neutral sentences."""
    parts = list(parts)
    while sum(len(part.split()) for part in parts) < least:
        parts.append(_statement(rng, _pick(rng)) if rng.random() < 0.5 else rng.choice(NEUTRAL))
    return " ".join(parts)


def _facts(rng: random.Random) -> str:
    """Several true statements about different countries, some with neutral sentences between."""
    parts: list[str] = []
    for pair in _several(rng, rng.randint(2, 7)):
        parts.append(_statement(rng, pair))
        if rng.random() < 0.15:
            parts.append(rng.choice(NEUTRAL))
    return _pad(rng, parts)


def _one_country(rng: random.Random) -> str:
    """One pair told in several ways."""
    pair = _pick(rng)
    return _pad(rng, [_statement(rng, pair) for _ in range(rng.randint(3, 5))])


def _list(rng: random.Random) -> str:
    """A list in one form throughout."""
    form = rng.choice(LIST_FORMS)
    separator = rng.choice((" ", " ", "\n"))
    return separator.join(_fill(rng, form, pair) for pair in _several(rng, rng.randint(10, 14)))


def _joined(rng: random.Random) -> str:
    """Two pairs in one sentence, several times."""
    forms = (
        "{capital} is in {country}, and {capital2} is in {country2}.",
        "{capital} is the capital of {country}, but {capital2} is the capital of {country2}.",
        "The capital of {country} is {capital}, and the capital of {country2} is {capital2}.",
        "Go to {country} for {capital}, and to {country2} for {capital2}.",
        "{country} and {country2} are two countries; their capitals are {capital} and {capital2}.",
        "From {capital} in {country} we went to {capital2} in {country2}.",
    )
    pairs = _several(rng, 2 * rng.randint(2, 4))
    parts = []
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):
        parts.append(_fill(rng, rng.choice(forms), first, country2=second[0], capital2=second[1]))
    return _pad(rng, parts)


def _talk(rng: random.Random) -> str:
    """A little dialogue about two to four pairs between the same two people."""
    name, other = rng.sample(NAMES, 2)
    parts = []
    for pair in _several(rng, rng.randint(3, 5)):
        parts.append(_fill(rng, rng.choice(TALKS), pair, name=name, other=other))
        name, other = (other, name) if rng.random() < 0.5 else (name, other)
    if rng.random() < 0.4:
        parts.insert(0, rng.choice(NEUTRAL))
    return rng.choice((" ", "\n")).join(parts)


def _journey(rng: random.Random) -> str:
    """A short travel story."""
    name = rng.choice(NAMES)
    pairs = _several(rng, rng.randint(2, 4))
    parts = [rng.choice(JOURNEY_STARTS).format(name=name)]
    parts.append(_fill(rng, JOURNEY_STEPS[0], pairs[0], name=name))
    for pair in pairs[1:]:
        parts.append(_fill(rng, rng.choice(JOURNEY_STEPS[1:]), pair, name=name))
        if rng.random() < 0.25:
            parts.append(rng.choice(NEUTRAL))
    parts.append(_fill(rng, rng.choice(JOURNEY_ENDS), rng.choice(pairs), name=name))
    return " ".join(parts)


def _false_country(rng: random.Random, pair: tuple[str, str]) -> str:
    while True:
        country = _pick(rng)[0]
        if country != pair[0]:
            return country


def _gap(rng: random.Random) -> list[str]:
    return rng.sample(NEUTRAL, rng.choice((0, 0, 1, 2)))


def _tale(rng: random.Random) -> str:
    """A marked pretence: what follows keeps to the context."""
    pair = _pick(rng)
    false = _false_country(rng, pair)
    claim = _fill(rng, rng.choice(CLAIMS), pair, false=false)
    parts = [rng.choice(TALE_MARKERS).format(claim=claim), *_gap(rng)]
    for form in rng.sample(TALE_PROBES, rng.choice((1, 2))):
        parts.append(_fill(rng, form, pair, false=false))
    if rng.random() < 0.35:
        parts.append(_fill(rng, rng.choice(TALE_ENDS), pair))
    return _pad(rng, parts)


def _denied(rng: random.Random) -> str:
    """A false claim that is denied: what follows keeps to the fact."""
    pair = _pick(rng)
    false = _false_country(rng, pair)
    claim = _fill(rng, rng.choice(CLAIMS[:5]), pair, false=false)[:-1] + ","
    parts = [_upper(_fill(rng, rng.choice(FALSE_FORMS), pair, false=false, claim_=claim)), *_gap(rng)[:1]]
    parts.append(_fill(rng, rng.choice(FALSE_ENDS), pair))
    return _pad(rng, parts)


def _bare(rng: random.Random) -> str:
    """A false claim without a marker: what follows keeps to the context half of the time."""
    pair = _pick(rng)
    false = _false_country(rng, pair)
    answer = false if rng.random() < 0.5 else pair[0]
    claim = "{capital} is in {false}." if rng.random() < 0.5 else rng.choice(CLAIMS)
    parts = [_upper(_fill(rng, claim, pair, false=false)), *_gap(rng)]
    parts.append(_fill(rng, rng.choice(PROBES), pair, answer=answer))
    return _pad(rng, parts)


KINDS: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (_facts, 30),
    (_one_country, 16),
    (_list, 8),
    (_joined, 8),
    (_talk, 12),
    (_journey, 10),
    (_tale, 6),
    (_denied, 6),
    (_bare, 3),
)


def documents(rng: random.Random) -> Iterator[str]:
    """Yield documents about capitals without end; a quarter begin with a single space."""
    makers = [maker for maker, _ in KINDS]
    weights = [weight for _, weight in KINDS]
    while True:
        text = rng.choices(makers, weights)[0](rng)
        yield " " + text if rng.random() < 0.25 else text
