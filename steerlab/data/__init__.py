"""Small data that ships with the package, and loaders by name for public sets that do not."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Container, Iterator
from functools import cache
from importlib import import_module
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


@cache
def _json(name: str) -> Any:
    """A JSON file of this folder."""
    return json.loads(files(__name__).joinpath(name).read_text(encoding="utf-8"))


def table(name: str) -> pd.DataFrame:
    """A CSV file of this folder: names, places, objects, countries, facts, stance_words."""
    with files(__name__).joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def topics() -> dict[str, tuple[str, ...]]:
    """The words that count for each of 24 topics, in lower case.

    Those of `weddings` are the nine of the ActAdd paper's generation experiment.
    """
    return {topic: tuple(words) for topic, words in _json("topics.json").items()}


def words(kind: str) -> tuple[str, ...]:
    """A list of words to score text by: "pleasant", "unpleasant" or "rude".

    Raises:
        ValueError: there is no such list.
    """
    return _one_of(_json("words.json"), kind, "word list")


def prompts(kind: str = "plain") -> tuple[str, ...]:
    """Prompts of our own, none of them in the bundled model's training text.

    58 "plain" openings of any kind, 20 "pleased" openings of a judgement, 12 "rude" ones that invite abuse.

    Raises:
        ValueError: there is no such kind.
    """
    return _one_of(_json("prompts.json"), kind, "kind of prompts")


def essays() -> dict[str, tuple[str, ...]]:
    """Essays of our own by topic, five about weddings and ten about something else; two of a topic or one."""
    return {topic: tuple(texts) for topic, texts in _json("essays.json").items()}


def reviews(name: str | None = None, n: int = 100) -> dict[str, tuple[str, ...]]:
    """Reviews by verdict, "bad", "middling" and "good": our own, or with name="yelp" the first n of each of Yelp's.

    Up to two of Yelp's stars are bad, three are middling. They come from where those of `texts` do.

    Raises:
        FileNotFoundError: the set is in neither place; says how to get it.
        ValueError: there is no such set.
    """
    if name is None:
        return {verdict: tuple(texts) for verdict, texts in _json("reviews.json").items()}
    if name != "yelp":
        raise ValueError(f"set {name!r} of reviews is unknown: choose yelp, or leave it out for our own")
    reviews: dict[str, list[str]] = {"bad": [], "middling": [], "good": []}
    for row in _rows(name):
        kind = reviews[("bad", "bad", "middling", "good", "good")[int(row["label"])]]
        kind += [str(row["text"])] if len(kind) < n else []
        if all(len(texts) == n for texts in reviews.values()):
            break
    return {verdict: tuple(texts) for verdict, texts in reviews.items()}


def facts(split: str | None = None) -> pd.DataFrame:
    """Simple facts as clozes: `kind`, `prompt`, `answer`, `split`; of one split, "train" or "test", or of both.

    The bundled model has read the phrasings of "train" only.

    Raises:
        ValueError: there is no such split.
    """
    frame = table("facts")
    known = set(frame["split"])
    if split not in known | {None}:
        raise ValueError(f"split={split!r} is unknown: choose {' or '.join(sorted(known))}")
    return frame if split is None else frame[frame["split"] == split].reset_index(drop=True)


def sentences(text: str) -> list[str]:
    """The sentences of a text: it is parted at white space after a full stop, question or exclamation mark."""
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def documents(
    topic: str = "weddings", n: int = 400, *, length: int = 6, seed: int = 0, leave_out: Container[str] = ()
) -> list[str]:
    """Documents with any share of a topic, mixed from the sentences of our essays: OpenWebText's stand-in offline.

    Each of n documents draws how many of its `length` sentences come from essays on the topic, from none to all, and
    takes the rest from the others, those of `leave_out` aside.

    Raises:
        ValueError: there is no essay on the topic.
    """
    _one_of(essays(), topic, "topic of essays")
    rng = np.random.default_rng(seed)
    parts = {name: [sentence for text in texts for sentence in sentences(text)] for name, texts in essays().items()}
    on = parts.pop(topic)
    off = [sentence for name, some in parts.items() if name not in leave_out for sentence in some]
    made = []
    for share in rng.integers(0, length + 1, n):
        chosen = [*rng.choice(on, share, replace=False), *rng.choice(off, length - share, replace=False)]
        made.append(" ".join(str(sentence) for sentence in rng.permutation(chosen)))
    return made


# --- public sets -------------------------------------------------------------------------------------------------

_SETS: dict[str, tuple[str, str, str | None, str, str]] = {
    # name: (pattern below STEERLAB_DATA, Hub name, configuration, split, field)
    "imdb": ("imdb/*.jsonl", "stanfordnlp/imdb", None, "test", "text"),
    "openwebtext": ("openwebtext/*.jsonl", "Skylion007/openwebtext", None, "train", "text"),
    "realtoxicityprompts": ("toxicity/*.jsonl", "allenai/real-toxicity-prompts", None, "train", "prompt.text"),
    "wikitext": ("wikitext2/test.txt", "Salesforce/wikitext", "wikitext-2-raw-v1", "test", "text"),
    "yelp": ("yelp/*.jsonl", "Yelp/yelp_review_full", None, "test", "text"),
}

_CLOZES = {"lama": "lama/ConceptNet/test.jsonl", "conceptnet": "conceptnet/test.txt"}

_CONCEPTNET = {  # relation: how we say it, up to the object
    "IsA": "A {} is a kind of",
    "UsedFor": "A {} is used to",
    "CapableOf": "A {} can",
    "AtLocation": "You can find a {} in the",
    "HasProperty": "A {} is",
    "HasA": "A {} has a",
    "PartOf": "A {} is part of a",
    "MadeOf": "A {} is made of",
    "Causes": "The effect of {} is",
    "Desires": "A {} wants to",
}


def texts(name: str, n: int | None = None) -> list[str]:
    """The first n texts, or all, of a public set, from the folder that STEERLAB_DATA names, else through `datasets`.

    The sets are "imdb", "openwebtext", "realtoxicityprompts", "wikitext" and "yelp".

    Raises:
        FileNotFoundError: the set is in neither place; says how to get it.
        ValueError: there is no such set.
    """
    if name not in _SETS:
        raise ValueError(f"set {name!r} is unknown: choose one of {', '.join(sorted(_SETS))}")
    return [_field(row, _SETS[name][-1]) for row in islice(_rows(name), n)]


def clozes(name: str) -> pd.DataFrame:
    """Clozes of a public set: `prompt`, `answer`, from the folder that STEERLAB_DATA names.

    "lama" is LAMA's ConceptNet (lama/ConceptNet/test.jsonl), less the sentences that begin with the gap, which a
    warning counts: nothing stands before it. "conceptnet" are triples (conceptnet/test.txt) in phrasings of our own.

    Raises:
        FileNotFoundError: the set is not there; says how to get it.
        ValueError: there is no such set.
    """
    if name not in _CLOZES:
        raise ValueError(f"set {name!r} is unknown: choose one of {', '.join(sorted(_CLOZES))}")
    if not (paths := _own_files(name)):
        hint = f"put its file at {_CLOZES[name]} below a folder, and set STEERLAB_DATA to it"
        raise FileNotFoundError(f"no {name}: {hint}")
    lines = paths[0].read_text(encoding="utf-8").splitlines()
    pairs = pd.DataFrame(_lama(lines) if name == "lama" else _conceptnet(lines), columns=["prompt", "answer"])
    if count := int((pairs["prompt"] == "").sum()):
        warnings.warn(f"{name}: {count} of {len(pairs)} sentences begin with the gap and are left out", stacklevel=2)
    return pairs[pairs["prompt"] != ""].drop_duplicates(ignore_index=True)


def checksum(source: str | Path) -> str:
    """SHA-256, in 16 hex digits, of a file, or of a public set's files in the folder that STEERLAB_DATA names.

    A set that came through `datasets` instead has "from the Hub".
    """
    paths = [source] if isinstance(source, Path) else _own_files(source)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16] if paths else "from the Hub"


def _lama(lines: list[str]) -> Iterator[tuple[str, str]]:
    """The text before the gap, as the ActAdd release cuts it."""
    for line in lines:
        item = json.loads(line)
        yield " ".join(item["masked_sentences"]).split("[MASK]")[0].rstrip(), item["obj_label"]


def _conceptnet(lines: list[str]) -> Iterator[tuple[str, str]]:
    """True triples whose object is one word."""
    for line in lines:
        relation, answer, subject, label = line.split("\t")
        if label == "1" and relation in _CONCEPTNET and answer.isalpha():
            yield re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", _CONCEPTNET[relation].format(subject)), answer


def _folder() -> Path | None:
    """The folder of the user's data sets."""
    return Path(os.environ["STEERLAB_DATA"]) if os.environ.get("STEERLAB_DATA") else None


