"""Neutral openings and neutral texts: everyday talk and errands that touch none of the curriculum's topics.

An opening may stand under any heading, and it also begins texts without a heading. So an opening by itself tells
nothing about what follows; only the heading does.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# Openings that the training text never holds. The evaluation puts them under headings.
HELD_OUT_OPENINGS: tuple[str, ...] = (
    "I found my brother waiting outside and told him",
    "My aunt lifted a finger and said",
    "We had hardly shut the window when Clara said",
    "I tapped my uncle on the shoulder and whispered",
    "He cleared his throat twice and said",
    "She pulled me by the elbow and told me",
    "At noon my neighbour looked over the wall and said",
    "The two sisters sat side by side, and the older one said",
    "I ran after my cousin and said",
    "Nobody had spoken for an hour.",
    "There were three of us in the room that evening.",
    "I had not expected to see my nephew that day.",
)
# The evaluation's own prompt is built on this phrase, so no text may hold it.
FORBIDDEN_PHRASE = "went up to my friend"


class Deck:
    """Draws from a pool without repeating an item until the pool is used up."""

    def __init__(self, rng: random.Random, items: Sequence[str]) -> None:
        self._rng = rng
        self._items = items
        self._left: list[str] = []

    def draw(self) -> str:
        """Return one item that was not drawn since the pool was last full."""
        if not self._left:
            self._left = list(self._items)
        position = self._rng.randrange(len(self._left))
        self._left[position], self._left[-1] = self._left[-1], self._left[position]
        return self._left.pop()


@dataclass(frozen=True)
class Person:
    """Someone in a text: how to name them as subject and object, and their pronouns."""

    subject: str
    object: str
    he: str
    him: str
    his: str


@dataclass(frozen=True)
class Opening:
    """A neutral beginning. `speech` says that it ends where somebody's words begin."""

    text: str
    speech: bool
    reports: bool  # the text ends with a verb that "that ..." may follow
    speaker: Person
    listener: Person


Slots = Mapping[str, str | Deck]

MALE_NAMES = (
    "Tom",
    "Peter",
    "John",
    "Henry",
    "Edward",
    "Martin",
    "Arthur",
    "Paul",
    "Samuel",
    "Oliver",
    "Hugh",
    "Walter",
)
FEMALE_NAMES = ("Ann", "Mary", "Clara", "Jane", "Ellen", "Martha", "Susan", "Emma", "Helen", "Lucy", "Alice", "Ruth")
MALE_RELATIONS = ("brother", "uncle", "cousin", "friend", "neighbour", "father", "grandfather", "nephew", "old friend")
FEMALE_RELATIONS = ("sister", "aunt", "cousin", "friend", "neighbour", "mother", "grandmother", "niece", "old friend")
STRANGERS = ("the old man", "the young man", "the stranger", "the tall man", "the boy from next door")
WOMEN = ("the old woman", "the young woman", "the tall woman", "the girl from next door", "the quiet lady")
I_MYSELF = Person("I", "me", "I", "me", "my")

# "said" is by far the commonest; the second tuple cannot be followed by "that".
REPORTING_VERBS = (
    "said",
    "said",
    "said",
    "said",
    "said",
    "told {bhim}",
    "told us",
    "whispered",
    "explained",
    "remarked",
)
OTHER_VERBS = ("began", "cried", "spoke at last", "went on", "called out")

