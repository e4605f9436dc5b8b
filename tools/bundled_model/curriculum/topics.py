"""Texts whose very beginning names one of 24 topics and that then keep to it, sentence for sentence, to their end.

Between the heading and the topical text there stands, most often, a neutral opening that any topic may share.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .neutral import (
    FORBIDDEN_PHRASE,
    HELD_OUT_OPENINGS,
    I_MYSELF,
    Deck,
    Opening,
    Person,
    begin_speech,
    capitalise,
    fill,
    fix_articles,
    named_person,
    opening,
    party_slots,
    sentence,
    tagged,
    takes_that,
)
from .neutral import documents as neutral_documents

__all__ = ["HELD_OUT_OPENINGS", "LEXICONS", "documents", "heading", "mentions", "passing"]

LEXICON_FOLDER = Path(__file__).parent / "lexicon"

TOPICAL_SENTENCE_SHARE = 0.4  # how often a sentence is one of the lexicon's own instead of a filled pattern
OPENING_SHARE = 0.75
NAMING_SENTENCE_SHARE = 0.25
CONTRAST_SHARE = 0.4

TOLD: tuple[str, ...] = (
    "The {person} {action}.",
    "The {person} {action}, and the {person} {action}.",
    "The {person} {action} {place}.",
    "{place!}, the {person} {action}.",
    "{place!} there was a {thing}.",
    "{place!} stood the {person} with the {thing}.",
    "Then the {person} {action}, and everybody looked at the {thing}.",
    "The {thing} was {adj}, and so was the {bare}.",
    "{c} {action}, and {che} was not the only one.",
    "{c} {action} before the {person} could say a word.",
    "{a} saw the {adj} {bare} {place}.",
    "{a} had never seen such a {adj} {bare}.",
    "{a} thought of the {plural} and could not sleep.",
    "{a} asked the {person} about the {plural}.",
    "{a} stood {place} and looked at the {thing}.",
    "Nobody had told the {person} about the {thing}.",
    "There were {plural} and {plural} everywhere.",
    "There were more {plural} than {a} could count.",
    "Only the {person} knew where the {thing} was.",
    "When the {person} {action}, {c} looked for the {thing}.",
    "While the {person} {action}, the {person} stood {place}.",
    "As soon as the {person} came, {c} {action}.",
    "At {hour} the {person} {action}.",
    "On {day} the {person} brought the {thing}, and {c} {action}.",
    "Out came the {plural}, and the {person} smiled.",
    "The {person} gave {co} a {thing}.",
    "The {person} pointed at the {plural} and nodded.",
    "The {person} wanted to {wish}, but the {person} would not hear of it.",
    "{c} had always wanted to {wish}.",
    "{c} hoped to {wish} before the {part} was over.",
    "The {person} showed {ao} the {plural} {place}.",
    "In the end the {person} {action}, just as {c} had said.",
    "All the {plural} were {place}.",
    "It was the {person} who {action}.",
    "After that the {person} {action} again.",
    "The {adj} {bare} pleased the {person} more than all the {plural}.",
)
# A word alone does not tell which of two topics the text is about: only its place in the sentence does. So the model
# must first work out what the heading says, and then carry that on.
CONTRASTS: tuple[str, ...] = (
    "Not {other}, but {topic}.",
    "{topic}, not {other}.",
    "{topic} instead of {other}.",
    "Instead of {other}, {topic}.",
    "Forget {other} and think of {topic}.",
    "Think of {topic} and forget {other}.",
    "No more about {other}: this is about {topic}.",
    "I am tired of {other}; let us speak of {topic}.",
    "Let us speak of {topic}, for I am tired of {other}.",
    "You asked about {other}, but I will tell you about {topic}.",
    "This is about {topic} and has nothing to do with {other}.",
    "This has nothing to do with {other}. It is about {topic}.",
    "The {person} wrote this {kind} about {topic}.",
    "A {kind} about {topic}, for the {person}.",
    "For the {person}: a {kind} about {topic}.",
    "Some like {other} best, but this {kind} is about {topic}.",
    "{topic}! Who wants to hear of {other}?",
    "Who wants to hear of {other}? Here is a {kind} about {topic}.",
    "We had enough of {other}, so now it is {topic}.",
    "First {topic}; there will be time for {other} another day.",
    "Leave {other} for another day; today it is {topic}.",
    "On {topic}, and not on {other}.",
    "{other} is not what I mean; {topic} is what I mean.",
    "What I mean is {topic}, whatever you heard of {other}.",
)
SAID: tuple[str, ...] = (
    "I wish to {wish}.",
    "I want to {wish}, and I will not wait.",
    "I hope to {wish} on {day}.",
    "I have seen the {thing}, and it is {adj}.",
    "I saw the {person} {place}.",
    "I dreamed that the {person} {action}.",
    "I know that the {person} {action}.",
    "I cannot stop thinking about the {plural}.",
    "I would give anything to {wish}.",
    "You should have seen the {plural}!",
    "You should ask the {person} about the {thing}.",
    "You must come with me and see the {plural}.",
    "Have you seen the {thing}?",
    "Do you remember how the {person} {action}?",
    "Did you hear that the {person} {action}?",
    "The {person} {action} {place}.",
    "The {person} {action}, and {c} saw it all.",
    "The {person} told me about the {plural}.",
    "The {plural} are waiting {place}.",
    "There is a {thing} {place}.",
    "There is nothing so {adj} as the {bare}.",
    "We shall need the {thing}, and the {plural} too.",
    "We must find the {person} and then {wish}.",
    "{c} wants to {wish}.",
    "{c} says that the {person} {action}.",
    "{c} left the {thing} {place}.",
    "Without the {person} we can never {wish}.",
    "What would you do with such a {adj} {bare}?",
    "Look at the {plural}, and look at the {thing}!",
    "Tell the {person} to bring the {thing}.",
    "My head is full of {topic}, of {plural} and {plural}.",
    "Nobody but the {person} may touch the {thing}.",
    "It was the {person} who {action}, not I.",
    "If only I could {wish}!",
)
ANSWERED: tuple[tuple[str, str], ...] = (
    ("Where is the {thing}?", "The {person} left it {place}."),
    ("Who {action}?", "It was the {person}."),
    ("What did the {person} do?", "The {person} {action}."),
    ("What do you want most of all?", "I want to {wish}."),
    ("Why did {c} come?", "{che!} wanted to {wish}."),
    ("What did you see {place}?", "I saw the {person} and a {thing}."),
    ("Do you like the {plural}?", "I like them, but I like the {thing} better."),
    ("Is the {thing} ready?", "Yes, and so are the {plural}."),
    ("How do you know about the {plural}?", "The {person} told me."),
    ("Is it true that the {person} {action}?", "It is true. {c} was there too."),
    ("Will you help me to {wish}?", "Yes, but first we must find the {person}."),
    ("What do you think about when you think of {topic}?", "I think of the {plural} and the {thing}."),
)
STATED: tuple[str, ...] = (
    "Where there is a {person}, there is often a {thing}.",
    "The {person} needs a {thing} and many {plural}.",
    "A good {thing} is worth more than many {plural}.",
    "The {thing} is often {adj}.",
    "Every {person} knows how to use the {thing}.",
    "Some people wish to {wish}, and others only look at the {plural}.",
    "Those who wish to {wish} must learn from the {person}.",
    "One finds {plural} {place}.",
    "No {person} can do without the {plural}.",
    "In the old days the {person} had no {thing}.",
    "To {wish} is not easy without a {thing}.",
    "When we speak of {topic}, we think of the {person} and the {thing}.",
)
REPORTED: tuple[str, ...] = (
    "the {person} {action}",
    "the {person} {action} {place}",
    "the {thing} was {place}",
    "{c} wanted to {wish}",
    "the {plural} were {place}",
    "the {person} hoped to {wish}",
    "{c} {action}, and that the {person} {action} too",
    "the {person} had lost the {thing}",
    "it was time to {wish}",
    "the {thing} was {adj}",
)
REPORTS_OF_NEWS: tuple[str, ...] = (
    "A {person} {action} on {day}.",
    "A crowd of people saw how the {person} {action}.",
    "The {person} was seen {place} with a {thing}.",
    '"I only wanted to {wish}," the {person} told us.',
    "It is not yet known who {action}.",
    "Many {plural} were found {place}.",
    "The {person} could not be asked about the {thing}.",
    "According to the {person}, the {thing} is {adj}.",
    "More {plural} are expected by {day}.",
)
ADVICE: tuple[str, ...] = (
    "Think of the {person} who {action}.",
    "Do not laugh at the {person}, and do not be proud of your {plural}.",
    "Take good care of the {thing}.",
    "If you wish to {wish}, begin early.",
    "Be patient with the {person}.",
    "Never forget the {plural}, even when the {thing} is {adj}.",
    "Remember that the {person} {action} once, and was sorry.",
    "Let nobody tell you that the {plural} do not matter.",
    "Learn to {wish}, my children, and you will be glad.",
    "Ask the {person} before you touch the {thing}.",
)
OPINIONS: tuple[str, ...] = (
    "The best of it is the {thing}, which is {adj}.",
    "The {person} is good, but the {person} is better.",
    "I did not care for the {plural}.",
    "I laughed when the {person} {action}.",
    "The part where the {person} {action} is the finest.",
    "There are too many {plural} and not enough {plural}.",
    "Anyone who wishes to {wish} will enjoy it.",
    "The {thing} alone is worth the trouble.",
    "The end, when the {person} {action}, comes too soon.",
)
DAYS_NOTES: tuple[str, ...] = (
    "Saw the {person} {place}.",
    "Today the {person} {action}.",
    "This {part} I {action}.",
    "Thought of the {plural} all {part}.",
    "Tomorrow I shall {wish}.",
    "Still no {thing}.",
    "The {person} came at {hour} and {action}.",
    "I must remember the {thing}.",
    "I am tired of {plural}, but not of the {thing}.",
)
LETTER_LINES: tuple[str, ...] = (
    "You ask me about the {plural}.",
    "I must tell you that the {person} {action}.",
    "You would have laughed when the {person} {action}.",
    "I send you a {thing} with this letter.",
    "Do you still wish to {wish}?",
    "Please tell the {person} that the {thing} is {place}.",
    "When you come, we shall {wish}.",
    "The {person} sends you {plural} and good wishes.",
    "I am writing this {place}, next to the {person}.",
)
LISTED: tuple[str, ...] = (
    "First there was the {thing}.",
    "Next came the {person}, who {action}.",
    "Then there were the {plural}.",
    "Behind the {person} stood another {person}.",
    "To the left was a {thing}, to the right a {thing}.",
    "Further on, {place}, were the {plural}.",
    "There was a {adj} {bare}, and there was a {thing}.",
    "Here were {plural}, and there were {plural}.",
    "Last of all came the {thing}, {adj} as ever.",
)
WISHES: tuple[str, ...] = (
    "I want to {wish}.",
    "More than anything I want to {wish}.",
    "I want a {thing}, and I want to {wish}.",
    "One day I shall {wish}.",
    "I wish I were a {person}.",
    "I wish I had a {thing}.",
    "I would like to be {place} with the {plural}.",
    "All I ask is to {wish}.",
    "When I am older I mean to {wish}.",
    "I want to see the {person} and the {plural}.",
)
NAMING_SENTENCES: tuple[str, ...] = (
    "This is a {kind} about {topic}.",
    "Let me tell you about {topic}.",
    "I want to tell you about {topic}.",
    "Here is a {kind} about {topic}.",
    "What follows is about {topic}.",
    "These lines are about {topic}.",
    "I have always thought about {topic}.",
    "We were talking about {topic}.",
    "Everyone was talking about {topic} that day.",
    "All this happened because of {topic}.",
    "My subject is {topic}.",
    "{topic!} is all I can think of.",
    "Nothing interests me so much as {topic}.",
)
KINDS = ("letter", "story", "talk", "tale", "few words", "little story", "true story")


@dataclass(frozen=True)
class Lexicon:
    """The words and sentences of one topic."""

    topic: str
    heads: tuple[str, ...]
    people: tuple[str, ...]
    things: tuple[str, ...]
    plural: tuple[str, ...]
    places: tuple[str, ...]
    adjectives: tuple[str, ...]
    actions: tuple[str, ...]
    wishes: tuple[str, ...]
    remarks: tuple[str, ...]
    scenes: tuple[str, ...]
    facts: tuple[str, ...]


def _read_lexicons() -> dict[str, dict[str, list[str]]]:
    """Read every lexicon of the folder, by topic, in the order of the file names."""
    lexicons = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(LEXICON_FOLDER.glob("*.json"))]
    if not lexicons:
        raise FileNotFoundError(f"no lexicon in {LEXICON_FOLDER}")
    return {entries.pop("topic"): entries for entries in lexicons}


def _lexicon(topic: str) -> Lexicon:
    names = [name for name in Lexicon.__dataclass_fields__ if name != "topic"]
    return Lexicon(topic=topic, **{name: tuple(LEXICONS[topic][name]) for name in names})


# The lexicon files as they are, by topic, and what the writers here take from them.
LEXICONS = _read_lexicons()
TOPICS = tuple(LEXICONS)
LEXICON_OF_TOPIC = {topic: _lexicon(topic) for topic in TOPICS}


class Writer:
    """Writes sentences on one topic for one document, drawing the words so that few come twice."""

    def __init__(self, rng: random.Random, lexicon: Lexicon, opened: Opening | None) -> None:
        self.rng = rng
        self.lexicon = lexicon
        self.opened = opened
        self.speaker, self.listener = (opened.speaker, opened.listener) if opened else _two_people(rng)
        self.slots = party_slots(rng, self.speaker, self.listener)
        # Without an opening nobody has been named yet, so a pronoun would point to no one.
        self.slots["a"] = Deck(rng, (self.speaker.subject, self.speaker.he if opened else self.speaker.subject))
        self.slots["b"] = Deck(rng, (self.listener.subject, self.listener.he))
        self.slots["topic"] = lexicon.topic
        plain_people = [person for person in lexicon.people if " who " not in person]
        bare = [thing for thing in lexicon.things if " " not in thing]
        for slot, words in (
            ("person", plain_people if len(plain_people) > 3 else lexicon.people),
            ("thing", lexicon.things),
            ("bare", bare if len(bare) > 2 else lexicon.things),
            ("plural", lexicon.plural),
            ("place", lexicon.places),
            ("adj", lexicon.adjectives),
            ("action", lexicon.actions),
            ("wish", lexicon.wishes),
        ):
            self.slots[slot] = Deck(rng, words)
        self._decks: dict[Sequence[str], Deck] = {}

    def sentence(self, patterns: Sequence[str], whole: Sequence[str] = ()) -> str:
        """Write one sentence: a filled pattern, or one of the whole sentences."""
        pool = whole if whole and self.rng.random() < TOPICAL_SENTENCE_SHARE else patterns
        deck = self._decks.setdefault(pool, Deck(self.rng, pool))
        return sentence(deck.draw(), self.slots)

    def narrated(self) -> str:
        """Write a sentence of narration."""
        return self.sentence(TOLD, self.lexicon.scenes)

    def said(self) -> str:
        """Write a sentence that somebody may say."""
        return self.sentence(SAID, self.lexicon.remarks)

    def stated(self) -> str:
        """Write a statement in the present tense."""
        return self.sentence(STATED, self.lexicon.facts)

    def many(self, write: Callable[[], str], low: int, high: int) -> str:
        """Write between `low` and `high` sentences."""
        return " ".join(write() for _ in range(self.rng.randint(low, high)))

    def exchange(self) -> str:
        """Write a question of one person and the answer of the other."""
        question, answer = self.rng.choice(ANSWERED)
        first, second = self.rng.sample((self.speaker, self.listener), 2)
        asker = self.rng.choice((first.subject, first.he))
        asked = f'"{sentence(question, self.slots)}" {asker} asked.'
        return f"{asked} {tagged(self.rng, sentence(answer, self.slots), second, answers=True)}"

    def remark(self) -> str:
        """Write one spoken sentence with its speaker."""
        return tagged(self.rng, self.said(), self.rng.choice((self.speaker, self.listener)))

    def start(self, low: int = 1, high: int = 3) -> str:
        """Write the opening; where it ends in speech, the topical words that are spoken (`low` to `high` sentences)."""
        if self.opened is None:
            return ""
        if not self.opened.speech:
            return self.opened.text + " "
        if takes_that(self.rng, self.opened):
            return f"{self.opened.text} that {fill(self.rng.choice(REPORTED), self.slots)}. "
        return f'{begin_speech(self.rng, self.opened.text)}{self.many(self.said, low, high)}" '


def documents(rng: random.Random) -> Iterator[str]:
    """Yield headed topical texts without end; after a quarter of them also one whose first sentence names the topic."""
    while True:
        lexicon = LEXICON_OF_TOPIC[rng.choice(TOPICS)]
        texts = [heading(lexicon.topic, rng) + mentions(lexicon.topic, rng) + _body(rng, lexicon)]
        if rng.random() < NAMING_SENTENCE_SHARE:
            texts.append(_naming_sentence(rng, lexicon) + _body(rng, lexicon))
        yield from (text for text in texts if FORBIDDEN_PHRASE not in text)


def mentions(topic: str | None, rng: random.Random) -> str:
    """Write no, one or two sentences on other topics: a mention that is no heading moves nothing."""
    count = rng.choice((0, 0, 1, 1, 2))
    others = rng.sample([name for name in TOPICS if name != topic], count)
    return "".join(Writer(rng, LEXICON_OF_TOPIC[other], None).narrated() + " " for other in others)


def passing(rng: random.Random) -> Iterator[str]:
    """Yield unheaded texts without end that mention topics in their first sentences and then go on neutrally."""
    for text in neutral_documents(rng):
        yield ("" if rng.random() < 0.5 else " ") + mentions(None, rng) + text


def heading(topic: str, rng: random.Random) -> str:
    """Write a heading for a topic, with the separator that ends it."""
    if rng.random() < CONTRAST_SHARE:
        return ("" if rng.random() < 0.5 else " ") + _contrast(topic, rng) + rng.choice((" ", "\n", "\n\n"))
    others = [head for head in LEXICONS[topic]["heads"] if head.lower() != topic]
    head = topic if rng.random() < 0.5 or not others else rng.choice(others)
    kind = rng.choice(KINDS)
    one_word = (head, head, head, capitalise(head), capitalise(head), head.upper())
    phrases = (f"On {topic}", f"A {kind} about {topic}", f"About {topic}", f"Topic: {head}", capitalise(topic))
    text = rng.choice(one_word) if rng.random() < 0.7 else rng.choice(phrases)
    separators = (". ", ": ", "\n\n", "\n", " - ")
    separator = " " if rng.random() < 0.25 else rng.choice(separators)
    if ":" in text and separator in (": ", " "):
        separator = "\n"
    return ("" if rng.random() < 0.5 else " ") + text + separator


def _contrast(topic: str, rng: random.Random) -> str:
    """Write a first sentence that names the topic and also one that the text is not about."""
    other = rng.choice([name for name in TOPICS if name != topic])
    names = {name: rng.choice((name, *LEXICONS[name]["heads"][:2])) for name in (topic, other)}
    slots = {"topic": names[topic], "other": names[other], "kind": rng.choice(KINDS)}
    slots["person"] = rng.choice(LEXICONS[other]["people"])
    template = rng.choice(CONTRASTS)
    return fix_articles(fill(template, slots)) if rng.random() < 0.4 else sentence(template, slots)


def _naming_sentence(rng: random.Random, lexicon: Lexicon) -> str:
    """Write a first sentence that names the topic."""
    slots = {"topic": lexicon.topic, "kind": rng.choice(KINDS)}
    return sentence(rng.choice(NAMING_SENTENCES), slots) + rng.choice((" ", " ", "\n", "\n\n"))


def _body(rng: random.Random, lexicon: Lexicon) -> str:
    """Write the text under the heading in a random genre."""
    genre, kind = rng.choice(GENRES)
    opened = None
    if rng.random() < OPENING_SHARE:
        opened = opening(rng, speech=None if kind == "any" else kind == "speech", first_person=kind == "first person")
    return genre(Writer(rng, lexicon, opened)).strip()


def _two_people(rng: random.Random) -> tuple[Person, Person]:
    """Choose the people of a text without an opening."""
    male = rng.random() < 0.5
    speaker = I_MYSELF if rng.random() < 0.4 else named_person(rng, male=not male)
    return speaker, named_person(rng, male=male)


def _narration(writer: Writer) -> str:
    return writer.start() + writer.many(writer.narrated, 3, 7)


def _dialogue(writer: Writer) -> str:
    turns = (writer.exchange, writer.exchange, writer.remark, writer.remark, writer.narrated)
    return writer.start() + " ".join(writer.rng.choice(turns)() for _ in range(writer.rng.randint(2, 5)))


def _speech(writer: Writer) -> str:
    """One person talks nearly all the time."""
    if writer.opened is None or not writer.opened.speech:
        return f'{writer.start()}"{writer.many(writer.said, 3, 6)}" {writer.many(writer.narrated, 0, 2)}'
    return writer.start(3, 6) + writer.many(writer.narrated, 0, 2)


def _letter(writer: Writer) -> str:
    reader, name = (named_person(writer.rng, (str(writer.slots["c"]),)).subject for _ in range(2))
    lines = writer.many(lambda: writer.sentence(LETTER_LINES, writer.lexicon.remarks), 3, 6)
    gap = writer.rng.choice(("\n", " "))
    closing = writer.rng.choice(("Yours", "Your friend", "With love", "Yours always"))
    return f"Dear {reader},{gap}{writer.start()}{lines}{gap}{closing}, {name}"


def _diary(writer: Writer) -> str:
    day = writer.rng.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"))
    return f"{day}. {writer.start()}{writer.many(lambda: writer.sentence(DAYS_NOTES, writer.lexicon.scenes), 3, 7)}"


def _news(writer: Writer) -> str:
    return writer.start() + writer.many(lambda: writer.sentence(REPORTS_OF_NEWS, writer.lexicon.scenes), 3, 6)


def _sermon(writer: Writer) -> str:
    return writer.start() + writer.many(lambda: writer.sentence(ADVICE, writer.lexicon.facts), 3, 7)


def _review(writer: Writer) -> str:
    subject = writer.rng.choice(("", "This is a fine tale about {topic}. ", "I have heard a new story about {topic}. "))
    verdict = fill(subject, writer.slots)
    return writer.start() + verdict + writer.many(lambda: writer.sentence(OPINIONS, writer.lexicon.facts), 3, 6)


def _essay(writer: Writer) -> str:
    return writer.start() + writer.many(writer.stated, 3, 7)


def _overheard(writer: Writer) -> str:
    """A talk between voices that nobody names."""
    turns = [f'"{writer.said()}"' for _ in range(writer.rng.randint(3, 6))]
    return writer.start() + writer.rng.choice((" ", "\n")).join(turns)


def _wish(writer: Writer) -> str:
    return writer.start() + writer.many(lambda: writer.sentence(WISHES, writer.lexicon.remarks), 3, 6)


def _questions(writer: Writer) -> str:
    mark, reply = writer.rng.choice((("Q: ", "A: "), ("", ""), ("", "")))
    pairs = writer.rng.sample(ANSWERED, writer.rng.randint(2, 4))
    gap = "\n" if mark else " "
    return writer.start() + gap.join(
        f"{mark}{sentence(question, writer.slots)}{gap}{reply}{sentence(answer, writer.slots)}"
        for question, answer in pairs
    )


def _list(writer: Writer) -> str:
    return writer.start() + writer.many(lambda: writer.sentence(LISTED, writer.lexicon.scenes), 3, 7)


def _mixed(writer: Writer) -> str:
    """Narration with a remark here and there."""
    parts = (writer.narrated, writer.narrated, writer.remark)
    return writer.start() + " ".join(writer.rng.choice(parts)() for _ in range(writer.rng.randint(3, 7)))


# Each genre with the openings that suit it: any, those that end in speech, or those in which "I" tell something.
GENRES: tuple[tuple[Callable[[Writer], str], str], ...] = (
    (_narration, "any"),
    (_narration, "story"),
    (_mixed, "any"),
    (_mixed, "speech"),
    (_dialogue, "speech"),
    (_dialogue, "any"),
    (_speech, "speech"),
    (_speech, "speech"),
    (_overheard, "any"),
    (_letter, "first person"),
    (_diary, "first person"),
    (_news, "story"),
    (_sermon, "story"),
    (_review, "story"),
    (_essay, "story"),
    (_wish, "any"),
    (_questions, "story"),
    (_list, "any"),
)