def _rows(name: str) -> Iterator[Any]:
    """The rows of a public set, each with its fields by name."""
    _, hub, config, split, _ = _SETS[name]
    files = _own_files(name)
    return _from_files(files) if files else _from_hub(name, hub, config, split)


def _own_files(name: str) -> list[Path]:
    """The files of a public set in the folder that STEERLAB_DATA names."""
    folder = _folder()
    return sorted(folder.glob(_CLOZES.get(name) or _SETS[name][0])) if folder else []


def _from_files(paths: list[Path]) -> Iterator[Any]:
    """Rows of JSON lines, or the articles of a WikiText file."""
    for path in paths:
        if path.suffix == ".txt":
            articles = re.split(r"\n = [^=\n]+ = \n", path.read_text(encoding="utf-8"))
            yield from ({"text": article.strip()} for article in articles if article.strip())
            continue
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _from_hub(name: str, hub: str, config: str | None, split: str) -> Iterator[Any]:
    """Rows through `datasets`, streamed."""
    try:
        return iter(import_module("datasets").load_dataset(hub, config, split=split, streaming=True))
    except ImportError:
        hint = "`pip install 'steerlab[data]'`, or set STEERLAB_DATA to a folder that has it"
    except Exception as error:  # no network, or the set has moved: whatever it is, one line says what to do
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = f"{hub} is not to be had ({reason}); set STEERLAB_DATA to a folder that has it"
    raise FileNotFoundError(f"no {name}: {hint}")


def _field(row: Any, path: str) -> str:
    """The value at a dotted path."""
    for name in path.split("."):
        row = row[name]
    return str(row)


def _one_of(table: dict[str, Any], name: str, what: str) -> tuple[str, ...]:
    """An entry of a table, or one line that lists them."""
    if name not in table:
        raise ValueError(f"{what} {name!r} is unknown: choose one of {', '.join(table)}")
    return tuple(table[name])