SPEAKER_OPENINGS: tuple[str, ...] = (
    "{a} turned to {bo} and {say}",
    "{a} put down {ahis} cup and {say}",
    "{a} came to {bo} in the {part} and {say}",
    "{a} walked over to {bo} and {say}",
    "{a} walked up to {bo} {where} and {say}",
    "{a} went over to {bo} and {say}",
    "{a} ran up to {bo} and {say}",
    "{a} stopped {bo} {where} and {say}",
    "{a} looked at {bo} for a moment and {say}",
    "{a} smiled at {bo} and {say}",
    "{a} nodded to {bo} and {say}",
    "{a} sat down beside {bo} and {say}",
    "{a} took {bo} aside and {say}",
    "{a} waited until we were alone and {say}",
    "{a} opened the door and {say}",
    "{a} shut the door behind {ahim}self and {say}",
    "{a} leaned across the table and {say}",
    "{a} leaned out of the window and {say}",
    "{a} thought for a while and {say}",
    "{a} thought about it and then {say}",
    "{a} laughed a little and {say}",
    "{a} shook {ahis} head and {say}",
    "{a} scratched {ahis} chin and {say}",
    "{a} folded {ahis} arms and {say}",
    "{a} pointed at {bo} and {say}",
    "{a} looked round the room and {say}",
    "{a} moved {ahis} chair closer and {say}",
    "{a} stood up and {say}",
    "{a} sat up and {say}",
    "{a} took a deep breath and {say}",
    "{a} knocked, came in and {say}",
    "{a} knocked at the door, saw {bo} and {say}",
    "{a} met {bo} {where} and {say}",
    "{a} saw {bo} {where} and {say}",
    "{a} found {bo} {where} and {say}",
    "{a} caught up with {bo} {where} and {say}",
    "{a} waved to {bo} and {say}",
    "{a} took {bo} by the arm and {say}",
    "{a} touched {bo} on the arm and {say}",
    "{a} lowered {ahis} voice and {say}",
    "{a} rubbed {ahis} eyes and {say}",
    "{a} glanced at the clock and {say}",
    "{a} did not look up, but {say}",
    "{a} wanted to leave, but first {ahe} {say}",
    "{a} had been quiet for a long time, and then {ahe} {say}",
    "{a} came in {when}, looked at {bo} and {say}",
    "{when}, {a} came to {bo} and {say}",
    "{when}, {a} stopped {where} and {say}",
    "{when}, while we were waiting, {a} {say}",
    "{when}, {a} sat down with {bo} and {say}",
    "{when}, as soon as {a} saw {bo}, {ahe} {say}",
    "As we stood {where}, {a} {say}",
    "After a long silence {a} {say}",
    "Before {b} could speak, {a} {say}",
    "For a while nobody spoke, and then {a} {say}",
    "We sat together for a while and then {a} {say}",
    "While {b} looked for the key, {a} {say}",
    "When {a} saw {bo} {where}, {ahe} {say}",
    "When {b} came in, {a} looked up and {say}",
    "When the door opened, {a} turned round and {say}",
    "Once again {a} {say}",
    "At last {a} {say}",
    "Then {a} {say}",
    "So {a} {say}",
    "{a} {say}",
    "{when}, {a} {say}",
)
ANSWER_OPENINGS: tuple[str, ...] = (
    "{a} met {bo} {where} and {bhe} said",
    "{a} asked {bo} what was the matter, and {bhe} said",
    "{a} asked {bo} for the news, and {bhe} said",
    "{a} asked {bo} what {bhe} was thinking of, and {bhe} answered",
    "{a} asked {bo} to sit down, and {bhe} said",
    "{a} greeted {bo}, and {bhe} replied",
    "{a} called to {bo} {where}, and {bhe} called back",
    "{a} waited, and after a minute {b} said",
    "{a} opened the door, and there stood {b}, who said",
    "{a} had just sat down when {b} came in and said",
    "{a} was about to leave when {b} said",
    "{a} was still waiting {where} when {b} stopped and said",
    "{a} said nothing, so {b} said",
    "{a} looked at {bo} and waited. At last {bhe} said",
    "{a} did not know what to think, but {b} said",
    "{a} listened while {b} said",
    "{a} spoke with {bo} {when}, and {bhe} said",
    "{when}, {a} saw {bo} {where}. {bhe!} stopped and said",
    "{when}, {a} heard a knock. It was {b}, who said",
    "{when}, {b} sat down next to {ahim} and said",
)
STORY_OPENINGS: tuple[str, ...] = (
    "{when}, {a} spoke with {bo}.",
    "{when}, {a} met {bo} {where}.",
    "{when}, {a} sat with {bo} for an hour.",
    "{when}, {a} came home late.",
    "{a} woke early that day and could not go back to sleep.",
    "{when}, {a} heard a voice {where}.",
    "{when}, {a} had something to tell {bo}.",
    "{when}, {a} stood {where} and waited for {bo}.",
    "{when}, {b} came to see {ahim}.",
    "{when}, there was a knock at the door, and {a} opened it.",
    "{when}, everyone was at home.",
    "{when}, {a} and {b} were alone in the house.",
    "{a} had been thinking about it all week.",
    "{a} had waited for this day a long time.",
    "{a} could not say how it began.",
    "{a} did not know what to do.",
    "{a} told {bo} about it {when:low}.",
    "{a} had a question, and {b} had the answer.",
    "{a} sat down and began to think.",
    "{a} remembered that day very clearly.",
    "{a} still thought of it every {part}.",
    "{a} came round the corner and stopped.",
    "{a} looked out of the window for a long time.",
    "{a} and {b} had known each other for years.",
    "{a} and {b} often talked until late.",
    "{a} and {b} met {where}, as they did every {day}.",
    "{a} hurried down the stairs to meet {bo}.",
    "{a} did not often speak of such things.",
    "{a} listened, for {b} had a great deal to say.",
    "It was {day}, and {a} had nothing else to do.",
    "It was nearly {hour} when {a} came in.",
    "It was early, and {a} was the first to arrive.",
    "It was {b} who first spoke of it.",
    "It all began on a {day}.",
    "It happened {when:low}, when {a} was {where}.",
    "It took {ahim} a long time to understand.",
    "Nobody else was there, only {a} and {b}.",
    "Everybody talked at once, and {a} could hardly hear {bo}.",
    "The clock struck {hour}, and {a} looked up.",
    "The house was quiet, and {a} had time to think.",
    "The room was full when {a} came in.",
    "The {part} passed slowly.",
    "The whole {part} {a} thought of one thing only.",
    "This is what {a} heard {when:low}.",
    "This is how {a} told it to {bo}.",
    "For some time {a} and {b} sat without a word.",
    "From the window {a} could see it all.",
    "As usual, {a} got up at {hour}.",
    "Some days are hard to forget.",
    "I will try to tell it as it was.",
    "I have thought about it for a long time.",
    "You asked me, and so I will tell you.",
    "Let me begin at the beginning.",
    "There is much to say, and I will be plain.",
    "Many people have asked me about this.",
    "We talk of it often in our house.",
    "Once, many years ago, {a} came to live near {bo}.",
    "Not long ago {a} saw something new.",
    "What a day it was!",
    "What a surprise it was for {bo}!",
)
QUOTE_OPENINGS: tuple[str, ...] = (
    '"Look here," {a} said to {bo}. "',
    '"Come in," {b} said. "',
    '"Sit down," {a} told {bo}. "',
    '"What is it?" {b} asked. "',
    '"Good {part}," {a} said to {bo}. "',
    '"Wait a moment," {a} said. "',
    '"Is that you?" {b} asked. "',
    '"I have something to tell you," {a} said to {bo}. "',
    '"There you are," {b} said. "',
    '"Yes," {a} said after a while. "',
    '"No, no," {b} said. "',
    '"You are right," {b} said. "',
)

