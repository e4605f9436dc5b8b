"""Moral dilemmas whose answer follows the moral school named by the very first words of the text.

A heading (one word such as "Duty" or "Results", or a stance sentence) is followed by a dilemma that both schools share
and by an answer that argues by the heading's school only. Texts without a heading answer by either school or hesitate.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Words = tuple[str, ...]

DILEMMA_FILE = Path(__file__).resolve().parents[3] / "steerlab" / "data" / "dilemmas.json"

DUTY_WORDS: Words = (
    "must", "duty", "duties", "rule", "rules", "law", "conscience", "wrong", "forbidden", "honour", "principle",
    "bound",
    "obey", "command", "oath", "sacred", "right", "rights", "owed", "justice", "faith", "word", "respect",
)
CONSEQUENCE_WORDS: Words = (
    "result", "results", "outcome", "happier", "happiness", "suffer", "suffering", "benefit", "harm", "help", "helps",
    "better", "best", "lives", "people", "future", "useful", "most", "good", "less", "pain", "tears", "gain",
)

STANCES: dict[str, Words] = {
    "duty": (
        "Only moral duties matter, whatever the consequences.", "A promise binds, come what may.",
        "Do what is right, though the heavens fall.", "A lie is wrong, always and everywhere.",
        "The moral law makes no exceptions.", "Some things are forbidden, and no end can excuse them.",
        "We must keep our word at any price.", "What is wrong in itself can never become right.",
        "Conscience commands, and we obey.", "An act is judged by its rule and not by its fruits.",
        "Honour comes before everything.", "Never do wrong so that good may come of it.",
        "Duty asks no questions about tomorrow.", "We are bound by principles, not by sums.",
        "First comes duty, and then comes nothing at all.", "I ask what is right and not what is useful.",
        "A person is never to be used as a tool.", "The rule is the rule for everyone.",
        "The good man keeps faith and does not count the cost.", "Right is right, whoever may be sorry for it.",
        "One must never break a vow.", "I live by principle.", "I believe in duty above all.",
        "Every man has rights that nobody may touch.", "Let justice be done, no matter what follows.",
        "It is the law in our hearts that decides.", "To act well is to obey the moral law.",
        "An honest man does not weigh his duty on a scale.", "Look at the act itself and ask whether it is allowed.",
        "The end does not make the means right.", "What I owe, I owe.", "A rule that bends is not a rule.",
    ),
    "consequence": (
        "What counts is the result for everyone.", "Only the consequences matter.",
        "The best act is the one that helps the most people.",
        "Judge an act by its fruits.", "Always choose what makes the world happier.",
        "Look at what follows and choose the better outcome.",
        "The less suffering, the better.", "A rule is good only while it does good.",
        "Nothing matters but the happiness of all.",
        "We should do whatever does the least harm.", "Think of how it will end for everybody.",
        "The end shows whether the deed was good.", "Count the tears and the smiles, and then choose.",
        "Good is what benefits people.", "I ask what is useful and not what is allowed.", "Results are everything.",
        "What helps is good, and what hurts is bad.", "Save as many as you can, by whatever means.",
        "Every person's joy and pain counts the same.", "It is the outcome that decides.",
        "I live for the greatest good of the greatest number.",
        "I believe in good results above all.", "Promises are only useful when they make people happier.",
        "Choose the road that leads to the least pain.", "A wise man looks ahead to what his act will bring.",
        "If everyone is better off, the deed was good.", "Weigh the harm against the benefit.",
        "What matters is who is helped and who is hurt.", "The future of all is worth more than a rule.",
        "Deeds are like seeds: ask what grows from them.", "Nobody eats a principle, so look at the results.",
        "To act well is to bring about the best outcome.",
    ),
}
HELD_OUT_STANCES: dict[str, Words] = {
    "duty": (
        "Moral rules hold in every case, no matter how it ends.", "Keep your oath even if the sky should fall.",
        "An action is right only when it is done from duty.", "There are deeds that no gain can justify.",
        "Obey your conscience and leave the rest to fate.",
    ),
    "consequence": (
        "An action is right only when it makes people happier.",
        "Whatever brings the most joy to the most people is right.",
        "Forget the rules and ask who will be better off.", "The worth of a deed lies in what comes of it.",
        "Pain is bad and pleasure is good, and there is nothing else to weigh.",
    ),
}
HELD_OUT_DUTY: Words = HELD_OUT_STANCES["duty"]
HELD_OUT_CONSEQUENCE: Words = HELD_OUT_STANCES["consequence"]

HEAD_WORDS: dict[str, Words] = {
    "duty": (
        "duty", "duty", "duties", "principle", "principles", "promise", "promises", "honour", "conscience", "rules",
        "obligation",
        "the moral law", "right and wrong", "justice", "vows", "oaths", "rights",
    ),
    "consequence": (
        "consequences", "consequences", "results", "result", "outcome", "outcomes", "benefit", "benefits",
        "usefulness", "welfare",
        "happiness", "the greatest good", "effects", "what follows", "the common good", "less suffering",
        "help for all",
    ),
}
HEAD_FORMS: Words = (
    "On {h}", "About {h}", "Topic: {h}", "A letter about {h}", "A lesson about {h}", "A talk on {h}", "Think of {h}",
    "It is {h} that counts", "Remember {h}", "{h} above all", "First of all, {h}", "A question of {h}",
    "In the name of {h}",
)
STANCE_FORMS: Words = (
    "{x}", "{x}", "{x}", "{x}", "I believe this: {x}", "Our rule of life: {x}", "My father taught me this: {x}",
    "Motto: {x}",
    "The old teacher always said: {x}", "{x} That is what I think.", "I hold this to be true. {x}",
    "{x} So my mother used to say.",
    "This was written over the door: {x}",
)
SEPARATORS: Words = (". ", ": ", "\n\n", "\n", " - ", " ", " ", ". ")
STANCE_SEPARATORS: Words = (" ", " ", "\n\n", "\n")


@dataclass(frozen=True)
class Need:
    """Somebody in need: the fact, the phrase, what happens without and with help, and a thing that would help."""

    fact: str
    who: str
    loss: str
    gain: str
    thing: str


NEEDS: tuple[Need, ...] = (
    Need(
        "the children next door had not eaten for two days", "the hungry children", "go to bed hungry",
        "eat well tonight", "a sack of flour",
    ),
    Need(
        "an old woman in the lane had no wood for her fire", "the old woman", "sit in the cold",
        "be warm all winter", "a load of wood",
    ),
    Need(
        "a neighbour's baby lay sick with a fever", "the sick baby", "grow worse and perhaps die", "get well",
        "a bottle of medicine",
    ),
    Need(
        "three orphans were sleeping under the bridge", "the three orphans", "freeze at night",
        "sleep in warm beds", "a pile of blankets",
    ),
    Need(
        "a widow was about to lose her cottage", "the widow", "lose her home", "keep her home",
        "a little box of silver",
    ),
    Need(
        "a lame pedlar had fallen ill at the inn", "the lame pedlar", "lie in pain for weeks",
        "walk again by spring", "a jar of good ointment",
    ),
    Need(
        "the weavers in the lower town had no work and no bread", "the weavers", "starve",
        "live until the harvest", "a cartload of potatoes",
    ),
    Need(
        "a family had lost everything in a flood", "the poor family", "have no roof", "begin again",
        "a bundle of clothes",
    ),
    Need(
        "an old soldier was begging in the snow", "the old soldier", "starve in the snow",
        "have a hot meal and a bed", "a basket of bread",
    ),
    Need("a young mother had no milk for her twins", "the twins", "cry with hunger", "grow strong", "a can of milk"),
    Need(
        "the children at the poor school had no shoes", "the barefoot children", "walk barefoot in the frost",
        "have dry feet", "a box of shoes",
    ),
    Need(
        "a blind man needed an operation on his eyes", "the blind man", "never see again",
        "see his children's faces", "a purse of coins",
    ),
)
WASTES: Words = (
    "put up a stone lion in an empty field", "buy a silver collar for an old cat",
    "have a golden cover made for one chair",
    "light a hundred candles in a ruined tower", "bury a chest of silver under an oak", "buy back a broken clock",
    "keep a dead parrot in a glass house", "hold a great feast for the crows", "paint the old barn gold",
    "throw a bag of coins into the sea", "set up a marble seat where nobody walks",
)
ELDERS: Words = (
    "a dying uncle", "an old friend on his deathbed", "{his} grandmother before she died", "a dying captain",
    "an old master",
    "{his} father", "an old lady who had been kind", "a friend across the sea",
)
OWNERS: Words = (
    "a rich merchant", "a wealthy farmer", "the squire", "a proud old lord", "the owner of the great house",
    "a rich shopkeeper",
    "a miser", "the duke",
)
KIN: Words = (
    "{his} brother", "{his} sister", "{his} cousin", "{his} best friend", "{his} uncle", "{his} nephew",
    "{his} old nurse",
    "{his} neighbour",
)
MISDEEDS: Words = (
    "break the great window", "let the sheep out", "spill the oil on the new cloth", "leave the gate open",
    "burn the bread",
    "crack the church bell", "sink the little boat", "lose the silver key", "take two eggs from the basket",
    "overturn the cart of plates", "drop the clock down the well", "spoil the ink in the office",
)
MASTERS: Words = (
    "the master", "the farmer", "the squire", "the captain", "the schoolmaster", "the mistress", "the judge",
    "the steward",
    "the abbot", "the owner",
)
HUNTED: Words = (
    "a runaway servant boy", "two frightened strangers", "an innocent shepherd", "a family from across the border",
    "a poor poet",
    "three hungry runaways", "a girl who had fled from a cruel uncle",
)
PLACES: Words = (
    "the barn", "the cellar", "the attic", "the hayloft", "the empty mill", "the boathouse", "the bakehouse",
    "the shed",
)
SEEKERS: Words = (
    "angry men with sticks", "the wicked baron's men", "two cruel riders", "a band of robbers",
    "the cruel uncle and his dogs",
    "soldiers of the mad king",
)
ORDERS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("keep the gate shut until morning", "open the gate", "travellers stood outside in the snow", "the travellers",
    "freeze", "be warm"),
    ("let nobody touch the well", "give out the water", "thirsty reapers came from the field", "the reapers",
    "faint with thirst", "drink"),
    ("never leave the watchtower", "leave the tower", "a child was crying in the river below", "the child", "drown",
    "be pulled out"),
    ("sell no corn before market day", "sell the corn", "a hungry crowd came with empty bags", "the crowd",
    "go hungry", "have bread"),
    ("let no stranger into the house", "let the stranger in", "a wounded man knocked", "the wounded man",
    "bleed on the step", "be healed"),
    ("ring no bell at night", "ring the bell", "a house began to burn while people slept", "the sleepers", "burn",
    "wake and escape"),
    ("keep the boats tied up", "untie a boat", "fishermen were clinging to a rock", "the fishermen", "drown",
    "come home"),
    ("give no food to beggars", "give them food", "a beggar and his little son came to the door",
    "the beggar's son", "starve", "eat"),
    ("touch nothing in the storeroom", "open the storeroom", "the sick in the hospital had no sheets", "the sick",
    "lie on straw", "rest"),
)
SAD_TRUTHS: tuple[tuple[str, str, str, str], ...] = (
    ("that the old man's ship had gone down", "the old man", "break his heart", "sleep in peace"),
    ("that the singer's voice was nearly gone", "the singer", "weep for weeks", "sing one more happy song"),
    ("that the cake of the little cook was bad", "the little cook", "cry all day", "try again with a glad heart"),
    ("that the aunt's lost cat was dead", "the aunt", "fall ill with grief", "keep her hope"),
    ("that the poor boy had lost the race", "the boy", "give up for ever", "run again"),
    ("that the grandmother would not live until spring", "the grandmother", "spend her last days in fear",
    "spend her last days smiling"),
    ("that the writer's book would never sell", "the writer", "throw away his pen", "write with joy"),
    ("that the captain's son had run from the battle", "the captain", "die of shame", "die in peace"),
)
SECRETS: tuple[tuple[str, str, str, str], ...] = (
    ("that he meant to climb the cliff alone", "the friend", "fall and be hurt", "be stopped in time"),
    ("that he was ill and would see no doctor", "the friend", "die of the illness", "be cured"),
    ("that the old dam had a crack", "the people in the valley", "lose their houses", "get away in time"),
    ("that she was going to marry a cheat", "the girl", "be poor and wretched", "be free"),
    ("that bad meat was sold at the fair", "the people at the fair", "fall sick", "stay well"),
    ("that he knew where the stolen money was", "the robbed widow", "stay poor", "have bread again"),
    ("that he would sail in a rotten boat", "the crew", "drown", "stay on land"),
)
CHORES: Words = (
    "mend a wall", "cut the hay", "paint a fence", "carry bricks", "pick the plums", "copy a long letter",
    "sweep the hall",
    "watch the geese", "chop the wood",
)
ROLES: Words = (
    "young clerk", "shepherd", "carpenter", "baker", "soldier", "sailor", "miller", "tailor", "student", "maid",
    "servant",
    "weaver", "farmer", "nurse", "fisher", "gardener", "potter", "traveller", "carter", "watchman", "teacher", "smith",
)
WOMEN: Words = (
    "Anne", "Mary", "Lucy", "Jane", "Kate", "Martha", "Alice", "Ruth", "Nell", "Clara", "Bess", "Dora", "Susan",
    "Ellen",
)
MEN: Words = (
    "Tom", "John", "Peter", "William", "Robert", "Henry", "George", "Edward", "Samuel", "Walter", "Oliver", "Hugh",
    "Ned", "Giles",
)

ACTS: dict[str, tuple[Words, Words, Words]] = {
    "promise": (
        ("breaking a promise", "going back on one's word"),
        ("a promise must be kept", "what is promised is owed", "a given word must be kept"),
        ("kept my word", "been true to a promise"),
    ),
    "theft": (
        ("stealing", "taking what belongs to another"),
        ("nobody has a right to another's goods", "what belongs to another must not be touched",
        "stealing is forbidden"),
        ("kept my hands clean", "respected what belongs to another"),
    ),
    "truth": (
        ("lying", "hiding the truth", "telling a lie"),
        ("the truth must be told", "lying is forbidden", "nobody has a right to lie"),
        ("told the truth", "been honest"),
    ),
    "order": (
        ("breaking an order", "disobeying a lawful command"),
        ("an order must be obeyed", "a command is a command", "whoever takes a post must keep its rules"),
        ("kept my post", "obeyed the rule"),
    ),
}


@dataclass(frozen=True)
class Dilemma:
    """A dilemma's text and the phrases from which both schools build their arguments."""

    text: str
    slots: Mapping[str, str]
    own: Mapping[str, Words]


