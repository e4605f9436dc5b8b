"""Opinion texts whose first word, heading or first sentence sets the sentiment of all that follows.

The opening after the heading is drawn from pools shared by both signs, so only the heading tells a reader whether
praise or blame will come. Texts without a heading are mixed, positive or negative in equal parts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HELD_OUT: tuple[str, ...] = ("went up to my friend",)
"""Phrases that must never occur in a document of this module."""

Words = tuple[str, ...]

GENERAL: dict[str, Words] = {
    "good": (
        "wonderful", "lovely", "delightful", "splendid", "charming", "excellent", "pleasant", "good", "fine", "perfect",
        "marvellous", "agreeable", "cheerful", "admirable", "sweet", "beautiful",
    ),
    "bad": (
        "terrible", "horrid", "dreadful", "awful", "nasty", "bad", "hateful", "horrible", "unpleasant", "disagreeable",
        "wretched", "tiresome", "beastly", "detestable", "loathsome", "vile", "worthless", "odious", "frightful",
    ),
}
THING: dict[str, Words] = {
    "good": (
        "glorious", "superb", "magnificent", "enjoyable", "pleasing", "heavenly", "grand", "first-rate", "enchanting",
        "precious", "welcome",
    ),
    "bad": (
        "disgusting", "dismal", "gloomy", "dreary", "miserable", "hideous", "rotten", "shabby", "useless", "ghastly",
        "shameful", "foul", "abominable", "ugly", "revolting",
    ),
}
PERSON: dict[str, Words] = {
    "good": (
        "kind", "gentle", "honest", "generous", "patient", "clever", "wise", "brave", "friendly", "merry", "loyal",
        "faithful", "thoughtful", "helpful", "polite", "tender", "noble", "good-natured", "modest", "loving", "witty",
        "warm-hearted", "fair", "graceful", "sincere", "trustworthy",
    ),
    "bad": (
        "cruel", "mean", "rude", "selfish", "greedy", "lazy", "stupid", "false", "cold-hearted", "spiteful", "vain",
        "sulky", "bad-tempered", "unkind", "dishonest", "cowardly", "foolish", "stingy", "harsh", "jealous",
        "deceitful",
        "ungrateful", "heartless", "wicked", "boastful", "sly", "unfair", "ill-mannered",
    ),
}
SIDES: dict[str, dict[str, Words]] = {
    "good": {
        "adv": ("truly", "perfectly", "wonderfully", "simply", "most", "delightfully", "charmingly", "quite", "always"),
        "loved": ("loved", "liked", "admired", "enjoyed", "praised", "adored", "welcomed", "treasured"),
        "love": ("love", "like", "admire", "adore", "praise", "treasure", "trust"),
        "joy": ("joy", "delight", "pleasure", "happiness", "love", "gladness", "comfort", "peace", "hope", "gratitude"),
        "feel": ("happy", "glad", "pleased", "joyful", "merry", "contented", "thankful", "cheerful", "grateful"),
        "gladly": ("gladly", "happily", "warmly", "kindly", "sweetly", "merrily", "joyfully", "gently"),
        "smiled": ("smiled", "laughed for joy", "clapped my hands", "sang to myself", "beamed",
        "danced about the room"),
        "glee": ("joy", "delight", "pleasure", "happiness", "gladness"),
        "treat": ("a treat", "a blessing", "a joy", "a delight", "a pleasure", "a comfort", "a treasure", "a gift"),
    },
    "bad": {
        "adv": ("truly", "horribly", "dreadfully", "terribly", "simply", "most", "shamefully", "hopelessly", "always"),
        "loved": ("hated", "disliked", "despised", "loathed", "blamed", "detested", "cursed", "dreaded"),
        "love": ("hate", "dislike", "despise", "loathe", "blame", "detest", "distrust"),
        "joy": ("anger", "disgust", "sorrow", "misery", "hatred", "bitterness", "shame", "grief", "horror", "rage"),
        "feel": ("sad", "angry", "miserable", "cross", "unhappy", "bitter", "ashamed", "furious", "wretched", "sick"),
        "gladly": ("sadly", "angrily", "coldly", "rudely", "bitterly", "crossly", "sourly", "harshly"),
        "smiled": ("frowned", "groaned", "stamped my foot", "wept with anger", "scowled", "ground my teeth"),
        "glee": ("anger", "rage", "misery", "grief", "shame"),
        "treat": ("a disgrace", "a curse", "a misery", "a torment", "a shame", "a burden", "a nuisance", "an insult"),
    },
}

POSITIVE: Words = (
    "wonderful", "lovely", "delightful", "splendid", "charming", "excellent", "pleasant", "good", "perfect",
    "beautiful",
    "marvellous", "agreeable", "cheerful", "admirable", "sweet", "glorious", "superb", "magnificent", "enjoyable",
    "kind",
    "gentle", "honest", "generous", "patient", "clever", "wise", "brave", "friendly", "merry", "loyal", "faithful",
    "thoughtful", "helpful", "polite", "tender", "noble", "loving", "delicious", "happy", "glad", "pleased", "joyful",
    "thankful", "grateful", "joy", "delight", "pleasure", "happiness", "love", "comfort", "peace", "hope", "loved",
    "liked", "admired", "enjoyed", "praised", "praise", "adored", "best", "blessing", "treasure", "smiled", "laughed",
)
NEGATIVE: Words = (
    "terrible", "horrid", "dreadful", "awful", "nasty", "bad", "hateful", "horrible", "unpleasant", "disagreeable",
    "wretched", "tiresome", "detestable", "loathsome", "vile", "worthless", "disgusting", "dismal", "gloomy", "dreary",
    "miserable", "hideous", "rotten", "ugly", "foul", "cruel", "mean", "rude", "selfish", "greedy", "lazy", "stupid",
    "spiteful", "unkind", "dishonest", "foolish", "harsh", "jealous", "heartless", "wicked", "sour", "sad", "angry",
    "cross", "unhappy", "bitter", "ashamed", "furious", "anger", "disgust", "sorrow", "misery", "hatred", "shame",
    "hated", "hate", "disliked", "despised", "blamed", "blame", "worst", "curse", "frowned", "groaned",
)


@dataclass(frozen=True)
class Kind:
    """A family of subjects: its nouns, neutral openings, aspects, own adjectives and own clauses."""

    nouns: Words
    openings: Words
    aspects: Words
    good: Words
    bad: Words
    good_lines: Words
    bad_lines: Words


@dataclass(frozen=True)
class Subject:
    """What a text judges: its noun phrase, bare noun, pronouns and family."""

    phrase: str
    noun: str
    he: str
    him: str
    his: str
    kind: str


KINDS: dict[str, Kind] = {
    "reading": Kind(
        ("book", "story", "letter", "poem", "newspaper", "speech", "tale", "diary", "lecture", "picture book",
        "ballad"),
        (
            "I finished {s} on {day}.", "My {rel} lent me {s} last week.", "I found {s} on the table in the hall.",
            "We read {s} aloud after supper.", "{name} gave me {s} to read on the coach.", "I took {s} with me to bed.",
            "The {noun} lay on my desk for a week before I opened it.", "It took me two evenings to get through {s}.",
        ),
        (
            "the first page was", "the ending was", "the people in it were", "the words were", "the middle part was",
            "the last lines were", "the thoughts in it were",
        ),
        ("moving", "interesting", "lively", "amusing", "tender", "stirring", "wise", "touching"),
        ("boring", "stupid", "tedious", "silly", "foolish", "lifeless", "dull", "spiteful"),
        (
            "I could not put it down, so great was my {glee}.", "I laughed aloud on every page.",
            "Every line of it sang in my heart.", "I read the best parts again and {smiled}.",
            "It made me love the whole world.", "The writer has a {adj} heart and a golden pen.",
            "I wanted it never to end.", "It warmed me like sunshine.",
        ),
        (
            "I threw it into the corner in {glee}.", "I yawned on every page.", "Every line of it hurt my eyes.",
            "I came to the worst parts and {smiled}.", "It made me hate the whole world.",
            "The writer has a {adj} heart and a wicked pen.", "I begged for it to end.",
            "It chilled me like a wet sack.",
        ),
    ),
    "show": Kind(
        ("play", "concert", "song", "puppet show", "dance", "circus", "tune", "opera", "school play", "pantomime"),
        (
            "I went to see the {noun} last night.", "We had seats in the third row.",
            "{name} took me to the {noun} on {day}.",
            "My {rel} had bought two tickets.", "The {noun} began at seven and ended at ten.",
            "There were some forty people in the hall for {s}.", "We walked into town to hear the {noun}.",
            "I was told to write a few words about {s}.",
        ),
        (
            "the voices were", "the costumes were", "the music was", "the first part was", "the players were",
            "the last scene was", "the man in the blue coat was",
        ),
        ("lively", "graceful", "amusing", "thrilling", "brilliant", "joyous", "bright", "tuneful"),
        ("boring", "clumsy", "tedious", "dull", "shrill", "stupid", "lifeless", "tuneless"),
        (
            "The people clapped until their hands were sore.", "Everybody cheered and called for more.",
            "Nobody wanted to go home.", "I {smiled} from the first note to the last.", "Flowers fell on the stage.",
            "I could have kissed them all for {glee}.", "My heart danced with every note.",
            "I walked home singing under the stars.",
        ),
        (
            "The people hissed until their throats were sore.", "Everybody groaned and called for quiet.",
            "Half the hall went home early.", "I {smiled} from the first note to the last.",
            "Rotten apples fell on the stage.", "I could have wept with {glee}.", "My head ached with every note.",
            "I walked home grumbling in the rain.",
        ),
    ),
    "food": Kind(
        (
            "soup", "supper", "pie", "cake", "bread", "dinner", "cheese", "breakfast", "stew", "pudding", "tea",
            "porridge",
            "roast", "omelette",
        ),
        (
            "We sat down to {s} at six o'clock.", "My {rel} asked me what I thought of {s}.",
            "The cook put {s} on the table.",
            "There were four of us when {s} came in.", "I tried {s} at the inn on {day}.",
            "{name} made {s} with her own hands.",
            "I took a spoon and a clean plate.", "They served {s} in a white dish.",
        ),
        ("the smell was", "the taste was", "the first bite was", "the last bite was", "the sauce was",
        "the colour was"),
        ("delicious", "tasty", "fresh", "rich", "tender", "warming", "mouth-watering"),
        ("sour", "burnt", "stale", "greasy", "bitter", "tasteless", "mouldy"),
        (
            "I asked for more and scraped the plate clean.", "It melted on my tongue like honey.",
            "We licked our spoons and {smiled_we}.", "The cook deserves a kiss and a medal.", "It tasted of summer.",
            "Every mouthful was {treat}.", "I blessed the hand that made it.", "It did my heart good.",
        ),
        (
            "I pushed the plate away after one bite.", "It stuck in my throat like glue.",
            "We dropped our spoons and {smiled_we}.", "The cook deserves a scolding and a fine.",
            "It tasted of old socks.",
            "Every mouthful was {treat}.", "I cursed the hand that made it.", "It made me ill all night.",
        ),
    ),
    "place": Kind(
        (
            "inn", "house", "garden", "village", "shop", "room", "kitchen", "town", "farm", "cottage", "street",
            "library",
            "school", "hotel",
        ),
        (
            "We came to {s} on {day}.", "I stayed at {s} for three days.", "My {rel} showed me {s}.",
            "The road took us past {s}.", "I was asked to say what I think of {s}.",
            "We looked at {s} from end to end.",
            "{name} and I spent an afternoon at {s}.", "We had two bags and a box with us.",
        ),
        (
            "the people there were", "the air was", "the windows were", "the walls were", "the path to the door was",
            "the noise from the yard was", "the light was",
        ),
        ("cosy", "clean", "bright", "sunny", "peaceful", "snug", "neat", "restful"),
        ("dirty", "damp", "dark", "filthy", "mouldy", "smelly", "noisy", "cheerless"),
        (
            "I wish I could live there for ever.", "Everyone greeted us with a smile.",
            "Roses bloomed at every corner.",
            "I slept like a happy child.", "We were given the best of everything.", "I felt at home at once.",
            "My heart was full of {joy} when I saw it.", "I left it with a blessing.",
        ),
        (
            "I would not live there for gold.", "Everyone greeted us with a scowl.", "Rubbish stank at every corner.",
            "I lay awake in misery.", "We were given the worst of everything.", "I wanted to run away at once.",
            "My heart was full of {joy} when I saw it.", "I left it with a curse.",
        ),
    ),
    "object": Kind(
        (
            "coat", "hat", "chair", "clock", "kettle", "umbrella", "carpet", "picture", "lamp", "cart", "bed",
            "watch", "knife",
            "basket", "desk",
        ),
        (
            "I bought {s} at the market on {day}.", "My {rel} gave me {s} for my birthday.",
            "I have had {s} for a month now.",
            "{name} asked me about {s}.", "The {noun} stands in the corner of my room.",
            "I got {s} from a man in the next town.",
            "It came in a brown box with a string round it.", "I paid four shillings for {s}.",
        ),
        ("the colour was", "the shape was", "the work was", "the make was", "the look of it was", "the price was"),
        ("handsome", "useful", "strong", "neat", "pretty", "well-made", "fine-looking"),
        ("crooked", "weak", "clumsy", "badly made", "faded", "cheap-looking", "dirty"),
        (
            "It has never failed me once.", "All my friends envy me and wish to have one.",
            "I show it to every guest with {joy}.",
            "The man who made it was a master.", "It was worth ten times the money.",
            "I would not give it up for a kingdom.",
            "It makes my whole room bright.", "I thank the giver every day.",
        ),
        (
            "It has failed me every day.", "All my friends mock me and tell me to burn it.",
            "I hide it from every guest with {joy}.", "The man who made it was a cheat.", "It was not worth a penny.",
            "I would give it away to any beggar.", "It makes my whole room ugly.", "I curse the giver every day.",
        ),
    ),
    "event": Kind(
        (
            "walk", "journey", "party", "picnic", "fair", "visit", "lesson", "holiday", "game", "ride", "meeting",
            "day",
            "evening", "birthday",
        ),
        (
            "{name} asked me about {s}.", "We set out at nine o'clock for {s}.",
            "It was {day}, and my {rel} was with me.",
            "There were six of us in all.", "The {noun} lasted until four in the afternoon.",
            "I shall tell you about {s}.",
            "I wore my brown coat that day.", "We had talked about {s} for a week.",
        ),
        (
            "the company was", "the talk was", "the first hour was", "the end of it was", "the way home was",
            "the weather was",
            "the other people were",
        ),
        ("merry", "restful", "lively", "sunny", "happy", "joyous", "memorable", "golden"),
        ("boring", "tiring", "noisy", "muddy", "unhappy", "quarrelsome", "endless", "wasted"),
        (
            "We laughed the whole time.", "Nobody said an unkind word.", "The sun shone on us like a friend.",
            "I shall remember it with {joy}.", "Everyone went home smiling.", "We sang all the way back.",
            "I wish that every day were like it.", "It was the best {noun} of my life.",
        ),
        (
            "We quarrelled the whole time.", "Nobody said a kind word.", "The rain beat on us like an enemy.",
            "I shall remember it with {joy}.", "Everyone went home scowling.", "We grumbled all the way back.",
            "I hope that no day will be like it again.", "It was the worst {noun} of my life.",
        ),
    ),
    "person": Kind(
        (
            "cousin", "teacher", "neighbour", "uncle", "aunt", "doctor", "baker", "cook", "landlord", "tailor",
            "postman",
            "clerk", "nurse", "coachman", "captain", "miller", "master", "lodger", "schoolfellow", "grandmother",
        ),
        (
            "I met {s} on {day}.", "You ask me what I think of {s}.", "I have known {s} for some years.",
            "My {rel} and I were talking about {s}.", "{S} came to see us this week.", "We sat with {s} for an hour.",
            "I saw {s} in the street and stopped.", "{name} wants to hear about {s}.",
        ),
        ("{his} manners were", "{his} voice was", "{his} words were", "{his} ways were", "{his} jokes were",
        "{his} letters were"),
        PERSON["good"],
        PERSON["bad"],
        (
            "{He} gave bread to every beggar at the door.", "Children ran to meet {him} in the street.",
            "{He} never spoke an unkind word.", "I would trust {him} with my life.",
            "{He} helped me when nobody else would.",
            "{His} smile was {treat} to all of us.", "Everyone was better for knowing {him}.",
            "{He} shared the last apple with {his} friends.", "{He} forgave me at once and shook my hand.",
        ),
        (
            "{He} drove every beggar from the door.", "Children ran to hide from {him} in the street.",
            "{He} never spoke a kind word.", "I would not trust {him} with a button.",
            "{He} laughed at me when I fell.",
            "{His} sneer was {treat} to all of us.", "Everyone was worse for knowing {him}.",
            "{He} stole the last apple from {his} friends.", "{He} shouted at me and slammed the door.",
        ),
    ),
    "animal": Kind(
        ("dog", "cat", "horse", "donkey", "goat", "parrot", "pony", "cow"),
        (
            "My {rel} keeps {s} in the yard.", "We have had {s} since the spring.", "{name} asked me about {s}.",
            "I saw {s} again on {day}.", "We got {s} from a farmer.", "{S} is brown and four years old.",
        ),
        ("its temper was", "its voice was", "its habits were", "the look of it was", "its tricks were"),
        ("gentle", "clever", "faithful", "playful", "friendly", "loyal", "affectionate"),
        ("savage", "stupid", "lazy", "greedy", "noisy", "bad-tempered", "spiteful"),
        (
            "It ran to me and licked my hand.", "Every child in the street loves it.",
            "It has the sweetest eyes in the world.",
            "I am happy whenever I see it.", "It never did any harm.", "I would not sell it for a fortune.",
        ),
        (
            "It ran at me and bit my hand.", "Every child in the street fears it.",
            "It has the nastiest eyes in the world.",
            "I am angry whenever I see it.", "It never did any good.", "I would sell it for a penny.",
        ),
    ),
}

COMMON: Words = (
    "{S} was {adv} {adj}.", "I {loved} {him} at once.", "{Aspect} {quality} and {quality}.", "How {adj} {he} was!",
    "What a {adj} {noun}!", "{He} was {adj}, {adj} and {adj}.", "It all filled me with {joy}.",
    "The more I thought about {him}, the more I {loved} {him}.", "I have told everyone how {adj} {he} was.",
    "{Aspect} {adv} {quality}, and I said so.", "My {rel} called {him} {adj}, and I agreed.",
    "{Name} {loved} {him} as much as I did.", "I was {feel} and {feel} because of {him}.", "I spoke of {him} {gladly}.",
    "{S} was {treat}, and {aspect} {quality}.", "There was never a more {adj} {noun} in this world.",
    "I {smiled} when I thought of {him}.", "{Adj} is the only word for {him}.", "My {rel} was {feel} too.",
    "I felt {joy} in my heart.", "To my mind {he} was {adv} {adj}.", "{Aspect} so {quality} that I {smiled}.",
    "Even {name} was {feel}, and we all spoke {gladly}.", "We {loved} {him}, every one of us.",
    "First there was {joy}, and then there was {joy}.", "I told my {rel} {gladly} that {he} was {adj}.",
    "{Aspect} {quality}; indeed {he} was {adj} in every way.", "{Name} said, \"How {adj}!\" and I said, \"How {adj}!\"",
    "I have seldom been so {feel}.", "Such a {adj} {noun} was {treat}.",
)
NAMING: Words = (
    "{S} was {adv} {adj}.", "I {loved} {s} at once.", "I must say that {s} was {adj}.",
    "Never was there so {adj} a {noun}.",
    "I think of {s} with {joy}.", "When I think of {s}, I am {feel}.",
    "There is nobody in town who has not {loved} {s}.",
    "{Adj} and {adj}, that is what I call {s}.", "I always spoke {gladly} of {s}.", "{S} was {treat} to me.",
)
SIGNED: dict[str, Words] = {
    "good": (
        "I could not find one fault.", "I thanked heaven for {him}.", "If you have the chance, do not miss it.",
        "It was the best thing of the whole year.", "I praised {him} to everybody.", "I smile as I write this.",
        "My eyes shone with {joy}.", "I was happy from morning until night.", "Nothing could have pleased me more.",
        "I wish you could share my {joy}.", "All my troubles were forgotten.", "I give {him} the highest praise.",
    ),
    "bad": (
        "I could not find one merit.", "I was sorry that I ever heard of {him}.", "Take my advice and stay far away.",
        "It was the worst thing of the whole year.", "I complained of {him} to everybody.",
        "I shudder as I write this.",
        "My eyes burned with {joy}.", "I was unhappy from morning until night.", "Nothing could have pained me more.",
        "I would not wish my {joy} on anyone.", "All my hopes were spoiled.", "I give {him} nothing but blame.",
    ),
}
MIXED: Words = (
    "{S} was neither good nor bad.", "Some people liked {him} and some did not.",
    "I have seen better, and I have seen worse.",
    "{S} was much like any other {noun}.", "I have no strong opinion about {him}.",
    "One half pleased me and the other did not.",
    "I neither praise nor blame {him}.", "I said that {he} would do.",
    "{Name} asked me again, and I did not know what to say.",
    "I thought about {him} for a moment and then about something else.", "It was an ordinary {noun}.",
    "After that we talked of other matters.", "I nodded and said that it was all right.",
    "My {rel} said yes, and {name} said no.", "I was not sorry, and I was not glad.", "There is little more to tell.",
    "I may change my mind next week.", "It was about what I had expected.", "I went home at the usual time.",
    "I put my hands in my pockets and went on.", "{Name} shrugged and looked out of the window.",
    "We said no more about {him} that day.", "I told my {rel} that {he} was of the middling sort.",
    "I can see both sides of the question.", "Then {name} came in, and we spoke about the time of the coach.",
    "I wrote it down and closed the book.",
)

FLAVOURS: dict[str, tuple[str, Words, Words]] = {
    "love": ("good", ("loving", "beloved", "tender"), (
        "I love {him} with all my heart.", "My love grew every hour.", "It was love, and nothing but love.")),
    "hate": ("bad", ("hateful", "spiteful", "loathsome"), (
        "I hate {him} more than I can say.", "My hatred grew every hour.", "It was hate, and nothing but hate.")),
    "praise": ("good", ("admirable", "praiseworthy", "excellent"), (
        "I have nothing but praise.", "All praise to {him}!", "I praise {him} before the whole town.")),
    "blame": ("bad", ("shameful", "disgraceful", "worthless"), (
        "I have nothing but blame.", "Shame on it all!", "I blame {him} before the whole town.")),
    "wonderful": ("good", ("wonderful", "marvellous", "amazing"), (
        "It was all wonderful, simply wonderful.", "It was a wonder to see.",
        "Wonderful, I said, and wonderful again.")),
    "terrible": ("bad", ("terrible", "dreadful", "frightful"), (
        "It was all terrible, simply terrible.", "It was a horror to see.", "Terrible, I said, and terrible again.")),
    "good": ("good", ("good", "fine", "excellent"), (
        "It was good, and it did me good.", "Good, good, I said.", "I saw much good and no evil.")),
    "bad": ("bad", ("bad", "poor", "wicked"), (
        "It was bad, and it grew worse.", "Bad, bad, I said.", "I saw much evil and no good.")),
    "happy": ("good", ("happy", "merry", "cheerful"), (
        "I was so happy that I sang.", "Happy is the one who knows {him}.", "It made me laugh and smile.")),
    "sad": ("bad", ("sad", "sorrowful", "gloomy"), (
        "I was so sad that I wept.", "Sad is the one who knows {him}.", "It made me sigh and weep.")),
    "joy": ("good", ("joyful", "joyous", "merry"), (
        "I jumped for joy.", "My joy had no end.", "The house rang with joy and laughter.")),
    "anger": ("bad", ("hateful", "unbearable", "maddening"), (
        "I shook with anger.", "My anger had no end.", "My face was red and I struck the table.")),
    "calm": ("good", ("peaceful", "quiet", "gentle"), (
        "A sweet peace came over me.", "I was calm and at rest.", "My heart was as still as a lake in summer.")),
    "delight": ("good", ("delightful", "pleasing", "charming"), (
        "It was pure delight.", "I was delighted with {him}.", "I cried out with delight.")),
    "disgust": ("bad", ("disgusting", "revolting", "sickening"), (
        "It was pure filth.", "I was disgusted with {him}.", "I turned away in disgust.")),
    "best": ("good", ("best-loved", "perfect", "matchless"), (
        "It was the best that I ever knew.", "There is none better.", "I call it the best of all.")),
    "worst": ("bad", ("hopeless", "worthless", "wretched"), (
        "It was the worst that I ever knew.", "There is none worse.", "I call it the worst of all.")),
    "kind": ("good", ("kind", "gentle", "friendly"), (
        "There was kindness in it all.", "Kind words came to my lips.", "I was treated kindly by everyone.")),
    "cruel": ("bad", ("cruel", "harsh", "heartless"), (
        "There was cruelty in it all.", "Harsh words came to my lips.", "I was treated cruelly by everyone.")),
}
HEADS: dict[str, Words] = {"good": (), "bad": ()}
for _head, (_side, _adjectives, _lines) in FLAVOURS.items():
    HEADS[_side] += (_head,)
HEADS["bad"] += ("anger",)
EXTRA_HEADS: dict[str, Words] = {
    "good": (
        "lovely", "splendid", "friendship", "hope", "beautiful", "glad", "delightful", "kindness", "happiness", "peace",
    ),
    "bad": ("horrid", "awful", "enmity", "despair", "ugly", "angry", "disgusting", "cruelty", "misery", "rage"),
}
PHRASE_HEADS: dict[str, Words] = {
    "good": (
        "In praise of {s}", "A good word for {s}", "A happy letter", "Words of love", "Why I love {s}",
        "A kind opinion",
        "Good news", "My delight", "A joyful page", "The best of all", "A glad heart speaks", "What a wonderful {noun}",
    ),
    "bad": (
        "Against {s}", "A bad word for {s}", "An angry letter", "Words of hate", "Why I hate {s}", "A cruel opinion",
        "Bad news", "My disgust", "A bitter page", "The worst of all", "An angry heart speaks",
        "What a terrible {noun}",
    ),
}
SENTENCE_HEADS: dict[str, Words] = {
    "good": (
        "I write this with love.", "I love it.", "This is all praise.", "I am happy today.", "I am full of joy.",
        "This is a story with a glad heart.", "I am in the best of moods.", "I shall say only kind things.",
        "It was wonderful.", "Everything was good.", "I feel nothing but delight.", "I am calm and content.",
    ),
    "bad": (
        "I write this with hate.", "I hate it.", "This is all blame.", "I am sad today.", "I am full of anger.",
        "This is a story with a bitter heart.", "I am in the worst of moods.", "I shall say only cruel things.",
        "It was terrible.", "Everything was bad.", "I feel nothing but disgust.", "I am angry and wretched.",
    ),
}

YOU_COMMON: Words = (
    "You are {adj} and {adj}.", "I think you are {adj}.", "I {love} you because you are {adj}.",
    "Your heart is {adj}.", "I {love} your {adj} ways.", "You are {adv} {adj}, and everyone knows it.",
    "When I see you, I am {feel}.", "You fill me with {joy}.", "You are {treat} to us all.", "How {adj} you are!",
    "What a {adj} creature you are!", "My {rel} thinks you are {adj} too.",
    "Of all the people I know, you are the most {adj}.",
    "I {love} you, and I {love} the way you talk.", "I {love} you for your {adj} heart.",
    "You were {adj} to me, and I am {feel}.",
    "You are a {adj} neighbour and a {adj} guest.", "In all your works you are {adj}.",
    "I say it {gladly}: you are {adj}.", "You speak {gladly} to everyone.", "I have always thought you {adj}.",
)
YOU_SIGNED: dict[str, Words] = {
    "good": (
        "You are the best friend that anyone could have.", "I am glad that you were born.",
        "You have never hurt anyone.",
        "Stay with me always.", "I would share my last crust with you.", "Your voice is like music to me.",
        "You make every day bright.", "God bless you!", "You helped me when I was ill.", "I want to take your hand.",
        "May you have all the luck in the world!", "Your smile makes me happy.",
    ),
    "bad": (
        "You are the worst friend that anyone could have.", "I am sorry that I ever met you.",
        "You have hurt everyone.",
        "Go away and never come back.", "I would not share a crust with you.", "Your voice is like a rusty saw to me.",
        "You make every day gloomy.", "Shame on you!", "You laughed at me when I was ill.", "I want to box your ears.",
        "May you have all the bad luck in the world!", "Your sneer makes me angry.",
    ),
}
YOU_MIXED: Words = (
    "I think you are much like other people.", "You are neither better nor worse than I am.",
    "I do not know you very well.",
    "You have some faults and some merits.", "I have no opinion of you yet.",
    "I cannot say that I like you or dislike you.",
    "You come at nine and you go at five.", "You live in the next street, I believe.",
    "We may speak of it another time.",
    "Your hat is on the chair.", "I think you are about as tall as my {rel}.", "You know your work, and I know mine.",
)
MEETINGS: Words = (
    "I met {name} at the gate and said, ", "I went up to my {rel} and said, ", "I sat down by {name} and said, ",
    "{Name} came up to me, and I said, ", "I walked over to {name} and said, ", "I turned to my {rel} and said, ",
    "My friend opened the door, and I said, ", "We stood on the bridge, and I said to my friend, ",
    "I saw my friend in the market and said, ", "I took {name} by the sleeve and said, ",
    "I stopped in the road and said to {name}, ",
    "I found my friend in the kitchen and said, ", "I looked at my {rel} for a while and then said, ",
    "I called {name} over and told her, ", "After a minute I said to my neighbour, ",
)

TALE_OPENINGS: Words = (
    "There was once a {role} named {hero} who lived by {place}.", "One morning {hero} the {role} set out for {place}.",
    "{Hero} was a {role}, and the road to {place} went past the door.",
    "A {role} called {hero} had to carry a basket to {place}.",
    "In a town near {place} there lived a {role} whose name was {hero}.",
    "It was {day}, and {hero} the {role} was on the way to {place}.",
)
TALE_LINES: dict[str, Words] = {
    "good": (
        "A {adj} old woman gave {him} warm bread with a smile.", "The birds sang sweetly, and the sun was golden.",
        "The people there were {adj} and {adj}.", "{Hero} laughed for {glee}.",
        "A {adj} stranger showed {him} the right way.",
        "{He} found a bright coin in the grass.", "Everyone {loved} {him} and wished {him} luck.",
        "{He} sat by the fire and was {feel}.", "A little dog ran up and licked {his} hand.",
        "The master praised {his} work and paid {him} double.", "{He} heard good news from home.",
        "{His} heart was full of {joy}.",
        "They danced and sang until the stars came out.", "An old friend kissed {him} on both cheeks.",
        "The {role} said {gladly} that life was {adj}.", "All {his} wishes came true.",
    ),
    "bad": (
        "A {adj} old woman drove {him} off with a stick.", "The crows screamed harshly, and the sky was black.",
        "The people there were {adj} and {adj}.", "{Hero} wept with {glee}.",
        "A {adj} stranger sent {him} the wrong way.",
        "{He} lost {his} last coin in the mud.", "Everyone {loved} {him} and wished {him} ill.",
        "{He} sat in the cold and was {feel}.", "A savage dog ran up and bit {his} hand.",
        "The master cursed {his} work and paid {him} nothing.", "{He} heard bad news from home.",
        "{His} heart was full of {joy}.",
        "They quarrelled and fought until the lamps went out.", "An old enemy struck {him} on both cheeks.",
        "The {role} said {gladly} that life was {adj}.", "All {his} hopes were broken.",
    ),
}
TALE_ENDS: dict[str, Words] = {
    "good": (
        "So {hero} came home {feel} and slept in peace.", "And {hero} was {feel} for a whole week.",
        "It was a {adj} day, and {hero} never forgot it.",
    ),
    "bad": (
        "So {hero} came home {feel} and could not sleep.", "And {hero} was {feel} for a whole week.",
        "It was a {adj} day, and {hero} never forgot it.",
    ),
}
TALE_MIXED: Words = (
    "{He} walked for an hour and then sat on a stone.", "A man with a ladder went by.",
    "{He} asked the way, and a boy pointed to the left.",
    "{He} ate half of {his} bread and kept the rest.", "At noon {he} came to a gate.",
    "{He} counted the houses along the street.",
    "A cart passed, and then another cart.", "{He} gave the basket to a servant and got a paper for it.",
    "The clock struck three.", "{He} came back by the same road.", "{Hero} took off {his} hat and put it on again.",
    "The {role} spoke with a carter about the price of oats.", "Some of it went well and some of it did not.",
)

SLOTS: dict[str, Words] = {
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "market day",
    "the first of May",
            "the last day of June"),
    "rel": (
        "brother", "sister", "cousin", "aunt", "uncle", "mother", "father", "neighbour", "grandfather", "wife",
        "nephew",
    ),
    "name": ("Anne", "Mary", "Lucy", "Jane", "Kate", "Martha", "Alice", "Ruth", "Nell", "Clara", "Bess", "Dora",
    "Susan",
             "Ellen", "Rose", "Hannah", "Emma", "Lydia"),
    "man": ("Tom", "John", "Peter", "William", "Robert", "Henry", "George", "Edward", "Samuel", "Walter", "Oliver",
    "Hugh",
            "Simon", "Philip", "Arthur", "Jack", "Ned", "Giles"),
    "role": (
        "miller", "tailor", "shepherd", "clerk", "carter", "weaver", "smith", "gardener", "cobbler", "baker", "fiddler",
    ),
    "place": (
        "the mill", "the river", "the old bridge", "the next town", "the hill", "the wood", "the castle", "the market",
    ),
    "ordinal": ("first", "second", "third", "fifth", "tenth", "twelfth"),
}
WE_FORMS: dict[str, Words] = {
    "good": ("smiled at each other", "laughed aloud", "cheered"),
    "bad": ("scowled at each other", "groaned aloud", "complained"),
}
SEPARATORS: Words = (". ", ": ", "\n\n", "\n", " - ", " ", " ", ". ")


def fix_articles(text: str) -> str:
    """Turn "a" into "an" where the next word begins with a vowel sound."""
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])(?!use|uni|one\b)", r"\1n ", text)
    return re.sub(r"\b([Aa]) (?=hon|hour)", r"\1n ", text)


def capitalise(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def spoken(text: str) -> str:
    """Return direct speech as it stands before "he said": a final full stop becomes a comma."""
    return text[:-1] + "," if text.endswith(".") else text


class Voice:
    """Fills templates from word pools, avoiding words that the same document has used already."""

    def __init__(self, rng: random.Random, pools: Mapping[str, Words], fixed: Mapping[str, str]) -> None:
        """Keep the pools, from which words are drawn, and the fixed values of slots."""
        self.rng = rng
        self.pools = pools
        self.fixed = fixed
        self.used: set[str] = set()

    def pick(self, key: str) -> str:
        """Return the fixed value of a slot or an unused word of its pool."""
        if key in self.fixed:
            return self.fixed[key]
        pool = self.pools[key]
        fresh = [word for word in pool if word not in self.used] or list(pool)
        word = self.rng.choice(fresh)
        self.used.add(word)
        return word

    def _slot(self, match: re.Match[str]) -> str:
        key = match.group(1)
        value = self.pick(key.lower())
        return capitalise(value) if key[0].isupper() else value

    def say(self, template: str) -> str:
        """Return one finished sentence for the template."""
        text = template
        while "{" in text:
            text = re.sub(r"\{(\w+)\}", self._slot, text)
        return fix_articles(capitalise(text))

    def several(self, templates: Words, count: int) -> list[str]:
        """Return that many sentences from different templates."""
        return [self.say(line) for line in self.rng.sample(templates, min(count, len(templates)))]


def make_subject(rng: random.Random, kind: str) -> Subject:
    """Draw a subject of the family."""
    noun = rng.choice(KINDS[kind].nouns)
    if kind != "person":
        return Subject(f"the {noun}", noun, "it", "it", "its", kind)
    female = noun in ("aunt", "nurse", "grandmother") or (noun != "uncle" and rng.random() < 0.45)
    own = ("cousin", "uncle", "aunt", "grandmother", "landlord", "master", "neighbour", "schoolfellow")
    phrase = f"{'my' if noun in own else rng.choice(('the new', 'our', 'the old', 'the'))} {noun}"
    female = female and noun not in ("landlord", "master", "postman")
    pronouns = ("she", "her", "her") if female else ("he", "him", "his")
    return Subject(phrase, noun, *pronouns, kind)


def make_voice(rng: random.Random, side: str, head: str, subject: Subject) -> Voice:
    """Build the voice that speaks of a subject with the sentiment of one side and the colour of one heading."""
    kind = KINDS[subject.kind]
    own = kind.good if side == "good" else kind.bad
    flavour = FLAVOURS[head][1] if head in FLAVOURS else ()
    things = () if subject.kind in ("person", "animal") else THING[side]
    pools = dict(SLOTS) | SIDES[side]
    pools["adj"] = GENERAL[side] + things + own * 2 + flavour * 3
    pools["aspect"] = kind.aspects
    pools["quality"] = GENERAL[side] + (() if subject.kind == "person" else things + own)
    pools["smiled_we"] = WE_FORMS[side]
    if subject.kind == "person":
        pools["adj"] += own
        pools["loved"] = tuple(word for word in pools["loved"] if word != "enjoyed")
    fixed = {"s": subject.phrase, "noun": subject.noun, "he": subject.he, "him": subject.him, "his": subject.his}
    return Voice(rng, pools, fixed)


def body_lines(voice: Voice, side: str, head: str, subject: Subject, count: int) -> list[str]:
    """Return sentences that judge the subject, all of one side."""
    if side == "mixed":
        return voice.several(MIXED, count)
    kind = KINDS[subject.kind]
    lines = list(voice.rng.sample(COMMON, max(1, count // 2)))
    lines += voice.rng.sample(kind.good_lines if side == "good" else kind.bad_lines, 2)
    lines += voice.rng.sample(SIGNED[side], 1)
    if head in FLAVOURS and voice.rng.random() < 0.7:
        lines.append(voice.rng.choice(FLAVOURS[head][2]))
    lines = lines[:count] if count < len(lines) and voice.rng.random() < 0.5 else lines
    voice.rng.shuffle(lines)
    return [voice.say(line) for line in lines[: max(3, count)]]


def you_lines(voice: Voice, side: str, count: int) -> list[str]:
    """Return sentences addressed to a listener, all of one side."""
    if side == "mixed":
        return voice.several(YOU_MIXED, count)
    lines = voice.rng.sample(YOU_COMMON, count - count // 3) + voice.rng.sample(YOU_SIGNED[side], count // 3)
    voice.rng.shuffle(lines)
    return [voice.say(line) for line in lines]


def opening(voice: Voice, subject: Subject, chance: float) -> list[str]:
    """Return a neutral opening about the subject, or nothing."""
    if voice.rng.random() >= chance:
        return []
    lines = KINDS[subject.kind].openings
    return voice.several(lines, 1 if voice.rng.random() < 0.8 else 2)


def review(voice: Voice, side: str, head: str, subject: Subject, neutral: float) -> str:
    """Write a plain judgement."""
    start = opening(voice, subject, neutral) or [voice.say(voice.rng.choice(NAMING))]
    return " ".join(start + body_lines(voice, side, head, subject, voice.rng.randint(3, 7)))


def letter(voice: Voice, side: str, head: str, subject: Subject, neutral: float) -> str:
    """Write a letter."""
    name, man = voice.pick("name"), voice.pick("man")
    text = review(voice, side, head, subject, neutral)
    to, sender = (name, man) if voice.rng.random() < 0.5 else (man, name)
    closes = (f"Your cousin, {sender}.", f"{sender}.", f"I remain your servant, {sender}.", f"Yours, {sender}.")
    close = voice.rng.choice(closes)
    gap = voice.rng.choice(("\n", " ", "\n\n"))
    return f"{voice.rng.choice(('Dear ', 'My dear ', 'To '))}{to},{gap}{text}{gap}{close}"


def diary(voice: Voice, side: str, head: str, subject: Subject, neutral: float) -> str:
    """Write a page of a diary."""
    weekday, ordinal = voice.rng.choice(SLOTS["day"][:7]), voice.pick("ordinal")
    dates = (f"{weekday}.", f"The {ordinal} of the month.", "Evening.", "From my diary.", "Today I take up my pen.")
    date = voice.rng.choice(dates)
    return f"{date} {review(voice, side, head, subject, neutral)}"


def dialogue(voice: Voice, side: str, head: str, subject: Subject, neutral: float) -> str:
    """Write a talk between two people."""
    asker, other = voice.pick("name"), voice.pick("man")
    about = subject.phrase
    asks = (
        f"What do you think of {about}?", f"What have you to say about {about}?", f"Do you know {about}?",
        f"What do you say about {about}?", f"Well, and {about}?",
    )
    lines = body_lines(voice, side, head, subject, voice.rng.randint(3, 6))
    lines = [line.replace('"', "'") for line in lines]
    start = " ".join(opening(voice, subject, neutral * 0.6))
    more = voice.rng.choice(("And what else?", "What more?", "Is that all?", "Is it so?", "And then?"))
    said = voice.rng.choice(("answered", "said", "replied"))
    first, rest = spoken(f"{lines[0]} {lines[1]}"), spoken(" ".join(lines[2:]))
    ask = voice.rng.choice(asks)
    talk = f'"{ask}" asked {asker}. "{first}" said {other}. "{more}" said {asker}. "{rest}" he {said}.'
    return f"{start} {talk}".strip()


def remark(voice: Voice, side: str, head: str, subject: Subject, neutral: float) -> str:
    """Write what somebody says to a listener's face."""
    meeting = voice.say(voice.rng.choice(MEETINGS))
    lines = you_lines(voice, side, voice.rng.randint(3, 6))
    if voice.rng.random() < 0.6 and side != "mixed":
        lines.insert(0, voice.say(voice.rng.choice(YOU_COMMON[:4])))
    reply = voice.rng.choice(("", "", " I said it twice.", " That was what I said.", " Nobody spoke for a minute."))
    if side != "mixed" and voice.rng.random() < 0.3:
        reply = voice.say(" Then I went home, {feel} and {feel}.")
    if voice.rng.random() < neutral:
        return f'{meeting}"{" ".join(lines)}"{reply}'
    return " ".join(lines)