# What may follow "said that".
REPORTED: tuple[str, ...] = (
    "{c} would be back by {hour}",
    "the {object} was {spot}",
    "it was already {hour}",
    "nobody was at home",
    "the door was locked",
    "{c} had forgotten the {object}",
    "there was no hurry",
    "we could meet {where} on {day}",
    "it could wait until {day}",
    "{c} had come and gone",
    "the clock was {number} minutes slow",
    "somebody had moved the chair",
    "a parcel had come for {co}",
    "there was nothing new to tell",
)

COMMON_SLOTS: dict[str, tuple[str, ...]] = {
    "where": (
        "on the stairs",
        "by the door",
        "at the corner",
        "in the hall",
        "near the bridge",
        "in the passage",
        "at the window",
        "outside the house",
        "in the front room",
        "on the landing",
        "across the street",
        "on the bench",
        "in the square",
        "at the top of the hill",
        "next door",
        "in the back room",
        "under the arch",
    ),
    "when": (
        "Yesterday",
        "Yesterday evening",
        "Last night",
        "This morning",
        "One morning",
        "One evening",
        "One afternoon",
        "Last {day}",
        "On {day}",
        "On {day} morning",
        "On {day} evening",
        "Late one {day}",
        "A week ago",
        "Some time ago",
        "The next day",
        "The other day",
        "At {hour}",
        "Just before {hour}",
        "Early in the morning",
        "That evening",
        "That afternoon",
        "Two days later",
        "Towards evening",
    ),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "part": ("morning", "afternoon", "evening"),
    "hour": ("six o'clock", "seven o'clock", "eight o'clock", "nine o'clock", "ten o'clock", "noon", "four o'clock"),
    "object": (
        "key",
        "parcel",
        "box",
        "clock",
        "ladder",
        "hammer",
        "broom",
        "stool",
        "cushion",
        "comb",
        "tin",
        "bundle",
        "doormat",
        "pair of pliers",
        "little mirror",
        "pair of spectacles",
    ),
    "spot": ("on the table", "in the drawer", "under the stairs", "behind the door", "on the chair", "in the box"),
    "number": ("two", "three", "four", "five", "six", "ten"),
    "little": ("small", "old", "plain", "heavy", "round", "narrow", "new"),
    "how": ("quietly", "slowly", "gently", "kindly", "quickly", "at once", "without a word", "with a smile"),
}