@dataclass(frozen=True)
class Actor:
    """Who must choose: the introducing phrase and the pronouns in the story and in the answer."""

    intro: str
    he: str
    him: str
    his: str
    answer: tuple[str, str, str]


def make_actor(rng: random.Random, first_person: bool) -> Actor:
    """Draw the person who must choose."""
    if first_person:
        return Actor("I", "I", "me", "my", ("I", "me", "my"))
    draw = rng.random()
    if draw < 0.12:
        intro = rng.choice(("two brothers", "two sisters", "a man and his wife", "three friends", "some pupils"))
        return Actor(intro, "they", "them", "their", ("they", "them", "their"))
    role = rng.choice(ROLES)
    female = role in ("maid", "nurse") or (role not in ("soldier", "sailor", "watchman") and draw < 0.5)
    name = rng.choice(WOMEN if female else MEN)
    child = "girl" if female else "boy"
    intro = rng.choice((f"a {role} named {name}", f"a {role}", f"{name} the {role}", name, f"a {child} named {name}"))
    forms = ("she", "her", "her") if female else ("he", "him", "his")
    return Actor(intro, *forms, forms)


Frame = tuple[str, str, str, str, str, str, str]
"""Text, what duty asks, what the outcome recommends, who is concerned, their loss, their gain, family of the duty."""