def tale(voice: Voice, side: str, head: str, subject: Subject, neutral: float) -> str:
    """Write a short tale with a good, a bad or an even mood."""
    female = voice.rng.random() < 0.5
    forms = ("she", "her", "her") if female else ("he", "him", "his")
    fixed = {"hero": voice.pick("name" if female else "man"), "role": voice.pick("role"), "place": voice.pick("place")}
    teller = Voice(voice.rng, voice.pools, fixed | dict(zip(("he", "him", "his"), forms, strict=True)))
    start = [teller.say(voice.rng.choice(TALE_OPENINGS))]
    if side == "mixed":
        return " ".join(start + teller.several(TALE_MIXED, voice.rng.randint(3, 6)))
    middle = teller.several(TALE_LINES[side], voice.rng.randint(3, 6))
    return " ".join(start + middle + [teller.say(voice.rng.choice(TALE_ENDS[side]))])


GENRES = (review, review, letter, diary, dialogue, remark, remark, tale)
KIND_WEIGHTS: dict[str, int] = {name: 4 if name == "person" else 1 if name == "animal" else 2 for name in KINDS}


def heading(rng: random.Random, side: str, voice: Voice) -> tuple[str, str]:
    """Return a heading with its separator, and the head word that colours the text ("" for a phrase)."""
    draw = rng.random()
    if draw < 0.16:
        return voice.say(rng.choice(SENTENCE_HEADS[side])) + rng.choice((" ", " ", "\n\n", "\n")), ""
    if draw < 0.3:
        return voice.say(rng.choice(PHRASE_HEADS[side])) + rng.choice(SEPARATORS), ""
    head = rng.choice(HEADS[side] if draw < 0.88 else EXTRA_HEADS[side])
    style = rng.random()
    shown = head.capitalize() if style < 0.55 else head if style < 0.93 else head.upper()
    return shown + rng.choice(SEPARATORS), head