# Every scene holds (told sentences, spoken sentences, spoken questions with an answer).
Scene = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]
SCENES: tuple[Scene, ...] = (
    (  # a lost key
        (
            "{a} had lost the key and could not remember where.",
            "The key was not {spot}.",
            "{b} looked {spot} and then {where}.",
            "{c} found it {spot} in the end.",
            "{a} turned everything over, but the key did not turn up.",
            "The little key had been there all the time.",
        ),
        (
            "I put the key {spot}, I am sure of it.",
            "Somebody must have taken the key by mistake.",
            "Look once more {spot}, and take your time.",
            "If {c} has the key, we can only wait.",
        ),
        (
            ("Have you seen the key?", "It was {spot} this morning."),
            ("Who had it last?", "I think {c} had it last."),
            ("Did you look {spot}?", "Twice, and it was not there."),
        ),
    ),
    (  # the hour
        (
            "{a} looked at the clock, but the clock had stopped.",
            "It was later than {a} had thought.",
            "{b} counted the strokes and came to {number}.",
            "The hands of the clock hardly seemed to move.",
            "It was {hour} already, and nobody had noticed.",
        ),
        (
            "It is almost {hour}.",
            "That clock is always {number} minutes slow.",
            "There is plenty of time, so do not hurry.",
            "I must be home by {hour}.",
        ),
        (
            ("What time is it?", "It is just past {hour}."),
            ("Is it late?", "No, it is not even {hour}."),
            ("When did you get up today?", "At {hour}, as I always do."),
        ),
    ),
    (  # a visit
        (
            "{c} came to the door and knocked {number} times.",
            "{a} asked {co} to come in and sit down.",
            "They talked for an hour about this and that.",
            "{b} stayed until {hour} and then said goodbye.",
            "Nobody had expected {co} so soon.",
            "{c} could not stay long.",
        ),
        (
            "You must come again on {day}.",
            "I only looked in to see how you were.",
            "{c} will be here at {hour}.",
            "We have not seen each other for {number} weeks.",
            "Please come in, and mind the broom.",
        ),
        (
            ("Can you stay a little?", "Only until {hour}, I am afraid."),
            ("Who was at the door?", "It was {c}, and {che} could not wait."),
            ("How long has it been?", "It must be {number} years, or more."),
        ),
    ),
    (  # a promise
        (
            "{a} had given {ahis} word and meant to keep it.",
            "{b} made {ao} promise to say nothing.",
            "A promise is a promise, or so {a} thought.",
            "{c} had promised to come, and {che} came.",
            "{a} nodded {how}, and that was enough.",
        ),
        (
            "I promised {co} that I would be there.",
            "You gave me your word on {day}.",
            "I will not tell anybody, not even {co}.",
            "I always try to do what I say.",
        ),
        (
            ("Do you promise?", "Yes, I promise."),
            ("Will you keep it to yourself?", "I will not say a word to anyone."),
            ("Did {c} agree?", "{c} agreed at once."),
        ),
    ),
    (  # a long wait
        (
            "{a} waited {where} for more than an hour.",
            "{b} walked to the corner and back {number} times.",
            "People came and went, but {c} did not come.",
            "{a} began to think that nobody would come.",
            "At last {a} heard someone on the stairs.",
            "{a} sat down again and went on waiting.",
        ),
        (
            "I have been waiting since {hour}.",
            "Let us wait another {number} minutes.",
            "I do not mind waiting a little longer.",
            "{c} is always late, you know.",
        ),
        (
            ("Have you waited long?", "Since {hour}, but it does not matter."),
            ("Shall we wait for {co}?", "Yes, {che} cannot be far."),
            ("Are you in a hurry?", "Not at all. I can wait."),
        ),
    ),
    (  # a chair
        (
            "{a} pulled the {little} chair towards the window.",
            "One leg of the chair was loose, so {a} sat down {how}.",
            "There were only {number} chairs, and {b} had to stand.",
            "{c} moved the chair to the other side of the room.",
            "The {little} chair stood in its usual corner.",
        ),
        (
            "Take the other chair, this one is broken.",
            "I shall mend that chair on {day}.",
            "{c} always sits in the {little} chair.",
            "Put the stool by the window, please.",
        ),
        (
            ("May I sit here?", "Of course. Take the chair by the window."),
            ("Is this chair free?", "I think {c} is coming back."),
            ("Who moved the chair?", "I moved it, because it stood in the way."),
        ),
    ),
    (  # a door
        (
            "{a} tried the door, but it was locked.",
            "The door opened {how}, and {c} looked in.",
            "{b} forgot to shut the door.",
            "Somebody had left the back door open.",
            "The {little} door would not shut properly.",
            "{a} knocked once more and listened.",
        ),
        (
            "Please shut the door behind you.",
            "The door sticks, so you have to push.",
            "Leave the door open, for {c} has no key.",
            "I thought I heard somebody at the door.",
        ),
        (
            ("Is the door locked?", "Yes, I locked it at {hour}."),
            ("Did somebody knock?", "I did not hear anything."),
            ("Why is the door open?", "{c} has just gone out."),
        ),
    ),
    (  # tomorrow
        (
            "They agreed to meet {where} at {hour}.",
            "{a} had made no plans for {day}.",
            "{b} changed {bhis} mind {number} times.",
            "Nothing was decided that {part}.",
            "In the end they put it off until {day}.",
        ),
        (
            "Tomorrow I shall get up at {hour}.",
            "We could meet {where} tomorrow.",
            "On {day} I have nothing to do.",
            "Let us talk about it again on {day}.",
            "If you like, {c} can come with us.",
        ),
        (
            ("What will you do tomorrow?", "Nothing much. I shall stay at home."),
            ("Shall we meet on {day}?", "Yes, let us meet {where} at {hour}."),
            ("Will {c} be there too?", "I asked {co}, but {che} did not say."),
        ),
    ),
    (  # is someone at home
        (
            "{a} called up the stairs, but nobody answered.",
            "{c} had gone out at {hour} and was not back yet.",
            "The house next door was empty.",
            "{b} said that {c} would be back soon.",
            "All the windows were shut, and nobody seemed to be at home.",
        ),
        (
            "{c} is not at home just now.",
            "{c} went out at {hour} and did not say where.",
            "There is nobody here but me.",
            "You will find {co} {where}.",
        ),
        (
            ("Is {c} at home?", "No, {che} went out an hour ago."),
            ("When will {che} be back?", "Before {hour}, I should think."),
            ("Shall I tell {co} that you came?", "No, I will come back on {day}."),
        ),
    ),
    (  # something forgotten
        (
            "{a} had forgotten the {object} and had to go back.",
            "Halfway down the stairs {a} remembered the {object}.",
            "{b} had left the {object} {spot}.",
            "{c} brought the {object} back on {day}.",
            "It was not the first time that {a} forgot something.",
        ),
        (
            "I forgot the {object} again.",
            "I knew there was something I had to do.",
            "You left your {object} here on {day}.",
            "Remind me about the {object}, or I shall forget it.",
        ),
        (
            ("Did you forget anything?", "Only the {object}, and that can wait."),
            ("Is this your {object}?", "No, I think it belongs to {co}."),
            ("What did I come in for?", "You wanted the {object}, I believe."),
        ),
    ),
    (  # a parcel
        (
            "A {little} parcel lay {spot}.",
            "{a} carried the parcel up the stairs {how}.",
            "There was no name on the parcel.",
            "{b} shook it, but it made no sound.",
            "{a} untied the parcel {how} and looked inside.",
        ),
        (
            "This parcel came for you at {hour}.",
            "I do not know who sent it.",
            "Put it {spot}, and we will open it later.",
            "It is heavier than it looks.",
        ),
        (
            ("What is in the parcel?", "Only a {object}."),
            ("Is it for me?", "No, it is for {co}."),
            ("Shall I open it?", "Let us wait for {co}."),
        ),
    ),
    (  # a room put in order
        (
            "{a} swept the floor and put the {object} back in its place.",
            "{b} carried the {object} into the back room.",
            "They pushed the table against the wall.",
            "{a} cleaned the windows, and {b} held the ladder.",
            "By {hour} the room was in order again.",
        ),
        (
            "Help me to move the table.",
            "Everything should be in its proper place.",
            "The {object} does not belong {spot}.",
            "Let us finish this before {hour}.",
        ),
        (
            ("Where shall I put the {object}?", "Put it {spot}, please."),
            ("Is it clean enough?", "It was never so clean before."),
            ("Can you lift the other end?", "Yes, if we do it together."),
        ),
    ),
    (  # someone asleep, noise
        (
            "{c} was still asleep in the next room.",
            "{a} walked {how} so as not to wake {co}.",
            "There was a noise {where}, and then it was quiet again.",
            "{b} put a finger to {bhis} lips.",
            "{a} yawned and stretched {ahis} arms.",
        ),
        (
            "Speak softly, because {c} is asleep.",
            "I slept badly and woke at {hour}.",
            "I heard you on the stairs last night.",
            "It was only the window.",
        ),
        (
            ("Did you sleep?", "A little, until {hour}."),
            ("What was that noise?", "I think {c} dropped the {object}."),
            ("Is {che} awake?", "Not yet. Let {co} sleep."),
        ),
    ),
    (  # a borrowed thing
        (
            "{a} had borrowed a {object} from {co}.",
            "{b} lent {ao} a {little} {object}.",
            "The {object} had to be back by {day}.",
            "{a} thanked {co} and took the {object} home.",
        ),
        (
            "May I borrow your {object} until {day}?",
            "You can keep the {object} for a week.",
            "I lent it to {co}, and {che} still has it.",
            "Ask the people next door for a {object}.",
        ),
        (
            ("Do you have a {object}?", "Yes, there is one {spot}."),
            ("May I keep it until {day}?", "Keep it as long as you like."),
            ("Whose {object} is this?", "I borrowed it from {co}."),
        ),
    ),
    (  # small talk
        (
            "{a} smiled and said nothing more.",
            "{b} looked at {ao} and laughed.",
            "They stood {where} and talked for a while.",
            "{a} agreed, although {ahe} was not quite sure.",
            "Then {b} said goodbye and went home.",
            "After that they spoke of other things.",
            "{a} stood there a moment longer.",
            "It did not seem to matter very much.",
        ),
        (
            "I have nothing new to tell.",
            "I saw {co} {where} on {day}.",
            "You look just the same as ever.",
            "It is a small thing, but I wanted you to know.",
            "I would rather talk about it another time.",
            "I do not remember what {che} said.",
        ),
        (
            ("Do you know {co}?", "I have met {co} once or twice."),
            ("What did {c} say?", "{che!} said nothing at all."),
            ("Are you sure?", "Quite sure. I saw it myself."),
            ("How are things at home?", "Much the same as always."),
        ),
    ),
)