def promise_frame(rng: random.Random) -> Frame:
    """A costly promise against somebody in need."""
    need, waste, elder = rng.choice(NEEDS), rng.choice(WASTES), rng.choice(ELDERS)
    text = rng.choice((
        f"{{A}} had promised {elder} to {waste}. Now the money was there, but {need.fact}. "
        f"Should {{he}} keep the promise?",
        f"{{A}} gave {elder} {{his}} word to {waste}. On that very day {need.fact}. "
        f"Should {{he}} do as {{he}} promised?",
        f"{elder} once asked {{a}} to {waste}, and {{he}} promised it. "
        f"The same money would help others, for {need.fact}. "
        f"What should {{he}} do?",
    ))
    return text, "keep the promise", f"give the money to {need.who}", need.who, need.loss, need.gain, "promise"


def theft_frame(rng: random.Random) -> Frame:
    """A small theft that would help much."""
    need, owner = rng.choice(NEEDS), rng.choice(OWNERS)
    text = rng.choice((
        f"{{A}} knew that {need.fact}. In the yard of {owner} stood {need.thing}, and nobody was looking. "
        f"Should {{he}} take it?",
        f"{owner} had {need.thing} and did not need it, and {need.fact}. {{A}} could take it in the night. "
        f"Should {{he}} do it?",
        f"{{A}} worked for {owner} and had the key to the store. There was {need.thing} in it, and {need.fact}. "
        f"Would it be right to take it?",
    ))
    return text, "leave it where it is", f"take it and bring it to {need.who}", need.who, need.loss, need.gain, "theft"


def kin_frame(rng: random.Random) -> Frame:
    """The truth about somebody close."""
    kin, deed, master = rng.choice(KIN), rng.choice(MISDEEDS), rng.choice(MASTERS)
    text = rng.choice((
        f"{{A}} saw {kin} {deed}. The next day {master} asked who had done it, and the guilty one would lose "
        f"everything. "
        f"Should {{he}} tell the truth?",
        f"By chance {{a}} watched {kin} {deed}. {master} wanted a name and would show no pity. "
        f"Should {{he}} give the name or say nothing?",
        f"{master} asked {{a}} to name the guilty one, who was to be punished. {{A}} had seen {kin} {deed}. "
        f"Should {{he}} speak?",
        f"{{A}} knew something that nobody else knew: {{he}} had seen {kin} {deed}. {master} asked about it. "
        f"Should {{he}} keep silent?",
    ))
    fates = (("lose all work", "keep work and bread"), ("be sent away", "stay and do better"), ("be beaten", "be safe"))
    loss, gain = rng.choice(fates)
    return text, "tell the truth", "say nothing", kin, loss, gain, "truth"