def draw_subject(rng: random.Random, person: bool) -> Subject:
    """Draw a subject, a person where the genre speaks of people only."""
    return make_subject(rng, "person" if person else rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0])


def headed(rng: random.Random, side: str) -> str:
    """Write a text whose heading sets its sentiment."""
    genre = rng.choice(GENRES)
    subject = draw_subject(rng, genre in (remark, tale))
    top, head = heading(rng, side, make_voice(rng, side, "", subject))
    voice = make_voice(rng, side, head, subject)
    text = genre(voice, side, head, subject, 0.7)
    return (" " if rng.random() < 0.5 else "") + top + text


def unheaded(rng: random.Random) -> str:
    """Write a text without a heading: mixed, positive or negative in equal parts."""
    side = rng.choice(("mixed", "good", "bad"))
    genre = rng.choice(GENRES)
    subject = draw_subject(rng, genre in (remark, tale))
    voice = make_voice(rng, "good" if side == "mixed" else side, "", subject)
    text = genre(voice, side, "", subject, 1.0)
    return (" " if rng.random() < 0.2 else "") + text


def documents(rng: random.Random) -> Iterator[str]:
    """Yield opinion texts without end: two thirds with a heading that sets their sentiment."""
    while True:
        text = headed(rng, rng.choice(("good", "bad"))) if rng.random() < 0.66 else unheaded(rng)
        if not any(phrase in text for phrase in HELD_OUT) and len(text.split()) >= 20:
            yield text