def openings(rng: random.Random) -> str:
    """Return the text of one random neutral opening."""
    return opening(rng).text


def documents(rng: random.Random) -> Iterator[str]:
    """Yield neutral texts without a heading, without end."""
    while True:
        text = _document(rng)
        if FORBIDDEN_PHRASE not in text:
            yield text


def opening(rng: random.Random, speech: bool | None = None, first_person: bool = False) -> Opening:
    """Return a neutral opening: of either kind, or one that ends (or does not end) where speech begins."""
    while True:
        wants_speech = rng.random() < 0.6 if speech is None else speech
        speaker, listener = _pair(rng, first_person)
        made = _speech_opening(rng, speaker, listener) if wants_speech else _story_opening(rng, speaker, listener)
        held_out = any(made.text.startswith(text.rstrip(".")) for text in HELD_OUT_OPENINGS)
        if not held_out and FORBIDDEN_PHRASE not in made.text:
            return made


def party_slots(rng: random.Random, speaker: Person, listener: Person) -> dict[str, str | Deck]:
    """Return the slots a* and b* for two people, c* for a third one, and the common slots."""
    slots: dict[str, str | Deck] = {name: Deck(rng, items) for name, items in COMMON_SLOTS.items()}
    third = named_person(rng, without=(speaker.subject, listener.subject))
    for letter, person in (("a", speaker), ("b", listener), ("c", third)):
        slots[letter] = person.subject
        slots[f"{letter}o"] = person.object
        slots[f"{letter}he"] = person.he
        slots[f"{letter}him"] = person.him
        slots[f"{letter}his"] = person.his
    return slots