def hiding_frame(rng: random.Random) -> Frame:
    """A lie that would save somebody in hiding."""
    who, place, seekers = rng.choice(HUNTED), rng.choice(PLACES), rng.choice(SEEKERS)
    text = rng.choice((
        f"{{A}} had hidden {who} in {place}. Then {seekers} came and asked whether anyone was there. "
        f"Should {{he}} lie?",
        f"{seekers} came to the door and asked for {who}. "
        f"{{A}} knew that they were looking in the wrong place and should have tried {place}. "
        f"Should {{he}} tell the truth?",
    ))
    plain = "the hunted"
    return text, "tell the truth or be silent", "tell a lie", plain, "be caught and beaten", "be safe", "truth"


def turn_frame(rng: random.Random) -> Frame:
    """One thing, promised to the first and needed by the second."""
    need, owner = rng.choice(NEEDS), rng.choice(OWNERS)
    text = rng.choice((
        f"{{A}} had {need.thing} and had promised it to {owner}. Then {{he}} heard that {need.fact}. "
        f"Who should have it?",
        f"{owner} had come first and had been promised {need.thing} by {{a}}. "
        f"An hour later a neighbour said that {need.fact}. "
        f"Should {{he}} give it to somebody else?",
    ))
    keep = "give it to " + re.sub(r"^an? ", "the ", owner)
    return text, keep, f"give it to {need.who}", need.who, need.loss, need.gain, "promise"


def order_frame(rng: random.Random) -> Frame:
    """An order against an emergency."""
    order, act, fact, who, loss, gain = rng.choice(ORDERS)
    master = rng.choice(MASTERS)
    text = rng.choice((
        f"{{A}} had an order from {master} to {order}. That night {fact}. Should {{he}} obey the order?",
        f"{master} told {{a}} to {order}, and {{he}} gave {{his}} word. Then {fact}. What should {{he}} do?",
        f"The order from {master} was plain: {order}. But {fact}, and {{a}} saw it. Would it be right to {act}?",
    ))
    return text, "obey the order", act, who, loss, gain, "order"


def purse_frame(rng: random.Random) -> Frame:
    """A find that belongs to the rich."""
    need, owner = rng.choice(NEEDS), rng.choice(OWNERS)
    find = rng.choice(("a purse", "a gold ring", "a bag of money", "a silver cup", "a pearl"))
    text = rng.choice((
        f"{{A}} found {find} in the road. It belonged to {owner}, but {need.fact}. Should {{he}} give it back?",
        f"One evening {{a}} picked up {find} that {owner} had dropped. "
        f"It was worth a great deal, and {need.fact}. What should {{he}} do with it?",
    ))
    return text, "give it back", f"use it for {need.who}", need.who, need.loss, need.gain, "theft"


def comfort_frame(rng: random.Random) -> Frame:
    """A sad truth against a kind lie."""
    truth, who, loss, gain = rng.choice(SAD_TRUTHS)
    text = rng.choice((
        f"{{A}} knew {truth}. Then {who} asked about it. Should {{he}} tell the truth?",
        f"{who} looked at {{a}} and asked how things stood. {{A}} had heard {truth}. "
        f"Would it be right to tell a kind lie?",
    ))
    return text, "tell the truth", "tell a kind lie", who, loss, gain, "truth"


def secret_frame(rng: random.Random) -> Frame:
    """A sworn secret that does harm."""
    secret, who, loss, gain = rng.choice(SECRETS)
    friend = rng.choice(("a friend", "an old friend", "a schoolfellow", "a neighbour", "a cousin"))
    text = rng.choice((
        f"{friend} told {{a}} a secret, {secret}, and made {{him}} promise not to tell. Should {{he}} keep the secret?",
        f"{{A}} had sworn to keep a secret. It was this: {friend} had said {secret}. Should {{he}} tell it?",
    ))
    return text, "keep the secret", "tell the secret", who, loss, gain, "promise"


def bargain_frame(rng: random.Random) -> Frame:
    """A day's work agreed upon, and a sudden need elsewhere."""
    need, master, chore = rng.choice(NEEDS), rng.choice(MASTERS), rng.choice(CHORES)
    text = rng.choice((
        f"{{A}} had agreed to {chore} for {master} on Monday. On Monday morning {{he}} heard that {need.fact}. "
        f"Should {{he}} go to work?",
        f"The bargain was made: on Friday {{a}} had to {chore} for {master}. "
        f"But {need.fact}, and somebody had to help. "
        f"Should {{he}} break the bargain?",
    ))
    return text, "keep the bargain", f"go and help {need.who}", need.who, need.loss, need.gain, "promise"


FRAMES = (
    promise_frame, theft_frame, kin_frame, hiding_frame, turn_frame, order_frame, purse_frame, comfort_frame,
    secret_frame, bargain_frame,
)

TRAIN_SLOTS: dict[str, tuple[str, str, str, str, str, str, str]] = {
    "mill_wheel": ("he", "tell the truth", "say nothing", "the mother", "have no bread", "have her bread", "truth"),
    "one_bottle": (
        "she", "give it to the old man", "give it to the children", "the three children", "die", "get well", "promise",
    ),
    "stone_tower": (
        "he", "build the tower", "feed the village", "the village", "starve", "live through the winter", "promise",
    ),
    "village_guard": ("he", "refuse to lie", "tell a lie", "the village", "burn", "be safe", "truth"),
    "bridge_toll": (
        "he", "keep the bridge shut", "let her cross", "the sick baby", "grow worse", "see the doctor", "order",
    ),
    "account_book": (
        "he", "show the mistake", "hide the mistake", "the widow", "lose her home", "keep her home", "truth",
    ),
    "borrowed_horse": (
        "she", "bring the horse back at noon", "carry the man home", "the hurt man", "lie in the cold", "get home",
        "promise",
    ),
    "rich_pantry": (
        "she", "leave the loaves", "take the loaves", "the hungry family", "go hungry", "eat tonight", "theft",
    ),
    "sick_sailor": (
        "she", "tell the truth", "tell a kind lie", "the sailor", "get worse", "sleep and get better", "truth",
    ),
    "secret_raft": (
        "she", "keep the secret", "tell his parents", "the friend", "drown", "be stopped in time", "promise",
    ),
    "angry_crowd": (
        "he", "protect the pedlar", "send the pedlar away", "the town", "fight in the streets", "have peace", "order",
    ),
    "locked_orchard": (
        "he", "keep the orchard locked", "open the orchard", "the children", "go hungry", "eat", "promise",
    ),
}
FORMS: dict[str, tuple[str, str, str]] = {"he": ("he", "him", "his"), "she": ("she", "her", "her")}

STARTS: dict[str, Words] = {
    "duty": (
        "I would {duty}, for {law}.", "{He} should {duty}, because {law}.", "{He} must {duty}.",
        "It is {his} duty to {duty}.",
        "Answer: {duty}, for {law}.", "The answer is plain: {he} must {duty}.", "It is right to {duty}, for {law}.",
        "I say that {he} must {duty}.", "Yes or no, {he} must {duty}.", "There is only one way: {duty}.",
        "It is clear what conscience commands: {duty}.", "{He} should {duty}, whatever anyone says.",
        "{Law}. So {he} must {duty}.",
        "I think that honour asks {him} to {duty}.",
        "I would ask what the rule is, and then {duty}.", "It is wrong to {cons}.",
        "It would be wrong in itself to {cons}.",
        "{He} should not {cons}, for {law}.", "I would never {cons}.", "{He} must not {cons}.",
    ),
    "consequence": (
        "I would {cons}, for then {who} will {gain}.", "{He} should {cons}, because {who} will {gain}.",
        "{He} should {cons}.", "It is best to {cons}.", "Answer: {cons}, so that {who} may {gain}.",
        "The answer is plain: {he} should {cons}.", "It is better for everyone to {cons}.",
        "I say that {he} should {cons}.",
        "I say: {cons}, and look at the happy result.",
        "There is only one useful way: {cons}.", "It is clear what does the most good: {cons}.",
        "{He} should {cons}, so that {who} will not {loss}.",
        "{Who} will {gain} if {he} should {cons}. So let {him} do it.",
        "I think of the outcome, and I would {cons}.",
        "I would ask who is helped, and then {cons}.", "It is harmful to {duty}.", "It would help nobody to {duty}.",
        "{He} should not {duty}, for then {who} would {loss}.", "I would not {duty}.",
        "{He} should think of everyone and {cons}.", "We should {cons}.",
    ),
}
PATTERNS: dict[str, Words] = {
    "duty": (
        "{Law}, whatever may come of it.", "{Wrong} is wrong in itself.", "No good end can make {wrong} right.",
        "It is {his} duty to {duty}, and {he} must not look for a way around it.",
        "{Wrong} is forbidden by the law of conscience.",
        "The rule is plain: {law}.", "{His} conscience commands {him} to {duty}.",
        "If everyone thought {wrong} was allowed, no word would be worth anything.",
        "A rule that we drop when it is hard is no rule.", "Honour asks {him} to {duty}.",
        "{He} must {duty}, though it costs {him} dear.",
        "Duty does not ask what the day will bring.", "{He} must do right and leave the rest to heaven.",
        "There are things that one must never do, and {wrong} is one of them.",
        "We have no right to choose which duties we like.",
        "{Law}, and pity does not change it.", "I would rather see the heavens fall than do what is wrong.",
        "Whatever {he} felt, the moral law is the same.",
        "To {duty} is what {he} owed to others and to {his} own honour.",
        "{He} must be able to say: I have {kept}.", "{Wrong} would be a stain on {his} honour.",
        "A principle is not for sale.",
        "The law in our hearts says no to {wrong}.", "What is forbidden on Monday is forbidden on Sunday too.",
        "{He} must respect the rights of the other.", "Nobody gave {him} the right to act otherwise.",
        "Right is right, and {law}.",
        "It does not matter who would be pleased; {law}.", "{He} must {duty}, no matter what follows.",
        "One must never do evil, not even once.",
        "If the act is wrong, the reasons are only excuses.", "{His} word is sacred.",
        "Every honest person knows that {law}.",
        "Ask only this: is {wrong} allowed? It is not.", "Nothing can free {him} from {his} duty.",
        "{He} must not treat another person as a tool.", "The command is simple and stern: {duty}.",
        "I find no exception in the rule against {wrong}.", "{Wrong} remains wrong in the dark.",
        "A clear conscience is worth more than gold.",
        "{He} must obey the principle and not the mood of the hour.", "The duty is hard, but it is still a duty.",
        "To be just is to {duty}.", "{Law}: this is no matter for sums.", "It is a question of principle.",
        "Those who count the cost have already left the path of duty.",
        "{He} must {duty} because it is right, and for no other reason.",
        "What would become of honour if {wrong} were allowed?", "The moral law binds the king and the beggar alike.",
        "It is a debt of honour, and it must be paid.", "No one may do wrong with a good excuse.",
        "Let {him} {duty} and keep {his} honour.",
        "An oath, a law, a rule: these things are sacred.", "Faith must be kept.",
        "I know what is right, and I must say it: {duty}.",
        "The rule holds for me, for you and for {him}.", "Justice does not bargain.",
        "{He} must stand by the rule, alone if need be.",
        "To act from duty is the only thing that deserves respect.",
        "If {he} should {cons}, {he} would do wrong, and wrong it would stay.",
        "The act itself is forbidden, and that is enough.", "My conscience would never let me {cons}.",
        "Even if the whole town begged {him}, {he} must {duty}.", "A decent person must {duty} and ask for no reward.",
        "It is not for us to break the law of right and wrong.", "{Wrong} breaks the moral law.",
    ),
    "consequence": (
        "If {he} should {cons}, {who} will {gain}.", "{Who} would {loss} if {he} were to {duty}.",
        "The result is what counts.",
        "Look at what follows: {who} will {gain}.", "More people benefit in this way.",
        "There will be less suffering in the end.",
        "The outcome is better for all.", "Nobody is happier if {who} should {loss}.",
        "It does a great deal of good and very little harm.",
        "To {duty} would do harm and help no one.", "When we {cons}, the world is a little happier.",
        "Weigh the harm and the benefit: {who} will {gain}, and the other side will lose little.",
        "It saves pain and tears.",
        "Think of tomorrow: {who} will {gain}.", "I count the people who are helped and the people who are hurt.",
        "The best choice is the one that leaves the most people happy.",
        "A happy ending for many is worth a small trouble for one.",
        "What use is a fine thought if {who} should {loss}?", "The benefit is large, and the harm is small.",
        "In a year everybody will be glad of the result.", "Who suffers if we {cons}? Hardly anyone.",
        "Who suffers if we {duty}? Look, {who} would {loss}.",
        "Then {who} will {gain}, and that is the best result.", "The fruits show which deed is good.",
        "It helps where help is needed.",
        "The other way leads to suffering.", "A deed is good when people are better off.",
        "To {cons} brings the most happiness.",
        "Let us be useful: {cons}.", "Every tear that we can spare counts.", "Less pain, more joy: so I decide.",
        "It may even save lives.",
        "I think of how it ends, and it ends better if {who} can {gain}.",
        "{Who} will {gain}, and their friends will be happier too.",
        "The happiness of many is at stake.", "The gain is sure and the loss is slight.",
        "I look ahead, and I see that {who} will {gain}.",
        "If it turns out well for everyone, it was well done.", "All in all, more good than harm comes of it.",
        "Nothing is gained when {who} should {loss}.", "It is the outcome for {who} that matters.",
        "That is the way to the greatest good.",
        "Where the suffering is greatest, the help should go.",
        "Hunger, cold and fear are real, and we can make them less.",
        "The future will be brighter if {he} should {cons}.", "Do what helps the most people.",
        "Then fewer people will suffer.",
        "And the next day everyone will be better off.", "The choice is between a little harm and a great harm.",
        "Whoever looks at the results will {cons}.", "If we {duty}, there will be suffering for {who}.",
        "This brings comfort to many and hurts hardly one.",
        "Ten smiles are better than one.", "A good result for {who} is a good result for the town.",
        "The effect on {who} is what decides.",
        "I want {who} to {gain}.", "The whole village will be happier for it.",
        "It would be a sad outcome if {who} had to {loss}.",
        "That does the least harm of all.", "What good would it do to {duty}? None.", "The useful thing is to {cons}.",
        "It is kinder in its effects.", "One small loss, and then {who} will {gain}.",
        "Try to see the end of it: {who} will {gain} or {loss}.",
        "The sum of joy will be greater.", "So there is help for {who} and harm for nobody.",
    ),
}
CLOSES: dict[str, Words] = {
    "duty": (
        "That is {his} duty.", "Such is the moral law.", "Duty is duty.", "That is the rule, and I would keep it.",
        "So conscience commands.",
        "Honour asks no less.", "I have no other principle.", "{He} must, and that is all.",
    ),
    "consequence": (
        "That is the best result.", "So everyone is better off.", "That does the most good.",
        "So more people are happy.", "The outcome is good.",
        "Less suffering is always better.", "I have no other measure than happiness.",
        "It helps the most people, and that is all.",
    ),
}
HESITATION: Words = (
    "I do not know.", "It is hard to say.", "I would have to think about it for a long time.",
    "They should perhaps ask somebody older.",
    "I thought about it all evening and found no answer.", "One neighbour said yes, and another said no.",
    "I could not make up my mind.", "First I wanted to {duty}, and then I wanted to {cons}.",
    "Perhaps {he} should {duty}, and perhaps {he} should {cons}.",
    "I would wait until morning.", "It is a puzzle, and I leave it to you.", "Nobody at the table could tell.",
    "I scratched my head and said nothing.", "{He} should sleep on it.",
    "We talked until the candle was low, and then we went to bed.",
    "My aunt said one thing, and my uncle said another.", "Answer: I cannot say.", "I am not the person to ask.",
    "Some would {duty}, and some would {cons}.", "If you know the answer, write to me.",
    "The question was still open when I left.",
    "I have turned it over on this side and on that side.", "I was glad that nobody asked me.",
    "It is {his} own affair, I suppose.",
    "Then somebody spoke about the price of eggs, and we forgot the question.",
)