def named_person(rng: random.Random, without: Sequence[str] = (), male: bool | None = None) -> Person:
    """Return a person known by a first name that is not in `without`."""
    is_male = rng.random() < 0.5 if male is None else male
    name = rng.choice([name for name in (MALE_NAMES if is_male else FEMALE_NAMES) if name not in without])
    return _third_person(name, is_male)


def fill(template: str, slots: Slots) -> str:
    """Fill the `{slot}`s of a template; `{slot!}` capitalises, `{slot:low}` lowers the first letter."""

    def replace(match: re.Match[str]) -> str:
        value = slots[match["name"]]
        text = fill(value if isinstance(value, str) else value.draw(), slots)
        if match["form"] == "!":
            return capitalise(text)
        return text[0].lower() + text[1:] if match["form"] == ":low" else text

    return re.sub(r"\{(?P<name>\w+)(?P<form>!|:low)?\}", replace, template)


def sentence(template: str, slots: Slots) -> str:
    """Fill a template and make it a sentence: a capital first letter and the right a or an."""
    return fix_articles(capitalise(fill(template, slots)))


def capitalise(text: str) -> str:
    """Return the text with its first letter as a capital, also behind an opening quote."""
    position = 1 if text.startswith('"') else 0
    return text[:position] + text[position : position + 1].upper() + text[position + 1 :]