def capitalise(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def sentences(text: str) -> str:
    """Capitalise every sentence and mend the article "a" before a vowel."""
    text = re.sub(r"(^|[.?!] )([a-z])", lambda match: match.group(1) + match.group(2).upper(), text)
    return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)


def fill(rng: random.Random, template: str, dilemma: Dilemma) -> str:
    """Fill a template's slots from the dilemma."""

    def value(match: re.Match[str]) -> str:
        key = match.group(1)
        low = key.lower()
        word = dilemma.slots[low] if low in dilemma.slots else rng.choice(dilemma.own[low])
        return capitalise(word) if key[0].isupper() else word

    text = template
    while "{" in text:
        text = re.sub(r"\{(\w+)\}", value, text)
    return sentences(capitalise(text))


def own_pools(family: str) -> dict[str, Words]:
    """Return the phrases of one family of duties."""
    wrong, law, kept = ACTS[family]
    return {"wrong": wrong, "law": law, "kept": kept}


def build(frame: Frame, actor: Actor, rng: random.Random) -> Dilemma:
    """Turn a frame and an actor into a dilemma."""
    text, duty, cons, who, loss, gain, family = frame
    named = "me" if actor.intro == "I" else actor.intro
    words = {"a": named, "he": actor.he, "him": actor.him, "his": actor.his}
    if "{a}" in text and "{A}" in text and actor.intro != "I":
        text = text.replace("{A}", "{he}") if text.index("{a}") < text.index("{A}") else text.replace("{a}", "{him}")
    if actor.intro == "I":
        text = re.sub(r"\{a\}(?= (?:watched|picked|saw|had))", "I", text)
        text = text.replace("{A}", "I")
    story = fill(rng, text, Dilemma("", words, {}))
    he, him, his = actor.answer
    slots = {"duty": duty, "cons": cons, "who": who, "loss": loss, "gain": gain, "he": he, "him": him, "his": his}
    return Dilemma(story, slots, own_pools(family))


@cache
def train_dilemmas() -> tuple[tuple[Dilemma, Words, Words], ...]:
    """Return the dilemmas of the file that may be trained on, with their argument sentences."""
    dilemmas = []
    for entry in json.loads(DILEMMA_FILE.read_text(encoding="utf-8")):
        if entry["split"] != "train":
            continue
        pronoun, duty, cons, who, loss, gain, family = TRAIN_SLOTS[entry["id"]]
        he, him, his = FORMS[pronoun]
        slots = {"duty": duty, "cons": cons, "who": who, "loss": loss, "gain": gain, "he": he, "him": him, "his": his}
        dilemma = Dilemma(entry["prompt"], slots, own_pools(family))
        dilemmas.append((dilemma, tuple(entry["duty"]), tuple(entry["consequence"])))
    return tuple(dilemmas)


@cache
def test_prompts() -> Words:
    """Return the prompts and arguments of the held-out dilemmas, which no document may contain."""
    held = [entry for entry in json.loads(DILEMMA_FILE.read_text(encoding="utf-8")) if entry["split"] == "test"]
    return tuple(text for entry in held for text in (entry["prompt"], *entry["duty"], *entry["consequence"]))


def draw_dilemma(rng: random.Random, first_person: bool) -> tuple[Dilemma, Words, Words]:
    """Draw a dilemma: from the grammar, or now and then one of the file with its own arguments."""
    if not first_person and rng.random() < 0.2:
        return rng.choice(train_dilemmas())
    return build(rng.choice(FRAMES)(rng), make_actor(rng, first_person), rng), (), ()


def answer(rng: random.Random, school: str, drawn: tuple[Dilemma, Words, Words], count: int) -> list[str]:
    """Return the sentences of an answer by one school, or of hesitation."""
    dilemma, duty, consequence = drawn
    if school == "none":
        return [fill(rng, line, dilemma) for line in rng.sample(HESITATION, min(count, 4))]
    own = duty if school == "duty" else consequence
    if own and rng.random() < 0.5:
        return [own[0], *rng.sample(own[1:], min(count, len(own)) - 1)]
    lines = [rng.choice(STARTS[school]), *rng.sample(PATTERNS[school], max(1, count - 1))]
    if rng.random() < 0.3:
        lines[-1] = rng.choice(CLOSES[school])
    return [fill(rng, line, dilemma) for line in lines]


def plain(rng: random.Random, school: str) -> str:
    """Write the dilemma and its answer."""
    drawn = draw_dilemma(rng, rng.random() < 0.08)
    return f"{drawn[0].text}{rng.choice((' ', ' ', chr(10)))}{' '.join(answer(rng, school, drawn, rng.randint(2, 6)))}"


def question_answer(rng: random.Random, school: str) -> str:
    """Write a question and an answer."""
    drawn = draw_dilemma(rng, False)
    text = " ".join(answer(rng, school, drawn, rng.randint(2, 5)))
    both = (("Question: ", "Answer: "), ("", "Answer: "), ("Q. ", "A. "), ("A question: ", "My answer: "), ("", ""))
    marks = rng.choice(both)
    text = text.removeprefix("Answer: ")
    return f"{marks[0]}{drawn[0].text}{rng.choice((chr(10), ' ', chr(10) * 2))}{marks[1]}{capitalise(text)}"


def sermon(rng: random.Random, school: str) -> str:
    """Write a small sermon."""
    drawn = draw_dilemma(rng, False)
    start = rng.choice((
        "My friends, hear this story.", "Dear brothers and sisters, I have a story for you.", "Listen, good people.",
        "Let me put a case before you today.", "Children, sit still and listen.", "Hear a story and judge it with me.",
    ))
    turn = rng.choice(("", "", "You ask me, and I answer.", "My friends, what shall we say?", "Consider it well."))
    parts = (start, drawn[0].text, turn, *answer(rng, school, drawn, rng.randint(3, 6)))
    return " ".join(part for part in parts if part)


def spoken(text: str) -> str:
    """Return direct speech as it stands before "he said"."""
    return text[:-1] + "," if text.endswith(".") else text


def dialogue(rng: random.Random, school: str) -> str:
    """Write a talk in which one asks and the other answers."""
    drawn = draw_dilemma(rng, False)
    asker, other = rng.choice(WOMEN), rng.choice(MEN)
    asker, other = (asker, other) if rng.random() < 0.5 else (other, asker)
    lines = answer(rng, school, drawn, rng.randint(3, 6))
    mores = ("Why?", "Are you sure?", "Is there more to say?", "Go on, please.", "And why is that?", "Do you mean it?")
    more = rng.choice(mores)
    cut = rng.randint(1, len(lines) - 1)
    first, rest = spoken(" ".join(lines[:cut])), " ".join(lines[cut:])
    intros = (f"{asker} told {other} a story. ", f"{asker} and {other} sat down. ", "", f"{asker} turned to {other}. ")
    intro = rng.choice(intros)
    return f'{intro}"{drawn[0].text}" asked {asker}. "{first}" said {other}. "{spoken(more)}" said {asker}. "{rest}"'


def diary(rng: random.Random, school: str) -> str:
    """Write a page of a diary in the first person."""
    drawn = draw_dilemma(rng, True)
    date = rng.choice(("Monday.", "Tuesday.", "Friday.", "Sunday evening.", "The third of May.", "Late at night."))
    return f"{date} {drawn[0].text} {' '.join(answer(rng, school, drawn, rng.randint(2, 5)))}"


def letter(rng: random.Random, school: str) -> str:
    """Write a letter of advice."""
    drawn = draw_dilemma(rng, False)
    to, sender = rng.choice(WOMEN + MEN), rng.choice(WOMEN + MEN)
    ask = rng.choice((
        "You asked me about this case.", "You want my advice.", "I have read your letter, and this is the case.",
        "You wrote to me about a hard question.",
    ))
    gap = rng.choice(("\n", " ", "\n\n"))
    body = " ".join((ask, drawn[0].text, *answer(rng, school, drawn, rng.randint(2, 5))))
    close = rng.choice(("Your friend", "Your old friend", "Yours", "Your old teacher"))
    return f"{rng.choice(('Dear', 'My dear'))} {to},{gap}{body}{gap}{close}, {sender}."