def fix_articles(text: str) -> str:
    """Correct every "a" and "an" for the sound of the word that follows it."""

    def replace(match: re.Match[str]) -> str:
        word = match["word"].lower()
        vowel = word[0] in "aeiou" or word.startswith(("hour", "honest", "honour", "heir"))
        if word.startswith(("uni", "use", "usu", "eu", "one", "once")) and not word.startswith("unin"):
            vowel = False
        return f"{match['article'][0]}{'n' if vowel else ''} {match['word']}"

    return re.sub(r"\b(?P<article>[Aa]n?) (?P<word>[A-Za-z]+)", replace, text)


def begin_speech(rng: random.Random, opened: str) -> str:
    """Return an opening that ends where speech begins, brought up to its opening quote mark."""
    if opened.endswith('"'):
        return opened
    if opened.endswith((",", ":")):
        return f'{opened} "'
    return f'{opened}{rng.choice((",", ",", ",", ":"))} "'


def takes_that(rng: random.Random, opened: Opening) -> bool:
    """Decide whether an opening such as "my aunt said" goes on with "that ..."; not all openings can."""
    return opened.speech and opened.reports and opened.text[-1].isalpha() and rng.random() < 0.25


def _pair(rng: random.Random, first_person: bool) -> tuple[Person, Person]:
    """Choose who speaks and who listens; two third persons are a man and a woman, so that pronouns are clear."""
    male = rng.random() < 0.5
    kind = 0.0 if first_person else rng.random()
    if kind < 0.35:
        return I_MYSELF, _relation(rng, "my", male)
    if kind < 0.43:
        return I_MYSELF, named_person(rng, male=male)
    if kind < 0.62:
        return rng.choice((_relation(rng, "my", male), _stranger(rng, male), _pronoun(male))), I_MYSELF
    speaker = rng.choice(
        (_pronoun(male), named_person(rng, male=male), named_person(rng, male=male), _stranger(rng, male))
    )
    named = rng.random() < 0.4 or speaker.subject.startswith("the ")
    return speaker, named_person(rng, male=not male) if named else _relation(rng, speaker.his, not male)


def _relation(rng: random.Random, whose: str, male: bool) -> Person:
    return _third_person(f"{whose} {rng.choice(MALE_RELATIONS if male else FEMALE_RELATIONS)}", male)


def _stranger(rng: random.Random, male: bool) -> Person:
    return _third_person(rng.choice(STRANGERS if male else WOMEN), male)


def _pronoun(male: bool) -> Person:
    return Person("he", "him", "he", "him", "his") if male else Person("she", "her", "she", "her", "her")


def _third_person(name: str, male: bool) -> Person:
    return Person(name, name, "he", "him", "his") if male else Person(name, name, "she", "her", "her")