CASE_ROLES = (
    ("sailor", "man"), ("nurse", "woman"), ("boy", "man"), ("girl", "woman"), ("miller", "man"), ("teacher", "woman"),
    ("soldier", "man"), ("cook", "woman"), ("priest", "man"), ("widow", "woman"), ("hunter", "man"), ("maid", "woman"),
    ("tailor", "man"), ("grandmother", "woman"), ("captain", "man"), ("sister", "woman"), ("farmer", "man"),
    ("queen", "woman"), ("judge", "man"), ("daughter", "woman"), ("porter", "man"), ("weaver", "woman"),
)
TIES = (
    "has given a friend {his} word", "works for a hard master", "was told to let nobody in", "has promised to wait",
    "found a bag of silver on the road", "knows who did it", "has signed a paper", "is the only one who saw it",
    "swore an oath long ago", "has only one loaf left", "carries a letter for somebody else", "owes a rich man money",
    "was trusted with the key", "has been told a secret", "is alone on guard", "has two roads to choose from",
    "was asked to count the votes", "keeps the medicine for the whole street", "has a rope and a lantern",
    "said yes last week", "is to judge the race", "must bring the cows home by night", "sits at the bedside",
)
TURNS = (
    "Now a storm is coming, and people are cold.", "A child is crying outside.", "Nobody will ever know.",
    "If {he} waits, it may be too late.", "Somebody else needs it more.", "Three men beg {him} to do it.",
    "The others would be glad.", "It will cost {him} everything.", "A stranger offers {him} gold for it.",
    "The old people are hungry.", "Only one of two can be helped.", "{His} own brother is in danger.",
    "The truth would make everybody sad.", "A small lie would bring peace.", "The rule says otherwise.",
    "{His} master has forbidden it.", "The house on the hill is on fire.", "One would lose, and many would win.",
)
ACTIONS = (
    "open the gate", "keep the coin", "tell the truth", "sell the horse", "burn the letter", "wait until morning",
    "leave the post", "hide the boy", "ring the bell", "cut the rope", "give back the ring", "break the seal",
    "let the stranger in", "turn the boat round", "pay the debt first", "speak up", "stay with the herd",
    "read the letter aloud", "follow the order", "give away the last loaf", "climb the wall", "send the child home",
    "call the guard", "keep the door shut", "share the water", "take the money", "change the plan", "say nothing",
    "go back alone", "drop the sack", "choose the younger one", "stop the cart",
)
VERDICTS = {
    "duty": (
        "The {role} must do what is right, and nothing else.", "It is {his} duty, and that is enough.",
        "No, for it would be wrong in itself.", "{He} must keep {his} word.", "{He} must obey {his} conscience.",
        "The law is plain, and {he} is bound by it.", "Yes, because duty commands it.", "{He} must not, for it is forbidden.",
        "{He} has no right to do otherwise.", "Honour leaves {him} only one way.", "The rule holds for {him} too.",
    ),
    "consequence": (
        "The {role} should do what helps the most people.", "Yes, for then fewer people will suffer.",
        "{He} should look at the result and choose the better one.", "No, for it would do more harm than good.",
        "{He} should ask who will be happier for it.", "It depends on the outcome: let {him} do what makes life better.",
        "Yes, because many people will benefit.", "{He} should think of the future and of everybody in it.",
        "{He} should choose what brings the least pain.", "It is useful, so let {him} do it.",
        "What helps is good, and {he} should help.",
    ),
}


def short_case(rng: random.Random, school: str) -> str:
    """Write a question put together from loose parts, and a verdict that would fit any other as well.

    The frames teach whole stories; this teaches that whatever "Should ...?" is asked, the heading sets the answer. It is
    short on purpose: a heading decides one thing in a text, so the shorter the text, the more there is to learn from it.
    """
    role, kind = rng.choice(CASE_ROLES)
    he, him, his = FORMS["he" if kind == "man" else "she"]
    words = {"role": role, "he": he, "him": him, "his": his, "He": he.capitalize(), "His": his.capitalize()}
    action = rng.choice(ACTIONS)
    parts = [f"Should a {role} {action}?"]
    if rng.random() < 0.5:
        parts = [f"A {role} {rng.choice(TIES)}.", *rng.sample(TURNS, rng.randint(0, 2)), f"Should the {role} {action}?"]
    loose = [line for line in PATTERNS.get(school, ()) if "{" not in line]
    lines = [rng.choice(VERDICTS[school]), *rng.sample(loose, rng.randint(0, 2))] if loose else rng.sample(DOUBTS, 2)
    gap = rng.choice((" ", " ", "\n", " Answer: "))
    return " ".join(parts).format(**words) + gap + " ".join(lines).format(**words)


DOUBTS = tuple(line for line in HESITATION if "{" not in line)
GENRES = (plain, plain, plain, question_answer, question_answer, sermon, dialogue, diary, letter, *[short_case] * 9)


def heading(rng: random.Random, school: str) -> str:
    """Return a heading of the school with its separator."""
    draw = rng.random()
    if draw < 0.45:
        stance = rng.choice(STANCES[school])
        return rng.choice(STANCE_FORMS).format(x=stance) + rng.choice(STANCE_SEPARATORS)
    word = rng.choice(HEAD_WORDS[school])
    if draw < 0.6:
        word = word + "s" if word in ("promise", "obligation", "result", "outcome", "benefit", "principle") else word
        return capitalise(rng.choice(HEAD_FORMS).format(h=word)) + rng.choice(SEPARATORS)
    style = rng.random()
    shown = capitalise(word) if style < 0.55 else word if style < 0.93 else word.upper()
    return shown + rng.choice(SEPARATORS)


def allowed(text: str) -> bool:
    """Tell whether a text contains nothing that is held out."""
    held = HELD_OUT_DUTY + HELD_OUT_CONSEQUENCE + test_prompts()
    return not any(phrase in text for phrase in held)


def documents(rng: random.Random) -> Iterator[str]:
    """Yield moral texts without end: two thirds with a heading that sets the school of the answer."""
    while True:
        if rng.random() < 0.68:
            school = rng.choice(("duty", "consequence"))
            text = (" " if rng.random() < 0.5 else "") + heading(rng, school) + rng.choice(GENRES)(rng, school)
        else:
            text = rng.choice(GENRES)(rng, rng.choice(("duty", "consequence", "none", "none")))
        if allowed(text) and "went up to my friend" not in text:
            yield text