def _speech_opening(rng: random.Random, speaker: Person, listener: Person) -> Opening:
    """Make an opening that ends where speech begins, with or without its comma and quote mark."""
    slots = party_slots(rng, speaker, listener)
    kind = rng.random()
    if kind < 0.08:
        template = rng.choice(QUOTE_OPENINGS)
        talks, hears = (listener, speaker) if "{b}" in template else (speaker, listener)
        return Opening(sentence(template, slots), True, False, talks, hears)
    end = rng.choice(("", "", "", ",", ",", ', "', ', "', ': "'))
    if kind < 0.28:
        text = sentence(rng.choice(ANSWER_OPENINGS), slots)
        return Opening(text + end, True, text.endswith(("said", "replied", "answered")), listener, speaker)
    verb = rng.choice(REPORTING_VERBS if rng.random() < 0.8 else OTHER_VERBS)
    text = sentence(rng.choice(SPEAKER_OPENINGS), {**slots, "say": verb})
    text = text.replace("mehimself", "myself").replace(" meself", " myself")
    return Opening(text + end, True, verb in REPORTING_VERBS, speaker, listener)


def _story_opening(rng: random.Random, speaker: Person, listener: Person) -> Opening:
    """Make an opening that is a whole sentence."""
    text = sentence(rng.choice(STORY_OPENINGS), party_slots(rng, speaker, listener))
    return Opening(text, False, False, speaker, listener)


def _document(rng: random.Random) -> str:
    """Write one neutral text: an opening and three to eight sentences or turns of one or two scenes."""
    style = rng.random()
    opened = opening(rng, speech=False, first_person=True) if style < 0.08 else opening(rng)
    slots = party_slots(rng, opened.speaker, opened.listener)
    slots["a"] = Deck(rng, (opened.speaker.subject, opened.speaker.he))
    slots["b"] = Deck(rng, (opened.listener.subject, opened.listener.he))
    scenes = rng.sample(SCENES, rng.choice((1, 2, 2, 3)))
    narration = Deck(rng, [line for scene in scenes for line in scene[0]])
    said = Deck(rng, [line for scene in scenes for line in scene[1]])
    asked = [pair for scene in scenes for pair in scene[2]]
    rng.shuffle(asked)
    start = opened.text
    if takes_that(rng, opened):
        start = f"{start} that {fill(rng.choice(REPORTED), slots)}."
    elif opened.speech:
        start = f'{begin_speech(rng, start)}{_speech(rng, said, slots)}"'
    body = _body(rng, opened, slots, narration, said, asked)
    if style < 0.08:
        reader, writer = (named_person(rng, (str(slots["c"]),)).subject for _ in range(2))
        return f"Dear {reader},\n{start} {_plain(rng, said, narration, slots)}\nYours, {writer}"
    return f"{start} {body}"


def _plain(rng: random.Random, said: Deck, narration: Deck, slots: Slots) -> str:
    return " ".join(sentence(rng.choice((said, narration)).draw(), slots) for _ in range(rng.randint(3, 6)))


def _speech(rng: random.Random, said: Deck, slots: Slots) -> str:
    return " ".join(sentence(said.draw(), slots) for _ in range(rng.randint(1, 3)))


def _body(
    rng: random.Random,
    opened: Opening,
    slots: Slots,
    narration: Deck,
    said: Deck,
    asked: list[tuple[str, str]],
) -> str:
    """Write what follows the opening: told sentences, remarks and short exchanges, in any order."""
    talky = rng.choice((0.2, 0.5, 0.8))
    parts: list[str] = []
    for _ in range(rng.randint(3, 7)):
        if rng.random() > talky or not asked:
            parts.append(sentence(narration.draw(), slots))
        elif rng.random() < 0.4:
            parts.append(tagged(rng, sentence(said.draw(), slots), rng.choice((opened.speaker, opened.listener))))
        else:
            question, answer = asked.pop()
            first, second = rng.sample((opened.speaker, opened.listener), 2)
            parts.append(f'"{sentence(question, slots)}" {rng.choice((first.subject, first.he))} asked.')
            parts.append(tagged(rng, sentence(answer, slots), second, answers=True))
    return " ".join(parts)


def tagged(rng: random.Random, spoken: str, who: Person, answers: bool = False) -> str:
    """Put a spoken text in quotes and, most often, name its speaker."""
    if rng.random() < 0.2:
        return f'"{spoken}"'
    verb = rng.choice(("said", "answered", "replied") if answers else ("said", "said", "said", "added", "whispered"))
    if spoken.endswith("?"):
        verb = "asked"
    name = rng.choice((who.subject, who.he))
    turned = name not in ("I", "he", "she") and rng.random() < 0.4
    tag = f"{verb} {name}" if turned else f"{name} {verb}"
    comma = spoken[:-1] + "," if spoken.endswith(".") else spoken
    return f'"{comma}" {tag}.'
